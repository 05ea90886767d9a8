"""What exposure positions and holdings make.

Each step also compares the book with one that is derived from its facts alone.
"""

from __future__ import annotations

import pytest

from riskmon.core import events as ev
from riskmon.core.book.config import MaxAge
from riskmon.core.book.exposure import NONE, Exposure
from riskmon.core.unknown import Unknown
from tests.core import balance, balances, fill, price
from tests.core.book.books import Book

SPOT, EURO, PERP, INVERSE = "BTC/USDT", "BTC/EUR", "BTC/USDT:USDT", "BTC/USD:BTC"


def market(**config: object) -> Book:
    """BTC costs 100 USDT or 80 EUR, at 1.25; an inverse contract is of 10 USD."""
    book = Book(**{"pegs": {"USD": 1.0}, **config})
    prices = {SPOT: 100.0, EURO: 80.0, "EUR/USDT": 1.25, PERP: 100.0, INVERSE: 100.0}
    book.step(*(price(symbol, at) for symbol, at in prices.items()))
    return book


def test_a_holding_is_a_position_in_the_symbol_that_is_named() -> None:
    """In `BASE/REFERENCE` where none or several are named at its venue."""
    book = market()
    book.step(balances(USDT=1_000.0, BTC=3.0))
    exposures = book.portfolio.exposures
    assert exposures.of(SPOT) == Exposure(3.0, 300.0)
    book.wait(10)
    book.step(fill("buy", 1.0, 80.0, EURO))
    assert (exposures.of(SPOT), exposures.of(EURO)) == (NONE, Exposure(4.0, 400.0))
    book.step(fill("sell", 2.0, 100.0, SPOT))
    assert (exposures.of(SPOT), exposures.of(EURO)) == (Exposure(2.0, 200.0), NONE)
    assert exposures.gross_notional_at("kraken") == 200.0 + 100.0  # 80 EUR short


def test_cash_and_what_is_ignored_are_no_positions() -> None:
    """The reference, pegged assets, and those of `ignore`."""
    book = market(pegs={"USD": 1.0, "USDC": 1.0}, ignore=("OLD",))
    book.step(price("OLD/USDT", 7.0), balances(USDT=5.0, USD=6.0, USDC=7.0, OLD=8.0, EUR=10.0))
    assert list(book.portfolio.exposures.open) == ["EUR/USDT"]
    assert book.portfolio.exposures.gross_notional() == 12.5


def test_the_first_balance_takes_the_place_of_a_position_by_fills() -> None:
    """A spot position at a venue that reports balances is its holding."""
    book = market(venues=(), initial_capital=1_000.0)
    book.step(fill("buy", 2.0, 100.0, SPOT))
    assert book.portfolio.exposures.of(SPOT) == Exposure(2.0, 200.0)
    book.step(balance("BTC", 5.0))
    assert book.portfolio.exposures.of(SPOT) == Exposure(5.0, 500.0)
    assert book.portfolio.held("kraken", SPOT) == 5.0


def test_the_delta_of_an_asset() -> None:
    """Its holdings, spot positions where no balance is reported, linear and inverse contracts."""
    book = market()
    book.step(balances(USDT=1_000.0, BTC=3.0))
    book.step(fill("buy", 1.0, 80.0, EURO, venue="mexc"), fill("sell", 2.5, 100.0))
    book.step(  # 200 USD: 2 BTC
        ev.Position(
            venue="mexc", symbol=INVERSE, quantity=20.0, entry_price=100.0, contract_size=10.0
        )
    )
    assert book.portfolio.exposures.of_asset("BTC") == Exposure(3.5, 350.0)
    book.step(price(INVERSE, 200.0), price(SPOT, 200.0))
    assert book.portfolio.exposures.of_asset("BTC") == Exposure(2.5, 500.0)


def test_live_holdings_count() -> None:
    """Exposure does not wait until a report is settled."""
    book = market()
    book.step(balances(USDT=1_000.0, BTC=3.0))
    book.step(balance("BTC", 1.0))
    assert book.portfolio.exposures.of_asset("BTC").quantity == 1.0
    assert book.equity == 1_300.0


def test_what_has_no_fresh_price_is_unknown() -> None:
    """By symbol, asset and venue, and so are the sums; the rest is known."""
    book = market(max_age=MaxAge(price=60.0))
    book.step(balances(USDT=1_000.0, BTC=3.0), fill("buy", 1.0, 100.0))
    assert book.portfolio.exposures.gross_notional_at("kraken") == 400.0
    book.wait(61)
    exposures = book.portfolio.exposures
    for unknown in (
        exposures.net_notional(SPOT),
        exposures.net_notional(PERP),
        exposures.net_notional_of_asset("BTC"),
        exposures.gross_notional_at("kraken"),
        exposures.gross_notional(),
        exposures.largest_notional(),
    ):
        assert isinstance(unknown, Unknown)
        assert "last price is" in unknown.reason
    book.step(price(SPOT, 50.0), price(PERP, 50.0))
    assert exposures.gross_notional_at("kraken") == 200.0


def test_one_symbol_at_two_venues_is_netted() -> None:
    """Over venues for the symbol, and not for what is open at each venue."""
    book = market()
    book.step(fill("buy", 3.0, 100.0), fill("sell", 2.0, 100.0, venue="mexc"))
    exposures = book.portfolio.exposures
    assert exposures.of(PERP) == Exposure(1.0, 100.0)
    assert exposures.gross_notional_at("kraken") == 300.0
    assert exposures.gross_notional_at("mexc") == 200.0
    assert exposures.gross_notional() == 100.0


def test_dust_is_no_open_position() -> None:
    """A holding worth 0.9 is none; one worth 1.1 is, and one whose price is old is not."""
    book = market(max_age=MaxAge(price=60.0))
    book.step(balances(USDT=1_000.0, BTC=0.009))
    assert list(book.portfolio.exposures.open) == []
    book.wait(61)
    assert list(book.portfolio.exposures.open) == []
    book.step(price(SPOT, 100.0), balances(USDT=1_000.0, BTC=0.011))
    assert list(book.portfolio.exposures.open) == [SPOT]
    assert book.portfolio.exposures.largest_notional() == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("cash", "opened"),
    [(10_000.0, True), (10_900.0, True), (12_000.0, False), (90_000.0, False), (30.0, True)],
)
def test_dust_that_follows_equity_opens_and_closes_positions(cash: float, opened: bool) -> None:
    """At 0.01 % of equity 1.1 EUR are dust above 11,000 EUR, after small and large changes."""
    book = Book(reference="EUR")
    for equity in (10_000.0, 9_000.0, cash, 9_500.0, cash):
        book.step(price("BTC/EUR", 1.1), balances(EUR=equity - 1.1, BTC=1.0))
    assert list(book.portfolio.exposures.open) == (["BTC/EUR"] if opened else [])


def test_a_compared_spot_position_is_reported_at_once() -> None:
    """A spot position beside a balance changes nothing; what differs is counted and reported."""
    book = market()
    book.step(balances(USDT=1_000.0, BTC=3.0))
    book.step(ev.Position(venue="kraken", symbol=SPOT, quantity=2.0, entry_price=100.0))
    assert book.told == ["kraken reports a position of 2 BTC/USDT and balances of 3"]
    assert book.state.differences == {"kraken": {"position": 1}}
    assert book.portfolio.exposures.of(SPOT).quantity == 3.0
