"""The breakers of sample limits, by the samples that they observe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from riskmon.core.breakers.breaker import Breaker
from riskmon.core.events import PROBE, Latency
from riskmon.core.limits.limit import DELIVERED, Sample, SampleLimit
from riskmon.core.scopes import ACCOUNT, Scope, kind_of, venue_scope

Observing = Sequence[Breaker[SampleLimit]]
RUN_MIN = 4  # latencies in a row that are worth being added together


class Observers:
    """The breakers that observe each type of sample, by the scope that it names.

    Those over the account observe what any venue sends: they are in the list of each.
    """

    def __init__(self) -> None:
        self._over: dict[type[Sample], dict[Scope, list[Breaker[SampleLimit]]]] = {
            kind: {ACCOUNT: []} for kind in DELIVERED
        }

    def register(self, scope: Scope) -> None:
        """Begin the lists of a scope."""
        scope_kind = kind_of(scope)
        for kind, over in self._over.items():
            if scope_kind in DELIVERED[kind]:
                over.setdefault(scope, [*over[ACCOUNT]] if scope_kind == "venue" else [])

    def add(self, breaker: Breaker[SampleLimit]) -> None:
        """Deliver to a breaker what its limit reads; its scope is registered."""
        for kind in breaker.limit.reads:
            over = self._over[kind]
            over[breaker.state.scope].append(breaker)
            if breaker.state.scope == ACCOUNT:
                for scope in over:
                    if kind_of(scope) == "venue":
                        over[scope].append(breaker)

    def of(self, kind: type[Sample], scope: Scope) -> Observing:
        """The breakers that observe samples of a type that name a scope."""
        return self._over[kind].get(scope, ())

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
                for breaker in self.of(Latency, venue_scope(venue))
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
