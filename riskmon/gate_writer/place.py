"""The directory of a gate, kept open, and the lock in it.

Files are opened relative to the open directory and never by their path, so that replacing the
directory between a check and a use has no effect. The directory and its missing parents are created
with 0755, whatever the umask. Existing parents are not checked, so the directory may be in one that
all users can write, such as `/dev/shm` or a shared volume.

The writer holds an `flock` on `.NAME.lock`; the kernel releases it when the process ends, in every
case. Readers need no lock.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Final

from riskmon.gate import NotOwn, open_directory, open_file, require_own
from riskmon.system import lock_file
from riskmon.system.lock_file import LockHeld
from riskmon.system.permissions import Unsafe, make_directory

DIRECTORY_MODE: Final = 0o755  # bots of other users read the gate
FILE_MODE: Final = 0o644


class GateInUse(Exception):
    """Another process is writing this gate. The message names the path and the process."""


class GatePlace:
    """The directory of one gate, with its lock: one for each `GateWriter`."""

    def __init__(self, path: Path) -> None:
        """Create the directory if it is missing, and lock the gate in it.

        Raises GateInUse, Unsafe and OSError.
        """
        self.path = path
        self._directory = _open_or_make(path)
        try:
            self._lock = self._take_lock(self._directory)
        except BaseException:
            os.close(self._directory)
            raise

    def damage(self) -> str | None:
        """Return a description of a change of the directory or the lock, None for none."""
        try:
            directory = _open(self.path)
        except FileNotFoundError:
            return "its directory is missing"
        except Unsafe as refusal:
            return refusal.why
        try:
            if not os.path.samestat(os.fstat(directory), os.fstat(self._directory)):
                return "its directory was replaced"
            return None if self._is_locked_in(directory) else "its lock is missing"
        finally:
            os.close(directory)

    def reopen(self) -> None:
        """Open and lock the directory that is at the path now. Raises as the constructor does."""
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
        """Release the lock, so that another process can write the gate."""
        os.close(self._lock)
        os.close(self._directory)

    # -- the gate's file --------------------------------------------------------------------------

    def find(self) -> os.stat_result | None:
        """Return the status of the file at the path, None without one. A link is not followed."""
        try:
            return os.stat(self.path.name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_old(self) -> int | None:
        """Open the gate's file of an earlier start, None if there is none.

        Raises Unsafe for a file that another user can have written, and OSError.
        """
        user, found = os.geteuid(), self.find()
        if found is None:
            return None
        try:
            if not stat.S_ISLNK(found.st_mode):
                require_own(found, self.path, user)  # before open(), which may lack permission
            return open_file(self._directory, self.path, user, os.O_RDWR)
        except NotOwn as error:
            cure = f"remove it (`rm {quote(str(self.path))}`)"
            raise Unsafe(str(error), cure) from None

    def allocate(self, size: int) -> int:
        """Create a file of this size under a temporary name; `install` renames it."""
        self.discard()  # left by a start that was killed
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(self._new_name, flags, 0o600, dir_fd=self._directory)
        try:
            # A store to a page that is not allocated kills the writer when the memory runs out.
            os.posix_fallocate(file, 0, size)
            os.fchmod(file, FILE_MODE)
        except BaseException:
            os.close(file)
            self.discard()
            raise
        return file

    def install(self) -> None:
        """Rename the allocated file to its final name, replacing any existing file."""
        folder = self._directory
        os.rename(self._new_name, self.path.name, src_dir_fd=folder, dst_dir_fd=folder)

    def discard(self) -> None:
        """Remove an allocated file that is not installed."""
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
        try:
            return lock_file.take(self._lock_name, directory=directory)
        except LockHeld as held:
            raise GateInUse(
                f"gate {self.path} is in use by another riskmon (process {held.holder})"
            ) from None


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
    """Return the remedy for a directory that belongs to, or can be written by, another user."""
    directory = path.parent
    found, shown = os.lstat(directory), quote(str(directory))
    own = f'set gate = "{directory / "riskmon" / path.name}": riskmon creates that directory'
    if not stat.S_ISDIR(found.st_mode):
        return "set `gate` to a path in a directory that is not a link"
    shared = found.st_mode & 0o022 != 0
    if found.st_uid == user:
        return f"`chmod 755 {shown}`, or {own}"
    if found.st_uid == 0:
        return own
    return f"remove it (`rm -r {shown}`, as its owner or root), or " + (
        own if shared else "set `gate` elsewhere"
    )
