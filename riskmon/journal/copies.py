"""Copies of the journal's file: backup, restore, and the readable part of a damaged journal."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import apsw

from riskmon.journal.file import (
    JOURNAL_NAME,
    JournalError,
    JournalLost,
    connect,
    create,
    give_identity,
    log_of,
    open_reader,
    take,
    translated_errors,
    verify,
)
from riskmon.journal.mark import IDENTITY_BYTES, Mark, Marks, mark_paths, sync_directory
from riskmon.journal.reading import End, end_of, last_valid_seq, newest_snapshot


def backup(state_dir: Path, file: Path, *, overwrite: bool = False) -> None:
    """Copy the journal in ``state_dir`` to ``file`` (0600) atomically; it may be in use.

    Raises :class:`JournalError`, also when ``file`` exists and ``overwrite`` is not set.
    """
    if file.exists() and not overwrite:
        raise JournalError(f"{file} exists: name another file, or allow it to be overwritten")
    source_path = state_dir / JOURNAL_NAME
    with translated_errors(source_path), closing(open_reader(source_path)) as source:  # noqa: SIM117
        with translated_errors(file), _draft(file) as draft:
            _copy(source, draft)


def restore(
    file: Path,
    state_dir: Path,
    gate: Path | None = None,
    *,
    decode_snapshot: Callable[[bytes], object],
) -> Path | None:
    """Replace the journal in ``state_dir`` by the backup ``file``.

    Returns the path under which the replaced journal is kept, None when there was none. Both
    marks, in ``state_dir`` and beside ``gate``, are rewritten for the restored journal. The next
    start counts as unclean, because the events since the backup are unknown. Raises
    :class:`JournalError`, and changes nothing, when a sidecar runs there, ``file`` is damaged, or
    ``decode_snapshot`` raises for its newest snapshot.
    """
    target = state_dir / JOURNAL_NAME
    lock = take(state_dir)
    try:
        _verify_backup(file, decode_snapshot)
        with translated_errors(file), closing(open_reader(file)) as source:  # noqa: SIM117
            with translated_errors(target), _draft(target) as draft:
                _copy(source, draft)
                end = _give_new_identity(draft)
                kept = _keep_old(target)
        with translated_errors(target):
            _mark(state_dir, gate, end)
        return kept
    finally:
        os.close(lock)


def _verify_backup(file: Path, decode_snapshot: Callable[[bytes], object]) -> None:
    try:
        with translated_errors(file), closing(open_reader(file)) as source:
            verify(source, "PRAGMA integrity_check")
            seq, snapshot = newest_snapshot(source, file)
    except JournalLost as fault:
        raise JournalError(
            f"{fault.what}: the state is unchanged; name another copy made by `riskmon backup FILE`"
        ) from fault
    try:
        if snapshot is not None:
            decode_snapshot(snapshot)
    except Exception as fault:
        raise JournalError(
            f"the snapshot at entry {seq} of {file} cannot be read by this riskmon ({fault}): the "
            "state is unchanged; name another copy, or run the version that made this one"
        ) from fault


def replace_lost(path: Path) -> tuple[End, Path | None]:
    """Replace the journal at ``path`` by its readable part, or by an empty journal.

    Returns the end of the new journal, and the path under which the replaced file is kept. To be
    called inside :func:`translated_errors`.
    """
    with _draft(path) as draft:
        if not _salvage(path, draft):
            create(draft, os.urandom(IDENTITY_BYTES))
        end = _give_new_identity(draft)
        kept = _keep_old(path)
    return end, kept


def _salvage(path: Path, draft: Path) -> bool:
    """Copy a journal up to its last valid entry to ``draft``.

    Return False, with an empty ``draft``, when the structure of the database is damaged.
    """
    if not path.exists() or path.stat().st_size == 0:
        return False  # opening an empty database file would make SQLite delete its log
    try:
        with translated_errors(path), closing(open_reader(path)) as source:
            verify(source, "PRAGMA integrity_check")
            last_seq = last_valid_seq(source, path)
            _copy(source, draft)
    except JournalLost:
        os.truncate(draft, 0)
        return False
    with closing(connect(draft, apsw.SQLITE_OPEN_READWRITE)) as db:
        db.execute("DELETE FROM inputs WHERE seq > ?", (last_seq,))
        db.execute("DELETE FROM snapshots WHERE seq > ?", (last_seq,))
    return True


def _give_new_identity(draft: Path) -> End:
    """Set a new identity, so that the marks of the source do not match the copy."""
    with closing(connect(draft, apsw.SQLITE_OPEN_READWRITE)) as db:
        db.execute("UPDATE meta SET value = 0 WHERE key = 'clean'")
        give_identity(db, os.urandom(IDENTITY_BYTES))
        return end_of(db)


def _mark(state_dir: Path, gate: Path | None, end: End) -> None:
    marks = Marks(mark_paths(state_dir, gate))
    try:
        marks.start(Mark(end.identity or b"", os.path.realpath(state_dir), *end[1:]))
    finally:
        marks.close()


def _copy(source: apsw.Connection, path: Path) -> None:
    """Copy a database into one file without a log, synced to the disk."""
    with closing(connect(path, apsw.SQLITE_OPEN_READWRITE)) as target:
        # In one step: a commit of the sidecar between two steps would restart the copy.
        with target.backup("main", source, "main") as copying:
            copying.step(-1)
        target.execute("PRAGMA journal_mode = DELETE")


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces ``path`` at the end, or is deleted on an exception."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.replace(path)
        sync_directory(path.parent)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _keep_old(path: Path) -> Path | None:
    """Link the journal at ``path`` and its log to new names, and return the journal's.

    Returns None when neither exists.
    """
    log = log_of(path)
    if not path.exists() and not log.exists():
        return None
    names = (path.with_name(f"{path.name}.old-{n}") for n in itertools.count(1))
    kept = next(name for name in names if not name.exists() and not log_of(name).exists())
    for there, name in ((path, kept), (log, log_of(kept))):
        with suppress(FileNotFoundError):
            os.link(there, name)
    # Before the new file is in place: SQLite would apply the log of the old one to it.
    log.unlink(missing_ok=True)
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    return kept
