"""A sidecar whose state is damaged, lost or moved refuses to start or ends; freezes remain."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from riskmon.core.events import Latency
from riskmon.gate import Level
from riskmon.journal import Commit, Entry, Journal
from tests.support import ROOT
from tests.support.disks import Disk
from tests.support.sidecar import Make, Sidecar
from tests.support.waiting import eventually
from tests.support.webhooks import Webhooks

pytestmark = pytest.mark.slow

KEEP = 'on_unclean_start = "keep"'


def frozen_and_killed(sidecar: Sidecar) -> None:
    """Start, freeze the account, and die."""
    sidecar.start()
    assert sidecar.operate("freeze")[0] == 200
    sidecar.end(signal.SIGKILL)


def refused(sidecar: Sidecar, *, is_loss: bool = True) -> str:
    """Return the output of a start that is refused with the gate shut.

    A loss can be accepted; what is undamaged and unreadable can be read by another version.
    """
    assert sidecar.launch().wait() == 2, sidecar.output()
    assert sidecar.level() is Level.HALT
    line = sidecar.output().splitlines()[-1]
    assert "`riskmon restore FILE`" in line
    assert ("`riskmon run --accept-loss`" in line) == is_loss
    return line


def checked(sidecar: Sidecar) -> tuple[int, str]:
    """Return the status and the output of `riskmon check-state`."""
    command = [sys.executable, "-m", "riskmon", "check-state", "--config", str(sidecar.config)]
    run = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return run.returncode, run.stdout


def flip_header(sidecar: Sidecar) -> None:
    """Flip one bit in the header of the log."""
    log = sidecar.state_dir / "journal.db-wal"
    log.write_bytes(bytes([log.read_bytes()[0], log.read_bytes()[1] ^ 1]) + log.read_bytes()[2:])


DAMAGE: list[Callable[[Sidecar], None]] = [
    flip_header,
    lambda s: os.truncate(s.state_dir / "journal.db-wal", 100),
    lambda s: (s.state_dir / "journal.db-wal").unlink(),
    lambda s: os.truncate(s.state_dir / "journal.db", 0),
    lambda s: (s.state_dir / "journal.db").unlink(),
    lambda s: shutil.rmtree(s.state_dir),
]


def test_a_freeze_is_not_lost_with_the_log(make: Make, tmp_path: Path) -> None:
    """After damage each start is refused, and `--accept-loss` starts frozen."""
    sidecar = make(top=KEEP)
    frozen_and_killed(sidecar)
    shutil.copytree(sidecar.state_dir, tmp_path / "copy")
    for damage in DAMAGE:
        shutil.rmtree(sidecar.state_dir)
        shutil.copytree(tmp_path / "copy", sidecar.state_dir)
        damage(sidecar)
        refused(sidecar)
    assert checked(sidecar)[0] == 2

    sidecar.start(options=("--accept-loss",))
    breaker = sidecar.breaker("manual", "account")
    assert breaker["state"] == "frozen"
    assert "loss accepted" in breaker["reason"]
    assert sidecar.level() is Level.HALT
    assert [one["by"] for one in sidecar.incidents("freeze")] == ["riskmon run --accept-loss"]
    sidecar.end(signal.SIGKILL)
    sidecar.start()
    assert sidecar.breaker("manual", "account")["state"] == "frozen"
    generation = sidecar.state()["generation"]
    assert sidecar.operate("unfreeze", generation=generation)[0] == 200
    eventually(lambda: sidecar.level() is Level.ALLOW, "the gate's opening")
    assert sidecar.end(signal.SIGTERM) == 0
    assert checked(sidecar)[0] == 0


def test_a_reboot_empties_the_gates_directory(make: Make) -> None:
    """The next start recreates the mark there, keeps the freeze, and is protected as before."""
    sidecar = make(top=KEEP)
    frozen_and_killed(sidecar)
    sidecar.gate_path.unlink()
    sidecar.gate_mark.unlink()
    sidecar.start()
    assert sidecar.breaker("manual", "account")["state"] == "frozen"
    assert sidecar.gate_mark.exists()
    sidecar.end(signal.SIGKILL)
    shutil.rmtree(sidecar.state_dir)
    refused(sidecar)


def test_marks_that_are_removed_under_a_running_sidecar(make: Make) -> None:
    """Removed marks are recreated within a second, and protect."""
    sidecar = make(top=KEEP).start()
    (sidecar.state_dir / "mark").unlink()
    sidecar.gate_mark.unlink()
    began = time.monotonic()
    eventually(sidecar.gate_mark.exists, "the mark")
    eventually((sidecar.state_dir / "mark").exists, "the mark")
    assert time.monotonic() - began < 4  # two checks, and a margin for a busy machine
    assert sidecar.operate("freeze")[0] == 200
    status, said = checked(sidecar)
    assert (status, f"process {sidecar.process.pid if sidecar.process else 0}" in said) == (0, True)
    sidecar.end(signal.SIGKILL)
    (sidecar.state_dir / "mark").unlink()
    (sidecar.state_dir / "journal.db-wal").unlink()
    refused(sidecar)


LOST: dict[str, Callable[[Path], object]] = {
    "state directory removed": shutil.rmtree,
    "state directory renamed": lambda path: path.rename(path.with_name("elsewhere")),
    "journal removed": lambda path: (path / "journal.db").unlink(),
    "log replaced": lambda path: (path / "lock").rename(path / "journal.db-wal"),
}


@pytest.mark.parametrize("lost", LOST)
def test_state_that_is_removed_under_a_running_sidecar(
    make: Make, oms: Webhooks, lost: str
) -> None:
    """Within two seconds it shuts, cancels, logs the reason, exits 4; the next start refuses."""
    sidecar = make(oms.target()).start()
    sidecar.events({"type": "heartbeat", "venue": "kraken"})
    assert sidecar.level(venue="kraken") is Level.ALLOW
    began = time.monotonic()
    LOST[lost](sidecar.state_dir)
    eventually(lambda: sidecar.level() is Level.HALT, "the shut gate")
    assert time.monotonic() - began < 4  # two checks, and a margin for a busy machine
    assert sidecar.wait() == 4
    assert "was removed, renamed or replaced" in sidecar.output()
    assert oms.sweeps(scope="account", limit="stop")
    if lost != "log replaced":
        refused(sidecar)


def test_another_account_on_the_same_state(make: Make) -> None:
    """The state of another account is refused with exit code 2 and one line."""
    sidecar = make().start()
    assert sidecar.end(signal.SIGTERM) == 0
    sidecar.config.write_text(sidecar.config.read_text().replace('"test"', '"other"', 1))
    assert sidecar.launch().wait() == 2
    (line,) = sidecar.output().splitlines()
    assert "is that of account test, and `account` is other: give each account a state_dir" in line


def test_the_cure_for_another_accounts_state_works(make: Make) -> None:
    """With its own gate, then its own state_dir as the message says, the account starts."""
    sidecar = make().start()
    assert sidecar.end(signal.SIGTERM) == 0
    text = sidecar.config.read_text().replace('"test"', '"other"', 1)
    text = text.replace(str(sidecar.gate_path), str(sidecar.gate_path.parent / "other.gate"))
    sidecar.config.write_text(text)
    assert sidecar.launch().wait() == 2
    sidecar.config.write_text(text.replace(str(sidecar.state_dir), f"{sidecar.state_dir}-other"))
    sidecar.start()
    mark = sidecar.gate_path.parent / ".other.gate.mark"
    eventually(mark.exists, "the mark beside the gate")


@pytest.mark.parametrize("damage", ["events", "snapshot"])
def test_damage_that_is_found_at_the_replay(make: Make, damage: str) -> None:
    """An unreadable entry or snapshot ends the start with 2 and a remedy."""
    sidecar = make()
    journal = Journal.open(sidecar.state_dir, gate=sidecar.gate_path)
    entries = [Entry(n, n, n, [Latency(venue="kraken", seconds=0.1)]) for n in range(1, 9)]
    journal.submit(Commit(entries=entries), lambda _: None)
    journal.submit(
        Commit(snapshot=b"no snapshot" if damage == "snapshot" else None), lambda _: None
    )
    journal.close(clean=True)
    if damage == "events":
        with apsw.Connection(str(sidecar.state_dir / "journal.db")) as db:
            db.execute("UPDATE inputs SET events = x'91c1' WHERE seq = 5")
        db.close()
    line = refused(sidecar, is_loss=damage == "events")
    assert ("entry 5" if damage == "events" else "snapshot") in line
    status, said = checked(sidecar)
    assert status == 2
    assert ("entry 5 is damaged" if damage == "events" else "snapshot at entry 8") in said


def test_the_first_start_on_a_full_disk(make: Make, tmp_path: Path) -> None:
    """A first start with any amount of free space exits 2 and names the full disk."""
    sidecar = make()
    for kib in (0, 4, 16, 40, 64):
        with Disk.in_memory(tmp_path / f"state{kib}", "256k") as disk:
            (disk.seen / "filler").write_bytes(bytes(256_000 - 1_024 * kib))
            sidecar.configure("", top="")
            text = sidecar.config.read_text().replace(str(sidecar.state_dir), str(disk.directory))
            sidecar.config.write_text(text)
            sidecar.launch(prefix=disk.prefix)
            status, said = sidecar.wait(), sidecar.output()
        assert status == 2, (kib, said)
        assert "space" in said, (kib, said)
        assert "Traceback" not in said
