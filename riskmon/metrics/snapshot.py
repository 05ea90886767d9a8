"""What a scrape reads: everything of one instant, and what the outbox tells for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from riskmon.core.view import View
from riskmon.metrics.recorder import Histogram, Recorder


class TargetStats(Protocol):
    """What one cancel target has not taken yet."""

    @property
    def pending(self) -> int:
        """How many deliveries."""

    @property
    def oldest_pending_ns(self) -> int | None:
        """When the oldest of them was made (UTC, ns since 1970)."""


class CancelStats(Protocol):
    """What the outbox tells of its work at the scrape."""

    def stats(self) -> Mapping[str, TargetStats]:
        """Give every configured target's by its name."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that one scrape shows, of one instant."""

    view: View
    counts: Recorder
    pending: dict[str, tuple[int, int | None]]  # by target: how many, and since when
    version: str
    max_scopes: int
    log_dropped: int  # lines of the log


Value = Histogram | float | None  # None is unknown: no series
Series = Iterable[tuple[Sequence[str], Value]]
Read = Callable[[Snapshot], Series]
