"""Snapshots and entries that earlier versions wrote are read whole.

A persisted field whose Python name changes keeps its stored name; without one, msgspec would pass
over what is stored and use the default.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from riskmon.core.engine import Engine
from riskmon.core.events import Event
from riskmon.core.limits.limit import TOLERANCE
from riskmon.core.parsing import parse_json
from riskmon.core.version import STATE_VERSION, snapshot_version
from riskmon.journal import Entry, entries

STATES = sorted((Path(__file__).parent.parent / "fixtures").glob("state-*"))
FULL = [path for path in STATES if path.name not in ("state-0.1.0", "state-0.1.0-with-marks")]
EVENTS_IN_FULL = {
    "balance", "balances", "cancel_answered", "cancel_sent", "cash_flow", "check", "configured",
    "edge", "error", "fill", "heartbeat", "latency", "open_orders", "operate", "order", "pnl",
    "position", "price", "start", "stop", "tick",
}  # fmt: skip
SINCE_3 = {"metric", "orders", "positions", "transfer"}  # types of events of state version 3
# Parts of a full state that are empty. From version 3 on: a venue that left as a flow did so long
# after its last report, and the times of unreported orders are in the orders.
EMPTY = {("seen", "before_ns")}
EMPTY_SINCE_3 = EMPTY | {("portfolio", "absent"), ("orders", "unheard_ns")}


def rows(state: Path, query: str) -> list[tuple[Any, ...]]:
    """The rows that a state directory's journal has for a query; makes no file beside it."""
    path = f"file:{state / 'journal.db'}?immutable=1"
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    with closing(apsw.Connection(path, flags=flags)) as db:
        return list(db.execute(query))


def newest_snapshot(state: Path) -> tuple[int, bytes]:
    """The entry of the newest snapshot in a state directory, and its bytes."""
    seq, data = rows(state, "SELECT seq, data FROM snapshots ORDER BY seq DESC LIMIT 1")[0]
    return seq, data


def lost(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """The paths of what is in ``old`` and not in ``new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            if key in new:
                yield from lost(value, new[key], f"{where}.{key}")
            else:
                yield f"{where}.{key}"
    elif old != new:
        yield f"{where}: {old!r} is {new!r}"


def converted(snapshot: dict[str, Any]) -> dict[str, Any]:
    """A snapshot with what is meant to be stored in another form today."""
    if snapshot.get("version", 1) == STATE_VERSION:
        _price_effects(snapshot["state"]["portfolio"])
        snapshot["state"]["portfolio"]["equity"].pop("capital_ns")  # nothing read it
        return snapshot
    config = snapshot["config"]
    # 0.1.0 stored a table for each target; a decision depends on its name alone.
    config["targets"] = [t["name"] if isinstance(t, dict) else t for t in config["targets"]]
    # 0.1.0 stored the samples of a venue under its name alone, not under its scope, and also the
    # limits that had none.
    state = snapshot["state"]
    state["measures"] = {
        limit: {(name if ":" in name or name == "account" else f"venue:{name}"): kept
                for name, kept in measures.items()}
        for limit, measures in state["measures"].items()
        if measures
    }  # fmt: skip
    _name_orders(state["orders"])
    state.pop("commitments", None)
    # Both versions stored another portfolio; a test of its own compares the figures. Their book had
    # a timer more.
    state.pop("portfolio")
    state["timers"] = {key: due for key, due in state["timers"].items() if key[0] != "awaited"}
    snapshot["version"] = STATE_VERSION
    # Earlier versions stored the bound of a window of latencies, and not the value past it.
    for limit in config["limits"]:
        for kept in state["measures"].get(limit["name"], {}).values():
            if limit["kind"] == "latency_p99":
                kept["bound"] *= 1 + TOLERANCE
    # … and the length alone of a run of losing closes.
    for limit in config["limits"]:
        if limit["kind"] == "loss_streak":
            kept = state["measures"].get(limit["name"], {})
            kept.update({scope: {"length": run} if run else {} for scope, run in kept.items()})
    return snapshot


def _price_effects(portfolio: dict[str, Any]) -> None:
    """Effects with the price of their fill: positions had a table of them by cause."""
    for ledgers in portfolio["holdings"]["ledgers"].values():
        for ledger in ledgers.values():
            ledger["effects"] = [[*one[:4], 0.0] for one in ledger["effects"]]
    for position in portfolio["positions"]["positions"].values():
        prices, ledger = position.pop("prices"), position["ledger"] or {"effects": []}
        ledger["effects"] = [[*one[:4], prices[one[3]]] for one in ledger["effects"]]


def _name_orders(orders: dict[str, Any]) -> None:
    """Orders with the ids of their venues, and without what is derived from them."""
    reserved, unreported = orders.pop("reserved"), orders.pop("unheard_ns")
    orders.pop("pending", None)
    orders["reserved"] = {
        f"{one['venue']}|{name}": {
            **{key: value for key, value in one.items() if key != "left"},
            "id": name,
            "began_ns": unreported.get(name, 0),
        }
        for name, one in reserved.items()
    }


@pytest.mark.parametrize("state", STATES, ids=lambda path: path.name)
def test_an_earlier_snapshot_is_read_whole(state: Path) -> None:
    """All that a snapshot holds is in the snapshot of the engine that was restored from it."""
    _, data = newest_snapshot(state)
    old = converted(msgspec.msgpack.decode(data))
    new = msgspec.msgpack.decode(Engine.restore(data).snapshot())
    assert list(lost(old, new)) == []


OF_SUMS = [path for path in STATES if snapshot_version(newest_snapshot(path)[1]) < 3]


@pytest.mark.parametrize("state", OF_SUMS, ids=lambda path: path.name)
def test_an_earlier_portfolio_keeps_its_figures(state: Path) -> None:
    """Equity, capital, unit value, peak, P&L, balances and positions are what they were."""
    _, data = newest_snapshot(state)
    old = msgspec.msgpack.decode(data)["state"]["portfolio"]
    view = Engine.restore(data).view().portfolio
    is_known = isinstance(old["judged"], float)
    assert view.equity == (old["judged"] if is_known else None)
    assert view.initial_capital == old["capital"]
    assert view.unit_value == (pytest.approx(old["judged_unit_value"]) if is_known else None)
    ratio = 1 - old["judged_unit_value"] / old["peak"]["value"]
    assert view.drawdown_ratio == (pytest.approx(ratio) if is_known else None)
    book = old["book"]
    assert view.pnl_realized == pytest.approx(value_of(book["realised"]))
    assert view.pnl_unrealized == pytest.approx(value_of(book["unrealised"]))
    stored = old["venues"]["venues"]
    balances = {
        (name, asset, one["free"], one["locked"])
        for name, venue in stored.items()
        for asset, one in venue["assets"].items()
    }
    assert {(one.venue, one.asset, one.free, one.locked) for one in view.balances} == balances
    contracts = {
        (one["venue"], one["symbol"], one["quantity"], one["entry"])
        for one in book["positions"].values()
        if not one["strategy"] and ":" in one["symbol"]
    }
    shown = {(p.venue, p.symbol, p.quantity, p.entry_price) for p in view.positions}
    assert {one for one in shown if ":" in one[1]} == contracts


def value_of(ledger: dict[str, Any]) -> float:
    """The value that a ledger of an earlier version had."""
    return float(ledger["value"]["high"] + ledger["value"]["low"])


@pytest.mark.parametrize("state", STATES, ids=lambda path: path.name)
def test_earlier_entries_are_read_whole_and_replayed(state: Path, tmp_path: Path) -> None:
    """Each entry decodes to what it holds, and the engine takes those after the snapshot."""
    journal = Path(shutil.copy(state / "journal.db", tmp_path))  # SQLite makes files beside it
    for entry, stored in zip(entries(journal), stored_events(state), strict=True):
        read = msgspec.msgpack.decode(msgspec.msgpack.encode(entry.events))
        assert list(lost(dict(enumerate(stored)), dict(enumerate(read)))) == []
    engine, _ = replayed(state, journal)
    assert engine.generation > 0


def replayed(state: Path, journal: Path) -> tuple[Engine, Entry]:
    """The engine at the end of a journal, and the last entry."""
    seq, data = newest_snapshot(state)
    engine, last = Engine.restore(data), None
    for last in entries(journal):
        if last.seq > seq:
            engine.step(last.events, now_ns=last.now_ns, wall_ns=last.wall_ns)
    assert last is not None
    return engine, last


@pytest.mark.parametrize("state", STATES, ids=lambda path: path.name)
def test_facts_of_an_earlier_state_are_not_counted_twice(state: Path, tmp_path: Path) -> None:
    """Fills, flows and P&L that are reported again are duplicates and change no figure.

    They are reported at the time of the state: ids are stored for 7 to 14 days.
    """
    engine, last = replayed(state, Path(shutil.copy(state / "journal.db", tmp_path)))
    repeated = json.loads((state / "expected.json").read_text())["repeated"]
    facts = parse_json(json.dumps(repeated).encode(), last.wall_ns)
    before = engine.view().portfolio
    outcome = engine.step(facts, now_ns=last.now_ns + 1, wall_ns=last.wall_ns + 1)
    assert outcome.duplicates == len(facts) > 0
    assert engine.view().portfolio == before


@pytest.mark.parametrize("state", FULL, ids=lambda path: path.name)
def test_a_full_state_holds_each_type_of_event(state: Path) -> None:
    """The tests above cover each type of event that a journal holds."""
    found = {event["type"] for events in stored_events(state) for event in events}
    version = snapshot_version(newest_snapshot(state)[1])
    assert found == (EVENTS_IN_FULL if version < 3 else EVENTS_IN_FULL | SINCE_3)
    known = msgspec.inspect.type_info(Event)
    assert isinstance(known, msgspec.inspect.UnionType)
    tags = {one.tag for one in known.types if isinstance(one, msgspec.inspect.StructType)}
    assert found <= tags


@pytest.mark.parametrize("state", FULL, ids=lambda path: path.name)
def test_a_full_snapshot_holds_something_of_each_part(state: Path) -> None:
    """No part of a full state is empty, so that one whose stored name changes is found missing."""
    snapshot = newest_snapshot(state)[1]
    stored = msgspec.msgpack.decode(snapshot)["state"]
    parts = {(outer, inner): part for outer in stored for inner, part in parts_of(stored[outer])}
    empty = {key for key, part in parts.items() if part == {} and key[0] != "measures"}
    assert empty == (EMPTY if snapshot_version(snapshot) < 3 else EMPTY_SINCE_3)


def parts_of(value: Any) -> list[tuple[str, Any]]:
    """The parts of a map by their names; of any other value, or of an empty map, itself."""
    return list(value.items()) if isinstance(value, dict) and value else [("", value)]


def stored_events(state: Path) -> Iterator[list[dict[str, Any]]]:
    """The events of each entry as plain values, without their types."""
    for (blob,) in rows(state, "SELECT events FROM inputs ORDER BY seq"):
        sealed = blob[:1] == b"\xc1"  # a checksum of 4 bytes follows
        yield msgspec.msgpack.decode(blob[5:] if sealed else blob)
