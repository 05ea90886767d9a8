"""Limits on single orders, judged when an order is checked."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le
from msgspec import Struct, field

from riskmon.core.constraints import Beside, DaySeconds, Positive
from riskmon.core.limits.facts import Facts, Intent
from riskmon.core.limits.limit import OrderLimit
from riskmon.core.limits.policy import Bound, Ceiling, OnBreach, Recover
from riskmon.core.limits.schedule import CeilingSlots
from riskmon.core.unknown import Unknown

MAX_TIMES = 1_000  # that are kept of one order: the highest bound


@dataclass(frozen=True, kw_only=True)
class OrderParams(Ceiling):
    """``max`` of one order, over each symbol."""

    per: Literal["symbol"] = "symbol"
    on_breach: OnBreach = "block"
    recover: Recover = "operator"


class OrderNotionalLimit(OrderLimit):
    """An order's notional in the reference."""

    kind = "order_notional"
    Params = OrderParams
    reason = "an order of {value:.2f} in {limit.name} over {bound:.12g}"
    is_size = True

    def judge(self, facts: Facts, order: Intent, bound: float) -> float | Unknown:
        """The notional."""
        return order.notional if type(order.notional) is Unknown else abs(order.notional)


class OrderQuantityLimit(OrderLimit):
    """An order's quantity, in base units or contracts."""

    kind = "order_quantity"
    Params = OrderParams
    reason = "an order of {value:.12g} in {limit.name} over {bound:.12g}"
    is_size = True

    def judge(self, facts: Facts, order: Intent, bound: float) -> float:
        """The quantity."""
        return abs(order.quantity)


@dataclass(frozen=True, kw_only=True)
class PriceCollarParams(OrderParams):
    """``max`` distance from the mark, of one order, over each symbol."""

    side: Literal["aggressive", "both"] = "aggressive"  # buys above and sells below; or all


class PriceCollarLimit(OrderLimit):
    """The distance of an order's price from the mark, a ratio."""

    kind = "price_collar"
    Params = PriceCollarParams
    reason = "a price {value:.2%} from the mark of {limit.name}, over {bound:.2%}"
    params: PriceCollarParams

    def judge(self, facts: Facts, order: Intent, bound: float) -> float | Unknown:
        """The distance from the mark; 0 on the passive side, unless it is judged too."""
        mark, price = facts.book.mark(order.order.symbol, order.order.venue), order.price
        if type(mark) is Unknown:
            return mark
        if type(price) is Unknown:
            return price
        distance = price / mark - 1
        if self.params.side == "both":
            return abs(distance)
        if order.quantity < 0:
            distance = -distance
        return distance if distance > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class MessageRateParams(Ceiling):
    """``max`` orders per second in the long run, ``burst`` at once."""

    per: Literal["venue", "account", "strategy"] = "venue"
    burst: Annotated[float, Ge(1)] = 10.0  # orders at once
    on_breach: OnBreach = "block"


class Bucket(Struct):
    """The tokens at a time."""

    tokens: float
    at_ns: int


class MessageRateLimit(OrderLimit):
    """A token bucket: its value is past the bound exactly when no whole token is left."""

    kind = "message_rate"
    Params = MessageRateParams
    reason = "more than {bound:.12g} orders per second of {limit.scope}"
    Measure = Bucket
    params: MessageRateParams
    measure: Bucket | None = None  # before the first order, it is full

    def judge(self, facts: Facts, order: Intent, bound: float) -> float:
        """bound x (burst - tokens + 1) / burst, in orders per second."""
        burst = float(self.params.burst)
        return bound * (burst - self._tokens(facts.now_ns, bound) + 1) / burst

    def _tokens(self, now_ns: int, bound: float) -> float:
        bucket, burst = self.measure, float(self.params.burst)
        if bucket is None:
            return burst
        tokens = bucket.tokens + (now_ns - bucket.at_ns) / 1e9 * bound
        if tokens > burst:
            return burst
        return tokens

    def commit(self, facts: Facts, order: Intent, bound: float) -> None:
        """Take a token for an order that is permitted."""
        self.measure = Bucket(self._tokens(facts.now_ns, bound) - 1, facts.now_ns)


@dataclass(frozen=True, kw_only=True)
class OrderCountParams(Ceiling):
    """``max`` orders in a trading day."""

    per: Literal["account", "venue", "strategy"] = "account"
    on_breach: OnBreach = "block"
    recover: Recover = "period"


class DayCount(Struct):
    """The permitted orders of the trading day that began then."""

    began_wall_ns: int
    count: int


class OrderCountLimit(OrderLimit):
    """How many orders were permitted in the trading day."""

    kind = "order_count"
    Params = OrderCountParams
    reason = "{value:.0f} orders of {limit.scope} today, over {bound:.12g}"
    Measure = DayCount
    measure: DayCount | None = None

    def judge(self, facts: Facts, order: Intent, bound: float) -> float:
        """The number today, with this one."""
        return 1.0 + self._today(facts).count

    def commit(self, facts: Facts, order: Intent, bound: float) -> None:
        """Count an order that is permitted."""
        self.measure = self._today(facts)
        self.measure.count += 1

    def _today(self, facts: Facts) -> DayCount:
        """The count of today. A clock that is put back does not bring back an earlier day."""
        began_ns, _ = facts.calendar.span("day", facts.wall_ns)
        kept = self.measure
        return (
            kept if kept is not None and kept.began_wall_ns >= began_ns else DayCount(began_ns, 0)
        )


@dataclass(frozen=True, kw_only=True)
class RepeatOrdersParams(Ceiling):
    """``max`` identical orders in ``seconds``; ``freeze_at`` of them freeze the strategy."""

    max: Annotated[Bound, Le(MAX_TIMES)]
    schedule: CeilingSlots[Annotated[Positive, Le(MAX_TIMES)]] = ()
    per: Literal["strategy"] = "strategy"
    seconds: DaySeconds = 10.0  # in which identical orders are counted
    # this many identical orders freeze the strategy
    freeze_at: Annotated[float | None, Beside("max", operator.gt, "must be above `max`")] = None
    on_breach: OnBreach = "block"


class Repeats(Struct):
    """The times at which each order was last checked, by its terms; oldest first."""

    orders: dict[str, list[int]] = field(default_factory=dict)


class RepeatOrdersLimit(OrderLimit):
    """How often an identical order (venue, symbol, side, quantity, price) was checked."""

    kind = "repeat_orders"
    Params = RepeatOrdersParams
    reason = "{value:.0f} identical orders of {limit.scope} in {limit.params.seconds:g} s"
    freezes = True
    Measure = Repeats
    params: RepeatOrdersParams
    measure: Repeats | None = None

    def judge(self, facts: Facts, order: Intent, bound: float) -> float:
        """The number in the last seconds, with this one."""
        times = self.measure.orders.get(_terms(order), ()) if self.measure is not None else ()
        oldest_ns = facts.now_ns - int(self.params.seconds * 1e9)
        return 1.0 + sum(1 for at_ns in times if at_ns > oldest_ns)

    def record(self, facts: Facts, order: Intent) -> int | None:
        """Count an order that is checked; the count in the last seconds if it freezes."""
        if self.measure is None:
            self.measure = Repeats()
        orders, terms = self.measure.orders, _terms(order)
        oldest_ns = facts.now_ns - int(self.params.seconds * 1e9)
        times = [at_ns for at_ns in orders.pop(terms, []) if at_ns > oldest_ns]
        # Back at the end: the first key is the order that was checked the longest ago.
        orders[terms] = [*times[-MAX_TIMES:], facts.now_ns]
        while orders[next(iter(orders))][-1] <= oldest_ns:
            del orders[next(iter(orders))]
        count, freeze_at = len(times) + 1, self.params.freeze_at
        if freeze_at is None or self.params.on_breach in ("shadow", "warn"):
            return None
        return count if count >= freeze_at else None


def _terms(order: Intent) -> str:
    one = order.order
    return f"{one.venue}|{one.symbol}|{one.side}|{one.quantity!r}|{one.price!r}"
