"""The only clocks: the engine's time, and the one that the gate's leases are measured on."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Engine time: the wall clock of the first start, carried on by CLOCK_BOOTTIME.

    It never goes back: not with the wall clock, and not over a restart.
    """

    def __init__(self, last_now_ns: int) -> None:
        self._offset_ns = max(time.time_ns(), last_now_ns) - boot_ns()

    def now_ns(self) -> int:
        """Engine time of now."""
        return boot_ns() + self._offset_ns


def boot_ns() -> int:
    """CLOCK_BOOTTIME, which the gate's leases are measured on; it counts suspend."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def rfc3339(ns: int) -> str:
    """UTC ns since 1970 as `2026-01-02T03:04:05.678Z`."""
    second = datetime.fromtimestamp(ns // 10**9, UTC).isoformat()[:19]
    return f"{second}.{ns // 10**6 % 1000:03d}Z"
