"""A disk that hangs: the lease is withheld, and all levels are reported as halt."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from riskmon.gate import Level
from tests.support.disks import Disk
from tests.support.sidecar import LEASE_SECONDS, Make, Sidecar
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

ORDER = {"venue": "kraken", "symbol": "BTC/USDT", "side": "buy", "quantity": 1, "price": 1}


def check(sidecar: Sidecar) -> tuple[int, dict[str, Any]]:
    """Return the answer to an order check."""
    status, body = sidecar.request("POST", "/v1/check", ORDER)
    return status, json.loads(body)


def test_a_disk_that_hangs_halts_everywhere(make: Make, tmp_path: Path) -> None:
    """Checks get 503, state and metrics report halt; after the hang the level is allow."""
    sidecar = make()
    with Disk.that_can_hang(tmp_path / "state") as disk, ThreadPoolExecutor(2) as calls:
        disk.start(sidecar)
        sidecar.events({"type": "heartbeat", "venue": "kraken", "symbol": "BTC/USDT"})
        assert check(sidecar) == (200, {"allowed": True, "level": "allow", "reasons": []})
        disk.hang()
        try:
            # A new scope opens only after its commit, so a check after it waits for the disk too.
            event = [{"type": "heartbeat", "venue": "another"}]
            reported = calls.submit(sidecar.request, "POST", "/v1/events", event)
            time.sleep(0.05)
            began = time.monotonic()
            status, body = calls.submit(check, sidecar).result()
            assert status == 503
            assert time.monotonic() - began < 4 * LEASE_SECONDS  # one, and a margin for load
            assert "the disk has not answered" in body["detail"]
            assert "the disk has not answered" in check(sidecar)[1]["detail"]
            state = sidecar.state()
            assert state["level"] == "halt"
            assert set(state["gate"]["levels"].values()) == {"halt"}
            assert state["gate"]["withheld"]["reason"] == "storage"
            assert sidecar.metric("riskmon_gate_level", scope="account") == 0
            assert sidecar.metric("riskmon_halted", scope="account", reason="storage") == 1
            eventually(lambda: sidecar.level() is Level.HALT, "the lapse")
            assert not reported.done()
        finally:
            disk.go_on()
        assert reported.result()[0] == 200
        eventually(lambda: sidecar.level(venue="another") is Level.ALLOW, "the renewal")
        assert check(sidecar)[1]["allowed"]
        assert sidecar.state()["level"] == "allow"
        assert sidecar.metric("riskmon_halted", reason="storage") is None
