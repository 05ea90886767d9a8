"""Counts what the engine's view does not hold: every sample, delivery, refusal, turn and commit.

The histograms are our own, a bisect and a list: a tenth of the cost of the library's.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.samples import Sample

from riskmon.core.events import Error, Event, Latency

OTHER = "other"  # the label of what comes past the bound on series
WINDOW = 1_000  # latency samples that the window's quantiles are of
REFUSALS = ("unauthorized", "forbidden", "conflict", "not_found")
QUANTILES = ((50, "0.5"), (95, "0.95"), (99, "0.99"))

EXCHANGE_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2),
    *(0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0),
)
LOOP_SECONDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
CANCEL_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    *(0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0),
)


class Histogram:
    """Counts of seconds by bucket; a value that equals a bound belongs to that bound's bucket."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def copy(self) -> Histogram:
        """Give one that later values do not reach."""
        twin = Histogram(self.bounds)
        twin.counts, twin.total = self.counts[:], self.total
        return twin

    def samples(self, name: str, labels: dict[str, str]) -> Iterator[Sample]:
        """Give its series: each bucket with all below it, then count and sum."""
        for bound, count in zip((*self.bounds, "+Inf"), accumulate(self.counts), strict=True):
            yield Sample(f"{name}_bucket", {**labels, "le": str(bound)}, count)
        yield Sample(f"{name}_count", labels, sum(self.counts))
        yield Sample(f"{name}_sum", labels, self.total)


class Exchange:
    """One operation of one venue: all its latencies, the last thousand of them, its errors."""

    __slots__ = ("errors", "latency", "seen", "window")

    def __init__(self) -> None:
        self.latency = Histogram(EXCHANGE_SECONDS)
        self.window = array("d", bytes(8 * WINDOW))  # a ring: plain numbers, copied in a moment
        self.seen = 0
        self.errors = 0

    def add(self, seconds: float) -> None:
        """Count one latency."""
        # What Histogram.add does, without the call: this runs for every sample.
        latency = self.latency
        latency.counts[bisect_left(EXCHANGE_SECONDS, seconds)] += 1
        latency.total += seconds
        self.window[self.seen % WINDOW] = seconds
        self.seen += 1

    def copy(self) -> Exchange:
        """Give one that later events do not reach."""
        twin = Exchange()
        twin.latency, twin.window = self.latency.copy(), self.window[:]
        twin.seen, twin.errors = self.seen, self.errors
        return twin

    def quantiles(self) -> Iterator[tuple[str, float]]:
        """Give the nearest-rank quantiles of the window; none while it is empty."""
        ordered = sorted(self.window[: self.seen])
        for percent, label in QUANTILES:
            if ordered:
                yield label, ordered[-(-len(ordered) * percent // 100) - 1]


class Recorder:
    """The counts. A call costs well under a microsecond; all come from the sidecar's one loop.

    ``targets`` are the configured cancel targets, ``results`` what an attempt to deliver to them
    may come to, ``reasons`` why a request with events may be refused: what is known before it
    happens is counted from 0. Past ``max_scopes`` pairs of a venue and an operation, a new
    operation of a venue is counted under ``other``.
    """

    def __init__(
        self,
        *,
        targets: Iterable[str] = (),
        results: Iterable[str] = (),
        reasons: Iterable[str] = (),
        max_scopes: int = 1_024,
    ) -> None:
        targets, results = list(targets), list(results)
        self.max_scopes = max_scopes
        self.exchanges: dict[tuple[str, str], Exchange] = {}
        self.events: Counter[type] = Counter()
        self.rejections = dict.fromkeys((*reasons, OTHER), 0)
        self.refusals = dict.fromkeys(REFUSALS, 0)
        self.accept_pauses = 0
        self.deliveries = Counter({(t, result): 0 for t in targets for result in results})
        self.cancels = {target: Histogram(CANCEL_SECONDS) for target in targets}
        self.gate_delays = Histogram(LOOP_SECONDS)
        self.cancel_delays = Histogram(LOOP_SECONDS)
        self.cycles = Histogram(LOOP_SECONDS)
        self.commits = Histogram(LOOP_SECONDS)
        self.last_cycle_ns: int | None = None
        self.reloaded = True
        self.gate_rewrites = 0

    def observe(self, events: Sequence[Event]) -> None:
        """Count a batch of accepted events. An operation that is not given is ``""``."""
        self.events.update(map(type, events))
        exchanges = self.exchanges
        for event in events:
            if isinstance(event, (Latency, Error)):
                pair = event.venue, event.operation or ""
                exchange = exchanges.get(pair) or self._begin(*pair)
                if event.seconds is not None:
                    exchange.add(event.seconds)
                if isinstance(event, Error):
                    exchange.errors += 1

    def _begin(self, venue: str, operation: str) -> Exchange:
        if len(self.exchanges) >= self.max_scopes:
            operation = OTHER  # one for each venue; venues are scopes, which the engine bounds
        return self.exchanges.setdefault((venue, operation), Exchange())

    def know(self, venues: Sequence[str]) -> None:
        """Begin the counts of venues that have reported nothing yet, at 0, without operation."""
        begun = {venue for venue, _ in self.exchanges}
        for venue in venues:
            if venue not in begun:
                self._begin(venue, "")

    def rejected(self, reason: str) -> None:
        """Count a refused request by one of ``reasons``; under ``other``, should it be none."""
        self.rejections[reason if reason in self.rejections else OTHER] += 1

    def refused(self, reason: str) -> None:
        """Count an operator's call that is refused, by one of ``REFUSALS``."""
        self.refusals[reason] += 1

    def delivery(self, target: str, result: str) -> None:
        """Count one attempt to deliver a cancel by what it came to."""
        self.deliveries[target, result] += 1

    def delivered(self, target: str, seconds: float) -> None:
        """Count the time from the sending of a cancel to the answer by which its target took it."""
        self.cancels.setdefault(target, Histogram(CANCEL_SECONDS)).add(seconds)

    def breach_to_gate(self, seconds: float) -> None:
        """Count the time from the arrival of a breaching event to the shut gate."""
        self.gate_delays.add(seconds)

    def breach_to_cancel(self, seconds: float) -> None:
        """Count the time from the arrival of a breaching event to the first cancel attempt."""
        self.cancel_delays.add(seconds)

    def cycle(self, seconds: float, wall_ns: int) -> None:
        """Count one turn of the loop, which ended at ``wall_ns`` (UTC, ns since 1970)."""
        self.cycles.add(seconds)
        self.last_cycle_ns = wall_ns

    def commit(self, seconds: float) -> None:
        """Count one commit of the journal."""
        self.commits.add(seconds)

    def reload(self, ok: bool) -> None:
        """Remember whether the last reload of the configuration was taken."""
        self.reloaded = ok

    def copy(self) -> Recorder:
        """Give one that nothing reaches any more: what a scrape reads between turns of the loop."""
        twin = Recorder(max_scopes=self.max_scopes)
        twin.exchanges = {key: one.copy() for key, one in self.exchanges.items()}
        twin.events, twin.rejections = self.events.copy(), self.rejections.copy()
        twin.refusals, twin.accept_pauses = self.refusals.copy(), self.accept_pauses
        twin.deliveries = self.deliveries.copy()
        twin.cancels = {target: one.copy() for target, one in self.cancels.items()}
        twin.gate_delays, twin.cancel_delays = self.gate_delays.copy(), self.cancel_delays.copy()
        twin.cycles, twin.commits = self.cycles.copy(), self.commits.copy()
        twin.last_cycle_ns, twin.reloaded = self.last_cycle_ns, self.reloaded
        twin.gate_rewrites = self.gate_rewrites
        return twin
