"""Starts the real programs of the stack for a test, and ends them with it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from riskmon.settings import load

SECRET = "whsec_" + "c2VjcmV0" * 5
START_MAX_SECONDS = 30.0
# Loopback is never asked through a proxy that the environment names.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    """Give a port of loopback that nobody holds at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str, body: object = None, token: str | None = None, method: str | None = None) -> Any:
    """GET, or POST a body; give the JSON that is answered, or the text. Raises OSError."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None
    if body is not None:
        headers["Content-Type"], data = "application/json", json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    with _opener.open(request, timeout=5) as response:
        text = response.read().decode()
        return json.loads(text) if "json" in response.headers.get_content_type() else text


def answers(url: str) -> bool:
    """Whether the address answers with success."""
    try:
        ask(url)
    except OSError:
        return False
    return True


def until(holds: Callable[[], object], what: str, max_seconds: float = START_MAX_SECONDS) -> None:
    """Wait for something to come true; fails with what did not."""
    end = time.monotonic() + max_seconds
    while not holds():
        assert time.monotonic() < end, f"not within {max_seconds:g} s: {what}"
        time.sleep(0.1)


@contextmanager
def running(
    command: Sequence[str], folder: Path, ready: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a folder until the block ends; begin when ``ready`` answers."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RISKMON_")}
    # The source first: what is tested is what lies here, installed or not.
    kept["PYTHONPATH"] = str(Path(__file__).parent.parent.parent)
    log = folder / f"{Path(command[0]).name}.{free_port()}.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=kept, stdout=said, stderr=subprocess.STDOUT
        )

    def is_ready() -> bool:
        assert process.poll() is None, f"{command}: {log.read_text(encoding='utf-8')[-2_000:]}"
        return ready is None or answers(ready)

    try:
        until(is_ready, f"{ready} of {command}")
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Sidecar:
    """A running sidecar: its address and how to call it."""

    def __init__(self, url: str, operator_token: str) -> None:
        self.url, self._token = url, operator_token

    def report(self, *events: dict[str, object]) -> None:
        """Send events; they are durable on return."""
        ask(f"{self.url}/v1/events", list(events), self._token)

    def call(self, path: str, **body: object) -> Any:
        """Call an endpoint below /v1 as an operator."""
        return ask(f"{self.url}/v1/{path}", body or None, self._token)


@contextmanager
def sidecar(folder: Path, config: str, name: str = "riskmon.toml") -> Iterator[Sidecar]:
    """Run `riskmon run` on this configuration."""
    path = folder / name
    path.write_text(config, encoding="utf-8")
    settings = load(path, env={})
    url = f"http://127.0.0.1:{settings.http.port}"
    command = [sys.executable, "-m", "riskmon", "run", "--config", str(path)]
    with running(command, folder, f"{url}/-/ready"):
        token = (settings.state_dir / "operator.token").read_text(encoding="utf-8").strip()
        yield Sidecar(url, token)


class Receiver:
    """A webhook receiver that keeps what it is sent, by path, and answers cancels with done."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, Any]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((self.path, json.loads(body)))
                answer = b'{"status":"done","canceled":2,"open_orders":0}'
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
