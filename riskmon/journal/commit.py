"""A commit, the unit of durability, and its encoding as rows of the tables."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import apsw
import msgspec
from msgspec import Struct, field
from msgspec.structs import astuple

from riskmon.core.decisions import Decision, Record, Transition
from riskmon.core.events import Event
from riskmon.core.version import STATE_VERSION
from riskmon.delivery import Delivery, Status

_encode = msgspec.msgpack.Encoder().encode
_json = msgspec.json.Encoder().encode
_UNENCODABLE = (OverflowError, TypeError, ValueError)  # raised by the encoders


class Entry(NamedTuple):
    """The events of one step of the engine, in order.

    ``now_ns`` is engine time, which never goes back; ``wall_ns`` is UTC ns since 1970. ``seq``
    counts up from 1. ``encoded`` is the result of :func:`encoded` for ``events`` where the caller
    has it already; it is empty for an entry that was read.
    """

    seq: int
    now_ns: int
    wall_ns: int
    events: Sequence[Event]
    encoded: bytes = b""


def encoded(events: Sequence[Event]) -> bytes:
    """Return the events in the encoding of an entry, MessagePack.

    Raises :class:`Unencodable` for a value that MessagePack cannot represent.
    """
    try:
        return _encode(events)
    except _UNENCODABLE as fault:
        raise Unencodable(f"a value cannot be written: {fault}") from fault


class Unencodable(Exception):
    """A value that the journal cannot encode: an integer over 64 bits, an unsupported type."""


class Commit(Struct, kw_only=True):
    """The unit of durability. Neither it nor its members may be changed after :meth:`submit`.

    Of ``decisions`` the journal stores transitions and records. ``deliveries`` are added to the
    outbox (a delivery whose id is stored already stays unchanged), ``outcomes`` are (id, status,
    attempts so far), ``withdraw`` are the ids of incidents whose pending deliveries are withdrawn.
    ``snapshot`` is the engine after the last entry of this commit. ``clean`` marks an orderly end.
    """

    entries: list[Entry] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    outcomes: list[tuple[str, Status, int]] = field(default_factory=list)
    withdraw: list[str] = field(default_factory=list)
    snapshot: bytes | None = None
    clean: bool = False


_AUDIT = """
INSERT INTO audit VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
  at_ns = excluded.at_ns, kind = excluded.kind, record = excluded.record
"""
_OUTBOX = """
INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING
"""
# A late outcome does not make a withdrawn or delivered row pending again.
_OUTCOME = """
UPDATE outbox SET status = ?2, attempts = ?3
WHERE id = ?1 AND (status = 'pending' OR ?2 = 'delivered')
"""
_WITHDRAW = "UPDATE outbox SET status = 'withdrawn' WHERE incident = ? AND status = 'pending'"


class Input(NamedTuple):
    """The row of an entry."""

    seq: int
    now_ns: int
    wall_ns: int
    events: bytes


class Rows(NamedTuple):
    """The rows of a commit, completely encoded."""

    inputs: list[Input]
    audit: list[tuple[str, int, str, str]]
    transitions: list[tuple[int, str]]
    outbox: list[tuple[str | int | bytes, ...]]
    outcomes: list[tuple[str, Status, int]]
    withdraw: list[str]
    snapshot: bytes | None
    clean: bool

    @property
    def size(self) -> int:
        """The bytes of the entries and the snapshot."""
        return sum(len(row.events) for row in self.inputs) + len(self.snapshot or b"")


# MessagePack never begins with this byte, so an entry without a checksum, as 0.1.0 wrote it, is
# recognized by its absence.
_SEALED = 0xC1
_SEAL = struct.Struct("<BL")  # the byte, and the CRC-32 of times, number and body
_NUMBERS = struct.Struct("<qqq")
_decode = msgspec.msgpack.Decoder(list[Event]).decode


class UnknownFormat(Exception):
    """An entry that matches its checksum and cannot be decoded: another version wrote it."""


def decoded(row: Input) -> list[Event]:
    """Decode the events of a row.

    Raises msgspec.DecodeError or UnicodeDecodeError for damage, :class:`UnknownFormat` for an
    undamaged row that this version cannot decode.
    """
    if row.events[:1] != bytes([_SEALED]):
        return _decode(row.events)
    body = memoryview(row.events)[_SEAL.size :]
    if len(row.events) < _SEAL.size or _crc(row, body) != _SEAL.unpack_from(row.events)[1]:
        raise msgspec.DecodeError("it does not match its checksum")
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise UnknownFormat(str(fault)) from fault


def _sealed(entry: Entry, body: bytes) -> bytes:
    """Prefix the body with a checksum: SQLite has checksums in its log, not in the database."""
    return _SEAL.pack(_SEALED, _crc(entry, body)) + body


def _crc(at: Entry | Input, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(_NUMBERS.pack(at.seq, at.now_ns, at.wall_ns)))


def rows_of(commit: Commit) -> Rows:
    """Encode a commit. Raises :class:`Unencodable`."""
    try:
        return Rows(
            inputs=[
                Input(e.seq, e.now_ns, e.wall_ns, _sealed(e, e.encoded or encoded(e.events)))
                for e in commit.entries
            ],
            audit=[
                (record.id, record.at_ns, record.kind, _json(record).decode())
                for record in commit.decisions
                if isinstance(record, Record)
            ],
            transitions=[
                (transition.at_ns, _json(transition).decode())
                for transition in commit.decisions
                if isinstance(transition, Transition)
            ],
            outbox=[astuple(delivery) for delivery in commit.deliveries],
            outcomes=commit.outcomes,
            withdraw=commit.withdraw,
            snapshot=commit.snapshot,
            clean=commit.clean,
        )
    except _UNENCODABLE as fault:
        raise Unencodable(f"a decision cannot be written: {fault}") from fault


def insert(db: apsw.Connection, rows: Rows, last_seq: int) -> int:
    """Insert a commit in the open transaction. Return the last seq of the journal after it."""
    if rows.inputs:
        db.executemany("INSERT INTO inputs VALUES (?, ?, ?, ?)", rows.inputs)
        last_seq = rows.inputs[-1].seq
    for statement, values in (
        (_AUDIT, rows.audit),
        ("INSERT INTO transitions VALUES (?, ?)", rows.transitions),
        (_OUTBOX, rows.outbox),
        (_OUTCOME, rows.outcomes),
        (_WITHDRAW, [(incident,) for incident in rows.withdraw]),
    ):
        if values:
            db.executemany(statement, values)
    if rows.snapshot is not None:
        _insert_snapshot(db, last_seq, rows.snapshot)
    if rows.clean:
        db.execute("UPDATE meta SET value = 1 WHERE key = 'clean'")
    return last_seq


def _insert_snapshot(db: apsw.Connection, seq: int, data: bytes) -> None:
    db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)", (seq, zlib.crc32(data), data))
    # The journal of an earlier version becomes one of this version with its first snapshot.
    db.execute(f"PRAGMA user_version = {STATE_VERSION}")
    db.execute(
        "DELETE FROM snapshots WHERE seq NOT IN"
        " (SELECT seq FROM snapshots ORDER BY seq DESC LIMIT 2)"
    )
