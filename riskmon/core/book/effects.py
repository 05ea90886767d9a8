"""What changes a venue's holdings, and when: reported balances, and the effects of other events."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from riskmon.core.timers import TimerKey

Arm = Callable[[TimerKey, int], None]


class Stamp(NamedTuple):
    """The time of a report in engine ns; ``dated``: it had an ``at``, else it is its arrival."""

    at_ns: int
    dated: bool


class Amount(NamedTuple):
    """A balance in units of its asset."""

    free: float
    locked: float


NOTHING = Amount(0.0, 0.0)
