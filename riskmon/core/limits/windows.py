"""Sliding windows over samples, cheap enough to be evaluated after every sample.

The nearest-rank P99 of n samples is the ⌈0.99 n⌉-th smallest. It is above a bound exactly when at
least n − ⌈0.99 n⌉ + 1 samples are, that is when *more than* ⌊n / 100⌋ samples are above it. So one
counter decides, whatever the size of the window; the P99 itself is computed when it is read.
"""

from __future__ import annotations

from bisect import bisect_left
from math import fsum

from msgspec import Struct

from riskmon.core.quantiles import nearest_rank


class _Window(Struct):
    """Samples, with how many of them are above ``bound`` and above ``near``."""

    bound: float
    near: float  # bound x warning ratio
    samples: list[float] = []
    head: int = 0
    above: int = 0
    above_near: int = 0

    def __len__(self) -> int:
        return len(self.samples)

    def p99_past_bound(self) -> bool:
        """Whether the nearest-rank P99 is above the bound."""
        return self.above > len(self) // 100

    def p99_past_near(self) -> bool:
        """Whether the nearest-rank P99 is above the warning level."""
        return self.above_near > len(self) // 100

    def rebind(self, bound: float, near: float) -> None:
        """Set another bound, and count the samples above it."""
        self.bound, self.near = bound, near
        self.above = _count_above(self.values(), bound)
        self.above_near = _count_above(self.values(), near)

    def values(self) -> list[float]:
        """The samples, in no particular order."""
        return self.samples

    def values_at(self, now_ns: int) -> list[float]:
        """The samples that are left by now; the window does not change."""
        return self.samples

    def expire(self, now_ns: int) -> None:
        """Drop the samples that are too old."""


class CountWindow(_Window, tag="count", kw_only=True):
    """The last ``size`` samples; ``head`` is the place of the oldest in a full window."""

    size: int

    def add(self, sample: float, now_ns: int = 0) -> bool:
        """Add a sample; in a full window it replaces the oldest.

        Whether the P99 is, or was before it, past the warning level.
        """
        samples, before = self.samples, self.above_near
        if len(samples) < self.size:
            samples.append(sample)
        else:
            head = self.head
            old = samples[head]
            samples[head] = sample
            head += 1
            self.head = 0 if head == self.size else head
            if old > self.near:
                self.above_near -= 1
                if old > self.bound:
                    self.above -= 1
        if sample > self.near:
            self.above_near += 1
            if sample > self.bound:
                self.above += 1
        most = max(before, self.above_near) if before else self.above_near
        return most > 0 and most > len(samples) // 100

    def add_run(self, samples: list[float], now_ns: int = 0) -> bool:
        """Add many at once if the P99 is, and stays, below the warning level; else add none."""
        near = _count_above(samples, self.near)
        if self.above_near + near > len(self.samples) // 100:
            return False
        self.above_near += near
        if near:
            self.above += _count_above(samples, self.bound)
        for at in range(0, len(samples), self.size):
            self._put(samples[at : at + self.size])
        return True

    def _put(self, samples: list[float]) -> None:
        """Put samples, which are counted already, in the place of the oldest."""
        own = self.samples
        room = self.size - len(own)
        own += samples[:room]
        samples = samples[room:]
        while samples:
            head, part = self.head, samples[: self.size - self.head]
            end = head + len(part)
            if self.above_near:
                self.above_near -= _count_above(own[head:end], self.near)
                self.above -= _count_above(own[head:end], self.bound)
            own[head:end] = part
            self.head = 0 if end == self.size else end
            samples = samples[len(part) :]


class TimeWindow(_Window, tag="time", kw_only=True):
    """The samples of the last ``span_ns``; those before ``head`` have left.

    They are cut off when they are half of the list.
    """

    span_ns: int
    times_ns: list[int] = []

    def __len__(self) -> int:
        return len(self.samples) - self.head

    def add(self, sample: float, now_ns: int) -> bool:
        """Add a sample of now, and drop those that are too old; as in `CountWindow`."""
        was_near = self.p99_past_near()
        self.expire(now_ns)
        self.samples.append(sample)
        self.times_ns.append(now_ns)
        if sample > self.near:
            self.above_near += 1
            if sample > self.bound:
                self.above += 1
        return was_near or self.p99_past_near()

    def add_run(self, samples: list[float], now_ns: int) -> bool:
        """Add many at once if the P99 is, and stays, below the warning level; else add none."""
        if not samples:
            return True
        if self.p99_past_near():
            return False
        self.expire(now_ns)
        near = _count_above(samples, self.near)
        if self.above_near + near > len(self) // 100:
            return False
        self.above_near += near
        if near:
            self.above += _count_above(samples, self.bound)
        self.samples += samples
        self.times_ns += [now_ns] * len(samples)
        return True

    def expire(self, now_ns: int) -> None:
        """Drop the samples that are older than the span."""
        oldest_ns = now_ns - self.span_ns
        head, times_ns, samples = self.head, self.times_ns, self.samples
        while head < len(times_ns) and times_ns[head] < oldest_ns:
            self.above_near -= samples[head] > self.near
            self.above -= samples[head] > self.bound
            head += 1
        self.head = head
        if head > 1_000 and head * 2 > len(times_ns):
            del samples[:head], times_ns[:head]
            self.head = 0

    def values(self) -> list[float]:
        """The samples of the span."""
        return self.samples[self.head :]

    def values_at(self, now_ns: int) -> list[float]:
        """The samples that are in the span by now."""
        return self.samples[bisect_left(self.times_ns, now_ns - self.span_ns, self.head) :]


class RateWindow(Struct):
    """The outcomes of the last ``size`` requests: how many were errors."""

    size: int
    outcomes: list[int] = []  # 1 is an error
    head: int = 0
    errors: int = 0

    def add(self, error: int) -> None:
        """Add the outcome of a request: 1 for an error, 0 for a success."""
        outcomes = self.outcomes
        if len(outcomes) < self.size:
            outcomes.append(error)
            self.errors += error
            return
        head = self.head
        if outcomes[head] != error:
            outcomes[head] = error
            self.errors += 1 if error else -1
        head += 1
        self.head = 0 if head == self.size else head

    def add_successes(self, count: int) -> None:
        """Add so many requests that went well, into a window without an error."""
        room = self.size - len(self.outcomes)
        self.outcomes += [0] * min(room, count)
        self.head = (self.head + max(0, count - room)) % self.size


def _count_above(samples: list[float], bound: float) -> int:
    if not samples or max(samples) <= bound:
        return 0
    return sum(1 for sample in samples if sample > bound)


class Statistics(Struct, frozen=True):
    """Statistics of samples; the percentiles are nearest-rank."""

    count: int
    mean: float
    min: float
    max: float
    p50: float
    p95: float
    p99: float


def statistics(samples: list[float]) -> Statistics:
    """The statistics of non-empty samples."""
    ordered = sorted(samples)
    return Statistics(
        count=len(ordered),
        mean=fsum(ordered) / len(ordered),
        min=ordered[0],
        max=ordered[-1],
        p50=nearest_rank(ordered, 50),
        p95=nearest_rank(ordered, 95),
        p99=nearest_rank(ordered, 99),
    )
