"""The periods that P&L is measured over: the trading day, the week, and the last hours.

A day or a week follows the calendar and only moves forward: a wall clock that is put back changes
nothing. Its begin is a fact in engine time, since the wall clock may be set afterwards. Hours
follow engine time in whole minutes, so that a window is up to a minute longer than configured.
"""

from __future__ import annotations

from msgspec import Struct, field

from riskmon.core.book.calendar import Calendar
from riskmon.core.book.history import MINUTE_NS, History

CALENDAR = ("day", "week")
HOUR_NS = 3_600 * 10**9


class Begin(Struct):
    """When a day or a week began: by the calendar, and in engine time."""

    began_wall_ns: int
    began_ns: int


class PeriodsState(Struct):
    """The present day and week."""

    begins: dict[str, Begin] = field(default_factory=dict)


class Periods:
    """The periods of an account."""

    def __init__(self, state: PeriodsState, calendar: Calendar) -> None:
        self.state = state
        self._calendar = calendar
        self._windows: dict[str, int] = {}
        self._until_wall_ns = 0  # when the next of the day and the week begins
        self.cut_ns = 0  # when the latest of them began: no row of a history spans it
        self._set_cut()

    def move(self, now_ns: int, wall_ns: int) -> bool:
        """Set the time; return whether a day or a week began."""
        if wall_ns < self._until_wall_ns:
            return False
        moved, ends_ns = False, []
        for period in CALENDAR:
            began_wall_ns, ends_wall_ns = self._calendar.span(period, wall_ns)
            ends_ns.append(ends_wall_ns)
            begin = self.state.begins.get(period)
            if begin is None:
                began_ns = now_ns - (wall_ns - began_wall_ns)
                self.state.begins[period] = Begin(began_wall_ns, began_ns)
            elif began_wall_ns > begin.began_wall_ns:
                # No point was observed between the end of the last period and now.
                begin.began_wall_ns, begin.began_ns = began_wall_ns, now_ns
            else:
                continue
            moved = True
        self._until_wall_ns = min(ends_ns)
        self._set_cut()
        return moved

    def _set_cut(self) -> None:
        self.cut_ns = max((begin.began_ns for begin in self.state.begins.values()), default=0)

    def since_ns(self, period: str, now_ns: int) -> int:
        """Return when ``period`` began: ``day``, ``week``, or hours such as ``24h``."""
        begin = self.state.begins.get(period)
        if begin is not None:
            return begin.began_ns
        return (now_ns - self._window_ns(period)) // MINUTE_NS * MINUTE_NS

    def next_change_ns(
        self, period: str, history: History, now_ns: int, wall_ns: int
    ) -> int | None:
        """Return when (engine time) a fall in ``period`` changes without an event."""
        begin = self.state.begins.get(period)
        if begin is not None:
            _, ends_wall_ns = self._calendar.span(period, begin.began_wall_ns)
            return now_ns + max(1, ends_wall_ns - wall_ns)
        first_ns = history.first_ns(self.since_ns(period, now_ns))
        if first_ns is None:
            return None
        return (first_ns // MINUTE_NS + 1) * MINUTE_NS + self._window_ns(period)

    def rebase(self, now_ns: int) -> None:
        """Begin the present day and week at now."""
        for begin in self.state.begins.values():
            begin.began_ns = now_ns
        self._set_cut()

    def _window_ns(self, period: str) -> int:
        window_ns = self._windows.get(period)
        if window_ns is None:
            hours = hours_of(period)
            if hours is None:
                raise ValueError(f"{period!r} is no period: use day, week or hours such as 24h")
            window_ns = self._windows[period] = int(hours * HOUR_NS)
        return window_ns


def hours_of(period: str) -> float | None:
    """Return the hours of a rolling period such as ``24h``; None for a day or a week."""
    return float(period.removesuffix("h")) if period.endswith("h") else None
