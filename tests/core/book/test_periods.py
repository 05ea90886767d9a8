"""When trading days, weeks and rolling hours begin in engine time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from riskmon.core.book.calendar import Calendar
from riskmon.core.book.history import MINUTE_NS, History, HistoryState
from riskmon.core.book.periods import HOUR_NS, Periods, PeriodsState, hours_of
from tests.core import SECOND

WALL_NS = int(datetime(2026, 5, 6, 7, 0, tzinfo=UTC).timestamp()) * SECOND  # a Wednesday
NOW_NS = 1_000 * HOUR_NS + 17 * SECOND
NIGHT_NS = 17 * HOUR_NS  # until midnight


def at_seven() -> Periods:
    """The periods of an account that starts on a Wednesday at 07:00."""
    periods = Periods(PeriodsState(), Calendar("UTC", "00:00"))
    assert periods.move(NOW_NS, WALL_NS)
    return periods


def test_the_first_periods_began_by_the_wall_clock() -> None:
    """A day that is measured from its midst began as long ago as the wall clock says."""
    periods = at_seven()
    assert periods.since_ns("day", NOW_NS) == NOW_NS - 7 * HOUR_NS
    assert periods.since_ns("week", NOW_NS) == NOW_NS - 55 * HOUR_NS
    assert periods.cut_ns == NOW_NS - 7 * HOUR_NS
    assert not periods.move(NOW_NS + 1, WALL_NS + 1)


def test_a_day_ends() -> None:
    """At midnight a day begins, and the week goes on; on Monday both begin."""
    periods = at_seven()
    assert not periods.move(NOW_NS + NIGHT_NS - 1, WALL_NS + NIGHT_NS - 1)
    assert periods.move(NOW_NS + NIGHT_NS, WALL_NS + NIGHT_NS)
    assert periods.since_ns("day", 0) == periods.cut_ns == NOW_NS + NIGHT_NS
    assert periods.since_ns("week", 0) == NOW_NS - 55 * HOUR_NS
    monday = NIGHT_NS + 4 * 24 * HOUR_NS
    assert periods.move(NOW_NS + monday, WALL_NS + monday)
    assert periods.since_ns("week", 0) == periods.since_ns("day", 0) == NOW_NS + monday


def test_dates_only_move_forward() -> None:
    """A wall clock that is put back begins no period, and the next begins when it is passed."""
    periods, history = at_seven(), History(HistoryState())
    began_ns = periods.since_ns("day", NOW_NS)
    wall_ns = WALL_NS - 30 * HOUR_NS
    assert not periods.move(NOW_NS + SECOND, wall_ns)
    assert periods.since_ns("day", NOW_NS + SECOND) == began_ns
    due_ns = periods.next_change_ns("day", history, NOW_NS + SECOND, wall_ns)
    assert due_ns == NOW_NS + SECOND + NIGHT_NS + 30 * HOUR_NS
    assert periods.move(due_ns, wall_ns + due_ns - NOW_NS - SECOND)


def test_a_wall_clock_put_forward() -> None:
    """What was observed before the jump belongs to the day before it."""
    periods = at_seven()
    assert periods.move(NOW_NS + SECOND, WALL_NS + 24 * HOUR_NS)
    assert periods.since_ns("day", 0) == NOW_NS + SECOND


@pytest.mark.parametrize(
    ("period", "ahead_ns"), [("day", NIGHT_NS), ("week", NIGHT_NS + 4 * 24 * HOUR_NS)]
)
def test_next_change_of_the_calendar(period: str, ahead_ns: int) -> None:
    """A fall of a day or a week changes when the next one begins."""
    due_ns = at_seven().next_change_ns(period, History(HistoryState()), NOW_NS, WALL_NS)
    assert due_ns == NOW_NS + ahead_ns


def test_rolling_hours() -> None:
    """A window begins with a whole minute, and changes when its first row leaves it."""
    periods, history = at_seven(), History(HistoryState())
    assert periods.next_change_ns("24h", history, NOW_NS, WALL_NS) is None
    history.observe(1_000.0, 1_000.0, 0.0, NOW_NS, 0)
    due_ns = periods.next_change_ns("24h", history, NOW_NS, WALL_NS)
    assert due_ns == NOW_NS - 17 * SECOND + MINUTE_NS + 24 * HOUR_NS
    assert periods.since_ns("24h", due_ns - 1) <= NOW_NS < periods.since_ns("24h", due_ns)
    history.observe(900.0, 1_000.0, 0.0, NOW_NS + 2 * MINUTE_NS, 0)
    for instant_ns, fall in ((due_ns - 1, 100), (due_ns, 100), (due_ns + 2 * MINUTE_NS, 0)):
        since_ns = periods.since_ns("24h", instant_ns)
        assert history.fall("24h", since_ns, 900.0, 0.0, trailing=True) == fall


def test_rebase() -> None:
    """A rebase begins the present day and week, not a new one of the calendar."""
    periods = at_seven()
    periods.rebase(NOW_NS + SECOND)
    assert periods.since_ns("day", 0) == periods.since_ns("week", 0) == NOW_NS + SECOND
    assert not periods.move(NOW_NS + 2 * SECOND, WALL_NS + 2 * SECOND)


def test_names_of_periods() -> None:
    """``24h`` has hours, a day has none, and another word is refused."""
    assert (hours_of("24h"), hours_of("1.5h"), hours_of("day")) == (24.0, 1.5, None)
    with pytest.raises(ValueError, match="'year' is no period: use day, week or hours"):
        at_seven().since_ns("year", NOW_NS)
