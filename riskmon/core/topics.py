"""What state limits depend on: a topic changes, and the limits that depend on it are evaluated."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from riskmon.core.scopes import NAMES, Scope


class Subject(StrEnum):
    """What changed."""

    EQUITY = "equity"  # of the account
    EXPOSURE = "exposure"  # of all symbols
    VENUE_EQUITY = "venue_equity"
    SYMBOL = "symbol"  # its position
    ASSET = "asset"  # its delta
    ORDERS = "orders"  # that are permitted or rest
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


# Nearly every event names one of the following; each is made once.


@lru_cache(maxsize=NAMES)
def venue_equity_topic(venue: str) -> Topic:
    """The equity of a venue."""
    return Topic(Subject.VENUE_EQUITY, venue)


@lru_cache(maxsize=NAMES)
def symbol_topic(symbol: str) -> Topic:
    """The position in a symbol."""
    return Topic(Subject.SYMBOL, symbol)


@lru_cache(maxsize=NAMES)
def asset_topic(asset: str) -> Topic:
    """The delta of an asset."""
    return Topic(Subject.ASSET, asset)


@lru_cache(maxsize=NAMES)
def strategy_topic(strategy: str) -> Topic:
    """The P&L of a strategy."""
    return Topic(Subject.STRATEGY, strategy)


@lru_cache(maxsize=NAMES)
def edge_topic(strategy: str) -> Topic:
    """The last edge of a strategy, or with an empty name of the account."""
    return Topic(Subject.EDGE, strategy)


@lru_cache(maxsize=NAMES)
def events_topic(venue: str) -> Topic:
    """The events of a venue."""
    return Topic(Subject.EVENTS, venue)


@lru_cache(maxsize=NAMES)
def symbol_events_topic(symbol: str) -> Topic:
    """The events that name a symbol."""
    return Topic(Subject.SYMBOL_EVENTS, symbol)


@lru_cache(maxsize=NAMES)
def heartbeat_topic(strategy: str) -> Topic:
    """The heartbeats of a strategy."""
    return Topic(Subject.HEARTBEAT, strategy)


@lru_cache(maxsize=NAMES)
def metric_topic(scope: Scope, name: str) -> Topic:
    """A reported number of a scope."""
    return Topic(Subject.METRIC, f"{name}|{scope}")
