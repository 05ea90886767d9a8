"""Orders that were permitted and are not filled yet: they count as if they were filled.

An allowed check reserves its order. The reservation ends when an ``order`` event closes the order
or its fills use it up, and after ``check_ttl`` if no event names it.

The executed quantity of an order is reported twice, in any order: by its fills, and by the quantity
that the venue reports as remaining. Both only grow and neither exceeds the true one, so the larger
one counts, and the reserved quantity is never less than the resting one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import Struct, field

from riskmon.core import events as ev
from riskmon.core.book.money import Sum
from riskmon.core.timers import Timer, TimerKey, timer_key

_USED_UP = 1e-9  # of its quantity: a smaller rest is the rounding of floats


class Reservation(Struct):
    """A permitted order; ``notional`` is of the whole ``quantity``, in the reference."""

    venue: str
    symbol: str
    side: ev.Side
    quantity: float
    notional: float | None
    left: float  # of the quantity
    filled: float = 0.0  # by its fills
    executed: float = field(default=0.0, name="told")  # by the reported remaining quantity
    filled_before: float = 0.0  # by its fills before it was checked again, as a change


class Pending(Struct):
    """The reserved orders of a symbol: base units or contracts, and the reference."""

    count: int = 0
    buys: Sum = field(default_factory=Sum)
    sells: Sum = field(default_factory=Sum)
    buys_notional: Sum = field(default_factory=Sum)
    sells_notional: Sum = field(default_factory=Sum)


class ReservationsState(Struct):
    """The permitted orders, and their sums."""

    reserved: dict[str, Reservation] = field(default_factory=dict)
    # Stored, not added up again after a restore: the last bit depends on the order of additions.
    pending: dict[str, Pending] = field(default_factory=dict)  # by symbol
    # When orders without an event since were permitted, oldest first.
    unconfirmed_ns: dict[str, int] = field(default_factory=dict, name="unheard_ns")
    made: int = 0  # ids given to orders without one


class Reservations:
    """The permitted orders of an account."""

    def __init__(
        self,
        state: ReservationsState,
        ttl_ns: int,
        arm: Callable[[TimerKey, int], None],
    ) -> None:
        self.state = state
        self.ttl_ns = ttl_ns
        self.arm = arm
        self.pending = state.pending
        # As `unconfirmed_ns`, with outdated entries: the oldest is found without a search.
        self._waiting_orders = deque((at_ns, name) for name, at_ns in state.unconfirmed_ns.items())
        self.touched: dict[str, bool] = {}  # symbols that changed; `Commitments` empties it

    def reserve(self, order: ev.Check, notional: float | None, now_ns: int) -> None:
        """Reserve an order. It replaces an earlier one with its id."""
        state = self.state
        state.made += order.id is None
        # The name of an order without an id cannot be a reported id: those are printable.
        name = order.id or f"\n{state.made}"
        earlier = state.reserved.get(name)
        if earlier is not None:
            self.release(name)
        reservation = Reservation(
            order.venue, order.symbol, order.side, order.quantity, notional, order.quantity
        )
        if earlier is not None:
            reservation.filled_before = earlier.filled_before + earlier.filled
        state.reserved[name] = reservation
        state.unconfirmed_ns[name] = now_ns
        self._waiting_orders.append((now_ns, name))
        self._count(reservation, reservation.left, 1)
        if len(self._waiting_orders) == 1:  # else the timer of the oldest is armed
            self.arm(timer_key(Timer.RESERVATION), now_ns + self.ttl_ns)

    def release(self, name: str) -> None:
        """End the reservation of an order."""
        self.state.unconfirmed_ns.pop(name, None)
        reservation = self.state.reserved.pop(name, None)
        if reservation is not None:
            self._count(reservation, -reservation.left, -1)

    def on_order(self, event: ev.Order) -> None:
        """Apply an order's state as the venue reports it."""
        reservation = self.state.reserved.get(event.id)
        if reservation is None:
            return
        if event.status == "closed":
            self.release(event.id)
            return
        self.state.unconfirmed_ns.pop(event.id, None)
        if event.remaining is not None:
            self._apply_remaining(reservation, event, event.remaining)
            self._update_left(event.id, reservation)

    def _apply_remaining(self, reservation: Reservation, event: ev.Order, remaining: float) -> None:
        if event.quantity is not None:  # the whole order, with what was filled before a change
            self._resize(reservation, event.quantity)
            reservation.filled += reservation.filled_before
            reservation.filled_before = 0.0
        if remaining > reservation.quantity:  # it was enlarged without a check
            executed = max(reservation.filled, reservation.executed)
            self._resize(reservation, remaining + executed)
        reservation.executed = max(reservation.executed, reservation.quantity - remaining)

    def _resize(self, reservation: Reservation, quantity: float) -> None:
        if reservation.notional is not None:
            reservation.notional *= quantity / reservation.quantity
        reservation.quantity = quantity

    def on_fill(self, event: ev.Fill) -> None:
        """Reduce the reservation of the order that a fill belongs to."""
        name = event.order_id
        reservation = self.state.reserved.get(name) if name is not None else None
        if reservation is not None and name is not None:
            self.state.unconfirmed_ns.pop(name, None)
            reservation.filled += event.quantity
            self._update_left(name, reservation)

    def earlier(self, order: ev.Check) -> Reservation | None:
        """Return the earlier reservation of an order that is checked again."""
        found = self.state.reserved.get(order.id) if order.id is not None else None
        return found if found is not None and found.symbol == order.symbol else None

    def left(self, venue: str, symbol: str, side: ev.Side) -> float:
        """Return the reserved quantity on one side of a symbol at one venue."""
        return sum(
            one.left
            for one in self.state.reserved.values()
            if (one.venue, one.symbol, one.side) == (venue, symbol, side)
        )

    def on_timer(self, now_ns: int) -> None:
        """End the reservations that no event named within the time to live."""
        waiting, unconfirmed_ns = self._waiting_orders, self.state.unconfirmed_ns
        while waiting:
            at_ns, name = waiting[0]
            if unconfirmed_ns.get(name) == at_ns:
                if now_ns < at_ns + self.ttl_ns:
                    self.arm(timer_key(Timer.RESERVATION), at_ns + self.ttl_ns)
                    break
                self.release(name)
            waiting.popleft()

    def _update_left(self, name: str, reservation: Reservation) -> None:
        left = reservation.quantity - max(reservation.filled, reservation.executed)
        if left <= reservation.quantity * _USED_UP:
            self.release(name)
        else:
            self._count(reservation, left - reservation.left, 0)
            reservation.left = left

    def _count(self, reservation: Reservation, change: float, count: int) -> None:
        self.touched[reservation.symbol] = True
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
