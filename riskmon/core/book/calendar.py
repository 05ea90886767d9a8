"""Trading days and weeks in an IANA zone, as pure functions of the date.

A day begins at ``day_start`` and is named by the date on which it begins; a week begins with the
day that begins on Monday. A local time that does not exist counts from the first instant after it,
one that repeats from its first.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

SECOND_NS = 10**9


class Calendar:
    """The trading days and weeks of one zone."""

    def __init__(self, timezone: str, day_start: str) -> None:
        self.zone = ZoneInfo(timezone)
        hours, _, minutes = day_start.partition(":")
        self.day_start = time(int(hours), int(minutes))
        self._latest: dict[str, tuple[int, int]] = {}

    def span(self, period: str, wall_ns: int) -> tuple[int, int]:
        """When the ``day`` or ``week`` around ``wall_ns`` began, and when the next one does."""
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
        """The trading day at an instant."""
        day = datetime.fromtimestamp(wall_ns // SECOND_NS, self.zone).date() + timedelta(days=1)
        while self._start_ns(day) > wall_ns:
            day -= timedelta(days=1)
        return day

    def _start_ns(self, day: date) -> int:
        local = datetime.combine(day, self.day_start, self.zone)
        first = int(local.timestamp())
        second = int(local.replace(fold=1).timestamp())
        # Where clocks are put forward, the time before the change maps past it, and the time after
        # the change maps before it; otherwise the first is not the later one.
        return (self._change(second, first) if first > second else first) * SECOND_NS

    def _change(self, before: int, after: int) -> int:
        """The first second at which the offset is the one that holds ``after``."""
        offset = self._offset(after)
        while after - before > 1:
            middle = (before + after) // 2
            if self._offset(middle) == offset:
                after = middle
            else:
                before = middle
        return after

    def _offset(self, second: int) -> timedelta | None:
        return datetime.fromtimestamp(second, self.zone).utcoffset()
