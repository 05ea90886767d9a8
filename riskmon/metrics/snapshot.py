"""The data of one scrape, all of one instant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from riskmon.core.view import View
from riskmon.metrics.recorder import Histogram, Recorder


class TargetStats(Protocol):
    """The pending deliveries of one cancel target."""

    @property
    def pending(self) -> int:
        """The number of pending deliveries."""

    @property
    def oldest_pending_ns(self) -> int | None:
        """The creation time of the oldest one (UTC, ns since 1970); None without one."""


class CancelStats(Protocol):
    """The part of the outbox that a scrape reads."""

    def stats(self) -> Mapping[str, TargetStats]:
        """Return the pending deliveries of every configured target by its name."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All values that one page of metrics shows."""

    view: View
    counts: Recorder
    pending: dict[str, tuple[int, int | None]]  # by target: number, creation time of the oldest
    version: str
    max_scopes: int
    log_dropped: int  # lines of the log


Value = Histogram | float | None  # None is unknown: no series
Series = Iterable[tuple[Sequence[str], Value]]
Read = Callable[[Snapshot], Series]
