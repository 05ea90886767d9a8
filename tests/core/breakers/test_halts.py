"""The reasons in the view for which a breaker keeps its scope below allow."""

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
    """Return the reason of each breaker that keeps its scope below allow."""
    return {(b.limit, b.scope): b.holds for b in engine.view().breakers if b.holds is not None}


def errors() -> list[ev.Event]:
    """More failed requests in a row than the default limit permits."""
    return [ev.Error(venue="kraken") for _ in range(50)]


def test_a_limit_that_broke_is_a_breach() -> None:
    """A trip by a measured value holds its scope as a breach."""
    assert set(holds(stepped(*errors())).values()) == {"breach"}


@pytest.mark.parametrize("action", ["freeze", "trip"])
def test_a_breaker_that_an_operator_shut_names_the_operator(action: str) -> None:
    """`manual` and a configured limit that an operator shut hold their scopes as the operator."""
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
    """No breaker has a reason while every level is allow."""
    assert holds(stepped(ev.Heartbeat(venue="kraken"))) == {}


def test_a_withheld_lease_shows_halt() -> None:
    """Every level is halt, with the reason of the withheld lease."""
    view = stepped(ev.Heartbeat(venue="kraken")).view()
    assert withhold(view, None) is view
    shown = withhold(view, Withheld(reason="storage", detail="the disk hangs"))
    assert shown.level == "halt"
    assert shown.levels == {"account": "halt", "venue:kraken": "halt"}
    assert shown.withheld is not None
    assert shown.withheld.detail == "the disk hangs"
