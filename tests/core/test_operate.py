"""Operators' calls: effects, refusals and the audit trail."""

from __future__ import annotations

import pytest

from riskmon.core.admission import TooManyScopes
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import FREEZES
from riskmon.core.decisions import Record
from riskmon.core.engine import Engine
from tests.core import (
    NO_VENUES,
    OMS,
    World,
    balances,
    error,
    exact,
    fill,
    latency,
    latency_limit,
    limit,
    loss_limit,
    plain,
    price,
)


def tripped(**more: object) -> World:
    """A world whose latency breaker has just tripped."""
    world = World(latency_limit(), **more)  # type: ignore[arg-type]
    world.step(latency(1.0))
    return world


def test_freeze_is_never_refused_and_idempotent() -> None:
    """A second freeze changes nothing; a freeze needs no generation."""
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
    """An operator's trip opens `manual` until a reset."""
    world = World()
    assert world.operate("trip").breakers[0].limit == "manual"
    world.wait(10_000)
    assert world.level() == "halt"
    assert world.operate("reset").level == "allow"


def test_a_loosening_call_needs_the_current_generation() -> None:
    """Without a generation, or with one older than the breaker's last change: 409."""
    world = tripped()
    seen = world.engine.generation
    assert world.operate("reset", "venue:kraken", generation=None).status == 409
    stale = world.operate("reset", "venue:kraken", generation=seen - 1)
    assert (stale.status, world.state("latency_p99")) == (409, "open")
    assert "changed since" in stale.detail
    world.operate("freeze")  # changes another breaker, not the addressed one
    assert world.operate("reset", "venue:kraken", generation=seen).status == 200


def test_only_changes_of_addressed_breakers_conflict() -> None:
    """Another limit of the scope may have changed; a call without a limit addresses both."""
    world = World(latency_limit(), limit("error_streak", max=1))
    world.step(latency(1.0))
    seen = world.engine.generation
    world.step(error())
    both = world.operate("reset", "venue:kraken", generation=seen)
    assert (both.status, "error_streak" in both.detail) == (409, True)
    one = world.operate("reset", "venue:kraken", generation=seen, limit="latency_p99")
    assert (one.status, world.level("venue:kraken")) == (200, "halt")


def test_a_blocking_limit_would_not_trip_again() -> None:
    """A freeze of a blocking limit may be ended while the size is past its bound."""
    world = World(limit("position", max=1.0))
    world.step(fill("buy", 2.0, 9.0))
    scope = "symbol:BTC/USDT:USDT"
    world.operate("freeze", scope, limit="position")
    assert world.operate("unfreeze", scope).status == 200
    assert world.state("position", scope) == "closed"


def test_reset_does_not_end_a_freeze() -> None:
    """A frozen breaker needs `unfreeze`; `reset` without a limit does not address it."""
    world = World()
    world.operate("freeze")
    refused = world.operate("reset", limit="manual")
    assert (refused.status, "unfreeze" in refused.detail) == (409, True)
    assert world.operate("reset").breakers == []
    assert world.level() == "halt"
    assert world.operate("unfreeze").level == "allow"


def test_an_unconfirmed_cancel_refuses_a_reset_unless_forced() -> None:
    """409 while orders may rest, except with `force`."""
    world = tripped(targets=OMS)
    refused = world.operate("reset", "venue:kraken")
    assert (refused.status, "not confirmed" in refused.detail) == (409, True)
    assert world.operate("reset", "venue:kraken", force=True).status == 200
    assert world.level("venue:kraken") == "allow"


def test_an_unconfirmed_cancel_refuses_an_unfreeze() -> None:
    """409 while orders may rest, for a freeze by an operator or by a limit."""
    world = World(latency_limit(on_breach="freeze"), targets=OMS)
    world.step(latency(1.0))
    world.operate("freeze")
    for scope in ("account", "venue:kraken"):
        assert "not confirmed" in world.operate("unfreeze", scope).detail
    world.confirm()
    for scope in ("account", "venue:kraken"):
        assert world.operate("unfreeze", scope).status == 200
    assert world.level("venue:kraken") == "allow"


def test_a_call_without_a_limit_addresses_all_of_the_scope() -> None:
    """`reset`, `disable`, `enable` and `unfreeze` apply to each breaker that they concern."""
    world = World(latency_limit(), limit("error_streak", max=1, recover="operator"), loss_limit())
    world.step(latency(0.1, "mexc"), latency(1.0), error())
    both = ["error_streak", "latency_p99"]
    assert sorted(b.limit for b in world.operate("reset", "venue:kraken").breakers) == both
    assert world.level("venue:kraken") == "allow"
    world.operate("disable", "venue:kraken")
    world.step(latency(1.0), error())
    assert [world.state(one) for one in both] == ["disabled", "disabled"]
    assert world.state("latency_p99", "venue:mexc") == "closed"
    world.operate("enable", "venue:kraken")
    assert [world.state(one) for one in both] == ["closed", "closed"]
    for one in both:
        world.operate("freeze", "venue:kraken", limit=one)
    assert sorted(b.limit for b in world.operate("unfreeze", "venue:kraken").breakers) == (both)
    assert world.level("venue:kraken") == "allow"


@pytest.mark.parametrize("before", ["closed", "open", "half_open", "disabled", "frozen"])
def test_a_freeze_succeeds_in_every_state(before: str) -> None:
    """From every state the breaker becomes frozen, with an incident, until an operator ends it."""
    world = World(latency_limit(on_breach="freeze" if before == "frozen" else "trip"))
    world.step(latency(0.1 if before in ("closed", "disabled") else 1.0))
    if before == "disabled":
        world.operate("disable", "venue:kraken")
    elif before == "half_open":
        world.wait(30)
    assert world.state("latency_p99") == before
    answer = world.operate("freeze", "venue:kraken", limit="latency_p99", generation=0)
    assert (answer.status, answer.level) == (200, "halt")
    assert answer.breakers[0].incident == world.incident
    world.wait(10_000)
    assert world.state("latency_p99") == "frozen"


@pytest.mark.parametrize(("action", "after"), [("trip", "open"), ("reset", "closed")])
def test_calls_on_a_half_open_breaker(action: str, after: str) -> None:
    """`reset` and `trip` need no probes; `disable` needs a closed breaker."""
    world = tripped()
    world.wait(30)
    assert world.operate("disable", "venue:kraken").status == 409
    assert world.operate(action, "venue:kraken", limit="latency_p99").status == 200
    assert world.state("latency_p99") == after


def test_a_rebase_is_for_losses_only() -> None:
    """A rebase does not lower a size: a breaker that would trip again for it is refused."""
    config = PortfolioConfig(initial_capital=1_000.0)
    world = World(limit("position", max=1.0, on_breach="freeze"), loss_limit(), portfolio=config)
    world.step(fill("buy", 2.0, 9.0))
    refused = world.operate("unfreeze", "symbol:BTC/USDT:USDT", rebase=True)
    assert (refused.status, [blame.limit for blame in refused.would_trip]) == (409, ["position"])


def test_a_breaker_that_would_trip_again_is_refused_by_name() -> None:
    """409 that names the limit, its value and its bound."""
    world = World(loss_limit())
    world.each([balances(USDT=1_000.0), balances(USDT=900.0)])
    (blame,) = world.operate("reset").would_trip
    assert (blame.limit, blame.scope, blame.bound) == ("portfolio_loss", "account", 0.05)
    assert blame.value == pytest.approx(0.1)
    assert world.level() == "halt"


def test_a_preview_changes_nothing() -> None:
    """A preview gives the call's answer, changes nothing and adds no record."""
    world = tripped()
    seen, told = world.engine.generation, len(world.decisions)
    assert world.operate("freeze", preview=True).status == 200
    assert world.operate("reset", "venue:kraken", preview=True).status == 200
    assert world.operate("reset", "venue:kraken", generation=0, preview=True).status == 409
    assert (world.engine.generation, len(world.decisions)) == (seen, told)
    assert world.state("latency_p99") == "open"


def test_a_preview_of_a_rebase_rebases_nothing() -> None:
    """The answer is that of the rebase; capital, peak and periods stay."""
    world = World(loss_limit(), limit("daily_loss", max=50.0))
    world.each([balances(USDT=1_000.0), balances(USDT=900.0)])
    before = plain(world.engine)
    assert world.operate("reset", rebase=True, preview=True).status == 200
    assert plain(world.engine) == before


def test_disable_ends_after_for_seconds() -> None:
    """The breaker is back in force after `for` seconds, to the nanosecond."""
    world = World(latency_limit())
    world.step(latency(0.1))
    world.operate("disable", "venue:kraken", for_seconds=10.0)
    world.wait(9.999)
    assert world.state("latency_p99") == "disabled"
    world.wait(0.001)
    assert world.state("latency_p99") == "closed"


def test_disable_needs_a_closed_breaker_and_ends() -> None:
    """A disable lasts an hour by default, and ends then or by `enable`."""
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
    """`for` sets the duration; `enable` ends it; a freeze of a disabled breaker succeeds."""
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
    """The answer to a misspelt scope or limit lists near names."""
    world = tripped()
    assert world.operate("trip", "venue:kracken").near[0] == "venue:kraken"
    answer = world.operate("freeze", "venue:kraken", limit="latency")
    assert (answer.status, answer.near) == (404, ["latency_p99"])


def test_a_freeze_registers_a_scope_that_nothing_has_named() -> None:
    """It holds from the first event that names the scope on, and the answer names similar ones."""
    world = World(latency_limit(), targets=OMS)
    world.step(latency(0.1))
    answer = world.operate("freeze", "venue:krakn")
    assert (answer.status, answer.level) == (200, "halt")
    assert answer.detail == "venue:krakn was unknown and is registered; known are venue:kraken"
    assert (world.level("venue:krakn"), world.sweeps[-1].scope) == ("halt", "venue:krakn")
    world.step(latency(0.1, "krakn"))
    assert world.level("venue:krakn") == "halt"
    assert world.state("latency_p99", "venue:krakn") == "closed"
    assert world.check(venue="krakn").allowed is False
    world.confirm()
    assert world.operate("unfreeze", "venue:krakn").level == "allow"


@pytest.mark.parametrize("kind", ["venue", "symbol", "asset", "strategy"])
def test_a_freeze_before_any_event_survives_a_restart(kind: str) -> None:
    """A scope of any kind is registered, frozen, and still is in an engine that is restored."""
    limits = latency_limit(), limit("staleness", max=5.0, written=True)
    world = World(*limits, portfolio=NO_VENUES)
    assert world.operate("freeze", f"{kind}:x").status == 200
    world.wait(100)  # no limit is unknown, or silent, for a scope without an event
    restored = Engine.restore(world.engine.snapshot())
    assert restored.levels == world.engine.levels == {"account": 3, f"{kind}:x": 0}
    assert plain(restored) == plain(world.engine)


def test_a_freeze_of_an_earlier_version_registers_nothing() -> None:
    """In a journal of an earlier version such a call was refused: its replay refuses it, too."""
    world = World()
    answer = world.operate("freeze", "venue:unseen", registers=False)
    assert answer.status == 404
    assert "venue:unseen" not in world.engine.levels


def test_a_preview_of_a_freeze_registers_nothing() -> None:
    """The answer names the scope as unknown; it stays so."""
    world = World(latency_limit(), portfolio=NO_VENUES)
    answer = world.operate("freeze", "venue:new", preview=True)
    assert (answer.status, answer.detail) == (200, "venue:new was unknown and is registered")
    assert world.engine.levels == {"account": 3}


@pytest.mark.parametrize(
    "scope", ["venue:", "kraken", "planet:mars", "venue:a\nb", "venue:" + "x" * 48]
)
def test_a_freeze_of_an_invalid_scope_is_400(scope: str) -> None:
    """A name that no event could have is no scope."""
    world = World(latency_limit(), portfolio=NO_VENUES)
    answer = world.operate("freeze", scope)
    assert (answer.status, world.engine.levels) == (400, {"account": 3})
    assert answer.detail.startswith(f"{scope!r} is no scope: write account, venue:NAME")


def test_a_freeze_of_a_limit_registers_nothing() -> None:
    """A limit over an unknown scope is unknown too."""
    world = World(latency_limit(), portfolio=NO_VENUES)
    assert world.operate("freeze", "venue:new", limit="latency_p99").status == 404
    assert world.engine.levels == {"account": 3}


def test_freezes_have_room_beyond_max_scopes() -> None:
    """When `max_scopes` is full, so many scopes more may be frozen, and the next is refused."""
    world = World(max_scopes=2)
    world.step(latency(0.1))
    for number in range(FREEZES):
        assert world.operate("freeze", f"symbol:S{number}").status == 200
    answer = world.operate("freeze", "symbol:more")
    assert answer.status == 409
    assert answer.detail.startswith(f"no room for 'symbol:more' beside {2 + FREEZES} scopes")
    with pytest.raises(TooManyScopes):
        world.engine.admit([latency(0.1, "other")])
    world.engine.admit([price("S1", 1.0)])  # it is known now


def test_every_call_enters_the_audit_trail() -> None:
    """Refused calls are recorded too, with token, reason and outcome."""
    world = tripped()
    world.operate("reset", "venue:kraken", generation=0, by="ann", reason="looks fine")
    world.operate("reset", "venue:kraken", by="bob")
    lines = [d for d in world.decisions if isinstance(d, Record) and d.kind == "operation"]
    assert [(line.by, line.action) for line in lines] == [("ann", "reset"), ("bob", "reset")]
    assert lines[0].reason == "looks fine"
    assert "changed since" in (lines[0].outcome or "")
    assert lines[1].outcome == "done"
    assert lines[0].id != lines[1].id


def test_a_freeze_restarts_the_waits() -> None:
    """After an `unfreeze` the next wait is the shortest."""
    world = World(latency_limit())
    world.step(latency(0.1))
    world.operate("freeze", "venue:kraken", limit="latency_p99")
    world.operate("unfreeze", "venue:kraken")
    world.step(latency(1.0))
    world.wait(30)
    assert world.state("latency_p99") == "half_open"


def test_a_reset_restarts_the_waits() -> None:
    """After an operator's reset the next wait is the shortest."""
    world = tripped()
    world.wait(30)
    world.step(latency(1.0))
    world.operate("reset", "venue:kraken")
    world.step(latency(1.0))
    world.wait(30)
    assert world.state("latency_p99") == "half_open"


# -- every call in every state ----------------------------------------------------------------

SCOPE = "symbol:BTC/USDT:USDT"
WAYS: dict[str, tuple[str, ...]] = {  # into each state
    "closed": (),
    "open": ("trip",),
    "half_open": ("trip", "wait"),
    "frozen": ("freeze",),
    "disabled": ("disable",),
}
BECOMES = {  # the state after the call, "=" for the same; a text is the cure in the 409
    "freeze": ("frozen", "frozen", "frozen", "=", "frozen"),
    "trip": ("open", "=", "open", "=", "enable it first"),
    "unfreeze": ("=", "reset it", "reset it", "closed", "enable it"),
    "reset": ("=", "closed", "closed", "unfreeze it", "enable it"),
    "disable": ("disabled", "reset it first", "reset it first", "unfreeze it first", "disabled"),
    "enable": ("=", "reset it", "reset it", "unfreeze it", "closed"),
}


def in_state(state: str) -> World:
    """A world whose limit on positions is in ``state``."""
    world = World(limit("position", max=10.0, recover=exact(10.0)))
    world.step(price(SCOPE[7:], 100.0), fill("buy", 1.0, 100.0))
    for way in WAYS[state]:
        if way == "wait":
            world.wait(10)
        else:
            assert world.operate(way, SCOPE, limit="position").status == 200
    assert world.state("position", SCOPE) == state
    return world


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize(("state", "at"), [(state, at) for at, state in enumerate(WAYS)])
@pytest.mark.parametrize("action", BECOMES)
def test_every_answer_is_true(action: str, state: str, at: int, preview: bool) -> None:
    """200 only where the breaker is in the state of the call afterwards; else 409 with a cure."""
    world = in_state(state)
    before, wanted = world.breaker("position", SCOPE), BECOMES[action][at]
    answer = world.operate(action, SCOPE, limit="position", preview=preview)
    after = world.breaker("position", SCOPE)
    if wanted in WAYS:
        assert (answer.status, answer.detail) == (200, "")
        assert after.state == (state if preview else wanted)
        assert (after.generation > before.generation) is not preview
    elif wanted == "=":
        told = f"position over {SCOPE} is {state} already"
        assert (answer.status, answer.detail, after) == (200, told, before)
    else:
        assert (answer.status, after) == (409, before)
        assert f"is {state}: " in answer.detail
        assert wanted in answer.detail


def test_a_second_disable_replaces_the_first() -> None:
    """The duration counts from the second call, longer or shorter."""
    for seconds, lasts in ((100.0, 160.0), (5.0, 65.0)):
        world = in_state("disabled")
        world.wait(60)
        world.operate("disable", SCOPE, limit="position", for_seconds=seconds)
        world.wait(lasts - 60 - 0.001)
        assert world.state("position", SCOPE) == "disabled"
        world.wait(0.001)
        assert world.state("position", SCOPE) == "closed"


def test_a_pseudo_limit_cannot_be_disabled() -> None:
    """`manual` cannot be disabled, so that a `trip` by hand always succeeds."""
    world = World()
    world.operate("freeze")
    world.operate("unfreeze")
    assert world.operate("disable", limit="manual").status == 409
    world.operate("trip")
    assert world.level() == "halt"


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e10, float("inf"), float("nan")])
def test_the_duration_of_a_disable_is_bounded(seconds: float) -> None:
    """A value that is no duration, or over 30 years, is refused and changes nothing."""
    world = in_state("closed")
    refused = world.operate("disable", SCOPE, for_seconds=seconds)
    assert (refused.status, "for" in refused.detail) == (409, True)
    assert world.state("position", SCOPE) == "closed"


def test_a_preview_makes_no_breaker() -> None:
    """A preview of a freeze creates no breaker."""
    world = World(latency_limit())
    assert world.operate("freeze", preview=True).status == 200
    assert [b.limit for b in world.view.breakers if b.scope == "account"] == []


def test_a_reset_without_an_open_breaker() -> None:
    """Without an open breaker the answer is 200 with a sentence, in the audit trail too."""
    world = World()
    assert world.operate("reset").detail == "nothing over account to reset"
    (line,) = [d for d in world.decisions if isinstance(d, Record) and d.kind == "operation"]
    assert line.outcome == "done: nothing over account to reset"


# -- rebase -----------------------------------------------------------------------------------


def lost(*equity: float) -> World:
    """A world with these balances of USDT, one after the other."""
    world = World(loss_limit())
    world.each([balances(USDT=amount) for amount in equity])
    return world


def test_rebase_without_an_equity_is_refused() -> None:
    """With equity unknown or zero: 409 that names what is missing, and no reset."""
    old = lost(1_000.0, 900.0)
    old.wait(1_000)
    refused = old.operate("reset", rebase=True)
    assert (refused.status, "kraken has not reported" in refused.detail) == (409, True)
    none = lost(1_000.0, 0.0)
    refused = none.operate("reset", rebase=True, preview=True)
    assert (refused.status, "equity is 0" in refused.detail) == (409, True)
    assert none.operate("reset", rebase=True).status == 409
    assert [w.state("portfolio_loss", "account") for w in (old, none)] == ["open", "open"]


def test_rebase_alone() -> None:
    """Without a breaker to reset a rebase makes the current equity the capital."""
    world = lost(1_000.0, 990.0)
    answer = world.operate("reset", rebase=True)
    assert (answer.status, answer.detail) == (200, "nothing over account to reset: only rebased")
    assert (world.portfolio.initial_capital, world.loss) == (990.0, 0.0)


@pytest.mark.parametrize("action", ["trip", "disable", "enable", "freeze"])
def test_rebase_belongs_to_loosening_calls(action: str) -> None:
    """Other calls with `rebase` are refused; a freeze succeeds without a rebase."""
    world = lost(1_000.0, 990.0)
    answer = world.operate(action, rebase=True)
    assert answer.status == (200 if action == "freeze" else 409)
    assert "rebase" in answer.detail
    assert world.portfolio.initial_capital == 1_000.0
