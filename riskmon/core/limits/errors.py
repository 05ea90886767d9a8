"""Limits on errors: ``error_streak``, so many in a row, and ``error_rate``, so many of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge
from msgspec import Raw

from riskmon.core.constraints import Constraint, Count, Positive, is_whole, must
from riskmon.core.events import PROBE, Error, Fill, Latency
from riskmon.core.limits.limit import Evaluation, Sample, SampleLimit
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
from riskmon.core.scopes import Scope

OPERATIONS_MAX = 256  # of a scope with errors in a row; further ones are counted as OTHER
OTHER = "other"
_WHOLE = must(is_whole, "must be a whole number of errors")
_AT_MOST_ONE: Constraint[float] = must(
    lambda bound: bound <= 1, "must be a ratio of at most 1\n0.5 is 50 %"
)
COOLDOWN = Recovery(after=300.0, multiplier=1.0, max=300.0, jitter=0.0, probes=0)


@dataclass(frozen=True, kw_only=True)
class ErrorStreakParams(Ceiling):
    """``max`` errors in a row; a latency above ``slow`` seconds counts as an error."""

    max: Annotated[Bound, _WHOLE] = 5
    overrides: dict[Scope, Annotated[Positive, _WHOLE]] = field(default_factory=dict)
    schedule: CeilingSlots[Annotated[Positive, _WHOLE]] = ()
    per: Literal["venue", "account"] = "venue"
    operation: str | None = None  # only this operation's samples
    slow: Positive | None = None  # a latency above it, in seconds, is an error
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

    kind = "error_streak"
    category = "venue"
    on_by_default = True
    reaches = True
    Params = ErrorStreakParams
    reads = (Latency, Error, Fill)
    Measure = dict[str, int]
    params: ErrorStreakParams
    measure: dict[str, int]  # operation -> errors in a row, none of them 0

    def __init__(
        self, params: ErrorStreakParams, scope: Scope, bound: float, kept: Raw | None
    ) -> None:
        super().__init__(params, scope, bound, kept)
        self._always = params.recover == "clear"  # an evaluation that is clear may close a breaker
        self._quiet = params.slow is None and not self._always
        self._longest = _Longest(self.measure)

    def forget(self) -> None:
        """End every run."""
        self.measure = {}
        self._longest = _Longest(self.measure)

    def observe(self, event: Sample, now_ns: int) -> Evaluation | None:
        """Lengthen or end a run; the evaluation when the run of an operation changed."""
        if not self.measure and self._quiet and type(event) is not Error:
            return None  # nearly always: a success, and no run that it could end
        if isinstance(event, (Latency, Error)):
            only = self.params.operation
            return self._count(event, now_ns) if only in {None, event.operation} else None
        if not self.measure and not self._always:
            return None
        self.forget()
        return self.evaluate(now_ns)

    def observe_run(self, run: Sequence[Latency], now_ns: int) -> bool:
        """Add the latencies if they end no run and are no errors; else none of them."""
        return not self.measure and self._quiet

    def _count(self, event: Latency | Error, now_ns: int) -> Evaluation | None:
        operation, streaks = event.operation or "", self.measure
        if operation not in streaks and len(streaks) >= OPERATIONS_MAX:
            operation = OTHER
        length = streaks.get(operation, 0)
        if _is_error(event, self.params.slow):
            streaks[operation] = length + 1
            self._longest.grow(length)
            return self.evaluate(now_ns)
        if length:
            del streaks[operation]
            self._longest.end(length)
        elif not self._always:
            return None
        return self.evaluate(now_ns, counts=False)

    def probe(self, event: Sample) -> bool | None:
        """Whether the request succeeded; a fill did."""
        if not isinstance(event, (Latency, Error)):
            return True
        return _probe(event, self.params)

    def value(self, now_ns: int) -> float:
        """The length of the longest run."""
        return float(self._longest.longest)

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip, for people."""
        operation = max(self.measure, key=lambda name: self.measure[name], default="")
        return f"{value:.0f} errors in a row{f' of {operation}' if operation else ''}"


@dataclass(frozen=True, kw_only=True)
class ErrorRateParams(Ceiling):
    """``max`` is a ratio of the last ``window`` requests; above ``slow`` seconds is an error."""

    max: Annotated[Bound, _AT_MOST_ONE] = 0.5
    overrides: dict[Scope, Annotated[Positive, _AT_MOST_ONE]] = field(default_factory=dict)
    schedule: CeilingSlots[Annotated[Positive, _AT_MOST_ONE]] = ()
    per: Literal["venue"] = "venue"
    operation: str | None = None  # only this operation's samples
    slow: Positive | None = None  # a latency above it, in seconds, is an error
    window: Count = 100  # the last requests
    min_samples: Annotated[int, Ge(1), NOT_ABOVE_WINDOW] = 20  # with fewer it is not evaluated
    recover: Recover = HALF_OPEN


class ErrorRateLimit(SampleLimit):
    """Errors over requests of a venue."""

    kind = "error_rate"
    category = "venue"
    on_by_default = True
    reaches = True
    Params = ErrorRateParams
    reads = (Latency, Error)
    Measure = RateWindow
    params: ErrorRateParams
    measure: RateWindow

    def __init__(
        self, params: ErrorRateParams, scope: Scope, bound: float, kept: Raw | None
    ) -> None:
        super().__init__(params, scope, bound, kept)
        self.operation, self.slow = params.operation, params.slow
        self._always = params.recover == "clear"  # an evaluation that is clear may close a breaker
        if self.measure.size != params.window:
            self.forget()

    def forget(self) -> None:
        """Empty the window."""
        self.measure = RateWindow(self.params.window)

    def observe(self, event: Sample, now_ns: int) -> Evaluation | None:
        """Add the outcome of a request; its evaluation when the window holds or held an error."""
        if not isinstance(event, (Latency, Error)):
            return None
        window, operation = self.measure, self.operation
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
        operation = self.operation
        if self.measure.errors or self.slow is not None or self._always:
            return False
        self.measure.add_successes(
            len(run)
            if operation is None
            else sum(1 for event in run if event.operation == operation)
        )
        return True

    def probe(self, event: Sample) -> bool | None:
        """Whether the request succeeded."""
        return _probe(event, self.params) if isinstance(event, (Latency, Error)) else None

    def value(self, now_ns: int) -> float | None:
        """The ratio, or None before ``min_samples``."""
        count = len(self.measure.outcomes)
        return self.measure.errors / count if count >= self.params.min_samples else None

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip, for people."""
        count = len(self.measure.outcomes)
        return f"{value:.0%} of {count} requests failed, bound {bound:.0%}"


def _probe(event: Latency | Error, params: ErrorStreakParams | ErrorRateParams) -> bool | None:
    if params.operation is not None and event.operation not in (params.operation, PROBE):
        return None
    return not _is_error(event, params.slow)


def _is_error(event: Latency | Error, slow: float | None) -> bool:
    """Whether a request failed, or took longer than ``slow`` seconds."""
    return isinstance(event, Error) or (slow is not None and event.seconds > slow)
