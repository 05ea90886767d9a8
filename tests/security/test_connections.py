"""An attacker's connections, and the requests that are accepted beside them."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support import ROOT
from tests.support.sidecar import Make, Sidecar

pytestmark = pytest.mark.slow

FREEZES = 56
AT_MOST_SECONDS = 3.0  # 0.1 to 0.3 s on an idle machine


class Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


@contextmanager
def attack(mode: str, count: int, addresses: int, target: str) -> Iterator[None]:
    """Run an attacker with ``count`` connections to ``target`` until the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.security.attacker", mode, str(count), str(addresses), target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as attacker:
        assert attacker.stdout is not None
        assert attacker.stdin is not None
        try:
            assert attacker.stdout.readline() == b"held\n"
            yield
            attacker.stdin.close()
            assert int(attacker.stdout.readline()) >= count
        finally:
            attacker.kill()


def freeze(sidecar: Sidecar, *, unix: bool) -> float:
    """Return the duration of one freeze over a separate connection."""
    token = (sidecar.state_dir / "operator.token").read_text().strip()
    began = time.monotonic()
    connection = (
        Unix(f"{sidecar.directory}/sock")
        if unix
        else http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=10)
    )
    try:
        connection.request(
            "POST",
            "/v1/freeze",
            json.dumps({"scope": "account", "reason": "an attack"}),
            {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        )
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
    finally:
        connection.close()
    return time.monotonic() - began


def test_incomplete_requests_do_not_block_operators(make: Make) -> None:
    """56 of 56 freezes are accepted, over TCP and the Unix socket, during each attack."""
    sidecar = make().start()
    port, path = str(sidecar.port), f"{sidecar.directory}/sock"
    worst: dict[tuple[str, int, str], float] = {}
    for mode, count, addresses, target in (
        ("silent", 128, 1, port),
        ("drip", 512, 10, port),
        ("body", 512, 10, port),
        ("idle", 512, 10, port),
        ("unread", 128, 1, port),
        ("silent", 128, 1, path),
        ("unread", 64, 1, path),
    ):
        with attack(mode, count, addresses, target):
            for unix in (False, True):
                seconds = [freeze(sidecar, unix=unix) for _ in range(FREEZES // 2)]
                worst[mode, count, "unix" if unix else "tcp"] = max(seconds)
    print(worst)
    assert max(worst.values()) <= AT_MOST_SECONDS
    assert "Traceback" not in sidecar.output()
