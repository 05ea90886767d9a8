"""Where a gate lies: its directory, held open, and the lock in it.

Every name is opened in the held directory, never by its path, so a directory that is exchanged
between a check and a use changes nothing. The directory is made 0755, and its missing parents
too, whatever the umask; parents that exist are not checked, so a directory of the sidecar's own
may lie in one that all may write, such as `/dev/shm` or a shared volume.

The lock, `.NAME.lock`, is held by `flock` for as long as the gate is written: the kernel releases
it however the process ends. Readers need no lock.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Final

from riskmon.gate import NotOwn, open_directory, open_file, require_own
from riskmon.system.permissions import Unsafe, make_directory

DIRECTORY_MODE: Final = 0o755  # bots of other users read the gate
FILE_MODE: Final = 0o644


class GateInUse(Exception):
    """Another process writes this gate. The message names the path and the process."""


class GatePlace:
    """The directory of one gate, with its lock: one for each `GateWriter`."""

    def __init__(self, path: Path) -> None:
        """Make the directory if need be, and lock the gate in it.

        Raises GateInUse, Unsafe, and OSError.
        """
        self.path = path
        self._directory = _open_or_make(path)
        try:
            self._lock = self._take_lock(self._directory)
        except BaseException:
            os.close(self._directory)
            raise

    def lost(self) -> str | None:
        """Return what has happened to the directory or the lock, None if nothing."""
        try:
            directory = _open(self.path)
        except FileNotFoundError:
            return "its directory is gone"
        except Unsafe as refusal:
            return refusal.why
        try:
            if not os.path.samestat(os.fstat(directory), os.fstat(self._directory)):
                return "its directory was replaced"
            return None if self._is_locked_in(directory) else "its lock is gone"
        finally:
            os.close(directory)

    def take_again(self) -> None:
        """Hold the directory and the lock that are at the path now. Raises as a new one does."""
        directory = _open_or_make(self.path)
        try:
            if not self._is_locked_in(directory):
                lock = self._take_lock(directory)
                os.close(self._lock)
                self._lock = lock
        except BaseException:
            os.close(directory)
            raise
        os.close(self._directory)
        self._directory = directory

    def close(self) -> None:
        """Let another process write the gate."""
        os.close(self._lock)
        os.close(self._directory)

    # -- the gate's file --------------------------------------------------------------------------

    def find(self) -> os.stat_result | None:
        """Return what is at the path: a link itself, not what it points to; None if nothing is."""
        try:
            return os.stat(self.path.name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_old(self) -> int | None:
        """Open the gate that an earlier start left, None if there is none.

        Raises Unsafe for one that another user could have written, and OSError.
        """
        user, found = os.geteuid(), self.find()
        if found is None:
            return None
        try:
            if not stat.S_ISLNK(found.st_mode):
                require_own(found, self.path, user)  # it may not be this user's to open
            return open_file(self._directory, self.path, user, os.O_RDWR)
        except NotOwn as error:
            cure = f"remove it (`rm {quote(str(self.path))}`)"
            raise Unsafe(str(error), cure) from None

    def allocate(self, size: int) -> int:
        """Open a new file of this size, to be put at the path by `install`."""
        self.discard()  # of a start that was killed
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(self._new_name, flags, 0o600, dir_fd=self._directory)
        try:
            # A page that is not allocated would kill the writer when the memory runs out.
            os.posix_fallocate(file, 0, size)
            os.fchmod(file, FILE_MODE)
        except BaseException:
            os.close(file)
            self.discard()
            raise
        return file

    def install(self) -> None:
        """Put the allocated file at the path, whatever is there by now."""
        held = self._directory
        os.rename(self._new_name, self.path.name, src_dir_fd=held, dst_dir_fd=held)

    def discard(self) -> None:
        """Remove an allocated file that was not installed."""
        with suppress(FileNotFoundError):
            os.unlink(self._new_name, dir_fd=self._directory)

    @property
    def _new_name(self) -> str:
        return f".{self.path.name}.new"

    # -- the lock ---------------------------------------------------------------------------------

    @property
    def _lock_name(self) -> str:
        return f".{self.path.name}.lock"

    def _is_locked_in(self, directory: int) -> bool:
        try:
            found = os.stat(self._lock_name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self._lock))

    def _take_lock(self, directory: int) -> int:
        # It is never removed: a second file of this name could be locked beside the first.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(self._lock_name, flags, 0o600, dir_fd=directory)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        except BlockingIOError:
            holder = os.pread(lock, 20, 0).decode(errors="replace") or "unknown"
            os.close(lock)
            raise GateInUse(
                f"gate {self.path} is in use by another riskmon (process {holder})"
            ) from None
        except BaseException:
            os.close(lock)
            raise
        return lock


def _open(path: Path) -> int:
    """Open the directory of the gate at the path. Raises Unsafe and OSError."""
    user = os.geteuid()
    try:
        return open_directory(path.parent, user)
    except NotOwn as error:
        raise Unsafe(str(error), _cure(path, user)) from None


def _open_or_make(path: Path) -> int:
    try:
        return _open(path)
    except FileNotFoundError:
        make_directory(path.parent, DIRECTORY_MODE)
        return _open(path)


def _cure(path: Path, user: int) -> str:
    """Return what an operator can do about a directory that others made or can write."""
    directory = path.parent
    found, shown = os.lstat(directory), quote(str(directory))
    own = f'set gate = "{directory / "riskmon" / path.name}": riskmon makes its directory'
    if not stat.S_ISDIR(found.st_mode):
        return "set `gate` to a path in a directory itself"
    shared = found.st_mode & 0o022 != 0
    if found.st_uid == user:
        return f"`chmod 755 {shown}`, or {own}"
    if found.st_uid == 0:
        return own
    return f"remove it (`rm -r {shown}`, as its owner or root), or " + (
        own if shared else "set `gate` elsewhere"
    )
