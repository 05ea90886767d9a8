"""Copies of the journal's file: backup, restore, and what is left of a lost journal."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import apsw

from riskmon.journal.file import (
    JOURNAL_NAME,
    JournalError,
    JournalLost,
    connect,
    create,
    explained,
    give_identity,
    log_of,
    open_reader,
    take,
    verify,
)
from riskmon.journal.mark import IDENTITY_BYTES, Mark, Marks, mark_paths, sync_directory
from riskmon.journal.reading import End, end_of, last_sound


def backup(state_dir: Path, file: Path, *, overwrite: bool = False) -> None:
    """Copy the journal in ``state_dir``, in use or not, to ``file`` (0600), whole or not at all.

    Raises :class:`JournalError`; also when ``file`` exists and ``overwrite`` is not set.
    """
    if file.exists() and not overwrite:
        raise JournalError(f"{file} exists: name another file, or allow it to be overwritten")
    source_path = state_dir / JOURNAL_NAME
    with explained(source_path), closing(open_reader(source_path)) as source:  # noqa: SIM117
        with explained(file), _draft(file) as draft:
            _copy(source, draft)


def restore(file: Path, state_dir: Path, gate: Path | None = None) -> Path | None:
    """Put the backup ``file`` in place of the journal in ``state_dir``; the old one's new path.

    Both marks, that beside ``gate`` too, are those of the restored journal afterwards. The next
    start counts as unclean, for what happened since the backup is unknown. Raises
    :class:`JournalError` and changes nothing when a sidecar runs there, or ``file`` is damaged.
    """
    target = state_dir / JOURNAL_NAME
    lock = take(state_dir)
    try:
        _verify_backup(file)
        with explained(file), closing(open_reader(file)) as source:  # noqa: SIM117
            with explained(target), _draft(target) as draft:
                _copy(source, draft)
                end = _renew(draft)
                kept = _set_aside(target)
        with explained(target):
            _mark(state_dir, gate, end)
        return kept
    finally:
        os.close(lock)


def _verify_backup(file: Path) -> None:
    try:
        with explained(file), closing(open_reader(file)) as source:
            verify(source, "PRAGMA integrity_check")
    except JournalLost as fault:
        raise JournalError(
            f"{fault.what}: the state is as it was; name another copy made by `riskmon backup FILE`"
        ) from fault


def begin_again(path: Path) -> tuple[End, Path | None]:
    """Put what can be read of the journal at ``path``, or an empty one, in its place.

    Returns its end, and where the files that were there are kept. Call it `explained`.
    """
    with _draft(path) as draft:
        if not _salvage(path, draft):
            create(draft, os.urandom(IDENTITY_BYTES))
        end = _renew(draft)
        kept = _set_aside(path)
    return end, kept


def _salvage(path: Path, draft: Path) -> bool:
    """Copy a journal as far as its entries are sound to ``draft``; False, and empty, if it has
    no sound structure."""
    if not path.exists() or path.stat().st_size == 0:
        return False  # SQLite would remove the log of a journal of no bytes
    try:
        with explained(path), closing(open_reader(path)) as source:
            verify(source, "PRAGMA integrity_check")
            last_seq = last_sound(source, path)
            _copy(source, draft)
    except JournalLost:
        os.truncate(draft, 0)
        return False
    with closing(connect(draft, apsw.SQLITE_OPEN_READWRITE)) as db:
        db.execute("DELETE FROM inputs WHERE seq > ?", (last_seq,))
        db.execute("DELETE FROM snapshots WHERE seq > ?", (last_seq,))
    return True


def _renew(draft: Path) -> End:
    """Give a copy a new identity, so that no mark of its source counts for it."""
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
    """Make a copy as one file, without a log beside it, synced to the disk."""
    with closing(connect(path, apsw.SQLITE_OPEN_READWRITE)) as target:
        # One step: in several, each commit of the sidecar between them would start it anew.
        with target.backup("main", source, "main") as copying:
            copying.step(-1)
        target.execute("PRAGMA journal_mode = DELETE")


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A file to write that becomes ``path`` at the end, or vanishes when that fails."""
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


def _set_aside(path: Path) -> Path | None:
    """Give the journal at ``path`` a second name, with its log, so that it can be replaced."""
    log = log_of(path)
    if not path.exists() and not log.exists():
        return None
    names = (path.with_name(f"{path.name}.old-{n}") for n in itertools.count(1))
    kept = next(name for name in names if not name.exists() and not log_of(name).exists())
    for there, name in ((path, kept), (log, log_of(kept))):
        with suppress(FileNotFoundError):
            os.link(there, name)
    # Before the new file comes: a log of the old one would be applied to it.
    log.unlink(missing_ok=True)
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    return kept
