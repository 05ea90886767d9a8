"""The gate file from both sides: its bytes, its leases, and its readers."""

from __future__ import annotations

import mmap
import os
import stat
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import riskmon
from riskmon import Gate
from riskmon.gate import Level, gate_path
from riskmon.gate_writer import GateFull, GateInUse, GateWriter
from riskmon.system.permissions import Unsafe
from tests.support import ROOT
from tests.support.waiting import eventually

LONGEST_NS = 3_600_000_000_000
HOUR_NS = LONGEST_NS
BOOT_ID = bytes.fromhex(
    Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().replace("-", "")
)


def now_ns() -> int:
    """Return the gate's clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def soon_ns() -> int:
    """Return a deadline within the longest lease that no test reaches."""
    return now_ns() + LONGEST_NS // 2


def create(path: Path, max_scopes: int = 8, epoch: int = 1) -> GateWriter:
    """Create a gate file with the longest lease of the tests."""
    return GateWriter.create(path, max_scopes=max_scopes, longest_lease_ns=LONGEST_NS, epoch=epoch)


def names_beside(path: Path) -> list[str]:
    """List the directory of the path, without the lock."""
    names = {entry.name for entry in path.parent.iterdir()}
    return sorted(names - {f".{path.name}.lock"})


def word_of(path: Path, record: int) -> int:
    """Read the lease word of a record with plain file reads."""
    word: int = struct.unpack_from("<Q", path.read_bytes(), record * 64)[0]
    return word


def record(word: int, name: bytes) -> bytes:
    """Encode one record by hand."""
    return struct.pack("<Q56s", word, name)


def header(
    count: int,
    *,
    magic: bytes = b"RISKMON\x01",
    version: int = 1,
    boot: bytes = BOOT_ID[:8],
    longest_ns: int = LONGEST_NS,
) -> bytes:
    """Encode record 0 by hand."""
    return struct.pack("<8sQ8sQQQQQ", magic, version, boot, 7, count, longest_ns, 0, 0)


@pytest.fixture(autouse=True)
def files_of_one_writer() -> Iterator[None]:
    """Create files that group and others cannot write, whatever the umask of the machine."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a gate that does not exist yet."""
    return tmp_path / "main.gate"


@pytest.fixture
def file(path: Path) -> Iterator[GateWriter]:
    """A gate file with a venue, a symbol and a strategy."""
    made = create(path)
    for scope in ("venue:kraken", "symbol:BTC/USDT", "strategy:mm1"):
        made.add(scope)
    yield made
    made.close()


# -- the bytes ------------------------------------------------------------------------------


def test_layout_byte_for_byte(path: Path) -> None:
    """Header, lease words and names are at the documented offsets."""
    file = GateWriter.create(path, max_scopes=3, longest_lease_ns=500_000_000, epoch=0xABCDEF)
    file.add("venue:kraken")
    file.renew(0x1122334455667788, {"venue:kraken": 1}, 42)
    head = struct.pack("<8sQ", b"RISKMON\x01", 1) + BOOT_ID[:8]
    head += struct.pack("<QQQQQ", 0xABCDEF, 3, 500_000_000, 42, 0)
    assert path.read_bytes() == (
        head
        + struct.pack("<Q", 0x1122334455667703) + b"account".ljust(56, b"\0")
        + struct.pack("<Q", 0x1122334455667701) + b"venue:kraken".ljust(56, b"\0")
        + bytes(64)
    )  # fmt: skip
    file.close()


def test_file_has_its_full_size_from_the_start(path: Path) -> None:
    """All pages are allocated at the start; neither new scopes nor the end change the size."""
    file = create(path, max_scopes=1000)
    size = path.stat().st_size
    assert size == 64 * 1001
    assert path.stat().st_blocks * 512 >= size
    for index in range(999):
        file.add(f"venue:{index}")
    with pytest.raises(GateFull, match=r"1000 scopes.*raise max_scopes"):
        file.add("venue:one-too-many")
    file.close()
    assert path.stat().st_size == size


def test_records_never_move(path: Path, file: GateWriter) -> None:
    """A scope keeps its record and its lease when others are added."""
    file.renew(soon_ns(), {}, 1)
    before = path.read_bytes()[64 : 64 * 5]
    file.add("venue:mexc")
    file.add("venue:kraken")
    content = path.read_bytes()
    assert content[64 : 64 * 5] == before
    assert content[64 * 5 :] == record(0, b"venue:mexc") + bytes(64 * 3)
    assert struct.unpack_from("<Q", content, 32) == (6,)


def test_everybody_may_read(tmp_path: Path) -> None:
    """File and new directory are readable for bots of other users, whatever the umask."""
    path = tmp_path / "new" / "main.gate"
    old = os.umask(0o077)
    try:
        create(path).close()
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("scope", "fits"),
    [
        ("venue:" + "k" * 47, True),
        ("k" * 56, True),
        ("k" * 57, False),
        ("é" * 28, True),
        ("é" * 28 + "k", False),
        ("", False),
        ("venue:\0", False),
    ],
)
def test_names_have_up_to_56_bytes(path: Path, scope: str, fits: bool) -> None:
    """A name is measured in bytes of UTF-8, and one that does not fit changes nothing."""
    with closing(create(path)) as file:
        before = path.read_bytes()
        if fits:
            file.add(scope)
            assert path.read_bytes()[64 * 2 : 64 * 3] == record(0, scope.encode())
        else:
            with pytest.raises(ValueError, match="does not fit into the gate"):
                file.add(scope)
            assert path.read_bytes() == before


# -- a new start ----------------------------------------------------------------------------


def test_new_start_shuts_the_old_file_and_renames_a_new_one(path: Path, file: GateWriter) -> None:
    """A reader of the old file reads zeros; the path has a new file."""
    file.renew(soon_ns(), {}, 1)
    file.close(zero=False)  # as a killed process leaves it
    with path.open("rb") as old:
        create(path, epoch=2).close()
        content = old.read()
        assert os.fstat(old.fileno()).st_ino != path.stat().st_ino
    assert [struct.unpack_from("<Q", content, 64 * k)[0] for k in range(1, 5)] == [0, 0, 0, 0]
    assert content[64 + 8 : 64 + 15] == b"account"
    assert names_beside(path) == ["main.gate"]


@pytest.mark.parametrize(
    "garbage", [b"", b"short", bytes(64), b"x" * 1000, b"RISKMON\x01" + b"\xff" * 333]
)
def test_new_start_replaces_garbage(path: Path, garbage: bytes) -> None:
    """Any file at the path is replaced; one that is not a gate is not written."""
    path.write_bytes(garbage)
    with path.open("rb") as old:
        create(path).close()
        left = old.read()
    assert len(left) == len(garbage)
    if not garbage.startswith(b"RISKMON\x01"):
        assert left == garbage
    assert path.read_bytes()[:8] == b"RISKMON\x01"


def test_new_start_refuses_a_link_and_leaves_its_target(path: Path, tmp_path: Path) -> None:
    """A link at the path cannot make the sidecar write elsewhere."""
    target = tmp_path / "precious"
    target.write_bytes(b"RISKMON\x01" + b"\xff" * 120)
    path.symlink_to(target)
    with pytest.raises(Unsafe, match=r"main\.gate is a link: remove it \(`rm .*main\.gate`"):
        create(path)
    assert target.read_bytes() == b"RISKMON\x01" + b"\xff" * 120


def test_a_new_start_removes_the_temporary_file_of_a_killed_one(path: Path) -> None:
    """The temporary file of a start that was killed is removed."""
    path.with_name(".main.gate.new").write_bytes(b"half")
    create(path).close()
    assert names_beside(path) == ["main.gate"]


def test_one_writer_at_a_time(path: Path, file: GateWriter) -> None:
    """A second start is refused with the gate and the process that uses it, and zeroes nothing.

    It succeeds once the first has closed, or failed to create its file.
    """
    file.renew(soon_ns(), {}, 1)
    before = path.read_bytes()
    for same in (path, path.parent / ".." / path.parent.name / path.name):
        with pytest.raises(GateInUse, match=rf"main\.gate is in use.*process {os.getpid()}\)"):
            create(same)
    assert path.read_bytes() == before
    file.close()
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        create(path)
    path.rmdir()
    create(path).close()


def test_a_gate_that_cannot_be_made_is_named(path: Path) -> None:
    """The error contains the reason and the path, and no file is left."""
    path.mkdir()
    with pytest.raises(OSError, match=r"cannot create the gate file: Is a directory.*main\.gate"):
        create(path)
    assert names_beside(path) == ["main.gate"]


def test_max_scopes_has_room_for_the_account(path: Path) -> None:
    """A gate needs a record for the account."""
    create(path, max_scopes=1).close()
    with pytest.raises(ValueError, match="max_scopes is 0"):
        create(path, max_scopes=0)


def test_other_machines_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A big-endian machine is refused, for writing and for reading."""
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(RuntimeError, match=r"little-endian Linux.*big-endian"):
        create(path)
    with pytest.raises(RuntimeError, match=r"little-endian Linux.*big-endian"):
        Gate.open(path)


# -- leases, as the sidecar writes them -------------------------------------------------------


@pytest.mark.parametrize("own", list(Level))
@pytest.mark.parametrize("account", list(Level))
def test_account_is_folded_into_every_scope(
    path: Path, file: GateWriter, own: Level, account: Level
) -> None:
    """No scope is above the account, and a scope does not lower the account."""
    file.renew(soon_ns(), {"account": account, "venue:kraken": own}, 1)
    with Gate.open(path) as gate:
        assert gate.level() == account
        assert gate.level(venue="kraken") == min(own, account)
        assert gate.level(symbol="BTC/USDT") == account


@pytest.mark.parametrize("level", list(Level))
def test_a_lease_word_is_a_deadline_and_a_level(path: Path, file: GateWriter, level: Level) -> None:
    """The level replaces the low byte of the deadline; halt is a word of zero."""
    file.renew(0x0000_1234_5678_9AFF, {"account": level}, 1)
    assert word_of(path, 1) == (0x0000_1234_5678_9A00 | level if level else 0)


def test_nothing_is_open_before_the_first_renewal(path: Path, file: GateWriter) -> None:
    """A new file, and a new scope in an old one, are shut until the next renewal."""
    with Gate.open(path) as gate:
        assert gate.level() == Level.HALT
        file.renew(soon_ns(), {}, 1)
        assert gate.allows(venue="kraken")
        file.add("venue:mexc")
        assert gate.level(venue="mexc") == Level.HALT
        file.renew(soon_ns(), {}, 1)
        assert gate.allows(venue="mexc")


def test_renewal_follows_levels_changed_in_place(path: Path, file: GateWriter) -> None:
    """The caller may reuse and change one mapping."""
    levels: dict[str, int] = {}
    with Gate.open(path) as gate:
        for level in (3, 1, 2, 0, 3):
            levels["venue:kraken"] = level
            file.renew(soon_ns(), levels, 1)
            assert gate.level(venue="kraken") == level


def test_tighten_lowers_at_once_and_keeps_the_deadline(path: Path, file: GateWriter) -> None:
    """A tightening shuts its scope without a renewal, and changes no other scope."""
    file.renew(soon_ns(), {}, 1)
    before = word_of(path, 2)
    file.tighten({"venue:kraken": 1, "symbol:BTC/USDT": 0}, 2)
    assert [word_of(path, k) for k in (1, 2, 3, 4)] == [before, before - 2, 0, before]
    assert struct.unpack_from("<Q", path.read_bytes(), 48) == (2,)


def test_tighten_never_loosens(path: Path, file: GateWriter) -> None:
    """Only a renewal raises a level; a tightening with a higher level does not."""
    file.renew(soon_ns(), {"venue:kraken": 1, "account": 2}, 1)
    before = path.read_bytes()[64:]
    file.tighten({"venue:kraken": 3, "account": 3, "strategy:mm1": 3, "venue:new": 0}, 1)
    assert path.read_bytes()[64:] == before
    file.renew(soon_ns(), {"venue:kraken": 3, "account": 3}, 2)
    with Gate.open(path) as gate:
        assert gate.allows(venue="kraken", symbol="BTC/USDT", strategy="mm1")


def test_renewal_with_the_tightened_levels_keeps_them(path: Path, file: GateWriter) -> None:
    """The next renewal moves the deadline and does not open a scope that was lowered."""
    file.renew(soon_ns(), {}, 1)
    file.tighten({"venue:kraken": 1}, 2)
    file.renew(soon_ns(), {"venue:kraken": 1}, 2)
    with Gate.open(path) as gate:
        assert gate.level(venue="kraken") == Level.REDUCE_ONLY


def test_tighten_before_any_renewal_opens_nothing(path: Path, file: GateWriter) -> None:
    """Without a deadline a tightening creates no lease."""
    file.tighten({"account": 1, "venue:kraken": 2}, 1)
    assert [word_of(path, k) for k in (1, 2, 3, 4)] == [0, 0, 0, 0]


@pytest.mark.parametrize("level", [-1, 4, 255])
def test_an_invalid_level_is_refused(path: Path, file: GateWriter, level: int) -> None:
    """An invalid level raises and writes nothing."""
    file.renew(soon_ns(), {}, 1)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"{level}, for scope 'venue:kraken', is not a level"):
        file.renew(soon_ns(), {"venue:kraken": level}, 2)
    assert path.read_bytes() == before


def test_shut_zeroes_and_a_renewal_opens_again(path: Path, file: GateWriter) -> None:
    """Shutting zeroes all leases, and the next renewal opens again."""
    file.renew(soon_ns(), {}, 1)
    file.shut()
    assert [word_of(path, k) for k in (1, 2, 3, 4)] == [0, 0, 0, 0]
    file.tighten({"venue:kraken": 1}, 2)
    assert word_of(path, 2) == 0
    file.renew(soon_ns(), {}, 3)
    with Gate.open(path) as gate:
        assert gate.allows(venue="kraken")


@pytest.mark.parametrize("zero", [True, False])
def test_close_shuts_and_leaves_the_file(path: Path, zero: bool) -> None:
    """An orderly end zeroes the leases, unless `zero` is false."""
    file = create(path)
    file.renew(soon_ns(), {}, 1)
    file.close(zero=zero)
    file.close()
    assert (word_of(path, 1) == 0) is zero


SCOPES = ["account", "venue:a", "venue:b", "symbol:c", "symbol:not-added"]
LEVELS = st.dictionaries(st.sampled_from(SCOPES), st.integers(0, 3))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["renew", "tighten"]), LEVELS), max_size=12))
def test_any_history_gives_the_folded_levels(history: list[tuple[str, dict[str, int]]]) -> None:
    """After any sequence of renewals and tightenings the words are those of a simple model."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "g"
        file = create(path)
        for scope in SCOPES[1:4]:
            file.add(scope)
        model, deadline = dict.fromkeys(SCOPES, 3), 0
        for step, (action, levels) in enumerate(history, 1):
            if action == "renew":
                model, deadline = dict.fromkeys(SCOPES, 3) | levels, step << 40
                file.renew(deadline, levels, step)
            else:
                model = {s: min(level, levels.get(s, 3)) for s, level in model.items()}
                file.tighten(levels, step)
            folded = [min(model[s], model["account"]) for s in SCOPES[:4]]
            expected = [deadline | level if deadline and level else 0 for level in folded]
            assert [word_of(path, k) for k in range(1, 5)] == expected
        file.close()


# -- what a reader takes from the file --------------------------------------------------------

LEASES = {
    "allow": (HOUR_NS // 2, 3, Level.ALLOW),
    "probe": (HOUR_NS // 2, 2, Level.PROBE),
    "reduce only": (HOUR_NS // 2, 1, Level.REDUCE_ONLY),
    "halt with a deadline": (HOUR_NS // 2, 0, Level.HALT),
    "no such level": (HOUR_NS // 2, 4, Level.HALT),
    "bits of allow in another level": (HOUR_NS // 2, 0x83, Level.HALT),
    "expired": (-1_000, 3, Level.HALT),
    "expired long ago": (-HOUR_NS, 3, Level.HALT),
    "further away than the longest lease": (2 * HOUR_NS, 3, Level.HALT),
}


@pytest.mark.parametrize("case", LEASES)
def test_lease_words(path: Path, case: str) -> None:
    """Only a deadline within the longest lease and level 3 allow an order."""
    offset_ns, level, expected = LEASES[case]
    word = max(now_ns() + offset_ns, 0x100) & ~0xFF | level
    good = now_ns() + HOUR_NS // 2 & ~0xFF | 3
    path.write_bytes(
        header(4) + record(good, b"account") + record(word, b"venue:a") + record(good, b"venue:b")
    )
    with Gate.open(path) as gate:
        assert gate.level(venue="a") is expected
        assert gate.allows(venue="a") is (expected == Level.ALLOW)
        assert gate.watch(venue="a")() is (expected == Level.ALLOW)
        assert gate.allows(venue="b")
        assert gate.allows()


def test_a_deadline_of_zero_and_of_all_ones_are_halt(path: Path) -> None:
    """The extreme values of a word open nothing."""
    for word in (0, 3, 2**64 - 1, 2**64 - 0xFD):
        path.write_bytes(header(2, longest_ns=2**63) + record(word, b"account"))
        with Gate.open(path) as gate:
            assert not gate.allows()


@pytest.mark.parametrize(
    ("asked", "level"),
    [
        ({}, 3),
        ({"venue": "kraken"}, 3),
        ({"venue": "kraken", "symbol": "BTC/USDT"}, 2),
        ({"symbol": "BTC/USDT", "strategy": "mm1"}, 1),
        ({"venue": "kraken", "symbol": "BTC/USDT", "strategy": "mm1"}, 1),
        ({"venue": "mexc"}, 0),
        ({"venue": "mexc", "symbol": "BTC/USDT"}, 0),
        ({"venue": ""}, 0),
        ({"venue": "BTC/USDT"}, 0),
        ({"strategy": "\ud800"}, 0),
        ({"strategy": "x" * 100}, 0),
    ],
)
def test_the_lowest_of_the_scopes_asked(
    path: Path, file: GateWriter, asked: dict[str, str], level: int
) -> None:
    """Each given scope counts, and one without a record halts."""
    file.renew(soon_ns(), {"symbol:BTC/USDT": 2, "strategy:mm1": 1}, 1)
    with Gate.open(path) as gate:
        assert gate.level(**asked) == level
        assert gate.allows(**asked) is (level == 3)
        assert gate.watch(**asked)() is (level == 3)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_watch_follows_each_of_its_scopes(path: Path, file: GateWriter, count: int) -> None:
    """A watcher always returns the same as `allows`, for any number of scopes."""
    asked = dict([("venue", "kraken"), ("symbol", "BTC/USDT"), ("strategy", "mm1")][:count])
    with Gate.open(path) as gate:
        allowed = gate.watch(**asked)
        for kind, name in asked.items():
            file.renew(soon_ns(), {}, 1)
            assert allowed()
            file.tighten({f"{kind}:{name}": 2}, 1)
            assert not allowed()
        file.renew(soon_ns(), {}, 2)
        assert allowed()
        file.tighten({"account": 0}, 3)
        assert not allowed()


def test_watch_accepts_leases_of_two_renewals(path: Path) -> None:
    """Leases of two renewals are not a halt: each word is checked separately."""
    early, late = (now_ns() + part * HOUR_NS // 4 & ~0xFF | 3 for part in (1, 2))
    path.write_bytes(
        header(4) + record(late, b"account") + record(late, b"venue:a") + record(early, b"symbol:b")
    )
    with Gate.open(path) as gate:
        assert gate.watch(venue="a", symbol="b")()


def test_names_that_are_not_utf8_are_passed_over(path: Path) -> None:
    """A record with an invalid name does not hide the ones after it."""
    word = soon_ns() & ~0xFF | 3
    path.write_bytes(
        header(4)
        + record(word, b"account") + record(word, b"venue:\xff\xfe") + record(word, b"venue:b")
    )  # fmt: skip
    with Gate.open(path) as gate:
        assert gate.allows(venue="b")
        assert not gate.allows(venue="\udcff\udcfe")


def test_a_scope_is_found_as_soon_as_it_has_a_record(path: Path, file: GateWriter) -> None:
    """New records of a live file are found by open gates and watchers."""
    file.renew(soon_ns(), {}, 1)
    with Gate.open(path) as gate:
        allowed = gate.watch(venue="mexc")
        assert not allowed()
        assert not gate.allows(venue="mexc")
        file.add("venue:mexc")
        file.renew(soon_ns(), {}, 1)
        assert gate.allows(venue="mexc")
        assert allowed()


GOOD = record(2**62 | 3, b"account")
UNREADABLE = {
    "empty": b"",
    "shorter than two records": (header(2, longest_ns=2**63) + GOOD)[:127],
    "zeroed": bytes(640),
    "not ready": header(2, version=0, longest_ns=2**63) + GOOD,
    "a later layout": header(2, version=2, longest_ns=2**63) + GOOD,
    "another magic": header(2, magic=b"RISKMON\x02", longest_ns=2**63) + GOOD,
    "another boot": header(2, boot=BOOT_ID[8:], longest_ns=2**63) + GOOD,
    "more records than bytes": header(3, longest_ns=2**63) + GOOD,
    "absurdly many records": header(2**64 - 1, longest_ns=2**63) + GOOD,
    "no records": header(0, longest_ns=2**63) + GOOD,
    "record 1 not the account": header(2, longest_ns=2**63) + record(2**62 | 3, b"venue:a"),
    "no lease is short enough": header(2, longest_ns=0) + GOOD,
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_is_no_ready_gate_is_halt(path: Path, case: str) -> None:
    """No content of a file makes a reader raise or allow trading."""
    path.write_bytes(UNREADABLE[case])
    with Gate.open(path) as gate:
        assert gate.level() is Level.HALT
        assert gate.level(venue="a") is Level.HALT
        assert not gate.watch()()


def test_the_hand_made_files_are_good_but_for_their_fault(path: Path) -> None:
    """The same bytes without the fault open the gate."""
    path.write_bytes(header(2, longest_ns=2**63) + GOOD)
    with Gate.open(path) as gate:
        assert gate.allows()


def test_a_path_that_is_no_file_is_halt(tmp_path: Path) -> None:
    """A missing file, a directory, a FIFO and an impossible path halt without blocking."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "fifo", f"{tmp_path}/a\0b"):
        with Gate.open(path) as gate:
            time.sleep(0.06)
            assert gate.level(venue="a") is Level.HALT


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account's name is its file in shared memory; a slash or a Path is a path."""
    monkeypatch.chdir(tmp_path)
    assert gate_path("main") == Path(f"/dev/shm/riskmon-{os.getuid()}/main.gate")
    assert gate_path("main", 4321) == Path("/dev/shm/riskmon-4321/main.gate")
    assert gate_path("main", "root") == Path("/dev/shm/riskmon-0/main.gate")
    assert gate_path("./main") == Path("main")
    assert gate_path(Path("main")) == Path("main")
    create(Path("main")).close(zero=False)
    for name in ("./main", Path("main"), str(tmp_path / "main")):
        with Gate.open(name) as gate:
            assert gate.path.read_bytes()[:7] == b"RISKMON"


# -- readers that stay while files and processes go -------------------------------------------


def test_a_bot_may_start_first(path: Path) -> None:
    """A gate that is opened without a file finds it once it exists."""
    with Gate.open(path) as gate:
        allowed = gate.watch(venue="kraken")
        assert not gate.allows()
        assert not allowed()
        file = create(path)
        file.add("venue:kraken")
        file.renew(soon_ns(), {}, 1)
        assert eventually(gate.allows)
        assert allowed()
        file.close()


def test_readers_use_a_new_file_with_other_records(path: Path) -> None:
    """After a new start gates and watchers read each scope at its new record."""
    first = create(path)
    for scope in ("venue:a", "venue:b", "venue:c"):
        first.add(scope)
    first.renew(soon_ns(), {}, 1)
    with Gate.open(path) as gate:
        watchers = {name: gate.watch(venue=name) for name in "abc"}
        assert all(allowed() for allowed in watchers.values())
        first.close(zero=False)  # as a killed process leaves it
        second = create(path)
        assert not any(allowed() for allowed in watchers.values())
        second.add("venue:c")
        second.add("venue:a")
        second.renew(soon_ns(), {"venue:a": 1}, 2)
        assert eventually(watchers["c"])
        assert not watchers["a"]()
        assert not watchers["b"]()
        assert gate.level(venue="a") == Level.REDUCE_ONLY
        second.close()


def test_a_removed_file_is_halt_once_its_lease_has_expired(path: Path) -> None:
    """A reader uses the file that it has mapped until the lease expires."""
    file = create(path)
    file.renew(soon_ns(), {}, 1)
    with Gate.open(path) as gate:
        path.unlink()
        assert gate.allows()
        file.renew(now_ns() - 1000, {}, 1)
        assert not gate.allows()
        file.close()
        create(path).close()
        assert not gate.allows()


def test_a_reader_checks_the_file_whenever_it_opens_it(path: Path, file: GateWriter) -> None:
    """A file that group or others can write halts a reader that opens it again, with the reason."""
    file.renew(soon_ns(), {}, 1)
    with Gate.open(path) as gate:
        allowed = gate.watch(venue="kraken")
        assert allowed()
        assert gate.fault is None
        path.chmod(0o666)
        assert allowed()  # a mapped file is not checked again
        time.sleep(0.06)
        file.shut()
        assert not allowed()
        file.renew(soon_ns(), {}, 1)
        assert not allowed()
        assert not gate.allows()
        assert gate.fault == f"group or others can write {path} (mode 0666)"
        path.chmod(0o644)
        assert eventually(allowed)
        assert gate.fault is None


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "there is no file {}"),
        (b"short", "{} is too short for a gate (5 bytes)"),
        (bytes(640), "{} is not a ready gate of this boot"),
    ],
)
def test_the_fault_of_a_gate_is_one_sentence(path: Path, content: bytes | None, fault: str) -> None:
    """The fault is one sentence that contains the path."""
    if content is not None:
        path.write_bytes(content)
    with Gate.open(path) as gate:
        assert gate.fault == fault.format(path)


def test_a_gate_is_recreated_with_its_leases(path: Path, file: GateWriter) -> None:
    """`repair` does not change an intact gate; it recreates a lost one with all its words."""
    file.renew(soon_ns(), {"venue:kraken": 1}, 7)
    before, inode = path.read_bytes(), path.stat().st_ino
    assert file.repair() is None
    assert path.stat().st_ino == inode
    with Gate.open(path) as gate:
        path.unlink()
        assert file.repair() == "it is missing"
        assert path.read_bytes() == before
        assert file.repair() is None
        assert eventually(lambda: gate.allows(symbol="BTC/USDT"))
        assert gate.level(venue="kraken") == Level.REDUCE_ONLY
        file.add("venue:mexc")
        file.renew(soon_ns(), {}, 8)
        assert gate.allows(venue="mexc")
        assert gate.allows(venue="kraken")


def test_a_scope_stays_shut_in_a_recreated_file(path: Path, file: GateWriter) -> None:
    """A scope that was lowered or added since the last renewal is not raised in a new file."""
    file.renew(soon_ns(), {}, 1)
    file.tighten({"venue:kraken": 0}, 2)
    file.add("venue:mexc")
    path.unlink()
    assert file.repair() == "it is missing"
    with Gate.open(path) as gate:
        assert not gate.allows(venue="kraken")
        assert not gate.allows(venue="mexc")
        file.renew(soon_ns(), {"venue:kraken": 0}, 3)
        assert gate.allows(venue="mexc")
        assert not gate.allows(venue="kraken")


def test_the_gate_of_another_sidecar_is_not_replaced(path: Path, file: GateWriter) -> None:
    """If another sidecar has started after the loss of the directory, its gate is not replaced."""
    file.renew(soon_ns(), {}, 1)
    for name in (path.name, f".{path.name}.lock"):
        path.with_name(name).unlink()
    with closing(create(path)) as second:
        second.renew(soon_ns(), {}, 1)
        inode = path.stat().st_ino
        with pytest.raises(GateInUse, match=r"main\.gate is in use"):
            file.repair()
        assert path.stat().st_ino == inode


def test_close_halts_gate_and_watchers(path: Path, file: GateWriter) -> None:
    """A closed gate stays shut, with a valid lease at its path."""
    file.renew(soon_ns(), {}, 1)
    gate = Gate.open(path)
    one, two = gate.watch(), gate.watch(venue="kraken", symbol="BTC/USDT")
    assert one()
    assert two()
    gate.close()
    gate.close()
    time.sleep(0.06)
    assert (gate.allows(), gate.level(), one(), two()) == (False, Level.HALT, False, False)
    assert gate.watch()() is False


def run(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python script that can import riskmon, with a pipe from its output."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_an_expired_reader_opens_the_path_at_most_every_50_ms(path: Path) -> None:
    """A bot that checks in a tight loop opens the path at most every 50 ms."""
    script = """
        import sys, time
        from riskmon import Gate
        opened = 0
        def count(event, arguments):
            global opened
            opened += event == "open" and str(arguments[0]) == "main.gate"
        sys.addaudithook(count)
        began = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        gate = Gate.open(sys.argv[1])
        allowed = gate.watch(venue="a")
        while time.clock_gettime_ns(time.CLOCK_BOOTTIME) < began + 220_000_000:
            gate.allows(), allowed()
        print(opened, time.clock_gettime_ns(time.CLOCK_BOOTTIME) - began)
    """
    with run(script, path) as process:
        opened, took_ns = map(int, process.communicate()[0].split())
    assert 2 <= opened <= took_ns // 50_000_000 + 1


WRITER = """
    import sys, time
    from riskmon.gate_writer import GateWriter
    lease_ns = 300_000_000
    file = GateWriter.create(sys.argv[1], max_scopes=4, longest_lease_ns=lease_ns, epoch=1)
    for scope in sys.argv[2:]:
        file.add(scope)
    while True:
        file.renew(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + lease_ns, {}, 1)
        time.sleep(0.02)
"""


@contextmanager
def killed_at_the_end(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill the process with SIGKILL at the end of the block, and wait for it."""
    with process:
        try:
            yield
        finally:
            process.kill()


def test_a_killed_sidecar_halts_its_readers_and_a_new_one_frees_them(path: Path) -> None:
    """After SIGKILL no process writes a zero: the lease expires at its time and not before.

    A new process renames a new file into place, and the same reader uses it.
    """
    with Gate.open(path) as gate:
        allowed = gate.watch(venue="a")
        with killed_at_the_end(run(WRITER, path, "venue:a")):
            assert eventually(allowed)
        left = word_of(path, 2)
        assert left & 0xFF == Level.ALLOW
        assert eventually(lambda: not allowed())
        assert now_ns() >= left & ~0xFF
        assert not gate.allows()
        assert word_of(path, 2) == left
        with killed_at_the_end(run(WRITER, path, "venue:b", "venue:a")):
            assert eventually(allowed)
            assert eventually(lambda: gate.allows(venue="b"))


def test_no_read_is_torn(path: Path) -> None:
    """A reader in another process reads only complete words while all their bytes change.

    It never reads a mixture, nor the zero that a store in pieces shows first.
    """
    script = """
        import sys
        from riskmon.gate_writer import GateWriter
        file = GateWriter.create(sys.argv[1], max_scopes=4, longest_lease_ns=1, epoch=1)
        file.renew(0x1111111111111100, {}, 0)
        print("ready", flush=True)
        levels = {}
        while True:
            file.renew(0x2222222222222200, levels, 2)
            file.renew(0x1111111111111100, levels, 1)
    """
    whole = {0x1111111111111103, 0x2222222222222203}
    process = run(script, path)
    with killed_at_the_end(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with path.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        words = memoryview(mapped).cast("Q")
        seen: set[int] = set()
        rounds = 0
        while rounds < 50 or (not whole <= seen and rounds < 5000):
            seen.update([words[8] for _ in range(10_000)])
            rounds += 1
        words.release()
        mapped.close()
    assert seen == whole


def test_threads_share_one_gate(path: Path) -> None:
    """Threads read during new starts and the close without an error or a wrong result."""
    gate = Gate.open(path)
    stop, failures = threading.Event(), []

    def read() -> None:
        watchers = [gate.watch(venue="shut"), gate.watch(venue="shut", symbol="open")]
        try:
            while not stop.is_set():
                if gate.allows(venue="shut") or any(allowed() for allowed in watchers):
                    failures.append("a shut venue was allowed")
                gate.allows(symbol="open")
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for turn in range(4):
        file = create(path)
        for scope in (["venue:shut", "symbol:open"], ["symbol:open", "venue:shut"])[turn % 2]:
            file.add(scope)
        file.renew(soon_ns(), {"venue:shut": 1}, turn)
        assert eventually(lambda: gate.allows(symbol="open"))
        file.close(zero=False)  # as a killed process leaves it
    gate.close()
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


# -- the package ------------------------------------------------------------------------------


def test_public_names_are_listed_before_they_load() -> None:
    """`dir` and completion list all public names; an unknown one is an AttributeError."""
    assert {"Gate", "Client", "SyncClient", "Engine", "TradingHalted"} <= set(dir(riskmon))
    assert isinstance(riskmon.__version__, str)
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        riskmon.Missing  # noqa: B018
