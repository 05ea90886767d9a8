"""A process without a free file descriptor: connections, cancels, the gate and the log."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from riskmon.gate import Level
from riskmon.sidecar.open_files import CONNECTIONS_MIN, OWN_FILES, TooFewFiles, connection_caps
from tests.security.test_connections import attack, freeze
from tests.support import ROOT
from tests.support.sidecar import Make
from tests.support.waiting import eventually
from tests.support.webhooks import SECRET, Webhooks

# The strategy's silence trips two seconds after its heartbeat, without any request.
SILENCE = """
[limits.heartbeat]
max = 2
"""


def test_connections_fit_the_limit_on_open_files() -> None:
    """The connection caps and the sidecar's own files are below every limit on open files."""
    for limit in (OWN_FILES + CONNECTIONS_MIN, 64, 256, 1_024, 65_536):
        caps = connection_caps(512, 0, limit)
        held = caps.connections + caps.spare_connections
        held += caps.unix_connections + caps.unix_spare_connections
        assert held + OWN_FILES <= limit
        assert min(caps.connections, caps.unix_connections, caps.spare_connections) >= 1
    assert connection_caps(512, 2, 1_024).connections == 512
    with pytest.raises(TooFewFiles, match=r"is 40: raise it to 48 or more \(ulimit -n"):
        connection_caps(512, 0, 40)


@pytest.mark.slow
def test_operators_are_accepted_with_a_small_limit(make: Make, oms: Webhooks) -> None:
    """With 64 open files and 200 attackers a freeze is accepted and its cancel is delivered."""
    sidecar = make(oms.target()).start(prefix=("prlimit", "--nofile=64:64"))
    with attack("silent", 200, 10, str(sidecar.port)):
        seconds = [freeze(sidecar, unix=unix) for unix in (False, True) for _ in range(5)]
        eventually(lambda: oms.sweeps(limit="manual") == [1, 2], "both sweeps")
    assert max(seconds) < 3
    assert sidecar.logs("the limit on open files allows")
    assert "Traceback" not in sidecar.output()


@pytest.mark.slow
def test_no_descriptor_left(make: Make, oms: Webhooks) -> None:
    """A cancel arrives, the gate is renewed, the log has one line, and memory does not grow."""
    sidecar = make(oms.target() + SILENCE).start()
    sidecar.events({"type": "heartbeat", "strategy": "mm1"}, {"type": "heartbeat", "venue": "a"})
    assert sidecar.process is not None
    pid = sidecar.process.pid
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    opened = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (opened + 1, hard))
    memory = resident_bytes(pid)
    with silent(sidecar.port, 300):
        eventually(lambda: oms.sweeps(limit="heartbeat"), "the cancel")
        assert sidecar.level(strategy="mm1") == Level.HALT
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            assert sidecar.level(venue="a") == Level.ALLOW
            time.sleep(0.05)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    pauses = eventually(lambda: sidecar.metric("riskmon_accept_pauses_total"), "the metric")
    assert 1 <= pauses <= 10
    assert sidecar.output().count("cannot accept connections") == 1
    assert "Traceback" not in sidecar.output()
    assert resident_bytes(pid) - memory < 20_000_000
    assert sidecar.operate("freeze")[0] == 200


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@contextmanager
def silent(port: int, number: int) -> Iterator[None]:
    """Open connections that send nothing, accepted or not."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for sock in sockets:
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect(("127.0.0.1", port))
        yield
    finally:
        for sock in sockets:
            sock.close()


# All descriptors are used: only the reserved ones are left for the attempt.
SPENT = """
import asyncio, os, resource, sys
from riskmon.outbox.queue import Outbox
from riskmon.outbox.target import CancelTarget

async def main(url, secret):
    outbox = Outbox([CancelTarget(name="oms", url=url, secret=(secret,))], print)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        while True:
            os.dup(0)
    except OSError:
        pass
    for _ in range(3):
        (drill,) = await outbox.drill("main")
        assert drill.ok, drill
    try:
        os.dup(0)
    except OSError:
        print("still none left")
    await outbox.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_cancels_have_descriptors_of_their_own(oms: Webhooks, host: str) -> None:
    """Three signed attempts in a row arrive from a process that cannot open any file."""
    done = subprocess.run(
        [sys.executable, "-c", SPENT, oms.url.replace("127.0.0.1", host), SECRET],
        capture_output=True,
        cwd=ROOT,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"still none left" in done.stdout
    assert len(oms.bodies) == 3
