"""The time of a step, in one place: the engine sets it, and the parts of the engine read it."""

from __future__ import annotations

from typing import NamedTuple


class Instant(NamedTuple):
    """The two times of a step.

    ``now_ns`` never goes back and survives restarts, and all durations use it; ``wall_ns`` is the
    date (UTC ns since 1970), for days, for ``at``, and for what is shown.
    """

    now_ns: int
    wall_ns: int


class Clock:
    """The instant of the present step."""

    __slots__ = ("instant",)

    def __init__(self, instant: Instant) -> None:
        self.instant = instant
