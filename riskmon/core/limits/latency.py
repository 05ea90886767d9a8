"""``latency_p99``: a venue that answers too slowly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge
from msgspec import Raw

from riskmon.core.constraints import Count, DaySeconds
from riskmon.core.events import PROBE, Error, Latency
from riskmon.core.limits.limit import NOT_PAST, TOLERANCE, Evaluation, Sample, SampleLimit
from riskmon.core.limits.policy import HALF_OPEN, NOT_ABOVE_WINDOW, Bound, Ceiling, Recover
from riskmon.core.limits.windows import CountWindow, TimeWindow
from riskmon.core.quantiles import nearest_rank
from riskmon.core.scopes import Scope

Window = CountWindow | TimeWindow


@dataclass(frozen=True, kw_only=True)
class LatencyP99Params(Ceiling):
    """``max`` in seconds; the window is the last ``window`` samples, or of ``seconds``."""

    max: Bound = 0.2
    per: Literal["venue"] = "venue"
    operation: str | None = None  # only this operation's samples
    window: Count = 1_000  # the last samples
    seconds: DaySeconds | None = None  # instead of `window`: the samples of so many seconds
    min_samples: Annotated[int, Ge(1), NOT_ABOVE_WINDOW] = 100  # with fewer it is not evaluated
    breaches: Count = 5  # slow samples before it acts
    recover: Recover = HALF_OPEN


class LatencyP99Limit(SampleLimit):
    """Nearest-rank P99 of a venue's latencies, evaluated at each sample."""

    kind = "latency_p99"
    category = "venue"
    on_by_default = True
    Params = LatencyP99Params
    reads = (Latency, Error)
    Measure = Window
    params: LatencyP99Params
    measure: Window

    def __init__(
        self, params: LatencyP99Params, scope: Scope, bound: float, kept: Raw | None
    ) -> None:
        super().__init__(params, scope, bound, kept)
        self.operation = params.operation
        self._always = params.recover == "clear"  # an evaluation that is clear may close a breaker
        if not self._fits():
            self.forget()
        self.measure.rebind(bound * (1 + TOLERANCE), bound * params.warn)

    def forget(self) -> None:
        """Empty the window."""
        params, near = self.params, self.bound * self.params.warn
        bound = self.bound * (1 + TOLERANCE)  # a sample above this one is past the bound
        if params.seconds is not None:
            self.measure = TimeWindow(bound, near, span_ns=int(params.seconds * 1e9))
        else:
            self.measure = CountWindow(bound, near, size=params.window)

    def _fits(self) -> bool:
        window, seconds = self.measure, self.params.seconds
        if isinstance(window, TimeWindow):
            return seconds is not None and window.span_ns == int(seconds * 1e9)
        return seconds is None and window.size == self.params.window

    def observe(self, event: Sample, now_ns: int) -> Evaluation | None:
        """Add the sample; its evaluation when the P99 is or was near its bound."""
        if not isinstance(event, (Latency, Error)):
            return None
        operation, seconds = self.operation, event.seconds
        if seconds is None or (operation is not None and event.operation != operation):
            return None
        window = self.measure
        if not window.add(seconds, now_ns) and not self._always:
            return None
        if len(window) < self.params.min_samples:
            return NOT_PAST
        counts = self.is_past(seconds, self.bound)
        return Evaluation(window.p99_past_bound(), counts, window.p99_past_near())

    def observe_run(self, run: Sequence[Latency], now_ns: int) -> bool:
        """Add the samples if none is near the bound; else none of them."""
        if self._always:
            return False
        operation = self.operation
        samples = [
            event.seconds for event in run if operation is None or event.operation == operation
        ]
        return self.measure.add_run(samples, now_ns)

    def evaluate(self, now_ns: int, *, counts: bool = False) -> Evaluation:
        """The evaluation of the window; only a slow sample counts as a breach."""
        window = self.measure
        window.expire(now_ns)
        if len(window) < self.params.min_samples:
            return NOT_PAST
        return Evaluation(window.p99_past_bound(), counts, window.p99_past_near())

    def probe(self, event: Sample) -> bool | None:
        """Whether the sample is within the bound; an error is not."""
        if not isinstance(event, (Latency, Error)):
            return None
        if self.operation is not None and event.operation not in (self.operation, PROBE):
            return None
        return isinstance(event, Latency) and not self.is_past(event.seconds, self.bound)

    def value(self, now_ns: int) -> float | None:
        """The P99 in seconds, or None before ``min_samples``."""
        samples = self.measure.values_at(now_ns)
        if len(samples) < self.params.min_samples:
            return None
        return nearest_rank(sorted(samples), 99)

    def rebind(self, bound: float) -> None:
        """Set another bound, and count the samples above it."""
        self.bound = bound
        self.measure.rebind(bound * (1 + TOLERANCE), bound * self.params.warn)

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip, for people."""
        return f"P99 {value:.3f} s over {bound:g} s ({len(self.measure)} samples)"
