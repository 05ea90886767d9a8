"""Marks: the last sequence number of the journal, stored outside of it to detect lost entries.

A mark is a small file. One is in the state directory, a second one beside the gate. After each
commit, and before its senders are answered, the number of the last entry is written into both. If
the journal ends before either mark at a start, entries are lost.

A file has two slots, written alternately and in place, each with a checksum: a torn write leaves
the other slot intact. Writes are not synced: after a loss of power a mark may be older than the
journal, which is not a fault. A mark is never newer than the journal. After the slots come 8 bytes
that are zero until a write of the journal fails. Their blocks are allocated when the file is made,
so setting them needs no free space.
"""

from __future__ import annotations

import logging
import os
import stat
import struct
import threading
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

MARK_NAME = "mark"
IDENTITY_BYTES = 16

_SLOT_BYTES = 8_192  # enough for the longest path
_FLAG_OFFSET = 2 * _SLOT_BYTES
_FILE_BYTES = _FLAG_OFFSET + 4_096
_MAGIC = b"RISKMRK\x01"
_FAILED, _NOT_FAILED = b"FAILED!\x01", bytes(8)
_HEAD = struct.Struct("<8sLLQ")  # magic; CRC-32 of serial and body; bytes of the body; serial
_SERIAL = struct.Struct("<Q")
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


_log = logging.getLogger("riskmon.journal")


class Mark(Struct, frozen=True, array_like=True):
    """A journal's ``identity``, its directory, and its last entry (0 and 0 before the first)."""

    identity: bytes
    state_dir: str
    last_seq: int
    wall_ns: int


class FoundMark(NamedTuple):
    """The content of one mark's file: a mark, or the reason why there is none."""

    path: Path
    mark: Mark | None
    fault: str = ""
    missing: bool = False
    storage_failed: bool = False


class MarkFile:
    """One mark's file, open for writing."""

    def __init__(self, path: Path, handle: int, serial: int) -> None:
        self.path = path
        self._handle = handle
        self._serial = serial

    @classmethod
    def make(cls, path: Path, mark: Mark, *, storage_failed: bool) -> MarkFile:
        """Create a file at the path, atomically and synced. Raises OSError."""
        draft = path.with_name(f".{path.name}.new")
        draft.unlink(missing_ok=True)  # left by a start that was killed
        handle = os.open(draft, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(handle, 0, _FILE_BYTES)
            made = cls(path, handle, 0)
            made.note(storage_failed)
            made.write(mark)
            os.fsync(handle)
            draft.rename(path)
            sync_directory(path.parent)
        except BaseException:
            os.close(handle)
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        return made

    @classmethod
    def open(cls, path: Path) -> tuple[MarkFile | None, FoundMark]:
        """Open the file at the path and read its mark; the file is None without a valid mark."""
        try:
            handle = os.open(path, _FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            return None, FoundMark(path, None, "is missing", missing=True)
        except OSError as error:
            return None, FoundMark(path, None, f"cannot be opened ({error.strerror})")
        try:
            found, serial = _read(path, handle)
        except OSError as error:
            found, serial = FoundMark(path, None, f"cannot be read ({error.strerror})"), 0
        if found.mark is None:
            os.close(handle)
            return None, found
        return cls(path, handle, serial), found

    def write(self, mark: Mark) -> None:
        """Write the mark into the older slot. Raises OSError."""
        self._serial += 1
        record = _encode(mark, self._serial)
        _write_all(self._handle, record, self._serial % 2 * _SLOT_BYTES)

    def note(self, storage_failed: bool) -> None:
        """Set or clear the flag of a failed write of the journal. Raises OSError."""
        _write_all(self._handle, _FAILED if storage_failed else _NOT_FAILED, _FLAG_OFFSET)

    def sync(self) -> None:
        """Sync the file to the disk. Raises OSError."""
        os.fsync(self._handle)

    def is_in_place(self) -> bool:
        """Whether the path still names this file."""
        try:
            there = self.path.lstat()
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._handle)) and there.st_size == _FILE_BYTES

    def close(self) -> None:
        """Close the file without removing it."""
        os.close(self._handle)


class Marks:
    """The marks of one journal: first the one in the state directory, then the one at the gate.

    Only :meth:`note_storage_failure` may be called from several threads at once.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files: list[MarkFile | None] = []
        self._guard = threading.Lock()  # protects the list of open files
        self._mark: Mark | None = None
        self._failed_paths: set[Path] = set()
        found: list[FoundMark] = []
        for path in paths:
            file, one = MarkFile.open(path)
            self._files.append(file)
            found.append(one)
        self.found = tuple(found)
        self.storage_failed = any(one.storage_failed for one in found)

    def start(self, mark: Mark, *, beside_gate: bool = True) -> None:
        """Write ``mark`` to all files, synced, and create the files that have no valid mark.

        Raises OSError for a failure in the state directory. The gate's directory may not exist
        yet: :meth:`recreate_missing` creates that mark later, also when ``beside_gate`` is not set.
        """
        self._mark = mark
        for file in self._files:
            if file is not None:
                file.write(mark)
                file.note(self.storage_failed)
                # Without a sync, a loss of power soon after an accepted loss would restore the
                # mark from before the loss.
                file.sync()
        if self._files[0] is None:
            self._make(0, mark)
        if beside_gate:
            self.recreate_missing()

    def advance(self, last_seq: int, wall_ns: int) -> None:
        """Write the number and time of the last durable entry to all files. Raises OSError."""
        if self._mark is None:
            raise RuntimeError("advance() before start()")
        self._mark = Mark(self._mark.identity, self._mark.state_dir, last_seq, wall_ns)
        for file in self._files:
            if file is not None:
                file.write(self._mark)

    def recreate_missing(self) -> None:
        """Recreate the files that are missing at their paths, and log it; retry at each call."""
        if self._mark is None:
            return
        for index, file in enumerate(self._files):
            if file is not None and file.is_in_place():
                continue
            path = self.found[index].path
            try:
                self._make(index, self._mark)
            except OSError as error:
                if path not in self._failed_paths:
                    self._failed_paths.add(path)
                    _log.info("cannot create the mark %s yet (%s)", path, error.strerror)
                continue
            self._failed_paths.discard(path)
            if file is not None:
                _log.warning("the mark %s was removed or replaced and has been recreated", path)

    def note_storage_failure(self) -> bool:
        """Set the flag of a failed write, for the next start. Return whether any file has it.

        Needs no free space on the disk. May be called from any thread. A disk that hangs can block
        the call, but only after the mark beside the gate is written.
        """
        self.storage_failed = True
        return self._note(True)

    def clear_storage_failure(self) -> None:
        """Clear the flag that :meth:`note_storage_failure` sets."""
        self.storage_failed = False
        self._note(False)

    def sync(self) -> None:
        """Sync the files to the disk; errors are ignored."""
        with self._guard:
            for file in self._files:
                if file is not None:
                    with suppress(OSError):
                        file.sync()

    def close(self) -> None:
        """Close the files without removing them."""
        with self._guard:
            for file in self._files:
                if file is not None:
                    file.close()
            self._files = []

    def _note(self, storage_failed: bool) -> bool:
        written = False
        with self._guard:
            for file in reversed(self._files):  # first the gate's directory, which is in memory
                if file is not None:
                    with suppress(OSError):
                        file.note(storage_failed)
                        written = True
        return written

    def _make(self, index: int, mark: Mark) -> None:
        path = self.found[index].path
        file = MarkFile.make(path, mark, storage_failed=self.storage_failed)
        with self._guard:
            old, self._files[index] = self._files[index], file
            if old is not None:
                old.close()


def mark_paths(state_dir: Path, gate: Path | None) -> tuple[Path, ...]:
    """The paths of the marks of a state directory, given the path of the gate's file."""
    state_mark = state_dir / MARK_NAME
    return (state_mark,) if gate is None else (state_mark, gate.with_name(f".{gate.name}.mark"))


def _encode(mark: Mark, serial: int) -> bytes:
    body = msgspec.msgpack.encode(mark)
    checksum = zlib.crc32(body, zlib.crc32(_SERIAL.pack(serial)))
    return _HEAD.pack(_MAGIC, checksum, len(body), serial) + body


def _decode(slot: bytes) -> tuple[int, Mark] | None:
    """Decode the serial and the mark in a slot; None when it is damaged."""
    magic, checksum, length, serial = _HEAD.unpack_from(slot)
    body = slot[_HEAD.size : _HEAD.size + length]
    if magic != _MAGIC or zlib.crc32(body, zlib.crc32(_SERIAL.pack(serial))) != checksum:
        return None
    try:
        return serial, msgspec.msgpack.decode(body, type=Mark)
    except msgspec.DecodeError:
        return None


def _read(path: Path, handle: int) -> tuple[FoundMark, int]:
    """Read an open file. Return its content and the serial of its newer valid slot."""
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        return FoundMark(path, None, "is not a regular file"), 0
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return FoundMark(path, None, "belongs to another user, or others can write it"), 0
    if status.st_size != _FILE_BYTES:
        return FoundMark(path, None, f"has {status.st_size} bytes, not {_FILE_BYTES}"), 0
    failed = os.pread(handle, len(_NOT_FAILED), _FLAG_OFFSET) != _NOT_FAILED
    slots = (_decode(os.pread(handle, _SLOT_BYTES, at)) for at in (0, _SLOT_BYTES))
    valid = [slot for slot in slots if slot is not None]
    if not valid:
        return FoundMark(path, None, "has no slot with a valid checksum", storage_failed=failed), 0
    serial, mark = max(valid, key=lambda slot: slot[0])
    return FoundMark(path, mark, storage_failed=failed), serial


def _write_all(handle: int, data: bytes, offset: int) -> None:
    written = os.pwrite(handle, data, offset)
    if written != len(data):
        raise OSError(f"{written} of {len(data)} bytes of a mark were written")


def sync_directory(path: Path) -> None:
    """Sync the entries of a directory. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
