"""What the loop keeps from one of its turns to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from riskmon.core import events as ev
from riskmon.core.decisions import Outcome, Sweep
from riskmon.journal import Commit
from riskmon.lease import Levels


@dataclass(slots=True)
class Request:
    """Events that are one instant, and who waits for what they come to."""

    events: Sequence[ev.Event]
    arrived_ns: int  # CLOCK_BOOTTIME
    waiter: asyncio.Future[Any] | None = None
    outcome: Outcome | None = None
    encoded: bytes = b""  # events for the journal; none: encoded with the commit


@dataclass(slots=True)
class Turn:
    """What one turn of the loop must see durable before it answers."""

    requests: list[Request]
    commit: Commit
    began_ns: int
    arrived_ns: int
    submitted_ns: int = 0
    levels: Levels | None = None  # when they changed in this turn
    version: int = 0
    events: int = 0
    sweeps: list[Sweep] = field(default_factory=list)
