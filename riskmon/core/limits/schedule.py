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
from typing import Annotated, ClassVar, Generic, TypeVar

from riskmon.core.book.calendar import DAY_SECONDS, SECOND_NS, Zone
from riskmon.core.constraints import (
    TABLE,
    Beside,
    Constraint,
    EitherThis,
    Positive,
    TimeOfDay,
)

B = TypeVar("B")


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


@dataclass(frozen=True, kw_only=True)
class EitherSlot(_Hours):
    """A slot of a limit that has either ``max`` or ``min``."""

    max: Positive | None = None
    min: Annotated[Positive | None, EitherThis("max")] = None


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


CeilingSlots = Annotated[tuple[CeilingSlot[B], ...], Constraint(_overlap)]
FloorSlots = Annotated[tuple[FloorSlot, ...], Constraint(_overlap)]
EitherSlots = Annotated[tuple[EitherSlot, ...], Constraint(_overlap)]


def bound_at(each: Sequence[Slot], zone: Zone, wall_ns: int) -> float | None:
    """Return the bound of the slot that holds; None outside all slots."""
    seconds = zone.second_of_day(wall_ns // SECOND_NS)
    return next((slot.bound for slot in each if slot.holds(seconds)), None)


def next_change_ns(each: Sequence[Slot], zone: Zone, wall_ns: int) -> int:
    """Return the first instant after ``wall_ns`` at which another bound may hold."""
    second = wall_ns // SECOND_NS
    seconds = zone.second_of_day(second)
    edges = {edge for slot in each for edge in (slot.from_seconds, slot.to_seconds)}
    due = second + min((edge - seconds - 1) % DAY_SECONDS + 1 for edge in edges)
    if zone.offset(due) != zone.offset(second):
        due = zone.offset_change(second, due)
    return due * SECOND_NS
