"""Queries of a journal: its end, its newest valid snapshot, and its entries, checked for gaps."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import apsw
import msgspec

from riskmon.journal.commit import Entry, Input, UnknownFormat, decoded
from riskmon.journal.file import (
    OTHER_VERSION,
    JournalError,
    JournalLost,
    identity_of,
    number,
    open_reader,
    translated_errors,
)

_log = logging.getLogger("riskmon.journal")


class End(NamedTuple):
    """A journal's identity, and the number and time of its last entry (0 and 0 without one)."""

    identity: bytes | None
    last_seq: int
    wall_ns: int


def end_of(db: apsw.Connection) -> End:
    """Return the current end of the journal."""
    row = db.execute("SELECT seq, wall_ns FROM inputs ORDER BY seq DESC LIMIT 1").fetchone()
    return End(identity_of(db), *(row or (0, 0)))


def pruned_seq(db: apsw.Connection) -> int:
    """The number of the last entry that was pruned; 0 for none."""
    return number(db, "SELECT value FROM meta WHERE key = 'pruned_seq'")


def wall_ns_of(db: apsw.Connection, seq: int) -> int:
    """The time of an entry; 0 for one that does not exist."""
    return number(db, "SELECT wall_ns FROM inputs WHERE seq = ?", seq)


def entries(path: Path, after_seq: int = 0) -> Iterator[Entry]:
    """Iterate over the entries of a journal or backup after ``after_seq``, in order.

    Only reads, also while a sidecar writes; entries committed after the call are not included.
    Raises :class:`JournalError`, also during the iteration, at a damaged or missing entry.
    """
    with translated_errors(path):
        return _closing(path, open_reader(path), after_seq, None)


def entries_since(path: Path, snapshot_seq: int) -> Iterator[Entry]:
    """As :func:`entries`, but raise also when the first entry after the snapshot is missing."""
    with translated_errors(path):
        return _closing(path, open_reader(path), snapshot_seq, snapshot_seq + 1)


def newest_snapshot(db: apsw.Connection, path: Path) -> tuple[int, bytes | None]:
    """Return the seq and the data of the newest usable snapshot; 0 and None for none.

    A snapshot is usable when its checksum matches and no entry after it is pruned.
    """
    pruned = pruned_seq(db)
    for seq, crc, data in db.execute("SELECT seq, crc, data FROM snapshots ORDER BY seq DESC"):
        if seq >= pruned and zlib.crc32(data) == crc:
            return seq, data
        why = "it is damaged" if seq >= pruned else "entries after it are pruned"
        _log.warning("skipping the snapshot at entry %d of %s: %s", seq, path, why)
    if pruned:
        raise JournalLost(
            f"{path} has no valid snapshot, and the entries up to {pruned} are pruned"
        )
    return 0, None


def last_valid_seq(db: apsw.Connection, path: Path) -> int:
    """Return the seq of the last entry that a replay can reach.

    Raises :class:`JournalLost` when there is no snapshot to start from.
    """
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
    """Iterate over the entries after ``after_seq``.

    Raises :class:`JournalLost` at the first entry that is damaged or does not follow its
    predecessor, and another :class:`JournalError` at the first that this version cannot read. The
    first entry must be ``expected_seq`` unless that is None.
    """
    query = "SELECT seq, now_ns, wall_ns, events FROM inputs WHERE seq > ? ORDER BY seq"
    with translated_errors(path):
        for seq, now_ns, wall_ns, blob in db.execute(query, (after_seq,)):
            if expected_seq not in (None, seq):
                raise JournalLost(f"entries {expected_seq} to {seq - 1} of {path} are missing")
            try:
                events = decoded(Input(seq, now_ns, wall_ns, blob))
            except (msgspec.DecodeError, UnicodeDecodeError) as fault:
                raise JournalLost(f"entry {seq} of {path} is damaged ({fault})") from fault
            except UnknownFormat as fault:
                raise JournalError(
                    f"entry {seq} of {path} is undamaged and cannot be read by this riskmon "
                    f"({fault}): {OTHER_VERSION}"
                ) from fault
            yield Entry(seq, now_ns, wall_ns, events)
            expected_seq = seq + 1


def _closing(
    path: Path, db: apsw.Connection, after_seq: int, expected_seq: int | None
) -> Iterator[Entry]:
    with closing(db):
        yield from read(db, path, after_seq, expected_seq)
