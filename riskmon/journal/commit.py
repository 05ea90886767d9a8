"""What becomes durable together, and how it is laid down in the tables."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import apsw
import msgspec
from msgspec import Struct, field
from msgspec.structs import astuple

from riskmon.core.decisions import Decision, Record, Transition
from riskmon.core.events import Event

_encode = msgspec.msgpack.Encoder().encode
_json = msgspec.json.Encoder().encode

Status = Literal["pending", "delivered", "withdrawn"]


class Entry(NamedTuple):
    """One instant: everything that was stepped together, in order.

    ``now_ns`` is steady engine time, ``wall_ns`` UTC ns since 1970. ``seq`` counts up from 1.
    ``encoded`` is ``events`` by :func:`encoded`, where that has been done; none when read.
    """

    seq: int
    now_ns: int
    wall_ns: int
    events: Sequence[Event]
    encoded: bytes = b""


def encoded(events: Sequence[Event]) -> bytes:
    """The events as an entry holds them.

    Raises :class:`Unencodable` for a value that has no place in one.
    """
    try:
        return _encode(events)
    except (OverflowError, TypeError, ValueError) as fault:
        raise Unencodable(f"a value cannot be written: {fault}") from fault


class Unencodable(Exception):
    """Something that the journal has no encoding for: an integer over 64 bits, a strange type."""


class Delivery(Struct, frozen=True):
    """One sweep's cancel for one target. ``id`` is the webhook-id, ``created_ns`` UTC ns."""

    id: str
    incident: str
    sweep: int
    target: str
    scope: str
    body: bytes
    created_ns: int
    status: Status = "pending"
    attempts: int = 0


class Commit(Struct, kw_only=True):
    """What becomes durable together. Do not change it, or what it holds, once submitted.

    Of ``decisions`` the journal keeps transitions and records. ``deliveries`` are added to the
    outbox (one already known stays as it is), ``outcomes`` are (id, status, attempts so far),
    ``withdraw`` names incidents whose pending deliveries are no longer wanted. ``snapshot`` is the
    engine after the last entry of this commit. ``clean`` marks an orderly end.
    """

    entries: list[Entry] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    outcomes: list[tuple[str, Status, int]] = field(default_factory=list)
    withdraw: list[str] = field(default_factory=list)
    snapshot: bytes | None = None
    clean: bool = False


def insert(db: apsw.Connection, commit: Commit, last_seq: int) -> tuple[int, int]:
    """Write a commit inside the open transaction.

    Returns the journal's last seq after it, and the bytes of its entries and its snapshot.
    """
    size = len(commit.snapshot or b"")
    if commit.entries:
        rows = [
            (e.seq, e.now_ns, e.wall_ns, e.encoded or encoded(e.events)) for e in commit.entries
        ]
        db.executemany("INSERT INTO inputs VALUES (?, ?, ?, ?)", rows)
        last_seq = commit.entries[-1].seq
        size += sum(len(events) for *_, events in rows)
    for decision in commit.decisions:
        _insert_decision(db, decision)
    for delivery in commit.deliveries:
        db.execute(
            "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            astuple(delivery),
        )
    for id_, status, attempts in commit.outcomes:
        # Late news of an attempt does not bring back what was withdrawn or is delivered.
        db.execute(
            "UPDATE outbox SET status = ?1, attempts = ?2"
            " WHERE id = ?3 AND (status = 'pending' OR ?1 = 'delivered')",
            (status, attempts, id_),
        )
    for incident in commit.withdraw:
        db.execute(
            "UPDATE outbox SET status = 'withdrawn' WHERE incident = ? AND status = 'pending'",
            (incident,),
        )
    if commit.snapshot is not None:
        _insert_snapshot(db, last_seq, commit.snapshot)
    if commit.clean:
        db.execute("UPDATE meta SET value = 1 WHERE key = 'clean'")
    return last_seq, size


def _insert_decision(db: apsw.Connection, decision: Decision) -> None:
    if isinstance(decision, Record):
        db.execute(
            "INSERT INTO audit VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " at_ns = excluded.at_ns, kind = excluded.kind, record = excluded.record",
            (decision.id, decision.at_ns, decision.kind, _json(decision).decode()),
        )
    elif isinstance(decision, Transition):
        db.execute(
            "INSERT INTO transitions VALUES (?, ?)", (decision.at_ns, _json(decision).decode())
        )


def _insert_snapshot(db: apsw.Connection, seq: int, data: bytes) -> None:
    db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)", (seq, zlib.crc32(data), data))
    db.execute(
        "DELETE FROM snapshots WHERE seq NOT IN"
        " (SELECT seq FROM snapshots ORDER BY seq DESC LIMIT 2)"
    )
