"""Orders that were permitted and are not filled yet: they count as if they were.

An allowed check reserves its order. The reservation ends when an ``order`` event closes the order
or its fills use it up, and after ``check_ttl`` if nothing was heard of it.

How much of an order was executed is heard twice, and in any order: from its fills, and from what
the venue says remains of it. Both only grow and neither runs ahead of the truth, so the larger one
counts, and what is left is never less than what rests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import Struct, field

from riskmon.core import events as ev
from riskmon.core.book.money import Sum

_USED_UP = 1e-9  # of its quantity: what is less is the rounding of floats


class Reservation(Struct):
    """A permitted order; ``notional`` is of the whole ``quantity``, in the reference."""

    venue: str
    symbol: str
    side: ev.Side
    quantity: float
    notional: float | None
    left: float  # of the quantity
    filled: float = 0.0  # by the fills that were heard
    told: float = 0.0  # executed, by what the venue said remains
    filled_before: float = 0.0  # by the fills heard before it was asked for again, as a change


class Pending(Struct):
    """What is reserved in a symbol: base units or contracts, and the reference."""

    count: int = 0
    buys: Sum = field(default_factory=Sum)
    sells: Sum = field(default_factory=Sum)
    buys_notional: Sum = field(default_factory=Sum)
    sells_notional: Sum = field(default_factory=Sum)


class ReservationsState(Struct):
    """Everything that is remembered of permitted orders."""

    reserved: dict[str, Reservation] = field(default_factory=dict)
    # Kept, not added up again after a restore: in another order the last bit may be another.
    pending: dict[str, Pending] = field(default_factory=dict)  # by symbol
    unheard_ns: dict[str, int] = field(default_factory=dict)  # when they were permitted, in order
    made: int = 0  # ids given to orders without one


class Reservations:
    """The permitted orders of an account."""

    def __init__(
        self,
        state: ReservationsState,
        ttl_ns: int,
        arm: Callable[[tuple[str, str, str], int], None],
    ) -> None:
        self.state = state
        self.ttl_ns = ttl_ns
        self.arm = arm
        self.pending = state.pending
        # The same as `unheard_ns`, with old entries in it: the oldest is found without a search.
        self._waiting = deque((at_ns, name) for name, at_ns in state.unheard_ns.items())
        self.touched: dict[str, bool] = {}  # symbols that changed, for whoever wants to know

    def reserve(self, order: ev.Check, notional: float | None, now_ns: int) -> None:
        """Let an order count. One that is known by its id takes the place of the earlier."""
        state = self.state
        state.made += order.id is None
        name = order.id or f"\n{state.made}"  # no id of anyone's: those are printable
        earlier = state.reserved.get(name)
        if earlier is not None:
            self.release(name)
        reservation = Reservation(
            order.venue, order.symbol, order.side, order.quantity, notional, order.quantity
        )
        if earlier is not None:
            reservation.filled_before = earlier.filled_before + earlier.filled
        state.reserved[name] = reservation
        state.unheard_ns[name] = now_ns
        self._waiting.append((now_ns, name))
        self._count(reservation, reservation.left, 1)
        if len(self._waiting) == 1:  # else the timer of the oldest is armed
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
            self._hear(reservation, event, event.remaining)
            self._leave(event.id, reservation)

    def _hear(self, reservation: Reservation, event: ev.Order, remaining: float) -> None:
        if event.quantity is not None:  # the whole order, with what was filled before a change
            self._resize(reservation, event.quantity)
            reservation.filled += reservation.filled_before
            reservation.filled_before = 0.0
        if remaining > reservation.quantity:  # it was made larger, and not asked for again
            executed = max(reservation.filled, reservation.told)
            self._resize(reservation, remaining + executed)
        reservation.told = max(reservation.told, reservation.quantity - remaining)

    def _resize(self, reservation: Reservation, quantity: float) -> None:
        if reservation.notional is not None:
            reservation.notional *= quantity / reservation.quantity
        reservation.quantity = quantity

    def on_fill(self, event: ev.Fill) -> None:
        """A fill uses up the order it belongs to."""
        name = event.order_id
        reservation = self.state.reserved.get(name) if name is not None else None
        if reservation is not None and name is not None:
            self.state.unheard_ns.pop(name, None)
            reservation.filled += event.quantity
            self._leave(name, reservation)

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
        waiting, unheard_ns = self._waiting, self.state.unheard_ns
        while waiting:
            at_ns, name = waiting[0]
            if unheard_ns.get(name) == at_ns:
                if now_ns < at_ns + self.ttl_ns:
                    self.arm(("reserve", "", ""), at_ns + self.ttl_ns)
                    break
                self.release(name)
            waiting.popleft()

    def _leave(self, name: str, reservation: Reservation) -> None:
        left = reservation.quantity - max(reservation.filled, reservation.told)
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
