"""The breakers of sample limits, by the samples that they observe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from riskmon.core.breakers.breaker import Breaker
from riskmon.core.events import PROBE, Error, Fill, Latency, Price
from riskmon.core.limits.limit import DELIVERED, Sample, SampleLimit

Observing = Sequence[Breaker[SampleLimit]]
RUN_MIN = 4  # latencies in a row that are worth being added together


class Observers:
    """The breakers that observe each type of sample, by the scopes that it names."""

    def __init__(self) -> None:
        self._over: dict[type[Sample], dict[str, list[Breaker[SampleLimit]]]] = {
            kind: {} for kind in DELIVERED
        }
        self._of_names: dict[tuple[type[Sample], str, str], Observing] = {}

    def add(self, breaker: Breaker[SampleLimit]) -> None:
        """Deliver to a breaker what its limit reads."""
        for kind in breaker.limit.reads:
            self._over[kind].setdefault(breaker.state.scope, []).append(breaker)
        self._of_names.clear()

    def of(self, event: Sample) -> Observing:
        """The breakers that observe an event."""
        kind = type(event)
        if not self._over[kind]:
            return ()
        if isinstance(event, (Latency, Error)):
            names = (kind, event.venue, "")
        elif isinstance(event, Fill):
            names = (kind, event.venue, event.symbol)
        elif isinstance(event, Price):
            names = (kind, "", event.symbol)
        else:
            names = (kind, event.strategy, "")
        found = self._of_names.get(names)
        if found is None:
            found = self._of_names[names] = self._find(event)
        return found

    def _find(self, event: Sample) -> Observing:
        over = self._over[type(event)]
        return [breaker for scope in _scopes(event) for breaker in over.get(scope, ())]

    def observe_run(
        self, run: Sequence[Latency], by_venue: Mapping[str, Sequence[Latency]], now_ns: int
    ) -> None:
        """Add latencies in a row, of one instant, which :func:`is_run` accepts.

        They are by far the most frequent event, and nearly always none needs an evaluation: so each
        limit adds all of a venue's at once if it can, and only the others see one after the other.
        """
        singly = {
            venue: [
                breaker
                for breaker in self.of(same[0])
                if not breaker.limit.observe_run(same, now_ns)
            ]
            for venue, same in by_venue.items()
        }
        if any(singly.values()):
            for event in run:
                observe(singly[event.venue], event, now_ns)


def is_run(run: Sequence[Latency]) -> bool:
    """Whether latencies in a row may be added at once: all of now, and no probe among them."""
    return len(run) >= RUN_MIN and all(map(_is_ordinary, run))


def _is_ordinary(event: Latency) -> bool:
    return event.at is None and event.strategy is None and event.operation != PROBE


def probe(breakers: Iterable[Breaker[SampleLimit]], event: Sample) -> None:
    """Count a sample of half-open breakers."""
    for breaker in breakers:
        good = breaker.limit.probe(event)
        if good is not None:
            breaker.probe(good=good)


def observe(breakers: Iterable[Breaker[SampleLimit]], event: Sample, now_ns: int) -> None:
    """Add a sample to the limits of breakers, and act on their evaluations."""
    for breaker in breakers:
        evaluation = breaker.limit.observe(event, now_ns)
        if evaluation is not None:
            breaker.observe(evaluation)


def _scopes(event: Sample) -> tuple[str, ...]:
    """The scopes that a sample is delivered to, as ``DELIVERED`` says."""
    if isinstance(event, (Latency, Error)):
        return "account", "venue:" + event.venue
    if isinstance(event, Fill):
        return "account", "venue:" + event.venue, "symbol:" + event.symbol
    return ("symbol:" + event.symbol if isinstance(event, Price) else "strategy:" + event.strategy,)
