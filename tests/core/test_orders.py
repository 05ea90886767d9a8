"""Reports of orders: what is reserved because of them, and what they release."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import LimitConfig
from riskmon.core.decisions import CheckAnswer
from riskmon.core.engine import Engine
from tests.core import BEGIN_WALL_NS, OMS, SECOND, World, fill, limit, price

PERP = "BTC/USDT:USDT"
SPOT = "BTC/USDT"
MONEY = PortfolioConfig(initial_capital=10_000.0)


def market(*limits: LimitConfig, **config: Any) -> World:
    """A world with a bound of 10 on the position; a perpetual and its spot symbol cost 100."""
    world = World(
        *(limits or (limit("position", max=10.0),)),
        **{"portfolio": MONEY, "targets": OMS, "check_ttl": 5.0, **config},
    )
    heartbeat = ev.Heartbeat(venue="kraken", strategy="mm")
    world.each([heartbeat, ev.Heartbeat(venue="mexc"), price(PERP, 100.0), price(SPOT, 100.0)])
    return world


def ask(world: World, quantity: float, **more: Any) -> CheckAnswer:
    """Check an order of a quantity, a sale if below 0, at a price of 100."""
    side = "buy" if quantity > 0 else "sell"
    order = {"symbol": PERP, "price": 100.0, "side": side, "quantity": abs(quantity)}
    return world.check(**{**order, **more})


def assert_room(world: World, expected: float, **more: Any) -> None:
    """Assert how much may be bought, by dry runs."""
    fits = [ask(world, expected + off, **more, simulate=True).allowed for off in (0.0, 0.1)]
    assert fits == [True, False]


def order(status: Any = "open", name: str = "a", **more: Any) -> ev.Order:
    """A venue's report of an order."""
    return ev.Order(**{"id": name, "venue": "kraken", "symbol": PERP, "status": status, **more})


def resting(name: str, **more: Any) -> ev.RestingOrder:
    """A member of a report of all orders."""
    return ev.RestingOrder(**{"id": name, "symbol": PERP, "side": "buy", "quantity": 2.0, **more})


def ago(world: World, seconds: float) -> datetime:
    """The date so many seconds before now."""
    wall_ns = BEGIN_WALL_NS + world.now_ns
    return datetime.fromtimestamp(wall_ns // SECOND, UTC) - timedelta(seconds=seconds)


# -- orders that were not checked


def test_an_open_order_that_was_not_checked_is_reserved() -> None:
    """With its side and quantity, until it is closed; it does not expire."""
    world = market()
    world.step(order(side="buy", quantity=6.0, price=100.0))
    world.wait(600)
    assert_room(world, 4.0)
    world.step(order("canceled", remaining=6.0))
    assert_room(world, 10.0)


def test_only_what_remains_of_it_is_reserved_for_long() -> None:
    """4 of 6 remain: 2 were executed, and wait for their fills for `check_ttl`."""
    world = market()
    world.step(order(side="buy", quantity=6.0, remaining=4.0, price=100.0))
    assert_room(world, 4.0)
    world.wait(5)
    assert_room(world, 6.0)
    world.step(order(name="b", side="buy", remaining=1.0))
    assert_room(world, 5.0)


def test_its_notional_is_at_its_price_or_the_mark() -> None:
    """A price that is absent, as of a market order, is the mark."""
    world = market(limit("inventory", max=1_000.0))
    world.step(order(side="buy", quantity=6.0, price=50.0))
    assert_room(world, 7.0)
    world.step(order(name="b", side="buy", quantity=2.0))
    assert_room(world, 5.0)


def test_one_whose_side_is_not_reported_counts_on_both() -> None:
    """Either side may be filled; and one of unknown size counts when that is reported."""
    world = market()
    world.step(order(quantity=6.0))
    assert_room(world, 4.0)
    assert not ask(world, -4.1, simulate=True).allowed
    world.step(order(name="b"))
    assert_room(world, 4.0)
    world.step(order(name="b", side="buy", quantity=1.0))
    assert_room(world, 3.0)


def test_ids_are_those_of_a_venue() -> None:
    """1001 at one venue is not 1001 at another."""
    world = market()
    ask(world, 3.0, id="1001")
    ask(world, 2.0, id="1001", venue="mexc")
    assert_room(world, 5.0)
    world.step(order("canceled", "1001", venue="mexc", remaining=2.0))
    assert_room(world, 7.0)


def test_a_clients_id_links_a_check_to_an_order() -> None:
    """The venue reports the order under its own id, and its fills too."""
    world = market()
    ask(world, 6.0, id="mine")
    world.step(order(name="1001", client_id="mine", side="buy", quantity=6.0))
    assert_room(world, 4.0)
    world.step(fill("buy", 2.0, 100.0, id="1", order_id="1001"))
    assert_room(world, 4.0)
    world.step(order("canceled", "1001", remaining=4.0))
    assert_room(world, 8.0)


def test_a_fill_may_name_the_clients_id() -> None:
    """It is found by either id."""
    world = market()
    ask(world, 6.0, id="mine")
    world.step(fill("buy", 2.0, 100.0, id="1", order_id="1001", client_id="mine"))
    assert_room(world, 4.0)
    world.step(fill("buy", 1.0, 100.0, id="2", order_id="1001"))
    assert_room(world, 4.0)


def test_an_order_that_was_checked_without_an_id_is_reported_with_one() -> None:
    """It is the one with its terms, and counts once."""
    world = market()
    ask(world, 6.0)
    world.step(order(name="1001", side="buy", quantity=6.0))
    assert_room(world, 4.0)
    world.step(order(name="1002", side="buy", quantity=1.0))
    assert_room(world, 3.0)


# -- all orders of a venue


def test_all_orders_of_a_venue() -> None:
    """What it lists and is unknown counts; what is missing is released; what is unheard stays."""
    world = market()
    ask(world, 1.0, id="unheard")
    world.step(order(name="gone", side="buy", quantity=3.0))
    world.step(order(name="elsewhere", side="buy", quantity=1.0, venue="mexc"))
    world.wait(1)
    assert_room(world, 5.0)
    world.step(ev.Orders(venue="kraken", orders=[resting("new")]))
    assert_room(world, 6.0)
    world.wait(4)
    assert_room(world, 7.0)


def test_all_orders_release_none_that_was_reported_after_they_were_taken() -> None:
    """The list is from 10 s ago, the order from 3 s ago."""
    world = market()
    world.wait(20)
    world.step(order(side="buy", quantity=3.0, at=ago(world, 3)))
    world.step(ev.Orders(venue="kraken", orders=[], at=ago(world, 10)))
    assert_room(world, 7.0)
    world.step(ev.Orders(venue="kraken", orders=[], at=ago(world, 1)))
    assert_room(world, 10.0)


def test_an_order_that_cannot_be_read_is_not_taken_for_one_that_is_gone() -> None:
    """A dropped member is named, or may be any order."""
    world = market()
    world.step(order(side="buy", quantity=3.0), order(name="b", side="buy", quantity=2.0))
    world.wait(1)
    world.step(ev.Orders(venue="kraken", orders=[], unread=("a", "")))
    assert_room(world, 5.0)
    world.step(ev.Orders(venue="kraken", orders=[], unread=("a",)))
    assert_room(world, 7.0)


def test_no_open_orders_release_what_was_reported() -> None:
    """`open_orders` of 0: the reported one is gone, the unheard keeps its `check_ttl`."""
    world = market()
    ask(world, 2.0, id="unheard")
    ask(world, 3.0, id="a")
    world.step(order())
    world.wait(1)
    world.step(ev.OpenOrders(venue="mexc", count=0), ev.OpenOrders(venue="kraken", count=1))
    assert_room(world, 5.0)
    world.step(ev.OpenOrders(venue="kraken", count=0))
    assert_room(world, 8.0)


def test_what_was_executed_of_a_released_order_waits_for_its_fills() -> None:
    """2 of 6 were executed a second ago: they wait for 4 s more."""
    world = market()
    world.step(order(side="buy", quantity=6.0))
    world.step(order(side="buy", quantity=6.0, remaining=4.0))
    world.wait(1)
    world.step(ev.OpenOrders(venue="kraken", count=0))
    assert_room(world, 8.0)
    world.wait(4)
    assert_room(world, 10.0)


@pytest.mark.parametrize(
    ("scope", "open_orders", "left"),
    [
        ("account", 0, 10.0),
        ("venue:kraken", 0, 10.0),
        ("venue:kraken", None, 4.0),
        ("venue:mexc", 0, 4.0),
        (f"symbol:{PERP}", 0, 10.0),
        (f"symbol:{SPOT}", 0, 4.0),
        ("asset:BTC", 0, 10.0),
        ("asset:ETH", 0, 4.0),
        ("strategy:mm", 0, 10.0),
    ],
)
def test_a_confirmed_cancel_releases_the_orders_of_its_scope(
    scope: str, open_orders: int | None, left: float
) -> None:
    """The bot died after `open`; the target says that none rests, or only that it is done."""
    world = market()
    world.step(*[ev.Metric(name="m", value=1.0, asset=asset) for asset in ("BTC", "ETH")])
    world.step(order(side="buy", quantity=6.0, strategy="mm"))
    world.wait(1)
    world.operate("trip", scope)
    world.wait(world.config.lease)
    for sweep in (1, 2):
        event = ev.CancelAnswered(
            incident=world.incident, sweep=sweep, target="oms", done=True, open_orders=open_orders
        )
        world.step(event)
    world.operate("reset", scope)
    assert_room(world, left)


# -- the same check again


def test_the_same_check_again_has_the_same_answer() -> None:
    """It reserves nothing more, is no repeat, and takes no token."""
    world = market(
        limit("position", max=10.0),
        limit("repeat_orders", max=1.0),
        limit("message_rate", max=0.001, burst=2.0),
        limit("order_count", max=2.0),
    )
    answers = [ask(world, 6.0, id="a", strategy="mm") for _ in range(5)]
    assert [one.allowed for one in answers] == [True] * 5
    world.wait(4.9)
    assert ask(world, 6.0, id="a", strategy="mm").allowed
    assert_room(world, 4.0)


def test_a_refused_check_again_has_the_same_reasons() -> None:
    """Within `check_ttl`, though the position is gone; after it, the order is judged anew."""
    world = market()
    world.step(ev.Position(venue="kraken", symbol=PERP, quantity=8.0, entry_price=100.0))
    first = ask(world, 6.0, id="a")
    world.step(ev.Position(venue="kraken", symbol=PERP, quantity=0.0, entry_price=0.0))
    assert ask(world, 6.0, id="a") == first
    world.wait(5)
    assert ask(world, 6.0, id="a").allowed


def test_the_same_check_at_another_level_is_judged_anew() -> None:
    """A trip between the two: the second is refused; and allowed again after its end."""
    world = market(targets=())
    assert ask(world, 6.0, id="a").allowed
    world.operate("freeze")
    assert not ask(world, 6.0, id="a").allowed
    world.operate("unfreeze")
    assert ask(world, 6.0, id="a").allowed
    assert_room(world, 4.0)


def test_an_order_that_rests_is_remembered_for_as_long() -> None:
    """The same check an hour later is no second order; after its end it is forgotten."""
    world = market()
    ask(world, 6.0, id="a")
    world.step(order())
    world.wait(3_600)
    assert ask(world, 6.0, id="a").allowed
    assert_room(world, 4.0)
    world.step(order("canceled", remaining=6.0))
    assert ask(world, 6.0, id="a").allowed
    assert_room(world, 10.0)
    world.wait(5)
    assert ask(world, 6.0, id="a").allowed
    assert_room(world, 4.0)


def test_a_changed_check_replaces_the_first() -> None:
    """The same id with other terms is another order in its place."""
    world = market()
    ask(world, 6.0, id="a")
    assert ask(world, 8.0, id="a").allowed
    assert_room(world, 2.0)


# -- what an order may close


def held(world: World, quantity: float) -> None:
    """A position that the venue reports."""
    world.step(ev.Position(venue="kraken", symbol=PERP, quantity=quantity, entry_price=100.0))


def test_a_reduce_only_order_is_refused_where_it_would_increase() -> None:
    """At every level, with what it would come to and what is held."""
    world = market()
    held(world, 5.0)
    for quantity in (1.0, -5.1):
        (reason,) = ask(world, quantity, reduce_only=True).reasons
        assert (reason.limit, reason.value) == ("reduce_only", abs(quantity))
        assert reason.bound == (0.0 if quantity > 0 else 5.0)
    assert ask(world, -5.0, reduce_only=True).allowed


def test_orders_that_only_reduce_may_stand_beside_each_other() -> None:
    """A stop rests; the exit of the whole position is not refused because of it."""
    world = market()
    held(world, 5.0)
    world.step(order(side="sell", quantity=5.0, reduce_only=True))
    assert ask(world, -5.0, reduce_only=True, simulate=True).allowed
    world.step(order(name="b", side="sell", quantity=2.0))
    assert not ask(world, -5.0, reduce_only=True, simulate=True).allowed
    assert ask(world, -3.0, reduce_only=True, simulate=True).allowed


def test_close_position_needs_no_quantity() -> None:
    """All that is held, as a market order without a price; nothing held is refused."""
    world = market(limit("order_quantity", max=5.0))
    close: dict[str, Any] = {"symbol": PERP, "quantity": None, "price": None, "side": "sell"}
    assert not world.check(**close, close_position=True).allowed
    held(world, 5.0)
    assert world.check(**close, close_position=True, id="a").allowed
    assert not world.check(**{**close, "side": "buy"}, close_position=True).allowed
    reserved = world.engine.state.orders.reserved["kraken|a"]
    assert (reserved.quantity, reserved.side, reserved.reduce_only) == (5.0, "sell", True)
    held(world, 5.1)
    (reason,) = world.check(**close, close_position=True).reasons
    assert (reason.limit, reason.value) == ("order_quantity", 5.1)


# -- restarts


def test_a_restart_keeps_what_waits() -> None:
    """Links, executed parts that wait, ended orders and counts are as before."""
    world = market()
    ask(world, 2.0, id="mine")
    world.step(order(name="1001", client_id="mine", side="buy", quantity=2.0, remaining=1.0))
    world.step(order(name="b", side="buy", quantity=3.0))
    world.wait(1)
    world.step(order("canceled", "b", remaining=3.0))
    before = world.engine.snapshot()
    world.engine = Engine.restore(before)
    assert world.engine.snapshot() == before
    assert_room(world, 8.0)
    world.wait(4)
    assert_room(world, 9.0)
    world.step(order(name="b", side="buy", quantity=3.0))  # the end of b is not forgotten yet
    world.step(order("canceled", "1001", remaining=1.0))
    assert_room(world, 10.0)
