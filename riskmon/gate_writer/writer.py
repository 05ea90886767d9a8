"""The writing side of the gate: creates the file and renews its leases.

`riskmon.gate` describes the layout, `riskmon.gate_writer.place` has the directory and the lock.
Readers depend on the order of stores: the name of a record is stored before the record count, the
layout version of a new file is stored last, and of several leases the lower ones are stored first.

The sidecar's user and root can remove, replace, overwrite or truncate the file while it is in
use. `repair` detects this and recreates the file. A store beyond the end of a truncated file would
kill this process (SIGBUS), so each change of the file first restores its size. A truncation in the
microseconds between that check and the stores still kills the process; the leases then expire as
after any other kill. Stores by `os.pwrite` would avoid this gap, but they take 0.6 ms for a
thousand words instead of 40 µs, and no kernel guarantees that they are atomic for a process that
has mapped the file.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from riskmon.gate import (
    ACCOUNT,
    COUNT_WORD,
    GENERATION_WORD,
    LAYOUT_VERSION,
    LONGEST_WORD,
    MAGIC,
    NAME_BYTES_MAX,
    RECORD_BYTES,
    RECORD_WORDS,
    VERSION_WORD,
    Level,
    boot_word,
    require_machine,
)
from riskmon.gate_writer.place import FILE_MODE, GatePlace

# Plain integers: with members of the enumeration a thousand scopes take half a millisecond more.
_HALT, _ALLOW = int(Level.HALT), int(Level.ALLOW)


class GateFull(Exception):
    """The gate file has no free record for another scope."""


class GateWriter:
    """The writer of one gate, for one thread.

    All leases are 0 until the first `renew`. `close` shuts the gate.
    """

    def __init__(self, place: GatePlace, records: int, longest_lease_ns: int, epoch: int) -> None:
        """Create the file."""
        self.path = place.path
        self._place = place
        self._records_max = records
        self._head = (MAGIC, LAYOUT_VERSION, boot_word(), epoch)
        self._longest_lease_ns = longest_lease_ns
        self._slots: dict[str, int] = {ACCOUNT: RECORD_WORDS}
        self._levels: dict[str, int] = {}
        self._slots_by_level: tuple[list[int], ...] = ([], [], [], [])
        self._grouped = False
        self._deadline_ns = 0
        self._generation = 0
        self._closed = False
        self._file = self._install()

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        max_scopes: int,
        longest_lease_ns: int,
        epoch: int,
    ) -> GateWriter:
        """Shut the gate at the path, if there is one, and replace it by a new one.

        `max_scopes` includes the account, whose record is created here. Creates the directory
        (0755) if it is missing. Raises GateInUse while another GateWriter writes this path,
        Unsafe if another user can write it, OSError when the file cannot be created, ValueError
        for a `max_scopes` below 1, RuntimeError on an unsupported machine.
        """
        require_machine()
        if max_scopes < 1:
            raise ValueError(f"max_scopes is {max_scopes}: the account alone needs 1")
        path = Path(path)
        try:
            place = GatePlace(path)
            try:
                _shut_old(place)
                return cls(place, max_scopes + 1, longest_lease_ns, epoch)
            except BaseException:
                place.close()
                raise
        except OSError as error:
            reason = f"cannot create the gate file: {error.strerror}"
            raise OSError(error.errno, reason, str(path)) from error

    def repair(self) -> str | None:
        """Recreate the file, with its leases, when it or its directory was changed by others.

        Returns a description of the change, None for none. Raises GateInUse, Unsafe and OSError
        when no new file can be created; readers that have mapped the old file keep it then.
        """
        damage = self._place.damage() or self._damage()
        if damage is None:
            return None
        self._place.reopen()
        old, self._file = self._file, self._install()
        old.shut(self._slots.values())
        old.close()
        return damage

    def add(self, scope: str) -> None:
        """Append a record for a new scope, with a lease of 0 until the next `renew`.

        Raises ValueError for a name that does not fit its field, GateFull without a free record.
        """
        if scope in self._slots:
            return
        name = scope.encode()
        if not 0 < len(name) <= NAME_BYTES_MAX or b"\0" in name:
            raise ValueError(
                f"scope {scope!r} does not fit into the gate: a name has 1 to {NAME_BYTES_MAX}"
                " bytes of UTF-8, none of them zero"
            )
        record = len(self._slots) + 1
        if record >= self._records_max:
            raise GateFull(
                f"{self.path} has no free record for {scope!r}: it has {self._records_max - 1}"
                " scopes with the account; raise max_scopes and restart"
            )
        self._slots[scope] = record * RECORD_WORDS
        self._grouped = False
        if self._file.has_its_size():
            self._file.write_name(record, name)
            self._file.words[COUNT_WORD] = record + 1

    def renew(self, deadline_ns: int, levels: Mapping[str, int], generation: int) -> None:
        """Write a lease with its level for every scope, up to the deadline on CLOCK_BOOTTIME.

        A scope without a level has `Level.ALLOW`; the account's level is the maximum of all
        others. Readers refuse a deadline further away than the longest lease. Raises ValueError,
        and writes nothing, for an invalid level.
        """
        if not self._grouped or levels != self._levels:
            self._group(dict(levels))
        self._deadline_ns, self._generation = deadline_ns & ~0xFF, generation
        self._store(self._file)

    def tighten(self, levels: Mapping[str, int], generation: int) -> None:
        """Lower levels at once; the deadline does not change.

        Higher levels than the current ones are ignored, and so are scopes without a level.
        Raises as `renew` does.
        """
        current = self._levels
        fallen = {
            scope: int(Level(level))
            for scope, level in levels.items()
            if level < current.get(scope, _ALLOW)
        }
        self._generation = generation
        if ACCOUNT in fallen:
            self._group({**current, **fallen})
            self._store(self._file)
            return
        current.update(fallen)
        self._grouped = self._grouped and not fallen
        if not self._file.has_its_size():
            return
        bound, words = current.get(ACCOUNT, _ALLOW), self._file.words
        for scope, level in fallen.items():
            slot = self._slots.get(scope)
            if slot is not None:
                words[slot] = _lease_word(self._deadline_ns, min(level, bound))
        words[GENERATION_WORD] = generation

    def shut(self) -> None:
        """Zero all leases. The next `renew` opens the gate again."""
        self._deadline_ns = 0
        self._file.shut(self._slots.values())

    def close(self, *, zero: bool = True) -> None:
        """Shut the gate, unless `zero` is false, unmap the file and release the lock.

        The file is not removed. Another process may create a new one from then on.
        """
        if self._closed:
            return
        self._closed = True
        if zero:
            self.shut()
        self._file.close()
        self._place.close()

    def _install(self) -> _MappedFile:
        """Put a new file at the path, with the records and the leases of the last store."""
        file = _MappedFile(self._place, self._records_max)
        try:
            for word, value in enumerate(self._head):
                if word != VERSION_WORD:
                    file.words[word] = value
            for scope, slot in self._slots.items():
                file.write_name(slot // RECORD_WORDS, scope.encode())
            file.words[COUNT_WORD] = len(self._slots) + 1
            file.words[LONGEST_WORD] = self._longest_lease_ns
            if self._grouped:  # otherwise the next renewal writes the leases
                self._store(file)
            file.words[VERSION_WORD] = LAYOUT_VERSION
            self._place.install()
        except BaseException:
            file.close()
            self._place.discard()
            raise
        return file

    def _damage(self) -> str | None:
        """Return a description of a change of the file at the path, None for none."""
        damage = self._file.damage(self._place.find())
        if damage is not None:
            return damage
        words = self._file.words
        head = (*self._head, len(self._slots) + 1, self._longest_lease_ns)
        if tuple(words[: len(head)]) == head and all(
            self._file.name(slot // RECORD_WORDS) == scope.encode().ljust(NAME_BYTES_MAX, b"\0")
            for scope, slot in self._slots.items()
        ):
            return None
        return "its content was overwritten"

    def _group(self, levels: dict[str, int]) -> None:
        """Combine the account's level with all others, and group the lease words by the result.

        A renewal then only stores.
        """
        for scope, level in levels.items():
            if not _HALT <= level <= _ALLOW:
                raise ValueError(f"{level!r}, for scope {scope!r}, is not a level of the gate")
        groups: tuple[list[int], ...] = ([], [], [], [])
        bound = levels.get(ACCOUNT, _ALLOW)
        for scope, slot in self._slots.items():
            level = levels.get(scope, _ALLOW)
            groups[min(level, bound)].append(slot)
        self._levels, self._slots_by_level, self._grouped = levels, groups, True

    def _store(self, file: _MappedFile) -> None:
        """Write all leases, the lowest level first, so that none rises before another falls."""
        if not file.has_its_size():
            return
        words = file.words
        for level, slots in enumerate(self._slots_by_level):
            word = _lease_word(self._deadline_ns, level)
            # Not one strided assignment, although that is faster: there the size of each store
            # depends on the C library's memcpy.
            for slot in slots:
                words[slot] = word
        words[GENERATION_WORD] = self._generation


class _MappedFile:
    """One file of a gate, mapped for writing. `repair` creates another one."""

    def __init__(self, place: GatePlace, records: int) -> None:
        """Allocate a new file in the directory, not yet under its final name."""
        self._size = records * RECORD_BYTES
        self._truncated = False
        self._descriptor = place.allocate(self._size)
        self._map = mmap.mmap(self._descriptor, self._size)
        self.words = memoryview(self._map).cast("Q")

    def has_its_size(self) -> bool:
        """Restore the size of a truncated file. Return False when there is no space for that.

        To be called before stores: a store beyond the end of the file kills the process.
        """
        if os.fstat(self._descriptor).st_size >= self._size:
            return True
        self._truncated = True
        try:
            os.posix_fallocate(self._descriptor, 0, self._size)
        except OSError:
            return False
        return True

    def damage(self, found: os.stat_result | None) -> str | None:
        """Return how the file that was found at the path differs from this one, None for equal."""
        own = os.fstat(self._descriptor)
        if found is None:
            return "it is missing"
        if not os.path.samestat(found, own):
            return "another file is in its place"
        if self._truncated or own.st_size < self._size:
            return "it was truncated"
        if own.st_uid != os.geteuid() or stat.S_IMODE(own.st_mode) != FILE_MODE:
            return "its owner or mode was changed"
        return None

    def name(self, record: int) -> bytes:
        """Return the name of a record, with its padding."""
        return self._map[record * RECORD_BYTES + 8 : (record + 1) * RECORD_BYTES]

    def write_name(self, record: int, name: bytes) -> None:
        """Write the name of a record."""
        begin = record * RECORD_BYTES
        self._map[begin + 8 : begin + RECORD_BYTES] = name.ljust(NAME_BYTES_MAX, b"\0")

    def shut(self, slots: Iterable[int]) -> None:
        """Zero these lease words."""
        if self.has_its_size():
            for slot in slots:
                self.words[slot] = 0

    def close(self) -> None:
        """Unmap the file."""
        self.words.release()
        self._map.close()
        os.close(self._descriptor)


def _lease_word(deadline_ns: int, level: int) -> int:
    return deadline_ns | level if deadline_ns and level else 0


def _shut_old(place: GatePlace) -> None:
    """Zero the leases of the gate at the path, so that its readers open the new file."""
    descriptor = place.open_old()
    if descriptor is None:
        return
    try:
        found = os.fstat(descriptor)
        usable = found.st_size // RECORD_BYTES * RECORD_BYTES
        if not stat.S_ISREG(found.st_mode) or usable == 0:
            return
        with mmap.mmap(descriptor, usable) as file, memoryview(file).cast("Q") as words:
            if words[0] != MAGIC:  # no reader accepts it, and it may belong to another program
                return
            for slot in range(RECORD_WORDS, usable // 8, RECORD_WORDS):
                words[slot] = 0
    finally:
        os.close(descriptor)
