"""Limits on errors: ``error_streak``, so many in a row, and ``error_rate``, so many of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import msgspec
from annotated_types import Ge

from riskmon.core.constraints import Check, Count, Positive, is_whole, must
from riskmon.core.events import PROBE, Error, Fill, Latency
from riskmon.core.limits.limit import Category, Evaluation, Sample, SampleLimit
from riskmon.core.limits.policy import (
    HALF_OPEN,
    NOT_ABOVE_WINDOW,
    Bound,
    Ceiling,
    Recover,
    Recovery,
)
from riskmon.core.limits.schedule import CeilingSlots
from riskmon.core.limits.windows import RateWindow

OPERATIONS_MAX = 256  # of a scope with errors in a row; further ones are counted as OTHER
OTHER = "other"
_WHOLE = must(is_whole, "must be a whole number of errors")
_AT_MOST_ONE: Check[float] = must(
    lambda bound: bound <= 1, "must be a ratio of at most 1\n0.5 is 50 %"
)
_STREAKS = msgspec.msgpack.Decoder(dict[str, int])
_RATES = msgspec.msgpack.Decoder(RateWindow)
COOLDOWN = Recovery(after=300.0, multiplier=1.0, max=300.0, jitter=0.0, probes=0)


@dataclass(frozen=True, kw_only=True)
class ErrorStreakParams(Ceiling):
    """``max`` errors in a row; a latency above ``slow`` seconds counts as an error."""

    max: Annotated[Bound, _WHOLE] = 5
    schedule: CeilingSlots[Annotated[Positive, _WHOLE]] = ()
    per: Literal["venue", "account"] = "venue"
    operation: str | None = None
    slow: Positive | None = None
    recover: Recover = COOLDOWN


class _Longest:
    """The longest run among a scope's operations, kept up to date as runs grow and end."""

    __slots__ = ("longest", "of_length")

    def __init__(self, streaks: dict[str, int]) -> None:
        self.longest = max(streaks.values(), default=0)
        self.of_length: dict[int, int] = {}  # length -> how many runs have it
        for length in streaks.values():
            self.of_length[length] = self.of_length.get(length, 0) + 1

    def grow(self, length: int) -> None:
        """A run of ``length`` is one longer."""
        if length:
            self._leave(length)
        self.of_length[length + 1] = self.of_length.get(length + 1, 0) + 1
        self.longest = max(self.longest, length + 1)

    def end(self, length: int) -> None:
        """A run of ``length`` is over."""
        self._leave(length)
        # Each error lengthens the longest run by at most 1, so these steps add up to the errors.
        while self.longest and self.longest not in self.of_length:
            self.longest -= 1

    def _leave(self, length: int) -> None:
        left = self.of_length[length] - 1
        if left:
            self.of_length[length] = left
        else:
            del self.of_length[length]


class ErrorStreakLimit(SampleLimit):
    """The longest run of errors among a scope's operations.

    A success of the operation ends its run; a fill, which proves that the venue works, ends all.
    """

    kind: ClassVar[str] = "error_streak"
    category: ClassVar[Category] = "venue"
    on_by_default: ClassVar[bool] = True
    Params: ClassVar[type[ErrorStreakParams]] = ErrorStreakParams
    reads: ClassVar[tuple[type[Sample], ...]] = (Latency, Error, Fill)

    def __init__(
        self, params: ErrorStreakParams, scope: str, bound: float, measure: msgspec.Raw | None
    ) -> None:
        self.params = params
        self.bound = bound
        self._always = params.recover == "clear"  # an evaluation that is clear may close a breaker
        self._quiet = params.slow is None and not self._always
        # Operation -> errors in a row, none of them 0.
        self.streaks: dict[str, int] = {} if measure is None else _STREAKS.decode(measure)
        self._longest = _Longest(self.streaks)

    @staticmethod
    def is_past(value: float, bound: float) -> bool:
        """Whether a streak reaches its bound."""
        return value >= bound

    @property
    def measure(self) -> dict[str, int]:
        """The runs of all operations."""
        return self.streaks

    def observe(self, event: Sample, now_ns: int) -> Evaluation | None:
        """Lengthen or end a run; the evaluation when the run of an operation changed."""
        if not self.streaks and self._quiet and type(event) is not Error:
            return None  # nearly always: a success, and no run that it could end
        if isinstance(event, (Latency, Error)):
            only = self.params.operation
            return self._count(event) if only is None or event.operation == only else None
        if self.streaks:
            self.forget()
        elif not self._always:
            return None
        return self._evaluation(counts=False)

    def observe_run(self, run: Sequence[Latency], now_ns: int) -> bool:
        """Add the latencies if they end no run and are no errors; else none of them."""
        return not self.streaks and self._quiet

    def _count(self, event: Latency | Error) -> Evaluation | None:
        operation, streaks = event.operation or "", self.streaks
        if operation not in streaks and len(streaks) >= OPERATIONS_MAX:
            operation = OTHER
        length = streaks.get(operation, 0)
        if _is_error(event, self.params.slow):
            streaks[operation] = length + 1
            self._longest.grow(length)
            return self._evaluation(counts=True)
        if length:
            del streaks[operation]
            self._longest.end(length)
        elif not self._always:
            return None
        return self._evaluation(counts=False)

    def _evaluation(self, *, counts: bool) -> Evaluation:
        longest, bound = self._longest.longest, self.bound
        return Evaluation(self.is_past(longest, bound), counts, longest >= bound * self.params.warn)

    def evaluate(self, now_ns: int) -> Evaluation:
        """The evaluation of the longest run."""
        return self._evaluation(counts=True)

    def probe(self, event: Sample) -> bool | None:
        """Whether the request succeeded; a fill did."""
        if not isinstance(event, (Latency, Error)):
            return True
        only = self.params.operation
        if only is not None and event.operation not in (only, PROBE):
            return None
        return not _is_error(event, self.params.slow)

    def value(self, now_ns: int) -> float:
        """The length of the longest run."""
        return float(self._longest.longest)

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip, for people."""
        operation = max(self.streaks, key=lambda name: self.streaks[name], default="")
        return f"{value:.0f} errors in a row{f' of {operation}' if operation else ''}"

    def forget(self) -> None:
        """End every run."""
        self.streaks.clear()
        self._longest = _Longest({})


@dataclass(frozen=True, kw_only=True)
class ErrorRateParams(Ceiling):
    """``max`` is a ratio of the last ``window`` requests; above ``slow`` seconds is an error."""

    max: Annotated[Bound, _AT_MOST_ONE] = 0.5
    schedule: CeilingSlots[Annotated[Positive, _AT_MOST_ONE]] = ()
    per: Literal["venue"] = "venue"
    operation: str | None = None
    slow: Positive | None = None
    window: Count = 100
    min_samples: Annotated[int, Ge(1), NOT_ABOVE_WINDOW] = 20
    recover: Recover = HALF_OPEN


class ErrorRateLimit(SampleLimit):
    """Errors over requests of a venue."""

    kind: ClassVar[str] = "error_rate"
    category: ClassVar[Category] = "venue"
    on_by_default: ClassVar[bool] = True
    Params: ClassVar[type[ErrorRateParams]] = ErrorRateParams
    reads: ClassVar[tuple[type[Sample], ...]] = (Latency, Error)

    def __init__(
        self, params: ErrorRateParams, scope: str, bound: float, measure: msgspec.Raw | None
    ) -> None:
        self.params = params
        self.bound = bound
        self.operation, self.slow = params.operation, params.slow
        self._always = params.recover == "clear"  # an evaluation that is clear may close a breaker
        kept = None if measure is None else _RATES.decode(measure)
        self.window = (
            kept if kept is not None and kept.size == params.window else RateWindow(params.window)
        )

    @staticmethod
    def is_past(value: float, bound: float) -> bool:
        """Whether a rate reaches its bound."""
        return value >= bound

    @property
    def measure(self) -> RateWindow:
        """The window."""
        return self.window

    def observe(self, event: Sample, now_ns: int) -> Evaluation | None:
        """Add the outcome of a request; its evaluation when the window holds or held an error."""
        if not isinstance(event, (Latency, Error)):
            return None
        window, operation = self.window, self.operation
        if operation is not None and event.operation != operation:
            return None
        errors = window.errors
        success = self.slow is None and type(event) is Latency  # nearly always
        window.add(0 if success else int(_is_error(event, self.slow)))
        if not errors and not window.errors and not self._always:
            return None
        return self.evaluate(now_ns)

    def observe_run(self, run: Sequence[Latency], now_ns: int) -> bool:
        """Add the latencies if they and the window hold no error; else none of them."""
        window, operation = self.window, self.operation
        if window.errors or self.slow is not None or self._always:
            return False
        window.add_successes(
            len(run)
            if operation is None
            else sum(1 for event in run if event.operation == operation)
        )
        return True

    def evaluate(self, now_ns: int) -> Evaluation:
        """The evaluation of the window."""
        value = self.value(now_ns)
        if value is None:
            return Evaluation(past=False, counts=True, near=False)
        # The ratio itself is compared: 7 of 25 are 0.28, but 0.28 x 25 is a little above 7.
        near = value / self.bound >= self.params.warn
        return Evaluation(self.is_past(value, self.bound), counts=True, near=near)

    def probe(self, event: Sample) -> bool | None:
        """Whether the request succeeded."""
        if not isinstance(event, (Latency, Error)):
            return None
        if self.operation is not None and event.operation not in (self.operation, PROBE):
            return None
        return not _is_error(event, self.slow)

    def value(self, now_ns: int) -> float | None:
        """The ratio, or None before ``min_samples``."""
        count = len(self.window.outcomes)
        return self.window.errors / count if count >= self.params.min_samples else None

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip, for people."""
        count = len(self.window.outcomes)
        return f"{value:.0%} of {count} requests failed, bound {bound:.0%}"

    def forget(self) -> None:
        """Empty the window."""
        self.window.clear()


def _is_error(event: Latency | Error, slow: float | None) -> bool:
    """Whether a request failed, or took longer than ``slow`` seconds."""
    return isinstance(event, Error) or (slow is not None and event.seconds > slow)
