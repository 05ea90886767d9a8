"""The journal's time: one commit compared with a bare fdatasync, and group commits."""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from queue import SimpleQueue

from riskmon.core.events import Latency
from riskmon.journal import Commit, Entry, Journal

PAGE = bytes(4_096)
ALONE = 1_000
WAITERS = 64
GROUPED = 50_000


def run() -> list[tuple[str, str]]:
    """Measure on the disk of /var/tmp. Only the ratios can be compared between machines."""
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as directory,  # /tmp may be in memory
        tempfile.TemporaryDirectory(dir="/dev/shm") as gates,
    ):
        path = Path(directory)
        synced_s = sync_s(path / "bare")
        with _journal(path / "state", Path(gates) / "bench.gate") as journal:
            alone_s = _alone_s(journal)
            rate, waited_s = _grouped(journal)
    sync_median_s, median_s = statistics.median(synced_s), statistics.median(alone_s)
    return [
        ("journal: bare write of a page and fdatasync", f"{sync_median_s * 1e3:.3f} ms"),
        (
            "journal: single commit, median",
            f"{median_s * 1e3:.3f} ms, {median_s / sync_median_s:.1f} × fdatasync",
        ),
        (
            "journal: single commit, p99",
            f"{_p99(alone_s) * 1e3:.3f} ms, {_p99(alone_s) / _p99(synced_s):.1f} × fdatasync",
        ),
        (
            f"journal: group commit, {WAITERS} senders",
            f"{rate:,.0f} commits/s, {rate * sync_median_s:.0f} per fdatasync",
        ),
        (f"journal: group commit, {WAITERS} senders, p99", f"{_p99(waited_s) * 1e3:.2f} ms"),
    ]


@contextmanager
def _journal(state_dir: Path, gate: Path) -> Iterator[Journal]:
    journal = Journal.open(state_dir, gate=gate)
    try:
        yield journal
    finally:
        journal.close(clean=True)


def _p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[-1]


def _commit(seq: int) -> Commit:
    return Commit(entries=[Entry(seq, seq, seq, [Latency(venue="kraken", seconds=0.1)])])


def sync_s(path: Path) -> list[float]:
    # In allocated space, as SQLite's log after it has reached its size.
    path.write_bytes(PAGE * ALONE)
    handle = os.open(path, os.O_WRONLY)
    os.fsync(handle)
    taken: list[float] = []
    for n in range(ALONE):
        begun = time.perf_counter()
        os.pwrite(handle, PAGE, n * len(PAGE))
        os.fdatasync(handle)
        taken.append(time.perf_counter() - begun)
    os.close(handle)
    return taken


def _alone_s(journal: Journal) -> list[float]:
    answers: SimpleQueue[BaseException | None] = SimpleQueue()
    taken: list[float] = []
    for seq in range(1, ALONE + 1):
        begun = time.perf_counter()
        journal.submit(_commit(seq), answers.put)
        fault = answers.get()
        taken.append(time.perf_counter() - begun)
        assert fault is None
    return taken


def _grouped(journal: Journal) -> tuple[float, list[float]]:
    """Return the commits/s and the wait of each commit, with ``WAITERS`` unanswered commits."""
    seqs = count(ALONE + 1)
    waited: list[float] = []
    finished = threading.Event()

    def submit() -> None:
        journal.submit(_commit(next(seqs)), answered(time.perf_counter()))

    def answered(begun: float) -> Callable[[BaseException | None], None]:
        def done(fault: BaseException | None) -> None:
            assert fault is None
            waited.append(time.perf_counter() - begun)
            if len(waited) >= GROUPED:
                finished.set()
            else:
                submit()  # each answer is followed by the next commit

        return done

    begun = time.perf_counter()
    for _ in range(WAITERS):
        submit()
    assert finished.wait(120)
    return GROUPED / (time.perf_counter() - begun), waited[:GROUPED]


if __name__ == "__main__":
    for what, figure in run():
        print(f"{what:55} {figure}")
