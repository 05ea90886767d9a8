"""Virtual time: an event loop that never waits, and the clocks that production code reads."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context
from typing import Any
from unittest.mock import patch

SECOND_NS = 10**9
READING_NS = 50  # the duration of a reading: no two readings are equal
_BEGIN_WALL_NS = 1_767_323_045 * SECOND_NS  # 2026-01-02
_BEGIN_BOOT_NS = 1_000 * SECOND_NS


class VirtualClock:
    """All time of one simulation. It moves only when every task waits."""

    def __init__(self) -> None:
        self.ns = 0  # since the simulation began
        self._boot_offset_ns = _BEGIN_BOOT_NS
        self.wall_offset_ns = _BEGIN_WALL_NS

    @property
    def seconds(self) -> float:
        """Seconds since the simulation began."""
        return self.ns / SECOND_NS

    def boot_ns(self) -> int:
        """CLOCK_BOOTTIME."""
        return self.ns + self._boot_offset_ns

    def wall_ns(self) -> int:
        """The wall clock, which may be set."""
        return self.ns + self.wall_offset_ns

    def reboot(self) -> None:
        """Restart CLOCK_BOOTTIME."""
        self._boot_offset_ns = 5 * SECOND_NS - self.ns

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Make the `time` module read this clock."""
        real = time.clock_gettime_ns

        def clock_gettime_ns(clock_id: int) -> int:
            if clock_id != time.CLOCK_BOOTTIME:
                return real(clock_id)
            self.ns += READING_NS
            return self.boot_ns()

        with (
            patch("time.clock_gettime_ns", clock_gettime_ns),
            patch("time.time_ns", self.wall_ns),
            patch("time.time", lambda: self.wall_ns() / SECOND_NS),
            patch("time.monotonic", lambda: self.seconds),
            patch("time.monotonic_ns", lambda: self.ns),
        ):
            yield


class Stuck(Exception):
    """Every task waits, and no timer is armed."""


class _Selector(selectors.BaseSelector):
    """Waits by moving the clock; no file is ever ready."""

    def __init__(self, clock: VirtualClock, each_turn: Callable[[], None]) -> None:
        self._clock, self._each_turn = clock, each_turn

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._each_turn()
        if timeout is None:
            raise Stuck
        if timeout > 0:
            self._clock.ns += int(timeout * SECOND_NS) + 1
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time; ``each_turn`` is called between any two rounds of it."""

    def __init__(self, clock: VirtualClock, each_turn: Callable[[], None]) -> None:
        super().__init__(_Selector(clock, each_turn))
        self._clock = clock

    def time(self) -> float:
        return self._clock.seconds

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)  # there is one thread

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done
