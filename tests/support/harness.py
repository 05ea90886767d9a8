"""A real sidecar in a process of its own, and a receiver of its cancels."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from standardwebhooks import Webhook

from riskmon.gate import Gate, Level

ROOT = Path(__file__).parent.parent.parent
SECRET = "whsec_c2lkZWNhci10ZXN0cy1zaWduLXdpdGgtdGhpcy1vbmU="
LEASE_SECONDS = 0.5
PATIENCE_SECONDS = 20.0  # for what must come, on a machine that may be busy

# Two slow samples trip a venue.
QUICK_LATENCY = """
[limits.latency_p99]
max = 0.2
window = 10
min_samples = 2
breaches = 1
recover = "operator"
"""
SLOW_SAMPLES = [{"type": "latency", "venue": "kraken", "seconds": 0.9}] * 2


def eventually(holds: Callable[[], Any], what: str = "it") -> Any:
    """What ``holds`` gives, as soon as that is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        if found := holds():
            return found
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.005)


def boot_ns() -> int:
    """The gate's clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Sidecar:
    """`python -m riskmon run` in a directory of its own; the port is the system's choice."""

    def __init__(self, directory: Path, config: str = "", *, top: str = "") -> None:
        self.directory = directory
        self.state_dir, self.gate_path = directory / "state", directory / "test.gate"
        self.config = directory / "riskmon.toml"
        self.log = directory / "sidecar.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.configure(config, top=top)

    @property
    def gate_mark(self) -> Path:
        """The journal's mark beside the gate."""
        return self.gate_path.with_name(f".{self.gate_path.name}.mark")

    def configure(self, config: str, *, top: str = "") -> None:
        """Write the configuration: ``top`` holds keys outside of any table."""
        self.config.write_text(
            f'account = "test"\nstate_dir = "{self.state_dir}"\ngate = "{self.gate_path}"\n{top}\n'
            f'[http]\nlisten = "127.0.0.1:0"\nunix = "{self.directory}/sock"\n{config}\n'
        )

    def launch(
        self,
        *,
        prefix: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
        config: bool = True,
        environment: Mapping[str, str] | None = None,
        stderr: int | None = None,
    ) -> Self:
        """Start the process and do not wait for it.

        ``config`` is whether its file is named; ``stderr`` is a descriptor instead of the log file.
        """
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RISKMON_")}
        named = ["--config", str(self.config)] if config else []
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "riskmon", "run", *named, *options],
                stdin=subprocess.DEVNULL,
                stderr=log if stderr is None else stderr,
                stdout=log,
                cwd=self.directory,
                env={**inherited, **(environment or {}), "PYTHONPATH": str(ROOT)},
            )
        return self

    def start(self, **launch: Any) -> Self:
        """Start the process as :meth:`launch` does; returns when it says where it listens."""
        self.launch(**launch)
        self.port = int(eventually(self._announced, "the sidecar's address")[1])
        return self

    def _announced(self) -> re.Match[str] | None:
        assert self.process is not None
        said = self.said()
        assert self.process.poll() is None, f"exit {self.process.returncode}: {said}"
        return re.search(r"http://127\.0\.0\.1:(\d+)", said)

    def said(self) -> str:
        """All of its output so far; a running sidecar writes its lines a moment later."""
        return self.log.read_text("utf-8", errors="replace")

    def says(self, text: str) -> bool:
        """Whether the text is in its output, waited for."""
        return bool(eventually(lambda: text in self.said(), f"{text!r} in the log"))

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; the exit status."""
        assert self.process is not None
        return self.process.wait(PATIENCE_SECONDS)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit status."""
        self.send(number)
        return self.wait()

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- over HTTP --------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, body: object = None, *, operator: bool = False
    ) -> tuple[int, bytes]:
        """One call: the status and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        headers = {"Content-Type": "application/json"}
        if operator:
            token = (self.state_dir / "operator.token").read_text().strip()
            headers["Authorization"] = f"Bearer {token}"
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def events(self, *events: dict[str, Any]) -> dict[str, Any]:
        """Report events that must be taken; the answer."""
        status, body = self.request("POST", "/v1/events", list(events))
        assert status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer

    def operate(self, action: str, scope: str = "account", **more: Any) -> tuple[int, Any]:
        """An operator's call."""
        body = {"scope": scope, "reason": "a test", **more}
        status, answer = self.request("POST", f"/v1/{action}", body, operator=True)
        return status, json.loads(answer)

    def state(self) -> dict[str, Any]:
        """The answer of ``GET /v1/state``."""
        status, body = self.request("GET", "/v1/state")
        assert status == 200, body
        state: dict[str, Any] = json.loads(body)
        return state

    def breaker(self, limit: str, scope: str) -> dict[str, Any]:
        """One breaker out of the state; empty when there is none."""
        found = [b for b in self.state()["breakers"] if (b["limit"], b["scope"]) == (limit, scope)]
        return found[0] if found else {}

    def incidents(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The audit trail, newest first."""
        records = json.loads(self.request("GET", "/v1/incidents")[1])["incidents"]
        return [record for record in records if kind in (None, record["kind"])]

    def metric(self, name: str, **labels: str) -> float | None:
        """One sample of the metrics page."""
        page = self.request("GET", "/metrics")[1].decode()
        for line in page.splitlines():
            found = re.fullmatch(re.escape(name) + r"(?:\{(.*)\})? (\S+)", line)
            if found is None:
                continue
            given = dict(re.findall(r'(\w+)="([^"]*)"', found[1] or ""))
            if labels.items() <= given.items():
                return float(found[2])
        return None

    def level(self, **scope: str) -> Level:
        """What a fresh reader of the gate sees."""
        try:
            with Gate.open(self.gate_path) as gate:
                return gate.level(**scope)
        except FileNotFoundError:
            return Level.HALT


class Webhooks:
    """A receiver on a port that stays its own; it can go down and come back.

    ``answer`` gives (status, body) for a decoded webhook. Each webhook with a good signature is
    in ``bodies``, with its ``id``.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], tuple[int, dict[str, Any]]] = done
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.up()

    @property
    def url(self) -> str:
        """Where it takes webhooks, up or down."""
        return f"http://127.0.0.1:{self._port}/cancel"

    def target(self, name: str = "oms", confirm: str = "answer") -> str:
        """The configuration of this receiver as a cancel target."""
        return (
            f'\n[[cancel]]\nname = "{name}"\nurl = "{self.url}"\nsecret = "{SECRET}"\n'
            f'confirm = "{confirm}"\n'
        )

    def up(self) -> None:
        """Listen."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                Webhook(SECRET).verify(body, dict(self.headers))
                webhook = {**json.loads(body), "id": self.headers["webhook-id"]}
                receiver.bodies.append(webhook)
                status, answer = receiver.answer(webhook)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Stop listening: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def sweeps(self, **of: Any) -> list[int]:
        """The numbers of the sweeps that came, of the webhooks with these fields."""
        return [body["sweep"] for body in self.bodies if of.items() <= body.items()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()


def done(_: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The answer of an OMS that cancelled everything."""
    return 200, {"status": "done", "canceled": 1, "open_orders": 0}


def taken(_: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The answer of an OMS that takes the job and says nothing of its end."""
    return 200, {"status": "accepted"}
