"""Bounds that move by themselves: by the time of day, and while on probation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from riskmon.core import events as ev
from riskmon.core.book.calendar import Zone
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import LimitConfig, dump
from riskmon.core.config import load as load_config
from riskmon.core.engine import Engine
from riskmon.core.limits.errors import ErrorStreakParams
from riskmon.core.limits.policy import Probation
from riskmon.core.limits.schedule import CeilingSlot, FloorSlot, Slot, bound_at, next_change_ns
from tests.core import (
    BEGIN_WALL_NS,
    SECOND,
    World,
    balances,
    error,
    exact,
    faults,
    latency,
    latency_limit,
    limit,
    loss_limit,
    plain,
    price,
    run,
)


def slot(begin: str, end: str, bound: float) -> CeilingSlot[float]:
    """A slot of a schedule."""
    return CeilingSlot(from_=begin, to=end, max=bound)


# The world begins at 03:20:45 UTC.
NIGHT = slot("22:00", "06:00", 0.02)
NOON = slot("12:00", "13:00", 0.03)
KRAKEN = PortfolioConfig(initial_capital=1_000.0, venues=("kraken",))
SYMBOL = "BTC/USDT:USDT"


def hours(world: World, clock: str) -> None:
    """Wait until the clock shows this time, UTC."""
    now = datetime.fromtimestamp((BEGIN_WALL_NS + world.now_ns) / SECOND, UTC)
    hour, minute = map(int, clock.split(":"))
    due = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    due += timedelta(days=due <= now)
    world.wait((due - now).total_seconds())


def until(world: World, when: str) -> None:
    """Wait until this date, UTC."""
    due_ns = int(datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()) * SECOND
    world.wait((due_ns - BEGIN_WALL_NS - world.now_ns) / SECOND)


def loss_bound(world: World) -> float | None:
    """The bound of the portfolio loss that readers see."""
    return world.breaker("portfolio_loss", "account").bound


def scheduled_loss(*slots: CeilingSlot[float], **params: Any) -> LimitConfig:
    """A portfolio loss of 5 %, and less at times."""
    return loss_limit(schedule=slots or (NIGHT, NOON), **params)


def losing(*limits: LimitConfig) -> World:
    """An account that has lost 4 %."""
    world = World(*limits, portfolio=KRAKEN)
    world.step(balances(USDT=1_000.0))
    world.step(balances(USDT=960.0))
    return world


# -- schedule -------------------------------------------------------------------------------------


def test_the_current_slot_gives_the_bound() -> None:
    """A slot may cross midnight; outside of the slots the bound is `max`."""
    world = World(scheduled_loss(), portfolio=KRAKEN)
    assert loss_bound(world) == 0.02
    seen = []
    for clock in ("05:59", "06:00", "12:00", "13:00", "21:59", "22:00", "00:00", "06:00"):
        hours(world, clock)
        seen.append(loss_bound(world))
    assert seen == [0.02, 0.05, 0.03, 0.05, 0.05, 0.02, 0.02, 0.05]


def test_the_next_boundary_is_a_deadline() -> None:
    """The engine's next deadline is the boundary, to the second, although nothing happens."""
    world = World(scheduled_loss())
    due = datetime.fromtimestamp((BEGIN_WALL_NS + world.engine.next_deadline_ns) / SECOND, UTC)
    assert (due.hour, due.minute, due.second) == (6, 0, 0)


def test_a_tightened_bound_is_evaluated_at_the_boundary() -> None:
    """A loss of 4 % is within the bound of the day and past that of noon: it trips at noon."""
    world = World(scheduled_loss(NOON), portfolio=KRAKEN)
    world.step(balances(USDT=1_000.0))
    world.step(balances(USDT=960.0))
    hours(world, "11:59")
    world.step(balances(USDT=960.0))
    assert world.state("portfolio_loss", "account") == "closed"
    hours(world, "12:00")
    assert world.state("portfolio_loss", "account") == "open"
    assert world.level() == "halt"


def test_a_boundary_is_one_evaluation() -> None:
    """A boundary and a balance of the same instant are one evaluation."""
    world = losing(scheduled_loss(NOON, breaches=2))
    hours(world, "11:59")
    world.step(balances(USDT=960.0))
    world.now_ns += 60 * SECOND
    world.step(balances(USDT=960.0))
    assert loss_bound(world) == 0.03
    assert world.state("portfolio_loss", "account") == "closed"
    world.step(balances(USDT=959.0))
    assert world.state("portfolio_loss", "account") == "open"


def test_a_bound_that_widens_clears() -> None:
    """With `recover = "clear"` the end of the slot closes the breaker."""
    world = losing(scheduled_loss(recover="clear"))
    assert world.state("portfolio_loss", "account") == "open"
    hours(world, "05:59")
    world.step(balances(USDT=960.0))
    assert world.state("portfolio_loss", "account") == "open"
    hours(world, "06:00")
    assert world.state("portfolio_loss", "account") == "closed"


def test_an_override_holds_at_any_time() -> None:
    """An override of a scope holds in every slot; other scopes follow the schedule."""
    night = slot("22:00", "06:00", 0.1)
    world = World(latency_limit(overrides={"venue:kraken": 0.3}, schedule=(night,)))
    world.step(latency(0.01), latency(0.01, "mexc"))
    assert world.breaker("latency_p99").bound == 0.3
    assert world.breaker("latency_p99", "venue:mexc").bound == 0.1
    hours(world, "06:00")
    assert world.breaker("latency_p99").bound == 0.3
    assert world.breaker("latency_p99", "venue:mexc").bound == 0.2


def test_sample_limits_follow_the_schedule() -> None:
    """A window is counted again under the new bound; a latency trip needs another slow sample."""
    noon = slot("12:00", "13:00", 0.1)
    world = World(latency_limit(schedule=(noon,)))
    world.each([latency(0.15)] * 3)
    hours(world, "12:00")
    assert world.breaker("latency_p99").warning
    assert world.state("latency_p99") == "closed"
    world.step(latency(0.15))
    assert world.state("latency_p99") == "open"


def test_a_streak_is_evaluated_at_the_boundary() -> None:
    """Three errors in a row trip when the bound becomes three."""
    noon = slot("12:00", "13:00", 3)
    world = World(limit("error_streak", schedule=(noon,)))
    world.each([error()] * 3)
    hours(world, "11:59")
    assert world.state("error_streak") == "closed"
    hours(world, "12:00")
    assert world.state("error_streak") == "open"


def test_a_floor_is_scheduled_by_min() -> None:
    """An edge of 15 bps is enough by day, and freezes when the minimum of the night is 20."""
    night = FloorSlot(from_="22:00", to="06:00", min=20.0)
    world = World(limit("edge", min=10.0, per="account", schedule=(night,)))
    hours(world, "21:58")
    world.step(ev.Edge(bps=15.0))
    assert world.state("edge", "account") == "closed"
    hours(world, "22:00")
    assert world.state("edge", "account") == "frozen"


def test_a_new_scope_gets_the_current_bound() -> None:
    """A venue whose first event comes at night begins with the night's bound."""
    world = World(latency_limit(schedule=(replace(NIGHT, max=0.1),)))
    world.step(latency(0.01))
    assert world.breaker("latency_p99").bound == 0.1


def test_a_reload_adds_and_removes_a_schedule() -> None:
    """With the reload the bound is that of the current slot; later boundaries move it."""
    world = World(loss_limit(), portfolio=KRAKEN)
    world.configure(scheduled_loss())
    assert loss_bound(world) == 0.02
    hours(world, "06:00")
    assert loss_bound(world) == 0.05
    world.configure(loss_limit())
    hours(world, "23:00")
    assert loss_bound(world) == 0.05


@pytest.mark.parametrize("seconds", [-7_200, 7_200, 86_400 * 3])
def test_a_step_of_the_date_is_followed(seconds: int) -> None:
    """After an NTP step the bound is that of the new date with the next event, and stays right."""
    world = World(scheduled_loss(slot("02:00", "04:00", 0.02)))
    assert loss_bound(world) == 0.02

    def at(now_ns: int) -> float | None:
        wall_ns = BEGIN_WALL_NS + now_ns + seconds * SECOND
        world.engine.step([], now_ns=now_ns, wall_ns=wall_ns)
        date = datetime.fromtimestamp(wall_ns / SECOND, UTC)
        assert (loss_bound(world) == 0.02) == (2 <= date.hour < 4), date
        return loss_bound(world)

    now_ns, seen = world.now_ns, set()
    for _ in range(30):
        seen.add(at(now_ns))
        now_ns = max(now_ns + 3_600 * SECOND, world.engine.next_deadline_ns)
    assert seen == {0.02, 0.05}


BERLIN = PortfolioConfig(initial_capital=1_000.0, timezone="Europe/Berlin")
# What the clock of Berlin shows: 01:59 CET, then 03:00 CEST; 02:59 CEST, then 02:00 CET.
NIGHTS: dict[str, tuple[str, str, list[tuple[str, float]]]] = {
    "spring, from within the hour that is not": (
        "02:30",
        "06:00",
        [("2026-03-29T00:59:59", 0.05), ("2026-03-29T01:00:00", 0.02)],
    ),
    "spring, only in the hour that is not": (
        "02:15",
        "02:45",
        [("2026-03-29T00:59:59", 0.05), ("2026-03-29T01:00:00", 0.05)],
    ),
    "spring, to within the hour that is not": (
        "01:00",
        "02:30",
        [("2026-03-29T00:59:59", 0.02), ("2026-03-29T01:00:00", 0.05)],
    ),
    "autumn, within the hour that is twice": (
        "02:15",
        "02:45",
        [
            ("2026-10-25T00:14:59", 0.05),
            ("2026-10-25T00:15:00", 0.02),
            ("2026-10-25T00:45:00", 0.05),
            ("2026-10-25T01:15:00", 0.02),
            ("2026-10-25T01:45:00", 0.05),
        ],
    ),
    "autumn, from within the hour that is twice": (
        "02:30",
        "06:00",
        [
            ("2026-10-25T00:30:00", 0.02),
            ("2026-10-25T01:00:00", 0.05),
            ("2026-10-25T01:30:00", 0.02),
            ("2026-10-25T05:00:00", 0.05),
        ],
    ),
}


@pytest.mark.parametrize("night", NIGHTS)
def test_daylight_saving(night: str) -> None:
    """Boundaries follow the local wall clock, through deadlines of the engine alone."""
    begin, end, expected = NIGHTS[night]
    world = World(scheduled_loss(slot(begin, end, 0.02)), portfolio=BERLIN)
    seen = []
    for when, _ in expected:
        until(world, when)
        seen.append((when, loss_bound(world)))
    assert seen == expected


def test_the_next_change_misses_none() -> None:
    """In both daylight-saving nights the bound of each minute follows from the listed changes."""
    zone, slots = Zone("Europe/Berlin"), (Slot(8_100, 9_900, 1.0), Slot(84_600, 1_800, 2.0))
    for day in (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)):
        wall_ns = int(day.timestamp()) * SECOND
        change_ns, bound = wall_ns, None
        for minute in range(24 * 60):
            at_ns = wall_ns + minute * 60 * SECOND
            while change_ns <= at_ns:
                bound = bound_at(slots, zone, change_ns)
                change_ns = next_change_ns(slots, zone, change_ns)
            assert bound_at(slots, zone, at_ns) == bound


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ([{"from": "22:00", "max": 1.0}], "schedule[0].to: is missing"),
        ([{"to": "22:00", "max": 1.0}], "schedule[0].from: is missing"),
        ([{"from": "22:00", "to": "06:00"}], "schedule[0].max: is missing"),
        ([{"from": "24:00", "to": "06:00", "max": 1}], "schedule[0].from: must be a time of day"),
        ([{"from": "6:00", "to": "07:00", "max": 1}], "schedule[0].from: must be a time of day"),
        ([{"from": 22.0, "to": "06:00", "max": 1}], "schedule[0].from: must be text"),
        ([{"from": "06:00", "to": "06:00", "max": 1}], "schedule[0].to: must differ from `from`"),
        ([{"from": "05:00", "to": "06:00", "max": "1"}], "schedule[0].max: must be a number"),
        ([{"from": "05:00", "to": "06:00", "max": 0.0}], "schedule[0].max: must be above 0"),
        ([{"from": "05:00", "to": "06:00", "max": 1.5}], "schedule[0].max: must be a whole"),
        ([{"from": "05:00", "to": "06:00", "max": 1, "mx": 1}], "schedule[0].mx: unknown key"),
        (
            [
                {"from": "22:00", "to": "06:00", "max": 1},
                {"from": "06:00", "to": "07:00", "max": 1},
                {"from": "05:59", "to": "06:00", "max": 1},
            ],
            "schedule: slots 0 and 2 overlap",
        ),
    ],
)
def test_bad_schedules_are_refused(schedule: Any, expected: str) -> None:
    """Each fault names its key path and what is wrong."""
    (fault,) = faults(ErrorStreakParams, schedule=schedule)
    assert fault.startswith(expected)


def test_a_configuration_with_both_survives_the_journal() -> None:
    """A dumped configuration loads unchanged."""
    config = World(scheduled_loss(), latency_limit(probation=Probation())).config
    assert load_config(dump(config)) == config


# -- probation ------------------------------------------------------------------------------------


def probed(**params: Any) -> World:
    """A world whose latency limit has a probation, with a size limit beside it."""
    world = World(
        latency_limit(probation=Probation(ratio=0.5, seconds=600.0), **params),
        latency_limit(name="second", per="venue", operation="add"),
        limit("position", max=10.0),
        loss_limit(),
        portfolio=KRAKEN,
    )
    world.step(price(SYMBOL, 1.0), latency(0.01))
    return world


def succeed(world: World, venue: str = "kraken") -> None:
    """A trip, its wait, and good probes."""
    world.step(latency(0.5, venue))
    world.wait(30)
    assert world.state("latency_p99", f"venue:{venue}") == "half_open"
    world.each([latency(0.01, venue)] * 3)
    assert world.state("latency_p99", f"venue:{venue}") == "closed"


def size_bound(world: World) -> float | None:
    """The bound of the position that readers see."""
    return world.breaker("position", "symbol:" + SYMBOL).bound


def position(quantity: float) -> ev.Position:
    """A position of so much."""
    return ev.Position(venue="kraken", symbol=SYMBOL, quantity=quantity, entry_price=1.0)


def test_a_success_halves_the_sizes_for_a_while() -> None:
    """Bounds of size limits are multiplied by the ratio until it ends; other bounds stay."""
    world = probed()
    assert size_bound(world) == 10.0
    succeed(world)
    assert size_bound(world) == 5.0
    assert loss_bound(world) == 0.05
    assert world.breaker("latency_p99").bound == 0.2
    world.wait(599)
    assert size_bound(world) == 5.0
    world.wait(1)
    assert size_bound(world) == 10.0


def test_orders_meet_the_lowered_bound() -> None:
    """An order of seven is refused while on probation, and allowed before and after."""
    world = probed()
    order = {"symbol": SYMBOL, "quantity": 7.0, "simulate": True}
    assert world.check(**order).allowed
    succeed(world)
    (blame,) = world.check(**order).reasons
    assert (blame.limit, blame.value, blame.bound) == ("position", 7.0, 5.0)
    world.wait(600)
    assert world.check(**order).allowed


def test_a_position_past_the_lowered_bound_is_reduce_only() -> None:
    """A position of seven keeps its gate at reduce_only from the success to the end."""
    world = probed()
    world.step(position(7.0))
    assert world.level("symbol:" + SYMBOL) == "allow"
    succeed(world)
    assert world.level("symbol:" + SYMBOL) == "reduce_only"
    world.wait(600)
    assert world.level("symbol:" + SYMBOL) == "allow"


def test_a_second_success_prolongs() -> None:
    """The probation ends 600 s after the last success."""
    world = probed()
    succeed(world)
    world.wait(400)
    succeed(world)
    world.wait(599)
    assert size_bound(world) == 5.0
    world.wait(1)
    assert size_bound(world) == 10.0


def test_the_longest_of_two_counts() -> None:
    """Two venues are on probation: the ratio is not applied twice, and the last end counts."""
    world = probed()
    world.step(latency(0.01, "mexc"))
    succeed(world)
    world.wait(300)
    succeed(world, "mexc")
    assert size_bound(world) == 5.0
    world.wait(599)
    assert size_bound(world) == 5.0
    world.wait(1)
    assert size_bound(world) == 10.0


def test_the_lowest_ratio_of_two_counts() -> None:
    """Two limits put the account on probation: the stricter one holds until it ends."""
    world = World(
        latency_limit(probation=Probation(ratio=0.5, seconds=600.0)),
        latency_limit(name="strict", probation=Probation(ratio=0.1, seconds=60.0)),
        limit("position", max=10.0),
    )
    world.step(price(SYMBOL, 1.0), latency(0.01))
    succeed(world)
    assert world.state("strict") == "closed"
    assert size_bound(world) == 1.0
    world.wait(60)
    assert size_bound(world) == 5.0


def test_a_new_symbol_is_on_probation_too() -> None:
    """A symbol whose first event comes during the probation begins with the lowered bound."""
    world = probed()
    succeed(world)
    world.step(price("ETH/USDT", 1.0))
    assert world.breaker("position", "symbol:ETH/USDT").bound == 5.0


def test_an_operators_reset_is_no_success() -> None:
    """An operator's reset of a half-open breaker begins no probation."""
    world = probed()
    world.step(latency(0.5))
    world.wait(30)
    world.operate("reset", "venue:kraken")
    assert world.state("latency_p99") == "closed"
    assert size_bound(world) == 10.0


def test_a_limit_without_probation_has_none() -> None:
    """The success of a limit without `probation` lowers no bound."""
    world = probed()
    world.operate("trip", "venue:kraken", limit="second")
    world.wait(30)
    world.each([latency(0.01, operation="add")] * 3)
    assert world.state("second") == "closed"
    assert size_bound(world) == 10.0


def test_probation_is_for_sizes_and_for_overrides_too() -> None:
    """Bounds on order size and overrides are lowered; a price collar and a rate are not."""
    world = World(
        latency_limit(probation=Probation(ratio=0.5, seconds=600.0)),
        limit("position", max=10.0, overrides={"symbol:ETH/USDT": 4.0}),
        limit("order_quantity", max=10.0),
        limit("order_notional", max=10.0),
        limit("open_positions", max=10.0),
        limit("concentration", max=10.0),
        limit("price_collar", max=10.0),
        limit("message_rate", max=10.0),
        portfolio=KRAKEN,
    )
    world.step(ev.Heartbeat(symbol="ETH/USDT"), latency(0.01))
    succeed(world)
    bounds = {b.limit: b.bound for b in world.view.breakers}
    assert bounds == {
        "latency_p99": 0.2,
        "position": 2.0,
        "order_quantity": 5.0,
        "order_notional": 5.0,
        "open_positions": 5.0,
        "concentration": 5.0,
        "price_collar": 10.0,
        "message_rate": 10.0,
    }


def test_only_a_half_open_success_begins_a_probation() -> None:
    """Neither a wait without probes nor a value that clears begins a probation."""
    for recover in (exact(30.0, probes=0), "clear"):
        world = probed(recover=recover)
        world.step(latency(0.5))
        world.each([latency(0.01)] * 10)
        world.wait(30)
        assert world.state("latency_p99") == "closed"
        assert size_bound(world) == 10.0


def test_schedule_and_probation_together() -> None:
    """The ratio applies to the bound of the current slot."""
    world = World(
        latency_limit(probation=Probation(seconds=20_000.0)),
        limit("position", max=10.0, schedule=(replace(NIGHT, max=4.0),)),
    )
    world.step(price(SYMBOL, 1.0), latency(0.01))
    succeed(world)
    assert size_bound(world) == 2.0
    hours(world, "06:00")
    assert size_bound(world) == 5.0
    hours(world, "09:30")
    assert size_bound(world) == 10.0


# -- both over a restart --------------------------------------------------------------------------


def _on_probation() -> World:
    world = probed()
    succeed(world)
    world.wait(400)
    succeed(world)
    world.wait(700)
    return world


def _over_boundaries() -> World:
    world = losing(scheduled_loss(breaches=2), latency_limit(schedule=(replace(NIGHT, max=0.1),)))
    for clock in ("05:00", "06:00", "12:00", "12:30", "22:30"):
        hours(world, clock)
        world.step(latency(0.15), balances(USDT=975.0))
    return world


@pytest.mark.parametrize("story", [_on_probation, _over_boundaries])
def test_a_restored_engine_goes_on(story: Callable[[], World]) -> None:
    """A snapshot at any cut and the rest of the story equal the whole story, bit for bit."""
    world = story()
    for cut in range(1, len(world.log)):
        engine = Engine(world.config)
        for events, now_ns in world.log[:cut]:
            run(engine, events, now_ns)
        engine = Engine.restore(engine.snapshot())
        for events, now_ns in world.log[cut:]:
            run(engine, events, now_ns)
        assert plain(engine) == plain(world.engine), cut
        assert engine.next_deadline_ns == world.engine.next_deadline_ns
