"""Waiters for conditions that another process, thread or task brings about."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 30.0  # long enough for a busy machine
PAUSE_SECONDS = 0.005


def eventually(
    condition: Callable[[], T | None],
    what: str = "the condition",
    pause_seconds: float = PAUSE_SECONDS,
) -> T:
    """Return the first true value of ``condition``; fail with ``what`` when the time is over."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s: {what}"
        time.sleep(pause_seconds)
    return value


async def eventually_async(condition: Callable[[], T | None], what: str = "the condition") -> T:
    """Return the first true value of ``condition`` while other tasks run."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s: {what}"
        await asyncio.sleep(PAUSE_SECONDS)
    return value
