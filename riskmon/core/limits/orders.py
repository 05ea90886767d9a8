"""Limits on single orders, judged when an order is checked."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le
from msgspec import Struct, field

from riskmon.core.constraints import Beside, DaySeconds, Positive
from riskmon.core.limits.policy import Bound, Ceiling, OnBreach, Recover
from riskmon.core.limits.schedule import CeilingSlots
from riskmon.core.unknown import Unknown

if TYPE_CHECKING:
    from riskmon.core.limits.facts import Facts, Intent


MAX_TIMES = 1_000  # that are remembered of one order: more than any bound asks for


@dataclass(frozen=True, kw_only=True)
class OrderParams(Ceiling):
    """``max`` of one order, over each symbol."""

    per: Literal["symbol"] = "symbol"
    on_breach: OnBreach = "block"
    recover: Recover = "operator"


class _OrderLimit:
    """What all limits on single orders are: neither standing nor fed with samples."""

    category: ClassVar[str] = "order"
    on_by_default: ClassVar[bool] = False
    standing: ClassVar[bool] = False
    takes: ClassVar[tuple[type[Any], ...]] = ()
    Measure: ClassVar[Any] = Any

    def __init__(self, params: Any, measures: dict[str, Any]) -> None:
        self.params = params
        self.measures = measures

    def register(self, scope: str, bound: float) -> None:
        """Nothing is kept of a scope before its first order."""

    def forget(self, scope: str) -> None:
        """Drop what is kept of a scope."""
        self.measures.pop(scope, None)

    def value(self, scope: str, now_ns: int) -> float | None:
        """An order has a value; a scope has none."""
        return None


class OrderNotional(_OrderLimit):
    """An order's notional in the reference."""

    kind: ClassVar[str] = "order_notional"
    is_size: ClassVar[bool] = True
    Params: ClassVar[type[OrderParams]] = OrderParams

    def judge(self, facts: Facts, order: Intent, scope: str, bound: float) -> float | Unknown:
        """The notional."""
        return order.notional if isinstance(order.notional, Unknown) else abs(order.notional)

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it is refused, for people."""
        return f"an order of {value:.2f} in {scope[7:]} over {bound:g}"


class OrderQuantity(_OrderLimit):
    """An order's quantity, in base units or contracts."""

    kind: ClassVar[str] = "order_quantity"
    is_size: ClassVar[bool] = True
    Params: ClassVar[type[OrderParams]] = OrderParams

    def judge(self, facts: Facts, order: Intent, scope: str, bound: float) -> float | Unknown:
        """The quantity."""
        return abs(order.quantity)

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it is refused, for people."""
        return f"an order of {value:g} in {scope[7:]} over {bound:g}"


class PriceCollar(_OrderLimit):
    """|order price / mark - 1|, a ratio."""

    kind: ClassVar[str] = "price_collar"
    Params: ClassVar[type[OrderParams]] = OrderParams

    def judge(self, facts: Facts, order: Intent, scope: str, bound: float) -> float | Unknown:
        """The distance from the mark."""
        mark = facts.book.prices.mark(order.symbol, order.order.venue)
        if mark is None or not facts.book.prices.is_fresh(mark, facts.now_ns):
            return Unknown(f"{order.symbol} has no mark: report its price")
        return abs(order.order.price / mark.price - 1)

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it is refused, for people."""
        return f"a price {value:.2%} from the mark of {scope[7:]}, over {bound:.2%}"


@dataclass(frozen=True, kw_only=True)
class MessageRateParams(Ceiling):
    """``max`` orders per second in the long run, ``burst`` at once."""

    per: Literal["venue", "strategy"] = "venue"
    burst: Annotated[float, Ge(1)] = 10.0
    on_breach: OnBreach = "block"


class Bucket(Struct):
    """Tokens, and when they were counted."""

    tokens: float
    at_ns: int


class MessageRate(_OrderLimit):
    """A token bucket: its value is past the bound exactly when no whole token is left."""

    kind: ClassVar[str] = "message_rate"
    Params: ClassVar[type[MessageRateParams]] = MessageRateParams
    Measure: ClassVar[Any] = Bucket

    def judge(self, facts: Facts, order: Intent, scope: str, bound: float) -> float | Unknown:
        """bound x (burst - tokens + 1) / burst, in orders per second."""
        burst = self.params.burst
        bucket: Bucket | None = self.measures.get(scope)
        tokens = burst if bucket is None else self._tokens(bucket, facts.now_ns, bound)
        return bound * float(burst - tokens + 1) / float(burst)

    def _tokens(self, bucket: Bucket, now_ns: int, bound: float) -> float:
        gained = (now_ns - bucket.at_ns) / 1e9 * bound
        return float(min(self.params.burst, bucket.tokens + gained))

    def spend(self, facts: Facts, order: Intent, scope: str, bound: float) -> None:
        """An order was permitted: one token less."""
        bucket: Bucket | None = self.measures.get(scope)
        if bucket is None:
            bucket = self.measures[scope] = Bucket(self.params.burst, facts.now_ns)
        bucket.tokens = self._tokens(bucket, facts.now_ns, bound) - 1
        bucket.at_ns = facts.now_ns

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it is refused, for people."""
        return f"more than {bound:g} orders per second of {scope}"


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
    """When each order was last asked for, by what it is; oldest first."""

    orders: dict[str, list[int]] = field(default_factory=dict)


class RepeatOrders(_OrderLimit):
    """How often an identical order (venue, symbol, side, quantity, price) was asked for."""

    kind: ClassVar[str] = "repeat_orders"
    Params: ClassVar[type[RepeatOrdersParams]] = RepeatOrdersParams
    Measure: ClassVar[Any] = Repeats

    def judge(self, facts: Facts, order: Intent, scope: str, bound: float) -> float | Unknown:
        """The number in the last seconds, this one too."""
        repeats: Repeats | None = self.measures.get(scope)
        times = repeats.orders.get(_same(order), []) if repeats is not None else []
        oldest_ns = facts.now_ns - int(self.params.seconds * 1e9)
        return 1.0 + sum(1 for at_ns in times if at_ns > oldest_ns)

    def note(self, facts: Facts, order: Intent, scope: str) -> int:
        """An order was asked for, permitted or not; how often by now."""
        repeats: Repeats | None = self.measures.get(scope)
        if repeats is None:
            repeats = self.measures[scope] = Repeats()
        oldest_ns = facts.now_ns - int(self.params.seconds * 1e9)
        key = _same(order)
        times = [at_ns for at_ns in repeats.orders.pop(key, []) if at_ns > oldest_ns]
        # Back at the end: the first key is the one that was longest not asked for.
        repeats.orders[key] = [*times[-MAX_TIMES:], facts.now_ns]
        while repeats.orders[next(iter(repeats.orders))][-1] <= oldest_ns:
            del repeats.orders[next(iter(repeats.orders))]
        return len(times) + 1

    def freezes(self, times: int) -> bool:
        """Whether so many identical orders freeze."""
        freeze_at = self.params.freeze_at
        acts = self.params.on_breach not in ("shadow", "warn")
        return acts and freeze_at is not None and times >= freeze_at

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it is refused, for people."""
        return f"{value:.0f} identical orders of {scope} in {self.params.seconds:g} s"


def _same(order: Intent) -> str:
    asked = order.order
    return f"{asked.venue}|{asked.symbol}|{asked.side}|{asked.quantity!r}|{asked.price!r}"
