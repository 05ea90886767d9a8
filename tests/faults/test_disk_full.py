"""A disk that is full or fails: a trip is durable, or the next start halts the account."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from riskmon.gate import Level
from riskmon.journal import Commit, Entry, Journal, JournalError
from riskmon.journal.reserve import RESERVE_BYTES
from tests.support.disks import Disk
from tests.support.sidecar import QUICK_LATENCY, SLOW_SAMPLES, Make, Sidecar
from tests.support.waiting import eventually
from tests.support.webhooks import Webhooks

pytestmark = pytest.mark.slow


def limit_files(sidecar: Sidecar) -> None:
    """Make each write beyond the current size of the journal's log fail with EFBIG."""
    assert sidecar.process is not None
    size = (sidecar.state_dir / "journal.db-wal").stat().st_size
    assert size > 24_576  # the marks are smaller and are written in place
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("ending", ["exit", "kill"])
def test_a_freeze_on_a_full_disk_is_durable(
    make: Make, oms: Webhooks, tmp_path: Path, ending: str
) -> None:
    """The reserve takes the freeze: exit 4, gate shut; no start while full; frozen afterwards."""
    sidecar = make(oms.target(), top='on_unclean_start = "keep"')
    with Disk.in_memory(tmp_path / "state", "8m") as disk:
        disk.start(sidecar)
        sidecar.events({"type": "heartbeat", "venue": "kraken"})
        disk.fill()
        assert sidecar.operate("freeze")[0] == 200
        assert sidecar.level() is Level.HALT
        if ending == "kill":
            sidecar.end(signal.SIGKILL)
        else:
            assert sidecar.wait() == 4
            assert "no space left on the disk" in sidecar.output()
        assert sidecar.launch(prefix=disk.prefix).wait() == 2
        assert "no space left" in sidecar.output()
        assert sidecar.level() is Level.HALT

        disk.make_room()
        disk.start(sidecar)
        assert sidecar.breaker("manual", "account")["state"] == "frozen"
        assert sidecar.breaker("storage", "account") == {}
        assert sidecar.level() is Level.HALT
        assert (disk.seen / "reserve").stat().st_blocks * 512 >= RESERVE_BYTES


def test_a_trip_on_a_full_disk_is_durable(make: Make, oms: Webhooks, tmp_path: Path) -> None:
    """A trip and its cancel are durable, with the other commits that are waiting."""
    config = QUICK_LATENCY + oms.target()
    sidecar = make(config, top='on_unclean_start = "keep"')
    with Disk.in_memory(tmp_path / "state", "8m") as disk:
        disk.start(sidecar)
        disk.fill()
        sidecar.events(*SLOW_SAMPLES)
        assert sidecar.wait() == 4
        assert oms.sweeps(limit="latency_p99")[:1] == [1]
        disk.make_room()
        disk.start(sidecar)
        assert sidecar.breaker("latency_p99", "venue:kraken")["state"] == "open"
        assert sidecar.level(venue="kraken") is Level.HALT
        assert sidecar.level() is Level.ALLOW  # no entry is lost, and no other scope was shut


def test_a_first_start_on_a_full_disk_exits_2(make: Make, tmp_path: Path) -> None:
    """A first start on a full disk exits 2 with the reason."""
    sidecar = make()
    with Disk.in_memory(tmp_path / "state", "8m") as disk:
        disk.fill()
        assert sidecar.launch(prefix=disk.prefix).wait() == 2
        said = sidecar.output()
        assert "space" in said
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize("shut", ["freeze", "trip"])
def test_a_failed_write_freezes_the_next_start(make: Make, oms: Webhooks, shut: str) -> None:
    """After a failed write, `storage` freezes the account until an operator ends the freeze."""
    sidecar = make(QUICK_LATENCY + oms.target()).start()
    sidecar.events({"type": "heartbeat", "venue": "kraken"})
    limit_files(sidecar)
    if shut == "freeze":
        assert sidecar.operate("freeze")[0] == 503
    else:
        assert sidecar.request("POST", "/v1/events", SLOW_SAMPLES)[0] == 503
    assert sidecar.level(venue="kraken") is Level.HALT
    assert sidecar.wait() == 4
    assert "the next start halts the account" in sidecar.output()

    oms.bodies.clear()
    sidecar.start()
    assert sidecar.breaker("storage", "account")["state"] == "frozen"
    assert sidecar.level() is Level.HALT
    assert sidecar.metric("riskmon_halted", limit="storage", reason="storage") == 1
    eventually(lambda: oms.sweeps(limit="storage", scope="account")[:2] == [1, 2], "the cancel")
    sidecar.end(signal.SIGKILL)
    sidecar.start()
    assert sidecar.breaker("storage", "account")["state"] == "frozen"
    eventually(lambda: all(one["confirmed"] for one in sidecar.state()["cancel"]), "the cancels")
    generation = sidecar.state()["generation"]
    assert sidecar.operate("unfreeze", generation=generation)[0] == 200
    eventually(lambda: sidecar.level() is Level.ALLOW, "the gate's opening")
    assert sidecar.end(signal.SIGTERM) == 0
    sidecar.start()
    assert sidecar.breaker("storage", "account")["state"] == "closed"
    assert sidecar.level() is Level.ALLOW


def test_the_flag_of_a_failure_is_kept_until_the_freeze_is_durable(tmp_path: Path) -> None:
    """The flag of a failed write is set at each start until it is cleared."""
    state_dir, gate = tmp_path / "state", tmp_path / "test.gate"
    journal = Journal.open(state_dir, gate=gate)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    faults: list[BaseException | None] = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (24_576, hard))
    try:
        entry = Entry(1, 1, 1, [], encoded=bytes(1_000_000))
        journal.submit(Commit(entries=[entry]), faults.append)
        journal.close(clean=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(faults[0], JournalError)
    for _ in range(2):
        journal = Journal.open(state_dir, gate=gate)
        assert journal.recover().storage_failed
        journal.close(clean=True)
    journal = Journal.open(state_dir, gate=gate)
    journal.clear_storage_failure()
    journal.close(clean=True)
    journal = Journal.open(state_dir, gate=gate)
    assert not journal.recover().storage_failed
    journal.close(clean=True)
