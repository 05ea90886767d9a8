"""The names of what state limits depend on: a topic changes, and its limits are evaluated.

A topic is a subject, alone or with a name: ``equity``, ``symbol:BTC/USDT``.
"""

from __future__ import annotations

EQUITY = "equity"  # of the account
EXPOSURE = "exposure"  # of all symbols
VENUE_EQUITY = "venue_equity"
SYMBOL = "symbol"  # its position
STRATEGY = "strategy"  # its P&L
EDGE = "edge"  # the last edge of a strategy, or with an empty name of the account
EVENTS = "events"  # the events of a venue
HEARTBEAT = "heartbeat"  # of a strategy

SUBJECTS = frozenset({EQUITY, EXPOSURE, VENUE_EQUITY, SYMBOL, STRATEGY, EDGE, EVENTS, HEARTBEAT})


def subject(topic: str) -> str:
    """The subject of a topic."""
    return topic.partition(":")[0]


def scope_name(scope: str) -> str:
    """The name in a scope: ``kraken`` of ``venue:kraken``, empty for the account."""
    return scope.partition(":")[2]
