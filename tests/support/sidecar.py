"""A sidecar in a process of its own."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from riskmon.gate import Gate, Level
from tests.support.programs import environment
from tests.support.waiting import PATIENCE_SECONDS, eventually

LEASE_SECONDS = 0.5

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


def boot_ns() -> int:
    """Read the clock of the gate."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Sidecar:
    """`python -m riskmon run` with its configuration, state and gate in one directory.

    ``config`` holds tables of the configuration, ``top`` keys outside of any table, and ``http``
    the keys of its table `[http]`. By default the system chooses the port, and the Unix socket
    is `sock` in the directory.
    """

    def __init__(
        self,
        directory: Path,
        config: str = "",
        *,
        top: str = "",
        http: str = "",
        account: str = "test",
    ) -> None:
        self.directory = directory
        self.state_dir, self.gate_path = directory / "state", directory / "test.gate"
        self.unix_path = directory / "sock"
        self.config = directory / "riskmon.toml"
        self.log = directory / "sidecar.log"
        self.account = account
        self.http = http or f'listen = "127.0.0.1:0"\nunix = "{self.unix_path}"'
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.configure(config, top=top)

    @property
    def url(self) -> str:
        """The address of a started sidecar."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def operator_token(self) -> str:
        """The token that the sidecar made for its operator."""
        return (self.state_dir / "operator.token").read_text().strip()

    @property
    def gate_mark(self) -> Path:
        """The journal's mark beside the gate."""
        return self.gate_path.with_name(f".{self.gate_path.name}.mark")

    def configure(self, config: str, *, top: str = "") -> None:
        """Write the configuration; parameters as of the constructor."""
        self.config.write_text(
            f'account = "{self.account}"\nstate_dir = "{self.state_dir}"\n'
            f'gate = "{self.gate_path}"\n{top}\n[http]\n{self.http}\n{config}\n'
        )

    def launch(
        self,
        *,
        prefix: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
        config: bool = True,
        variables: Mapping[str, str] | None = None,
        stderr: int | None = None,
    ) -> Self:
        """Start the process and return at once.

        ``prefix`` are words before the command, ``options`` words after it; ``config`` is whether
        the command names the file; ``variables`` are added to the environment; ``stderr`` is a
        descriptor to use instead of the log file.
        """
        named = ["--config", str(self.config)] if config else []
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "riskmon", "run", *named, *options],
                stdin=subprocess.DEVNULL,
                stderr=log if stderr is None else stderr,
                stdout=log,
                cwd=self.directory,
                env=environment(variables),
            )
        return self

    def start(self, **launch: Any) -> Self:
        """Start the process as :meth:`launch` does; return when it has logged its address."""
        self.launch(**launch)
        self.port = int(eventually(self._announced, "the sidecar's address")[1])
        return self

    def start_ready(self) -> Self:
        """Start the process; return when it answers that it is ready."""
        self.start()
        eventually(lambda: self.request("GET", "/-/ready")[0] == 200, "a sidecar that is ready")
        return self

    def _announced(self) -> re.Match[str] | None:
        assert self.process is not None
        output = self.output()
        assert self.process.poll() is None, f"exit {self.process.returncode}: {output}"
        return re.search(r"http://127\.0\.0\.1:(\d+)", output)

    def output(self) -> str:
        """All of the output so far; a running sidecar writes its lines a moment later."""
        return self.log.read_text("utf-8", errors="replace")

    def logs(self, text: str) -> bool:
        """Whether the output contains the text, after a wait for it."""
        return eventually(lambda: text in self.output(), f"{text!r} in the log")

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end; return the exit status."""
        assert self.process is not None
        return self.process.wait(PATIENCE_SECONDS)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; return the exit status."""
        self.send(number)
        return self.wait()

    def close(self) -> None:
        """Kill the process if it still runs."""
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
        """Send one request; return the status and the body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        headers = {"Content-Type": "application/json"}
        if operator:
            headers["Authorization"] = f"Bearer {self.operator_token}"
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def events(self, *events: dict[str, Any]) -> dict[str, Any]:
        """Report events, which must succeed; return the answer."""
        status, body = self.request("POST", "/v1/events", list(events))
        assert status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer

    def operate(self, action: str, scope: str = "account", **more: Any) -> tuple[int, Any]:
        """Send an operator's call; return the status and the answer."""
        body = {"scope": scope, "reason": "a test", **more}
        status, answer = self.request("POST", f"/v1/{action}", body, operator=True)
        return status, json.loads(answer)

    def check(self, **order: Any) -> dict[str, Any]:
        """Check an order; return the answer, of whatever status."""
        answer: dict[str, Any] = json.loads(self.request("POST", "/v1/check", order)[1])
        return answer

    def state(self) -> dict[str, Any]:
        """Return the answer of ``GET /v1/state``."""
        status, body = self.request("GET", "/v1/state")
        assert status == 200, body
        state: dict[str, Any] = json.loads(body)
        return state

    def breaker(self, limit: str, scope: str) -> dict[str, Any]:
        """Return one breaker of the state; empty when there is none."""
        found = [b for b in self.state()["breakers"] if (b["limit"], b["scope"]) == (limit, scope)]
        return found[0] if found else {}

    def incidents(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the audit trail, newest first; only records of one kind if it is given."""
        records = json.loads(self.request("GET", "/v1/incidents")[1])["incidents"]
        return [record for record in records if kind in (None, record["kind"])]

    def metrics(self) -> str:
        """Return the metrics page."""
        return self.request("GET", "/metrics")[1].decode()

    def metric(self, name: str, **labels: str) -> float | None:
        """Return one sample of the metrics page; None when there is none."""
        for line in self.metrics().splitlines():
            found = re.fullmatch(re.escape(name) + r"(?:\{(.*)\})? (\S+)", line)
            if found is None:
                continue
            given = dict(re.findall(r'(\w+)="([^"]*)"', found[1] or ""))
            if labels.items() <= given.items():
                return float(found[2])
        return None

    def level(self, **scope: str) -> Level:
        """Open the gate and return the level that it grants; halt when there is no gate."""
        try:
            with Gate.open(self.gate_path) as gate:
                return gate.level(**scope)
        except FileNotFoundError:
            return Level.HALT


Make = Callable[..., Sidecar]  # the fixture `make`: a sidecar in the directory of the test
