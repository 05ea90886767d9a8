"""Limits on single orders, judged when an order is checked."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import msgspec
from annotated_types import Ge, Le
from msgspec import Struct, field

from riskmon.core.constraints import Beside, DaySeconds, Positive
from riskmon.core.limits.facts import Facts, Intent
from riskmon.core.limits.limit import OrderLimit
from riskmon.core.limits.policy import Bound, Ceiling, OnBreach, Recover
from riskmon.core.limits.schedule import CeilingSlots
from riskmon.core.topics import scope_name
from riskmon.core.unknown import Unknown

MAX_TIMES = 1_000  # that are remembered of one order: more than any bound asks for


@dataclass(frozen=True, kw_only=True)
class OrderParams(Ceiling):
    """``max`` of one order, over each symbol."""

    per: Literal["symbol"] = "symbol"
    on_breach: OnBreach = "block"
    recover: Recover = "operator"


class OrderNotionalLimit(OrderLimit):
    """An order's notional in the reference."""

    kind: ClassVar[str] = "order_notional"
    is_size: ClassVar[bool] = True
    Params: ClassVar[type[OrderParams]] = OrderParams

    def __init__(self, params: OrderParams, scope: str, measure: msgspec.Raw | None) -> None:
        self.symbol = scope_name(scope)

    def judge(self, facts: Facts, order: Intent, bound: float) -> float | Unknown:
        """The notional, or why it is unknown."""
        return order.notional if isinstance(order.notional, Unknown) else abs(order.notional)

    def describe(self, value: float, bound: float) -> str:
        """The reason of a refusal, for people."""
        return f"an order of {value:.2f} in {self.symbol} over {bound:g}"


class OrderQuantityLimit(OrderLimit):
    """An order's quantity, in base units or contracts."""

    kind: ClassVar[str] = "order_quantity"
    is_size: ClassVar[bool] = True
    Params: ClassVar[type[OrderParams]] = OrderParams

    def __init__(self, params: OrderParams, scope: str, measure: msgspec.Raw | None) -> None:
        self.symbol = scope_name(scope)

    def judge(self, facts: Facts, order: Intent, bound: float) -> float:
        """The quantity."""
        return abs(order.quantity)

    def describe(self, value: float, bound: float) -> str:
        """The reason of a refusal, for people."""
        return f"an order of {value:g} in {self.symbol} over {bound:g}"


class PriceCollarLimit(OrderLimit):
    """|order price / mark - 1|, a ratio."""

    kind: ClassVar[str] = "price_collar"
    Params: ClassVar[type[OrderParams]] = OrderParams

    def __init__(self, params: OrderParams, scope: str, measure: msgspec.Raw | None) -> None:
        self.symbol = scope_name(scope)

    def judge(self, facts: Facts, order: Intent, bound: float) -> float | Unknown:
        """The distance from the mark, or why it is unknown."""
        mark = facts.book.prices.mark(order.symbol, order.order.venue)
        if mark is None or not facts.book.prices.is_fresh(mark, facts.now_ns):
            return Unknown(f"{order.symbol} has no mark: report its price")
        return abs(order.order.price / mark.price - 1)

    def describe(self, value: float, bound: float) -> str:
        """The reason of a refusal, for people."""
        return f"a price {value:.2%} from the mark of {self.symbol}, over {bound:.2%}"


@dataclass(frozen=True, kw_only=True)
class MessageRateParams(Ceiling):
    """``max`` orders per second in the long run, ``burst`` at once."""

    per: Literal["venue", "strategy"] = "venue"
    burst: Annotated[float, Ge(1)] = 10.0
    on_breach: OnBreach = "block"


class Bucket(Struct):
    """The tokens at a time."""

    tokens: float
    at_ns: int


class MessageRateLimit(OrderLimit):
    """A token bucket: its value is past the bound exactly when no whole token is left."""

    kind: ClassVar[str] = "message_rate"
    Params: ClassVar[type[MessageRateParams]] = MessageRateParams

    def __init__(self, params: MessageRateParams, scope: str, measure: msgspec.Raw | None) -> None:
        self.scope = scope
        self.burst = params.burst
        self._bucket = None if measure is None else msgspec.msgpack.decode(measure, type=Bucket)

    @property
    def measure(self) -> Bucket | None:
        """The bucket; None before the first order."""
        return self._bucket

    def judge(self, facts: Facts, order: Intent, bound: float) -> float:
        """bound x (burst - tokens + 1) / burst, in orders per second."""
        return bound * float(self.burst - self._tokens(facts.now_ns, bound) + 1) / float(self.burst)

    def _tokens(self, now_ns: int, bound: float) -> float:
        if self._bucket is None:
            return float(self.burst)
        gained = (now_ns - self._bucket.at_ns) / 1e9 * bound
        return float(min(self.burst, self._bucket.tokens + gained))

    def commit(self, facts: Facts, order: Intent, bound: float) -> None:
        """Take a token for an order that is permitted."""
        self._bucket = Bucket(self._tokens(facts.now_ns, bound) - 1, facts.now_ns)

    def forget(self) -> None:
        """Fill the bucket."""
        self._bucket = None

    def describe(self, value: float, bound: float) -> str:
        """The reason of a refusal, for people."""
        return f"more than {bound:g} orders per second of {self.scope}"


@dataclass(frozen=True, kw_only=True)
class RepeatOrdersParams(Ceiling):
    """``max`` identical orders in ``seconds``; ``freeze_at`` of them freeze the strategy."""

    max: Annotated[Bound, Le(MAX_TIMES)]
    schedule: CeilingSlots[Annotated[Positive, Le(MAX_TIMES)]] = ()
    per: Literal["strategy"] = "strategy"
    seconds: DaySeconds = 10.0
    freeze_at: Annotated[float | None, Beside("max", operator.gt, "must be above `max`")] = None
    on_breach: OnBreach = "block"


class Repeats(Struct):
    """The times at which each order was last checked, by its terms; oldest first."""

    orders: dict[str, list[int]] = field(default_factory=dict)


class RepeatOrdersLimit(OrderLimit):
    """How often an identical order (venue, symbol, side, quantity, price) was checked."""

    kind: ClassVar[str] = "repeat_orders"
    Params: ClassVar[type[RepeatOrdersParams]] = RepeatOrdersParams

    def __init__(self, params: RepeatOrdersParams, scope: str, measure: msgspec.Raw | None) -> None:
        self.params, self.scope = params, scope
        self._span_ns = int(params.seconds * 1e9)
        kept = None if measure is None else msgspec.msgpack.decode(measure, type=Repeats)
        self._repeats = kept if kept is not None else Repeats()

    @property
    def measure(self) -> Repeats | None:
        """The orders of the last seconds; None when there are none."""
        return self._repeats if self._repeats.orders else None

    def judge(self, facts: Facts, order: Intent, bound: float) -> float:
        """The number in the last seconds, with this one."""
        times = self._repeats.orders.get(_terms(order), ())
        oldest_ns = facts.now_ns - self._span_ns
        return 1.0 + sum(1 for at_ns in times if at_ns > oldest_ns)

    def record(self, facts: Facts, order: Intent) -> int | None:
        """Count an order that is checked; the count in the last seconds if it freezes."""
        orders, oldest_ns, terms = self._repeats.orders, facts.now_ns - self._span_ns, _terms(order)
        times = [at_ns for at_ns in orders.pop(terms, []) if at_ns > oldest_ns]
        # Back at the end: the first key is the order that was checked the longest ago.
        orders[terms] = [*times[-MAX_TIMES:], facts.now_ns]
        while orders[next(iter(orders))][-1] <= oldest_ns:
            del orders[next(iter(orders))]
        params, count = self.params, len(times) + 1
        acts = params.on_breach not in ("shadow", "warn")
        return (
            count if acts and params.freeze_at is not None and count >= params.freeze_at else None
        )

    def forget(self) -> None:
        """Drop every order."""
        self._repeats.orders.clear()

    def describe(self, value: float, bound: float) -> str:
        """The reason of a refusal, for people."""
        return f"{value:.0f} identical orders of {self.scope} in {self.params.seconds:g} s"


def _terms(order: Intent) -> str:
    asked = order.order
    return f"{asked.venue}|{asked.symbol}|{asked.side}|{asked.quantity!r}|{asked.price!r}"
