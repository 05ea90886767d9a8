"""The start of a journal: nothing is written before it is sure that nothing is lost."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import apsw

from riskmon.journal.copies import begin_again
from riskmon.journal.file import (
    JournalDamaged,
    JournalLost,
    connect,
    create,
    explained,
    give_identity,
    identify,
    is_empty,
    log_of,
    verify,
)
from riskmon.journal.mark import IDENTITY_BYTES, Found, Mark, Marks
from riskmon.journal.reading import End, end_of, last_sound, wall_ns_of
from riskmon.system.clock import rfc3339

_NAME_ANOTHER = "; name that state_dir, or another gate"

_log = logging.getLogger("riskmon.journal")


class Opened(NamedTuple):
    """The connection that writes, the mark that goes with it, and the loss that was accepted."""

    db: apsw.Connection
    mark: Mark
    lost: str


class Note(NamedTuple):
    """A line for the log, and its level there."""

    level: int
    text: str


def open_writer(path: Path, marks: Marks, *, accept_loss: bool) -> Opened:
    """Open or make the journal at ``path``. Call it `explained`.

    Raises :class:`JournalLost`, and has written nothing, when it ends before a mark, or is
    damaged. With ``accept_loss`` it begins with what can be read instead, and the marks are left
    as they are: the caller starts them when that the loss was accepted is durable.
    """
    lost, end = "", None
    try:
        end = examine(path, marks.found, thorough=accept_loss)
        if accept_loss:
            _log.info("--accept-loss: nothing of %s is lost; it starts as usual", path)
    except JournalLost as loss:
        if not accept_loss:
            raise
        lost = loss.what
        end, kept = begin_again(path)
        _log.warning("loss accepted: %s; what was there is kept as %s", lost, kept or "nothing")
    identity = (end and end.identity) or os.urandom(IDENTITY_BYTES)
    mark = Mark(identity, os.path.realpath(path.parent), *(end[1:] if end else (0, 0)))
    if not lost:
        # A write whose sync failed can be read until power is lost: the marks must not count it.
        _sync(log_of(path))
        # Before the journal is made, or has an identity: after a crash between them nothing is
        # behind its mark. Beside the gate none is made yet: a start that is refused, for the state
        # of another account, would leave a mark that refuses this account's own state.
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


def _sync(path: Path) -> None:
    """Have the disk hold what a file holds, if there is one. Raises OSError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def examine(path: Path, found: Sequence[Found], *, thorough: bool) -> End | None:
    """The end of the journal at ``path``, None for a new one; changes nothing.

    Raises :class:`JournalLost` for a loss, and with ``thorough`` also for what only a replay would
    come upon.
    """
    try:
        with explained(path):
            return _examine(path, found, thorough=thorough)
    except JournalDamaged as damage:
        held = max((one.mark for one in found if one.mark), key=lambda m: m.last_seq, default=None)
        if held is None:
            raise
        raise JournalDamaged(f"{damage.what}; it held {_span(1, held)}") from damage


def _examine(path: Path, found: Sequence[Found], *, thorough: bool) -> End | None:
    has_log = log_of(path).exists()
    # Before SQLite opens it: a log beside a file of no bytes it would remove.
    if is_nothing(path):
        _refuse_unless_new(path, found, has_log=has_log)
        return None
    with closing(connect(path, apsw.SQLITE_OPEN_READONLY)) as db:
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        if is_empty(db):
            _refuse_unless_new(path, found, has_log=has_log)
            return None
        identify(db, path)
        # Not `inputs`, which may hold gigabytes: recovery reads all of it that matters.
        for table in ("meta", "snapshots", "audit", "outbox"):
            verify(db, f"PRAGMA quick_check({table})")
        end = end_of(db)
        for note in compare(db, path, end, found):
            _log.log(note.level, "%s", note.text)
        if thorough:
            verify(db, "PRAGMA integrity_check")
            last_seq = last_sound(db, path)
            if last_seq < end.last_seq:
                raise JournalLost(f"entries {last_seq + 1} to {end.last_seq} of {path} are damaged")
        return end


def is_nothing(path: Path) -> bool:
    """Whether there is no file, or one of no bytes."""
    return not path.exists() or path.stat().st_size == 0


def compare(db: apsw.Connection, path: Path, end: End, found: Sequence[Found]) -> list[Note]:
    """Compare a journal and its end with its marks. Raises :class:`JournalLost`."""
    marks = [(one.path, one.mark) for one in found if one.mark is not None]
    for mark_path, mark in marks:
        _compare_one(db, path, end, mark_path, mark)
    unreadable = [one for one in found if one.mark is None and not one.missing]
    if not marks and (end.identity is not None or unreadable):
        reasons = "; ".join(f"{one.path} {one.fault}" for one in found)
        raise JournalLost(
            f"no mark says whether {path} is whole, and entries after {end.last_seq} may be "
            f"missing ({reasons})"
        )
    notes = [
        Note(logging.INFO if one.missing else logging.WARNING, f"{one.path} {one.fault}: made anew")
        for one in found
        if one.mark is None
    ]
    notes += [
        Note(logging.WARNING, f"the journal of {mark.state_dir} is now {path}")
        for mark_path, mark in marks[:1]
        if mark.state_dir != os.path.realpath(path.parent)
    ]
    if end.identity is None:
        notes.append(Note(logging.WARNING, f"{path} never had a mark: it is taken as whole, once"))
    return notes


def _compare_one(db: apsw.Connection, path: Path, end: End, mark_path: Path, mark: Mark) -> None:
    if mark.last_seq == 0:
        return  # of a first start that wrote nothing
    last = f"entry {mark.last_seq} of {rfc3339(mark.wall_ns)}"
    if end.identity not in (None, mark.identity):
        moved = mark.state_dir != os.path.realpath(path.parent)
        raise JournalLost(
            f"{mark_path} is the mark of another journal, in {mark.state_dir}, which went to "
            f"{last}, and not of {path}{_NAME_ANOTHER if moved else ''}"
        )
    if mark.last_seq > end.last_seq:
        raise JournalLost(
            f"{path} lacks {_span(end.last_seq + 1, mark)}, which {mark_path} says it held"
        )
    found_ns = wall_ns_of(db, mark.last_seq)
    if found_ns not in (0, mark.wall_ns):
        raise JournalLost(
            f"{path} is another journal than {mark_path} says: its entry {mark.last_seq} is of "
            f"{rfc3339(found_ns)}, the mark's {last}"
        )


def _refuse_unless_new(path: Path, found: Sequence[Found], *, has_log: bool) -> None:
    """Raise :class:`JournalLost` when a journal without tables is not a new one."""
    marks = [(one.path, one.mark) for one in found if one.mark is not None]
    for mark_path, mark in sorted(marks, key=lambda pair: -pair[1].last_seq):
        if mark.last_seq > 0:
            where = mark.state_dir
            moved = where != os.path.realpath(path.parent)
            raise JournalLost(
                f"{path} holds nothing, and {mark_path} says that the journal"
                f"{f' in {where}' if moved else ''} held {_span(1, mark)}"
                f"{_NAME_ANOTHER if moved else ''}"
            )
    if marks:
        return
    unreadable = [one for one in found if not one.missing]
    if has_log or unreadable:
        reasons = [f"its log {log_of(path)} is still there"] if has_log else []
        reasons += [f"{one.path} {one.fault}" for one in unreadable]
        raise JournalLost(f"{path} holds nothing, and it did ({'; '.join(reasons)})")


def _span(first_seq: int, mark: Mark) -> str:
    if first_seq == mark.last_seq:
        return f"entry {first_seq} of {rfc3339(mark.wall_ns)}"
    return f"entries {first_seq} to {mark.last_seq}, the last of {rfc3339(mark.wall_ns)}"
