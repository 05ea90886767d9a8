"""The gate's file or directory is lost under a running sidecar: it is recreated, readers follow."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from riskmon.gate import Gate
from tests.support import ROOT, gate_in_c
from tests.support.sidecar import Sidecar
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

REWRITES = "riskmon_gate_rewrites_total"
SCOPE = "venue:kraken"


class Reader:
    """A bot in a separate process that opened the gate once and uses a watcher."""

    _SCRIPT = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
from riskmon import Gate
gate = Gate.open(sys.argv[1])
allowed = gate.watch(venue="kraken")
for line in sys.stdin:
    print(int(allowed()), int(gate.allows(venue="kraken")), flush=True)
"""

    def __init__(self, gate: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", self._SCRIPT, str(gate)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def allows(self) -> bool:
        """Whether watcher and gate allow an order now."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(file=self.process.stdin, flush=True)
        return self.process.stdout.readline() == "1 1\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """Run a sidecar with one venue, whose gate has its own directory."""
    directory = tmp_path_factory.mktemp("lost")
    with Sidecar(directory) as running:
        running.gate_path = directory / "gate" / "test.gate"
        running.configure("")
        running.start()
        running.events({"type": "heartbeat", "venue": "kraken"})
        yield running


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The documented reader in C; None without a C compiler."""
    return gate_in_c.build_if_possible(tmp_path_factory.mktemp("asker"))


def rewrites(sidecar: Sidecar) -> float:
    """How many times the gate was recreated."""
    count = sidecar.metric(REWRITES)
    assert count is not None
    return count


def _rename_over(gate: Path) -> None:
    other = gate.with_name("other")
    shutil.copyfile(gate, other)  # a different file with the same content
    other.rename(gate)


def _link_in_place(gate: Path) -> None:
    gate.rename(gate.with_name("moved"))
    gate.symlink_to("moved")


def _as_logind(gate: Path) -> None:
    """Remove files as systemd-logind with RemoveIPC does: first all files, then the directories."""
    for file in gate.parent.iterdir():
        file.unlink()
    gate.parent.rmdir()


def _overwrite(gate: Path) -> None:
    with gate.open("r+b") as file:
        file.seek(2 * 64 + 8)
        file.write(b"venue:kraken2")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "removed": (Path.unlink, "it is missing"),
    "directory removed": (lambda gate: shutil.rmtree(gate.parent), "its directory is missing"),
    "logged out": (_as_logind, "its directory is missing"),
    "directory moved": (
        lambda gate: gate.parent.rename(gate.parent.with_name(f"moved-{time.monotonic_ns()}")),
        "its directory is missing",
    ),
    "replaced": (_rename_over, "another file is in its place"),
    "replaced by a link": (_link_in_place, "another file is in its place"),
    "truncated": (lambda gate: os.truncate(gate, 0), "it was truncated"),
    "truncated in part": (lambda gate: os.truncate(gate, 100), "it was truncated"),
    "overwritten": (_overwrite, "its content was overwritten"),
    "mode changed": (lambda gate: gate.chmod(0o600), "its owner or mode was changed"),
    "lock removed": (
        lambda gate: (gate.parent / ".test.gate.lock").unlink(),
        "its lock is missing",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lost_gate_is_recreated(damage: str, sidecar: Sidecar, asker: Path | None) -> None:
    """Within a second the gate is recreated with its levels; old and new readers, and C, follow."""
    do, said = DAMAGES[damage]
    gate = sidecar.gate_path
    owner = os.geteuid()
    with Reader(gate) as reader:
        eventually(reader.allows, "the first reading")
        before, told, old = rewrites(sidecar), len(sidecar.output()), gate.stat().st_ino
        do(gate)
        began = time.monotonic()
        if damage.startswith(
            "truncated"
        ):  # a reading before the next renewal would kill the reader
            eventually(lambda: rewrites(sidecar) > before, "the rewrite")
        eventually(lambda: sidecar.output()[told:].count("was recreated"), "the log line")
        assert time.monotonic() - began < 3  # a second, and a margin for a busy machine
        assert f"the gate {gate} was recreated: {said}" in sidecar.output()[told:]
        eventually(reader.allows, "the open reader")
        assert gate.stat().st_ino != old
        with Gate.open(gate) as opened:
            eventually(lambda: opened.allows(venue="kraken"), "a new reader")
        assert asker is None or gate_in_c.asked(asker, gate, owner, SCOPE)
        assert rewrites(sidecar) == before + 1


def test_a_new_file_has_the_levels_of_the_old(sidecar: Sidecar) -> None:
    """A freeze applies in the recreated file, and ends there."""
    status, frozen = sidecar.operate("freeze", SCOPE)
    assert status == 200
    before = rewrites(sidecar)
    sidecar.gate_path.unlink()
    with Gate.open(sidecar.gate_path) as gate:
        assert gate.fault == f"there is no file {sidecar.gate_path}"
        eventually(gate.allows, "the account")
        assert not gate.allows(venue="kraken")
        assert rewrites(sidecar) == before + 1
        assert sidecar.operate("unfreeze", SCOPE, generation=frozen["generation"])[0] == 200
        eventually(lambda: gate.allows(venue="kraken"), "the venue")


def test_a_place_that_cannot_be_used_is_reported_once(sidecar: Sidecar) -> None:
    """While a link has replaced the directory no gate is created; after its removal one is."""
    directory, before, told = sidecar.gate_path.parent, rewrites(sidecar), len(sidecar.output())
    moved = directory.with_name("elsewhere")
    directory.rename(moved)
    directory.symlink_to(moved)
    fault = (
        f"cannot recreate the gate {sidecar.gate_path}: {directory} is a link or not a directory"
    )
    eventually(lambda: fault in sidecar.output()[told:], "the log line")
    time.sleep(1.1)  # two more checks
    assert sidecar.output()[told:].count("cannot recreate the gate") == 1
    assert rewrites(sidecar) == before
    with Gate.open(sidecar.gate_path) as gate:
        assert not gate.allows()
        directory.unlink()
        eventually(gate.allows, "the gate")
    assert rewrites(sidecar) == before + 1
    shutil.rmtree(moved)


def test_a_truncated_file_kills_only_its_readers(tmp_path: Path) -> None:
    """The writer restores the size of the file before it stores; an earlier reader gets SIGBUS."""
    writer = f"""
import sys, time
sys.path[:0] = [{str(ROOT)!r}]
from riskmon.gate_writer import GateWriter
file = GateWriter.create(sys.argv[1], max_scopes=300, longest_lease_ns=10**12, epoch=1)
file.add("venue:kraken")
for line in sys.stdin:
    file.renew(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 10**11, {{}}, 1)
    file.tighten({{"venue:kraken": 1}}, 2)
    file.add(f"venue:{{time.monotonic_ns()}}")
    file.renew(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 10**11, {{}}, 3)
    print("renewed", flush=True)
file.close()
"""
    gate = tmp_path / "test.gate"
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", writer, str(gate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def renew() -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "renewed\n"

    renew()
    with Reader(gate) as patient, Reader(gate) as hasty:
        assert patient.allows()
        assert hasty.allows()
        os.truncate(gate, 0)
        assert not hasty.allows()
        assert hasty.process.wait(10) == -signal.SIGBUS
        renew()
        assert gate.stat().st_size == 64 * 301
        assert patient.allows()
    os.truncate(gate, 0)
    process.communicate()
    assert process.returncode == 0
