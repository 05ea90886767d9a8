"""The gate: permission to trade, as leases in a memory-mapped file.

The file is an array of 64-byte records of little-endian u64 words.

    record 0   0  the bytes RISKMON\\x01
               1  layout version, 1; written last, 0 until the file is ready
               2  the first 8 bytes of the 16-byte boot id
               3  sidecar epoch
               4  record count: records in use, record 0 among them
               5  longest lease, ns
               6  generation
               7  0
    record k   0  lease word: a deadline on CLOCK_BOOTTIME in ns, its low byte a `Level`
             1-7  the scope's name, UTF-8, zero-padded

Record 1 is `account`. A file for n scopes has n + 1 records from its creation, and never
shrinks, because an access to a mapped page beyond the end of the file kills the reader
(SIGBUS). Records never move. A new start zeroes the leases of the old file and renames a new
file into its place; a reader whose lease has expired opens the path again.

A reader accepts only a file that no user but the sidecar's can have written: the directory
belongs to the sidecar's user or to root, the file to the sidecar's user, neither is a link, and
group and others can write neither (`require_own`). The checks use the opened descriptors and not
the path, so a file that is renamed between check and use cannot bypass them. The parents of the
directory are not checked.

Each word is stored and loaded atomically, by `memoryview.cast("Q")`: it copies eight aligned
bytes at once. `struct.pack_into` with a byte order stores byte by byte, so readers can observe
half of a word.

`Gate` in this module reads the file, `riskmon.gate_writer` writes it. Bots import this module, so
it imports only the standard library.
"""

from __future__ import annotations

import errno
import mmap
import os
import pwd
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Final

ACCOUNT: Final = "account"
NAME_BYTES_MAX: Final = 56
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - not a temporary file

RECORD_BYTES: Final = 64
RECORD_WORDS: Final = 8
MAGIC: Final = int.from_bytes(b"RISKMON\x01", "little")
LAYOUT_VERSION: Final = 1

# The words of record 0 that have a name of their own.
VERSION_WORD: Final = 1
BOOT_WORD: Final = 2
EPOCH_WORD: Final = 3
COUNT_WORD: Final = 4
LONGEST_WORD: Final = 5
GENERATION_WORD: Final = 6

# For a scope without a record the magic is read instead: its low byte is not a level, so the
# result is halt.
_NO_RECORD = 0

_OPEN_EVERY_NS = 50_000_000
_NO_USER = 2**32 - 1  # (uid_t)-1
_HALT, _ALLOW = 0, 3


class Level(IntEnum):
    """The permission in a scope. The lowest of several scopes applies."""

    HALT = 0
    REDUCE_ONLY = 1
    PROBE = 2
    ALLOW = 3


class NotOwn(Exception):
    """A gate's directory or file can be written by another user; the message names it."""


def user_number(owner: str | int | None = None) -> int:
    """Return the number of a user, given by name or number; by default that of this process.

    In a user namespace the number differs from that of the host. Raises ValueError for a name
    that has no passwd entry, and for a number that no user can have.
    """
    if owner is None:
        number = os.geteuid()
    elif isinstance(owner, int) or owner.isdecimal():
        number = int(owner)
    else:
        try:
            number = pwd.getpwnam(owner).pw_uid
        except KeyError:
            raise ValueError(
                f"owner {owner!r} has no passwd entry here: use the number of the sidecar's user"
            ) from None
    if not 0 <= number < _NO_USER:
        raise ValueError(f"owner {owner!r} is not the number of a user")
    return number


def _require_one_user(number: int) -> None:
    """Raise ValueError for the number that represents all users outside of this namespace."""
    try:
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
        ranges = Path("/proc/self/uid_map").read_text("ascii").splitlines()
    except OSError:
        return
    if number == overflow and sum(int(line.split()[2]) for line in ranges) < _NO_USER:
        raise ValueError(
            f"user {number} represents all users that this user namespace does not map: map"
            " the sidecar's user into it, and use its number there as owner"
        )


def gate_path(name_or_path: str | os.PathLike[str], owner: str | int | None = None) -> Path:
    """Return the path of a gate: `/dev/shm/riskmon-UID/NAME.gate` for the name of an account.

    UID is the number of the sidecar's user: `owner`, by default the user of this process. A
    string that contains a slash, and any path object, is a path already.
    """
    if isinstance(name_or_path, str) and "/" not in name_or_path:
        return _SHARED_MEMORY / f"riskmon-{user_number(owner)}" / f"{name_or_path}.gate"
    return Path(name_or_path)


def require_own(found: os.stat_result, path: Path, *users: int) -> None:
    """Raise NotOwn unless one of these users owns an opened file and only its owner can write it.

    An ACL that permits others to write sets the group's bits of the mode.
    """
    if found.st_uid not in users:
        names = " or ".join("root" if user == 0 else f"user {user}" for user in users)
        raise NotOwn(f"{path} belongs to user {found.st_uid}, not to {names}")
    if found.st_mode & 0o022:
        mode = stat.S_IMODE(found.st_mode)
        raise NotOwn(f"group or others can write {path} (mode {mode:04o})")


def open_directory(path: Path, user: int) -> int:
    """Open a gate's directory, to open files in it by name. Raises NotOwn and OSError."""
    # With O_PATH the directory need not be readable. The last component may not be a link.
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        directory = os.open(path, flags)
    except NotADirectoryError:
        raise NotOwn(f"{path} is a link or not a directory") from None
    try:
        require_own(os.fstat(directory), path, *dict.fromkeys((user, 0)))
    except BaseException:
        os.close(directory)
        raise
    return directory


def open_file(directory: int, path: Path, user: int, flags: int = os.O_RDONLY) -> int:
    """Open a gate's file in its opened directory. Raises NotOwn and OSError."""
    # O_NONBLOCK, because opening a FIFO would block.
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(path.name, flags, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotOwn(f"{path} is a link") from None
        raise
    try:
        require_own(os.fstat(file), path, user)
    except BaseException:
        os.close(file)
        raise
    return file


def require_machine() -> None:
    """Raise RuntimeError on a machine without atomic u64 stores, little-endian, or Linux."""
    if sys.byteorder != "little" or sys.maxsize < 2**63 - 1 or sys.platform != "linux":
        raise RuntimeError(
            "the riskmon gate needs 64-bit little-endian Linux, for atomic u64 stores and"
            f" CLOCK_BOOTTIME; this machine is {sys.byteorder}-endian {sys.platform}"
        )


def boot_word() -> int:
    """Return the first 8 bytes of the boot id as a word. Raises OSError without /proc."""
    text = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
    return int.from_bytes(bytes.fromhex(text.strip().replace("-", ""))[:8], "little")


class _View:
    """One gate file, mapped for reading. A newer file at the path gets its own view."""

    __slots__ = ("_indexed", "_map", "identity", "longest_ns", "slots", "words")

    def __init__(self, file: mmap.mmap, identity: tuple[int, int]) -> None:
        self._map = file
        self.words = memoryview(file)[: len(file) // 8 * 8].cast("Q")
        self.identity = identity
        self.longest_ns = self.words[LONGEST_WORD]
        self.slots: dict[str, int] = {}
        self._indexed = 1
        self.index()

    def index(self) -> None:
        """Add the records that were appended since the last call to the index."""
        count = self.words[COUNT_WORD]
        if count * RECORD_BYTES > len(self._map):
            return
        for record in range(self._indexed, count):
            name = self._map[record * RECORD_BYTES + 8 : (record + 1) * RECORD_BYTES]
            try:
                scope = name.rstrip(b"\0").decode()
            except UnicodeDecodeError:
                continue
            self.slots.setdefault(scope, record * RECORD_WORDS)
        self._indexed = max(self._indexed, count)

    def slot(self, scope: str) -> int:
        """Return the index of the scope's lease word, or `_NO_RECORD`."""
        if scope not in self.slots and self.words[COUNT_WORD] > self._indexed:
            self.index()
        return self.slots.get(scope, _NO_RECORD)

    def lowest(self, scopes: tuple[str, ...]) -> int:
        """Return the lowest level of the scopes.

        The clock is read after the words, so that a reader that is suspended between the two does
        not accept a lease that has expired.
        """
        try:
            words = [self.words[self.slot(scope)] for scope in scopes]
        except ValueError:  # released by another thread's close()
            return _HALT
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        lowest = _ALLOW
        for word in words:
            level = word & 0xFF
            if level > _ALLOW or not 0 < word - now_ns <= self.longest_ns:
                return _HALT
            if level < lowest:  # noqa: PLR1730 - min() would take a third of the whole check
                lowest = level
        return lowest

    def release(self) -> None:
        self.words.release()
        self._map.close()


def _identity(file: os.stat_result) -> tuple[int, int]:
    return file.st_dev, file.st_ino


@contextmanager
def _opened(path: Path, user: int) -> Iterator[int]:
    """Open the file at the path, and close it at the end of the block. Raises NotOwn, OSError."""
    directory = open_directory(path.parent, user)
    try:
        file = open_file(directory, path, user)
    finally:
        os.close(directory)
    try:
        yield file
    finally:
        os.close(file)


def _map(descriptor: int, path: Path) -> _View:
    """Map the file. Raises ValueError unless it is a ready gate of this boot, and OSError."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is not a regular file")
    if found.st_size < 2 * RECORD_BYTES:
        raise ValueError(f"{path} is too short for a gate ({found.st_size} bytes)")
    file = mmap.mmap(descriptor, found.st_size, access=mmap.ACCESS_READ)
    if not _is_valid(file):
        raise ValueError(f"{path} is not a ready gate of this boot")
    return _View(file, _identity(found))


def _is_valid(file: mmap.mmap) -> bool:
    with memoryview(file)[: 2 * RECORD_BYTES] as head, head.cast("Q") as words:
        return (
            words[VERSION_WORD] == LAYOUT_VERSION
            and words[0] == MAGIC
            and words[BOOT_WORD] == boot_word()
            and 2 * RECORD_BYTES <= words[COUNT_WORD] * RECORD_BYTES <= len(file)
            and head[RECORD_BYTES + 8 :] == ACCOUNT.encode().ljust(NAME_BYTES_MAX, b"\0")
        )


def _scopes(venue: str | None, symbol: str | None, strategy: str | None) -> tuple[str, ...]:
    scopes = []
    if venue is not None:
        scopes.append(f"venue:{venue}")
    if symbol is not None:
        scopes.append(f"symbol:{symbol}")
    if strategy is not None:
        scopes.append(f"strategy:{strategy}")
    return tuple(scopes) or (ACCOUNT,)


class Gate:
    """The reader of a gate: returns whether trading is allowed. Threads may share one.

    Scopes are named without their kind: `venue="kraken"`. Without a scope the account applies;
    the sidecar includes its level in every other scope. `Level.HALT` is returned, and no
    exception raised, for a missing or expired file, a file that another user can have written,
    a file of an earlier boot, and a scope without a record.
    """

    def __init__(self, path: Path, user: int) -> None:
        require_machine()
        self.path = path
        self._user = user
        self._fault: str | None = None
        self._closed = False
        self._next_open_ns = 0
        self._view: _View | None = None
        self._renew_view()

    @classmethod
    def open(cls, name_or_path: str | os.PathLike[str], *, owner: str | int | None = None) -> Gate:
        """Open the gate of an account by its name, or by a path, which contains a slash.

        `owner` is the sidecar's user, a name or a number, when that is not the user of this
        process. The file need not exist yet; while it is missing, all levels are halt. Raises
        ValueError for an owner that is not one user here, RuntimeError on an unsupported machine.
        """
        user = user_number(owner)
        _require_one_user(user)
        return cls(gate_path(name_or_path, user), user)

    @property
    def fault(self) -> str | None:
        """The fault that was found when the path was last opened, in one sentence.

        None when a gate was found; its lease may have expired since.
        """
        return self._fault

    def allows(
        self, *, venue: str | None = None, symbol: str | None = None, strategy: str | None = None
    ) -> bool:
        """Whether an order may be sent now: all given scopes are at `Level.ALLOW`."""
        return self._lowest(_scopes(venue, symbol, strategy)) == _ALLOW

    def level(
        self, *, venue: str | None = None, symbol: str | None = None, strategy: str | None = None
    ) -> Level:
        """Return the current level: the lowest of the given scopes."""
        return Level(self._lowest(_scopes(venue, symbol, strategy)))

    def watch(
        self, *, venue: str | None = None, symbol: str | None = None, strategy: str | None = None
    ) -> Callable[[], bool]:
        """Return `allows` as a callable for the hot path, which keeps the indices of its words."""
        scopes = _scopes(venue, symbol, strategy)
        clock_ns, boottime = time.clock_gettime_ns, time.CLOCK_BOOTTIME
        # One tuple, so that no thread combines the words of one file with the indices of another.
        bound = self._bind(scopes)

        def recheck() -> bool:
            nonlocal bound
            allowed = self._lowest(scopes) == _ALLOW
            bound = self._bind(scopes)
            return allowed

        def allows_one() -> bool:
            words, slot, _, _, longest_ns = bound
            try:
                word = words[slot]
            except ValueError:  # released by close()
                return False
            if word & 0xFF == _ALLOW and 0 < word - clock_ns(boottime) <= longest_ns:
                return True
            return recheck()

        def allows_all() -> bool:
            words, first, second, third, longest_ns = bound
            try:
                word = words[first]
                same = word == words[second] and word == words[third]
            except ValueError:  # released by close()
                return False
            # Between renewals all leases at `ALLOW` are the same word; `recheck` does the rest.
            if same and word & 0xFF == _ALLOW and 0 < word - clock_ns(boottime) <= longest_ns:
                return True
            return recheck()

        return allows_one if len(scopes) == 1 else allows_all

    def close(self) -> None:
        """Unmap the file. All later levels are halt, also those of `watch`."""
        self._closed = True
        view, self._view = self._view, None
        if view is not None:
            view.release()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _lowest(self, scopes: tuple[str, ...]) -> int:
        view = self._view
        level = view.lowest(scopes) if view is not None else _HALT
        if level == _HALT and self._renew_view():
            view = self._view
            level = view.lowest(scopes) if view is not None else _HALT
        return level

    def _renew_view(self) -> bool:
        """Open and check the path again. Return whether there is another file."""
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if self._closed or now_ns < self._next_open_ns:
            return False
        self._next_open_ns = now_ns + _OPEN_EVERY_NS
        old = self._view
        # The old view is not released: threads may be reading it. It is unmapped with its last
        # reference.
        self._view, self._fault = self._open_view(old)
        if self._closed:  # another thread closed the gate meanwhile
            self.close()
        return self._view is not None and self._view is not old

    def _open_view(self, old: _View | None) -> tuple[_View | None, str | None]:
        """Map the file at the path. Return the view, or None and the fault."""
        try:
            with _opened(self.path, self._user) as descriptor:
                if old is not None and _identity(os.fstat(descriptor)) == old.identity:
                    return old, None
                return _map(descriptor, self.path), None
        except FileNotFoundError:
            return None, f"there is no file {self.path}"
        except OSError as error:
            return None, f"cannot open {self.path}: {error.strerror}"
        except (NotOwn, ValueError) as error:
            return None, str(error)

    def _bind(self, scopes: tuple[str, ...]) -> tuple[memoryview[int], int, int, int, int]:
        view = self._view
        try:
            if view is not None:
                slots = [view.slot(scope) for scope in scopes]
                return view.words, slots[0], slots[len(slots) // 2], slots[-1], view.longest_ns
        except ValueError:  # released by close()
            pass
        return _NOTHING, 0, 0, 0, 0


_NOTHING = memoryview(bytes(8)).cast("Q")
