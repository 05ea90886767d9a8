"""The copy of the state that is made before this version writes to the state of an earlier one.

The first snapshot that this version writes makes the journal one of this version, in the same
transaction (:func:`riskmon.journal.commit.insert`): until then the earlier version can still start.
"""

from __future__ import annotations

import logging
import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import apsw

from riskmon.core.version import STATE_VERSION
from riskmon.journal.copies import backup
from riskmon.journal.file import (
    JournalError,
    journal_version,
    number,
    open_reader,
    translated_errors,
)
from riskmon.journal.reading import end_of
from riskmon.journal.reserve import RESERVE_BYTES

_log = logging.getLogger("riskmon.journal")


def back_up_earlier(path: Path) -> Path | None:
    """Copy the journal at ``path``, if an earlier version wrote it, to a file beside it (0600).

    Return the copy's path, None for a journal of this version. The name holds the version, the
    time and the number of the last entry, so that a start that fails later and is repeated makes
    one copy. Raises :class:`JournalError`, and has changed nothing, when no copy can be made.
    """
    with translated_errors(path), closing(open_reader(path)) as db:
        version = journal_version(db)
        if version >= STATE_VERSION:
            return None
        copy = _copy_path(db, path, version)
        exists = copy.exists()
        if not exists:
            _require_room(db, copy)
    if not exists:
        backup(path.parent, copy)
    _log.warning(
        "%s has state version %d, and this riskmon writes %d: %s is a copy from before the upgrade",
        *(path, version, STATE_VERSION, copy),
    )
    return copy


def _copy_path(db: apsw.Connection, path: Path, version: int) -> Path:
    end = end_of(db)
    at = datetime.fromtimestamp(end.wall_ns // 10**9, UTC)
    return path.with_name(f"{path.name}.version-{version}-{at:%Y%m%dT%H%M%SZ}-entry-{end.last_seq}")


def _require_room(db: apsw.Connection, copy: Path) -> None:
    """Raise :class:`JournalError` unless the copy leaves room for the first commits."""
    size = number(db, "PRAGMA page_count") * number(db, "PRAGMA page_size")
    disk = os.statvfs(copy.parent)
    free = disk.f_bavail * disk.f_frsize
    needed = size + RESERVE_BYTES
    if free < needed:
        raise JournalError(
            f"no space left for {copy}, the copy of the state from before the upgrade ({needed} "
            f"bytes are needed, {free} are free): free some, then start again"
        )
