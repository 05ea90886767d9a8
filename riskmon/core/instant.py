"""An instant of the engine that is applied in pieces."""

from __future__ import annotations

from collections.abc import Iterator

from riskmon.core.decisions import Outcome


class Instant:
    """What :meth:`riskmon.core.engine.Engine.begin` returns: advance it until it is over.

    Work is counted in units, each of some microseconds: an event, a new amount, an asset or a
    symbol that is derived again, a limit that is evaluated. So the pieces do not depend on a clock.
    """

    def __init__(self, pieces: Iterator[int], outcome: Outcome) -> None:
        self._pieces = pieces
        self._outcome = outcome
        self.work = 0  # units that are done

    def advance(self, budget: int) -> Outcome | None:
        """Do at least one and about ``budget`` units of work; the outcome when all is done."""
        until = self.work + budget
        for done in self._pieces:
            self.work += done
            if self.work >= until:
                return None
        return self._outcome
