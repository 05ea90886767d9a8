"""What state limits depend on: a topic changes, and the limits that depend on it are evaluated."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from riskmon.core.scopes import NAMES, Scope


class Subject(StrEnum):
    """What changed."""

    EQUITY = "equity"  # of the account
    EXPOSURE = "exposure"  # of all symbols
    VENUE_EQUITY = "venue_equity"  # of a venue
    SYMBOL = "symbol"  # its position
    ASSET = "asset"  # its delta
    ORDERS = "orders"  # that are permitted or rest
    SYMBOL_ORDERS = "symbol_orders"  # that rest in a symbol
    STRATEGY = "strategy"  # its P&L
    EDGE = "edge"  # the last edge of a strategy, or with an empty name of the account
    EVENTS = "events"  # the events of a venue
    SYMBOL_EVENTS = "symbol_events"  # the events that name a symbol
    METRIC = "metric"  # a number of a scope: see `metric_topic`
    HEARTBEAT = "heartbeat"  # of a strategy


class Topic(NamedTuple):
    """A subject, and the name of the one that it is about; empty: the account."""

    subject: Subject
    name: str = ""


EQUITY = Topic(Subject.EQUITY)
EXPOSURE = Topic(Subject.EXPOSURE)
ORDERS = Topic(Subject.ORDERS)


def _of(subject: Subject) -> Callable[[str], Topic]:
    """Return a function from a name to the topic of it. Nearly every event calls one of them."""

    @lru_cache(maxsize=NAMES)
    def topic(name: str) -> Topic:
        return Topic(subject, name)

    return topic


venue_equity_topic = _of(Subject.VENUE_EQUITY)
symbol_topic = _of(Subject.SYMBOL)
asset_topic = _of(Subject.ASSET)
symbol_orders_topic = _of(Subject.SYMBOL_ORDERS)
strategy_topic = _of(Subject.STRATEGY)
edge_topic = _of(Subject.EDGE)
events_topic = _of(Subject.EVENTS)
symbol_events_topic = _of(Subject.SYMBOL_EVENTS)
heartbeat_topic = _of(Subject.HEARTBEAT)


@lru_cache(maxsize=NAMES)
def metric_topic(scope: Scope, name: str) -> Topic:
    """Return the topic of a reported number of a scope."""
    return Topic(Subject.METRIC, f"{name}|{scope}")
