"""Orders that were permitted and are not filled yet: they count as if they were.

An allowed check reserves its order. The reservation ends when an ``order`` event closes the order
or its fills use it up, and after ``check_ttl`` if nothing was heard of it. What is left of an order
is told twice, by its fills and by the venue's ``remaining``, in any order: the smaller one counts.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, field

from riskmon.core import events as ev
from riskmon.core.money import Sum

_USED_UP = 1e-9  # of its quantity: what is less is the rounding of floats


class Reservation(Struct):
    """A permitted order; ``notional`` is of the whole ``quantity``, in the reference."""

    venue: str
    symbol: str
    side: ev.Side
    quantity: float
    notional: float | None
    left: float  # of the quantity
    filled: Sum = field(default_factory=Sum)  # of the quantity, by its fills


class Pending(Struct):
    """What is reserved in a symbol: base units or contracts, and the reference."""

    count: int = 0
    buys: Sum = field(default_factory=Sum)
    sells: Sum = field(default_factory=Sum)
    buys_notional: Sum = field(default_factory=Sum)
    sells_notional: Sum = field(default_factory=Sum)


class OrdersState(Struct):
    """Everything that is remembered of permitted orders."""

    reserved: dict[str, Reservation] = field(default_factory=dict)
    # Kept, not added up again after a restore: in another order the last bit may be another.
    pending: dict[str, Pending] = field(default_factory=dict)  # by symbol
    unheard_ns: dict[str, int] = field(default_factory=dict)  # when they were permitted, in order
    made: int = 0  # ids given to orders without one


class Orders:
    """The permitted orders of an account."""

    def __init__(
        self, state: OrdersState, ttl_ns: int, arm: Callable[[tuple[str, str, str], int], None]
    ) -> None:
        self.state = state
        self.ttl_ns = ttl_ns
        self.arm = arm
        self.pending = state.pending

    def reserve(self, order: ev.Check, notional: float | None, now_ns: int) -> None:
        """Let an order count. One that is known by its id takes the place of the earlier."""
        state = self.state
        state.made += order.id is None
        name = order.id or f"\n{state.made}"  # no id of anyone's: those are printable
        self.release(name)
        reservation = Reservation(
            order.venue, order.symbol, order.side, order.quantity, notional, order.quantity
        )
        state.reserved[name] = reservation
        state.unheard_ns[name] = now_ns
        self._count(reservation, reservation.left, 1)
        self.arm(("reserve", "", ""), now_ns + self.ttl_ns)

    def release(self, name: str) -> None:
        """An order no longer counts."""
        self.state.unheard_ns.pop(name, None)
        reservation = self.state.reserved.pop(name, None)
        if reservation is not None:
            self._count(reservation, -reservation.left, -1)

    def on_order(self, event: ev.Order) -> None:
        """What the venue says of an order."""
        reservation = self.state.reserved.get(event.id)
        if reservation is None:
            return
        if event.status == "closed":
            self.release(event.id)
            return
        self.state.unheard_ns.pop(event.id, None)
        if event.remaining is not None:
            remaining, filled = float(event.remaining), reservation.filled
            if remaining > reservation.quantity:  # it was made larger at the venue
                filled.add(reservation.quantity - filled.value - remaining)
            self._leave(event.id, reservation, min(remaining, reservation.quantity - filled.value))

    def on_fill(self, event: ev.Fill) -> None:
        """A fill uses up the order it belongs to."""
        name = event.order_id
        reservation = self.state.reserved.get(name) if name is not None else None
        if reservation is not None and name is not None:
            self.state.unheard_ns.pop(name, None)
            reservation.filled.add(float(event.quantity))
            unfilled = reservation.quantity - reservation.filled.value
            self._leave(name, reservation, min(reservation.left, unfilled))

    def earlier(self, order: ev.Check) -> Reservation | None:
        """What was reserved for an order that is asked for again."""
        found = self.state.reserved.get(order.id) if order.id is not None else None
        return found if found is not None and found.symbol == order.symbol else None

    def left(self, venue: str, symbol: str, side: ev.Side) -> float:
        """How much is reserved on one side of a symbol at one venue."""
        return sum(
            one.left
            for one in self.state.reserved.values()
            if (one.venue, one.symbol, one.side) == (venue, symbol, side)
        )

    def on_timer(self, now_ns: int) -> None:
        """Give up the orders of which nothing was heard."""
        for name, at_ns in list(self.state.unheard_ns.items()):
            if now_ns < at_ns + self.ttl_ns:
                self.arm(("reserve", "", ""), at_ns + self.ttl_ns)
                break
            self.release(name)

    def _leave(self, name: str, reservation: Reservation, left: float) -> None:
        if left <= reservation.quantity * _USED_UP:
            self.release(name)
        else:
            self._count(reservation, left - reservation.left, 0)
            reservation.left = left

    def _count(self, reservation: Reservation, change: float, count: int) -> None:
        pending = self.pending.get(reservation.symbol)
        if pending is None:
            pending = self.pending[reservation.symbol] = Pending()
        pending.count += count
        if not pending.count:
            del self.pending[reservation.symbol]
            return
        buys = reservation.side == "buy"
        (pending.buys if buys else pending.sells).add(change)
        if reservation.notional is not None:
            notional = reservation.notional * change / reservation.quantity
            (pending.buys_notional if buys else pending.sells_notional).add(notional)
