"""Disk space that is reserved for the last commits, so that a trip is written to a full disk.

The reserve is a file of fixed size whose blocks are allocated at the start. When a transaction
fails for lack of space, the file is truncated and the transaction is repeated in the freed space.
The sidecar then ends in an orderly way. The next start allocates the file again, or refuses to
start.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import apsw

from riskmon.journal.file import JournalError

RESERVE_NAME = "reserve"
# Enough for the largest body of events, 1 MiB, and the trips of 400 breakers with their cancels.
RESERVE_BYTES = 2_097_152
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Reserve:
    """The reserve of one journal. ``spent`` is the reason of its release, empty before that."""

    def __init__(self, state_dir: Path) -> None:
        """Allocate the file. Raises :class:`JournalError` when there is no space for it."""
        self.spent = ""
        path = state_dir / RESERVE_NAME
        self._handle = os.open(path, _FLAGS, 0o600)
        try:
            os.posix_fallocate(self._handle, 0, RESERVE_BYTES)
        except OSError as fault:
            os.close(self._handle)
            if fault.errno not in _NO_SPACE:
                raise
            raise JournalError(
                f"no space left for {path} ({RESERVE_BYTES} bytes, reserved so that a trip can be "
                "written to a full disk): free some space, then start again"
            ) from fault

    def release(self, why: str) -> bool:
        """Free the space for a commit. Return False when it was freed before."""
        if self.spent:
            return False
        self.spent = why
        with suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.fsync(self._handle)  # some file systems free the blocks only at a sync
        return True

    def close(self) -> None:
        """Close the file without removing it."""
        os.close(self._handle)


def is_no_space(fault: BaseException) -> bool:
    """Whether a write failed for lack of space."""
    if isinstance(fault, apsw.FullError):
        return True
    codes = (apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_SHMSIZE)
    # apsw sets `extendedresult` on each error of SQLite; its stub lacks the attribute.
    return isinstance(fault, apsw.IOError) and fault.extendedresult in codes  # type: ignore[attr-defined]
