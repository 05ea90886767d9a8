"""Room on the disk that is kept for the last commits: trips that meet a full disk.

A file of fixed size, whose blocks are allocated at the start. When a transaction finds no room the
file is emptied, and the transaction is tried again in the room that this gives. After that the
sidecar only ends in order. The next start makes the file anew, or refuses to start.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import apsw

from riskmon.journal.file import JournalError

RESERVE_NAME = "reserve"
# A body of events at its largest, 1 MiB, and the trips of some 400 breakers with their cancels.
RESERVE_BYTES = 2_097_152
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Reserve:
    """The room kept beside a journal; ``spent`` says why it was given up, empty while it is not."""

    def __init__(self, state_dir: Path) -> None:
        """Allocate it. Raises :class:`JournalError` when there is no room for it."""
        self.spent = ""
        path = state_dir / RESERVE_NAME
        self._handle = os.open(path, _FLAGS, 0o600)
        try:
            os.posix_fallocate(self._handle, 0, RESERVE_BYTES)
        except OSError as fault:
            os.close(self._handle)
            if fault.errno not in _NO_ROOM:
                raise
            raise JournalError(
                f"no space left for {path} ({RESERVE_BYTES} bytes, kept so that a trip can be "
                "written to a full disk): free some, then start again"
            ) from fault

    def release(self, why: str) -> bool:
        """Give the room up for a commit; False when that was done before."""
        if self.spent:
            return False
        self.spent = why
        with suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.fsync(self._handle)  # some file systems free the blocks only then
        return True

    def close(self) -> None:
        """Close the file, which stays."""
        os.close(self._handle)


def is_for_want_of_room(fault: BaseException) -> bool:
    """Whether a write may succeed once there is more room."""
    if isinstance(fault, apsw.FullError):
        return True
    codes = (apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_SHMSIZE)
    # apsw sets it on each error of SQLite; its stub does not say so.
    return isinstance(fault, apsw.IOError) and fault.extendedresult in codes  # type: ignore[attr-defined]
