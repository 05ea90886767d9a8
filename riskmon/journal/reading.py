"""What a journal holds: its end, its newest sound snapshot, and its entries without a gap."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import apsw
import msgspec

from riskmon.core.events import Event
from riskmon.journal.commit import Entry
from riskmon.journal.file import JournalLost, explained, identity_of, number, open_reader

_log = logging.getLogger("riskmon.journal")
_decode = msgspec.msgpack.Decoder(list[Event]).decode


class End(NamedTuple):
    """A journal's identity, and the number and time of its last entry; 0 and 0 without one."""

    identity: bytes | None
    last_seq: int
    wall_ns: int


def end_of(db: apsw.Connection) -> End:
    """The journal's end as it is now."""
    row = db.execute("SELECT seq, wall_ns FROM inputs ORDER BY seq DESC LIMIT 1").fetchone()
    return End(identity_of(db), *(row or (0, 0)))


def pruned_seq(db: apsw.Connection) -> int:
    """The number of the last entry that was pruned; 0 for none."""
    return number(db, "SELECT value FROM meta WHERE key = 'pruned_seq'")


def wall_ns_of(db: apsw.Connection, seq: int) -> int:
    """The time of an entry; 0 for one that is not there."""
    return number(db, "SELECT wall_ns FROM inputs WHERE seq = ?", seq)


def entries(path: Path, after_seq: int = 0) -> Iterator[Entry]:
    """The entries of a journal or backup after ``after_seq``, in order, read as one goes.

    Reads only, also while a sidecar writes; entries committed later are not seen. Raises
    :class:`JournalError`, later too when it comes upon a damaged or a missing entry.
    """
    with explained(path):
        return _closing(path, open_reader(path), after_seq, None)


def entries_since(path: Path, snapshot_seq: int) -> Iterator[Entry]:
    """As :func:`entries`; raises too where the first entry after a snapshot is missing."""
    with explained(path):
        return _closing(path, open_reader(path), snapshot_seq, snapshot_seq + 1)


def newest_snapshot(db: apsw.Connection, path: Path) -> tuple[int, bytes | None]:
    """The newest snapshot that is sound and whose later entries are all there, and its seq."""
    pruned = pruned_seq(db)
    for seq, crc, data in db.execute("SELECT seq, crc, data FROM snapshots ORDER BY seq DESC"):
        if seq >= pruned and zlib.crc32(data) == crc:
            return seq, data
        _log.warning("the snapshot at entry %d of %s cannot be used", seq, path)
    if pruned:
        raise JournalLost(
            f"{path} has no sound snapshot, and the entries up to {pruned} are pruned"
        )
    return 0, None


def last_sound(db: apsw.Connection, path: Path) -> int:
    """The last entry up to which the state can be rebuilt. Raises :class:`JournalLost` for none."""
    last_seq, _ = newest_snapshot(db, path)
    try:
        for entry in read(db, path, last_seq, last_seq + 1):
            last_seq = entry.seq
    except JournalLost:
        pass
    return last_seq


def read(
    db: apsw.Connection, path: Path, after_seq: int, expected_seq: int | None
) -> Iterator[Entry]:
    """The entries after ``after_seq``. Raises :class:`JournalLost` at the first that is damaged,
    or that does not follow the one before it; the first is ``expected_seq`` if that is given."""
    query = "SELECT seq, now_ns, wall_ns, events FROM inputs WHERE seq > ? ORDER BY seq"
    with explained(path):
        for seq, now_ns, wall_ns, events in db.execute(query, (after_seq,)):
            if expected_seq not in (None, seq):
                raise JournalLost(f"entries {expected_seq} to {seq - 1} of {path} are missing")
            try:
                decoded = _decode(events)
            except (msgspec.DecodeError, UnicodeDecodeError) as fault:
                raise JournalLost(f"entry {seq} of {path} is damaged ({fault})") from fault
            yield Entry(seq, now_ns, wall_ns, decoded)
            expected_seq = seq + 1


def _closing(
    path: Path, db: apsw.Connection, after_seq: int, expected_seq: int | None
) -> Iterator[Entry]:
    with closing(db):
        yield from read(db, path, after_seq, expected_seq)
