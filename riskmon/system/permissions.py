"""Checks of owner and mode of the configuration, secrets and the state directory.

The checks use the descriptor of the opened file, because a path can be changed between a check and
a use.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote

SECRET_BYTES_MAX = 16_384

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_SECRETS = Path("/run/secrets")


class Unsafe(Exception):
    """A file or directory is refused. ``why`` is the reason, ``cure`` the remedy."""

    def __init__(self, why: str, cure: str) -> None:
        super().__init__(f"{why}: {cure}")
        self.why, self.cure = why, cure


def read_config(path: Path, *, searched: bool = False) -> bytes:
    """Read a configuration file that only its owner can write.

    ``searched`` marks a file that was found in the working directory instead of being named: it
    must be a regular file of this user or of root. Raises :class:`Unsafe` and OSError.
    """
    # A named file may be a pipe; reading then waits for its writer.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (os.O_NONBLOCK if searched else 0))
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if searched:
            _refuse_stranger(found, path)
        _refuse_writable(found, path, f"`chmod go-w {quote(str(path))}`")
        return file.read()


def read_secret(path: Path) -> bytes:
    """Read at most ``SECRET_BYTES_MAX`` of a file, with the checks of :func:`open_secret`."""
    with open_secret(path) as handle, os.fdopen(handle, "rb", closefd=False) as file:
        return file.read(SECRET_BYTES_MAX)


@contextmanager
def open_secret(path: Path) -> Iterator[int]:
    """Open a file that only its owner can write and others cannot read; yield its descriptor.

    Others may be able to read files in ``/run/secrets``, in ``$CREDENTIALS_DIRECTORY`` and on a
    read-only mount, where the platform sets the mode. Raises :class:`Unsafe` and OSError.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        command = f"chmod g-w,o= {quote(str(path))}"
        _refuse_writable(found, path, f"`{command}`")
        if found.st_mode & stat.S_IROTH and not _is_device(found) and not _is_provided(handle):
            raise Unsafe(f"{path} can be read by other users ({_mode(found)})", f"`{command}`")
        yield handle
    finally:
        os.close(handle)


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Create the directory and its missing parents with this mode, whatever the umask."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    for place in reversed(missing):
        with suppress(FileExistsError):  # another process created it in the meantime
            place.mkdir(mode)
            _set_mode(place, mode)


def _set_mode(directory: Path, mode: int) -> None:
    """Set the mode of a new directory, unless another user has replaced it."""
    made = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(made).st_uid == os.geteuid():
            Path(f"/proc/self/fd/{made}").chmod(mode)
    finally:
        os.close(made)


def check_directory(path: Path) -> None:
    """Raise :class:`Unsafe` for a directory that group or others can write, OSError for none."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        cure = f"`chmod go-w {quote(str(path))}`, or set a directory in it"
        _refuse_writable(os.fstat(handle), path, cure)
    finally:
        os.close(handle)


def _refuse_stranger(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Unsafe(f"{path} is not a regular file", "remove it, or work in another directory")
    if found.st_uid not in (0, os.geteuid()):
        raise Unsafe(
            f"{path} in the working directory belongs to user {found.st_uid}, neither to this "
            f"user ({os.geteuid()}) nor to root",
            "name the configuration with --config, or work in a directory of your own",
        )


def _refuse_writable(found: os.stat_result, path: Path, cure: str) -> None:
    if found.st_mode & _OTHERS_WRITE and not _is_device(found):
        raise Unsafe(f"{path} can be written by its group or others ({_mode(found)})", cure)


def _is_device(found: os.stat_result) -> bool:
    """Whether it is a terminal or /dev/null, which do not store what other users write."""
    return stat.S_ISCHR(found.st_mode)


def _is_provided(handle: int) -> bool:
    """Whether the platform provides the file and sets its mode."""
    if os.fstatvfs(handle).f_flag & os.ST_RDONLY:
        return True
    place = Path(f"/proc/self/fd/{handle}").readlink()
    credentials = os.environ.get("CREDENTIALS_DIRECTORY", "")
    folders = [_SECRETS, *([Path(credentials)] if credentials.startswith("/") else [])]
    return any(place.is_relative_to(folder.resolve()) for folder in folders)


def _mode(found: os.stat_result) -> str:
    return f"mode {stat.S_IMODE(found.st_mode):04o}"
