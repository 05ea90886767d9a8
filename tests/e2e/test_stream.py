"""The life of an account as a reader of `/v1/stream` sees it, from a sidecar in its own process."""

from __future__ import annotations

import http.client
import json
import signal
import threading
from typing import Any, Self

import pytest

from tests.support.days import day_start
from tests.support.sidecar import Make, Sidecar
from tests.support.waiting import PATIENCE_SECONDS, eventually
from tests.support.webhooks import Webhooks

pytestmark = pytest.mark.slow

PORTFOLIO_LOSS = f"""
[portfolio]
day_start = "{day_start()}"
reference = "USDT"
initial_capital = 10_000
venues = ["kraken", "mexc"]

[limits.portfolio_loss]
max = 0.05
warn = 0.6
"""


class Reader:
    """Follows the stream in a thread until it ends; ``events`` is what came, ``ids`` their ids."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.events: list[dict[str, Any]] = []
        self.ids: list[int | None] = []
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", sidecar.port, timeout=PATIENCE_SECONDS
        )
        self._connection.request("GET", "/v1/stream")
        self._stream = self._connection.getresponse()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        for line in self._stream:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                data = json.loads(fields["data"])
                assert data["type"] == fields["event"]
                self.ids.append(int(fields["id"]) if "id" in fields else None)
                self.events.append(data)
                fields = {}
            else:
                fields = {}

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """The events of these types so far."""
        return [event for event in self.events if event["type"] in kinds]

    def await_equity(self, equity: float) -> dict[str, Any]:
        """Wait until the last portfolio has this equity; the event."""

        def found() -> dict[str, Any] | None:
            last = self.of("portfolio")[-1:]
            return last[0] if last and last[0]["equity"] == pytest.approx(equity) else None

        event: dict[str, Any] = eventually(found, f"a portfolio of {equity}")
        return event

    def await_end(self) -> None:
        """Wait until the server ends the stream."""
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive(), "the stream did not end"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def usdt(venue: str, free: float) -> dict[str, Any]:
    """All that a venue holds is USDT."""
    return {"type": "balances", "venue": venue, "assets": {"USDT": {"free": free}}}


def the(event: dict[str, Any], *names: str) -> tuple[Any, ...]:
    """Some fields of an event."""
    return tuple(event[name] for name in names)


def test_portfolio_loss_as_it_is_followed(make: Make, oms: Webhooks) -> None:
    """Portfolio, warning, trigger, reset and shutdown, each sent once with its figures."""
    sidecar = make(PORTFOLIO_LOSS + oms.target(), top="lease = 0.3").start()
    sidecar.events(usdt("kraken", 4_000), usdt("mexc", 6_000))
    with Reader(sidecar) as reader:
        reader.await_equity(10_000)
        for mexc in (5_800, 5_650, 5_580, 5_450):  # -2.0, -3.5, -4.2 and -5.5 %
            sidecar.events(usdt("mexc", mexc))
            reader.await_equity(4_000 + mexc)
        (trigger,) = eventually(lambda: reader.of("transition"), "the trigger")
        # Nothing loosens before both sweeps are confirmed.
        eventually(lambda: all(one["confirmed"] for one in sidecar.state()["cancel"]), "confirmed")
        status, _ = sidecar.operate("reset", generation=trigger["generation"], rebase=True)
        assert status == 200
        eventually(lambda: reader.of("portfolio")[-1]["initial_capital"] == 9_450, "the rebase")
        assert sidecar.end(signal.SIGTERM) == 0
        reader.await_end()

    assert reader.events[0]["type"] == "state"
    assert reader.events[0]["portfolio"]["equity"] == 10_000
    assert reader.ids[0] == reader.events[0]["generation"]

    portfolio = reader.of("portfolio")
    figures = ("equity", "initial_capital", "pnl_ratio", "drawdown_ratio")
    assert [the(event, *figures) for event in portfolio] == [
        pytest.approx(row)
        for row in (
            (10_000, 10_000, 0, 0),
            (9_800, 10_000, -0.02, 0.02),
            (9_650, 10_000, -0.035, 0.035),
            (9_580, 10_000, -0.042, 0.042),
            (9_450, 10_000, -0.055, 0.055),
            (9_450, 9_450, 0, 0),
        )
    ]
    assert [event["pnl_day"] for event in portfolio[:5]] == pytest.approx(
        [0, -200, -350, -420, -550]
    )

    warned, triggered, reset, calm, shutdown = reader.of("warning", "transition", "shutdown")
    where = {"limit": "portfolio_loss", "scope": "account"}
    assert warned.items() >= {"type": "warning", "active": True, **where}.items()
    assert the(warned, "value", "bound", "utilization") == pytest.approx((0.035, 0.05, 0.7))
    assert triggered.items() >= {"change": "trigger", "after": "open", "by": None, **where}.items()
    assert the(triggered, "value", "bound") == pytest.approx((0.055, 0.05))
    assert triggered["incident"] == sidecar_incident(oms)
    assert reset.items() >= {"change": "reset", "after": "closed", "reason": "a test"}.items()
    assert reset["by"] == "operator"
    assert reset.items() >= where.items()
    assert calm.items() >= {"type": "warning", "active": False, **where}.items()
    assert shutdown.items() >= {"clean": True, "reason": "stopped in order"}.items()
    assert reader.events[-1] == shutdown
    for event, number in zip(reader.events, reader.ids, strict=True):
        assert number == event.get("generation")


def sidecar_incident(oms: Webhooks) -> Any:
    """Return the one incident of the cancels that the receiver got."""
    (incident,) = {body["incident"] for body in oms.bodies}
    return incident
