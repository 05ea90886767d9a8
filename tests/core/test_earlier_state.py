"""What the book of an earlier version held is in the present book, and goes on from there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from riskmon.core import events as ev
from riskmon.core.config import dump
from riskmon.core.engine import Engine
from tests.core import balances, fill, price
from tests.core.test_state_format import STATES, newest_snapshot

Snapshot = dict[str, Any]
Edit = Callable[[dict[str, Any]], None]

FULL = [path for path in STATES if path.name in ("state-0.1.0-full", "state-0.2.0.dev1")]
SECOND_NS = 10**9
DAY_NS = 86_400 * SECOND_NS
# Kraken holds 8,499 USDT, 0.2 BTC at 10,000 and 2 ETH at 500.5; mexc 1,000 USDT and a short
# contract that gained 9. 500 were deposited.
EQUITY = 12_509.0
LOSSES = {"portfolio_loss", "drawdown", "daily_loss", "loss", "venue_loss", "strategy_loss"}


def stored(path: Path) -> Snapshot:
    """The newest snapshot of a state directory, decoded."""
    snapshot: Snapshot = msgspec.msgpack.decode(newest_snapshot(path)[1])
    return snapshot


class Account:
    """An engine that was restored from a snapshot, after an edit of its portfolio."""

    def __init__(self, snapshot: Snapshot, edit: Edit | None = None) -> None:
        snapshot = copy.deepcopy(snapshot)
        if edit is not None:
            edit(snapshot["state"]["portfolio"])
        self.engine = Engine.restore(msgspec.msgpack.encode(snapshot))
        self.now_ns = snapshot["state"]["now_ns"]
        self.wall_ns = snapshot["state"]["wall_ns"]

    def step(self, *events: ev.Event, after: float = 1.0) -> None:
        """Report events some seconds later."""
        self.now_ns += int(after * SECOND_NS)
        self.wall_ns += int(after * SECOND_NS)
        self.engine.step(events, now_ns=self.now_ns, wall_ns=self.wall_ns)

    @property
    def figures(self) -> Any:
        """The portfolio's figures."""
        return self.engine.view().portfolio

    def value(self, limit: str, scope: str = "account") -> float | None:
        """The value of a limit, as it was evaluated last."""
        (one,) = [b for b in self.engine.view().breakers if (b.limit, b.scope) == (limit, scope)]
        return one.value


@pytest.fixture(params=FULL, ids=lambda path: path.name)
def snapshot(request: pytest.FixtureRequest) -> Snapshot:
    """A snapshot of state version 1, and one of version 2."""
    return stored(request.param)


def test_the_figures_are_as_before(snapshot: Snapshot) -> None:
    """Equity, capital, units, peak, P&L, balances and positions of contracts."""
    old, account = snapshot["state"]["portfolio"], Account(snapshot)
    for _ in range(2):  # as it was restored, and after an evaluation
        figures = account.figures
        assert figures.equity == pytest.approx(old["judged"]) == EQUITY
        assert figures.initial_capital == old["capital"]
        assert figures.unit_value == pytest.approx(old["judged_unit_value"])
        peak = old["peak"]["value"]
        assert figures.drawdown_ratio == pytest.approx(1 - figures.unit_value / peak)
        assert figures.pnl_day == pytest.approx(8)
        assert (figures.pnl_realized, figures.pnl_unrealized) == (11.5, 9.0)
        assert {(b.venue, b.asset): b.free + b.locked for b in figures.balances} == {
            ("kraken", "USDT"): 8_499, ("kraken", "BTC"): 0.2, ("kraken", "ETH"): 2,
            ("mexc", "USDT"): 1_000,
        }  # fmt: skip
        (short,) = [one for one in figures.positions if one.venue == "mexc"]
        assert (short.quantity, short.entry_price, short.unrealized) == (-1, 510, 9)
        account.step(price("ETH/USDT", 500.5))


def test_losses_are_as_before(snapshot: Snapshot) -> None:
    """Evaluated anew, each limit on a loss has the value that the earlier version stored."""
    account = Account(snapshot)
    kept = {
        (name, scope): one["value"]
        for name, scopes in snapshot["state"]["board"]["breakers"].items()
        for scope, one in scopes.items()
        if name in LOSSES and one["value"] is not None
    }
    assert {name for name, _ in kept} == LOSSES
    account.step(ev.Configured(config=dump(account.engine.config)))  # evaluates all
    for (name, scope), value in kept.items():
        assert account.value(name, scope) == pytest.approx(value, abs=1e-9), (name, scope)


def lost(portfolio: dict[str, Any]) -> None:
    """991 were lost today, 1,991 since the week's best, and nothing moved for days before."""
    tracks = portfolio["tracks"]
    for span in tracks["spans"]["account"].values():
        span["base"]["value"] = span["best"]["value"] = 13_000.0
    tracks["spans"]["account"]["week"]["best"]["value"] = 14_000.0
    (rolling,) = tracks["rolling"]["account"].values()
    rolling["base"] = {**rolling["base"], "value": 13_000.0}
    rolling["base"]["at_ns"] -= 6 * DAY_NS
    portfolio["peak"]["value"] = 1.5


def test_a_loss_is_not_forgiven(snapshot: Snapshot) -> None:
    """A loss of the day, of the last hours and from the peak still counts, and grows."""
    account = Account(snapshot, lost)
    account.step(price("BTC/USDT", 9_000, "kraken"))
    level = 12_009 - 200
    assert account.value("daily_loss") == pytest.approx(13_000 - level)
    assert account.value("loss") == pytest.approx(13_000 - level)  # of 24 hours, trailing
    unit_value = (EQUITY - 200) / snapshot["state"]["portfolio"]["units"]
    assert account.value("drawdown") == pytest.approx(1 - unit_value / 1.5)


def test_the_next_day_begins_at_midnight(snapshot: Snapshot) -> None:
    """The loss of today ends with the day, and that of the week does not."""
    account = Account(snapshot, lost)
    today = snapshot["state"]["portfolio"]["tracks"]["spans"]["account"]["day"]["began_wall_ns"]
    account.step(after=(today + DAY_NS - account.wall_ns) / SECOND_NS)
    account.step(price("BTC/USDT", 9_000, "kraken"))
    assert account.value("daily_loss") == pytest.approx(200)
    assert account.engine.figures().pnl_day == pytest.approx(-200)


def test_a_wall_clock_that_is_put_back_does_not_begin_a_day(snapshot: Snapshot) -> None:
    """The day that was stored goes on."""
    account = Account(snapshot, lost)
    account.wall_ns -= 2 * DAY_NS
    account.step(price("BTC/USDT", 9_995, "kraken"))
    assert account.value("daily_loss") == pytest.approx(992)


def test_fills_and_balances_go_on(snapshot: Snapshot) -> None:
    """A buy costs its fee, and a contract that is closed leaves equity; balances then agree."""
    account = Account(snapshot)
    account.step(fill("buy", 0.05, 10_000.0, "BTC/USDT", fee=1.0), after=60)
    assert account.figures.equity == pytest.approx(EQUITY - 1)
    account.step(balances("kraken", USDT=7_998, BTC=0.25, ETH=2), after=30)
    assert account.figures.equity == pytest.approx(EQUITY - 1)
    account.step(fill("buy", 1.0, 501.0, "ETH/USDT:USDT", venue="mexc"))
    assert account.figures.equity == pytest.approx(EQUITY - 1)
    assert [one.quantity for one in account.figures.positions if one.venue == "mexc"] == [0]
    account.step(balances("mexc", USDT=1_009), after=10)
    assert account.figures.equity == pytest.approx(EQUITY - 1)
    assert account.figures.unit_value == pytest.approx(
        (EQUITY - 1) / snapshot["state"]["portfolio"]["units"]
    )


def test_a_deposit_moves_no_unit_value(snapshot: Snapshot) -> None:
    """A flow is matched with the next balance, as of an account that began in this version."""
    account = Account(snapshot)
    before = account.figures.unit_value
    account.step(ev.CashFlow(id="U3", venue="mexc", asset="USDT", amount=5_000.0))
    assert account.figures.equity == pytest.approx(EQUITY)
    account.step(balances("mexc", USDT=6_000), after=60)
    assert account.figures.equity == pytest.approx(EQUITY + 5_000)
    assert account.figures.unit_value == pytest.approx(before)
    assert account.figures.pnl_day == pytest.approx(8)


def test_what_was_left_out_stays_left_out(snapshot: Snapshot) -> None:
    """An asset without a price counts when it has one, and enters as a flow."""

    def left_out(portfolio: dict[str, Any]) -> None:
        venues = portfolio["venues"]
        held = {**venues["venues"]["kraken"]["assets"]["ETH"], "free": 5.0}
        venues["venues"]["kraken"]["assets"]["XYZ"] = held
        venues["left_out"] = {"XYZ": True}

    account = Account(snapshot, left_out)
    before = account.figures.unit_value
    account.step(price("BTC/USDT", 10_000, "kraken"))
    assert account.figures.equity == pytest.approx(EQUITY)
    account.step(price("XYZ/USDT", 10.0))
    assert account.figures.equity == pytest.approx(EQUITY + 50)
    assert account.figures.unit_value == pytest.approx(before)


def test_a_restored_state_is_the_same_again(snapshot: Snapshot) -> None:
    """The converted state is stored as it was converted: a second restore changes nothing."""
    once = Account(snapshot).engine.snapshot()
    assert Engine.restore(once).snapshot() == once
