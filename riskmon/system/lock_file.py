"""A lock file: locked by ``flock`` until its descriptor closes, with the holder's process number.

The kernel releases the lock however the process ends. The file is never removed: a second file of
its name could be locked beside the first.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

_NUMBER_BYTES_MAX = 20


class LockHeld(Exception):
    """Another process holds the lock; ``holder`` is its number, or ``unknown``."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"process {holder} holds the lock")
        self.holder = holder


class CannotLock(OSError):
    """The file system has no locks."""


def take(path: str | Path, *, directory: int | None = None) -> int:
    """Open or make the file and lock it; ``path`` is in ``directory`` if one is given.

    Raises :class:`LockHeld`, :class:`CannotLock`, and OSError for a file that cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(path, flags, 0o600, dir_fd=directory)
    try:
        lock(file)
    except BaseException:
        os.close(file)
        raise
    with suppress(OSError):  # on a full disk only the number is missing
        os.ftruncate(file, os.pwrite(file, str(os.getpid()).encode(), 0))
    return file


def lock(file: int) -> None:
    """Lock an open file. Raises as :func:`take` does."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(file, _NUMBER_BYTES_MAX, 0).decode(errors="replace") or "unknown"
        raise LockHeld(holder) from None
    except OSError as fault:
        raise CannotLock(fault.errno, fault.strerror) from fault
