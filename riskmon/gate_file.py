"""The writing side of the gate: the sidecar makes the file and renews its leases.

`riskmon.gate` has the layout. The order of stores is what readers rely on: a record's name
comes before the count that shows it, the layout version comes last in a new file, and of
several leases those that fall are stored before those that rise.

A lock beside the file, `.NAME.lock`, is held by `flock` for as long as the file is written: the
kernel lets go of it however the process ends. Readers need no lock.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from riskmon.gate import (
    ACCOUNT,
    BOOT_WORD,
    COUNT_WORD,
    EPOCH_WORD,
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

# Plain numbers: an enumeration's members cost a thousand scopes half a millisecond.
_HALT, _ALLOW = int(Level.HALT), int(Level.ALLOW)


class GateFull(Exception):
    """The gate file has no room for another scope."""


class GateInUse(Exception):
    """Another process writes this gate. The message names the path and the process."""


class GateFile:
    """The writing side: one for each sidecar, used from one thread.

    Every lease is 0 until the first `renew`. `close` shuts the gate.
    """

    def __init__(self, path: Path, file: mmap.mmap, records_max: int, lock: int) -> None:
        self.path = path
        self._lock = lock
        self._map = file
        self._words = memoryview(file).cast("Q")
        self._records_max = records_max
        self._slots: dict[str, int] = {}
        self._levels: dict[str, int] = {}
        self._slots_by_level: tuple[list[int], ...] = ([], [], [], [])
        self._grouped = False
        self._deadline_ns = 0

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        max_scopes: int,
        longest_lease_ns: int,
        epoch: int,
    ) -> GateFile:
        """Shut the gate that is at the path, if any, and put a new one in its place.

        `max_scopes` counts the account, which gets its record here. Makes the directory
        (0755) if need be. Raises GateInUse while another GateFile writes this path, OSError
        when the file cannot be made, ValueError for a `max_scopes` below 1, RuntimeError on
        a machine that can have no gate.
        """
        require_machine()
        if max_scopes < 1:
            raise ValueError(f"max_scopes is {max_scopes}: the account alone needs 1")
        path = Path(path)
        try:
            _make_directory(path.parent)
            lock = _take_lock(path)
            try:
                return cls._make(path, max_scopes + 1, longest_lease_ns, epoch, lock)
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            reason = f"cannot make the gate file: {error.strerror}"
            raise OSError(error.errno, reason, str(path)) from error

    @classmethod
    def _make(
        cls, path: Path, records: int, longest_lease_ns: int, epoch: int, lock: int
    ) -> GateFile:
        temporary = path.with_name(f".{path.name}.new")
        try:
            _shut_old(path)
            temporary.unlink(missing_ok=True)  # of a start that was killed
            gate = cls(path, _allocate(temporary, records), records, lock)
            gate._write_header(longest_lease_ns, epoch)
            temporary.rename(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        return gate

    def _write_header(self, longest_lease_ns: int, epoch: int) -> None:
        words = self._words
        words[0] = MAGIC
        words[BOOT_WORD] = boot_word()
        words[EPOCH_WORD] = epoch
        words[COUNT_WORD] = 1
        words[LONGEST_WORD] = longest_lease_ns
        self.add(ACCOUNT)
        words[VERSION_WORD] = LAYOUT_VERSION

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
        record = self._words[COUNT_WORD]
        if record >= self._records_max:
            raise GateFull(
                f"no room for {scope!r} in {self.path}, which holds {self._records_max - 1}"
                " scopes with the account: raise max_scopes and restart"
            )
        begin = record * RECORD_BYTES
        self._map[begin + 8 : begin + RECORD_BYTES] = name.ljust(NAME_BYTES_MAX, b"\0")
        self._words[COUNT_WORD] = record + 1
        self._slots[scope] = record * RECORD_WORDS
        self._grouped = False

    def renew(self, deadline_ns: int, levels: Mapping[str, int], generation: int) -> None:
        """Let every scope trade at its level until the deadline, on CLOCK_BOOTTIME.

        A scope without a level has `Level.ALLOW`; the account's level bounds all others.
        Readers refuse a deadline further away than the longest lease. Raises ValueError
        for what is no level; then nothing has been written.
        """
        if not self._grouped or levels != self._levels:
            self._group(dict(levels))
        self._store(deadline_ns, generation)

    def tighten(self, levels: Mapping[str, int], generation: int) -> None:
        """Lower levels at once and leave the deadline as it is. Never loosens: higher
        levels, and scopes that are not named, change nothing. Raises as `renew` does."""
        known = self._levels
        fallen = {
            scope: int(Level(level))
            for scope, level in levels.items()
            if level < known.get(scope, _ALLOW)
        }
        if ACCOUNT in fallen:
            self._group({**known, **fallen})
            self._store(self._deadline_ns, generation)
            return
        bound = known.get(ACCOUNT, _ALLOW)
        for scope, level in fallen.items():
            slot = self._slots.get(scope)
            if slot is not None:
                self._words[slot] = _lease_word(self._deadline_ns, min(level, bound))
            known[scope] = level
            self._grouped = False
        self._words[GENERATION_WORD] = generation

    def shut(self) -> None:
        """Zero every lease now. The next `renew` opens again."""
        self._deadline_ns = 0
        for slot in self._slots.values():
            self._words[slot] = 0

    def close(self, *, zero: bool = True) -> None:
        """Shut the gate, unless `zero` is false, and unmap the file, which stays; another
        process may make a new one from then on."""
        if self._map.closed:
            return
        if zero:
            self.shut()
        self._words.release()
        self._map.close()
        os.close(self._lock)

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

    def _store(self, deadline_ns: int, generation: int) -> None:
        """Write every lease, the lowest level first: what falls, falls before others rise."""
        words = self._words
        self._deadline_ns = deadline_ns & ~0xFF
        for level, slots in enumerate(self._slots_by_level):
            word = _lease_word(self._deadline_ns, level)
            # Not one strided assignment, fast as it is: that leaves the size of each store
            # to the C library's memcpy.
            for slot in slots:
                words[slot] = word
        words[GENERATION_WORD] = generation


def _lease_word(deadline_ns: int, level: int) -> int:
    return deadline_ns | level if deadline_ns and level else 0


def _make_directory(path: Path) -> None:
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o755)  # whatever the umask: bots of other users read the gate


def _take_lock(path: Path) -> int:
    """Hold the gate at the path until the returned descriptor is closed."""
    beside = path.with_name(f".{path.name}.lock")
    # It is never removed: a second file of this name could be locked beside the first.
    lock = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode(errors="replace") or "unknown"
        os.close(lock)
        raise GateInUse(f"gate {path} is in use by another riskmon (process {holder})") from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _shut_old(path: Path) -> None:
    """Zero the leases of the gate that is at the path, so that its readers look for the new."""
    try:
        # A link is not followed: renaming will replace the link, not what it points to.
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno == errno.ELOOP:
            return
        raise
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


def _allocate(path: Path, records: int) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # Pages that are only promised would kill the writer when the memory runs out.
        os.posix_fallocate(descriptor, 0, records * RECORD_BYTES)
        os.fchmod(descriptor, 0o644)
        return mmap.mmap(descriptor, records * RECORD_BYTES)
    finally:
        os.close(descriptor)
