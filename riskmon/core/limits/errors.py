"""Limits on errors: ``error_streak``, so many in a row, and ``error_rate``, so many of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from riskmon.core.constraints import Check, Count, Positive, is_whole, must
from riskmon.core.events import PROBE, Error, Fill, Latency
from riskmon.core.limits.evaluation import Verdict
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


class ErrorStreak:
    """The longest run of errors among a scope's operations.

    A success of the operation ends its run; a fill, which proves that the venue works, ends all.
    """

    kind: ClassVar[str] = "error_streak"
    category: ClassVar[str] = "venue"
    on_by_default: ClassVar[bool] = True
    standing: ClassVar[bool] = False
    Params: ClassVar[type[ErrorStreakParams]] = ErrorStreakParams
    takes: ClassVar[tuple[type[Any], ...]] = (Latency, Error, Fill)
    Measure: ClassVar[Any] = dict[str, int]  # what it remembers for each scope

    def __init__(self, params: ErrorStreakParams, streaks: dict[str, dict[str, int]]) -> None:
        self.params = params
        self.streaks = streaks  # scope -> operation -> errors in a row, none of them 0
        self.bounds: dict[str, float] = {}
        self._by_venue = params.per == "venue"
        self._always = params.recover == "clear"  # what is clear is said, though nothing changed
        self._quiet = params.slow is None and not self._always
        self._of: dict[str, dict[str, int]] = {}  # the same, by venue, "" for the account
        self._longest: dict[str, _Longest] = {}  # of each scope

    def feed(self, event: Latency | Error | Fill, now_ns: int) -> Verdict | None:
        """Lengthen or end a run; a verdict when the run of an operation changed."""
        streaks = self._of.get(event.venue if self._by_venue else "")
        if not streaks and (streaks is None or (self._quiet and type(event) is not Error)):
            return None  # nearly always: a success, and no run that it could end
        scope = "venue:" + event.venue if self._by_venue else "account"
        if type(event) is Fill:
            if streaks:
                self.forget(scope)
            elif not self._always:
                return None
            return self._verdict(scope, counts=False)
        only = self.params.operation
        if only is not None and event.operation != only:  # type: ignore[union-attr]
            return None
        return self._count(scope, streaks, event)  # type: ignore[arg-type]

    def take_run(self, venue: str, run: list[Latency], now_ns: int) -> bool:
        """Take a venue's latencies if they end no run and are no errors; else take none."""
        streaks = self._of.get(venue if self._by_venue else "")
        return streaks is None or (not streaks and self._quiet)

    def _count(self, scope: str, streaks: dict[str, int], event: Latency | Error) -> Verdict | None:
        operation = event.operation or ""
        if operation not in streaks and len(streaks) >= OPERATIONS_MAX:
            operation = OTHER
        length = streaks.get(operation, 0)
        if self._is_error(event):
            streaks[operation] = length + 1
            self._longest[scope].grow(length)
            return self._verdict(scope, counts=True)
        if length:
            del streaks[operation]
            self._longest[scope].end(length)
        elif not self._always:
            return None
        return self._verdict(scope, counts=False)

    def _is_error(self, event: Latency | Error) -> bool:
        slow = self.params.slow
        return type(event) is Error or (slow is not None and event.seconds > slow)  # type: ignore[operator]

    def _verdict(self, scope: str, *, counts: bool) -> Verdict:
        longest, bound = self._longest[scope].longest, self.bounds[scope]
        return Verdict(
            scope,
            past=longest >= bound,
            counts=counts,
            near=longest >= bound * self.params.warn,
        )

    def review(self, scope: str, now_ns: int) -> Verdict:
        """What there is to say under a bound that moved."""
        return self._verdict(scope, counts=True)

    def probe(self, event: Latency | Error | Fill) -> tuple[str, bool] | None:
        """(scope, whether the request went well) for a half-open breaker."""
        scope = "account" if self.params.per == "account" else "venue:" + event.venue
        if isinstance(event, Fill):
            return scope, True
        only = self.params.operation
        if only is not None and event.operation not in (only, PROBE):
            return None
        return scope, not self._is_error(event)

    def register(self, scope: str, bound: float) -> None:
        """Begin, or go on under a new bound, to measure ``scope``."""
        streaks = self.streaks.setdefault(scope, {})
        self._of[scope.partition(":")[2]] = streaks
        if scope not in self._longest:
            self._longest[scope] = _Longest(streaks)
        self.bounds[scope] = bound

    def value(self, scope: str, now_ns: int) -> float | None:
        """The longest run."""
        longest = self._longest.get(scope)
        return 0.0 if longest is None else float(longest.longest)

    def describe(self, scope: str, value: float | None, bound: float) -> str:
        """Why it tripped, for people."""
        streaks = self.streaks[scope]
        operation = max(streaks, key=lambda name: streaks[name], default="")
        return f"{value or 0:.0f} errors in a row{f' of {operation}' if operation else ''}"

    def forget(self, scope: str) -> None:
        """End every run."""
        if scope in self.streaks:
            self.streaks[scope].clear()
            self._longest[scope] = _Longest({})


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


class ErrorRate:
    """Errors over requests of a venue."""

    kind: ClassVar[str] = "error_rate"
    category: ClassVar[str] = "venue"
    on_by_default: ClassVar[bool] = True
    standing: ClassVar[bool] = False
    Params: ClassVar[type[ErrorRateParams]] = ErrorRateParams
    takes: ClassVar[tuple[type[Any], ...]] = (Latency, Error)
    Measure: ClassVar[Any] = RateWindow  # what it remembers for each venue

    def __init__(self, params: ErrorRateParams, windows: dict[str, RateWindow]) -> None:
        self.params = params
        self.operation, self.slow = params.operation, params.slow
        self._always = params.recover == "clear"  # what is clear is said, though nothing changed
        self.rates = windows
        self.bounds: dict[str, float] = {}

    def feed(self, event: Latency | Error, now_ns: int) -> Verdict | None:
        """Take the outcome of a request; a verdict when there was any error in the window."""
        rate = self.rates.get(event.venue)
        operation = self.operation
        if rate is None or (operation is not None and event.operation != operation):
            return None
        errors = rate.errors
        plain = self.slow is None and type(event) is Latency  # nearly always
        rate.add(0 if plain else int(self._is_error(event)))
        if not errors and not rate.errors and not self._always:
            return None
        return self._verdict(event.venue, rate)

    def take_run(self, venue: str, run: list[Latency], now_ns: int) -> bool:
        """Take a venue's latencies if they and the window hold no error; else take none."""
        rate, operation = self.rates.get(venue), self.operation
        if rate is None:
            return True
        if rate.errors or self.slow is not None or self._always:
            return False
        rate.add_successes(
            len(run)
            if operation is None
            else sum(1 for event in run if event.operation == operation)
        )
        return True

    def _verdict(self, venue: str, rate: RateWindow) -> Verdict:
        count, bound = len(rate.outcomes), self.bounds[venue]
        enough = count >= self.params.min_samples
        # Divided as the value is: 7 of 25 are 0.28, but 0.28 x 25 is a little above 7.
        past = enough and rate.errors / count >= bound
        near = enough and rate.errors / count / bound >= self.params.warn
        return Verdict("venue:" + venue, past=past, counts=True, near=near)

    def review(self, scope: str, now_ns: int) -> Verdict:
        """What there is to say under a bound that moved."""
        venue = scope.partition(":")[2]
        return self._verdict(venue, self.rates[venue])

    def _is_error(self, event: Latency | Error) -> bool:
        return type(event) is Error or (self.slow is not None and event.seconds > self.slow)  # type: ignore[operator]

    def probe(self, event: Latency | Error) -> tuple[str, bool] | None:
        """(scope, whether the request went well) for a half-open breaker."""
        if self.operation is not None and event.operation not in (self.operation, PROBE):
            return None
        return "venue:" + event.venue, not self._is_error(event)

    def register(self, scope: str, bound: float) -> None:
        """Begin, or go on under a new bound, to measure ``scope``."""
        venue = scope.partition(":")[2]
        self.bounds[venue] = bound
        rate = self.rates.get(venue)
        if rate is None or rate.size != self.params.window:
            self.rates[venue] = RateWindow(self.params.window)

    def value(self, scope: str, now_ns: int) -> float | None:
        """The ratio, or None before ``min_samples``."""
        rate = self.rates.get(scope.partition(":")[2])
        if rate is None or len(rate.outcomes) < self.params.min_samples:
            return None
        return rate.errors / len(rate.outcomes)

    def describe(self, scope: str, value: float | None, bound: float) -> str:
        """Why it tripped, for people."""
        count = len(self.rates[scope.partition(":")[2]].outcomes)
        return f"{value or 0:.0%} of {count} requests failed, bound {bound:.0%}"

    def forget(self, scope: str) -> None:
        """Empty the window."""
        rate = self.rates.get(scope.partition(":")[2])
        if rate is not None:
            rate.clear()
