"""What an operator may do, what he is refused, and what stays in the audit trail."""

from __future__ import annotations

import pytest

from riskmon.core.decisions import Record
from tests.core import (
    OMS,
    World,
    balances,
    error,
    exact,
    latency,
    latency_limit,
    limit,
    loss_limit,
)


def tripped(**more: object) -> World:
    """A world whose latency breaker has just tripped."""
    world = World(latency_limit(), **more)  # type: ignore[arg-type]
    world.step(latency(1.0))
    return world


def test_freeze_is_never_refused_and_idempotent() -> None:
    """Freezing twice is freezing once; it needs no generation."""
    world = World(targets=OMS)
    for _ in range(2):
        answer = world.operate("freeze", generation=None)
        assert (answer.status, answer.level, answer.generation) == (200, "halt", 1)
    assert len(world.sweeps) == 1
    assert world.state("manual", "account") == "frozen"
    assert world.view.freeze_total["manual"] == 1
    assert world.view.freeze_active["account"]


def test_freeze_takes_over_an_open_breaker() -> None:
    """A frozen limit no longer recovers by itself."""
    world = tripped()
    world.operate("freeze", "venue:kraken", limit="latency_p99")
    world.wait(10_000)
    assert world.state("latency_p99") == "frozen"


def test_trip_by_hand() -> None:
    """An operator's trip opens `manual` until he resets it."""
    world = World()
    assert world.operate("trip").breakers[0]["limit"] == "manual"
    world.wait(10_000)
    assert world.level() == "halt"
    assert world.operate("reset").level == "allow"


def test_what_loosens_needs_the_generation_that_was_seen() -> None:
    """Without it, or with an older one than the breaker's change: 409."""
    world = tripped()
    seen = world.engine.generation
    assert world.operate("reset", "venue:kraken", generation=None).status == 409
    stale = world.operate("reset", "venue:kraken", generation=seen - 1)
    assert (stale.status, world.state("latency_p99")) == (409, "open")
    assert "changed since" in stale.detail
    world.operate("freeze")  # changes another breaker, not the addressed one
    assert world.operate("reset", "venue:kraken", generation=seen).status == 200


def test_reset_does_not_end_a_freeze() -> None:
    """A frozen breaker wants `unfreeze`; without a limit, `reset` does not address it."""
    world = World()
    world.operate("freeze")
    refused = world.operate("reset", limit="manual")
    assert (refused.status, "unfreeze" in refused.detail) == (409, True)
    assert world.operate("reset").breakers == []
    assert world.level() == "halt"
    assert world.operate("unfreeze").level == "allow"


def test_an_unconfirmed_cancel_holds_unless_forced() -> None:
    """409 while orders may rest; `force` takes the risk."""
    world = tripped(targets=OMS)
    refused = world.operate("reset", "venue:kraken")
    assert (refused.status, "not confirmed" in refused.detail) == (409, True)
    assert world.operate("reset", "venue:kraken", force=True).status == 200
    assert world.level("venue:kraken") == "allow"


def test_what_would_trip_again_is_refused_with_its_name() -> None:
    """409 that names the limit, its value and its bound."""
    world = World(loss_limit())
    world.each([balances(USDT=1_000.0), balances(USDT=900.0)])
    (blame,) = world.operate("reset").would_trip
    assert (blame.limit, blame.scope, blame.bound) == ("portfolio_loss", "account", 0.05)
    assert blame.value == pytest.approx(0.1)
    assert world.level() == "halt"


def test_preview_only_tells() -> None:
    """A preview answers as the call would, changes nothing and leaves no line."""
    world = tripped()
    seen, told = world.engine.generation, len(world.decisions)
    assert world.operate("freeze", preview=True).status == 200
    assert world.operate("reset", "venue:kraken", preview=True).status == 200
    assert world.operate("reset", "venue:kraken", generation=0, preview=True).status == 409
    assert (world.engine.generation, len(world.decisions)) == (seen, told)
    assert world.state("latency_p99") == "open"


def test_disable_needs_a_closed_breaker_and_ends() -> None:
    """Out of service for an hour by default; then, or by `enable`, it is back."""
    world = tripped()
    assert world.operate("disable", "venue:kraken").status == 409
    world.operate("reset", "venue:kraken")
    assert world.operate("disable", "venue:kraken").status == 200
    world.each([latency(1.0)] * 3)
    assert (world.state("latency_p99"), world.level("venue:kraken")) == ("disabled", "allow")
    world.wait(3_599)
    assert world.state("latency_p99") == "disabled"
    world.wait(1)
    assert world.state("latency_p99") == "closed"
    world.step(latency(1.0))
    assert world.state("latency_p99") == "open"


def test_enable_and_for() -> None:
    """`for` sets how long; `enable` ends it; a freeze works on a disabled breaker, too."""
    world = World(limit("error_streak", max=1, recover=exact(1.0)))
    world.step(latency(0.1))
    world.operate("disable", "venue:kraken", for_seconds=10.0)
    world.step(error())
    world.operate("enable", "venue:kraken")
    assert world.state("error_streak") == "closed"
    world.operate("disable", "venue:kraken", for_seconds=10.0)
    world.operate("freeze", "venue:kraken", limit="error_streak")
    world.wait(100)
    assert world.state("error_streak") == "frozen"


def test_unknown_names_are_404_with_near_ones() -> None:
    """A misspelt scope or limit is answered with what it may have meant."""
    world = tripped()
    assert world.operate("freeze", "venue:kracken").near[0] == "venue:kraken"
    answer = world.operate("freeze", "venue:kraken", limit="latency")
    assert (answer.status, answer.near) == (404, ["latency_p99"])


def test_every_call_enters_the_audit_trail() -> None:
    """Refused ones too, with who, why and what became of it."""
    world = tripped()
    world.operate("reset", "venue:kraken", generation=0, by="ann", reason="looks fine")
    world.operate("reset", "venue:kraken", by="bob")
    lines = [d for d in world.decisions if isinstance(d, Record) and d.kind == "operation"]
    assert [(line.by, line.action) for line in lines] == [("ann", "reset"), ("bob", "reset")]
    assert lines[0].reason == "looks fine"
    assert "changed since" in (lines[0].outcome or "")
    assert lines[1].outcome == "done"
    assert lines[0].id != lines[1].id


def test_a_reset_begins_the_waits_anew() -> None:
    """After an operator's reset the next wait is the first."""
    world = tripped()
    world.wait(30)
    world.step(latency(1.0))
    world.operate("reset", "venue:kraken")
    world.step(latency(1.0))
    world.wait(30)
    assert world.state("latency_p99") == "half_open"
