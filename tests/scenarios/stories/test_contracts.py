"""Trades whose balance comes a moment later, or earlier: equity counts them once, at once."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import pytest

from tests.scenarios.stories.run import Event, Run, balance, balances, fill, price

CONFIG = """
[portfolio]
venues = ["kraken"]
[limits.portfolio_loss]
max = 0.9
[limits.drawdown]
max = 0.9
"""


class Contract(NamedTuple):
    """A position that is closed with a profit or a loss, and opened again at that price."""

    symbol: str
    size: float  # of the position, in contracts
    asset: str  # what it settles in
    before: float  # the balance before and after it was closed
    after: float
    closed_at: float  # the price, from 50,000
    equity: float  # when it is closed
    then: float  # a price some moments later …
    later: float  # … and the equity at it with the position that was opened again


LINEAR, INVERSE = "BTC/USDT:USDT", "BTC/USD:BTC"
CONTRACTS = {
    # 10,000 USDT; one coin from 50,000: +-2,000; another one +100.
    "linear profit": Contract(
        LINEAR,
        1,
        "USDT",
        10_000,
        12_000,
        closed_at=52_000,
        equity=12_000,
        then=52_100,
        later=12_100,
    ),
    "linear loss": Contract(
        LINEAR, 1, "USDT", 10_000, 8_000, closed_at=48_000, equity=8_000, then=48_100, later=8_100
    ),
    "short profit": Contract(
        LINEAR,
        -1,
        "USDT",
        10_000,
        12_000,
        closed_at=48_000,
        equity=12_000,
        then=47_900,
        later=12_100,
    ),
    # 0.2 BTC; 2,500 USD from 50,000: 2,500 x (1/50,000 - 1/62,500) = 0.01 BTC, and
    # 0.21 x 63,000 + 2,500 x (63,000/62,500 - 1) = 13,230 + 20.
    "inverse profit": Contract(
        INVERSE, 2_500, "BTC", 0.2, 0.21, closed_at=62_500, equity=13_125, then=63_000, later=13_250
    ),
    # 2,500 x (1/50,000 - 1/40,000) = -0.0125 BTC; 0.1875 x 40,400 + 2,500 x 0.01 = 7,575 + 25.
    "inverse loss": Contract(
        INVERSE, 2_500, "BTC", 0.2, 0.1875, closed_at=40_000, equity=7_500, then=40_400, later=7_600
    ),
}
TOLD = ("fills", "reports", "fill, then report", "report, then fill")
DELAYS = (-0.3, 0.3, 60.0)  # of the balance behind the close


def marks(symbol: str, value: float) -> list[Event]:
    return [price("BTC/USDT", value), price(symbol, value)]


def position(symbol: str, quantity: float, entry: float) -> Event:
    fields = {"type": "position", "venue": "kraken", "symbol": symbol}
    return {**fields, "quantity": quantity, "entry_price": entry, "contract_size": 1}


def trade(name: str, of: Contract, *, opens: bool, at: float) -> Event:
    side = "buy" if opens is (of.size > 0) else "sell"
    return fill(name, "kraken", f"{side} {abs(of.size)} {of.symbol} {at}")


@pytest.mark.parametrize("name", CONTRACTS)
@pytest.mark.parametrize(
    ("told", "delay", "whole", "again"), [*product(TOLD, DELAYS, (True, False), (True, False))]
)
def test_a_close_changes_equity_once(
    name: str, *, told: str, delay: float, whole: bool, again: bool
) -> None:
    """Equity is the same before the close, after it, and when its balance comes."""
    of = CONTRACTS[name]
    run = Run(CONFIG)
    peaks = [10_000.0]

    def at(second: float, *events: Event, equity: float) -> None:
        run.at(second, *events)
        assert run.portfolio["equity"] == pytest.approx(equity, rel=1e-9), second
        peaks.append(equity)
        assert run.value("drawdown") == pytest.approx(1 - equity / max(peaks), abs=1e-9), second

    opened, closed = (
        position(of.symbol, of.size, 50_000),
        position(of.symbol, 0, 0),
    )
    bought = trade("f1", of, opens=True, at=50_000)
    sold = trade("f2", of, opens=False, at=of.closed_at)
    by_fill = told in ("fills", "fill, then report")
    run.at(0, *marks(of.symbol, 50_000), position(of.symbol, 0, 0))
    at(0.1, balances("kraken", **{of.asset: of.before}), equity=10_000)
    at(40, bought if told != "reports" else opened, equity=10_000)
    at(90, balances("kraken", **{of.asset: of.before}), equity=10_000)
    at(95, *marks(of.symbol, of.closed_at), equity=of.equity)
    events = [(100.0, sold if by_fill else closed)]
    if told == "fill, then report":
        events.append((100.05, closed))
    if told == "report, then fill":
        events.append((100.05, sold))
    amount = {of.asset: of.after}
    contains = balances("kraken", **amount) if whole else balance("kraken", of.asset, of.after)
    events.append((100 + delay, contains))
    expected = of.equity
    if again:
        new = position(of.symbol, of.size, of.closed_at)
        events.append((100.1, trade("f3", of, opens=True, at=of.closed_at)))
        if told != "fills":
            events.append((100.15, new))
    for second, event in sorted(events, key=lambda one: one[0]):
        if again and second > 100.2 and expected == of.equity:
            at(100.2, *marks(of.symbol, of.then), equity=of.later)
            expected = of.later
        at(second, event, equity=expected)
    if again and expected == of.equity:
        at(100.2, *marks(of.symbol, of.then), equity=of.later)
        expected = of.later
    at(101.9, equity=expected)
    at(170, equity=expected)
    assert (run.trips, run.unknown) == ([], [])


FEES: dict[
    str, tuple[dict[str, object], float, float]
] = {  # the fee of a fill of 0.02 BTC at 50,000, and what is held after it
    "none": ({}, 0.0, 0.0),
    "in the quote": ({"fee": 1}, 1.0, 0.0),
    "in the base": ({"fee": 0.00002, "fee_asset": "BTC"}, 0.0, 0.00002),
}


@pytest.mark.parametrize(
    ("side", "fee", "delay", "whole"),
    [*product(("buy", "sell"), FEES, (-0.3, 0.3, 60.0), (True, False))],
)
def test_a_spot_trade_changes_equity_by_its_fee(
    side: str, fee: str, delay: float, *, whole: bool
) -> None:
    """The fill counts at once, prices in between count, and its balance changes nothing more."""
    more, paid, lowered = FEES[fee]
    sign = 1 if side == "buy" else -1
    money, coins = 5_000 - sign * 1_000 - paid, 0.1 + sign * 0.02 - lowered
    run = Run(CONFIG)

    def at(second: float, *events: Event, mark: float) -> None:
        run.at(second, *events)
        expected = money + coins * mark
        assert run.portfolio["equity"] == pytest.approx(expected, rel=1e-9), second

    run.at(0, price("BTC/USDT", 50_000), balances("kraken", USDT=5_000, BTC=0.1))
    run.at(60, balances("kraken", USDT=5_000, BTC=0.1))
    reports = [(100 + delay, balances("kraken", USDT=money, BTC=coins))]
    if not whole:
        reports = [
            (100 + delay, balance("kraken", "USDT", money)),
            (100.2 + delay, balance("kraken", "BTC", coins)),
        ]
    for second, report in reports:
        if second < 100:
            run.at(second, report)
            assert 9_999 - 1e-9 <= run.portfolio["equity"] <= 10_000 + 1e-9
    at(100, fill("f1", "kraken", f"{side} 0.02 BTC/USDT 50000", **more), mark=50_000)
    at(100.1, price("BTC/USDT", 51_000), mark=51_000)
    for second, report in reports:
        if second > 100:
            at(second, report, mark=51_000)
    at(170, mark=51_000)
    assert (run.trips, run.unknown) == ([], [])
    assert run.value("drawdown") == pytest.approx(0.0, abs=1e-9)


def test_balances_that_contain_unrealised_pnl_are_not_counted_twice() -> None:
    """At a venue of `unrealised_included` equity is the balance, before and after the close."""
    run = Run(CONFIG.replace("venues", 'unrealised_included = ["kraken"]\nvenues'))
    run.at(0, *marks(LINEAR, 50_000), balances("kraken", USDT=10_000))
    run.at(40, fill("f1", "kraken", f"buy 1 {LINEAR} 50000"))
    run.at(50, *marks(LINEAR, 52_000))
    for second, event in (
        (60, balances("kraken", USDT=12_000)),
        (70, fill("f2", "kraken", f"sell 1 {LINEAR} 52000")),
        (80, balances("kraken", USDT=12_000)),
    ):
        run.at(second, event)
        run.at(second + 5)  # a balance that nothing explains waits while a position is open
        assert run.portfolio["equity"] == pytest.approx(12_000, rel=1e-9)
    assert run.value("drawdown") == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("balances_told", [True, False])
def test_round_trips_with_fees_in_the_base_leave_no_position(*, balances_told: bool) -> None:
    """200 round trips with a fee of 0.001 of each coin bought: nothing is left, 60 each is lost."""
    config = "[portfolio]\ninitial_capital = 100000\n[limits.portfolio_loss]\nmax = 0.9\n"
    run = Run(config + "[limits.open_positions]\nmax = 5\n[limits.position]\nmax = 10\n")
    run.at(0, price("BTC/USDT", 60_000))
    if balances_told:
        run.at(0, balances("kraken", USDT=100_000))
        run.at(31)
    fee = {"fee": "0.001", "fee_asset": "BTC"}
    for number in range(200):
        second = 40 + number
        run.at(second, fill(f"b{number}", "kraken", "buy 1 BTC/USDT 60000", **fee))
        run.at(second + 0.5, fill(f"s{number}", "kraken", "sell 0.999 BTC/USDT 60000"))
    assert run.portfolio["equity"] == pytest.approx(88_000, rel=1e-9)
    assert run.portfolio["pnl_realized"] == pytest.approx(-12_000, rel=1e-9)
    assert run.value("open_positions") == 0
    assert run.value("position", "symbol:BTC/USDT") == pytest.approx(0, abs=1e-9)
    held = [one["quantity"] for one in run.portfolio["positions"]]
    assert held == pytest.approx([0.0] * len(held), abs=1e-9)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_net_row_of_0_beside_the_legs_says_nothing(place: int) -> None:
    """Venues in hedge mode list a net row of 0 too: wherever it stands, the legs count."""
    run = Run('[portfolio]\nvenues = ["kraken"]\n')
    run.at(0, price("B/USDT:USDT", 100), balances("kraken", USDT=10_000))
    rows = [
        {"symbol": "B/USDT:USDT", "quantity": quantity, "entry_price": 100, "leg": leg}
        for quantity, leg in ((3, "long"), (-2, "short"))
    ]
    rows.insert(place, {"symbol": "B/USDT:USDT", "quantity": 0})
    for second in (10, 20):
        run.at(second, {"type": "positions", "venue": "kraken", "positions": rows})
        held = {one["leg"]: one["quantity"] for one in run.portfolio["positions"]}
        assert held == {"long": 3, "short": -2}
