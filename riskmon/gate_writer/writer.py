"""The writing side of the gate: the sidecar makes the file and renews its leases.

`riskmon.gate` has the layout, `riskmon.gate_writer.place` the directory and the lock. The order of
stores is what readers rely on: a record's name comes before the count that shows it, the layout
version comes last in a new file, and of several leases those that fall are stored before those
that rise.

The sidecar's user and root can remove, replace, overwrite or truncate the file while it is in
use. `mend` finds that and makes the file anew. A store beyond the end of a truncated file would
kill this process (SIGBUS), so each change of the file first gives it its size back. A truncation
in the microseconds between that check and the stores still kills the process; the gate then
lapses like after any other kill. Stores by `os.pwrite` would not have this gap, but they take
0.6 ms for a thousand words, where the mapped ones take 40 µs, and no kernel promises that they
are whole for a process that has the file mapped.
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

# Plain numbers: an enumeration's members cost a thousand scopes half a millisecond.
_HALT, _ALLOW = int(Level.HALT), int(Level.ALLOW)


class GateFull(Exception):
    """The gate file has no room for another scope."""


class GateWriter:
    """The writing side: one for each sidecar, used from one thread.

    Every lease is 0 until the first `renew`. `close` shuts the gate.
    """

    def __init__(self, place: GatePlace, records: int, longest_lease_ns: int, epoch: int) -> None:
        """Make the file at the place."""
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
        """Shut the gate that is at the path, if any, and put a new one in its place.

        `max_scopes` counts the account, which gets its record here. Makes the directory
        (0755) if need be. Raises GateInUse while another GateWriter writes this path,
        Unsafe where another user could write it, OSError when the file cannot be made,
        ValueError for a `max_scopes` below 1, RuntimeError on a machine that can have no gate.
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
            reason = f"cannot make the gate file: {error.strerror}"
            raise OSError(error.errno, reason, str(path)) from error

    def mend(self) -> str | None:
        """Make the file anew, with its leases, when it or its directory is not as it was made.

        Returns what had happened, None if nothing. Raises GateInUse, Unsafe and OSError
        when no new file can be made: then readers that have mapped the old one keep it.
        """
        damage = self._place.lost() or self._damage()
        if damage is None:
            return None
        self._place.take_again()
        old, self._file = self._file, self._install()
        old.shut(self._slots.values())
        old.close()
        return damage

    def add(self, scope: str) -> None:
        """Append a record for the scope, shut until the next `renew`. Known ones stay.

        Raises ValueError for a name that does not fit its field, GateFull without room.
        """
        if scope in self._slots:
            return
        name = scope.encode()
        if not 0 < len(name) <= NAME_BYTES_MAX or b"\0" in name:
            raise ValueError(
                f"scope {scope!r} does not fit the gate: a name has 1 to {NAME_BYTES_MAX}"
                " bytes of UTF-8, none of them zero"
            )
        record = len(self._slots) + 1
        if record >= self._records_max:
            raise GateFull(
                f"no room for {scope!r} in {self.path}, which holds {self._records_max - 1}"
                " scopes with the account: raise max_scopes and restart"
            )
        self._slots[scope] = record * RECORD_WORDS
        self._grouped = False
        if self._file.has_its_size():
            self._file.write_name(record, name)
            self._file.words[COUNT_WORD] = record + 1

    def renew(self, deadline_ns: int, levels: Mapping[str, int], generation: int) -> None:
        """Let every scope trade at its level until the deadline, on CLOCK_BOOTTIME.

        A scope without a level has `Level.ALLOW`; the account's level bounds all others.
        Readers refuse a deadline further away than the longest lease. Raises ValueError
        for what is no level; then nothing has been written.
        """
        if not self._grouped or levels != self._levels:
            self._group(dict(levels))
        self._deadline_ns, self._generation = deadline_ns & ~0xFF, generation
        self._store(self._file)

    def tighten(self, levels: Mapping[str, int], generation: int) -> None:
        """Lower levels at once and leave the deadline as it is. Never loosens: higher
        levels, and scopes that are not named, change nothing. Raises as `renew` does."""
        known = self._levels
        fallen = {
            scope: int(Level(level))
            for scope, level in levels.items()
            if level < known.get(scope, _ALLOW)
        }
        self._generation = generation
        if ACCOUNT in fallen:
            self._group({**known, **fallen})
            self._store(self._file)
            return
        known.update(fallen)
        self._grouped = self._grouped and not fallen
        if not self._file.has_its_size():
            return
        bound, words = known.get(ACCOUNT, _ALLOW), self._file.words
        for scope, level in fallen.items():
            slot = self._slots.get(scope)
            if slot is not None:
                words[slot] = _lease_word(self._deadline_ns, min(level, bound))
        words[GENERATION_WORD] = generation

    def shut(self) -> None:
        """Zero every lease now. The next `renew` opens again."""
        self._deadline_ns = 0
        self._file.shut(self._slots.values())

    def close(self, *, zero: bool = True) -> None:
        """Shut the gate, unless `zero` is false, and unmap the file, which stays; another
        process may make a new one from then on."""
        if self._closed:
            return
        self._closed = True
        if zero:
            self.shut()
        self._file.close()
        self._place.close()

    def _install(self) -> _MappedFile:
        """Put a new file at the path: its records, and their leases as they were last stored."""
        file = _MappedFile(self._place, self._records_max)
        try:
            for word, value in enumerate(self._head):
                if word != VERSION_WORD:
                    file.words[word] = value
            for scope, slot in self._slots.items():
                file.write_name(slot // RECORD_WORDS, scope.encode())
            file.words[COUNT_WORD] = len(self._slots) + 1
            file.words[LONGEST_WORD] = self._longest_lease_ns
            if self._grouped:  # else the leases wait for the next renewal
                self._store(file)
            file.words[VERSION_WORD] = LAYOUT_VERSION
            self._place.install()
        except BaseException:
            file.close()
            self._place.discard()
            raise
        return file

    def _damage(self) -> str | None:
        """Return what has happened to the file at the path, None if nothing."""
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
        """Fold the account's level into all others and sort the lease words by the outcome,
        so that a renewal only stores."""
        for scope, level in levels.items():
            if not _HALT <= level <= _ALLOW:
                raise ValueError(f"{level!r}, for scope {scope!r}, is no level of the gate")
        groups: tuple[list[int], ...] = ([], [], [], [])
        bound = levels.get(ACCOUNT, _ALLOW)
        for scope, slot in self._slots.items():
            level = levels.get(scope, _ALLOW)
            groups[min(level, bound)].append(slot)
        self._levels, self._slots_by_level, self._grouped = levels, groups, True

    def _store(self, file: _MappedFile) -> None:
        """Write every lease, the lowest level first: what falls, falls before others rise."""
        if not file.has_its_size():
            return
        words = file.words
        for level, slots in enumerate(self._slots_by_level):
            word = _lease_word(self._deadline_ns, level)
            # Not one strided assignment, fast as it is: that leaves the size of each store
            # to the C library's memcpy.
            for slot in slots:
                words[slot] = word
        words[GENERATION_WORD] = self._generation


class _MappedFile:
    """One file of a gate, mapped for writing. What `mend` makes is another one."""

    def __init__(self, place: GatePlace, records: int) -> None:
        """Allocate a new file at the place, which is not installed yet."""
        self._size = records * RECORD_BYTES
        self._truncated = False
        self._descriptor = place.allocate(self._size)
        self._map = mmap.mmap(self._descriptor, self._size)
        self.words = memoryview(self._map).cast("Q")

    def has_its_size(self) -> bool:
        """Give a truncated file its size back; False where there is no room for that. Call it
        before stores: one beyond the file's end kills the process."""
        if os.fstat(self._descriptor).st_size >= self._size:
            return True
        self._truncated = True
        try:
            os.posix_fallocate(self._descriptor, 0, self._size)
        except OSError:
            return False
        return True

    def damage(self, found: os.stat_result | None) -> str | None:
        """Return how what was found at the path differs from this file; None if it does not."""
        held = os.fstat(self._descriptor)
        if found is None:
            return "it is gone"
        if not os.path.samestat(found, held):
            return "another file is in its place"
        if self._truncated or held.st_size < self._size:
            return "it was truncated"
        if held.st_uid != os.geteuid() or stat.S_IMODE(held.st_mode) != FILE_MODE:
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
    """Zero the leases of the gate that is at the path, so that its readers look for the new."""
    descriptor = place.open_old()
    if descriptor is None:
        return
    try:
        found = os.fstat(descriptor)
        usable = found.st_size // RECORD_BYTES * RECORD_BYTES
        if not stat.S_ISREG(found.st_mode) or usable == 0:
            return
        with mmap.mmap(descriptor, usable) as file, memoryview(file).cast("Q") as words:
            if words[0] != MAGIC:  # no reader trusts it, so it is not ours to change
                return
            for slot in range(RECORD_WORDS, usable // 8, RECORD_WORDS):
                words[slot] = 0
    finally:
        os.close(descriptor)
