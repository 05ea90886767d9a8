"""The journal stays within `max_bytes` at any rate, and keeps the entries that a start needs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from riskmon.core.events import Event, Latency
from riskmon.journal import Commit, Entry, Journal
from tests.support.sidecar import Make, Sidecar

MAX_BYTES = 1_000_000


def size_of(state_dir: Path) -> int:
    """Return the bytes of the journal and its log."""
    return sum((state_dir / name).stat().st_size for name in ("journal.db", "journal.db-wal"))


def largest(state_dir: Path, write: Callable[[], object]) -> int:
    """Return the largest size of the journal during ``write``."""
    sizes, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            sizes.append(size_of(state_dir))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        write()
    finally:
        ended.set()
        watcher.join()
    return max(sizes)


def commits(count: int, events: list[Event], every: int) -> Iterator[Commit]:
    """Yield so many commits of one entry each, with a snapshot after every so many entries."""
    for seq in range(1, count + 1):
        snapshot = b"s" * 20_000 if seq % every == 0 else None
        yield Commit(entries=[Entry(seq, seq, seq, events)], snapshot=snapshot)


# Several times what fits. By count, not by time: a busy machine writes little in a second.
@pytest.mark.parametrize(("count", "batch", "every"), [(20_000, 1, 1_000), (1_000, 100, 25)])
def test_the_size_is_bounded_at_the_rate_of_the_disk(
    tmp_path: Path, count: int, batch: int, every: int
) -> None:
    """Single events and batches, as fast as they are taken: at most 10 % over, and most is used."""
    journal = Journal.open(tmp_path)
    journal.prune(keep_days=30, max_bytes=MAX_BYTES)
    room = threading.Semaphore(64)
    faults: list[BaseException] = []

    def done(fault: BaseException | None) -> None:
        faults.extend([fault] if fault else [])
        room.release()

    def write() -> None:
        events: list[Event] = [Latency(venue="kraken", operation="add_order", seconds=0.1)] * batch
        for commit in commits(count, events, every):
            room.acquire()
            journal.submit(commit, done)

    reached = largest(tmp_path, write)
    journal.close(clean=True)
    assert faults == []
    assert 0.6 * MAX_BYTES < reached < 1.1 * MAX_BYTES
    journal = Journal.open(tmp_path)
    found = journal.recover()
    seqs = [entry.seq for entry in found.entries]
    journal.close(clean=True)
    assert found.last_seq == count
    assert seqs == list(range(found.last_seq - len(seqs) + 1, found.last_seq + 1))


@pytest.mark.slow
def test_the_size_is_bounded_in_a_sidecar(make: Make) -> None:
    """With events over four connections the size stays bounded, and a restart replays the rest."""
    sidecar = make(f"[journal]\nmax_bytes = {MAX_BYTES}").start()
    body = json.dumps([{"type": "latency", "venue": "kraken", "seconds": 0.01}] * 1_000).encode()

    def write() -> None:
        threads = [threading.Thread(target=post, args=(sidecar, body, 4.0)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    reached = largest(sidecar.state_dir, write)
    taken = sidecar.metric("riskmon_events_total", type="latency")
    assert taken is not None
    assert taken > 10_000  # several times the maximum size
    assert 0.5 * MAX_BYTES < reached < 1.1 * MAX_BYTES


def post(sidecar: Sidecar, body: bytes, seconds: float) -> None:
    """Send a batch repeatedly."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        assert sidecar.request("POST", "/v1/events", body)[0] == 200
