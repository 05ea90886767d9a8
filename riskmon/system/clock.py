"""The clocks of the sidecar: engine time, and CLOCK_BOOTTIME, on which leases are measured."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Engine time: the wall clock of the start, continued by CLOCK_BOOTTIME.

    It never goes back, neither when the wall clock is set back nor at a restart.
    """

    def __init__(self, last_now_ns: int) -> None:
        self._offset_ns = max(time.time_ns(), last_now_ns) - boot_ns()

    def now_ns(self) -> int:
        """Return the current engine time."""
        return boot_ns() + self._offset_ns


def boot_ns() -> int:
    """Return CLOCK_BOOTTIME, on which the gate's leases are measured; it includes suspend."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def rfc3339(ns: int) -> str:
    """Format UTC ns since 1970 as `2026-01-02T03:04:05.678Z`."""
    second = datetime.fromtimestamp(ns // 10**9, UTC).isoformat()[:19]
    return f"{second}.{ns // 10**6 % 1000:03d}Z"
