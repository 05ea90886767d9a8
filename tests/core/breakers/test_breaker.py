"""Breakers: the effect of a breach, its duration and its end."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from riskmon.core import events as ev
from riskmon.core.book.config import MaxAge, PortfolioConfig
from riskmon.core.breakers.transitions import TRANSITIONS
from riskmon.core.config import LimitConfig
from riskmon.core.decisions import Record, Transition, UnknownLimit, Warned
from riskmon.core.engine import Engine
from riskmon.core.limits import LIMITS
from riskmon.core.limits.latency import LatencyP99Params
from riskmon.core.limits.policy import Probation, Recovery
from riskmon.core.limits.silence import HeartbeatParams, StalenessParams
from tests.core import (
    NO_VENUES,
    OMS,
    SECOND,
    World,
    balances,
    error,
    exact,
    faults,
    fill,
    latency,
    latency_limit,
    limit,
    loss_limit,
    price,
)

# -- breach -----------------------------------------------------------------------------------


def test_a_value_at_its_bound_is_no_breach() -> None:
    """A value is past its bound above it, not at it."""
    world = World(latency_limit())
    world.step(latency(0.2))
    assert world.state("latency_p99") == "closed"
    world.step(latency(0.2001))
    assert world.state("latency_p99") == "open"


def test_a_streak_breaks_when_it_reaches_its_bound() -> None:
    """Five errors in a row trip, four do not."""
    world = World(limit("error_streak"))
    world.each([error()] * 4)
    assert world.state("error_streak") == "closed"
    world.step(error())
    assert world.state("error_streak") == "open"


def test_min_samples_come_first() -> None:
    """Nothing trips, or warns, before there are enough samples."""
    world = World(latency_limit(window=100, min_samples=10))
    world.each([latency(1.0)] * 9)
    assert world.state("latency_p99") == "closed"
    assert not [d for d in world.decisions if isinstance(d, Warned)]
    world.step(latency(1.0))
    assert world.state("latency_p99") == "open"


def test_min_samples_of_a_time_window_are_those_in_it() -> None:
    """Samples that have left the window do not count towards `min_samples`."""
    world = World(latency_limit(seconds=10.0, min_samples=10))
    world.each([latency(0.1)] * 20)
    world.wait(60)
    world.each([latency(1.0)] * 9)
    assert world.state("latency_p99") == "closed"
    world.step(latency(1.0))
    assert world.state("latency_p99") == "open"


def test_breaches_in_a_row() -> None:
    """By default the P99 must be past its bound for five samples above it in a row."""
    world = World(limit("latency_p99", min_samples=1))
    world.each([latency(0.3), latency(0.1)] * 4)  # the low ones neither count nor interrupt
    assert world.state("latency_p99") == "closed"
    world.step(latency(0.3))
    assert world.state("latency_p99") == "open"


def test_a_sample_at_the_bound_is_no_breach_of_the_row() -> None:
    """While the P99 is past its bound, samples at the bound neither count nor interrupt."""
    world = World(limit("latency_p99", min_samples=1))
    world.each([latency(0.3)] * 4 + [latency(0.2)] * 9)
    assert world.state("latency_p99") == "closed"
    world.step(latency(0.3))
    assert world.state("latency_p99") == "open"


def test_a_value_within_its_bound_interrupts_the_row() -> None:
    """Evaluations past the bound count only in a row."""
    world = World(limit("latency_p99", window=4, min_samples=1, breaches=3))
    world.each([latency(0.3)] * 2 + [latency(0.1)] * 4 + [latency(0.3)] * 2)
    assert world.state("latency_p99") == "closed"
    world.step(latency(0.3))
    assert world.state("latency_p99") == "open"


def test_state_limits_are_evaluated_at_the_end_of_a_batch() -> None:
    """A batch is one instant: a loss that exists only in its middle does not trip."""
    world = World(loss_limit())
    world.step(balances(USDT=10_000.0))
    world.step(balances(USDT=5_000.0), balances(USDT=10_000.0))
    assert world.state("portfolio_loss", "account") == "closed"
    world.step(balances(USDT=10_000.0), balances(USDT=5_000.0))
    assert world.state("portfolio_loss", "account") == "open"


def test_streaks_see_each_event_of_a_batch() -> None:
    """A success at the end of a batch does not hide the streak in its middle."""
    world = World(limit("error_streak"))
    world.step(*[error()] * 5, latency(0.1))
    assert world.state("error_streak") == "open"


def test_a_streak_is_of_one_operation() -> None:
    """A success of another operation does not end a streak; one of the same does."""
    world = World(limit("error_streak", max=3))
    world.each([error(operation="a"), error(operation="a"), latency(0.1, operation="b")])
    world.each([latency(0.1, operation="a"), error(operation="a"), error(operation="a")])
    assert world.breaker("error_streak").value == 2.0
    world.each([latency(0.1, operation="b"), error(operation="a")])
    assert world.state("error_streak") == "open"


def test_a_fill_ends_every_streak_of_its_venue() -> None:
    """A fill ends the streaks of its venue and of no other."""
    world = World(limit("error_streak", max=3))
    world.each([error(operation="a"), error(operation="b"), error("mexc"), fill("buy", 1.0, 9.0)])
    assert world.breaker("error_streak").value == 0.0
    assert world.breaker("error_streak", "venue:mexc").value == 1.0


def test_a_fill_ends_narrowed_and_account_streaks_too() -> None:
    """A fill is a success of every operation, for a streak of one operation too."""
    world = World(
        limit("error_streak", "narrow", max=3, operation="add"),
        limit("error_streak", "all", max=3, per="account"),
    )
    world.each([error(operation="add"), error("mexc", "add"), fill("buy", 1.0, 9.0)])
    assert world.breaker("narrow").value == 0.0
    assert world.breaker("narrow", "venue:mexc").value == 1.0
    assert world.breaker("all", "account").value == 0.0


def test_a_streak_over_the_account() -> None:
    """`per = "account"` counts the errors of all venues together."""
    world = World(limit("error_streak", max=3, per="account"))
    world.each([error("kraken"), error("mexc"), error("okx")])
    assert world.state("error_streak", "account") == "open"
    assert world.level("venue:mexc") == "halt"


def test_slow_answers_count_as_errors() -> None:
    """`slow`: a latency above it is an error, one at it is a success."""
    world = World(limit("error_streak", max=2, slow=1.0))
    world.each([latency(1.1), latency(1.0), latency(1.1)])
    assert world.state("error_streak") == "closed"
    world.step(latency(1.1))
    assert world.state("error_streak") == "open"


def test_seconds_of_an_error_enter_the_window() -> None:
    """An error with `seconds` counts as a latency too."""
    world = World(latency_limit())
    world.step(error(seconds=1.5))
    assert world.state("latency_p99") == "open"


def test_operation_narrows() -> None:
    """A limit on one operation ignores the others."""
    world = World(latency_limit(operation="add_order"), limit("error_streak", operation="add"))
    world.each([latency(1.0, operation="ticker"), *[error(operation="ticker")] * 9])
    assert world.state("latency_p99") == "closed"
    assert world.state("error_streak") == "closed"
    world.step(latency(1.0, operation="add_order"))
    assert world.state("latency_p99") == "open"


def test_probes_never_enter_windows() -> None:
    """Samples of the operation `probe` count for half-open breakers only."""
    world = World(latency_limit(), limit("error_streak", max=1))
    world.each([latency(5.0, operation="probe"), error(operation="probe")])
    assert world.state("latency_p99") == "closed"
    assert world.state("error_streak") == "closed"


def test_an_old_latency_is_not_evaluated() -> None:
    """A latency of more than 10 s ago counts in metrics only."""
    world = World(latency_limit())
    world.wait(60)
    at_ns = world.view.at_ns
    for age_s, state in ((11, "closed"), (9, "open")):
        event = latency(5.0)
        event.at = _utc(at_ns - age_s * 10**9)
        world.step(event)
        assert world.state("latency_p99") == state


def test_an_old_error_is_not_evaluated() -> None:
    """An error of more than 10 s ago, and its seconds, count in metrics only."""
    world = World(latency_limit(), limit("error_streak", max=1))
    world.wait(60)
    at_ns = world.view.at_ns
    for age_s, state in ((11, "closed"), (9, "open")):
        world.step(error(seconds=5.0, at=_utc(at_ns - age_s * 10**9)))
        assert world.state("latency_p99") == world.state("error_streak") == state


def test_a_window_of_seconds_counts_from_arrival() -> None:
    """A sample that happened 9 s ago and came now is in a window of 5 s for 5 s."""
    world = World(latency_limit(seconds=5.0, min_samples=2))
    world.wait(60)
    late = latency(1.0)
    late.at = _utc(world.view.at_ns - 9 * 10**9)
    world.step(late)
    world.wait(4)
    world.step(latency(1.0))
    assert world.state("latency_p99") == "open"


def _utc(wall_ns: int) -> datetime:
    return datetime.fromtimestamp(wall_ns / 1e9, UTC)


def test_overrides_set_bounds_by_scope() -> None:
    """One venue may have a bound of its own."""
    world = World(latency_limit(overrides={"venue:slow": 2.0}))
    world.each([latency(1.0, "slow"), latency(1.0, "kraken")])
    assert world.state("latency_p99", "venue:slow") == "closed"
    assert world.breaker("latency_p99", "venue:slow").bound == 2.0
    assert world.state("latency_p99") == "open"


def test_a_venue_does_not_shut_another() -> None:
    """The gate shuts for the scope of the breaker; the account's holds for every scope."""
    world = World(latency_limit(), loss_limit())
    world.each([latency(0.1, "mexc"), latency(9.0, "kraken")])
    assert world.engine.levels == {"account": 3, "venue:mexc": 3, "venue:kraken": 0}
    world.operate("freeze")
    assert set(world.engine.levels.values()) == {0}


# -- on_breach --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_breach", "state", "level", "cancels"),
    [
        ("shadow", "closed", "allow", 0),
        ("warn", "closed", "allow", 0),
        ("block", "closed", "reduce_only", 0),
        ("reduce", "closed", "reduce_only", 0),
        ("trip", "open", "halt", 1),
        ("freeze", "frozen", "halt", 1),
    ],
)
def test_on_breach(on_breach: str, state: str, level: str, cancels: int) -> None:
    """Each value of `on_breach` has its effect, and each counts the breach once."""
    world = World(latency_limit(on_breach=on_breach), targets=OMS)
    world.each([latency(1.0)] * 3)
    breaker = world.breaker("latency_p99")
    assert (breaker.state, breaker.breaches_total) == (state, 1)
    assert world.level("venue:kraken") == level
    assert len(world.sweeps) == cancels


def test_block_ends_with_its_breach() -> None:
    """`block` holds the gate at reduce_only only while the value is past the bound."""
    world = World(latency_limit(on_breach="block", window=2))
    world.step(latency(1.0))
    assert world.level("venue:kraken") == "reduce_only"
    world.each([latency(0.1)] * 2)
    assert world.level("venue:kraken") == "allow"


def test_a_trip_may_leave_reducing() -> None:
    """`level = "reduce_only"` permits closing orders in a tripped scope; the sweep says so."""
    world = World(
        loss_limit(level="reduce_only", cancels="entries", flatten=True),
        targets=OMS,
        portfolio=PortfolioConfig(initial_capital=10_000.0),
    )
    world.step(fill("buy", 1.0, 5_000.0))
    world.step(price("BTC/USDT:USDT", 4_000.0))
    assert world.level() == "reduce_only"
    assert (world.sweeps[0].cancels, world.sweeps[0].flatten) == ("entries", True)
    order = {"symbol": "BTC/USDT:USDT", "quantity": 1.0}
    assert world.check(**order, side="sell").allowed
    refused = world.check(**order, side="buy")
    assert not refused.allowed
    assert [blame.limit for blame in refused.reasons] == ["portfolio_loss"]


def test_a_freeze_may_leave_reducing_too() -> None:
    """`level` applies to a freeze too; the account's level still bounds every scope."""
    world = World(latency_limit(on_breach="freeze", level="reduce_only"), loss_limit())
    world.step(latency(1.0))
    assert (world.state("latency_p99"), world.level("venue:kraken")) == ("frozen", "reduce_only")
    world.operate("freeze")
    assert world.level("venue:kraken") == "halt"


def test_a_warning_comes_and_goes_once() -> None:
    """A warning is reported once when it begins and once when it ends."""
    world = World(latency_limit(window=1, warn=0.5))
    world.each([latency(s) for s in (0.05, 0.15, 0.16, 0.05, 0.05)])
    told = [d.active for d in world.decisions if isinstance(d, Warned)]
    assert told == [True, False]


# -- recovery ---------------------------------------------------------------------------------


def tripped(**params: Any) -> World:
    """A world whose latency breaker has just tripped."""
    world = World(latency_limit(**params))
    world.step(latency(1.0))
    assert world.state("latency_p99") == "open"
    return world


def test_wait_then_probe_then_close() -> None:
    """Open for `after`, then half open until enough good samples close it."""
    world = tripped()
    world.wait(29.999)
    assert world.state("latency_p99") == "open"
    world.wait(0.001)
    assert (world.state("latency_p99"), world.level("venue:kraken")) == ("half_open", "probe")
    world.each([latency(0.2), latency(0.1, operation="probe")])
    assert world.state("latency_p99") == "half_open"
    world.step(latency(0.1))
    assert (world.state("latency_p99"), world.level("venue:kraken")) == ("closed", "allow")


@pytest.mark.parametrize("bad", [latency(0.21), latency(9, operation="probe"), error()])
def test_one_bad_probe_opens_again(bad: ev.Event) -> None:
    """One sample past the bound, or an error, and the wait begins again, twice as long."""
    world = tripped()
    world.wait(30)
    world.each([latency(0.1), bad])
    assert world.state("latency_p99") == "open"
    world.wait(59.999)
    assert world.state("latency_p99") == "open"
    world.wait(0.001)
    assert world.state("latency_p99") == "half_open"


def test_a_bad_probe_resets_the_count_of_good_ones() -> None:
    """Good probes before a bad one do not count in the next half-open state."""
    world = tripped()
    world.wait(30)
    world.each([latency(0.1), latency(0.1), latency(0.3)])
    world.wait(60)
    world.each([latency(0.1), latency(0.1)])
    assert world.state("latency_p99") == "half_open"
    world.step(latency(0.1))
    assert world.state("latency_p99") == "closed"


def test_a_trip_resets_the_count_of_breaches() -> None:
    """The breaches of one trip do not count towards the next."""
    world = World(latency_limit(breaches=3, window=1, recover=exact(30.0, probes=0)))
    for _ in range(2):
        world.each([latency(1.0)] * 2)
        assert world.state("latency_p99") == "closed"
        world.step(latency(1.0))
        assert world.state("latency_p99") == "open"
        world.wait(30)


def test_waits_grow_to_their_maximum() -> None:
    """Waits are 30, 60, 120, 240, then 300 s; after 300 s closed the next is 30 s again."""
    world = tripped(recover=exact(30.0, probes=1))
    waits = []
    for _ in range(6):
        breaker = world.breaker("latency_p99")
        assert breaker.until_ns is not None
        waits.append((breaker.until_ns - world.view.at_ns) / 1e9)
        world.wait(waits[-1])
        world.step(latency(1.0))
    assert waits == [30, 60, 120, 240, 300, 300]
    world.wait(300)
    world.step(latency(0.1))
    world.wait(300)
    world.step(latency(1.0))
    world.wait(30)
    assert world.state("latency_p99") == "half_open"


def test_a_venue_that_stays_down_for_days() -> None:
    """Thousands of failed probes in a row neither overflow the wait nor accumulate reasons."""
    world = tripped(recover=Recovery(after=1.0, max=2.0, probes=1))
    for _ in range(2_000):
        world.now_ns = world.engine.next_deadline_ns
        world.step(ev.Tick())
        world.step(latency(1.0))
    breaker = world.breaker("latency_p99")
    assert (breaker.state, breaker.trips_total) == ("open", 2_001)
    assert len(breaker.reason) < 100


def test_jitter_only_lengthens() -> None:
    """Jitter adds up to its ratio of the wait, differently for each incident, within `max`."""
    waits = set()
    world = tripped(recover=Recovery(after=100.0, multiplier=1.0, jitter=0.1, probes=1))
    for _ in range(10):
        breaker = world.breaker("latency_p99")
        assert breaker.until_ns is not None
        waits.add((breaker.until_ns - world.view.at_ns) / 1e9)
        world.wait(120)
        world.step(latency(1.0))
    assert len(waits) == 10
    assert 100 <= min(waits) < max(waits) <= 110


def test_jitter_never_passes_the_maximum() -> None:
    """`max` bounds the wait with its jitter, not the wait before it."""
    world = tripped(recover=Recovery(after=100.0, max=100.0, jitter=1.0, probes=1))
    until_ns = world.breaker("latency_p99").until_ns
    assert until_ns == world.view.at_ns + 100 * 10**9


@pytest.mark.parametrize(("closed_for", "wait"), [(99.999, 40), (100.0, 20)])
def test_waits_restart_after_max_seconds_closed(closed_for: float, wait: int) -> None:
    """The wait restarts after `max` seconds closed, to the nanosecond."""
    world = tripped(recover=exact(20.0, max=100.0, probes=1))
    world.wait(20)
    world.step(latency(0.1))
    world.wait(closed_for)
    world.step(latency(1.0))
    until_ns = world.breaker("latency_p99").until_ns
    assert until_ns == world.view.at_ns + wait * 10**9


def test_no_probes_close_after_the_wait() -> None:
    """`probes = 0` closes when the wait is over, for an error streak after 300 s."""
    world = World(limit("error_streak"))
    world.each([error()] * 5)
    world.wait(299)
    assert world.state("error_streak") == "open"
    world.wait(1)
    assert world.state("error_streak") == "closed"


def test_leaving_open_empties_windows_and_streaks() -> None:
    """Samples from before and during the trip do not count after it."""
    world = World(
        latency_limit(recover=exact(30.0, probes=0)), limit("error_streak", recover=exact(30.0))
    )
    world.each([latency(1.0), *[error()] * 7])
    world.wait(30)
    assert world.breaker("latency_p99").value is None
    assert world.breaker("error_streak").value == 0.0
    world.step(latency(0.1))
    assert world.state("latency_p99") == "closed"


@pytest.mark.parametrize(("on_breach", "by"), [("freeze", "unfreeze"), ("trip", "reset")])
def test_an_operator_who_closes_it_empties_the_window_too(on_breach: str, by: str) -> None:
    """The samples that tripped it do not trip it again with the next good sample."""
    world = World(latency_limit(on_breach=on_breach))
    world.step(latency(1.0))
    world.operate(by, "venue:kraken")
    assert world.state("latency_p99") == "closed"
    assert world.breaker("latency_p99").value is None


def test_an_error_streak_is_probed_by_its_own_operation() -> None:
    """A half-open limit on one operation ignores successes of other operations."""
    world = World(
        limit("error_streak", max=1, operation="add", recover=exact(10.0, probes=1)),
    )
    world.step(error(operation="add"))
    world.wait(10)
    world.each([latency(0.1, operation="ticker"), error(operation="ticker")])
    assert world.state("error_streak") == "half_open"
    world.step(latency(0.1, operation="add"))
    assert world.state("error_streak") == "closed"


@pytest.mark.parametrize(
    "narrow",
    [
        latency_limit(operation="add"),
        limit("error_streak", max=1, operation="add", recover=exact(30.0)),
        limit("error_rate", window=2, min_samples=1, operation="add", recover=exact(30.0)),
    ],
    ids=lambda one: one.kind,
)
def test_a_narrowed_limit_is_probed_by_probe_too(narrow: LimitConfig) -> None:
    """The operation `probe` counts as a probe for every operation, and in no window."""
    world = World(narrow)
    world.step(error(operation="add", seconds=1.0))
    world.wait(30)
    world.each([latency(0.1, operation="ticker")] * 5)
    assert world.state(narrow.name) == "half_open"
    world.each([latency(0.1, operation="probe")] * 3)
    assert world.state(narrow.name) == "closed"


@pytest.mark.parametrize("bad", [latency(1.1), latency(1.1, operation="probe"), error()])
def test_a_slow_probe_is_a_bad_one(bad: ev.Event) -> None:
    """An answer above `slow` is a bad probe of a streak; a fill is a good one."""
    world = World(limit("error_streak", max=1, slow=1.0, recover=exact(30.0, probes=2)))
    world.step(latency(1.1))
    world.wait(30)
    world.each([latency(1.0), bad])
    assert world.state("error_streak") == "open"
    world.wait(60)
    world.each([fill("buy", 1.0, 9.0), latency(1.0)])
    assert world.state("error_streak") == "closed"


def test_clear_is_below_its_ratio_of_the_bound() -> None:
    """`clear` sets the bound of a sample limit for closing; the value must be below it."""
    world = World(limit("error_rate", window=4, min_samples=2, recover="clear", clear=0.5))
    world.each([*[error()] * 2, *[latency(0.1)] * 3])
    assert (world.state("error_rate"), world.breaker("error_rate").value) == ("open", 0.25)
    world.step(latency(0.1))
    assert world.state("error_rate") == "closed"


def test_clear_recovers_as_soon_as_it_is_clear() -> None:
    """`recover = "clear"` closes when the value is below its bound."""
    world = tripped(recover="clear", window=2)
    world.step(latency(0.1))
    assert world.state("latency_p99") == "open"
    world.step(latency(0.1))
    assert world.state("latency_p99") == "closed"


def test_clear_is_seen_far_below_the_bound() -> None:
    """A P99 that is no longer near its bound is evaluated until it is clear."""
    world = tripped(recover="clear", clear=0.4, window=1)
    world.step(latency(0.1))  # not near 0.2, but not clear of it
    assert world.state("latency_p99") == "open"
    world.each([latency(0.05)] * 4)
    assert world.state("latency_p99") == "closed"


@pytest.mark.parametrize("kind", ["latency_p99", "error_streak"])
def test_clear_closes_what_was_never_past(kind: str) -> None:
    """A breaker that an operator tripped closes with the next good sample too."""
    world = World(limit(kind, recover="clear"))
    world.step(latency(0.1))
    world.operate("trip", "venue:kraken", limit=kind)
    world.step(latency(0.1))
    assert world.state(kind) == "closed"


def test_operator_waits_for_an_operator() -> None:
    """`recover = "operator"` stays open whatever happens."""
    world = tripped(recover="operator")
    world.each([latency(0.1)] * 20)
    world.wait(100_000)
    assert world.state("latency_p99") == "open"


def test_a_state_value_must_be_clear_for_hold_seconds() -> None:
    """A loss closes by itself only after `hold` seconds below `clear` × its bound."""
    world = World(loss_limit(recover="clear", clear=0.5, hold=10.0))
    world.each([balances(USDT=1_000.0), balances(USDT=940.0), balances(USDT=970.0)])
    world.wait(100)  # 3 % is within 5 %, but not below half of it
    assert world.state("portfolio_loss", "account") == "open"
    world.step(balances(USDT=980.0))
    world.wait(9)
    world.step(balances(USDT=970.0))
    world.step(balances(USDT=980.0))
    world.wait(9.999)
    assert world.state("portfolio_loss", "account") == "open"
    world.wait(0.001)
    assert world.state("portfolio_loss", "account") == "closed"


def test_a_state_value_may_outlast_its_wait() -> None:
    """The breaker stays open when the wait is over and the loss remains."""
    world = World(loss_limit(recover=exact(30.0, probes=0)))
    world.each([balances(USDT=1_000.0), balances(USDT=940.0)])
    world.wait(60)
    assert world.state("portfolio_loss", "account") == "open"
    world.step(balances(USDT=960.0))
    assert world.state("portfolio_loss", "account") == "closed"


TO_MIDNIGHT = 86_400 - (3 * 3_600 + 4 * 60 + 5 + 1_000)  # from the world's beginning, a Friday


@pytest.mark.parametrize(("before_midnight", "wait"), [(7_200, 7_200), (120, 3_600)])
def test_period_of_a_limit_without_one_is_the_day(before_midnight: int, wait: int) -> None:
    """`recover = "period"` on a sample limit: until the end of the day, but at least an hour."""
    world = World(latency_limit(recover="period"))
    world.wait(TO_MIDNIGHT - before_midnight)
    world.each([latency(1.0), *[latency(0.1)] * 20])
    world.wait(wait - 1)
    assert world.state("latency_p99") == "open"
    world.wait(1)
    assert world.state("latency_p99") == "closed"


def test_a_period_ends_at_the_portfolios_day_start() -> None:
    """`day_start` and `timezone` are those of the trading day."""
    there = PortfolioConfig(day_start="05:00", timezone="Asia/Tokyo")  # 20:00 in UTC
    world = World(limit("error_streak", max=1, recover="period"), portfolio=there)
    world.step(error())
    world.wait(TO_MIDNIGHT - 4 * 3_600 - 1)
    assert world.state("error_streak") == "open"
    world.wait(1)
    assert world.state("error_streak") == "closed"


def test_a_period_holds_what_is_not_clear() -> None:
    """At the end of the period a state value past its bound stays open, and closes once below."""
    world = World(
        loss_limit(recover="period"),
        portfolio=PortfolioConfig(venues=("kraken",), max_age=MaxAge(balance=1e9)),
    )
    world.each([balances(USDT=1_000.0), balances(USDT=940.0)])
    world.wait(TO_MIDNIGHT + 60)
    assert world.state("portfolio_loss", "account") == "open"
    world.step(balances(USDT=960.0))
    assert world.state("portfolio_loss", "account") == "closed"


def test_a_period_waits_for_its_cancel() -> None:
    """At the end of the day the breaker stays open until its cancel is confirmed."""
    world = World(latency_limit(recover="period"), targets=OMS)
    world.wait(TO_MIDNIGHT - 3_600)
    world.step(latency(1.0))
    world.wait(3_660)
    assert world.state("latency_p99") == "open"
    world.confirm()
    assert world.state("latency_p99") == "closed"


# -- frozen, disabled, reloaded -----------------------------------------------------------------


def test_frozen_stays_frozen() -> None:
    """Neither time nor good samples end a freeze."""
    world = World(latency_limit(on_breach="freeze"), targets=OMS)
    world.step(latency(1.0))
    world.confirm()
    world.each([latency(0.1)] * 50)
    world.wait(100_000)
    assert world.state("latency_p99") == "frozen"
    assert world.operate("unfreeze", "venue:kraken").status == 200
    assert world.state("latency_p99") == "closed"


def test_frozen_opens_to_an_operator_only() -> None:
    """In the table of transitions only `unfreeze` leaves `frozen`."""
    assert {cause for before, cause in TRANSITIONS if before == "frozen"} == {"unfreeze"}


def test_generations_number_every_change() -> None:
    """Each change of a breaker takes the account's next number."""
    world = tripped()
    world.wait(30)
    world.each([latency(0.1)] * 3)
    world.operate("freeze")
    numbers = [change.generation for change in world.transitions]
    assert numbers == [1, 2, 3, 4]
    assert all(before < after for before, after in pairwise(numbers))
    assert world.engine.generation == 4


def test_a_breaker_outlives_its_limit() -> None:
    """An open breaker stays when its limit is removed, until it is reset; then it is gone."""
    world = tripped()
    world.configure()
    world.wait(100_000)
    assert world.state("latency_p99") == "open"
    assert world.level("venue:kraken") == "halt"
    assert world.operate("reset", "venue:kraken").status == 200
    assert [b.limit for b in world.view.breakers] == []
    assert world.level("venue:kraken") == "allow"


@pytest.mark.parametrize("before", ["shadow", "warn", "block"])
def test_a_limit_that_begins_to_trip_past_its_bound(before: str) -> None:
    """A reload from `shadow` to `trip` trips although the value was past the bound before it."""
    world = World(latency_limit(on_breach=before))
    world.each([latency(1.0)] * 3)
    world.configure(latency_limit())
    world.step(latency(1.0))
    assert world.state("latency_p99") == "open"


def test_a_limit_that_no_longer_blocks() -> None:
    """A reload from `block` to `warn` lets orders pass again."""
    world = World(latency_limit(on_breach="block"))
    world.step(latency(1.0))
    world.configure(latency_limit(on_breach="warn"))
    assert world.level("venue:kraken") == "allow"


def test_a_reload_keeps_what_was_measured() -> None:
    """A new bound is evaluated over the samples that are in the window already."""
    world = World(latency_limit(window=100, max=2.0))
    world.each([latency(1.0)] * 50)
    world.configure(latency_limit(window=100, max=0.5))
    world.step(latency(0.6))
    assert world.state("latency_p99") == "open"
    assert world.breaker("latency_p99").value == 1.0


def lost(number: int) -> ev.Pnl:
    return ev.Pnl(amount=-1.0, id=str(number), strategy="mm")


@pytest.mark.parametrize("version", [1, 2])
def test_a_disabled_limit_keeps_what_was_measured(version: int) -> None:
    """A reload that disables a limit, a restart, and one that enables it lose no sample."""
    world = World(limit("loss_streak", max=3.0), latency_limit(window=3, min_samples=2))
    world.step(lost(1), lost(2), latency(1.0))
    off = replace(limit("loss_streak", max=3.0).params, enabled=False)
    disabled = replace(world.config.limits[0], params=off)
    quiet = replace(world.config.limits[1], params=replace(latency_limit().params, enabled=False))
    world.configure(disabled, quiet)
    snapshot = msgspec.msgpack.decode(world.engine.snapshot())
    if version == 1:  # release 0.1.0 stored no version, and the samples of a venue under its name
        del snapshot["version"]
        measures = snapshot["state"]["measures"]
        measures["latency_p99"]["kraken"] = measures["latency_p99"].pop("venue:kraken")
    world.engine = Engine.restore(msgspec.msgpack.encode(snapshot))
    world.configure(limit("loss_streak", max=3.0), latency_limit(window=3, min_samples=2))
    world.step(lost(3), latency(1.0))
    assert world.state("loss_streak", "strategy:mm") == "open"
    assert world.state("latency_p99") == "open"


def test_a_removed_breaker_leaves_what_its_limit_measured() -> None:
    """A limit that is disabled while its breaker is open measures on when it is enabled again."""
    world = World(limit("loss_streak", max=2.0))
    world.step(lost(1))
    world.operate("trip", "strategy:mm", limit="loss_streak")
    off = replace(limit("loss_streak", max=2.0).params, enabled=False)
    world.configure(replace(world.config.limits[0], params=off))
    world.configure(limit("loss_streak", max=2.0))
    assert world.breaker("loss_streak", "strategy:mm").value == 1.0


def test_a_limit_on_orders_has_no_value_of_another_kind() -> None:
    """A reload gives the name of a size limit to one on orders: the size is not its value."""
    world = World(limit("position", "size", max=1.0))
    world.step(fill("buy", 5.0, 1.0, "BTC/USDT"))
    assert world.breaker("size", "symbol:BTC/USDT").value == 5.0
    world.configure(limit("order_quantity", "size", max=1.0, on_breach="trip", recover="clear"))
    assert world.breaker("size", "symbol:BTC/USDT").value is None
    world.check(quantity=2.0)
    assert world.state("size", "symbol:BTC/USDT") == "open"
    world.wait(2)
    assert world.state("size", "symbol:BTC/USDT") == "closed"


# -- unknown ----------------------------------------------------------------------------------


def test_a_written_limit_that_is_unknown_halts_after_the_grace() -> None:
    """Unknown for `unknown_grace` from the first event on: halt, with the cure, and no cancel."""
    world = World(loss_limit(written=True), targets=OMS, portfolio=NO_VENUES)
    world.wait(1_000)
    assert world.level() == "allow"  # no event has come yet
    world.step(latency(0.1))
    world.wait(29.999)
    assert world.level() == "allow"
    world.wait(0.001)
    assert world.level() == "halt"
    assert world.level("venue:kraken") == "halt"
    assert world.sweeps == []
    (unknown,) = world.view.unknown
    assert "initial_capital" in unknown.reason
    refused = world.check()
    assert [blame.limit for blame in refused.reasons] == ["portfolio_loss"]
    world.step(balances(USDT=1_000.0))
    assert world.level() == "allow"
    told = [d.halted for d in world.decisions if isinstance(d, UnknownLimit)]
    assert told == [True, False]


@pytest.mark.parametrize("params", [{"written": False}, {"written": True, "on_unknown": "ignore"}])
def test_unknown_halts_no_scope_of_an_unarmed_limit(params: dict[str, Any]) -> None:
    """A default limit that is not in the configuration, and one with `ignore`, are not armed."""
    world = World(loss_limit(**params))
    world.step(latency(0.1))
    world.wait(1_000)
    assert world.level() == "allow"
    assert world.view.unknown[0].halted is False


def test_unknown_halts_what_is_half_open() -> None:
    """After the grace an unknown value permits no probes."""
    portfolio = PortfolioConfig(unknown_grace=8.0, max_age=MaxAge(edge=15.0))
    policy: dict[str, Any] = {"min": 100.0, "on_breach": "trip", "recover": exact(5.0, probes=1)}
    world = World(limit("edge", written=True, **policy), portfolio=portfolio)
    world.each([ev.Edge(bps=bps, strategy="mm") for bps in (50.0, 300.0)])
    world.wait(15 + 7)
    assert (world.state("edge", "strategy:mm"), world.level("strategy:mm")) == (
        "half_open",
        "probe",
    )
    world.wait(2)
    assert world.level("strategy:mm") == "halt"


@pytest.mark.parametrize(
    ("params", "level"),
    [
        ({}, "halt"),
        ({"level": "reduce_only"}, "reduce_only"),
        ({"on_breach": "block"}, "reduce_only"),
        ({"on_breach": "reduce"}, "reduce_only"),
        ({"on_breach": "block", "on_unknown": "halt"}, "halt"),
        ({"on_unknown": "reduce_only"}, "reduce_only"),
        ({"level": "reduce_only", "on_unknown": "halt"}, "halt"),
        ({"on_unknown": "ignore"}, "allow"),
    ],
)
def test_the_level_of_an_unknown_limit(params: dict[str, Any], level: str) -> None:
    """What `on_unknown` says; else `level`, and reduce_only for a limit that blocks or reduces."""
    world = World(loss_limit(written=True, **params), targets=OMS)
    world.step(latency(0.1))
    world.wait(30)
    assert (world.level(), world.level("venue:kraken")) == (level, level)
    assert world.sweeps == []
    world.step(balances(USDT=1_000.0))
    assert world.level() == "allow"


def test_an_open_breaker_that_is_unknown_keeps_the_lower_level() -> None:
    """A trip to halt is not loosened by `on_unknown = "reduce_only"`."""
    world = edge_trip(on_unknown="reduce_only")
    assert world.level("strategy:mm") == "halt"
    world.wait(60)
    assert world.breaker("edge", "strategy:mm").unknown is not None
    assert world.level("strategy:mm") == "halt"


def edge_trip(**params: Any) -> World:
    """An edge under its minimum that tripped, and is old after 15 s."""
    portfolio = PortfolioConfig(unknown_grace=8.0, max_age=MaxAge(edge=15.0))
    policy: dict[str, Any] = {"min": 100.0, "on_breach": "trip", **params}
    world = World(limit("edge", written=True, **policy), portfolio=portfolio)
    world.step(ev.Edge(bps=50.0, strategy="mm"))
    return world


def test_on_unknown_ignore_lifts_a_halt() -> None:
    """A reload to `on_unknown = "ignore"` ends the halt."""
    world = World(loss_limit(written=True))
    world.step(latency(0.1))
    world.wait(30)
    assert world.level() == "halt"
    world.configure(loss_limit(written=True, on_unknown="ignore"))
    assert world.level() == "allow"


def test_unknown_is_not_zero() -> None:
    """An expired price makes the loss unknown, not lower or higher."""
    world = World(loss_limit(written=True))
    world.step(price("BTC/USDT", 100.0), balances(BTC=10.0))
    world.wait(31)
    assert world.breaker("portfolio_loss", "account").value == 0.0
    world.wait(270)
    assert world.breaker("portfolio_loss", "account").value is None
    assert "BTC" in world.view.unknown[0].reason
    assert world.state("portfolio_loss", "account") == "closed"
    assert world.level() == "allow"
    world.wait(30)
    assert world.level() == "halt"
    world.step(price("BTC/USDT", 100.0))
    assert world.level() == "allow"


@pytest.mark.parametrize("targets", [(), OMS])
def test_what_is_unknown_is_not_clear(targets: Any) -> None:
    """A loss that is unknown since it was recovered closes no breaker, by `hold` or by a cancel."""
    old = PortfolioConfig(venues=("kraken",), max_age=MaxAge(balance=5.0))
    world = World(
        loss_limit(recover="clear", hold=0.0 if targets else 10.0), portfolio=old, targets=targets
    )
    world.each([balances(USDT=1_000.0), balances(USDT=900.0), balances(USDT=990.0)])
    world.wait(30)
    world.confirm()
    assert world.breaker("portfolio_loss", "account").unknown
    assert world.state("portfolio_loss", "account") == "open"
    for _ in range(5):
        world.step(balances(USDT=990.0))
        world.wait(2)
    assert world.state("portfolio_loss", "account") == "closed"


def test_the_grace_is_of_being_unknown_for_any_reason() -> None:
    """Another missing input does not restart the grace; a known value in between does."""
    ages = MaxAge(price=20.0, balance=40.0)
    world = World(
        loss_limit(written=True), portfolio=PortfolioConfig(venues=("kraken",), max_age=ages)
    )
    world.step(price("BTC/USDT", 100.0), balances(USDT=500.0, BTC=10.0))
    world.wait(21)
    assert world.view.unknown[0].reason.startswith("BTC's last price is")
    world.wait(19)
    world.step(price("BTC/USDT", 100.0))
    world.step(price("ETH/USDT", 9.0), balances(USDT=500.0, BTC=10.0))  # known in between
    world.wait(20.1)
    world.wait(19.95)
    assert world.view.unknown[0].reason.startswith("kraken has not reported its balances")
    world.wait(9.9)
    assert world.level() == "allow"
    world.wait(0.1)
    assert world.level() == "halt"
    world.step(balances(USDT=500.0, BTC=10.0), price("BTC/USDT", 100.0))
    assert world.level() == "allow"
    world.step(balances(USDT=500.0, BTC=10.0, XYZ=1.0))
    assert world.breaker("portfolio_loss", "account").unknown
    world.wait(29)
    assert world.level() == "allow"


@pytest.mark.parametrize(
    ("age", "old", "fresh"),
    [
        ({"price": 20.0}, price("BTC/USDT", 100.0), balances(USDT=1.0, BTC=1.0)),
        ({"balance": 20.0}, balances(USDT=1.0, BTC=1.0), price("BTC/USDT", 100.0)),
    ],
    ids=["price", "balance"],
)
def test_each_expired_input_makes_the_value_unknown(
    age: dict[str, float], old: ev.Event, fresh: ev.Event
) -> None:
    """A price or a balance is known up to its `max_age`, whatever the age of the other."""
    config = PortfolioConfig(
        max_age=MaxAge(**{"price": 1e6, "balance": 1e6, **age}), initial_capital=100.0
    )
    world = World(loss_limit(written=True), portfolio=config)
    world.step(price("BTC/USDT", 100.0), balances(USDT=1.0, BTC=1.0))
    world.wait(31)
    world.step(old)
    world.wait(19.999)
    world.step(fresh)
    world.wait(0.001)
    assert world.breaker("portfolio_loss", "account").value is not None
    world.wait(0.001)
    assert world.breaker("portfolio_loss", "account").value is None
    assert world.level() == "allow"
    world.wait(30)
    assert world.level() == "halt"


def test_an_airdrop_that_is_left_out_in_time_does_not_halt() -> None:
    """The grace of the asset and that of the limit end at one instant, without a halt."""
    world = World(loss_limit(written=True))
    world.step(balances(USDT=1_000.0))
    world.step(balances(USDT=1_000.0, GIFT=5.0))
    generation = world.engine.generation
    world.wait(100)
    assert [d for d in world.decisions if isinstance(d, UnknownLimit)] == []
    assert (world.view.unknown, world.level()) == ([], "allow")
    assert world.engine.generation == generation


def test_a_grace_that_is_no_longer_waited_for_counts_no_breach() -> None:
    """When the value is known again in time, the end of the grace is no evaluation."""
    account: dict[str, Any] = {"per": "account", "on_breach": "trip", "breaches": 2}
    world = World(limit("edge", min=100.0, written=True, **account))
    world.step(latency(0.1))
    world.wait(10)
    world.step(ev.Edge(bps=50.0))
    world.wait(60)
    assert world.state("edge", "account") == "closed"
    world.step(ev.Edge(bps=50.0))
    assert world.state("edge", "account") == "open"


def test_a_grace_that_ended_unseen_holds_for_the_next_check() -> None:
    """An order that is the first event after a stall is checked against the halt that is due."""
    world = World(loss_limit(written=True))
    world.step(latency(0.1))
    world.now_ns += 100 * SECOND
    assert not world.check().allowed


# -- back in force ----------------------------------------------------------------------------


def sized(**params: Any) -> World:
    """A world that holds 12 BTC, over the bound of 10, whose limit is out of service for 60 s."""
    world = World(limit("position", max=10.0, **{"on_breach": "trip", **params}))
    world.step(price("BTC/USDT:USDT", 100.0))
    world.operate("disable", "symbol:BTC/USDT:USDT", for_seconds=60.0)
    world.step(fill("buy", 12.0, 100.0))
    assert world.state("position", "symbol:BTC/USDT:USDT") == "disabled"
    return world


@pytest.mark.parametrize("ends", ["enable", "by time"])
def test_a_limit_past_its_bound_trips_when_it_is_back_in_force(ends: str) -> None:
    """The breaker trips at the end of a `disable` without another event."""
    world = sized()
    if ends == "enable":
        world.operate("enable", "symbol:BTC/USDT:USDT")
    else:
        world.wait(60)
    assert world.state("position", "symbol:BTC/USDT:USDT") == "open"
    assert world.breaker("position", "symbol:BTC/USDT:USDT").breaches_total == 1


def test_what_a_disable_hid_holds_for_the_next_check() -> None:
    """An order that is the first event after a stall meets the limit in force again."""
    world = sized()
    world.now_ns += 100 * SECOND
    assert not world.check(symbol="BTC/USDT:USDT", side="sell").allowed


@pytest.mark.parametrize(
    ("on_breach", "level"), [("block", "reduce_only"), ("warn", "allow"), ("shadow", "allow")]
)
@pytest.mark.parametrize("shut", ["trip", "freeze"])
def test_a_reset_or_unfreeze_evaluates_the_limit(shut: str, on_breach: str, level: str) -> None:
    """A soft limit that is past its bound restricts its scope from the reset or unfreeze on."""
    scope = "symbol:BTC/USDT:USDT"
    world = World(limit("position", max=10.0, on_breach=on_breach), targets=OMS)
    world.step(fill("buy", 12.0, 100.0))
    world.operate(shut, scope, limit="position")
    assert world.level(scope) == "halt"
    world.operate("reset" if shut == "trip" else "unfreeze", scope, force=True)
    assert (world.state("position", scope), world.level(scope)) == ("closed", level)


def test_a_limit_that_a_reload_arms_is_evaluated_with_the_reload() -> None:
    """A limit in `shadow`, or off, that a reload sets to `trip` trips with the reload."""
    scope = "symbol:BTC/USDT:USDT"
    armed = limit("position", max=10.0, on_breach="trip")
    for before in (limit("position", max=10.0, on_breach="shadow"), limit("edge", min=1.0)):
        world = World(before)
        world.step(fill("buy", 12.0, 100.0))
        world.configure(armed)
        assert world.state("position", scope) == "open"


def test_a_good_probe_leaves_no_breach_behind() -> None:
    """A breaker that a good value closed stays closed and counts no breach afterwards."""
    scope = "symbol:BTC/USDT:USDT"
    world = World(limit("position", max=10.0, on_breach="trip", recover=exact(10.0, probes=1)))
    world.step(fill("buy", 12.0, 100.0))
    world.step(fill("sell", 5.0, 100.0))
    world.wait(10)
    world.step(fill("sell", 1.0, 100.0))
    assert world.state("position", scope) == "closed"
    assert world.breaker("position", scope).breaches_total == 1


@pytest.mark.parametrize(
    ("table", "values", "fault"),
    [
        (Recovery, {"after": 1.0, "max": float("inf")}, "max: must be a finite number"),
        (Recovery, {"after": 1e300, "max": 1e300}, "max: must be at most 1000000000"),
        (LatencyP99Params, {"hold": float("inf")}, "hold: must be a finite number"),
        (Probation, {"seconds": 1e10}, "seconds: must be at most 1000000000"),
        (StalenessParams, {"max": 1e10}, "max: must be at most 1000000000"),
        (
            HeartbeatParams,
            {"max": 5.0, "overrides": {"strategy:mm": 1e10}},
            'overrides."strategy:mm": must be at most 1000000000',
        ),
        (
            PortfolioConfig,
            {"unknown_grace": float("inf")},
            "unknown_grace: must be a finite number",
        ),
        (
            PortfolioConfig,
            {"max_age": {"balance": 1e10}},
            "max_age.balance: must be at most 1000000000",
        ),
    ],
)
def test_a_duration_that_cannot_be_counted_is_refused(
    table: type[Any], values: dict[str, Any], fault: str
) -> None:
    """A duration that does not fit into 64 bits of nanoseconds is refused when it is configured."""
    assert faults(table, **values) == [fault]


# -- unknown, and clear by itself, in every state ---------------------------------------------


@pytest.mark.parametrize("on_breach", ["shadow", "warn"])
def test_a_limit_without_effect_does_not_halt_when_it_is_unknown(on_breach: str) -> None:
    """A limit that has no effect past its bound has none when its value is unknown."""
    world = World(loss_limit(written=True, on_breach=on_breach))
    world.step(latency(0.1))
    world.wait(60)
    assert world.breaker("portfolio_loss", "account").unknown
    assert world.level() == "allow"


def test_shadow_only_counts() -> None:
    """`shadow` counts breaches and sends no warning."""
    world = World(latency_limit(on_breach="shadow"))
    world.step(latency(1.0))
    assert not [d for d in world.decisions if isinstance(d, Warned)]
    assert world.breaker("latency_p99").breaches_total == 1


def test_a_window_that_clears_far_below_its_warning_closes() -> None:
    """With `clear` below `warn` the value is evaluated every second until it is clear."""
    world = World(latency_limit(recover="clear", clear=0.5, window=1))
    world.each([latency(1.0), latency(0.15)])
    world.wait(5)
    assert world.state("latency_p99") == "open"
    world.step(latency(0.05))
    world.wait(1)
    assert world.state("latency_p99") == "closed"


def test_a_window_of_seconds_clears_without_a_sample() -> None:
    """The breaker clears when its samples leave the window by time alone."""
    world = World(latency_limit(recover="clear", seconds=10.0))
    world.step(latency(1.0))
    world.wait(9)
    assert world.state("latency_p99") == "open"
    world.wait(2)
    assert world.state("latency_p99") == "closed"


@pytest.mark.parametrize("kind", ["latency_p99", "error_streak"])
def test_a_trip_by_hand_of_what_is_clear_ends(kind: str) -> None:
    """A trip by hand of a clear limit without cancels closes by itself."""
    world = World(
        latency_limit(recover="clear") if kind == "latency_p99" else limit(kind, recover="clear")
    )
    world.step(latency(0.1))
    world.operate("trip", "venue:kraken", limit=kind)
    assert world.state(kind) == "open"
    world.wait(1)
    assert world.state(kind) == "closed"


def test_a_value_within_its_bound_that_is_not_clear_closes_nothing() -> None:
    """A half-open loss closes below `clear` × its bound: 4 % of 5 % is no good probe."""
    world = World(loss_limit(recover=exact(10.0, probes=1), clear=0.5))
    world.each([balances(USDT=1000.0), balances(USDT=900.0), balances(USDT=990.0)])
    world.wait(10)
    world.step(balances(USDT=960.0))
    assert world.state("portfolio_loss", "account") == "half_open"
    world.step(balances(USDT=990.0))
    assert world.state("portfolio_loss", "account") == "closed"


# -- classified -------------------------------------------------------------------------------

PASSING = ("venue", "market", "strategy")


@pytest.mark.parametrize("kind", LIMITS)
def test_what_passes_recovers_by_itself(kind: str) -> None:
    """Each kind has a category; by default only `capital` and `edge` wait for an operator."""
    category, recover = LIMITS[kind].category, limit_fields(kind)["recover"].default
    assert category in (*PASSING, "edge", "order", "position", "loss")
    if kind in ("portfolio_loss", "drawdown", "edge"):
        assert recover == "operator"
    elif category in PASSING or category in ("position", "loss"):
        assert recover != "operator"


def limit_fields(kind: str) -> dict[str, Any]:
    """The fields of a kind's parameters, by name."""
    return {field.name: field for field in fields(LIMITS[kind].Params)}


def test_a_trip_names_its_category_and_its_recovery() -> None:
    """The transition, the incident and the state agree; an operator ends a freeze."""
    world = World(latency_limit())
    world.step(latency(1.0))
    moved = next(d for d in world.decisions if isinstance(d, Transition))
    record = next(d for d in world.decisions if isinstance(d, Record) and d.kind == "trip")
    breaker = world.breaker("latency_p99")
    for told in (moved, record, breaker):
        assert (told.category, told.recovers) == ("venue", "by itself")
    world.operate("freeze", "venue:kraken", limit="latency_p99")
    assert world.breaker("latency_p99").recovers == "by an operator"
    world.operate("freeze", "venue:kraken")
    assert world.breaker("manual").category == "operator"
    world.configure(loss_limit())
    assert world.breaker("latency_p99").category == "removed"
    assert world.breaker("latency_p99").recovers == "by an operator"
