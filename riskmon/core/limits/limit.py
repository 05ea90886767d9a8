"""What a limit is: one object measures one scope, in one of four shapes.

* A :class:`StateLimit` is a function of the book and of what was last reported. It names the
  ``topics`` that its value depends on; it is evaluated at the end of an instant in which one of
  them changed, and when its value changes by itself. A :class:`SizeLimit` is one that also has a
  size before and after an order.
* A :class:`SampleLimit` measures samples (latencies, errors, closes). It names the types of events
  that it ``reads`` and evaluates when one comes.
* An :class:`OrderLimit` judges an order that is checked.
* :class:`Unmeasured` measures nothing: the breakers that an operator, a start or a stop opens.

Every kind of limit is a class of one of these shapes, with its parameters (a frozen dataclass that
extends :class:`~riskmon.core.limits.policy.Ceiling` or ``Floor``) and an entry in
:data:`riskmon.core.limits.LIMITS`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

from msgspec import Raw, msgpack

from riskmon.core.book.realised import Close
from riskmon.core.events import Error, Fill, Latency, Price
from riskmon.core.limits.facts import Facts, Intent, Size
from riskmon.core.limits.policy import Policy
from riskmon.core.scopes import Scope, ScopeKind, kind_of, name_of
from riskmon.core.topics import Topic
from riskmon.core.unknown import Unknown

TOLERANCE = 1e-9  # relative, of a comparison with a bound: 3 x 0.1 is within 0.3

# Where the cause of a trip lies.
Category = Literal[
    "venue", "market", "strategy", "edge", "order", "position", "loss", "operator", "riskmon"
]
Sample = Latency | Error | Fill | Price | Close

# To limits over which scopes each type of sample is delivered.
DELIVERED: dict[type[Sample], tuple[ScopeKind, ...]] = {
    Latency: ("account", "venue"),
    Error: ("account", "venue"),
    Fill: ("account", "venue", "symbol"),
    Price: ("symbol",),
    Close: ("strategy",),
}


class Evaluation(NamedTuple):
    """The result of a sample.

    ``past``: the value is past its bound. ``counts``: this evaluation counts as a breach; one that
    is past but does not count leaves the number of breaches in a row as it is. ``near``: the value
    is past its warning level. ``probe`` is for limits whose samples are not single events: whether
    the sample that ends here is good for a half-open breaker.
    """

    past: bool
    counts: bool
    near: bool
    probe: bool | None = None


NOT_PAST = Evaluation(past=False, counts=False, near=False)


class Limit:
    """What every limit has.

    ``per`` and ``name`` are the parts of its scope: ``venue`` and ``kraken`` of ``venue:kraken``.

    It has not the metaclass of abstract classes, whose instance checks take ten times as long.
    """

    kind: ClassVar[str]
    category: ClassVar[Category]
    Params: ClassVar[type[Policy]]
    reason: ClassVar[str] = ""  # of a trip or a refusal, by ``value``, ``bound`` and the ``limit``
    on_by_default: ClassVar[bool] = False
    reaches: ClassVar[bool] = False  # whether a value at its bound is past it, as that of a streak
    is_size: ClassVar[bool] = False  # whether a probation tightens the bound
    period: str = "day"  # whose end `recover = "period"` waits for

    def __init__(self, params: Policy, scope: Scope) -> None:
        self.params, self.floor = params, params.floor
        self.scope, self.per, self.name = scope, kind_of(scope), name_of(scope)

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip or a refusal, for people."""
        return self.reason.format(value=value, bound=bound, limit=self)

    def is_past(self, value: float, bound: float) -> bool:
        """Whether a value is past its bound.

        The comparison is exact where the bound is reached, else it has a tolerance in favour of the
        bound. Counts do not differ from their bound by so little.
        """
        if self.reaches:
            return value >= bound
        if self.floor:
            return value < bound * (1 - TOLERANCE)
        return value > bound * (1 + TOLERANCE)

    def is_clear(self, value: float, bound: float, ratio: float) -> bool:
        """Whether a value is on the right side of ``ratio`` of its bound."""
        return value > bound / ratio if self.floor else value < bound * ratio

    def utilization(self, value: float | None, bound: float | None) -> float | None:
        """value / bound (for a floor bound / value, 10 when the value is <= 0), within 0 and 10."""
        if value is None or not bound:
            return None
        if self.floor:
            return 10.0 if value <= 0 else min(10.0, max(0.0, bound / value))
        return min(10.0, max(0.0, value / bound))


class Unmeasured(Limit):
    """No measure: an operator, a start, a stop or a removed limit holds the breaker."""


class StateLimit(Limit):
    """A limit on a value that exists at any time.

    ``grows_with_time``: the value grows with every second, so that it is shown as of now, and is
    evaluated once a second while more breaches in a row are needed.
    """

    grows_with_time: ClassVar[bool] = False

    @property
    @abstractmethod
    def topics(self) -> tuple[Topic, ...]:
        """What the value depends on."""

    @abstractmethod
    def value(self, facts: Facts) -> float | Unknown | None:
        """The value; None when there is nothing to measure (yet)."""

    def next_change_ns(self, facts: Facts, bound: float) -> int | None:
        """When the value passes its next level without an event (engine time); None: never."""
        return None


class SizeLimit(StateLimit):
    """A limit on the size of positions: it also judges the order that would change it."""

    category = "position"
    is_size = True

    @abstractmethod
    def size(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The size before and after an order, with the orders that rest."""


class SampleLimit(Limit):
    """A limit on samples. ``reads`` are the types of events that it measures.

    ``measure`` is what it keeps of them, of the type ``Measure``; a snapshot holds it encoded.
    """

    reads: ClassVar[tuple[type[Sample], ...]]
    Measure: ClassVar[object]
    measure: object

    def __init__(self, params: Policy, scope: Scope, bound: float, kept: Raw | None) -> None:
        """The limit over ``scope``, with what an earlier one ``kept``."""
        super().__init__(params, scope)
        self.bound = bound
        self.forget()
        if kept is not None:
            self.measure = msgpack.Decoder(self.Measure).decode(kept)

    @abstractmethod
    def forget(self) -> None:
        """Set the measure to that of no sample."""

    @abstractmethod
    def observe(self, event: Sample, now_ns: int) -> Evaluation | None:
        """Add a sample; its evaluation, or None when nothing changes for the breaker."""

    def observe_run(self, run: Sequence[Latency], now_ns: int) -> bool:
        """Add latencies in a row if none of them needs an evaluation; else add none of them."""
        return False

    @abstractmethod
    def value(self, now_ns: int) -> float | None:
        """The value; None before there are samples enough."""

    def evaluate(self, now_ns: int, *, counts: bool = True) -> Evaluation:
        """The evaluation of the samples that are kept, by the bound of now."""
        value, bound = self.value(now_ns), self.bound
        if value is None:
            return NOT_PAST
        # The ratio itself is compared: 7 of 25 are 0.28, but 0.28 x 25 is a little above 7.
        return Evaluation(self.is_past(value, bound), counts, value / bound >= self.params.warn)

    @abstractmethod
    def probe(self, event: Sample) -> bool | None:
        """Whether a sample is a good probe for a half-open breaker; None: it is no probe."""

    def rebind(self, bound: float) -> None:
        """Set another bound."""
        self.bound = bound


class OrderLimit(Limit):
    """A limit on single orders, judged when an order is checked.

    ``measure`` is what it keeps of earlier orders, of the type ``Measure``; without one it counts
    none. ``freezes``: it also counts refused orders, and too many freeze its scope.
    """

    category = "order"
    freezes: ClassVar[bool] = False
    Measure: ClassVar[object] = None
    measure: object = None

    def __init__(self, params: Policy, scope: Scope, kept: Raw | None) -> None:
        """The limit over ``scope``, with what an earlier one ``kept``."""
        super().__init__(params, scope)
        if kept is not None:
            self.measure = msgpack.Decoder(self.Measure).decode(kept)

    @abstractmethod
    def judge(self, facts: Facts, order: Intent, bound: float) -> float | Unknown:
        """The value with the order."""

    def record(self, facts: Facts, order: Intent) -> int | None:
        """Count an order that is checked, permitted or not; the count if it freezes the scope."""
        return None

    def commit(self, facts: Facts, order: Intent, bound: float) -> None:
        """Count an order that is permitted."""

    def forget(self) -> None:
        """Drop what is kept of earlier orders."""
        self.measure = None
