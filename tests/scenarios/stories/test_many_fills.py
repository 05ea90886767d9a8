"""Money stays exact over many fills, in whatever order they come."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.scenarios.stories.run import Event, Run, balances, fill, price

CONFIG = """
[portfolio]
venues = ["kraken"]
[limits.portfolio_loss]
max = 0.9
"""
AT_ONCE = 500
SLOW = pytest.mark.slow
FILLS = [
    (5_000, "BTC/USDT"),
    (5_000, "BTC/USDT:USDT"),
    pytest.param(1_000_000, "BTC/USDT", marks=SLOW),
    pytest.param(100_000, "BTC/USDT:USDT", marks=SLOW),
]


def trades(count: int) -> list[tuple[str, str, str]]:
    """Sides, quantities and prices: as much is bought as is sold, at other prices."""
    found = []
    for number in range(count // 2):
        quantity = f"0.{number % 97 + 1:04d}"
        found.append(("buy", quantity, f"{50_000 + number % 1_013}.01"))
        found.append(("sell", quantity, f"{50_000 + number % 1_009}.07"))
    return found


def played(symbol: str, done: list[tuple[str, str, str]]) -> Run:
    """The account after fills, five seconds for each batch of them."""
    run = Run(CONFIG)
    run.at(0, price("BTC/USDT", 50_000), balances("kraken", USDT=100_000))
    for begin in range(0, len(done), AT_ONCE):
        part = enumerate(done[begin : begin + AT_ONCE], begin)
        events: list[Event] = [
            fill(f"f{number}", "kraken", f"{side} {quantity} {symbol} {at}", fee="0.01")
            for number, (side, quantity, at) in part
        ]
        run.at(1 + begin / AT_ONCE * 5, *events)
    run.at(run.second + 1, price("BTC/USDT", 50_000), price(symbol, 50_000))
    return run


@pytest.mark.parametrize(("count", "symbol"), FILLS)
def test_money_is_exact_after_many_fills(count: int, symbol: str) -> None:
    """Equity is what was held less what each fill cost, a float, to 1e-9."""
    done = trades(count)
    run = played(symbol, done)
    spent = sum(
        Fraction(float(quantity) * float(at) * (1 if side == "buy" else -1) + 0.01)
        for side, quantity, at in done
    )
    expected = 100_000 - spent
    assert abs(Fraction(run.portfolio["equity"]) - expected) < Fraction("1e-9")
    held = [one["quantity"] for one in run.portfolio["positions"] if one["symbol"] == symbol]
    assert held == pytest.approx([0.0] * len(held), abs=1e-9)


def test_equity_does_not_depend_on_the_order_of_fills() -> None:
    """The same spot fills in two orders give the same equity, to the last bit."""
    done = trades(2_000)
    one, other = played("BTC/USDT", done), played("BTC/USDT", done[::-1])
    assert one.portfolio["equity"] == other.portfolio["equity"]


def test_many_small_profits_add_up_exactly() -> None:
    """0.1 realised 30,000 times is 3,000, and the same amounts as losses lead back to 0."""
    run = Run("[portfolio]\ninitial_capital = 10000\n[limits.portfolio_loss]\nmax = 0.9\n")
    for sign in (1, -1):
        for begin in range(0, 30_000, AT_ONCE):
            numbers = range(begin, begin + AT_ONCE)
            run.at(
                begin / 100 + (0 if sign == 1 else 400),
                *({"type": "pnl", "id": f"{sign}.{n}", "amount": 0.1 * sign} for n in numbers),
            )
        expected = 13_000 if sign == 1 else 10_000
        assert run.portfolio["equity"] == pytest.approx(expected, abs=1e-9)
