"""Standard error is a pipe that is not read: the sidecar continues, and ends."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from riskmon.gate import Level
from riskmon.log import LINES_MAX
from tests.faults.pipes import END_SECONDS, Pipe, end_seconds, log_lines, start
from tests.support import ROOT
from tests.support.sidecar import QUICK_LATENCY, SLOW_SAMPLES, Make
from tests.support.waiting import PATIENCE_SECONDS, eventually
from tests.support.webhooks import SECRET, Webhooks

pytestmark = pytest.mark.slow


def test_a_full_pipe_stops_nothing(make: Make, oms: Webhooks, pipe: Pipe) -> None:
    """Events, the gate and a trip's cancel continue; dropped lines are reported later."""
    sidecar = make(QUICK_LATENCY + oms.target())
    start(sidecar, pipe)
    assert sidecar.metric("riskmon_log_dropped_total") == 0
    log_lines(sidecar, LINES_MAX + 200)
    dropped = sidecar.metric("riskmon_log_dropped_total")
    assert dropped
    assert dropped > 0
    assert sidecar.level() is Level.ALLOW
    assert sidecar.events({"type": "heartbeat", "venue": "kraken"})["accepted"] == 1
    sidecar.events(*SLOW_SAMPLES)
    eventually(lambda: oms.sweeps(limit="latency_p99"), "the cancel")
    assert sidecar.level(venue="mexc") is Level.HALT  # not registered
    assert sidecar.level() is Level.ALLOW
    said = ""

    def counted() -> re.Match[str] | None:
        nonlocal said
        said += pipe.read()
        return re.search(r"(\d+) log lines were dropped", said)

    assert int(eventually(counted, "the count")[1]) >= dropped
    assert end_seconds(sidecar) < END_SECONDS


def test_the_end_does_not_wait_for_a_full_pipe(make: Make, pipe: Pipe) -> None:
    """SIGTERM ends the sidecar in order and in time while its lines are not read."""
    sidecar = make()
    start(sidecar, pipe)
    log_lines(sidecar, 40)
    assert end_seconds(sidecar) < END_SECONDS
    sidecar.start()
    assert sidecar.incidents("start")[0]["reason"] == ""  # the previous end was clean


def test_a_pipe_without_reader_stops_nothing(make: Make) -> None:
    """When the reader of the log has exited, lines are counted and the exit status stays 0."""
    sidecar = make()
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read_end, False)
    start(sidecar, Pipe(read_end, write_end))
    os.close(read_end)
    os.close(write_end)
    log_lines(sidecar, 8)
    eventually(lambda: sidecar.metric("riskmon_log_dropped_total") == 8, "the count")
    assert end_seconds(sidecar) < END_SECONDS


def test_a_start_that_fails_does_not_hang(make: Make, pipe: Pipe) -> None:
    """A second instance exits 2 although its message cannot be written."""
    make().start()
    os.set_blocking(pipe.write_end, False)
    os.write(pipe.write_end, b"x" * 4_096)
    os.set_blocking(pipe.write_end, True)
    assert make().launch(stderr=pipe.write_end).wait() == 2


def test_the_oms_answers_with_a_full_pipe(pipe: Pipe, tmp_path: Path) -> None:
    """While its events are not read, the reference OMS processes webhooks, and ends."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    process = subprocess.Popen(
        [sys.executable, "-m", "riskmon.oms", "--listen", "127.0.0.1:0", "--secret-file", secret],
        stdout=pipe.write_end,
        cwd=ROOT,
    )
    try:
        port = int(eventually(lambda: re.search(r"127\.0\.0\.1:(\d+)", pipe.read()), "the port")[1])
        for _ in range(60):
            assert post(port, b"{}", {}) == 401  # one line each
        body, at = '{"type":"drill"}', datetime.now(UTC)
        signature = Webhook(SECRET).sign("msg_1", at, body)
        signed = {"webhook-id": "msg_1", "webhook-timestamp": str(int(at.timestamp()))}
        assert post(port, body.encode(), {**signed, "webhook-signature": signature}) == 200
        began = time.monotonic()
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
        assert time.monotonic() - began < END_SECONDS
    finally:
        process.kill()
        process.wait()


def post(port: int, body: bytes, headers: dict[str, str]) -> int:
    """Return the status of one webhook."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    connection.request("POST", "/cancel", body, headers)
    status = connection.getresponse().status
    connection.close()
    return status
