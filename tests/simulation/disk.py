"""The disk below SQLite: written and synced content, and the content after a fault.

Files are real, in a directory in memory: their content is what the page cache holds, which a kill
does not touch. Beside each file its synced content is kept, with the writes since. A loss of power
leaves of those a random part, torn at sectors.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Literal

import apsw

from riskmon.journal.reserve import RESERVE_BYTES, RESERVE_NAME

SECTOR_BYTES = 512

_pwrite, _posix_fallocate = os.pwrite, os.posix_fallocate

Mode = Literal["sound", "full", "write_fails", "sync_fails"]


class Killed(BaseException):
    """The process ends at this instruction."""


@dataclass
class _Synced:
    """The content of a file at its last sync, and the writes since."""

    content: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: truncated there

    def sync(self) -> None:
        for offset, data in self.pending:
            _apply(self.content, offset, data)
        self.pending.clear()

    def torn(self, random: Random) -> bytes:
        """Return a content that the disk may have without another sync."""
        content, likely = bytearray(self.content), random.choice((0.0, 0.5, 0.9, 1.0))
        for offset, data in self.pending:
            if data is None:
                if random.random() < likely:
                    _apply(content, offset, None)
                continue
            first = -offset % SECTOR_BYTES
            cuts = [0, *range(first or SECTOR_BYTES, len(data), SECTOR_BYTES), len(data)]
            for begin, end in pairwise(cuts):
                if random.random() < likely:
                    _apply(content, offset + begin, data[begin:end])
        return bytes(content)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def _fault(kind: type[apsw.Error], code: int) -> apsw.Error:
    fault = kind("simulated")
    fault.result, fault.extendedresult = code & 0xFF, code  # type: ignore[attr-defined]
    return fault


class Disk:
    """The files of SQLite in one simulation.

    ``on_operation`` is called before each write, sync, truncation and deletion, and may raise
    :class:`Killed`. While ``dead``, the process that asks is no more: what it still does to the
    files is undone by an :class:`Image`, and is not noted here.
    """

    def __init__(self, random: Random, state: Path) -> None:
        self.mode: Mode = "sound"
        self.hits_marks = False  # a failure is one of the marks' files too
        self.room_bytes = RESERVE_BYTES  # that a full disk has once the reserve is given up
        self._state = state
        self.dead = False
        self.operations = 0
        self.on_operation: Callable[[], None] = lambda: None
        self._random = random
        self._synced: dict[int, _Synced] = {}  # by inode: a file may get another name

    def fail(self, random: Random) -> str:
        """Start to fail in a random way; return a description."""
        self.mode = random.choice(("full", "full", "write_fails", "sync_fails"))
        self.hits_marks = self.mode != "full" and random.random() < 0.5
        self.room_bytes = random.choice((RESERVE_BYTES, RESERVE_BYTES, 4_000))
        return f"the disk: {self.mode}{', the marks too' if self.hits_marks else ''}"

    @property
    def has_room(self) -> bool:
        """Whether a commit can be written, in the reserve if need be."""
        has_reserve = self.room_bytes == RESERVE_BYTES
        return self.mode == "sound" or (self.mode == "full" and has_reserve)

    def operate(self, kind: Literal["write", "sync", "other"], size: int = 0) -> None:
        """Count an operation of ``size`` bytes, and fail it where the disk fails."""
        if self.dead:
            return
        self.operations += 1
        self.on_operation()
        if kind == "write" and self.mode == "full" and not self._takes(size):
            raise _fault(apsw.FullError, apsw.SQLITE_FULL)
        if kind == "write" and self.mode == "write_fails":
            raise _fault(apsw.IOError, apsw.SQLITE_IOERR_WRITE)
        if kind == "sync" and self.mode == "sync_fails":
            raise _fault(apsw.IOError, apsw.SQLITE_IOERR_FSYNC)

    def _takes(self, size: int) -> bool:
        """Whether a full disk has room for so many bytes, in that of the reserve."""
        reserve = self._state / RESERVE_NAME
        if size > self.room_bytes or not reserve.exists() or reserve.stat().st_size:
            return False
        self.room_bytes -= size
        return True

    def pwrite(self, handle: int, data: bytes, offset: int) -> int:
        """A write outside of SQLite, such as of a mark."""
        self._operate_own(handle, "write_fails")
        return _pwrite(handle, data, offset)

    def fsync(self, handle: int) -> None:
        """A sync outside of SQLite."""
        self._operate_own(handle, "sync_fails")
        synced = self._synced.get(os.fstat(handle).st_ino)
        if synced is not None and not self.dead:
            self.operate("sync")
            synced.sync()

    def posix_fallocate(self, handle: int, offset: int, size: int) -> None:
        """Get room for a file."""
        grows = os.fstat(handle).st_size < offset + size
        if grows and self._is_own(handle):
            if self.mode == "full":
                raise OSError(errno.ENOSPC, "simulated")
            self.room_bytes = RESERVE_BYTES
        _posix_fallocate(handle, offset, size)

    def _operate_own(self, handle: int, failing: Mode) -> None:
        fails = self.mode == failing and self.hits_marks and not self.dead
        if fails and self._is_own(handle):
            raise OSError(errno.EIO, "simulated")

    def _is_own(self, handle: int) -> bool:
        return Path(f"/proc/self/fd/{handle}").readlink().is_relative_to(self._state)

    def file(self, path: str) -> _Synced:
        """Return the synced content of a file; a new file counts as synced."""
        there = Path(path)
        inode = there.stat().st_ino
        if inode not in self._synced:
            self._synced[inode] = _Synced(bytearray(there.read_bytes()))
        return self._synced[inode]

    def settle(self) -> None:
        """Take all files as synced after a change from outside."""
        self._synced.clear()

    def lose_power(self, directory: Path) -> None:
        """Replace each file of a directory by what the disk retains."""
        for path in directory.iterdir():
            if (synced := self._synced.get(path.stat().st_ino)) is not None:
                path.write_bytes(synced.torn(self._random))
        self._synced.clear()


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._disk = disk
        self._synced = _Synced() if path is None else disk.file(path)

    def _note(self, offset: int, data: bytes | None) -> None:
        if not self._disk.dead:
            self._synced.pending.append((offset, data))

    def xLock(self, level: int) -> None:
        try:
            super().xLock(level)
        except apsw.IOError:
            # A file that is open to read only cannot be locked to write. SQLite passes over that;
            # apsw would raise it, except for this one.
            raise apsw.BusyError from None

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.operate("write", len(data))
        super().xWrite(data, offset)
        self._note(offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:
        self._disk.operate("other")
        super().xTruncate(newsize)
        self._note(newsize, None)

    def xSync(self, flags: int) -> None:
        self._disk.operate("sync")
        if not self._disk.dead:
            self._synced.sync()


class SimulatedVfs(apsw.VFS):
    """SQLite's default file system while it is registered."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        super().__init__(f"simulated-{os.getpid()}", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self.disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.disk.operate("other")
        super().xDelete(filename, syncdir)


class Image:
    """The regular files of some directories at one instant, to which they can be put back."""

    def __init__(self, directories: list[Path]) -> None:
        self._directories = directories
        self._files = {path: path.read_bytes() for path in self._all()}

    def _all(self) -> list[Path]:
        found = [path for directory in self._directories for path in directory.rglob("*")]
        return [path for path in found if path.is_file() and not path.is_symlink()]

    def restore(self) -> None:
        """Put back what is different, in place: readers keep their mapping of a file."""
        for path in self._all():
            if path not in self._files:
                path.unlink()
        for path, content in self._files.items():
            if not path.exists():
                path.write_bytes(content)
            elif path.read_bytes() != content:
                with path.open("r+b") as file:
                    file.write(content)
                    file.truncate()
