"""Owners of a gate: readers halt on a file that another user can have written."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from riskmon.gate import Gate, gate_path, user_number
from tests.support import ROOT, gate_in_c
from tests.support.users import (
    OWNER,
    STRANGER,
    needs_root,
    program,
    read_gate,
    riskmon,
    shared_directory,
)
from tests.support.waiting import eventually

pytestmark = [needs_root, pytest.mark.slow]

BOT = 54_323
BOOT_ID = bytes.fromhex(
    Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", "")
)
# Allows the account without an end, without a sidecar.
FORGED = (
    struct.pack("<8sQ8sQQQQQ", b"RISKMON\x01", 1, BOOT_ID[:8], 7, 2, 2**63 - 1, 0, 0)
    + struct.pack("<Q56s", 2**62 | 3, b"account")
)  # fmt: skip


def forge(gate: Path, user: int) -> None:
    """Create the directory and a file that allows everything, as this user."""
    script = 'mkdir -p -m 755 "${1%/*}" && umask 022 && cat > "$1"'
    command = ["/bin/sh", "-c", script, "sh", str(gate)]
    subprocess.run(command, input=FORGED, user=user, group=user, extra_groups=[], check=True)


@contextmanager
def removed_at_the_end(*paths: Path) -> Iterator[None]:
    """Remove files, and their empty directories, before the block and after it."""
    try:
        yield
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
            for beside in path.parent.glob(f".{path.name}.*"):
                beside.unlink()
            if path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()


@pytest.fixture
def gate() -> Iterator[Path]:
    """A gate of OWNER that allows everything, in a separate directory."""
    with shared_directory() as place:
        path = place / "own" / "main.gate"
        forge(path, OWNER)
        yield path


# -- what readers take ----------------------------------------------------------------------------


def test_a_strangers_gate_at_the_default_paths_allows_nothing() -> None:
    """A forged file at the default paths, in a directory that a stranger created, halts."""
    name = f"t{secrets.token_hex(6)}"
    new, old = gate_path(name, OWNER), Path(f"/dev/shm/riskmon/{name}.gate")
    with removed_at_the_end(new, old):
        forge(new, STRANGER)
        fault = f"{new.parent} belongs to user {STRANGER}, not to user {OWNER} or root"
        assert read_gate(name, user=BOT, owner=str(OWNER)) == (False, fault)
        assert read_gate(name, user=OWNER) == (False, fault)
        if not old.parent.exists():
            forge(old, STRANGER)
            assert read_gate(old, user=BOT, owner=str(OWNER))[0] is False
        assert read_gate(name, user=BOT) == (
            *(False, f"there is no file /dev/shm/riskmon-{BOT}/{name}.gate"),
        )


def _link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))


def _owned_by(user: int, *, directory: bool = False) -> Callable[[Path], None]:
    return lambda gate: os.chown(gate.parent if directory else gate, user, user)


def _mode(mode: int, *, directory: bool = False) -> Callable[[Path], None]:
    return lambda gate: (gate.parent if directory else gate).chmod(mode)


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "as it should be": (lambda _: None, ""),
    "root's directory": (_owned_by(0, directory=True), ""),
    "a sticky directory of its own": (_mode(0o1755, directory=True), ""),
    "a directory that is a link": (lambda gate: _link(gate.parent), "own is a link or not"),
    "a file that is a link": (_link, r"main\.gate is a link"),
    "a directory of the group": (_mode(0o775, directory=True), r"write \S+own \(mode 0775\)"),
    "a directory of all": (_mode(0o1777, directory=True), r"write \S+own \(mode 1777\)"),
    "a file of the group": (_mode(0o664), r"write \S+main\.gate \(mode 0664\)"),
    "a file of all": (_mode(0o646), r"write \S+main\.gate \(mode 0646\)"),
    "a stranger's directory": (_owned_by(STRANGER, directory=True), "own belongs to user 54322"),
    "a stranger's file": (_owned_by(STRANGER), r"main\.gate belongs to user 54322"),
    "root's file": (_owned_by(0), r"main\.gate belongs to user 0, not to user 54321"),
    "the reader's own file": (_owned_by(BOT), r"main\.gate belongs to user 54323"),
}


@pytest.fixture(scope="module")
def asker() -> Iterator[Path | None]:
    """The documented reader in C, which every user can run; None without a C compiler."""
    with shared_directory() as place:
        yield gate_in_c.build_if_possible(place)


@pytest.mark.parametrize("case", CASES)
def test_every_reader_checks_the_opened_file(case: str, gate: Path, asker: Path | None) -> None:
    """The readers in Python and C accept a gate that only the sidecar's user can write."""
    change, expected = CASES[case]
    change(gate)
    allowed, fault = read_gate(gate, user=BOT, owner=str(OWNER))
    assert allowed is (not expected)
    assert bool(fault) is bool(expected)
    assert re.search(expected, fault)
    if asker is not None:
        command = [str(asker), str(gate.parent), gate.name, str(OWNER), "account"]
        in_c = subprocess.run(command, user=BOT, group=BOT, capture_output=True, check=True)
        assert in_c.stdout == (b"0" if expected else b"1")


def test_the_owner_is_a_name_or_a_number(gate: Path) -> None:
    """A number needs no passwd entry; a name without one is refused."""
    with pytest.raises(KeyError):
        pwd.getpwuid(OWNER)
    for owner in (OWNER, str(OWNER)):
        with Gate.open(gate, owner=owner) as opened:
            assert opened.allows()
    with Gate.open(gate) as opened:
        assert not opened.allows()
    daemon = pwd.getpwnam("daemon")
    os.chown(gate.parent, daemon.pw_uid, -1)
    os.chown(gate, daemon.pw_uid, -1)
    with Gate.open(gate, owner="daemon") as opened:
        assert opened.allows()
    assert gate_path("main", "daemon") == Path(f"/dev/shm/riskmon-{daemon.pw_uid}/main.gate")
    with pytest.raises(
        ValueError, match="owner 'rismkon' has no passwd entry here: use the number"
    ):
        Gate.open(gate, owner="rismkon")
    for wrong in (-1, 2**32 - 1, "99999999999"):
        with pytest.raises(ValueError, match="is not the number of a user"):
            user_number(wrong)


def test_a_number_that_represents_several_users_is_refused(gate: Path) -> None:
    """In a user namespace all unmapped users appear as 65534, which is refused as an owner."""
    script = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
from riskmon.gate import Gate
gate = Gate.open(sys.argv[1], owner=0)
print(gate.allows(), gate.fault)
try:
    Gate.open(sys.argv[1], owner=65534)
except ValueError as error:
    print(error)
"""
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-I", "-c", script]
    ran = subprocess.run([*command, str(gate)], capture_output=True, text=True, check=False)
    if "unshare failed" in ran.stderr:
        pytest.skip(f"no user namespaces here: {ran.stderr.strip()}")
    judged, refused = ran.stdout.splitlines()
    assert judged == f"False {gate.parent} belongs to user 65534, not to root"
    assert refused.startswith("user 65534 represents all users that this user namespace does not")


def test_a_name_that_changes_in_between_opens_nothing(gate: Path) -> None:
    """A stranger exchanges a shut gate of the sidecar and a forged one as fast as possible."""
    place, forged = gate.parent.parent, gate.parent.with_name("forged")
    gate.write_bytes(FORGED[:64] + bytes(8) + FORGED[72:])
    os.chown(place, STRANGER, STRANGER)
    forge(forged / gate.name, STRANGER)
    script = """
import os, sys
own, forged = sys.argv[1:]
os.setuid(54322)
while True:
    for one, other in ((own, "kept"), (forged, own), (own, forged), ("kept", own)):
        os.rename(one, other)
"""
    exchange = [sys.executable, "-I", "-c", script, gate.parent.name, forged.name]
    seen = set()
    with subprocess.Popen(exchange, cwd=place) as process:
        try:
            until = time.monotonic() + 1
            while time.monotonic() < until:
                with Gate.open(gate, owner=OWNER) as opened:
                    assert not opened.allows()
                    seen.add(opened.fault)
        finally:
            process.kill()
    strangers = f"{gate.parent} belongs to user {STRANGER}, not to user {OWNER} or root"
    assert {None, strangers} <= seen


# -- what the sidecar takes -----------------------------------------------------------------------


def _volume(gate: Path) -> None:
    os.chown(gate.parent, 0, 0)
    gate.parent.chmod(0o1777)


PLACES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a stranger's directory": (
        *(_owned_by(STRANGER, directory=True), "belongs to user 54322.*remove it .`rm -r "),
    ),
    "a volume that all can write": (
        _volume,
        'mode 1777.*set gate = "/.*/own/riskmon/main.gate": riskmon creates that',
    ),
    "its own, which the group can write": (_mode(0o775, directory=True), "`chmod 755 /.*/own`, or"),
    "a file that is a link": (_link, r"main\.gate is a link: remove it .`rm /.*main\.gate`"),
    "a stranger's file": (_owned_by(STRANGER), r"main\.gate belongs to user 54322.*`rm /"),
}


def configured(place: Path, gate: Path, account: str = "main") -> dict[str, str]:
    """Return the environment of a sidecar of OWNER with this gate."""
    return {
        "RISKMON_ACCOUNT": account,
        "RISKMON_GATE": str(gate),
        "RISKMON_STATE_DIR": str(place / "state"),
        "RISKMON_HTTP__LISTEN": "127.0.0.1:0",
    }


@pytest.mark.parametrize("case", PLACES)
def test_a_sidecar_refuses_a_place_that_others_can_write(case: str, gate: Path) -> None:
    """The start exits 2 with the remedy, and does not change the path."""
    change, expected = PLACES[case]
    change(gate)
    place = gate.parent.parent
    ran = riskmon("run", cwd=place, user=OWNER, env=configured(place, gate))
    assert ran.returncode == 2, ran.stderr
    assert re.search(f"the gate is refused: .*{expected}", ran.stderr)
    assert gate.read_bytes() == FORGED


@contextmanager
def running(place: Path, environment: dict[str, str], umask: int = 0o022) -> Iterator[None]:
    """Run a sidecar of OWNER until the end of the block."""
    process = subprocess.Popen(
        [*program(OWNER), "run"], cwd=place, env=environment, stderr=subprocess.DEVNULL, umask=umask
    )
    try:
        yield
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_on_a_shared_volume_the_sidecar_makes_a_directory_of_its_own(umask: int) -> None:
    """In a volume that all users can write, such as an emptyDir, other users can read the gate."""
    with shared_directory() as place, shared_directory(owner=0) as volume:
        volume.chmod(0o1777)
        gate = volume / "riskmon" / "main.gate"
        with running(place, configured(place, gate), umask):
            eventually(lambda: read_gate(gate, user=BOT, owner=str(OWNER))[0], "the gate")
            found = gate.parent.stat()
            assert (found.st_uid, found.st_mode & 0o7777) == (OWNER, 0o755)
            assert read_gate(gate, user=STRANGER)[0] is False


def test_a_bot_of_another_user_finds_the_default_gate_by_the_owner() -> None:
    """With account and user number a bot of another user finds the sidecar's default gate."""
    name = f"t{secrets.token_hex(6)}"
    path = gate_path(name, OWNER)
    with shared_directory() as place, removed_at_the_end(path):
        environment = configured(place, path, name)
        del environment["RISKMON_GATE"]
        with running(place, environment):
            eventually(lambda: read_gate(name, user=BOT, owner=str(OWNER))[0], "the gate")
        assert path.parent.name == f"riskmon-{OWNER}"
    shutil.rmtree(path.parent, ignore_errors=True)
