"""Sums of reserved orders, and what is remembered, after any sequence of reports."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from riskmon.core import events as ev
from riskmon.core.book.orders import ReservationsState
from riskmon.core.book.pending import NOTHING, Amounts, Reservation
from riskmon.core.book.reservations import (
    ENDED_MAX,
    OrderWorth,
    Reservations,
    whole,
)
from riskmon.core.decisions import CheckAnswer
from tests.core import FEW, MANY, SECOND

TTL_NS = 5 * SECOND
SYMBOL = "BTC/USDT"
WORTH = OrderWorth(notional=0.1, base=1.0)


def made(state: ReservationsState | None = None) -> Reservations:
    """Reservations of a state, with a timer that never fires."""
    return Reservations(state or ReservationsState(), TTL_NS, lambda key, due_ns: None)


def reserve(orders: Reservations, now_ns: int, **fields: Any) -> Reservation:
    """Reserve an order as a permitted check does."""
    quantity = fields.setdefault("quantity", 0.3)
    values = {"venue": "kraken", "symbol": SYMBOL, "side": "buy", **fields}
    worths = {"notional": whole(WORTH.notional, quantity), "base": whole(WORTH.base, quantity)}
    order = Reservation(**{**worths, **values})
    orders.reserve(order, now_ns)
    return order


def sides(orders: Reservations) -> tuple[Amounts, Amounts]:
    """The buys and the sells that move the position in the symbol."""
    return orders.pending.sides(SYMBOL) or (NOTHING, NOTHING)


def sums(orders: Reservations) -> dict[str, Any]:
    """All that is derived, by symbol and venue."""
    pending = orders.pending
    return {
        symbol: (
            pending.sides(symbol),
            [pending.sides_at(symbol, venue) for venue in ("kraken", "mexc")],
            [[one.key for one in pending.orders(symbol, venue)] for venue in ("kraken", "mexc")],
            pending.resting_in(symbol),
        )
        for symbol in sorted(pending.symbols())
    } | {
        "resting": orders.resting(),
        "kraken": orders.resting_at("kraken"),
        "assets": [sorted(pending.symbols_of(asset)) for asset in ("BTC", "ETH", "USDT")],
    }


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("check", "open", "closed", "canceled", "fill", "none", "all", "wait")),
        st.sampled_from(("a", "b", "c")),
        st.sampled_from(("kraken", "mexc")),
        st.sampled_from((SYMBOL, "ETH/USDT")),
        st.sampled_from((0.1, 0.2, 0.3, 1e-9, 1e12)),
        st.none() | st.sampled_from((0.0, 0.1, 0.2)),
    ),
    max_size=40,
)


def apply(orders: Reservations, number: int, now_ns: int, what: Any) -> None:
    """Apply one step."""
    kind, name, venue, symbol, quantity, remaining = what
    if kind == "check":
        fields = {"id": name if remaining is None else "", "symbol": symbol, "venue": venue}
        reserve(orders, now_ns, **fields, quantity=quantity)
    elif kind in ("open", "closed", "canceled"):
        report = ev.Order(
            id=name, venue=venue, symbol=symbol, status=kind, side="sell", remaining=remaining
        )
        report.quantity = None if number % 2 else quantity
        if not orders.on_order(venue, report, now_ns, now_ns):
            orders.reserve_open(
                venue, report, WORTH, position=symbol, has_events=False, at_ns=now_ns, now_ns=now_ns
            )
    elif kind == "fill":
        event = ev.Fill(
            id=str(number),
            venue=venue,
            symbol=symbol,
            side="buy",
            quantity=quantity,
            price=1.0,
            order_id=name if remaining is None else None,
        )
        orders.on_fill(event, now_ns, now_ns)
    elif kind == "none":
        list(orders.on_open_orders(venue, number % 3, now_ns, now_ns))
    elif kind == "all":
        list(orders.on_orders(venue, [name], now_ns, now_ns))
    orders.on_timer(now_ns)


def check_story(steps: list[Any]) -> None:
    orders, now_ns = made(), SECOND
    for number, what in enumerate(steps):
        now_ns += 3 * SECOND if what[0] == "wait" else SECOND // 2
        apply(orders, number, now_ns, what)
        for key, one in orders.state.reserved.items():
            assert key == one.key
            assert one.left >= 0
        stored = msgspec.msgpack.encode(orders.state)
        again = made(msgspec.msgpack.decode(stored, type=ReservationsState))
        assert sums(again) == sums(orders)
        assert msgspec.msgpack.encode(again.state) == stored


@FEW
@given(STEPS)
def test_sums_are_those_of_a_restart(steps: list[Any]) -> None:
    """Whatever was reported in whatever order: no bit differs from the sums that are made anew."""
    check_story(steps)


@pytest.mark.slow
@MANY
@given(STEPS)
def test_sums_are_those_of_a_restart_long(steps: list[Any]) -> None:
    """As above, with many more examples."""
    check_story(steps)


def test_a_report_without_news_changes_no_sum() -> None:
    """What venues list again and again is not derived again; less of it remaining is."""
    orders = made()
    reserve(orders, SECOND, id="A", quantity=3.0)
    orders.pending.changed.clear()
    for remaining in (3.0, None):
        report = ev.RestingOrder(id="A", symbol=SYMBOL, quantity=3.0, remaining=remaining)
        assert orders.on_order("kraken", report, 2 * SECOND, 2 * SECOND)
        assert not orders.pending.changed
    report = ev.RestingOrder(id="A", symbol=SYMBOL, remaining=2.0)
    assert orders.on_order("kraken", report, 3 * SECOND, 3 * SECOND)
    assert orders.pending.changed
    orders.pending.changed.clear()
    for quantity in (4.0, 2.5):
        report = ev.RestingOrder(id="A", symbol=SYMBOL, quantity=quantity, remaining=2.0)
        assert orders.on_order("kraken", report, 4 * SECOND, 4 * SECOND)
        assert orders.pending.changed, "it was changed at the venue"
        orders.pending.changed.clear()


def test_sums_of_what_is_gone_are_nothing() -> None:
    """Ten thousand orders of all scales, released in another order, leave no rest."""
    orders, now_ns = made(), SECOND
    names = [str(number) for number in range(10_000)]
    for number, name in enumerate(names):
        reserve(orders, now_ns, id=name, quantity=10.0 ** (number % 20 - 8) / 3)
    for name in reversed(names):
        report = ev.Order(id=name, venue="kraken", symbol=SYMBOL, status="canceled")
        report.remaining = orders.state.reserved[f"kraken|{name}"].quantity
        orders.on_order("kraken", report, now_ns + 1, now_ns + 1)
    assert sides(orders) == (Amounts(0.0, 0.0),) * 2
    assert orders.resting() == 0


def test_a_bounded_number_of_ended_orders_is_remembered() -> None:
    """The oldest are forgotten; refused checks too."""
    orders = made()
    for number in range(ENDED_MAX + 10):
        reserve(orders, SECOND, id=str(number))
        report = ev.Order(id=str(number), venue="kraken", symbol=SYMBOL, status="canceled")
        report.remaining = 0.3
        orders.on_order("kraken", report, SECOND + number, SECOND + number)
        check = ev.Check(venue="kraken", symbol=SYMBOL, side="buy", id=str(number))
        orders.refuse(check, CheckAnswer(allowed=False, level="allow"), SECOND + number)
    assert len(orders.state.reserved) == ENDED_MAX
    assert "kraken|9" not in orders.state.reserved
    assert len(orders.state.refused) == ENDED_MAX


def test_an_earlier_snapshot_is_read() -> None:
    """Its orders have no venue in their keys; what was executed does not count again."""
    stored = {
        "reserved": {
            "a": {
                "venue": "kraken", "symbol": SYMBOL, "side": "buy", "quantity": 6.0,
                "notional": 600.0, "left": 4.0, "filled": 1.0, "told": 2.0,
            },
            "\n1": {
                "venue": "mexc", "symbol": SYMBOL, "side": "sell", "quantity": 2.0,
                "notional": None, "left": 2.0,
            },
        },
        "pending": {SYMBOL: {"count": 2}},
        "unheard_ns": {"\n1": SECOND},
        "made": 1,
    }  # fmt: skip
    orders = made(msgspec.convert(deepcopy(stored), ReservationsState))
    buys, sells = sides(orders)
    assert (buys.quantity, sells.quantity) == (4.0, 2.0)
    assert buys.notional == pytest.approx(400.0)
    orders.on_timer(SECOND + TTL_NS)
    assert list(orders.state.reserved) == ["kraken|a"]
    assert sides(orders)[1].quantity == 0.0
