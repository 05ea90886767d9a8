"""The reference model of the account by itself, against figures that are computed by hand."""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

import pytest

from tests.core import SECOND
from tests.core.reference.account import Account
from tests.core.reference.containment import Effect, Report, contained
from tests.core.reference.exposure import Exposure
from tests.core.reference.history import Rules
from tests.core.reference.pair import BEGIN_NS, Clock
from tests.core.reference.prices import Prices

SPOT, LINEAR = "BTC/USDT", "BTC/USDT:USDT"


class Story:
    """An account and its time."""

    def __init__(self, **rules: Any) -> None:
        self.account = Account(Rules(**{"venues": ("a",), **rules}))
        self.clock = Clock()

    def tell(self, *events: dict[str, Any]) -> Story:
        """Apply events as one instant."""
        self.account.step(events, self.clock.now, self.clock.wall)
        return self

    def wait(self, seconds: float) -> Story:
        """Let time pass."""
        self.clock.now += round(seconds * SECOND)
        return self.tell()

    @property
    def equity(self) -> float | None:
        """Equity; None is unknown."""
        points = self.account.points()
        return float(points[-1].equity) if points and points[-1].equity is not None else None

    @property
    def unit_value(self) -> float:
        """Unit value."""
        return float(self.account.points()[-1].unit_value)


def price(each: float, symbol: str = SPOT, **more: Any) -> dict[str, Any]:
    """A price."""
    return {"type": "price", "symbol": symbol, "price": each, **more}


def balances(venue: str = "a", **held: float) -> dict[str, Any]:
    """All balances of a venue."""
    assets = {asset: {"free": amount} for asset, amount in held.items()}
    return {"type": "balances", "venue": venue, "assets": assets}


def balance(asset: str, amount: float, venue: str = "a", **more: Any) -> dict[str, Any]:
    """One balance."""
    return {"type": "balance", "venue": venue, "asset": asset, "free": amount, **more}


def fill(name: str, side: str, quantity: float, each: float, **more: Any) -> dict[str, Any]:
    """A fill of the spot symbol unless another is given."""
    order = {"symbol": SPOT, "venue": "a", "side": side, "quantity": quantity, "price": each}
    return {"type": "fill", "id": name, **order, **more}


def flow(name: str, amount: float, **more: Any) -> dict[str, Any]:
    """A deposit or withdrawal."""
    return {
        "type": "cash_flow",
        "id": name,
        "venue": "a",
        "asset": "USDT",
        "amount": amount,
        **more,
    }


def spot_account(**rules: Any) -> Story:
    """10,000 USDT and 5 BTC at 1,000 each."""
    story = Story(**rules).tell(price(1_000.0), price(1_000.0, LINEAR))
    return story.tell(balances(USDT=10_000, BTC=5)).wait(10)


# -- containment --------------------------------------------------------------------------------


def inside(
    *effects: tuple[float, float], reports: list[tuple[float, float]], dated: bool
) -> set[int]:
    """Which effects the last of the reports contains; each is (seconds, amount)."""
    found = [Effect(round(at * SECOND), dated, F(n), k) for k, (at, n) in enumerate(effects)]
    chain = [Report(round(at * SECOND), dated, F(n), 0) for at, n in reports]
    return set(contained(chain, found, len(chain) - 1))


CASES = [
    ("the first report contains what is not later", [(0, -1), (1, -2)], [(0, 10)], {0}),
    ("one 6 s earlier is contained whatever the amount", [(4, -1)], [(0, 10), (10, 10)], {0}),
    ("one 6 s later is not", [(16, -1)], [(0, 10), (10, 9)], set()),
    ("one 4 s later is when the amount says so", [(14, -1)], [(0, 10), (10, 9)], {0}),
    ("one 4 s earlier is not when the amount says so", [(6, -1)], [(0, 10), (10, 10)], set()),
    ("the first k that is nearest", [(9, -1), (10, -2)], [(0, 10), (10, 8.9)], {0}),
    ("equally near: the smallest", [(9, -2), (10, -2)], [(0, 10), (10, 9)], set()),
    ("what sums up to nothing is not", [(9, -1), (10, 1)], [(0, 10), (10, 10)], set()),
]


@pytest.mark.parametrize(
    ("effects", "reports", "expected"), [pytest.param(*c[1:], id=c[0]) for c in CASES]
)
def test_what_a_report_contains(effects: Any, reports: Any, expected: set[int]) -> None:
    """The rule of the contract, by cases."""
    assert inside(*effects, reports=reports, dated=False) == expected


def test_clocks_that_are_known_are_trusted_to_a_second() -> None:
    """Where both have an ``at``, a fill 2 s earlier is contained though the amount denies it."""
    assert inside((8, -1), reports=[(0, 10), (10, 10)], dated=True) == {0}


def test_another_asset_says_which_fills_a_report_contains() -> None:
    """A deposit and a buy in one report of USDT: that of BTC has the buy."""
    story = spot_account().tell(fill("1", "buy", 1, 1_000))
    story.wait(1).tell(balances(USDT=10_000 - 1_000 + 5_000, BTC=6))
    assert [float(one.amount) for one in story.account.changes] == [5_000]
    assert story.equity == 20_000


# -- prices -------------------------------------------------------------------------------------


def prices(*events: dict[str, Any], **rules: Any) -> Prices:
    """The prices after events that are a second apart."""
    story = Story(**rules)
    for event in events:
        story.wait(1).tell(event)
    return story.account.holdings.positions.prices


def test_a_mark_of_ones_own_may_lag_ten_seconds() -> None:
    """The venue's own price counts until another is more than 10 s newer."""
    own, newer = price(1_000.0, venue="a"), price(900.0, venue="feed")
    assert prices(own, newer).mark(SPOT, "a") == 1_000
    assert prices(own, *[price(1.0, "X/Y")] * 10, newer).mark(SPOT, "a") == 900


def test_a_fill_marks_only_what_no_price_does() -> None:
    """A fill 8 % below the market moves nothing while a price is fresh."""
    assert prices(price(1_000.0), fill("1", "sell", 1, 920)).mark(SPOT, "a") == 1_000
    assert prices(fill("1", "sell", 1, 920)).mark(SPOT, "a") == 920


def test_a_rate_through_another_asset() -> None:
    """The reference, a peg, the inverse pair, and the first asset between in the alphabet."""
    found = prices(
        price(0.5, "USDT/EUR"), price(4.0, "X/EUR"), price(3.0, "X/ZZZ"), pegs={"USD": 1.0}
    )
    assert [found.rate(asset) for asset in ("USDT", "USD", "EUR", "X")] == [1, 1, 2, 8]


def test_a_peg_breaks_and_comes_back() -> None:
    """A price 3 % from the peg counts; one within 2 % brings the peg back."""
    broken = price(0.97, "USD/USDT")
    assert prices(broken, pegs={"USD": 1.0}).rate("USD") == F(0.97)
    assert prices(broken, price(0.99, "USD/USDT"), pegs={"USD": 1.0}).rate("USD") == 1


# -- settling and equity ------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [0.3, 0.9])
def test_half_of_a_report_is_not_judged(gap: float) -> None:
    """A sale whose two balances come apart moves nothing, and waits no longer than 6 s."""
    story = spot_account().tell(balance("BTC", 4))
    assert story.equity == 15_000
    assert story.wait(gap).tell(balance("USDT", 11_000)).equity == 15_000
    assert story.wait(1).equity == 15_000
    story.tell(balance("BTC", 3))
    for _ in range(7):
        story.wait(0.9).tell(balance("BTC", 3))
    assert story.equity == 14_000


def test_a_price_is_judged_at_once() -> None:
    """Unsettled reports do not delay a fall of prices."""
    story = spot_account().tell(balance("USDT", 10_000), price(800.0))
    assert story.equity == 14_000


def test_a_closed_contract_and_its_balance() -> None:
    """+2,000 are closed; the balance comes 0.3 s or 60 s later: equity stands still throughout."""
    for late in (0.3, 60.0):
        story = spot_account().tell(fill("1", "buy", 10, 1_000, symbol=LINEAR)).wait(10)
        assert story.tell(price(1_200.0, LINEAR)).equity == 17_000
        story.tell(fill("2", "sell", 10, 1_200, symbol=LINEAR))
        assert story.wait(late).equity == 17_000
        assert story.tell(balances(USDT=12_000, BTC=5)).equity == 17_000
        assert story.wait(10).equity == 17_000


def test_a_balance_waits_for_the_fill_that_explains_it() -> None:
    """The balance of a close comes 3 s before its fill: 2,000 are not counted twice meanwhile."""
    story = spot_account().tell(fill("1", "buy", 10, 1_000, symbol=LINEAR)).wait(10)
    story.tell(price(1_200.0, LINEAR)).tell(balances(USDT=12_000, BTC=5)).wait(3)
    assert story.equity == 17_000
    assert story.tell(fill("2", "sell", 10, 1_200, symbol=LINEAR)).wait(10).equity == 17_000


def test_a_position_report_moves_no_equity() -> None:
    """A liquidation that only a report tells of is realised, and its balance is no second loss."""
    story = spot_account().tell(fill("1", "buy", 10, 1_000, symbol=LINEAR)).wait(10)
    assert story.tell(price(900.0, LINEAR)).equity == 14_000
    report = {"type": "position", "venue": "a", "symbol": LINEAR, "quantity": 0}
    assert story.tell(report).equity == 14_000
    assert story.wait(3).tell(balances(USDT=9_000, BTC=5)).wait(10).equity == 14_000


def test_contracts_at_a_venue_without_balances() -> None:
    """5,400 lost in closed trades at a venue that reports no balance are 27 % of 20,000."""
    story = Story().tell(price(100.0, LINEAR), balances(USDT=20_000))
    story.tell(fill("1", "buy", 100, 100, symbol=LINEAR, venue="c"))
    story.wait(10).tell(fill("2", "sell", 100, 46, symbol=LINEAR, venue="c"))
    assert story.unit_value == pytest.approx(0.73)


def test_an_account_without_balances() -> None:
    """Capital, realised and unrealised P&L, fees, `pnl` and flows."""
    story = Story(venues=(), initial_capital=1_000.0).tell(price(110.0, LINEAR))
    story.tell(fill("1", "buy", 2, 100, symbol=LINEAR, fee=1), flow("f", 500))
    story.tell({"type": "pnl", "id": "p", "amount": 30})
    assert story.equity == 1_000 + 20 - 1 + 500 + 30
    assert story.unit_value == pytest.approx(1_549 / (1_000 + 500 / 1.019))


def test_capital_of_single_balances() -> None:
    """USDT 1,000, BTC worth 30,000 2 s later: the capital is 31,000; half of BTC is 48 %."""
    story = Story(venues=()).tell(price(30_000.0)).tell(balance("USDT", 1_000))
    story.wait(2).tell(balance("BTC", 1)).wait(30)
    assert story.account.capital == 31_000
    assert 1 - story.tell(price(15_000.0)).unit_value == pytest.approx(15 / 31)
    named = Story().tell(price(30_000.0)).tell(balance("USDT", 1_000)).wait(1.5)
    assert named.account.capital == 1_000
    assert named.unit_value == 1
    assert named.tell(balance("BTC", 1)).wait(2).account.capital == 31_000
    assert 1 - named.tell(price(15_000.0)).unit_value == pytest.approx(15 / 31)


def test_a_venue_that_comes_later() -> None:
    """It enters as a flow, whatever the unit value is by then."""
    story = spot_account().tell(price(1_300.0))
    assert story.unit_value == pytest.approx(1.1)
    story.tell(balances("b", USDT=9_000)).wait(1)
    assert story.equity == 25_500
    assert story.unit_value == pytest.approx(1.1)


# -- flows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", ["before", "with", "after"])
@pytest.mark.parametrize("amount", [5_000, -5_000])
def test_a_flow_changes_units_alone(told: str, amount: int) -> None:
    """Told 60 s before, with or 60 s after its balance: the unit value is 1."""
    story, report = spot_account(), balances(USDT=10_000 + amount, BTC=5)
    if told == "before":
        story.tell(flow("f", amount)).wait(60).tell(report)
    elif told == "with":
        story.tell(flow("f", amount), report)
    else:
        at = story.clock.at()
        story.tell(report).wait(60)
        assert story.unit_value == pytest.approx(1 + amount / 15_000)
        story.tell(flow("f", amount, at=at))
    assert (story.equity, story.unit_value) == (15_000 + amount, 1)
    assert max(point.unit_value for point in story.account.points()) == 1


def test_a_flow_beside_a_loss() -> None:
    """A deposit that came with a fee is matched by the value, and the fee is lost."""
    story = spot_account().tell(flow("f", 5_000)).tell(balances(USDT=14_900, BTC=5))
    assert story.unit_value == pytest.approx(1 - 100 / 20_000)
    (take,) = story.account.takes
    assert take.amount == 5_000


def test_a_late_flow_keeps_a_true_drawdown() -> None:
    """90,000 into 10,000, told 150 s late, 1 % lost meanwhile: the loss is 1 %."""
    story = Story().tell(balances(USDT=10_000)).wait(10)
    at = story.clock.at()
    story.tell(balances(USDT=100_000)).wait(100).tell(balances(USDT=99_000)).wait(50)
    story.tell(flow("f", 90_000, at=at))
    assert story.unit_value == pytest.approx(0.99)


def test_everything_is_withdrawn_and_funded_again() -> None:
    """The unit value stands still while there are no units; half of the new money is 50 %."""
    story = Story().tell(balances(USDT=10_000)).wait(10)
    story.tell(flow("1", -10_000), balances(USDT=0)).wait(10)
    assert (story.equity, story.unit_value) == (0, 1)
    story.tell(flow("2", 8_000), balances(USDT=8_000)).wait(10)
    assert story.unit_value == 1
    assert story.tell(balances(USDT=4_000)).unit_value == pytest.approx(0.5)


def test_a_transfer_stays_in_equity() -> None:
    """What has left and not arrived counts; what arrives first is not counted twice."""
    for first in ("a", "b"):
        story = Story(venues=("a", "b")).tell(balances(USDT=10_000), balances("b", USDT=10_000))
        move = {"id": "t", "asset": "USDT", "amount": 4_000, "from": "a", "to": "b"}
        story.wait(10).tell({"type": "transfer", **move})
        reports = {"a": balances(USDT=6_000), "b": balances("b", USDT=14_000)}
        for venue in sorted(reports, reverse=first == "b"):
            story.wait(30).tell(reports[venue])
            assert (story.equity, story.unit_value) == (20_000, 1), (first, venue)


# -- exposure -----------------------------------------------------------------------------------


def test_exposure_of_what_balances_tell_of() -> None:
    """BTC at a venue is a position of BTC/USDT, and part of the delta with its contracts."""
    story = spot_account().tell(fill("1", "sell", 2, 1_000, symbol=LINEAR))
    exposure = Exposure(story.account.holdings, story.account.moments[-1].settled)
    assert exposure.notional(SPOT) == 5_000
    assert exposure.notional(LINEAR) == -2_000
    assert exposure.gross() == 7_000
    assert exposure.delta("BTC") == 3


def test_the_dates_of_a_story() -> None:
    """An ``at`` of now is the wall clock of now."""
    story = spot_account()
    story.tell(balance("USDT", 10_000, at=story.clock.at()))
    assert story.account.history.told[-1].at == story.clock.now
    assert story.clock.wall - BEGIN_NS == 10 * SECOND
