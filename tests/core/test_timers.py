"""Timers: each has a handler, and what an earlier version stored starts."""

from __future__ import annotations

import msgspec
import pytest

from riskmon.core import events as ev
from riskmon.core.breakers.board import Board
from riskmon.core.clock import Clock, Instant
from riskmon.core.engine import Engine
from riskmon.core.scopes import Scope
from riskmon.core.timers import NEVER_NS, StoredKey, Timer, TimerKey, Timers, handler_table


def test_a_timer_without_a_handler_fails_at_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine cannot be made while a timer has no handler; the error names the timer."""
    monkeypatch.setattr(
        Board, "timer_handlers", lambda board, facts: {Timer.SCHEDULE: lambda key: None}
    )
    with pytest.raises(TypeError, match="timers without a handler: RECOVERY, RECHECK, GRACE, "):
        Engine()


def test_a_complete_table_is_accepted() -> None:
    """The table has one handler for each timer."""
    assert set(handler_table(dict.fromkeys(Timer, lambda key: None))) == set(Timer)


def test_stored_timers_are_readable_and_fire_after_a_restart() -> None:
    """A snapshot names a timer by its kind; the restored engine fires it."""
    engine = Engine()
    engine.step([ev.Balance(venue="kraken", asset="USDT", free=1.0)], now_ns=1, wall_ns=1)
    data = engine.snapshot()
    stored = msgspec.msgpack.decode(data, type=dict[str, msgspec.Raw])
    state = msgspec.msgpack.decode(stored["state"], type=dict[str, msgspec.Raw])
    timers = msgspec.msgpack.decode(state["timers"], type=dict[StoredKey, int])
    assert ("settle", "kraken", "") in timers
    assert Engine.restore(data).next_deadline_ns == engine.next_deadline_ns < NEVER_NS


def test_a_timer_of_an_earlier_version_is_dropped() -> None:
    """A kind that no longer exists has no handler: it is removed, the others stay."""
    stored: dict[StoredKey, int] = {("retired", "x", ""): 5, ("wait", "edge", "account"): 7}
    timers = Timers(stored, Clock(Instant(9, 9)))
    assert timers.next_ns == 7
    assert list(timers.due()) == [TimerKey(Timer.RECOVERY, "edge", Scope("account"))]
    assert not stored
