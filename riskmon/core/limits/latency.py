"""``latency_p99``: a venue that answers too slowly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from riskmon.core.constraints import Count, DaySeconds
from riskmon.core.events import Error, Latency
from riskmon.core.limits.evaluation import Verdict
from riskmon.core.limits.policy import HALF_OPEN, NOT_ABOVE_WINDOW, Bound, Ceiling, Recover
from riskmon.core.limits.windows import CountWindow, TimeWindow, nearest_rank

Window = CountWindow | TimeWindow


@dataclass(frozen=True, kw_only=True)
class LatencyP99Params(Ceiling):
    """``max`` in seconds; the window is the last ``window`` samples, or of ``seconds``."""

    max: Bound = 0.2
    per: Literal["venue"] = "venue"
    operation: str | None = None  # only this one's samples
    window: Count = 1_000
    seconds: DaySeconds | None = None
    min_samples: Annotated[int, Ge(1), NOT_ABOVE_WINDOW] = 100
    breaches: Count = 5
    recover: Recover = HALF_OPEN


class LatencyP99:
    """Nearest-rank P99 of a venue's latencies, judged at each sample."""

    kind: ClassVar[str] = "latency_p99"
    category: ClassVar[str] = "venue"
    on_by_default: ClassVar[bool] = True
    standing: ClassVar[bool] = False
    Params: ClassVar[type[LatencyP99Params]] = LatencyP99Params
    takes: ClassVar[tuple[type[Any], ...]] = (Latency, Error)
    Measure: ClassVar[Any] = Window  # what it remembers for each scope

    def __init__(self, params: LatencyP99Params, windows: dict[str, Any]) -> None:
        self.params = params
        self.operation = params.operation
        self._always = params.recover == "clear"  # what is clear is said, though nothing changed
        self.windows: dict[str, Window] = windows

    def feed(self, event: Latency | Error, now_ns: int) -> Verdict | None:
        """Take the sample; a verdict when P99 is or was near its bound."""
        operation, seconds = self.operation, event.seconds
        if seconds is None or (operation is not None and event.operation != operation):
            return None
        window = self.windows.get(event.venue)
        if window is None:
            return None
        if not window.add(seconds, now_ns) and not self._always:
            return None
        near = window.p99_past_near()
        scope = "venue:" + event.venue
        if len(window) < self.params.min_samples:
            return Verdict(scope, past=False, counts=False, near=False)
        above = seconds > window.bound
        return Verdict(scope, past=window.p99_past_bound(), counts=above, near=near)

    def take_run(self, venue: str, run: list[Latency], now_ns: int) -> bool:
        """Take a venue's samples if none is near the bound; else take none of them."""
        window, operation = self.windows.get(venue), self.operation
        if window is None or self._always:
            return window is None
        samples = [
            event.seconds for event in run if operation is None or event.operation == operation
        ]
        return window.add_run(samples, now_ns)

    def review(self, scope: str, now_ns: int) -> Verdict:
        """What there is to say under a bound that moved; only a slow sample counts."""
        window = self.windows[scope.partition(":")[2]]
        if isinstance(window, TimeWindow):
            window.expire(now_ns)
        enough = len(window) >= self.params.min_samples
        past, near = window.p99_past_bound(), window.p99_past_near()
        return Verdict(scope, past=enough and past, counts=False, near=enough and near)

    def probe(self, event: Latency | Error) -> tuple[str, bool] | None:
        """(scope, whether the sample is good) for a half-open breaker."""
        operation = self.params.operation
        if operation is not None and event.operation not in (operation, "probe"):
            return None
        scope = "venue:" + event.venue
        if type(event) is Error:
            return scope, False
        window = self.windows.get(event.venue)
        return None if window is None else (scope, event.seconds <= window.bound)  # type: ignore[operator]

    def register(self, scope: str, bound: float) -> None:
        """Begin, or go on under a new bound, to measure ``scope``."""
        venue = scope.partition(":")[2]
        near = bound * self.params.warn
        window = self.windows.get(venue)
        if window is None or not self._fits(window):
            self.windows[venue] = self._window(bound, near)
        elif (window.bound, window.near) != (bound, near):
            window.rebind(bound, near)

    def _window(self, bound: float, near: float) -> Window:
        if self.params.seconds is not None:
            return TimeWindow(int(self.params.seconds * 1e9), bound, near)
        return CountWindow(self.params.window, bound, near)

    def _fits(self, window: Window) -> bool:
        if isinstance(window, TimeWindow):
            seconds = self.params.seconds
            return seconds is not None and window.span_ns == int(seconds * 1e9)
        return self.params.seconds is None and window.size == self.params.window

    def value(self, scope: str, now_ns: int) -> float | None:
        """The P99 in seconds, or None before ``min_samples``."""
        window = self.windows.get(scope.partition(":")[2])
        if window is None:
            return None
        samples = window.values_at(now_ns)
        if len(samples) < self.params.min_samples:
            return None
        return nearest_rank(sorted(samples), 99)

    def describe(self, scope: str, value: float | None, bound: float) -> str:
        """Why it tripped, for people."""
        count = len(self.windows[scope.partition(":")[2]])
        return f"P99 {value or 0:.3f} s over {bound:g} s ({count} samples)"

    def forget(self, scope: str) -> None:
        """Empty the window."""
        window = self.windows.get(scope.partition(":")[2])
        if window is not None:
            window.clear()
