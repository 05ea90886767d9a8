"""Differences between what reports say of an order: kinds `order` and `fill`."""

from __future__ import annotations

from typing import Any

import pytest

from riskmon.core import events as ev
from riskmon.core.decisions import Notice
from riskmon.core.engine import Engine
from tests.core import World

SYMBOL = "BTC/USDT"


def order(name: str, status: Any = "open", **more: Any) -> ev.Order:
    """A report of an order of 2."""
    given = {"side": "buy", "quantity": 2.0, "price": 100.0, **more}
    return ev.Order(id=name, venue="kraken", symbol=SYMBOL, status=status, **given)


def listed(*names: str) -> ev.Orders:
    """All orders that rest at the venue."""
    orders = [
        ev.RestingOrder(id=name, symbol=SYMBOL, side="buy", quantity=2.0, price=100.0)
        for name in names
    ]
    return ev.Orders(venue="kraken", orders=orders)


def fill(quantity: float = 2.0, order_id: str | None = "a", name: str = "1") -> ev.Fill:
    """A fill of an order."""
    return ev.Fill(
        id=name,
        venue="kraken",
        symbol=SYMBOL,
        side="buy",
        quantity=quantity,
        price=100.0,
        order_id=order_id,
    )


def later(world: World, *events: ev.Event, seconds: float = 1.0) -> None:
    """Apply events, each a while after the one before."""
    for event in events:
        world.step(event)
        world.wait(seconds)


def counted(world: World) -> dict[str, int]:
    """The differences at the venue by kind."""
    return {one.kind: one.count for one in world.portfolio.differences if one.venue == "kraken"}


OTHER = fill(1.0, None, "0")  # the venue reports fills


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        # A list lacks an order that an event said to rest.
        ([order("a"), listed()], {"order": 1}),
        ([order("a"), listed(), listed()], {"order": 1}),
        ([order("a"), listed("a")], {}),
        ([order("a"), listed(), order("a", "canceled", remaining=2.0)], {}),
        ([order("a"), listed(), fill()], {}),
        ([order("a"), listed(), fill(1.0)], {"order": 1}),
        ([listed("a"), listed()], {}),  # lists alone report the orders of the venue
        # A list has an order that no event names.
        ([order("b"), listed("a", "b")], {"order": 1}),
        ([order("b"), listed("a", "b"), listed("a", "b")], {"order": 1}),
        ([order("b"), listed("a", "b"), order("a")], {}),
        ([order("b"), listed("a", "b"), fill(1.0)], {}),
        ([listed("a", "b")], {}),
        # An order was executed, and no fill reports it.
        ([OTHER, order("a"), order("a", "closed")], {"fill": 1}),
        ([OTHER, order("a"), order("a", "closed"), fill(1.5)], {"fill": 1}),
        ([OTHER, order("a"), order("a", remaining=1.5)], {"fill": 1}),
        ([OTHER, order("a"), order("a", "closed"), fill()], {}),
        ([OTHER, order("a"), fill(), order("a", "closed")], {}),
        ([OTHER, order("a"), order("a", "closed"), fill(order_id=None)], {}),
        ([OTHER, order("a"), order("a", "canceled")], {}),  # how much of it is unknown
        ([OTHER, order("a"), order("a", "canceled", remaining=2.0)], {}),
        ([order("a"), order("a", "closed")], {}),  # no fills are reported there
    ],
)
def test_what_is_counted(events: list[ev.Event], expected: dict[str, int]) -> None:
    """A difference counts once, when `check_ttl` (5 s) has passed and nothing explains it."""
    world = World()
    later(world, *events)
    before = counted(world)
    world.wait(10.0)
    assert (before, counted(world)) == ({}, expected)
    world.wait(60.0)
    assert counted(world) == expected
    texts = [one.text for one in world.decisions if isinstance(one, Notice)]
    assert [text.startswith("kraken: order a in BTC/USDT ") for text in texts] == [
        True for _ in expected
    ]


@pytest.mark.parametrize("events", [[order("b"), listed("a", "b")], [order("b"), listed()]])
def test_a_restart_keeps_what_is_awaited(events: list[ev.Event]) -> None:
    """The same is counted, at the same time, after a restore in between."""
    whole, cut = World(), World()
    for world in (whole, cut):
        later(world, *events)
    cut.engine = Engine.restore(cut.engine.snapshot())
    for seconds in (3.9, 0.2, 10.0):
        whole.wait(seconds)
        cut.wait(seconds)
        assert counted(whole) == counted(cut)
    assert counted(cut)


def test_a_check_names_an_order() -> None:
    """An order that was checked with its id is expected in a list."""
    world = World()
    later(world, order("b"))
    checked = {"side": "buy", "quantity": 2.0, "price": 100.0, "id": "a"}
    assert world.check(symbol=SYMBOL, **checked).allowed
    later(world, listed("a", "b"))
    world.wait(10.0)
    assert counted(world) == {}
