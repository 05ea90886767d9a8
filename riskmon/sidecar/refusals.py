"""Refused operators' calls in the audit trail: ten records a second, and a count of the rest.

A refused call costs its sender nothing, so this module bounds the rate of the records, and the
journal their number.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from riskmon.core.decisions import Record
from riskmon.port import Refusal

RECORDS_PER_SECOND = 10


class Refusals:
    """Passes records to ``note``. Use it on one event loop only."""

    def __init__(self, note: Callable[[Record], None]) -> None:
        self._note = note
        self._second = 0
        self._used = 0  # records of that second
        self._made = 0
        self._left_out: Counter[str] = Counter()  # by reason, since the last record of them

    def take(self) -> bool:
        """Reserve a record of this second; False when there is none left."""
        second = time.monotonic_ns() // 10**9
        if second != self._second:
            self._second, self._used = second, 0
        if self._used >= RECORDS_PER_SECOND:
            return False
        self._used += 1
        return True

    def give_back(self) -> None:
        """Return the record that :meth:`take` reserved and that was not made."""
        self._used = max(0, self._used - 1)

    def record(self, refusal: Refusal) -> None:
        """Record a refusal, or count it."""
        if not self.take():
            self.leave_out(refusal.reason)
            return
        self._add(
            action=refusal.action,
            by=refusal.caller or None,
            peer=refusal.peer,
            outcome=f"{refusal.reason}: {refusal.detail}",
        )

    def leave_out(self, reason: str) -> None:
        """Count a refusal without a record; within a second one record gives the count of all."""
        if not self._left_out:
            asyncio.get_running_loop().call_later(1.0, self._sum_up)
        self._left_out[reason] += 1

    def _sum_up(self) -> None:
        counts = ", ".join(f"{reason} {count}" for reason, count in self._left_out.items())
        total, self._left_out = self._left_out.total(), Counter()
        self._add(outcome=f"{total} more refused calls are left out: {counts}")

    def _add(
        self,
        *,
        outcome: str,
        action: str | None = None,
        by: str | None = None,
        peer: str | None = None,
    ) -> None:
        at_ns = time.time_ns()
        self._made += 1
        self._note(
            Record(
                id=f"refused_{at_ns:020d}_{self._made}",
                kind="refusal",
                at_ns=at_ns,
                scope="",
                action=action,
                by=by,
                peer=peer,
                outcome=outcome,
            )
        )
