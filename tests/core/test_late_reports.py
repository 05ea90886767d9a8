"""What is told late: fills, flows and transfers after the balances that contain them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.reference.history import Event
from tests.core.reference.pair import Sidecar

SPOT, LINEAR = "BTC/USDT", "BTC/USDT:USDT"
CONFIG = '[portfolio]\nvenues = ["a"]\n[limits.portfolio_loss]\nmax = 0.9'


class Account(Sidecar):
    """10,000 USDT and 5 BTC at 1,000 each, at one venue."""

    def __init__(self) -> None:
        super().__init__(CONFIG)
        self.step(*({"type": "price", "symbol": s, "price": 1_000} for s in (SPOT, LINEAR)))
        self.step(self.balances(10_000, 5))

    def balances(self, usdt: float, btc: float, **more: Any) -> Event:
        """All balances."""
        assets = {"USDT": {"free": usdt}, "BTC": {"free": btc}}
        return {"type": "balances", "venue": "a", "assets": assets, **more}

    def fill(self, name: str, signed: float, symbol: str = SPOT, **more: Any) -> Event:
        """A fill at 1,000."""
        side = "buy" if signed > 0 else "sell"
        order = {"venue": "a", "symbol": symbol, "side": side, "quantity": abs(signed)}
        return {"type": "fill", "id": name, **order, "price": 1_000, **more}

    def flow(self, amount: float, **more: Any) -> Event:
        """A deposit or withdrawal of USDT."""
        named = {"id": f"flow {amount}", "venue": "a", "asset": "USDT"}
        return {"type": "cash_flow", **named, "amount": amount, **more}

    @property
    def unit_value(self) -> float:
        """The unit value."""
        value: float = self.portfolio["unit_value"]
        return value


def test_a_late_fill_explains_the_change_of_its_own_report() -> None:
    """Not that of an earlier one that waited for an explanation while the fill was made."""
    account = Account()
    account.wait(10)
    account.step(account.fill("1", 1, LINEAR))
    account.wait(10)
    account.step(account.balances(14_000, 5, at=account.clock.at()))  # waits for 5 s: a deposit?
    account.wait(3)
    sold_at = account.clock.at()
    account.wait(6)
    account.step(account.balances(15_000, 4, at=sold_at))
    account.wait(20)
    account.step(account.fill("2", -1, at=sold_at))
    account.step(account.flow(4_000))
    assert account.portfolio["equity"] == 19_000
    assert account.unit_value == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("amount", [4_000, -4_000])
@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_a_flow_soon_after_the_start(seconds: float, amount: int) -> None:
    """The first report of the account is not the change that a later flow is found in."""
    account = Account()
    account.wait(seconds)
    account.step(account.flow(amount, at=account.clock.at()))
    assert account.unit_value == 1
    account.wait(20)
    account.step(account.balances(10_000 + amount, 5))
    assert account.portfolio["equity"] == 15_000 + amount
    assert account.unit_value == pytest.approx(1, rel=1e-9)


def test_a_late_flow_leaves_the_leg_of_a_transfer() -> None:
    """One balance has a deposit and what left for another venue: what left is in transit."""
    account = Account()
    account.wait(10)
    move = {"id": "t", "asset": "USDT", "from": "a", "to": "b", "amount": 1_000}
    account.step({"type": "balances", "venue": "b", "assets": {"USDT": {"free": 500}}})
    account.wait(10)
    account.step({"type": "transfer", **move})
    account.wait(10)
    deposited_at = account.clock.at()
    account.step(account.balances(10_000 + 8_000 - 1_000, 5))
    account.wait(10)
    account.step(account.flow(8_000, at=deposited_at))
    assert account.portfolio["equity"] == 15_000 + 8_000 + 500


def test_a_round_trip_soon_after_a_deposit_that_was_told_late() -> None:
    """The reports of the other asset at the time of the deposit still say which fills came after.

    A sale and a purchase in the next seconds leave each balance as it was.
    """
    account = Account()
    account.wait(10)
    account.step(account.balances(18_000, 5))
    account.wait(2)
    account.step(account.flow(8_000))
    account.step(account.fill("1", -0.25, price=900))
    account.wait(0.001)
    account.step(account.balances(18_000, 5))
    account.wait(0.001)
    account.step(account.fill("2", 0.25, price=900))
    account.wait(0.001)
    account.step(account.balances(18_000, 5))
    assert account.portfolio["equity"] == 23_000


def test_reports_less_than_a_second_apart_differ_in_what_they_contain() -> None:
    """A fill between two reports is in the second one only, as the other asset's reports say.

    Each has an amount that no fill explains; the deposit in the second one is told late.
    """
    account = Account()
    account.wait(10)
    account.step(account.balances(9_992, 5))
    account.wait(0.1)
    account.step(account.fill("1", -0.25))
    account.wait(0.1)
    account.step(account.balances(9_992 + 250 + 4_000, 4.75))
    account.wait(2)
    account.step(account.flow(4_000))
    assert account.unit_value == pytest.approx(1 - 8 / 15_000, rel=1e-9)
