"""Bounds by time of day.

A schedule is written as ``[{ from = "22:00", to = "06:00", max = 0.5 }]`` (``min`` for a floor). A
slot holds while the wall clock of the portfolio's zone shows a time from ``from`` up to, but not
including, ``to``, over midnight too. So an hour that a daylight-saving night skips holds no slot,
and one that it repeats holds its slots twice.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Generic, TypeVar
from zoneinfo import ZoneInfo

from riskmon.core.constraints import TABLE, Beside, Check, Positive, TimeOfDay

B = TypeVar("B")

DAY_SECONDS = 86_400
SECOND_NS = 10**9


@dataclass(frozen=True)
class Slot:
    """From when to when, in seconds of the day, which bound holds."""

    from_seconds: int
    to_seconds: int
    bound: float

    def holds(self, seconds: int) -> bool:
        """Whether it holds at ``seconds`` of the day."""
        if self.from_seconds < self.to_seconds:
            return self.from_seconds <= seconds < self.to_seconds
        return seconds >= self.from_seconds or seconds < self.to_seconds


@dataclass(frozen=True, kw_only=True)
class _Hours:
    """A slot as it is written, without its bound."""

    __pydantic_config__: ClassVar[dict[str, bool | str]] = TABLE

    from_: TimeOfDay = field(metadata={"alias": "from"})
    to: Annotated[
        TimeOfDay,
        Beside(
            "from_",
            operator.ne,
            "must differ from `from`\nthe bound beside `schedule` holds the rest of the day",
        ),
    ]

    def timed(self, bound: float) -> Slot:
        """Return the slot in seconds of the day, with its bound."""
        return Slot(_seconds(self.from_), _seconds(self.to), bound)


@dataclass(frozen=True, kw_only=True)
class CeilingSlot(_Hours, Generic[B]):
    """A slot of a limit with ``max``."""

    max: B


@dataclass(frozen=True, kw_only=True)
class FloorSlot(_Hours):
    """A slot of a limit with ``min``."""

    min: Positive


def _seconds(time: str) -> int:
    hours, _, minutes = time.partition(":")
    return int(hours) * 3_600 + int(minutes) * 60


def _overlap(written: Sequence[_Hours]) -> str | None:
    # Two slots overlap exactly when one of them holds where the other begins.
    slots = [hours.timed(0) for hours in written]
    for at, slot in enumerate(slots):
        for before, other in enumerate(slots[:at]):
            if slot.holds(other.from_seconds) or other.holds(slot.from_seconds):
                return f"slots {before} and {at} overlap\none bound at a time"
    return None


CeilingSlots = Annotated[tuple[CeilingSlot[B], ...], Check(_overlap)]
FloorSlots = Annotated[tuple[FloorSlot, ...], Check(_overlap)]


class Clock:
    """The wall clock of a zone."""

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)

    def seconds(self, wall_ns: int) -> int:
        """Seconds of the day."""
        return (wall_ns // SECOND_NS + self._offset(wall_ns)) % DAY_SECONDS

    def bound(self, each: Sequence[Slot], wall_ns: int) -> float | None:
        """The bound of the slot that holds, or None."""
        seconds = self.seconds(wall_ns)
        return next((slot.bound for slot in each if slot.holds(seconds)), None)

    def next_change_ns(self, each: Sequence[Slot], wall_ns: int) -> int:
        """The first instant after ``wall_ns`` at which another bound may hold."""
        seconds = self.seconds(wall_ns)
        edges = {edge for slot in each for edge in (slot.from_seconds, slot.to_seconds)}
        away = min((edge - seconds - 1) % DAY_SECONDS + 1 for edge in edges)
        second = wall_ns // SECOND_NS
        due = second + away
        if self._offset(due * SECOND_NS) != self._offset(wall_ns):
            due = self._clock_change(second, due)
        return due * SECOND_NS

    def _clock_change(self, before: int, after: int) -> int:
        """The second between two at which the zone's offset is another."""
        offset = self._offset(before * SECOND_NS)
        while after - before > 1:
            middle = (before + after) // 2
            if self._offset(middle * SECOND_NS) == offset:
                before = middle
            else:
                after = middle
        return after

    def _offset(self, wall_ns: int) -> int:
        date = datetime.fromtimestamp(wall_ns // SECOND_NS, UTC).astimezone(self._zone)
        offset = date.utcoffset()
        return int(offset.total_seconds()) if offset is not None else 0
