"""The gate's time: a bot's lease check compared with a dictionary lookup, and a renewal."""

from __future__ import annotations

import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path

from riskmon.gate import Gate
from riskmon.gate_writer import GateWriter

SCOPES = 1000
LEASE_NS = 600_000_000_000


def _best_ns(call: Callable[[], object], number: int) -> float:
    return min(timeit.repeat(call, number=number, repeat=5)) / number * 1e9


def run() -> list[tuple[str, str]]:
    """Measure on this machine. Only the ratios can be compared between machines."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "bench.gate"
        file = GateWriter.create(path, max_scopes=SCOPES, longest_lease_ns=LEASE_NS, epoch=1)
        try:
            return _measure(file, path)
        finally:
            file.close()


def _measure(file: GateWriter, path: Path) -> list[tuple[str, str]]:
    scopes = ["account", "symbol:BTC/USDT", *(f"venue:{n}" for n in range(SCOPES - 2))]
    for scope in scopes:
        file.add(scope)
    levels = dict.fromkeys(scopes, 3)
    changed = levels | {"venue:500": 1}
    deadline_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + LEASE_NS
    file.renew(deadline_ns, levels, 1)

    def change() -> None:
        file.tighten({"venue:500": 1}, 1)
        file.renew(deadline_ns, changed, 1)
        file.renew(deadline_ns, levels, 1)

    lookup = {"venue:7": True}
    plain_ns = _best_ns(lambda: lookup["venue:7"], 200_000)
    clock_ns = _best_ns(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME), 200_000)
    with Gate.open(path) as gate:
        one, two = gate.watch(venue="7"), gate.watch(venue="7", symbol="BTC/USDT")
        assert one()
        assert two()
        checks = {
            "reading CLOCK_BOOTTIME": clock_ns,
            "check by watch(), one scope": _best_ns(one, 200_000),
            "check by watch(), two scopes": _best_ns(two, 200_000),
            "check by allows(), one scope": _best_ns(lambda: gate.allows(venue="7"), 50_000),
        }
    renew_ns = _best_ns(lambda: file.renew(deadline_ns, levels, 1), 200)
    tighten_ns = _best_ns(lambda: file.tighten(changed, 1), 200)
    change_ns = (_best_ns(change, 100)) / 2
    return [
        ("gate: dictionary lookup", f"{plain_ns:.0f} ns"),
        *((f"gate: {what}", f"{ns:.0f} ns, {ns / plain_ns:.1f} ×") for what, ns in checks.items()),
        (f"gate: renewal of {SCOPES:,} scopes", f"{renew_ns / 1000:.0f} µs"),
        (f"gate: renewal of {SCOPES:,} scopes, one level changed", f"{change_ns / 1000:.0f} µs"),
        (f"gate: tightening with {SCOPES:,} levels", f"{tighten_ns / 1000:.0f} µs"),
    ]


if __name__ == "__main__":
    for what, figure in run():
        print(f"{what:55} {figure}")
