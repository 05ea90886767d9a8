"""The state directory: its lock, and the journal's file in it.

The sidecar that uses the directory holds an ``flock`` on ``lock`` until its process ends; the
kernel releases it in every case. ``journal.db`` is an SQLite database in WAL mode. All files are
readable only by their owner.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import msgspec

from riskmon.core.version import STATE_VERSION
from riskmon.journal.mark import sync_directory
from riskmon.system import lock_file
from riskmon.system.lock_file import CannotLock, LockHeld
from riskmon.system.permissions import Unsafe, check_directory, make_directory

JOURNAL_NAME = "journal.db"
LOCK_NAME = "lock"

_IDENTITY_KEYS = ("identity_high", "identity_low")  # rows of meta, whose values are integers

_APPLICATION_ID = 0x5249534B  # "RISK": distinguishes a journal from other SQLite databases
_SCHEMA = f"""
PRAGMA auto_vacuum = INCREMENTAL;
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
PRAGMA user_version = {STATE_VERSION};
COMMIT;
"""  # noqa: S608 - two numbers from above
_BUSY_MS = 5_000


REMEDIES = (
    "restore a backup with `riskmon restore FILE`, or start with the entries that are left and a "
    "frozen account with `riskmon run --accept-loss`"
)
# For a state that is undamaged and that this version cannot read.
OTHER_VERSION = (
    "run the version that wrote it, or restore a backup that this version can read with "
    "`riskmon restore FILE`"
)


class JournalError(Exception):
    """The journal cannot be used. The message is one line: the fault, the path, the remedy."""


class JournalLost(JournalError):
    """Entries of the journal are missing or unreadable. ``what`` names them and the file."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: {REMEDIES}")
        self.what = what


class JournalDamaged(JournalLost):
    """The journal's file is damaged."""


def _is_full(fault: BaseException) -> bool:
    return isinstance(fault, OSError) and fault.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Translate exceptions of SQLite, the system and the decoder into :class:`JournalError`.

    ``path`` is the file that the message names.
    """
    try:
        yield
    except (apsw.NotADBError, apsw.CorruptError, msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise JournalDamaged(f"{path} is damaged ({fault})") from fault
    except (apsw.Error, OSError) as fault:
        if isinstance(fault, apsw.FullError) or _is_full(fault):
            raise JournalError(
                f"no space left to write {path}: free some space, then start again"
            ) from fault
        raise JournalError(
            f"cannot use {path} ({fault}): check the disk, the owner and the mode of "
            "the file and its directory"
        ) from fault


def take(state_dir: Path) -> int:
    """Lock ``state_dir`` (created with 0700 if absent) until the returned descriptor is closed."""
    try:
        make_directory(state_dir)
        check_directory(state_dir)
        return lock_file.take(state_dir / LOCK_NAME)
    except Unsafe as fault:
        raise JournalError(f"state_dir {fault}") from None
    except LockHeld as held:
        raise JournalError(
            f"state_dir {state_dir} is in use by another riskmon (process {held.holder}): stop it, "
            "or give this one a state_dir of its own"
        ) from None
    except CannotLock as fault:
        raise JournalError(
            f"cannot lock {state_dir / LOCK_NAME} ({fault.strerror}): use a local disk"
        ) from fault
    except NotADirectoryError:
        raise JournalError(
            f"state_dir {state_dir} is not a directory: move the file away or set another path"
        ) from None
    except OSError as fault:
        raise JournalError(
            f"cannot write in state_dir {state_dir} ({fault.strerror}): give this user write "
            "permission there, or set another path"
        ) from fault


def create(path: Path, identity: bytes) -> None:
    """Create an empty journal at ``path``, and sync it and its directory entry.

    To be called inside :func:`translated_errors`.
    """
    # SQLite gives its log and index the mode of the database, but creates the database with 0644.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    with closing(connect(path, apsw.SQLITE_OPEN_READWRITE)) as db:
        # Without a log until the tables exist: a crash never leaves a log and no table.
        db.execute("PRAGMA journal_mode = DELETE")
        for _ in db.execute(_SCHEMA):
            pass
        give_identity(db, identity)
    sync_directory(path.parent)
    sync_directory(path.parent.parent)


def open_reader(path: Path) -> apsw.Connection:
    """Open the journal ``path``, which may be in use, for reading only.

    To be called inside :func:`translated_errors`. Raises :class:`JournalError` when the file is not
    a journal that this version can read.
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
    """Raise :class:`JournalError` unless ``db`` is a journal that this version can read."""
    if number(db, "PRAGMA application_id") != _APPLICATION_ID:
        raise JournalError(
            f"{path} is a database of another program: move it away, or set another state_dir"
        )
    version = journal_version(db)
    if version > STATE_VERSION:
        raise JournalError(
            f"{path} was written by a newer riskmon (state version {version}, this one reads up to "
            f"{STATE_VERSION}): {OTHER_VERSION}"
        )


def journal_version(db: apsw.Connection) -> int:
    """Return the state version that wrote a journal."""
    return number(db, "PRAGMA user_version")


def number(db: apsw.Connection, query: str, *bindings: str | int) -> int:
    """Return the integer in the first row of ``query``; 0 for no row or NULL."""
    row = db.execute(query, bindings).fetchone()
    return int(row[0] or 0) if row else 0


def is_empty(db: apsw.Connection) -> bool:
    """Whether the database has no table: a new file, or a first start that was interrupted."""
    return not (
        number(db, "PRAGMA application_id") or number(db, "SELECT count(*) FROM sqlite_schema")
    )


def identity_of(db: apsw.Connection) -> bytes | None:
    """Return the journal's identity, random bytes; None for one that has never had a mark."""
    halves = [
        number(db, "SELECT value FROM meta WHERE key = ?", key).to_bytes(8, signed=True)
        for key in _IDENTITY_KEYS
    ]
    return b"".join(halves) if any(halves[0]) or any(halves[1]) else None


def give_identity(db: apsw.Connection, identity: bytes) -> None:
    """Set the journal's identity, 16 bytes."""
    half = len(identity) // 2
    high, low = (int.from_bytes(part, signed=True) for part in (identity[:half], identity[half:]))
    # One statement: one half without the other would be the identity of another journal.
    db.execute(
        "INSERT OR REPLACE INTO meta VALUES (?, ?), (?, ?)",
        (_IDENTITY_KEYS[0], high, _IDENTITY_KEYS[1], low),
    )


def verify(db: apsw.Connection, check: str) -> None:
    """Run one of SQLite's check pragmas. Raises apsw.CorruptError with its finding."""
    found = db.execute(check).fetchone()
    if found != ("ok",):
        # One row may contain several findings, one per line; the message quotes the last.
        raise apsw.CorruptError(str(found[0]).splitlines()[-1] if found else "empty check result")


def log_of(path: Path) -> Path:
    """The path of SQLite's write-ahead log of a journal."""
    return path.with_name(f"{path.name}-wal")
