"""SIGTERM ends the sidecar in order, within 3 s plus the last cancels."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from riskmon.core.events import Latency
from riskmon.journal import Commit, Entry, Journal
from tests.faults.pipes import END_SECONDS, Pipe, end_seconds, log_lines, start, threads
from tests.faults.receivers import hostile_receivers
from tests.support import ROOT
from tests.support.sidecar import LEASE_SECONDS, QUICK_LATENCY, SLOW_SAMPLES, Make, Sidecar
from tests.support.waiting import PATIENCE_SECONDS, eventually
from tests.support.webhooks import SECRET, Webhooks, accepted

pytestmark = pytest.mark.slow


def targets(urls: dict[str, str]) -> str:
    """Return the configuration of these cancel targets."""
    return "".join(
        f'\n[[cancel]]\nname = "{name}"\nurl = "{url}"\nsecret = "{SECRET}"\n'
        for name, url in urls.items()
    )


def connect(sidecar: Sidecar, *, small: bool = False) -> socket.socket:
    """Open a TCP connection; `small` makes its receive buffer small."""
    sock = socket.socket()
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.connect(("127.0.0.1", sidecar.port))
    return sock


@contextmanager
def bad_peers(sidecar: Sidecar) -> Iterator[None]:
    """Open silent connections, partial heads and bodies, streams and answers that are not read."""
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connect(sidecar))
            stack.enter_context(connect(sidecar)).sendall(b"POST /v1/events HTTP/1.1\r\nHost")
            stack.enter_context(connect(sidecar)).sendall(
                b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n["
            )
            stack.enter_context(connect(sidecar, small=True)).sendall(
                b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
            )
        for _ in range(4):
            stack.enter_context(connect(sidecar, small=True)).sendall(
                b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
        yield


def send_large_batches(sidecar: Sidecar) -> threading.Thread:
    """Send batches of nearly 1 MiB until the sidecar has ended."""
    event = {"type": "latency", "venue": "kraken", "seconds": 0.01}
    batch = json.dumps([event] * 15_000).encode()

    def send() -> None:
        with suppress(OSError, http.client.HTTPException):
            while True:
                sidecar.request("POST", "/v1/events", batch)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def drill(sidecar: Sidecar) -> subprocess.Popen[bytes]:
    """Run a drill of the sidecar's targets."""
    return subprocess.Popen(
        [sys.executable, "-m", "riskmon", "drill", "--config", str(sidecar.config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )


def test_everything_at_once(make: Make, pipe: Pipe) -> None:
    """Hostile receivers and peers, batches, a drill, a full log and many signals: exit 0 in 3 s."""
    with hostile_receivers() as urls:
        sidecar = make(QUICK_LATENCY + targets(urls))
        start(sidecar, pipe)
        log_lines(sidecar, 40)
        sidecar.events(*SLOW_SAMPLES)
        drilling = drill(sidecar)
        with bad_peers(sidecar):
            batches = send_large_batches(sidecar)
            time.sleep(0.5)
            began = time.monotonic()
            sidecar.send(signal.SIGINT)
            assert sidecar.process is not None
            while sidecar.process.poll() is None:
                sidecar.send(signal.SIGTERM)
                assert time.monotonic() - began < 2 * END_SECONDS
                time.sleep(0.005)
            took = time.monotonic() - began
        assert sidecar.process.returncode == 0
        print(f"ended after {took:.2f} s")
        assert took < END_SECONDS
        batches.join(END_SECONDS)
        assert drilling.wait(PATIENCE_SECONDS) == 1


def test_last_cancels_have_a_bounded_time(make: Make, oms: Webhooks) -> None:
    """With `on_stop = "cancel"` unconfirmed cancels delay the end by 5 s and a lease."""
    oms.answer = accepted
    with hostile_receivers() as urls:
        config = oms.target() + targets({"silent": urls["silent"]})
        sidecar = make(config, top='on_stop = "cancel"').start()
        took = end_seconds(sidecar)
    assert oms.sweeps(limit="stop", scope="account")[:2] == [1, 2]
    assert 5 + LEASE_SECONDS < took < 5 + LEASE_SECONDS + END_SECONDS


def with_large_entries(state_dir: Path) -> None:
    """Create a journal without a snapshot, of 100 entries with 10,000 events each."""
    journal = Journal.open(state_dir)
    events = [Latency(venue="kraken", seconds=0.01)] * 10_000
    for seq in range(1, 101):
        entry = Entry(seq, 10**18 + seq, 10**18 + seq, events)
        journal.submit(Commit(entries=[entry]), lambda _: None)
    journal.close(clean=True)


def content(state_dir: Path) -> list[tuple[object, ...]]:
    """Return the content of a journal without its large blobs."""
    with closing(sqlite3.connect(state_dir / "journal.db")) as db:
        meta = db.execute("SELECT key, value FROM meta ORDER BY key").fetchall()
        inputs = db.execute("SELECT seq, now_ns, length(events) FROM inputs").fetchall()
        rest = [
            db.execute(f"SELECT count(*) FROM {table}").fetchone()
            for table in ("audit", "outbox", "transitions", "snapshots")
        ]
    return [*meta, *inputs, *rest]


def test_in_a_long_replay(make: Make) -> None:
    """SIGTERM during the replay of large batches ends it soon, and changes nothing."""
    sidecar = make()
    with_large_entries(sidecar.state_dir)
    before = content(sidecar.state_dir)
    sidecar.launch()
    path = str(sidecar.directory / "sock")

    def listens() -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(path) == 0

    eventually(listens, "the listener")
    assert end_seconds(sidecar) < END_SECONDS
    assert "nothing has changed" in sidecar.output()
    assert content(sidecar.state_dir) == before


def test_in_a_reload_that_hangs(make: Make) -> None:
    """A reload whose file cannot be read to its end delays nothing."""
    sidecar = make().start()
    sidecar.config.unlink()
    os.mkfifo(sidecar.config)
    before = threads(sidecar)
    sidecar.send(signal.SIGHUP)
    eventually(lambda: threads(sidecar) > before, "the reload's thread")
    assert end_seconds(sidecar) < END_SECONDS
