"""Checks of orders: reservations, dry runs, reducing orders and refusals."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import LimitConfig
from riskmon.core.decisions import CheckAnswer
from riskmon.core.engine import Engine
from tests.core import FEW, OMS, World, fill, latency, latency_limit, limit, plain, price

PERP = "BTC/USDT:USDT"
ETH = "ETH/USDT:USDT"
SCOPE = "symbol:" + PERP
MONEY = PortfolioConfig(initial_capital=10_000.0)


def market(*limits: LimitConfig, **config: Any) -> World:
    """A world with a bound of 10 on the position; both symbols cost 100."""
    world = World(
        *(limits or (limit("position", max=10.0),)),
        **{"portfolio": MONEY, "targets": OMS, **config},
    )
    world.each([ev.Heartbeat(venue="kraken"), price(PERP, 100.0), price(ETH, 100.0)])
    return world


def ask(world: World, quantity: float, **more: Any) -> CheckAnswer:
    """Check an order of a quantity, a sale if below 0, at a price of 100."""
    side = "buy" if quantity > 0 else "sell"
    order = {"symbol": PERP, "price": 100.0, "side": side, "quantity": abs(quantity)}
    return world.check(**{**order, **more})


def room(world: World, quantity: float, **more: Any) -> bool:
    """Whether an order of this quantity would be allowed, by a dry run."""
    return ask(world, quantity, **more, simulate=True).allowed


def held(world: World, quantity: float, venue: str = "kraken", symbol: str = PERP) -> None:
    """A position that its venue reports."""
    world.step(ev.Position(venue=venue, symbol=symbol, quantity=quantity, entry_price=100.0))


def order(status: Any, name: str = "a", **more: Any) -> ev.Order:
    """A venue's report of an order."""
    return ev.Order(id=name, venue="kraken", symbol=PERP, status=status, **more)


# -- reservations


def test_a_permitted_order_reserves_its_quantity() -> None:
    """The second of two orders that fit alone but not together is refused, in one batch too."""
    world = market()
    ask(world, 6.0)
    assert not room(world, 5.0)
    assert room(world, 4.0)
    both = [
        ev.Check(venue="kraken", symbol=ETH, side="buy", quantity=6.0, price=100.0)
        for _ in range(2)
    ]
    assert [a.allowed for a in world.step(*both).answers if isinstance(a, CheckAnswer)] == [
        True,
        False,
    ]


def test_a_refused_order_reserves_nothing() -> None:
    """A refused order reserves nothing."""
    world = market()
    assert not ask(world, 11.0).allowed
    assert ask(world, 10.0).allowed


@pytest.mark.parametrize("status", ["closed", "canceled", "expired", "rejected"])
def test_what_a_closing_report_says_was_not_executed_is_released(status: str) -> None:
    """4 of 6 remained: 2 were executed, and stay reserved until their fills come."""
    world = market()
    ask(world, 6.0, id="a")
    world.step(order("canceled", "another", remaining=6.0))
    assert not room(world, 5.0)
    world.step(order(status, remaining=4.0))
    assert_rests(world, 2.0)
    world.step(part(2.0, "1"))
    assert (room(world, 8.0), room(world, 8.1)) == (True, False)


@pytest.mark.parametrize("status", ["closed", "canceled", "expired", "rejected"])
def test_a_closed_order_waits_for_its_fills_for_the_time_to_live(status: str) -> None:
    """All of it was executed, or how much is unknown: all stays reserved for `check_ttl`."""
    world = market(check_ttl=5.0)
    ask(world, 6.0, id="a")
    world.step(order(status))
    world.wait(4.9)
    assert_rests(world, 6.0)
    world.wait(0.1)
    assert room(world, 10.0)


def test_an_order_is_closed_before_its_fill_comes() -> None:
    """`remaining` 0 comes before the fill: a second order of the same size is refused."""
    world = market(limit("position", max=1.0))
    ask(world, 1.0, id="a")
    world.step(order("closed", remaining=0.0))
    assert not room(world, 1.0)
    world.step(part(1.0, "1"))
    assert not room(world, 0.1)
    assert room(world, -1.0)


def test_a_later_report_may_say_how_much_was_executed() -> None:
    """`canceled` without `remaining`, then again with it: only the executed part waits."""
    world = market()
    ask(world, 6.0, id="a")
    world.step(order("canceled"))
    assert_rests(world, 6.0)
    world.step(order("canceled", remaining=5.0))
    assert_rests(world, 1.0)
    world.step(order("canceled"))
    assert_rests(world, 1.0)


def test_a_report_from_before_its_end_does_not_reserve_an_order_again() -> None:
    """`open` that comes after `canceled`, or after the last fill, changes nothing."""
    world = market()
    ask(world, 6.0, id="a")
    world.each([order("canceled", remaining=6.0), order("open", side="buy", quantity=6.0)])
    ask(world, 3.0, id="b")
    world.step(fill("buy", 3.0, 100.0, id="1", order_id="b"))
    world.step(order("open", "b", side="buy", quantity=3.0, remaining=3.0))
    assert (room(world, 7.0), room(world, 7.1)) == (True, False)


def test_fills_reduce_a_reservation() -> None:
    """A fill with the order's id moves its quantity from the reservation to the position."""
    world = market()
    ask(world, 6.0, id="a")
    world.step(fill("buy", 2.0, 100.0, id="1", order_id="a"))
    assert (room(world, 4.0), room(world, 4.1)) == (True, False)
    world.step(fill("buy", 2.0, 100.0, id="1", order_id="a"))  # a duplicate
    assert (room(world, 4.0), room(world, 4.1)) == (True, False)
    world.step(fill("buy", 4.0, 100.0, id="2", order_id="a"))
    assert_rests(world, 0.0)
    assert (room(world, 4.0), room(world, 4.1)) == (True, False)


def test_a_fill_of_another_order_releases_nothing() -> None:
    """A fill with the id of an unknown order adds to the position only."""
    world = market()
    ask(world, 6.0, id="a")
    world.step(fill("buy", 1.0, 100.0, id="2", order_id="b"))
    assert (room(world, 3.0), room(world, 3.1)) == (True, False)


def test_a_fill_without_the_orders_id_uses_up_the_oldest() -> None:
    """It is of the oldest orders of its venue, symbol and side."""
    world = market()
    ask(world, -1.0, id="sale")
    ask(world, 1.0, id="elsewhere", venue="mexc")
    for name, quantity in (("a", 2.0), ("b", 3.0)):
        ask(world, quantity, id=name)
    world.step(fill("buy", 2.5, 100.0, id="1"))
    assert left(world, "a", "b", "sale", "elsewhere") == [0.0, 2.5, 1.0, 1.0]


def test_the_reported_remaining_quantity_counts() -> None:
    """What does not remain stays reserved until its fills come, at most `check_ttl`."""
    world = market(check_ttl=5.0)
    ask(world, 6.0, id="a")
    world.step(order("open", remaining=2.0))
    assert_rests(world, 6.0)
    world.wait(1.0)
    world.step(order("open", remaining=1.0))
    world.wait(4.0)
    assert_rests(world, 2.0)
    world.wait(1.0)
    assert (room(world, 9.0), room(world, 9.1)) == (True, False)
    world.step(order("open", remaining=0.0))
    assert_rests(world, 1.0)
    world.wait(5.0)
    assert room(world, 10.0)


def left(world: World, *names: str) -> list[float]:
    """How much of each order is reserved."""
    reserved = world.engine.state.orders.reserved
    venues = {one.id: one for one in reserved.values()}
    return [venues[name].left if name in venues else 0.0 for name in names]


def assert_rests(world: World, expected: float) -> None:
    """Assert how much of order `a` is reserved."""
    assert left(world, "a") == [pytest.approx(expected)]


def part(quantity: float, name: str) -> ev.Fill:
    """A fill of a part of order `a`."""
    return fill("buy", quantity, 100.0, id=name, order_id="a")


@pytest.mark.parametrize("quantity", [None, 6.0])
def test_a_fill_that_remaining_includes_releases_nothing(quantity: float | None) -> None:
    """Fills that come after `remaining` are counted once, in time or after `check_ttl`."""
    world = market(check_ttl=5.0)
    ask(world, 6.0, id="a")
    world.step(order("open", remaining=2.0, quantity=quantity))
    world.step(part(3.0, "1"))
    assert_rests(world, 3.0)
    world.wait(5.0)
    assert_rests(world, 2.0)
    world.step(part(1.0, "2"))
    assert_rests(world, 2.0)
    assert (room(world, 4.0), room(world, 4.1)) == (True, False)
    world.step(part(0.5, "3"))
    assert_rests(world, 1.5)
    world.step(order("open", remaining=1.5, quantity=quantity))
    assert_rests(world, 1.5)
    world.step(part(1.5, "4"))
    assert_rests(world, 0.0)


@FEW
@given(st.lists(st.sampled_from((0.1, 0.25, 1.0)), max_size=5), st.booleans(), st.randoms())
def test_what_counts_is_never_less_than_what_rests(parts: Any, whole: bool, chance: Any) -> None:
    """Fills and reports of `remaining` in any order, each true at its own time."""
    world = market()
    ask(world, 6.0, id="a")
    remaining = [6.0 - sum(parts[:done]) for done in range(len(parts) + 1)]
    quantity = 6.0 if whole else None
    told: list[ev.Event] = [part(each, str(number)) for number, each in enumerate(parts)]
    told += [order("open", remaining=each, quantity=quantity) for each in remaining]
    chance.shuffle(told)
    for event in told:
        world.step(event)
        assert left(world, "a")[0] >= remaining[-1] - 1e-9
    assert_rests(world, remaining[-1])


def test_an_older_report_of_the_venue_restores_nothing() -> None:
    """A report from before a fill does not restore the filled quantity."""
    world = market()
    ask(world, 6.0, id="a")
    world.step(part(4.0, "1"))
    world.step(order("open", remaining=6.0))
    assert_rests(world, 2.0)
    world.step(order("open", remaining=1.0))
    world.step(order("open", remaining=3.0))
    assert_rests(world, 2.0)
    world.wait(5.0)
    assert_rests(world, 1.0)


def test_a_changed_order_counts_as_the_venue_reports() -> None:
    """A check with a new quantity after fills; then the venue reports the whole order."""
    world = market(limit("position", max=20.0))
    ask(world, 6.0, id="a")
    world.step(part(4.0, "1"))
    ask(world, 8.0, id="a", price=101.0)
    assert_rests(world, 8.0)  # whether the filled 4 are a part of it is unknown
    world.step(order("open", quantity=8.0, remaining=4.0))
    assert_rests(world, 4.0)
    world.step(part(4.0, "2"))
    assert_rests(world, 0.0)


def test_an_order_that_grew_at_the_venue_counts_as_it_rests() -> None:
    """More remains than was allowed: all of it counts, in money too."""
    world = market(limit("inventory", max=1_000.0))
    ask(world, 3.0, id="a")
    world.step(part(1.0, "1"))
    world.step(order("open", remaining=7.0))
    assert_rests(world, 7.0)
    assert (room(world, 2.0), room(world, 2.1)) == (True, False)


@pytest.mark.parametrize("told_first", [True, False])
def test_a_fill_that_the_venue_also_reports_counts_once(told_first: bool) -> None:
    """A fill counts once, whether `remaining` includes it, precedes it or is older."""
    world = market()
    ask(world, 6.0, id="a")
    told: list[ev.Event] = [order("open", remaining=4.0), part(2.0, "1")]
    world.each(told if told_first else reversed(told))
    assert (room(world, 4.0), room(world, 4.1)) == (True, False)
    world.each([part(1.0, "2"), order("open", remaining=4.0)])
    assert (room(world, 4.0), room(world, 4.1)) == (True, False)


def test_an_order_that_was_enlarged_counts_as_the_venue_reports() -> None:
    """More may remain than was checked; fills reduce the reported quantity."""
    world = market()
    ask(world, 2.0, id="a")
    world.each([fill("buy", 1.0, 100.0, id="1", order_id="a"), order("open", remaining=5.0)])
    assert (room(world, 4.0), room(world, 4.1)) == (True, False)
    world.step(fill("buy", 4.0, 100.0, id="2", order_id="a"))
    assert (room(world, 4.0), room(world, 4.1)) == (True, False)
    world.step(fill("buy", 1.0, 100.0, id="3", order_id="a"))
    assert_rests(world, 0.0)


def test_an_order_without_an_id_matches_no_report() -> None:
    """No id in a venue's report matches an order that was checked without one."""
    world = market(check_ttl=5.0)
    ask(world, 6.0, id=None)
    world.each(order("canceled", f"{mark}1", remaining=6.0) for mark in ("", "#", "-"))
    assert (room(world, 4.0), room(world, 4.1)) == (True, False)


def test_an_order_without_a_report_expires() -> None:
    """After `check_ttl` the order no longer counts, to the nanosecond."""
    world = market(check_ttl=5.0)
    ask(world, 6.0, id="a")
    world.wait(2)
    ask(world, 4.0)
    world.wait(2.9)
    assert not room(world, 0.1)
    world.wait(0.1)
    assert (room(world, 6.0), room(world, 6.1)) == (True, False)
    world.wait(2)
    assert room(world, 10.0)


def test_an_order_expires_after_five_seconds() -> None:
    """The default of `check_ttl` is 5 s."""
    world = market()
    ask(world, 6.0)
    world.wait(4.999)
    assert not room(world, 5.0)
    world.wait(0.001)
    assert room(world, 10.0)


@pytest.mark.parametrize(
    "heard",
    [order("open"), order("open", remaining=6.0), fill("buy", 1e-3, 100.0, order_id="a")],
)
def test_a_reported_order_does_not_expire(heard: ev.Event) -> None:
    """An order that rests at the venue counts until it is closed or filled."""
    world = market(check_ttl=5.0)
    ask(world, 6.0, id="a")
    world.step(heard)
    world.wait(600)
    assert not room(world, 4.1)
    world.step(order("canceled", remaining=0.1))
    world.wait(5.0)
    assert room(world, 9.9)


def test_a_second_check_of_an_order_replaces_the_first() -> None:
    """A repeated or changed check counts once; if it is refused, the first stays reserved."""
    world = market()
    assert ask(world, 6.0, id="a").allowed
    assert ask(world, 6.0, id="a").allowed
    assert ask(world, 8.0, id="a").allowed
    assert (room(world, 2.0), room(world, 2.1)) == (True, False)
    assert not ask(world, 11.0, id="a").allowed
    assert (room(world, 2.0), room(world, 2.1)) == (True, False)
    assert ask(world, -10.0, id="a").allowed
    assert room(world, 10.0)


def test_a_second_check_replaces_the_first_in_money() -> None:
    """A repeated check counts once in limits on notional too."""
    world = market(limit("total_notional", max=1_000.0), limit("inventory", max=1_000.0))
    assert ask(world, 6.0, id="a").allowed
    assert ask(world, 9.0, id="a").allowed
    assert (room(world, 1.0), room(world, 1.1)) == (True, False)


def test_reservations_of_all_venues_count_in_a_symbol() -> None:
    """Orders of one symbol count together whatever their venue; other symbols do not."""
    world = market()
    ask(world, 6.0, venue="kraken")
    ask(world, 3.0, venue="mexc")
    assert not room(world, 1.1)
    assert room(world, 10.0, symbol=ETH)


def test_reservations_in_limits_on_notional() -> None:
    """A reserved order counts at its own price, for the account over all symbols."""
    world = market(limit("total_notional", max=1_000.0), limit("total_position", max=10.0))
    ask(world, 6.0, price=50.0)
    assert room(world, 4.0, symbol=ETH, price=175.0)
    assert not room(world, 4.0, symbol=ETH, price=176.0)
    assert not room(world, 4.1, symbol=ETH, price=1.0)


# -- dry runs


def test_a_dry_run_changes_nothing() -> None:
    """`simulate` reserves, consumes, counts and trips nothing, and registers no scope."""
    world = market(
        limit("position", max=10.0, on_breach="trip"),
        limit("message_rate", max=1.0, burst=2.0),
        limit("repeat_orders", max=1.0, freeze_at=2.0),
        latency_limit(),
    )
    before = plain(world.engine)
    for _ in range(5):
        ask(world, 5.0, simulate=True, strategy="mm", id="a")
        ask(world, 50.0, simulate=True)
        ask(world, 1.0, simulate=True, symbol="NEW/USDT")
    assert plain(world.engine) == before


def test_a_dry_run_uses_no_permit() -> None:
    """At level probe a dry run is allowed and leaves the permit."""
    world = market(latency_limit())
    world.step(latency(1.0))
    world.confirm()
    world.wait(30)
    assert world.state("latency_p99") == "half_open"
    assert [room(world, 1.0) for _ in range(5)] == [True] * 5
    assert [ask(world, 1.0).allowed for _ in range(4)] == [True, True, True, False]


def test_a_refused_order_uses_no_permit() -> None:
    """An order that a limit refuses leaves the permit for another."""
    world = market(latency_limit(), limit("position", max=10.0))
    world.step(latency(1.0))
    world.confirm()
    world.wait(30)
    assert [ask(world, 11.0).allowed for _ in range(5)] == [False] * 5
    assert [ask(world, 1.0).allowed for _ in range(4)] == [True, True, True, False]


# -- reducing


@pytest.mark.parametrize("flag", [True, False])
def test_at_reduce_only_closing_orders_are_allowed(flag: bool) -> None:
    """At reduce_only an order may lower the position, but neither raise nor flip it."""
    world = market(limit("position", max=4.0))
    held(world, 5.0)
    assert world.level(SCOPE) == "reduce_only"
    for quantity, allowed in ((0.1, False), (-5.1, False), (-5.0, True), (-0.1, True)):
        assert room(world, quantity, reduce_only=flag) is allowed


def test_at_reduce_only_orders_together_cannot_flip() -> None:
    """Closing orders are reserved too: two of them cannot close the same part."""
    world = market(limit("position", max=4.0))
    held(world, 5.0)
    assert ask(world, -3.0, id="a").allowed
    assert not ask(world, -2.1).allowed
    assert ask(world, -4.0, id="a").allowed  # the same order, larger
    assert ask(world, -1.0).allowed
    world.step(order("canceled", remaining=4.0))
    assert ask(world, -4.0).allowed


def test_at_reduce_only_each_venue_closes_its_own() -> None:
    """An order at one venue does not close a position at another."""
    world = market(limit("position", max=4.0))
    held(world, 5.0)
    held(world, 2.0, venue="mexc")
    assert not room(world, -1.0, venue="okx")
    assert room(world, -5.0)
    assert ask(world, -5.0).allowed
    assert not room(world, -0.1)
    assert room(world, -2.0, venue="mexc")


def test_orders_of_the_other_side_do_not_prevent_closing() -> None:
    """A reserved buy does not reduce the quantity that may be sold."""
    world = market(limit("position", max=9.0))
    held(world, 5.0)
    ask(world, 4.0)
    held(world, 9.5)
    assert world.level(SCOPE) == "reduce_only"
    assert room(world, -9.5)


def test_at_halt_no_order_is_allowed() -> None:
    """At halt not even reducing orders are allowed; with `level = "reduce_only"` they are."""
    world = market(limit("position", max=4.0, on_breach="trip"))
    held(world, 5.0)
    assert world.level(SCOPE) == "halt"
    assert not room(world, -1.0)
    soft = market(limit("position", max=4.0, on_breach="trip", level="reduce_only"))
    held(soft, 5.0)
    assert room(soft, -1.0)


# -- answers


def test_a_refusal_names_every_limit_once() -> None:
    """A refusal gives limit, scope, value, bound and utilization, once for each limit."""
    world = market(limit("position", max=4.0), limit("order_quantity", max=1.0))
    held(world, 5.0)
    answer = ask(world, 3.0)
    assert answer.level == "reduce_only"
    assert [(r.limit, r.scope, r.value, r.bound, r.utilization) for r in answer.reasons] == [
        ("position", SCOPE, 8.0, 4.0, 2.0),
        ("order_quantity", SCOPE, 3.0, 1.0, 3.0),
    ]
    assert world.engine.state.blocked == {"order_quantity": 1, "position": 1}
    assert world.engine.state.checked == {"allowed": 0, "refused": 1}


def test_a_disabled_limit_refuses_nothing() -> None:
    """An operator's `disable` applies to checks too."""
    world = market()
    ask(world, 1.0)
    assert world.operate("disable", SCOPE, limit="position").status == 200
    assert ask(world, 50.0).allowed
    world.operate("enable", SCOPE, limit="position")
    assert not ask(world, 50.0).allowed


# -- restarts


def test_a_restored_engine_goes_on_with_what_was_reserved() -> None:
    """Reservations, tokens, repeats, heartbeats and edges are restored bit for bit."""
    world = market(
        limit("position", max=10.0),
        limit("total_notional", max=1_000.0),
        limit("message_rate", max=0.3, burst=4.0),
        limit("repeat_orders", max=2.0, freeze_at=4.0),
        limit("heartbeat", max=7.0),
        limit("edge", min=100.0),
        limit("staleness", max=9.0),
        limit("error_rate", min_samples=2),
    )
    world.each([ev.Heartbeat(strategy="mm"), ev.Edge(bps=150.0, strategy="mm")])
    for quantity in (0.1, 0.2, 0.3):  # sums that floats do not represent exactly
        ask(world, quantity, id=str(quantity), strategy="mm")
    world.each([order("open", "0.2", remaining=0.1), fill("buy", 0.1, 99.0, order_id="0.3")])
    world.step(order("canceled", "0.1", remaining=0.1))
    world.wait(1.7)
    restored = Engine.restore(world.engine.snapshot())
    assert restored.snapshot() == world.engine.snapshot()
    cut = len(world.log)
    ask(world, 0.7, strategy="mm")
    ask(world, 0.7, strategy="mm")
    world.step(ev.Edge(bps=90.0, strategy="mm"))
    ask(world, 0.7, strategy="mm")
    ask(world, 9.9)
    world.wait(20)
    twin = World()
    twin.engine, twin.now_ns = restored, world.log[cut][1]
    for events, at_ns in world.log[cut:]:
        twin.now_ns = at_ns
        twin.step(*events)
    assert plain(twin.engine) == plain(world.engine)
    assert twin.engine.levels == world.engine.levels
    assert twin.decisions[1:] == world.decisions[-len(twin.decisions[1:]) :]


def test_the_incident_of_an_order_has_the_value_that_tripped() -> None:
    """The incident has 101 of 100, not the 90 from before the order."""
    world = World(limit("position", max=100.0, on_breach="trip"))
    world.step(fill("buy", 90.0, 1.0, "M1"))
    world.check(symbol="M1", quantity=11.0)
    (trip,) = world.transitions
    assert trip.value == 101.0
