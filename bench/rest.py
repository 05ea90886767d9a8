"""The memory and processor time of an idle sidecar, compared with a process that uses aiohttp."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.programs import program, sidecar

SECONDS = 20.0
RSS_MB, CPU_PERCENT = 80.0, 2.0
_TICKS = os.sysconf("SC_CLK_TCK")

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
    ]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1_024


if __name__ == "__main__":
    for what, figure in run():
        print(f"{what:75} {figure}")
