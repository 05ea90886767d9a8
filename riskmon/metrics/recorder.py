"""The counts that the engine's view does not contain: samples, deliveries, refusals, commits.

The histogram is a list of counters and a bisect: an observation costs a tenth of that of
prometheus_client's.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.samples import Sample

from riskmon.core.events import Error, Event, Latency
from riskmon.core.quantiles import nearest_rank

OTHER = "other"  # the label value of operations past the bound on the number of series
# The latest latencies of an operation, for its quantiles. The window of a limit is another one: it
# is over a venue or one of its operations, of a configured size, and empty after a trip.
WINDOW = 1_000
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
    """Counts of durations by bucket; a value equal to a bound counts in that bound's bucket."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def copy(self) -> Histogram:
        """Return an independent copy."""
        copy = Histogram(self.bounds)
        copy.counts, copy.total = self.counts[:], self.total
        return copy

    def samples(self, name: str, labels: dict[str, str]) -> Iterator[Sample]:
        """Yield the series: cumulative buckets, then count and sum."""
        for bound, count in zip((*self.bounds, "+Inf"), accumulate(self.counts), strict=True):
            yield Sample(f"{name}_bucket", {**labels, "le": str(bound)}, count)
        yield Sample(f"{name}_count", labels, sum(self.counts))
        yield Sample(f"{name}_sum", labels, self.total)


class OperationStats:
    """The latencies and errors of one operation at one venue."""

    __slots__ = ("errors", "latency", "seen", "window")

    def __init__(self) -> None:
        self.latency = Histogram(EXCHANGE_SECONDS)
        self.window = array("d", bytes(8 * WINDOW))  # a ring of the last WINDOW; cheap to copy
        self.seen = 0
        self.errors = 0

    def add(self, seconds: float) -> None:
        """Count one latency."""
        # Histogram.add inlined: this runs for every sample.
        latency = self.latency
        latency.counts[bisect_left(EXCHANGE_SECONDS, seconds)] += 1
        latency.total += seconds
        self.window[self.seen % WINDOW] = seconds
        self.seen += 1

    def copy(self) -> OperationStats:
        """Return an independent copy."""
        copy = OperationStats()
        copy.latency, copy.window = self.latency.copy(), self.window[:]
        copy.seen, copy.errors = self.seen, self.errors
        return copy

    def quantiles(self) -> Iterator[tuple[str, float]]:
        """Yield the nearest-rank quantiles of the window; none while it is empty."""
        ordered = sorted(self.window[: self.seen])
        for percent, label in QUANTILES:
            if ordered:
                yield label, nearest_rank(ordered, percent)


class Recorder:
    """Counters and histograms, updated on the sidecar's event loop.

    A call costs well under a microsecond. ``targets`` are the configured cancel targets,
    ``results`` the possible results of a delivery attempt, ``reasons`` the possible reasons for the
    refusal of a request with events: the counters of these label values start at 0. Beyond
    ``max_scopes`` pairs of venue and operation, a venue's new operations count under ``other``.
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
        self.operations: dict[tuple[str, str], OperationStats] = {}  # by venue and operation
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
        """Count a batch of accepted events. An absent operation counts as ``""``."""
        self.events.update(map(type, events))
        operations = self.operations
        for event in events:
            if isinstance(event, (Latency, Error)):
                pair = event.venue, event.operation or ""
                stats = operations.get(pair) or self._add_operation(*pair)
                if event.seconds is not None:
                    stats.add(event.seconds)
                if isinstance(event, Error):
                    stats.errors += 1

    def _add_operation(self, venue: str, operation: str) -> OperationStats:
        if len(self.operations) >= self.max_scopes:
            operation = OTHER  # one for each venue; the engine bounds the number of venues
        return self.operations.setdefault((venue, operation), OperationStats())

    def add_venues(self, venues: Sequence[str]) -> None:
        """Start counters at 0, with the operation ``""``, for venues that have none."""
        counted = {venue for venue, _ in self.operations}
        for venue in venues:
            if venue not in counted:
                self._add_operation(venue, "")

    def rejected(self, reason: str, count: int = 1) -> None:
        """Count a refused request with events by its reason; an unknown one under ``other``."""
        self.rejections[reason if reason in self.rejections else OTHER] += count

    def refused(self, reason: str) -> None:
        """Count an operator's refused call by its reason, one of ``REFUSALS``."""
        self.refusals[reason] += 1

    def delivery(self, target: str, result: str) -> None:
        """Count one attempt to deliver a cancel by its result."""
        self.deliveries[target, result] += 1

    def delivered(self, target: str, seconds: float) -> None:
        """Count the time from sending a cancel to the answer with which its target accepts it."""
        self.cancels.setdefault(target, Histogram(CANCEL_SECONDS)).add(seconds)

    def breach_to_gate(self, seconds: float) -> None:
        """Count the time from the arrival of a breaching event to the shut gate."""
        self.gate_delays.add(seconds)

    def breach_to_cancel(self, seconds: float) -> None:
        """Count the time from the arrival of a breaching event to the first cancel attempt."""
        self.cancel_delays.add(seconds)

    def cycle(self, seconds: float, wall_ns: int) -> None:
        """Count one turn of the sequencer that ended at ``wall_ns`` (UTC, ns since 1970)."""
        self.cycles.add(seconds)
        self.last_cycle_ns = wall_ns

    def commit(self, seconds: float) -> None:
        """Count one commit of the journal."""
        self.commits.add(seconds)

    def reload(self, ok: bool) -> None:
        """Record whether the last reload of the configuration succeeded."""
        self.reloaded = ok

    def copy(self) -> Recorder:
        """Return an independent copy, which a scrape reads while the sequencer goes on counting."""
        copy = Recorder(max_scopes=self.max_scopes)
        copy.operations = {pair: stats.copy() for pair, stats in self.operations.items()}
        copy.events, copy.rejections = self.events.copy(), self.rejections.copy()
        copy.refusals, copy.accept_pauses = self.refusals.copy(), self.accept_pauses
        copy.deliveries = self.deliveries.copy()
        copy.cancels = {target: one.copy() for target, one in self.cancels.items()}
        copy.gate_delays, copy.cancel_delays = self.gate_delays.copy(), self.cancel_delays.copy()
        copy.cycles, copy.commits = self.cycles.copy(), self.commits.copy()
        copy.last_cycle_ns, copy.reloaded = self.last_cycle_ns, self.reloaded
        copy.gate_rewrites = self.gate_rewrites
        return copy
