"""The time from sending a slow latency sample to the arrival of the cancel, over loopback.

The trip is durable before the cancel is sent. Each slow sample follows a few good ones, as from a
bot that trades. For comparison, a relay that forwards requests with the same HTTP library (without
disk, engine and signature) and a bare fdatasync are measured: the minimum for any sidecar.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from bench.journal import sync_s
from bench.programs import SECRET, Connection, Program, boot_ns, post, program, sidecar

TRIPS = 1_000
WARM_UP = 50
P50_MS, P99_MS = 1.0, 5.0
CALM_SAMPLES = 10  # before each slow one; the work that follows a trip is finished by then

CONFIG = """
lease = 5.0
[http]
listen = "127.0.0.1:0"
[limits.latency_p99]
max = 0.2
window = 10
min_samples = 1
breaches = 1
recover = "operator"
[[cancel]]
name = "oms"
url = "http://127.0.0.1:{port}/cancel"
secret = "{secret}"
"""
_GOOD = post("/v1/events", b'{"type":"latency","venue":"kraken","seconds":0.01}')
_SLOW = post("/v1/events", b'{"type":"latency","venue":"kraken","seconds":0.9}')


def run() -> list[tuple[str, str]]:
    """Measure on this machine. Only the ratios can be compared between machines."""
    with program("receive") as receiver:
        relayed = _relayed_ms(receiver)
        tripped = _tripped_ms(receiver)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        sync_ms = statistics.median(sync_s(Path(directory) / "bare")) * 1e3
    floor_ms = statistics.median(relayed) + sync_ms
    p50, p99 = statistics.median(tripped), statistics.quantiles(tripped, n=100)[-1]
    relayed_p99 = statistics.quantiles(relayed, n=100)[-1]
    return [
        ("trip: bare relay, p50", f"{statistics.median(relayed):.3f} ms"),
        ("trip: bare relay, p99", f"{relayed_p99:.3f} ms"),
        ("trip: bare write of a page and fdatasync", f"{sync_ms:.3f} ms"),
        (
            f"trip: slow latency sent until durable cancel received, p50 of {TRIPS:,}",
            f"{p50:.3f} ms (target {P50_MS:g}), {p50 / floor_ms:.1f} × relay and fdatasync",
        ),
        (
            f"trip: slow latency sent until durable cancel received, p99 of {TRIPS:,}",
            f"{p99:.3f} ms (target {P99_MS:g}), {p99 / relayed_p99:.1f} × p99 of relay",
        ),
    ]


def _relayed_ms(receiver: Program) -> list[float]:
    with program("relay", f"http://127.0.0.1:{receiver.port}/cancel") as relay:
        connection = Connection(relay.port)
        taken = []
        for _ in range(WARM_UP + TRIPS):
            sent_ns = boot_ns()
            connection.call(_SLOW)
            taken.append((receiver.line() - sent_ns) / 1e6)
        connection.close()
    return taken[WARM_UP:]


def _tripped_ms(receiver: Program) -> list[float]:
    with sidecar(CONFIG.format(port=receiver.port, secret=SECRET)) as running:
        reports, operator = Connection(running.port), Connection(running.port)
        token = running.token
        taken = []
        for _ in range(WARM_UP + TRIPS):
            for _ in range(CALM_SAMPLES):
                reports.call(_GOOD)
            sent_ns = boot_ns()
            generation = json.loads(reports.call(_SLOW))["generation"]
            taken.append((receiver.line() - sent_ns) / 1e6)
            call = {
                "scope": "venue:kraken",
                "reason": "again",
                "generation": generation,
                "force": True,
            }
            operator.call(post("/v1/reset", json.dumps(call).encode(), token))
        reports.close()
        operator.close()
    return taken[WARM_UP:]


if __name__ == "__main__":
    for what, figure in run():
        print(f"{what:75} {figure}")
