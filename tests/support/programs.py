"""Other programs: their environment, their start, and requests to them."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import ROOT
from tests.support.ports import free_port
from tests.support.waiting import eventually

# Requests to loopback do not go through a proxy that the environment names.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this environment without riskmon's variables, for programs of this source tree."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("RISKMON_")}
    return {**inherited, **(more or {}), "PYTHONPATH": str(ROOT)}


def ask(url: str, body: object = None, token: str | None = None, method: str | None = None) -> Any:
    """GET, or POST a body; return the decoded JSON or the text. Raises OSError."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None
    if body is not None:
        headers["Content-Type"], data = "application/json", json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    with _opener.open(request, timeout=5) as response:
        text = response.read().decode()
        return json.loads(text) if "json" in response.headers.get_content_type() else text


def answers(url: str) -> bool:
    """Whether a GET of the address succeeds."""
    try:
        ask(url)
    except OSError:
        return False
    return True


@contextmanager
def running(
    command: Sequence[str], folder: Path, ready: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a folder until the block ends; enter it when ``ready`` answers."""
    # The port only makes the name unique.
    log = folder / f"{Path(command[0]).name}.{free_port()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=output, stderr=subprocess.STDOUT
        )

    def is_ready() -> bool:
        assert process.poll() is None, f"{command}: {log.read_text(encoding='utf-8')[-2_000:]}"
        return ready is None or answers(ready)

    try:
        eventually(is_ready, f"{ready} of {command}", pause_seconds=0.1)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
