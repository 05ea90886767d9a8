"""Trading days and weeks: where they begin and end, in any zone."""

from __future__ import annotations

from datetime import UTC, datetime

import hypothesis.strategies as st
import pytest
from hypothesis import given

from riskmon.core.book.calendar import Calendar
from tests.core import FEW, SECOND

HOUR = 3_600 * SECOND


def at(text: str) -> int:
    """An instant in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def span(period: str, zone: str, day_start: str, now: str) -> tuple[str, str]:
    """The period around an instant, in UTC."""
    began, ends = Calendar(zone, day_start).span(period, at(now))
    return _text(began), _text(ends)


def _text(wall_ns: int) -> str:
    return datetime.fromtimestamp(wall_ns / SECOND, UTC).strftime("%Y-%m-%dT%H:%M")


@pytest.mark.parametrize(
    ("zone", "day_start", "now", "began", "ends"),
    [
        ("UTC", "00:00", "2026-05-06T07:08", "2026-05-06T00:00", "2026-05-07T00:00"),
        ("UTC", "17:30", "2026-05-06T17:29", "2026-05-05T17:30", "2026-05-06T17:30"),
        ("UTC", "17:30", "2026-05-06T17:30", "2026-05-06T17:30", "2026-05-07T17:30"),
        ("Asia/Tokyo", "00:00", "2026-05-06T15:00", "2026-05-06T15:00", "2026-05-07T15:00"),
        # clocks forward: a day of 23 hours
        ("Europe/Berlin", "00:00", "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00"),
        # 02:30 does not exist on that night: 03:00 is the first instant after it
        ("Europe/Berlin", "02:30", "2026-03-29T00:59", "2026-03-28T01:30", "2026-03-29T01:00"),
        ("Europe/Berlin", "02:30", "2026-03-29T01:00", "2026-03-29T01:00", "2026-03-30T00:30"),
        # clocks back: a day of 25 hours
        ("Europe/Berlin", "00:00", "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00"),
        # 02:30 comes twice: the first counts
        ("Europe/Berlin", "02:30", "2026-10-25T00:29", "2026-10-24T00:30", "2026-10-25T00:30"),
        ("Europe/Berlin", "02:30", "2026-10-25T01:30", "2026-10-25T00:30", "2026-10-26T01:30"),
        # half an hour forward, at the other end of the world
        (
            "Australia/LHI",
            "02:15",
            "2026-10-03T20:00",
            "2026-10-03T15:30",
            "2026-10-04T15:15",
        ),
        # Samoa had no 30 December 2011
        ("Pacific/Apia", "00:00", "2011-12-30T09:59", "2011-12-29T10:00", "2011-12-30T10:00"),
        ("Pacific/Apia", "00:00", "2011-12-30T10:00", "2011-12-30T10:00", "2011-12-31T10:00"),
    ],
)
def test_days(zone: str, day_start: str, now: str, began: str, ends: str) -> None:
    """A day runs from one ``day_start`` to the next, whatever the clocks do."""
    assert span("day", zone, day_start, now) == (began, ends)


@pytest.mark.parametrize(
    ("zone", "day_start", "now", "began", "ends"),
    [
        ("UTC", "00:00", "2026-05-06T07:08", "2026-05-04T00:00", "2026-05-11T00:00"),
        ("UTC", "17:00", "2026-05-04T16:59", "2026-04-27T17:00", "2026-05-04T17:00"),
        ("Europe/Berlin", "00:00", "2026-03-29T12:00", "2026-03-22T23:00", "2026-03-29T22:00"),
        ("Europe/Berlin", "00:00", "2026-10-25T12:00", "2026-10-18T22:00", "2026-10-25T23:00"),
    ],
)
def test_weeks(zone: str, day_start: str, now: str, began: str, ends: str) -> None:
    """A week begins with the day that begins on Monday."""
    assert span("week", zone, day_start, now) == (began, ends)


@FEW
@given(
    st.sampled_from(("UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Africa/Cairo")),
    st.times().map(lambda time: time.strftime("%H:%M")),
    st.integers(at("2010-01-01") // SECOND, at("2037-01-01") // SECOND),
    st.sampled_from(("day", "week")),
)
def test_periods_have_no_gap(zone: str, day_start: str, second: int, period: str) -> None:
    """Every instant is in one period; its end begins the next; a cached answer is a fresh one."""
    calendar, now_ns = Calendar(zone, day_start), second * SECOND
    began, ends = calendar.span(period, now_ns)
    assert began <= now_ns < ends
    assert calendar.span(period, ends - 1) == (began, ends)
    assert calendar.span(period, ends)[0] == ends
    assert calendar.span(period, now_ns) == Calendar(zone, day_start).span(period, now_ns)
