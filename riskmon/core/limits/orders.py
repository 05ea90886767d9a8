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
    reason = "an order of {value:.2f} in {limit.name} over {bound:g}"
    is_size = True

    def judge(self, facts: Facts, order: Intent, bound: float) -> float | Unknown:
        """The notional."""
        return order.notional if isinstance(order.notional, Unknown) else abs(order.notional)


class OrderQuantityLimit(OrderLimit):
    """An order's quantity, in base units or contracts."""

    kind = "order_quantity"
    Params = OrderParams
    reason = "an order of {value:g} in {limit.name} over {bound:g}"
    is_size = True

    def judge(self, facts: Facts, order: Intent, bound: float) -> float:
        """The quantity."""
        return abs(order.quantity)


class PriceCollarLimit(OrderLimit):
    """|order price / mark - 1|, a ratio."""

    kind = "price_collar"
    Params = OrderParams
    reason = "a price {value:.2%} from the mark of {limit.name}, over {bound:.2%}"

    def judge(self, facts: Facts, order: Intent, bound: float) -> float | Unknown:
        """The distance from the mark."""
        mark = facts.book.prices.mark(order.symbol, order.order.venue)
        if mark is None or not facts.book.prices.is_fresh(mark, facts.now_ns):
            return Unknown(f"{order.symbol} has no mark: report its price")
        return abs(order.order.price / mark.price - 1)


@dataclass(frozen=True, kw_only=True)
class MessageRateParams(Ceiling):
    """``max`` orders per second in the long run, ``burst`` at once."""

    per: Literal["venue", "strategy"] = "venue"
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
    reason = "more than {bound:g} orders per second of {limit.scope}"
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
        return min(burst, bucket.tokens + (now_ns - bucket.at_ns) / 1e9 * bound)

    def commit(self, facts: Facts, order: Intent, bound: float) -> None:
        """Take a token for an order that is permitted."""
        self.measure = Bucket(self._tokens(facts.now_ns, bound) - 1, facts.now_ns)


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
    asked = order.order
    return f"{asked.venue}|{asked.symbol}|{asked.side}|{asked.quantity!r}|{asked.price!r}"
