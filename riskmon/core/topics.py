"""What state limits depend on: a topic changes, and the limits that depend on it are evaluated."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from riskmon.core.scopes import Scope


class Subject(StrEnum):
    """What changed."""

    EQUITY = "equity"  # of the account
    EXPOSURE = "exposure"  # of all symbols
    VENUE_EQUITY = "venue_equity"
    SYMBOL = "symbol"  # its position
    STRATEGY = "strategy"  # its P&L
    EDGE = "edge"  # the last edge of a strategy, or with an empty name of the account
    EVENTS = "events"  # the events of a venue
    METRIC = "metric"  # a number of a scope: its name is that of `metric_topic`
    HEARTBEAT = "heartbeat"  # of a strategy


class Topic(NamedTuple):
    """A subject, and the name of the one that it is about; empty: the account."""

    subject: Subject
    name: str = ""


EQUITY = Topic(Subject.EQUITY)
EXPOSURE = Topic(Subject.EXPOSURE)


@lru_cache(maxsize=1 << 15)  # every event names one; this takes a fifth of making it
def topic(subject: Subject, name: str) -> Topic:
    """The topic of a subject and a name."""
    return Topic(subject, name)


@lru_cache(maxsize=1 << 15)
def metric_topic(scope: Scope, name: str) -> Topic:
    """The topic of a reported number of a scope."""
    return Topic(Subject.METRIC, f"{name}|{scope}")
