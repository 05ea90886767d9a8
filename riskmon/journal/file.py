"""The state directory: who holds it, the journal's file in it, and copies of that file.

``lock`` is held by the one sidecar that uses the directory, for its whole life, by ``flock``: the
kernel lets go of it however the process ends. ``journal.db`` is an SQLite database in WAL mode.
Everything in here is readable by its owner alone.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import apsw
import msgspec

from riskmon.journal.mark import sync_directory
from riskmon.permissions import Unsafe, check_directory, make_directory

JOURNAL_NAME = "journal.db"
LOCK_NAME = "lock"
SCHEMA_VERSION = 1

_APPLICATION_ID = 0x5249534B  # "RISK": tells a journal from any other SQLite file
_SCHEMA = f"""
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE inputs (
  seq INTEGER PRIMARY KEY, now_ns INTEGER NOT NULL, wall_ns INTEGER NOT NULL,
  events BLOB NOT NULL
) STRICT;
CREATE TABLE snapshots (seq INTEGER PRIMARY KEY, crc INTEGER NOT NULL, data BLOB NOT NULL) STRICT;
CREATE TABLE audit (
  id TEXT PRIMARY KEY, at_ns INTEGER NOT NULL, kind TEXT NOT NULL, record TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_time ON audit (at_ns);
CREATE TABLE transitions (at_ns INTEGER NOT NULL, transition TEXT NOT NULL) STRICT;
CREATE INDEX transitions_by_time ON transitions (at_ns);
CREATE TABLE outbox (
  id TEXT PRIMARY KEY, incident TEXT NOT NULL, sweep INTEGER NOT NULL, target TEXT NOT NULL,
  scope TEXT NOT NULL, body BLOB NOT NULL, created_ns INTEGER NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('pending', 'delivered', 'withdrawn')),
  attempts INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_pending ON outbox (incident) WHERE status = 'pending';
CREATE INDEX outbox_by_time ON outbox (created_ns);
INSERT INTO meta VALUES ('clean', 1), ('pruned_seq', 0);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""  # noqa: S608 - two numbers from above
_BUSY_MS = 5_000
_LOG_BYTES_MAX = 64_000_000  # what a long reader made the log grow to is given back beyond this


class JournalError(Exception):
    """The journal cannot be used. The message is one line: what is wrong, where, and the cure."""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite, the system and the decoder raise about ``path`` into `JournalError`."""
    try:
        yield
    except (apsw.NotADBError, apsw.CorruptError, msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise JournalError(
            f"{path} is damaged ({fault}): put a copy back with `riskmon restore FILE`, "
            "or move it away to start with no memory of trips and freezes"
        ) from fault
    except apsw.FullError as fault:
        raise JournalError(f"no space left to write {path}: free some, then start again") from fault
    except (apsw.Error, OSError) as fault:
        raise JournalError(
            f"cannot use {path} ({fault}): check the disk, the owner and the mode of "
            "the file and its directory"
        ) from fault


def take(state_dir: Path) -> int:
    """Hold ``state_dir`` (made if absent, 0700) until the returned descriptor is closed."""
    try:
        make_directory(state_dir)
        check_directory(state_dir)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        lock = os.open(state_dir / LOCK_NAME, flags, 0o600)
    except Unsafe as fault:
        raise JournalError(f"state_dir {fault}") from None
    except NotADirectoryError:
        raise JournalError(
            f"state_dir {state_dir} is not a directory: move the file away or name another place"
        ) from None
    except OSError as fault:
        raise JournalError(
            f"cannot write in state_dir {state_dir} ({fault.strerror}): give this user the right "
            "to write there, or name another place"
        ) from fault
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode(errors="replace") or "unknown"
        os.close(lock)
        raise JournalError(
            f"state_dir {state_dir} is in use by another riskmon (process {holder}): stop it, "
            "or give this one a state_dir of its own"
        ) from None
    except OSError as fault:
        os.close(lock)
        raise JournalError(
            f"cannot lock {state_dir / LOCK_NAME} ({fault.strerror}): use a local disk"
        ) from fault
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def open_writer(path: Path) -> apsw.Connection:
    """The one connection that writes ``path``, which is made if absent. Call it `explained`."""
    # SQLite gives its log and index the mode of the database, but would make that one 0644.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    path.chmod(0o600)
    db = connect(path, apsw.SQLITE_OPEN_READWRITE)
    if _is_empty(db):
        for _ in db.execute(_SCHEMA):
            pass
        sync_directory(path.parent)
        sync_directory(path.parent.parent)
    else:
        identify(db, path)
        # Not `inputs`, which may hold gigabytes: recovery reads all of it that matters.
        for table in ("meta", "snapshots", "audit", "outbox"):
            _verify(db, f"PRAGMA quick_check({table})")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES_MAX}")
    return db


def open_reader(path: Path) -> apsw.Connection:
    """A connection that only reads the journal ``path``, which may be in use. Call it `explained`.

    Raises :class:`JournalError` when it is no journal that this version reads.
    """
    if not path.is_file():
        raise JournalError(f"{path} is not a file: name a journal ({JOURNAL_NAME}) or a backup")
    db = connect(path, apsw.SQLITE_OPEN_READONLY)
    identify(db, path)
    return db


def connect(path: Path, flags: int) -> apsw.Connection:
    db = apsw.Connection(str(path), flags=flags)
    db.set_busy_timeout(_BUSY_MS)
    db.execute("PRAGMA trusted_schema = OFF")
    return db


def identify(db: apsw.Connection, path: Path) -> None:
    """Raise :class:`JournalError` unless ``db`` is a journal of a version that is known here."""
    if number(db, "PRAGMA application_id") != _APPLICATION_ID:
        raise JournalError(
            f"{path} is a database of another program: move it away, or name another state_dir"
        )
    version = number(db, "PRAGMA user_version")
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"{path} was written by a newer riskmon (journal version {version}, this one knows "
            f"{SCHEMA_VERSION}): run that version, or restore an older backup"
        )


def number(db: apsw.Connection, query: str) -> int:
    """The one integer that ``query`` gives; 0 for no row or NULL."""
    row = db.execute(query).fetchone()
    return int(row[0] or 0) if row else 0


def backup(state_dir: Path, file: Path, *, overwrite: bool = False) -> None:
    """Copy the journal in ``state_dir``, in use or not, to ``file`` (0600), whole or not at all.

    Raises :class:`JournalError`; also when ``file`` exists and ``overwrite`` is not set.
    """
    if file.exists() and not overwrite:
        raise JournalError(f"{file} exists: name another file, or allow it to be overwritten")
    source_path = state_dir / JOURNAL_NAME
    with explained(source_path), closing(open_reader(source_path)) as source:  # noqa: SIM117
        with explained(file), _draft(file) as draft:
            _copy(source, draft).close()


def restore(file: Path, state_dir: Path) -> Path | None:
    """Put the backup ``file`` in place of the journal in ``state_dir``; the old one's new path.

    The next start counts as unclean, for what happened since the backup is unknown. Raises
    :class:`JournalError` and changes nothing when a sidecar runs there, or ``file`` is damaged.
    """
    target = state_dir / JOURNAL_NAME
    lock = take(state_dir)
    try:
        with explained(file), closing(open_reader(file)) as source:
            _verify(source, "PRAGMA integrity_check")
            with explained(target), _draft(target) as draft:
                with closing(_copy(source, draft)) as copy:
                    copy.execute("UPDATE meta SET value = 0 WHERE key = 'clean'")
                return _set_aside(target)
    finally:
        os.close(lock)


def _is_empty(db: apsw.Connection) -> bool:
    # Also what a crash during the very first start leaves: a header and no table.
    return not (
        number(db, "PRAGMA application_id") or number(db, "SELECT count(*) FROM sqlite_schema")
    )


def _verify(db: apsw.Connection, check: str) -> None:
    found = db.execute(check).fetchone()
    if found != ("ok",):
        raise apsw.CorruptError(str(found[0]) if found else "no answer to a check")


def _copy(source: apsw.Connection, path: Path) -> apsw.Connection:
    """A copy as one file, without a log beside it, synced to the disk."""
    target = connect(path, apsw.SQLITE_OPEN_READWRITE)
    # One step: in several, each commit of the sidecar between them would start the copy anew.
    with target.backup("main", source, "main") as copying:
        copying.step(-1)
    target.execute("PRAGMA journal_mode = DELETE")
    return target


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
    if not path.exists():
        return None
    names = (path.with_name(f"{path.name}.old-{n}") for n in itertools.count(1))
    kept = next(name for name in names if not name.exists())
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            os.link(f"{path}{suffix}", f"{kept}{suffix}")
    # Before the new file comes: a log of the old one would be applied to it.
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    return kept
