"""Bounds by time of day.

A schedule is written as ``[{ from = "22:00", to = "06:00", max = 0.5 }]`` (``min`` for a floor) and
kept as it is written: ``from`` cannot be the name of a field. A slot holds while the clock on the
wall of the portfolio's zone shows a time from ``from`` up to, but not including, ``to``, over
midnight too. So an hour that a daylight-saving night skips holds no slot, and one that it repeats
holds its slots twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from riskmon.core.book.calendar import DAY_SECONDS, SECOND_NS, Zone

Written = dict[str, str | float]  # from, to, and max or min

_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\Z")
_SUCH_AS = "must be a time of day, such as 00:00 or 17:30"


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


def slots(written: Sequence[Written], key: str) -> tuple[Slot, ...]:
    """The slots of a schedule without faults; ``key`` is ``max`` or ``min``."""
    return tuple(
        Slot(_seconds(one["from"]) or 0, _seconds(one["to"]) or 0, float(one[key]))
        for one in written
    )


def faults(written: Sequence[Written], key: str) -> list[tuple[str, str]]:
    """(key path, what is wrong) of everything that is."""
    found = [fault for at, one in enumerate(written) for fault in _faults(at, one, key)]
    return found or _overlaps(slots(written, key))


def _faults(at: int, one: Written, key: str) -> list[tuple[str, str]]:
    found = [
        (f"schedule.{at}.{name}", f"unknown key: known here: from, {key}, to")
        for name in one
        if name not in ("from", "to", key)
    ]
    for name in ("from", "to"):
        if name not in one:
            found.append((f"schedule.{at}.{name}", "is missing"))
        elif _seconds(one[name]) is None:
            found.append((f"schedule.{at}.{name}", _SUCH_AS))
    bound = one.get(key)
    if bound is None:
        found.append((f"schedule.{at}.{key}", "is missing"))
    elif isinstance(bound, str):
        found.append((f"schedule.{at}.{key}", "must be a number: write it without quotes"))
    elif not (bound > 0 and isfinite(bound)):
        found.append((f"schedule.{at}.{key}", "must be above 0"))
    if not found and one["from"] == one["to"]:
        what = f"must differ from `from`: `{key}` beside `schedule` holds the rest of the day"
        found.append((f"schedule.{at}.to", what))
    return found


def _overlaps(each: Sequence[Slot]) -> list[tuple[str, str]]:
    # Two slots overlap exactly when one of them holds where the other begins.
    return [
        (f"schedule.{at}", f"overlaps slot {before}: one bound at a time")
        for at, slot in enumerate(each)
        for before, other in enumerate(each[:at])
        if slot.holds(other.from_seconds) or other.holds(slot.from_seconds)
    ]


def _seconds(time: str | float) -> int | None:
    found = _TIME.match(time) if isinstance(time, str) else None
    return int(found[1]) * 3_600 + int(found[2]) * 60 if found else None


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
