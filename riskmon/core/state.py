"""Everything that the engine keeps: a snapshot is this, encoded.

Where a field has another name in a snapshot, it had that name in an earlier release.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from riskmon.core.book.earlier import EarlierPortfolio, convert
from riskmon.core.book.money import decode_fixed, encode_fixed
from riskmon.core.book.orders import ReservationsState
from riskmon.core.book.seen import Seen
from riskmon.core.book.state import PortfolioState
from riskmon.core.breakers.board import Measures
from riskmon.core.breakers.cancels import Incident
from riskmon.core.breakers.state import BoardState
from riskmon.core.clock import Instant
from riskmon.core.config import EngineConfig, dump, load
from riskmon.core.decisions import Notice
from riskmon.core.limits.facts import EdgeReport
from riskmon.core.limits.metrics import MetricReport
from riskmon.core.permits import Permit
from riskmon.core.scopes import venue_scope
from riskmon.core.timers import StoredKey
from riskmon.core.version import STATE_VERSION, refuse_newer

BOOK_OF_FACTS = 3  # the first version that stores the facts of the book instead of sums


class State(Struct, forbid_unknown_fields=True):
    """The state of an engine."""

    now_ns: int = 0
    wall_ns: int = 0
    started_ns: int = 0  # of the last start: no silence is longer
    board: BoardState = field(default_factory=BoardState)
    portfolio: PortfolioState = field(default_factory=PortfolioState)
    incidents: dict[str, Incident] = field(default_factory=dict)
    measures: Measures = field(default_factory=dict)  # of a snapshot; breakers hold those of now
    timers: dict[StoredKey, int] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    # Venue -> type of event -> time.
    last_event_ns: dict[str, dict[str, int]] = field(default_factory=dict, name="heard_ns")
    last_symbol_event_ns: dict[str, dict[str, int]] = field(default_factory=dict)  # by symbol
    last_heartbeat_ns: dict[str, int] = field(default_factory=dict, name="beats_ns")  # by strategy
    metrics: dict[str, MetricReport] = field(default_factory=dict)
    edges: dict[str, EdgeReport] = field(default_factory=dict)  # strategy, "" for the account
    orders: ReservationsState = field(default_factory=ReservationsState)
    permits: dict[str, Permit] = field(default_factory=dict)  # by the ids of their records
    duplicates_total: int = 0
    notices: list[Notice] = field(default_factory=list)  # the latest, for readers
    checked: dict[str, int] = field(default_factory=lambda: {"allowed": 0, "refused": 0})
    blocked: dict[str, int] = field(default_factory=dict)  # limit -> orders it refused


class _Stored(Struct, kw_only=True):
    version: int = 1  # release 0.1.0 wrote none
    config: dict[str, Any]  # as `dump` gives it
    state: msgspec.Raw


class _Snapshot(Struct, kw_only=True):
    version: int = 1  # release 0.1.0 wrote none
    config: dict[str, Any]  # as `dump` gives it
    state: State


def encode(config: EngineConfig, state: State, measures: Measures) -> bytes:
    """A snapshot: the state with what the limits measure, and the configuration in force."""
    state = replace(state, measures=measures)
    snapshot = _Snapshot(version=STATE_VERSION, config=dump(config), state=state)
    return msgspec.msgpack.encode(snapshot, enc_hook=encode_fixed)


def decode(data: bytes) -> tuple[EngineConfig, State]:
    """The configuration and the state of a snapshot, of this version or an earlier one.

    Raises msgspec.DecodeError for other bytes, NewerState for the snapshot of a later version.
    """
    refuse_newer(data)
    stored = msgspec.msgpack.decode(data, type=_Stored)
    config = load(stored.config)
    raw: bytes = stored.state
    if stored.version < BOOK_OF_FACTS:
        raw = _convert_portfolio(raw, config)
    state = msgspec.msgpack.decode(raw, type=State, dec_hook=decode_fixed)
    if stored.version == 1:
        _name_scopes(state)
    return config, state


def _convert_portfolio(raw: bytes, config: EngineConfig) -> bytes:
    """Return a state with the portfolio that an earlier version stored, as it is stored now."""
    members = msgspec.msgpack.decode(raw, type=dict[str, msgspec.Raw])
    times = msgspec.msgpack.decode(raw, type=_Times)
    portfolio = msgspec.msgpack.decode(members["portfolio"], type=EarlierPortfolio)
    now = Instant(times.now_ns, times.wall_ns)
    converted = convert(portfolio, config.portfolio.reference, now)
    members["portfolio"] = msgspec.Raw(msgspec.msgpack.encode(converted, enc_hook=encode_fixed))
    members.pop("commitments", None)
    return msgspec.msgpack.encode(members)


class _Times(Struct):
    now_ns: int = 0
    wall_ns: int = 0


def _name_scopes(state: State) -> None:
    """Store samples under their scopes: version 1 stored those of a venue under its name alone."""
    for limit, measures in state.measures.items():
        scopes = state.board.breakers.get(limit, {})  # none, while the limit is disabled
        for name in [name for name in measures if name not in scopes]:
            venue = venue_scope(name)
            if venue in state.board.scopes:
                measures[venue] = measures.pop(name)
