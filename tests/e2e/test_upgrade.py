"""A state directory that an earlier version wrote starts, and keeps what it held."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from riskmon.gate import Level
from tests.support.harness import QUICK_LATENCY, Sidecar, Webhooks, eventually

pytestmark = pytest.mark.slow

FIXTURES = Path(__file__).parent.parent / "fixtures"
STATES = sorted(FIXTURES.glob("state-*"))
LIMITS = f"""{QUICK_LATENCY}
[limits.position]
max = 5
per = "symbol"
[limits.drawdown]
max = 0.5
[portfolio]
initial_capital = 10000
venues = ["kraken"]
"""


@pytest.fixture(params=STATES, ids=lambda path: path.name)
def upgraded(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Sidecar, Webhooks, dict[str, Any]]]:
    """A sidecar on a copy of an earlier version's state, its receiver, and what the state holds."""
    expected = json.loads((request.param / "expected.json").read_text())
    with Webhooks() as oms:
        sidecar = Sidecar(tmp_path, LIMITS + oms.target(), top='on_unclean_start = "keep"')
        sidecar.state_dir.mkdir(mode=0o700)
        for name in ("journal.db", "mark"):  # the first version had no mark
            if (request.param / name).exists():
                shutil.copyfile(request.param / name, sidecar.state_dir / name)
        with sidecar:
            yield sidecar.start(), oms, expected


def test_an_earlier_state_starts_with_all_that_it_held(
    upgraded: tuple[Sidecar, Webhooks, dict[str, Any]],
) -> None:
    """Breakers, freezes, capital, holdings and undelivered cancels survive the upgrade."""
    sidecar, oms, expected = upgraded
    state = sidecar.state()
    shut = [
        {key: breaker[key] for key in ("limit", "scope", "state", "generation", "reason")}
        for breaker in state["breakers"]
        if breaker["state"] != "closed"
    ]
    assert shut == expected["breakers"]
    portfolio = state["portfolio"]
    assert portfolio["initial_capital"] == expected["initial_capital"]
    assert portfolio["balances"] == expected["balances"]
    assert [(p["symbol"], p["quantity"], p["entry_price"]) for p in portfolio["positions"]] == [
        (p["symbol"], p["quantity"], p["entry_price"]) for p in expected["positions"]
    ]
    for incident in expected["incidents"]:
        eventually(lambda i=incident: oms.sweeps(incident=i), f"the cancel of {incident}")  # type: ignore[misc]
    assert sidecar.level(venue="kraken") == Level.HALT
    assert sidecar.level(symbol="BTC/USDT") == Level.HALT


def test_an_earlier_state_starts_again_and_again(
    upgraded: tuple[Sidecar, Webhooks, dict[str, Any]],
) -> None:
    """The state is taken over for good: a second start, after a kill, holds the same breakers."""
    sidecar, _, expected = upgraded
    sidecar.end(signal.SIGKILL)
    sidecar.start()
    shut = [b for b in sidecar.state()["breakers"] if b["state"] != "closed"]
    assert [b["generation"] for b in shut] == [b["generation"] for b in expected["breakers"]]
