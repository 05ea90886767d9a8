"""Orders that were permitted or rest, and are not filled yet: they count as if they were filled.

An allowed check reserves its order; an open order that was not checked is reserved when a report
first names it. Orders are those of a venue: an id names one together with the venue. A report links
the venue's id to the client's, where it gives both.

The reservation ends when a report closes the order or its fills use it up, and after ``check_ttl``
if no report names it. What a report says was executed stays reserved until its fills come, at most
``check_ttl``: a position follows from fills. An order that ended is remembered for ``check_ttl``:
a report from before its end does not reserve it again.

Times are engine time. The time of a report is when it was taken, by its ``at``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from msgspec import Struct

from riskmon.core import events as ev
from riskmon.core.book.orders import Counted, Refused, ReservationsState
from riskmon.core.book.pending import Executed, OrderDifference, Pending, Reservation
from riskmon.core.decisions import CheckAnswer, DifferenceKind
from riskmon.core.scopes import Scope
from riskmon.core.timers import Timer, TimerKey, timer_key
from riskmon.core.unknown import Unknown

ENDED_MAX = 1_024  # orders that ended and are remembered, without those that wait for fills
REFUSED_MAX = 1_024  # refused checks whose answers are remembered
KEYS_OF_ONE = 16  # ids that are looked up are as much work as one order
KEYS_AT_ONCE = 256  # ids that are looked up in one piece
_SAME = 1e-9  # relative: quantities of one order in two reports


class OrderWorth(Struct, frozen=True):
    """The worth of one unit of an order's quantity: in the reference, and in the base asset."""

    notional: float | Unknown
    base: float | Unknown


class Reservations:
    """The reserved orders of an account."""

    def __init__(
        self, state: ReservationsState, ttl_ns: int, arm: Callable[[TimerKey, int], None]
    ) -> None:
        self.state = state
        self.ttl_ns = ttl_ns
        self.pending = Pending()
        self._arm = arm
        self._linked: dict[str, str] = {}  # the key by a venue's id -> the order's
        self._ended: dict[str, None] = {}  # the keys of those that are remembered, oldest first
        # When a wait of an order began, the oldest first; each ends after `ttl_ns`.
        self._waits: deque[tuple[int, str]] = deque()
        self._differences: list[OrderDifference] = []
        state.upgrade()
        self._restore()

    def _restore(self) -> None:
        waits, ended = [], []
        for key, order in self.state.reserved.items():
            if order.order_id is not None:
                self._linked[_key(order.venue, order.order_id)] = key
            self.pending.add(order)
            if order.ended_ns is not None:
                ended.append((order.ended_ns, key))
            elif order.reported_ns is None:
                waits.append((order.began_ns, key))
            if order.listed_ns is not None:
                waits.append((order.listed_ns, key))
            waits += [(one.since_ns, key) for one in order.awaited]
        self._ended = {key: None for _, key in sorted(ended)}
        self._waits = deque(sorted(waits + ended))
        self._arm_first()

    # -- checks -----------------------------------------------------------------------------------

    def find(self, venue: str, name: str | None) -> Reservation | None:
        """Return the order of an id, the client's or the venue's."""
        if name is None:
            return None
        key = _key(venue, name)
        return self.state.reserved.get(self._linked.get(key, key))

    def answered(self, check: ev.Check, now_ns: int) -> Reservation | Refused | None:
        """Return what a check with the same id and terms led to, while that is remembered."""
        order = self.find(check.venue, check.id)
        if order is not None and order.check == check:
            return order
        refused = self.state.refused.get(_key(check.venue, check.id or ""))
        if refused is None or refused.check != check or refused.at_ns + self.ttl_ns <= now_ns:
            return None
        return refused

    def refuse(self, check: ev.Check, answer: CheckAnswer, now_ns: int) -> None:
        """Remember the answer to a check that is refused."""
        if check.id is None:
            return
        refused, key = self.state.refused, _key(check.venue, check.id)
        refused.pop(key, None)
        refused[key] = Refused(check, answer, now_ns)
        for oldest in list(islice(refused, 2)):  # two for one added
            if len(refused) > REFUSED_MAX or refused[oldest].at_ns + self.ttl_ns <= now_ns:
                del refused[oldest]

    def reserve(self, order: Reservation, now_ns: int) -> None:
        """Reserve a permitted order. It replaces an earlier one with its id, as a change of it."""
        order.began_ns = now_ns
        if order.id:
            self._replace(order)
        else:
            self.state.made += 1
            order.id = f"\n{self.state.made}"  # no reported id: those are printable
        key = order.key
        self.state.reserved[key] = order
        self.pending.add(order)
        if order.reported_ns is None:
            self._wait(key, now_ns)

    def _replace(self, order: Reservation) -> None:
        """Delete the order that has the id of a checked one: it is changed."""
        earlier = self.find(order.venue, order.id)
        if earlier is not None:
            if earlier.ended_ns is None:
                order.id, order.order_id = earlier.id, earlier.order_id
                order.filled_before = earlier.filled_before + earlier.filled
                order.reported_ns = earlier.reported_ns
            self._delete(earlier)
        self.state.refused.pop(order.key, None)
        if order.order_id is not None:
            self._linked[_key(order.venue, order.order_id)] = order.key

    # -- reports ----------------------------------------------------------------------------------

    def on_order(self, venue: str, report: ev.RestingOrder, at_ns: int, now_ns: int) -> bool:
        """Apply a report of an order that is known; return False if it is a new open one.

        :meth:`reserve_open` follows then.
        """
        order = self.find(venue, report.id) or self._of_client(venue, report)
        is_open = report.status == "open"
        if order is None:
            if not is_open:
                self._count_end(venue, None)
            return not is_open
        if not order.quantity and (report.quantity or report.remaining):
            self._delete(order)  # its first report did not say how large it is
            return not is_open
        order.reported_ns = max(order.reported_ns or 0, at_ns)
        if isinstance(report, ev.Order):
            order.named, order.missing, order.listed_ns = True, False, None
        if is_open and order.rests_as(report.quantity, report.remaining):
            return True
        self.pending.remove(order)
        if order.ended_ns is not None:
            if not is_open and report.remaining is not None:
                order.correct_end(report.quantity, report.remaining)
        elif is_open:
            if report.remaining is not None:
                self._apply_remaining(order, report, report.remaining, now_ns)
        else:
            executed, assumed = order.quantity, report.status != "closed"
            if report.remaining is not None:
                self._apply_remaining(order, report, report.remaining, now_ns)
                executed = order.executed
            self._end(order, executed, now_ns, assumed=assumed)
        self._put_back(order, now_ns)
        return True

    def reserve_open(
        self,
        venue: str,
        report: ev.RestingOrder,
        worth: OrderWorth,
        *,
        position: str,
        has_events: bool,
        at_ns: int,
        now_ns: int,
    ) -> None:
        """Reserve an open order that was not checked, by its first report.

        ``position`` is the symbol whose position it moves. ``has_events``: ``order`` events report
        the orders of the venue.
        """
        quantity = report.quantity or report.remaining or 0.0
        order = Reservation(
            venue=venue,
            symbol=report.symbol,
            side=report.side,
            quantity=quantity,
            notional=whole(worth.notional, quantity),
            base=whole(worth.base, quantity),
            position=None if position == report.symbol else position,
            id=report.id,
            leg=report.leg,
            strategy=report.strategy,
            reduce_only=bool(report.reduce_only),
            began_ns=at_ns,
            reported_ns=at_ns,
            named=isinstance(report, ev.Order),
        )
        key = order.key
        self.state.reserved[key] = order
        if has_events and not order.named:
            order.listed_ns = now_ns
            self._wait(key, now_ns)
        if report.remaining is not None and quantity:
            self._apply_remaining(order, report, report.remaining, now_ns)
        self._put_back(order, now_ns)

    def on_orders(
        self, venue: str, listed: Iterable[str], taken_ns: int, now_ns: int
    ) -> Iterator[int]:
        """Release the orders of a venue that are not ``listed`` among all that rest there.

        Yields the work of each piece, as the other reports that may release many orders.
        """
        keys = set()
        for number, name in enumerate(listed, 1):
            key = _key(venue, name)
            keys.add(self._linked.get(key, key))
            if number % KEYS_AT_ONCE == 0:
                yield KEYS_AT_ONCE // KEYS_OF_ONE
        self.state.counted.pop(venue, None)
        for order in self.pending.orders_at(venue):
            if order.key not in keys and self._release(order, taken_ns, now_ns):
                order.missing = order.named
                yield 1

    def on_open_orders(self, venue: str, count: int, taken_ns: int, now_ns: int) -> Iterator[int]:
        """Apply how many orders rest at a venue: 0 releases them."""
        self.state.counted.pop(venue, None)
        if count:
            self.state.counted[venue] = Counted(count, taken_ns)
            return
        for order in self.pending.orders_at(venue):
            if self._release(order, taken_ns, now_ns):
                yield 1

    def on_canceled(self, scope: Scope, now_ns: int) -> Iterator[int]:
        """Release the orders of a scope: its cancel is confirmed, and none rests."""
        for order in self.pending.all():
            if order.is_in(scope) and self._release(order, now_ns, now_ns):
                yield 1

    def _release(self, order: Reservation, taken_ns: int, now_ns: int) -> bool:
        """End an order that does not rest any more, if it was last reported before ``taken_ns``.

        Return whether it ended. What a report says was executed still waits for its fills. An order
        of which there is no report stays: it may be under way.
        """
        reported_ns = order.reported_ns
        if order.ended_ns is not None or reported_ns is None or reported_ns >= taken_ns:
            return False
        self.pending.remove(order)
        self._end(order, order.executed, now_ns)
        self._put_back(order, now_ns)
        return True

    def on_fill(self, fill: ev.Fill, at_ns: int, now_ns: int) -> None:
        """Reduce the order that a fill belongs to; without an id, the oldest that it may be of."""
        if fill.order_id is None and fill.client_id is None:
            if self.pending.named(fill.symbol):
                self._fill_oldest(fill, now_ns)
        elif self.state.reserved:
            order = self.find(fill.venue, fill.order_id)
            if order is None and fill.client_id is not None:
                order = self._of_client(fill.venue, fill)
            if order is not None:
                self._fill(order, fill.quantity, now_ns)
                order.reported_ns = max(order.reported_ns or 0, at_ns)
                order.listed_ns = None

    def _fill_oldest(self, fill: ev.Fill, now_ns: int) -> None:
        rest = fill.quantity
        while rest > fill.quantity * _SAME and (oldest := self._oldest(fill)) is not None:
            filled = min(rest, oldest.left)
            self._fill(oldest, filled, now_ns)
            rest -= filled

    def _oldest(self, fill: ev.Fill) -> Reservation | None:
        """Return the oldest order that a fill without an id may be of."""
        for order in self.pending.named(fill.symbol):
            may_fill = order.venue == fill.venue and order.side in (fill.side, None)
            if may_fill and may_be(order.leg, fill.leg) and order.left:
                return order
        return None

    def on_timer(self, now_ns: int) -> None:
        """End what waited for a report or for fills for the time to live."""
        waits, before_ns = self._waits, now_ns - self.ttl_ns
        while waits and waits[0][0] <= before_ns:
            since_ns, key = waits.popleft()
            order = self.state.reserved.get(key)
            if order is not None and order.waits_since(since_ns):
                self._lapse(order, before_ns, now_ns)
        self._arm_first()

    def take_differences(self) -> list[OrderDifference]:
        """Return the differences since the last call."""
        taken, self._differences = self._differences, []
        return taken

    # -- queries ----------------------------------------------------------------------------------

    def left(self, check: ev.Check, position: str, *, reducing: bool) -> float:
        """Return what is reserved on an order's side of a position, without the order itself.

        ``position`` is the symbol of the position that it moves. ``reducing``: with the orders that
        only reduce.
        """
        own = self.find(check.venue, check.id)
        return sum(
            order.left
            for order in self.pending.orders(position, check.venue)
            if order is not own
            and order.side in (check.side, None)
            and may_be(order.leg, check.leg)
            and (reducing or not order.reduce_only)
        )

    def resting_at(self, venue: str) -> int:
        """Return how many orders rest at a venue: those that are known, or more by its report."""
        known, counted = self.pending.resting_at(venue), self.state.counted.get(venue)
        if counted is None:
            return known
        later = sum(
            order.began_ns > counted.taken_ns and order.ended_ns is None
            for order in self.pending.orders_at(venue)
        )
        return max(known, counted.count + later)

    def resting(self) -> int:
        """Return how many orders rest at all venues."""
        known = self.pending.resting
        if self.state.counted:
            known += sum(
                self.resting_at(venue) - self.pending.resting_at(venue)
                for venue in self.state.counted
            )
        return known

    # -- one order --------------------------------------------------------------------------------

    def _of_client(self, venue: str, report: ev.RestingOrder | ev.Fill) -> Reservation | None:
        """Find an order by what else a report says, and link the venue's id to it.

        By the client's id; or an open order by its terms among those that were checked without one.
        """
        order = self.find(venue, report.client_id)
        name = report.order_id if isinstance(report, ev.Fill) else report.id
        if order is None and isinstance(report, ev.RestingOrder) and report.status == "open":
            named = self.pending.named(report.symbol)
            here = (one for one in named if one.venue == venue)
            order = next((one for one in here if one.may_be_named_by(report)), None)
        if order is not None and name is not None:
            order.order_id = name
            self._linked[_key(order.venue, name)] = order.key
        return order

    def _apply_remaining(
        self, order: Reservation, report: ev.RestingOrder, remaining: float, now_ns: int
    ) -> None:
        if report.quantity is not None:  # the whole order, with what was filled before a change
            order.resize(report.quantity)
            order.filled += order.filled_before
            order.filled_before = 0.0
        if remaining > order.quantity:  # it was enlarged without a check
            order.resize(remaining + max(order.filled, order.executed))
        self._set_executed(order, max(order.executed, order.quantity - remaining), now_ns)

    def _set_executed(
        self, order: Reservation, executed: float, now_ns: int, *, assumed: bool = False
    ) -> None:
        """Set how much was executed, and wait for the fills of what is new."""
        last = order.awaited[-1].quantity if order.awaited else 0.0
        order.executed = executed
        if executed > max(last, order.filled, order.lapsed):
            order.awaited.append(Executed(executed, now_ns, assumed))
            self._wait(order.key, now_ns)

    def _fill(self, order: Reservation, quantity: float, now_ns: int) -> None:
        self.pending.remove(order)
        order.filled += quantity
        order.awaited = [one for one in order.awaited if one.quantity > order.filled]
        self._put_back(order, now_ns)

    def _lapse(self, order: Reservation, before_ns: int, now_ns: int) -> None:
        """End the waits of an order that began before a time."""
        if order.ended_ns is None and order.reported_ns is None:
            self._count_end(order.venue, order)
            self._delete(order)
            return
        if order.listed_ns is not None and order.listed_ns <= before_ns:
            order.listed_ns = None
            self._differ(order, "order", "rests, and no `order` event names it")
        self.pending.remove(order)
        unfilled = order.lapse(before_ns)
        if unfilled > order.quantity * _SAME:
            self._differ(order, "fill", f"was executed, and no fill reports {unfilled:.12g} of it")
        self._put_back(order, now_ns)
        if order.ended_ns is not None and order.ended_ns <= before_ns and not order.left:
            if order.missing and order.filled < order.quantity * (1.0 - _SAME):
                self._differ(order, "order", "does not rest any more, and no report says why")
            self._delete(order)

    def _differ(self, order: Reservation, kind: DifferenceKind, what: str) -> None:
        name = order.order_id or order.id
        text = f"{order.venue}: order {name} in {order.symbol} {what}"
        self._differences.append(OrderDifference(order.venue, kind, text))

    def _put_back(self, order: Reservation, now_ns: int) -> None:
        """Count an order again, or end it when nothing of it is left."""
        if order.ended_ns is None and order.quantity and not order.left:
            self._end(order, order.quantity, now_ns)
        self.pending.add(order)

    def _end(
        self, order: Reservation, executed: float, now_ns: int, *, assumed: bool = False
    ) -> None:
        """End an order of which so much was executed; its sums are taken off."""
        self._set_executed(order, max(order.executed, executed), now_ns, assumed=assumed)
        order.ended_ns = now_ns
        self._count_end(order.venue, order)
        key = order.key
        self._ended[key] = None
        self._wait(key, now_ns)
        while len(self._ended) > ENDED_MAX:
            oldest = self.state.reserved[next(iter(self._ended))]
            if oldest.left:
                break  # its wait is shorter than the time to live
            self._delete(oldest)

    def _count_end(self, venue: str, order: Reservation | None) -> None:
        """Count an end among the orders that a report of their number counted."""
        counted = self.state.counted.get(venue)
        if counted is not None and (order is None or order.began_ns <= counted.taken_ns):
            counted.count = max(0, counted.count - 1)

    # -- the tables -------------------------------------------------------------------------------

    def _delete(self, order: Reservation) -> None:
        del self.state.reserved[order.key]
        self.pending.drop(order)
        self._ended.pop(order.key, None)
        if order.order_id is not None:
            self._linked.pop(_key(order.venue, order.order_id), None)

    def _wait(self, key: str, now_ns: int) -> None:
        self._waits.append((now_ns, key))
        if len(self._waits) == 1:  # else the timer of an earlier one is armed
            self._arm_first()

    def _arm_first(self) -> None:
        waits = self._waits
        while waits:
            since_ns, key = waits[0]
            order = self.state.reserved.get(key)
            if order is not None and order.waits_since(since_ns):
                self._arm(timer_key(Timer.RESERVATION), since_ns + self.ttl_ns)
                return
            waits.popleft()


def whole(worth: float | Unknown, quantity: float) -> float | None:
    """Return the worth of a quantity by that of one unit; None if it is unknown."""
    return None if isinstance(worth, Unknown) else worth * quantity


def may_be(leg: ev.Leg | None, other: ev.Leg | None) -> bool:
    """Whether two reports, of which one may not name its leg, may be of one leg."""
    return leg is None or other is None or leg == other


def _key(venue: str, name: str) -> str:
    return f"{venue}|{name}"
