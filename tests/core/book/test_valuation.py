"""What venues are worth, part by part.

Each step also compares the book with one that is derived from its facts alone.
"""

from __future__ import annotations

from riskmon.core import events as ev
from riskmon.core.book.config import MaxAge
from riskmon.core.unknown import Unknown
from tests.core import balance, balances, fill, flow, price
from tests.core.book.books import Book

PERP, SPOT = "BTC/USDT:USDT", "BTC/USDT"


def test_a_venue_without_balances_counts_by_its_fills() -> None:
    """Realised and unrealised P&L, spot too, and flows; its balances then take their place."""
    book = Book(venues=(), initial_capital=1_000.0)
    book.step(price(SPOT, 100.0), price(PERP, 100.0))
    book.step(fill("buy", 2.0, 100.0, SPOT, fee=1.0), fill("buy", 1.0, 90.0), flow(50.0))
    book.step(price(SPOT, 110.0))
    assert book.equity == 1_000.0 - 1.0 + 20.0 + 10.0 + 50.0
    book.step(balances(USDT=700.0, BTC=2.0))
    book.wait(30)
    assert book.equity == 700.0 + 220.0 + 10.0  # the contract's P&L is in no balance
    assert book.portfolio.venue_equity("kraken") == 930.0


def test_pnl_of_a_venue_that_reports_none_stays_in_equity() -> None:
    """Others report balances: 270 lost in closed trades elsewhere are still lost."""
    book = Book()
    book.step(price(PERP, 100.0), balances(USDT=1_000.0))
    book.step(fill("buy", 27.0, 100.0, venue="mexc"), fill("sell", 27.0, 90.0, venue="mexc"))
    assert book.seen == (730.0, 0.73)
    missing = book.portfolio.venue_equity("mexc")
    assert missing == Unknown("mexc has not reported its balances: report them")


def test_settled_amounts_count_at_current_prices() -> None:
    """A report under way is not judged, and the fall of a price is at once."""
    book = Book()
    book.step(price(SPOT, 100.0), balances(USDT=500.0, BTC=5.0))
    book.step(balance("USDT", 100.0))
    book.step(price(SPOT, 80.0))
    assert book.equity == 500.0 + 400.0
    book.wait(1)
    assert book.equity == 100.0 + 400.0


def test_unrealised_pnl_that_a_balance_contains() -> None:
    """It is left out at venues of `unrealised_included`, and counts at others."""
    for included, equity in (((), 1_300.0), (("mexc",), 1_200.0), (("kraken", "mexc"), 1_000.0)):
        book = Book(unrealised_included=included)
        book.step(price(PERP, 100.0), balances(USDT=500.0), balances("mexc", USDT=500.0))
        book.step(fill("buy", 2.0, 100.0), fill("buy", 1.0, 100.0, venue="mexc"))
        book.step(price(PERP, 200.0))
        assert book.equity == equity


def test_dust_keeps_its_last_price() -> None:
    """Below 1 of a dollar; more of it makes equity unknown when the price is old."""
    for amount, known in ((0.9, True), (1.1, False)):
        book = Book(max_age=MaxAge(price=60.0))
        book.step(price("ABC/USDT", 1.0), balances(USDT=100.0, ABC=amount))
        book.wait(61)
        assert (book.equity == 100.0 + amount) is known
        if not known:
            assert str(book.equity).startswith("Unknown(reason=\"ABC's last price is")


def test_an_asset_is_left_out_until_it_has_a_price() -> None:
    """Also where two venues hold it; then all of it enters, and none of it is P&L."""
    book = Book(venues=("kraken", "mexc"))
    book.step(balances(USDT=100.0), balances("mexc", USDT=100.0))
    book.step(balances(USDT=100.0, XYZ=1.0), balances("mexc", USDT=100.0, XYZ=2.0))
    assert isinstance(book.equity, Unknown)
    book.wait(30)
    assert book.seen == (200.0, 1.0)
    assert book.portfolio.unpriced() == ["XYZ"]
    assert book.told[0].startswith("3 XYZ are left out of equity")
    book.step(price("XYZ/USDT", 10.0))
    assert book.seen == (230.0, 1.0)
    assert book.portfolio.unpriced() == []
    assert (book.fall("venue:kraken"), book.fall("venue:mexc")) == (0.0, 0.0)


def test_pnl_elsewhere_is_of_no_venue() -> None:
    """It counts where no balance does, and not beside balances, which contain it."""
    book = Book(venues=(), initial_capital=1_000.0)
    book.step(ev.Pnl(amount=-100.0, id="1"))
    assert (book.equity, book.portfolio.venue_share()) == (
        900.0,
        Unknown("no venue has reported its balances: report them"),
    )
    book.step(balances(USDT=880.0))
    book.wait(30)
    assert (book.equity, book.portfolio.venue_share()) == (880.0, 1.0)
