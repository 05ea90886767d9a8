"""The gate file, from both sides: its bytes, its leases, and readers that outlive writers."""

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
from collections.abc import Callable, Iterator
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

ROOT = Path(__file__).parent.parent.parent
LONGEST_NS = 3_600_000_000_000
HOUR_NS = LONGEST_NS
BOOT_ID = bytes.fromhex(
    Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().replace("-", "")
)


def now_ns() -> int:
    """Read the gate's clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def soon_ns() -> int:
    """Give a deadline that no test outlives, within the longest lease."""
    return now_ns() + LONGEST_NS // 2


def create(path: Path, max_scopes: int = 8, epoch: int = 1) -> GateWriter:
    """Make a gate file with the tests' longest lease."""
    return GateWriter.create(path, max_scopes=max_scopes, longest_lease_ns=LONGEST_NS, epoch=epoch)


def until(condition: Callable[[], bool]) -> bool:
    """Wait for the condition, up to a time at which only a hang is left."""
    give_up = time.monotonic() + 20
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.005)
    return True


def names_beside(path: Path) -> list[str]:
    """List the folder that the path is in, without the lock."""
    names = {entry.name for entry in path.parent.iterdir()}
    return sorted(names - {f".{path.name}.lock"})


def word_of(path: Path, record: int) -> int:
    """Read one record's lease word with plain file reads."""
    word: int = struct.unpack_from("<Q", path.read_bytes(), record * 64)[0]
    return word


def record(word: int, name: bytes) -> bytes:
    """Lay out one record by hand."""
    return struct.pack("<Q56s", word, name)


def header(
    count: int,
    *,
    magic: bytes = b"RISKMON\x01",
    version: int = 1,
    boot: bytes = BOOT_ID[:8],
    longest_ns: int = LONGEST_NS,
) -> bytes:
    """Lay out record 0 by hand."""
    return struct.pack("<8sQ8sQQQQQ", magic, version, boot, 7, count, longest_ns, 0, 0)


@pytest.fixture(autouse=True)
def files_of_one_writer() -> Iterator[None]:
    """Make files that group and others cannot write, whatever the umask of the machine."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a gate that does not exist yet."""
    return tmp_path / "main.gate"


@pytest.fixture
def file(path: Path) -> Iterator[GateWriter]:
    """Make a gate file with a venue, a symbol and a strategy in it."""
    made = create(path)
    for scope in ("venue:kraken", "symbol:BTC/USDT", "strategy:mm1"):
        made.add(scope)
    yield made
    made.close()


# -- the bytes ------------------------------------------------------------------------------


def test_layout_byte_for_byte(path: Path) -> None:
    """Header, lease words and names are where bots in other languages look for them."""
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
    """Every page is there before the first scope, and neither scopes nor the end change it."""
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
    """A scope that was there keeps its record and its lease when others come."""
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
    """A name is counted in bytes of UTF-8, and one that does not fit changes nothing."""
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
    """Who still maps the old file reads zeroes; the path has another file, and nothing else."""
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
    """Whatever lies at the path is replaced; what is no gate is not written to."""
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


def test_new_start_takes_over_what_a_killed_one_left(path: Path) -> None:
    """A half-made file of an earlier start is in nobody's way and does not stay."""
    path.with_name(".main.gate.new").write_bytes(b"half")
    create(path).close()
    assert names_beside(path) == ["main.gate"]


def test_one_writer_at_a_time(path: Path, file: GateWriter) -> None:
    """A second start names the gate and its holder, and zeroes nothing; when the first has
    closed, or could not make its file, the next may."""
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
    """The error says what failed and where, and leaves nothing behind."""
    path.mkdir()
    with pytest.raises(OSError, match=r"cannot create the gate file: Is a directory.*main\.gate"):
        create(path)
    assert names_beside(path) == ["main.gate"]


def test_max_scopes_has_room_for_the_account(path: Path) -> None:
    """No gate without an account."""
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
    """No scope is above the account, and the account is not held down by a scope."""
    file.renew(soon_ns(), {"account": account, "venue:kraken": own}, 1)
    with Gate.open(path) as gate:
        assert gate.level() == account
        assert gate.level(venue="kraken") == min(own, account)
        assert gate.level(symbol="BTC/USDT") == account


@pytest.mark.parametrize("level", list(Level))
def test_a_lease_word_is_a_deadline_and_a_level(path: Path, file: GateWriter, level: Level) -> None:
    """The level replaces the deadline's low byte; halt is a word of zero."""
    file.renew(0x0000_1234_5678_9AFF, {"account": level}, 1)
    assert word_of(path, 1) == (0x0000_1234_5678_9A00 | level if level else 0)


def test_nothing_is_open_before_the_first_renewal(path: Path, file: GateWriter) -> None:
    """A new file, and a new scope in an old one, wait for the sidecar's word."""
    with Gate.open(path) as gate:
        assert gate.level() == Level.HALT
        file.renew(soon_ns(), {}, 1)
        assert gate.allows(venue="kraken")
        file.add("venue:mexc")
        assert gate.level(venue="mexc") == Level.HALT
        file.renew(soon_ns(), {}, 1)
        assert gate.allows(venue="mexc")


def test_renewal_follows_levels_changed_in_place(path: Path, file: GateWriter) -> None:
    """The caller may keep one mapping and change it."""
    levels: dict[str, int] = {}
    with Gate.open(path) as gate:
        for level in (3, 1, 2, 0, 3):
            levels["venue:kraken"] = level
            file.renew(soon_ns(), levels, 1)
            assert gate.level(venue="kraken") == level


def test_tighten_lowers_at_once_and_keeps_the_deadline(path: Path, file: GateWriter) -> None:
    """A breach shuts its scope without a renewal, and no other scope is touched."""
    file.renew(soon_ns(), {}, 1)
    before = word_of(path, 2)
    file.tighten({"venue:kraken": 1, "symbol:BTC/USDT": 0}, 2)
    assert [word_of(path, k) for k in (1, 2, 3, 4)] == [before, before - 2, 0, before]
    assert struct.unpack_from("<Q", path.read_bytes(), 48) == (2,)


def test_tighten_never_loosens(path: Path, file: GateWriter) -> None:
    """Only a renewal raises a level, even when a tightening asks for more."""
    file.renew(soon_ns(), {"venue:kraken": 1, "account": 2}, 1)
    before = path.read_bytes()[64:]
    file.tighten({"venue:kraken": 3, "account": 3, "strategy:mm1": 3, "venue:new": 0}, 1)
    assert path.read_bytes()[64:] == before
    file.renew(soon_ns(), {"venue:kraken": 3, "account": 3}, 2)
    with Gate.open(path) as gate:
        assert gate.allows(venue="kraken", symbol="BTC/USDT", strategy="mm1")


def test_renewal_with_the_tightened_levels_keeps_them(path: Path, file: GateWriter) -> None:
    """The next renewal moves the deadline and opens nothing that was just lowered."""
    file.renew(soon_ns(), {}, 1)
    file.tighten({"venue:kraken": 1}, 2)
    file.renew(soon_ns(), {"venue:kraken": 1}, 2)
    with Gate.open(path) as gate:
        assert gate.level(venue="kraken") == Level.REDUCE_ONLY


def test_tighten_before_any_renewal_opens_nothing(path: Path, file: GateWriter) -> None:
    """Without a deadline there is no lease to lower, and none comes into being."""
    file.tighten({"account": 1, "venue:kraken": 2}, 1)
    assert [word_of(path, k) for k in (1, 2, 3, 4)] == [0, 0, 0, 0]


@pytest.mark.parametrize("level", [-1, 4, 255])
def test_what_is_no_level_is_refused(path: Path, file: GateWriter, level: int) -> None:
    """A level out of range raises and writes nothing."""
    file.renew(soon_ns(), {}, 1)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"{level}, for scope 'venue:kraken', is not a level"):
        file.renew(soon_ns(), {"venue:kraken": level}, 2)
    assert path.read_bytes() == before


def test_shut_zeroes_and_a_renewal_opens_again(path: Path, file: GateWriter) -> None:
    """Shutting needs no level and no deadline, and is no end."""
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
    """An orderly end does not wait for the lease to lapse, unless it is told to."""
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
    """After any mix of renewals and tightenings the words are what a plain model says."""
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
    """The extremes of a word open nothing."""
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
    """Each scope asked has its say, and one without a record halts."""
    file.renew(soon_ns(), {"symbol:BTC/USDT": 2, "strategy:mm1": 1}, 1)
    with Gate.open(path) as gate:
        assert gate.level(**asked) == level
        assert gate.allows(**asked) is (level == 3)
        assert gate.watch(**asked)() is (level == 3)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_watch_follows_each_of_its_scopes(path: Path, file: GateWriter, count: int) -> None:
    """A watcher says at every moment what `allows` says, for any number of scopes."""
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


def test_watch_bears_leases_of_two_renewals(path: Path) -> None:
    """A renewal caught half-way is no halt: each word is judged by itself."""
    early, late = (now_ns() + part * HOUR_NS // 4 & ~0xFF | 3 for part in (1, 2))
    path.write_bytes(
        header(4) + record(late, b"account") + record(late, b"venue:a") + record(early, b"symbol:b")
    )
    with Gate.open(path) as gate:
        assert gate.watch(venue="a", symbol="b")()


def test_names_that_are_not_utf8_are_passed_over(path: Path) -> None:
    """A record that nobody can name does not hide those after it."""
    word = soon_ns() & ~0xFF | 3
    path.write_bytes(
        header(4)
        + record(word, b"account") + record(word, b"venue:\xff\xfe") + record(word, b"venue:b")
    )  # fmt: skip
    with Gate.open(path) as gate:
        assert gate.allows(venue="b")
        assert not gate.allows(venue="\udcff\udcfe")


def test_a_scope_is_found_as_soon_as_it_has_a_record(path: Path, file: GateWriter) -> None:
    """Records that come while the file is live are seen by gates and watchers that are open."""
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
    """Nothing in a file makes a reader raise or trade."""
    path.write_bytes(UNREADABLE[case])
    with Gate.open(path) as gate:
        assert gate.level() is Level.HALT
        assert gate.level(venue="a") is Level.HALT
        assert not gate.watch()()


def test_the_hand_made_files_are_good_but_for_their_fault(path: Path) -> None:
    """The same bytes without a fault do open the gate."""
    path.write_bytes(header(2, longest_ns=2**63) + GOOD)
    with Gate.open(path) as gate:
        assert gate.allows()


def test_a_path_that_is_no_file_is_halt(tmp_path: Path) -> None:
    """A missing file, a directory, a FIFO and an impossible path halt without a wait."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "fifo", f"{tmp_path}/a\0b"):
        with Gate.open(path) as gate:
            time.sleep(0.06)
            assert gate.level(venue="a") is Level.HALT


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account's name means its file in shared memory; a slash or a Path means itself."""
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
    """A gate opened without a file finds it when it comes."""
    with Gate.open(path) as gate:
        allowed = gate.watch(venue="kraken")
        assert not gate.allows()
        assert not allowed()
        file = create(path)
        file.add("venue:kraken")
        file.renew(soon_ns(), {}, 1)
        assert until(gate.allows)
        assert allowed()
        file.close()


def test_readers_follow_a_new_file_with_other_places(path: Path) -> None:
    """After a new start each scope is read at its new record, by gates and watchers alike."""
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
        assert until(watchers["c"])
        assert not watchers["a"]()
        assert not watchers["b"]()
        assert gate.level(venue="a") == Level.REDUCE_ONLY
        second.close()


def test_a_file_that_is_taken_away_is_halt_once_its_lease_is_over(path: Path) -> None:
    """A reader lives on the file it has mapped, and then finds none."""
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


def test_a_reader_judges_anew_whenever_it_opens_anew(path: Path, file: GateWriter) -> None:
    """A file that group or others can write halts a reader that opens it again, with the reason."""
    file.renew(soon_ns(), {}, 1)
    with Gate.open(path) as gate:
        allowed = gate.watch(venue="kraken")
        assert allowed()
        assert gate.fault is None
        path.chmod(0o666)
        assert allowed()  # what is mapped is not judged again
        time.sleep(0.06)
        file.shut()
        assert not allowed()
        file.renew(soon_ns(), {}, 1)
        assert not allowed()
        assert not gate.allows()
        assert gate.fault == f"group or others can write {path} (mode 0666)"
        path.chmod(0o644)
        assert until(allowed)
        assert gate.fault is None


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "there is no file {}"),
        (b"short", "{} is too short for a gate (5 bytes)"),
        (bytes(640), "{} is not a ready gate of this boot"),
    ],
)
def test_a_gate_says_what_is_wrong_with_its_file(
    path: Path, content: bytes | None, fault: str
) -> None:
    """One sentence, with the path in it."""
    if content is not None:
        path.write_bytes(content)
    with Gate.open(path) as gate:
        assert gate.fault == fault.format(path)


def test_a_gate_is_made_anew_with_its_leases(path: Path, file: GateWriter) -> None:
    """`mend` does nothing to a whole gate; a lost one has the same records and words after it."""
    file.renew(soon_ns(), {"venue:kraken": 1}, 7)
    before, inode = path.read_bytes(), path.stat().st_ino
    assert file.repair() is None
    assert path.stat().st_ino == inode
    with Gate.open(path) as gate:
        path.unlink()
        assert file.repair() == "it is missing"
        assert path.read_bytes() == before
        assert file.repair() is None
        assert until(lambda: gate.allows(symbol="BTC/USDT"))
        assert gate.level(venue="kraken") == Level.REDUCE_ONLY
        file.add("venue:mexc")
        file.renew(soon_ns(), {}, 8)
        assert gate.allows(venue="mexc")
        assert gate.allows(venue="kraken")


def test_a_scope_stays_shut_in_a_file_that_is_made_anew(path: Path, file: GateWriter) -> None:
    """What was lowered or added since the last renewal is not raised by a new file."""
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


def test_a_gate_that_another_sidecar_took_over_is_left_to_it(path: Path, file: GateWriter) -> None:
    """After a lost directory a second start may come first: its gate is not replaced."""
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
    """A closed gate stays shut, with a live lease at its path."""
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
    """Start a Python script that can import riskmon, with a pipe from it."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_an_expired_reader_opens_the_path_at_most_every_50_ms(path: Path) -> None:
    """A bot that asks in a tight loop does not hammer the file system, yet keeps looking."""
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
    """Kill the process with SIGKILL when the block ends, and wait for it."""
    with process:
        try:
            yield
        finally:
            process.kill()


def test_a_killed_sidecar_halts_its_readers_and_a_new_one_frees_them(path: Path) -> None:
    """After SIGKILL nobody writes a zero: the lease lapses by itself, and not before its time;
    a new process renames a new file and the same reader follows it."""
    with Gate.open(path) as gate:
        allowed = gate.watch(venue="a")
        with killed_at_the_end(run(WRITER, path, "venue:a")):
            assert until(allowed)
        left = word_of(path, 2)
        assert left & 0xFF == Level.ALLOW
        assert until(lambda: not allowed())
        assert now_ns() >= left & ~0xFF
        assert not gate.allows()
        assert word_of(path, 2) == left
        with killed_at_the_end(run(WRITER, path, "venue:b", "venue:a")):
            assert until(allowed)
            assert until(lambda: gate.allows(venue="b"))


def test_no_read_is_torn(path: Path) -> None:
    """A reader in another process sees whole words only, while they change all their bytes:
    never a mixture, and never the zero that a store in pieces would show first."""
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
    """Threads read through new starts and the close without an error or a wrong allowance."""
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
        assert until(lambda: gate.allows(symbol="open"))
        file.close(zero=False)  # as a killed process leaves it
    gate.close()
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


# -- the package ------------------------------------------------------------------------------


def test_public_names_are_listed_before_they_load() -> None:
    """`dir` and completion know every public name; an unknown one is an AttributeError."""
    assert {"Gate", "Client", "SyncClient", "Engine", "TradingHalted"} <= set(dir(riskmon))
    assert isinstance(riskmon.__version__, str)
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        riskmon.Missing  # noqa: B018
