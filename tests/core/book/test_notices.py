"""What the book reports besides numbers."""

from __future__ import annotations

from riskmon.core.book.notices import Differences, Notices
from riskmon.core.clock import Clock, Instant
from riskmon.core.decisions import Notice


def test_notices_are_taken_once() -> None:
    """Each has the wall clock of its step."""
    clock = Clock(Instant(5, 1_000))
    notices = Notices({}, clock)
    notices.add("peg", "USDC is not at its peg")
    clock.instant = Instant(6, 2_000)
    notices.add("flow", "the flow 1 lapsed")
    assert notices.take() == [
        Notice(about="peg", text="USDC is not at its peg", at_ns=1_000),
        Notice(about="flow", text="the flow 1 lapsed", at_ns=2_000),
    ]
    assert notices.take() == []


def test_differences_are_counted_by_venue_and_kind() -> None:
    """In the state that they were given, so that a restore goes on counting."""
    stored: Differences = {"kraken": {"position": 2}}
    notices = Notices(stored, Clock(Instant(0, 0)))
    notices.count("kraken", "position")
    notices.count("kraken", "flow")
    notices.count("mexc", "flow")
    assert stored == {"kraken": {"position": 3, "flow": 1}, "mexc": {"flow": 1}}
