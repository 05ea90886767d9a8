"""Sidecars whose standard error is a pipe that is not read, and how long they take to end."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.support.sidecar import Sidecar
from tests.support.waiting import PATIENCE_SECONDS, eventually

END_SECONDS = 3.0  # bound of an orderly end without last cancels


@dataclass
class Pipe:
    """A pipe that is full after 4 KiB."""

    read_end: int
    write_end: int

    @classmethod
    def open(cls) -> Pipe:
        """Make a pipe."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4_096)
        os.set_blocking(read_end, False)
        return cls(read_end, write_end)

    def read(self) -> str:
        """Read all of the content."""
        try:
            return os.read(self.read_end, 1 << 20).decode()
        except BlockingIOError:
            return ""

    def close(self) -> None:
        """Close both ends."""
        os.close(self.read_end)
        os.close(self.write_end)


def start(sidecar: Sidecar, pipe: Pipe) -> None:
    """Start with the pipe as standard error; read it up to the address, not further."""
    sidecar.launch(stderr=pipe.write_end)
    output = ""

    def address() -> re.Match[str] | None:
        nonlocal output
        output += pipe.read()
        return re.search(r"http://127\.0\.0\.1:(\d+)", output)

    sidecar.port = int(eventually(address, "the address")[1])


def log_lines(sidecar: Sidecar, count: int) -> None:
    """Make the sidecar log ``count`` lines: one for each operation, previews included."""
    headers = {
        "Authorization": f"Bearer {sidecar.operator_token}",
        "Content-Type": "application/json",
    }
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
    """End in order; return how long that takes."""
    began = time.monotonic()
    assert sidecar.end(signal.SIGTERM) == 0
    return time.monotonic() - began


def threads(sidecar: Sidecar) -> int:
    """Return the number of threads of the process."""
    assert sidecar.process is not None
    return len(list(Path(f"/proc/{sidecar.process.pid}/task").iterdir()))
