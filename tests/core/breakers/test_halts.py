"""Why a breaker holds its scope below allow, as the view shows it."""

from __future__ import annotations

import pytest

from riskmon.core import events as ev
from riskmon.core.config import EngineConfig, default_limits
from riskmon.core.engine import Engine
from riskmon.core.view import Withheld, withhold

SECOND_NS = 10**9


def stepped(*events: ev.Event, config: EngineConfig | None = None) -> Engine:
    """An engine after these events, one second apart."""
    engine = Engine(config)
    for second, event in enumerate((ev.Start(epoch="e"), *events), 1):
        engine.step([event], now_ns=second * SECOND_NS, wall_ns=second * SECOND_NS)
    return engine


def holds(engine: Engine) -> dict[tuple[str, str], str]:
    """The reason of each breaker that holds its scope."""
    return {(b.limit, b.scope): b.holds for b in engine.view().breakers if b.holds is not None}


def errors() -> list[ev.Event]:
    """More failed requests in a row than the default limit permits."""
    return [ev.Error(venue="kraken") for _ in range(50)]


def test_a_limit_that_broke_is_a_breach() -> None:
    """A trip of a limit that measured."""
    assert set(holds(stepped(*errors())).values()) == {"breach"}


@pytest.mark.parametrize("action", ["freeze", "trip"])
def test_what_an_operator_shut_is_the_operators(action: str) -> None:
    """The pseudo-limit `manual`, and a configured limit that an operator shut."""
    venue = ev.Heartbeat(venue="kraken")
    limit = default_limits()[0].name
    calls = [
        ev.Operate(action=action, scope="account", reason="a test"),  # type: ignore[arg-type]
        ev.Operate(action=action, scope="venue:kraken", limit=limit, reason="a test"),  # type: ignore[arg-type]
    ]
    shut = holds(stepped(venue, *calls))
    assert shut["manual", "account"] == "operator"
    assert set(shut.values()) == {"operator"}


def test_a_calm_engine_holds_nothing() -> None:
    """No breaker is named while all is allowed."""
    assert holds(stepped(ev.Heartbeat(venue="kraken"))) == {}


def test_a_withheld_lease_shows_halt() -> None:
    """Every level, and why."""
    view = stepped(ev.Heartbeat(venue="kraken")).view()
    assert withhold(view, None) is view
    shown = withhold(view, Withheld(reason="storage", detail="the disk hangs"))
    assert shown.level == "halt"
    assert shown.levels == {"account": "halt", "venue:kraken": "halt"}
    assert shown.withheld is not None
    assert shown.withheld.detail == "the disk hangs"
