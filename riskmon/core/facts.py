"""What a standing limit may look at: the portfolio, and when whom was heard.

A limit measures with :class:`Facts` and nothing else. Times are engine time unless they say wall.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct

from riskmon.core.portfolio import Portfolio


class EdgeHeard(Struct):
    """The last edge of a strategy, in basis points."""

    bps: float
    at_ns: int
    wall_ns: int


@dataclass(slots=True)
class Facts:
    """All that was reported, as it stands at one instant."""

    book: Portfolio
    edges: dict[str, EdgeHeard]  # by strategy, "" for the account
    heard_ns: dict[str, dict[str, int]]  # venue -> type of event -> when
    beats_ns: dict[str, int]  # strategy -> last heartbeat; none after a final one
    edge_max_age_ns: int
    now_ns: int = 0
    wall_ns: int = 0
    closes: list[tuple[str, float]] = field(default_factory=list)  # (strategy, P&L) of this event
