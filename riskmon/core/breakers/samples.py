"""Showing what happens to the limits that take it, one by one or a run of latencies at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from riskmon.core import events as ev
from riskmon.core.book.positions import Close
from riskmon.core.breakers.judge import Judge
from riskmon.core.breakers.rules import Rule
from riskmon.core.limits.evaluation import Verdict

RUN_MIN = 4  # latencies in a row that are worth being looked at together

Sample = ev.Latency | ev.Error | ev.Fill | ev.Price | Close
Taker = tuple[Rule, Callable[[Any, int], Verdict | None]]


class Samples:
    """The sampled limits of a board, by what they take."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._board = judge.board
        rules = [rule for rule in self._board.rules.values() if not rule.limit.standing]
        self._takers: dict[type[Any], list[Taker]] = {
            kind: [(rule, rule.limit.feed) for rule in rules if kind in rule.limit.takes]
            for kind in (ev.Latency, ev.Error, ev.Fill, ev.Price, Close)
        }

    def show(self, event: Sample) -> None:
        """Show an event to the limits that take it."""
        if self._board.half_open:
            self.probe(event)
        self._feed(event, self._takers[type(event)])

    def probe(self, event: Sample) -> None:
        """Show an event to half-open breakers only."""
        for rule, _ in self._takers[type(event)]:
            probe = rule.limit.probe(event)
            if probe is not None:
                self._judge.probe(rule, probe[0], good=probe[1])

    def _feed(self, event: Sample, takers: list[Taker]) -> None:
        now_ns = self._board.now_ns
        for rule, feed in takers:
            verdict = feed(event, now_ns)
            if verdict is not None:
                self._judge.judge_sample(rule, verdict)

    def takes_runs(self, run: list[ev.Latency]) -> bool:
        """Whether latencies in a row may be shown at once: all of now, no probe among them."""
        return len(run) >= RUN_MIN and not self._board.half_open and all(map(_is_ordinary, run))

    def show_run(self, run: list[ev.Latency], by_venue: dict[str, list[ev.Latency]]) -> None:
        """Show latencies in a row.

        By far the most frequent event, and mostly there is nothing to say: so each limit is asked
        whether it takes all of a venue's at once, in silence, and only those that do not are shown
        one after the other.
        """
        now_ns, takers = self._board.now_ns, self._takers[ev.Latency]
        watchful = {
            venue: [
                (rule, feed)
                for rule, feed in takers
                if not rule.limit.take_run(venue, same, now_ns)
            ]
            for venue, same in by_venue.items()
        }
        if any(watchful.values()):
            for event in run:
                self._feed(event, watchful[event.venue])


def _is_ordinary(event: ev.Latency) -> bool:
    return event.at is None and event.strategy is None and event.operation != ev.PROBE
