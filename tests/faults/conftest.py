"""Sidecars, receivers, and a standard error that is not read."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import Make, make, oms
from tests.support.harness import PATIENCE_SECONDS, Sidecar, eventually

__all__ = ["Make", "make", "oms"]

END_SECONDS = 3.0  # the limit for an orderly end, without last cancels


@dataclass
class Pipe:
    """A pipe with a buffer of one page."""

    read_end: int
    write_end: int

    def read(self) -> str:
        """Read the content of the pipe."""
        try:
            return os.read(self.read_end, 1 << 20).decode()
        except BlockingIOError:
            return ""


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Make a pipe that is full after 4 KiB."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4_096)
    os.set_blocking(read_end, False)
    yield Pipe(read_end, write_end)
    os.close(read_end)
    os.close(write_end)


def start(sidecar: Sidecar, pipe: Pipe) -> None:
    """Start with the pipe as standard error, and read it only up to the address."""
    sidecar.launch(stderr=pipe.write_end)
    said = ""

    def address() -> re.Match[str] | None:
        nonlocal said
        said += pipe.read()
        return re.search(r"http://127\.0\.0\.1:(\d+)", said)

    sidecar.port = int(eventually(address, "the address")[1])


def log_lines(sidecar: Sidecar, count: int) -> None:
    """Make the sidecar log `count` lines: a preview logs one for each operation too."""
    token = (sidecar.state_dir / "operator.token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = json.dumps({"scope": "account", "reason": "x" * 400, "preview": True})

    def send(times: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=PATIENCE_SECONDS)
        for _ in range(times):
            connection.request("POST", "/v1/freeze", body, headers)
            assert connection.getresponse().read()
        connection.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(send, [count // 4] * 4))


def end_seconds(sidecar: Sidecar) -> float:
    """Return the duration of an orderly end."""
    began = time.monotonic()
    assert sidecar.end(signal.SIGTERM) == 0
    return time.monotonic() - began


def threads(sidecar: Sidecar) -> int:
    """Return the number of threads of the process."""
    assert sidecar.process is not None
    return len(list(Path(f"/proc/{sidecar.process.pid}/task").iterdir()))
