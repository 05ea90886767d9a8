"""Local time of an IANA zone, and its trading days and weeks.

A day begins at ``day_start`` and is named by the date on which it begins; a week begins with the
day that begins on Monday. A local time that does not exist counts from the first instant after it,
one that repeats from its first.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

SECOND_NS = 10**9
DAY_SECONDS = 86_400


class Zone:
    """The local time of a zone. A *second* is a whole number of seconds since 1970, UTC."""

    def __init__(self, name: str) -> None:
        self._zone = ZoneInfo(name)

    def local_date(self, second: int) -> date:
        """Return the local date."""
        return self._local(second).date()

    def second_of_day(self, second: int) -> int:
        """Return the local time of day, in seconds."""
        return (second + self.offset(second)) % DAY_SECONDS

    def offset(self, second: int) -> int:
        """Return the offset from UTC, in seconds."""
        offset = self._local(second).utcoffset()
        return int(offset.total_seconds()) if offset is not None else 0

    def offset_change(self, before: int, after: int) -> int:
        """Return the first second after ``before`` that has the offset of ``after``."""
        offset = self.offset(before)
        while after - before > 1:
            middle = (before + after) // 2
            if self.offset(middle) == offset:
                before = middle
            else:
                after = middle
        return after

    def first_second(self, day: date, at: time) -> int:
        """Return the first second of a date at which the local time is ``at`` or later."""
        local = datetime.combine(day, at, self._zone)
        first = int(local.timestamp())
        second = int(local.replace(fold=1).timestamp())
        # Where clocks are put forward, the time before the change maps past it, and the time after
        # the change maps before it; otherwise the first is not the later one.
        return self.offset_change(second, first) if first > second else first

    def _local(self, second: int) -> datetime:
        return datetime.fromtimestamp(second, self._zone)


class Calendar:
    """The trading days and weeks of one zone."""

    def __init__(self, timezone: str, day_start: str) -> None:
        self._zone = Zone(timezone)
        hours, _, minutes = day_start.partition(":")
        self._day_start = time(int(hours), int(minutes))
        self._latest: dict[str, tuple[int, int]] = {}

    def span(self, period: str, wall_ns: int) -> tuple[int, int]:
        """Return when the ``day`` or ``week`` around ``wall_ns`` began, and when the next does."""
        span = self._latest.get(period)
        if span is None or not span[0] <= wall_ns < span[1]:
            span = self._latest[period] = self._span(period, wall_ns)
        return span

    def _span(self, period: str, wall_ns: int) -> tuple[int, int]:
        today = self._today(wall_ns)
        if period == "day":
            return self._start_ns(today), self._start_ns(today + timedelta(days=1))
        monday = today - timedelta(days=today.weekday())
        return self._start_ns(monday), self._start_ns(monday + timedelta(days=7))

    def _today(self, wall_ns: int) -> date:
        """Return the trading day at an instant."""
        day = self._zone.local_date(wall_ns // SECOND_NS) + timedelta(days=1)
        while self._start_ns(day) > wall_ns:
            day -= timedelta(days=1)
        return day

    def _start_ns(self, day: date) -> int:
        return self._zone.first_second(day, self._day_start) * SECOND_NS
