"""Notices to operators, and counts of how often a venue's report differs from the book."""

from __future__ import annotations

from riskmon.core.clock import Clock
from riskmon.core.decisions import DifferenceKind, Notice, NoticeAbout

Differences = dict[str, dict[DifferenceKind, int]]  # by venue


class Notices:
    """The notices of a step."""

    def __init__(self, differences: Differences, clock: Clock) -> None:
        self.differences = differences
        self._clock = clock
        self._taken: list[Notice] = []

    def add(self, about: NoticeAbout, text: str) -> None:
        """Add a notice."""
        at_ns = self._clock.instant.wall_ns
        self._taken.append(Notice(about=about, text=text, at_ns=at_ns))

    def count(self, venue: str, kind: DifferenceKind) -> None:
        """Count a difference between what a venue reports and what is known of it."""
        kinds = self.differences.setdefault(venue, {})
        kinds[kind] = kinds.get(kind, 0) + 1

    def take(self) -> list[Notice]:
        """Return the notices since the last call."""
        taken, self._taken = self._taken, []
        return taken
