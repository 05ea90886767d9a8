"""The memory and processor time of an idle sidecar, compared with a process that uses aiohttp."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.programs import Connection, Program, post, program, sidecar

SECONDS = 20.0
RSS_MB, CPU_PERCENT = 80.0, 2.0
_TICKS = os.sysconf("SC_CLK_TCK")
_ROUNDS, _CONNECTIONS, _REQUESTS = 100, 32, 25

CONFIG = """
[http]
listen = "127.0.0.1:0"
"""


def run() -> list[tuple[str, str]]:
    """Measure on this machine. Only the ratios can be compared between machines."""
    with program("relay", "http://127.0.0.1:1/") as relay, sidecar(CONFIG) as running:
        time.sleep(1)  # for work that follows the start
        before = _cpu_seconds(relay.pid), _cpu_seconds(running.process.pid)
        time.sleep(SECONDS)
        bare_cpu, cpu = (
            (_cpu_seconds(pid) - then) / SECONDS * 100
            for pid, then in zip((relay.pid, running.process.pid), before, strict=True)
        )
        bare_mb, mb = _rss_mb(relay.pid), _rss_mb(running.process.pid)
    return [
        ("rest: bare relay, memory", f"{bare_mb:.1f} MB"),
        ("rest: bare relay, processor time", f"{bare_cpu:.2f} %"),
        (
            "rest: sidecar, memory",
            f"{mb:.1f} MB (target {RSS_MB:g}), {mb / bare_mb:.1f} × bare relay",
        ),
        (
            f"rest: sidecar, processor time over {SECONDS:g} s",
            f"{cpu:.2f} % (target {CPU_PERCENT:g})",
        ),
        *_server_figures(),
    ]


def _server_figures() -> list[tuple[str, str]]:
    """The processor time of a request by aiohttp's low-level server and by its Application.

    riskmon uses the low-level server. The Application has one route and one middleware. Both serve
    in turns, so that the load of other processes affects both alike.
    """
    with program("serve", "server") as server, program("serve", "application") as application:
        programs = (server, application)
        before = [_cpu_seconds(served.pid) for served in programs]
        for _ in range(_ROUNDS):
            for served in programs:
                _send_requests(served)
        low, high = (
            (_cpu_seconds(served.pid) - start) / (_ROUNDS * _CONNECTIONS * _REQUESTS)
            for served, start in zip(programs, before, strict=True)
        )
    return [
        ("http: a request by aiohttp's low-level server", f"{low * 1e6:.0f} µs"),
        (
            "http: a request by aiohttp's Application",
            f"{high * 1e6:.0f} µs, {high / low:.2f} × low-level server",
        ),
    ]


def _send_requests(server: Program) -> None:
    request = post("/v1/events", b'{"type":"heartbeat","venue":"kraken"}')
    connections = [Connection(server.port) for _ in range(_CONNECTIONS)]
    for _ in range(_REQUESTS):
        for connection in connections:
            connection.send(request)
        for connection in connections:
            connection.answer()
    for connection in connections:
        connection.close()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1_024


if __name__ == "__main__":
    for what, figure in run():
        print(f"{what:75} {figure}")
