"""The opening of a journal. Nothing is written until the check for lost entries has passed."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import apsw

from riskmon.journal.copies import replace_lost
from riskmon.journal.file import (
    JournalDamaged,
    JournalLost,
    connect,
    create,
    give_identity,
    identify,
    is_empty,
    log_of,
    translated_errors,
    verify,
)
from riskmon.journal.mark import IDENTITY_BYTES, FoundMark, Mark, Marks
from riskmon.journal.reading import End, end_of, last_valid_seq, wall_ns_of
from riskmon.journal.upgrade import back_up_earlier
from riskmon.system.clock import rfc3339

_CURE_MOVED = "; set that state_dir, or another gate"

_log = logging.getLogger("riskmon.journal")


class Opened(NamedTuple):
    """The writing connection, the mark of the journal, and the accepted loss, empty for none."""

    db: apsw.Connection
    mark: Mark
    lost: str


class Note(NamedTuple):
    """A log line and its level."""

    level: int
    text: str


def open_writer(path: Path, marks: Marks, *, accept_loss: bool) -> Opened:
    """Open or create the journal at ``path``. To be called inside :func:`translated_errors`.

    Raises :class:`JournalLost`, without having written anything, when the journal ends before a
    mark or is damaged. With ``accept_loss`` such a journal is replaced by its readable part, and
    the marks are not changed: the caller calls :meth:`Marks.start` once the acceptance of the loss
    is durable.
    """
    lost, end = "", None
    try:
        end = examine(path, marks.found, thorough=accept_loss)
        if accept_loss:
            _log.info("--accept-loss has no effect: %s is complete", path)
    except JournalLost as loss:
        if not accept_loss:
            raise
        lost = loss.what
        end, kept = replace_lost(path)
        where = f"the previous file is kept as {kept}" if kept else "there was no file to keep"
        _log.warning("loss accepted: %s; %s", lost, where)
    if end is not None and not lost:  # the files of a lost journal are kept anyway
        back_up_earlier(path)
    identity = (end and end.identity) or os.urandom(IDENTITY_BYTES)
    mark = Mark(identity, os.path.realpath(path.parent), *(end[1:] if end else (0, 0)))
    if not lost:
        # A write whose sync failed can be read until power is lost: without this sync the marks
        # could be ahead of the disk.
        sync_file(log_of(path))
        # The marks are written before the journal is created or has an identity, so that a crash
        # in between leaves no journal behind its mark. The mark beside the gate is not created
        # yet: a start that is refused later, with the state of another account, would leave a mark
        # there that refuses the account's own state.
        marks.start(mark, beside_gate=False)
    if end is None:
        log_of(path).unlink(missing_ok=True)
        create(path, identity)
    path.chmod(0o600)
    db = connect(path, apsw.SQLITE_OPEN_READWRITE)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    if end is not None and end.identity is None:
        give_identity(db, identity)
    return Opened(db, mark, lost)


def sync_file(path: Path) -> None:
    """Sync a file to the disk, if it exists. Raises OSError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def examine(path: Path, found: Sequence[FoundMark], *, thorough: bool) -> End | None:
    """Return the end of the journal at ``path``, None for a new one. Changes nothing.

    Raises :class:`JournalLost` for a loss; with ``thorough`` also for damage that otherwise only a
    replay detects.
    """
    try:
        with translated_errors(path):
            return _examine(path, found, thorough=thorough)
    except JournalDamaged as damage:
        last = max((one.mark for one in found if one.mark), key=lambda m: m.last_seq, default=None)
        if last is None:
            raise
        raise JournalDamaged(f"{damage.what}; it contained {_span(1, last)}") from damage


def _examine(path: Path, found: Sequence[FoundMark], *, thorough: bool) -> End | None:
    has_log = log_of(path).exists()
    # Before SQLite opens the file: SQLite deletes a log beside an empty database file.
    if is_absent_or_empty(path):
        _refuse_unless_new(path, found, has_log=has_log)
        return None
    with closing(connect(path, apsw.SQLITE_OPEN_READONLY)) as db:
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        if is_empty(db):
            _refuse_unless_new(path, found, has_log=has_log)
            return None
        identify(db, path)
        # Not `inputs`, which may have gigabytes: the recovery reads the part that is needed.
        for table in ("meta", "snapshots", "audit", "outbox"):
            verify(db, f"PRAGMA quick_check({table})")
        end = end_of(db)
        for note in compare(db, path, end, found):
            _log.log(note.level, "%s", note.text)
        if thorough:
            verify(db, "PRAGMA integrity_check")
            last_seq = last_valid_seq(db, path)
            if last_seq < end.last_seq:
                raise JournalLost(f"entries {last_seq + 1} to {end.last_seq} of {path} are damaged")
        return end


def is_absent_or_empty(path: Path) -> bool:
    """Whether the file is missing or empty."""
    return not path.exists() or path.stat().st_size == 0


def compare(db: apsw.Connection, path: Path, end: End, found: Sequence[FoundMark]) -> list[Note]:
    """Compare the end of a journal with its marks. Raises :class:`JournalLost`."""
    marks = [(one.path, one.mark) for one in found if one.mark is not None]
    for mark_path, mark in marks:
        _compare_one(db, path, end, mark_path, mark)
    unreadable = [one for one in found if one.mark is None and not one.missing]
    if not marks and (end.identity is not None or unreadable):
        reasons = "; ".join(f"{one.path} {one.fault}" for one in found)
        raise JournalLost(
            f"without a mark it is unknown whether {path} is complete: entries after "
            f"{end.last_seq} may be missing ({reasons})"
        )
    notes = [
        Note(logging.INFO if one.missing else logging.WARNING, f"{one.path} {one.fault}: recreated")
        for one in found
        if one.mark is None
    ]
    notes += [
        Note(logging.WARNING, f"the journal was moved from {mark.state_dir} to {path}")
        for mark_path, mark in marks[:1]
        if mark.state_dir != os.path.realpath(path.parent)
    ]
    if end.identity is None:
        text = f"{path} has never had a mark: this start assumes that it is complete"
        notes.append(Note(logging.WARNING, text))
    return notes


def _compare_one(db: apsw.Connection, path: Path, end: End, mark_path: Path, mark: Mark) -> None:
    if mark.last_seq == 0:
        return  # left by a first start that wrote nothing
    last = f"entry {mark.last_seq} of {rfc3339(mark.wall_ns)}"
    if end.identity not in (None, mark.identity):
        moved = mark.state_dir != os.path.realpath(path.parent)
        raise JournalLost(
            f"{mark_path} is not the mark of {path} but of another journal, in {mark.state_dir}, "
            f"which ended with {last}{_CURE_MOVED if moved else ''}"
        )
    if mark.last_seq > end.last_seq:
        raise JournalLost(
            f"{path} lacks {_span(end.last_seq + 1, mark)}, which it contained by {mark_path}"
        )
    found_ns = wall_ns_of(db, mark.last_seq)
    if found_ns not in (0, mark.wall_ns):
        raise JournalLost(
            f"{path} does not match {mark_path}: its entry {mark.last_seq} is of "
            f"{rfc3339(found_ns)}, the mark has {last}"
        )


def _refuse_unless_new(path: Path, found: Sequence[FoundMark], *, has_log: bool) -> None:
    """Raise :class:`JournalLost` when a journal without tables is not a new one."""
    marks = [(one.path, one.mark) for one in found if one.mark is not None]
    for mark_path, mark in sorted(marks, key=lambda pair: -pair[1].last_seq):
        if mark.last_seq > 0:
            where = mark.state_dir
            moved = where != os.path.realpath(path.parent)
            raise JournalLost(
                f"{path} is missing or empty, but by {mark_path} the journal"
                f"{f' in {where}' if moved else ''} contained {_span(1, mark)}"
                f"{_CURE_MOVED if moved else ''}"
            )
    if marks:
        return
    unreadable = [one for one in found if not one.missing]
    if has_log or unreadable:
        reasons = [f"its log {log_of(path)} exists"] if has_log else []
        reasons += [f"{one.path} {one.fault}" for one in unreadable]
        raise JournalLost(
            f"{path} is missing or empty, but a journal was there ({'; '.join(reasons)})"
        )


def _span(first_seq: int, mark: Mark) -> str:
    if first_seq == mark.last_seq:
        return f"entry {first_seq} of {rfc3339(mark.wall_ns)}"
    return f"entries {first_seq} to {mark.last_seq}, the last of {rfc3339(mark.wall_ns)}"
