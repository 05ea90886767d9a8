"""The account's equity: venues that come, fall silent and leave, flows, reloads and rebases.

Each step also compares the book with one that is derived from its facts alone.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from riskmon.core import events as ev
from riskmon.core.book.config import MaxAge
from riskmon.core.unknown import Unknown
from tests.core import BEGIN_WALL_NS, SECOND, balance, balances, fill, flow, price
from tests.core.book.books import Book

PERP = "BTC/USDT:USDT"


def transfer(amount: float, fee: float = 0.0) -> ev.Transfer:
    """A transfer of USDT from kraken to mexc."""
    return ev.Transfer(
        id="t", asset="USDT", amount=amount, fee=fee, from_venue="kraken", to_venue="mexc"
    )


def held(quantity: float, entry: float, venue: str = "kraken") -> ev.Position:
    """A position that a venue reports."""
    return ev.Position(venue=venue, symbol=PERP, quantity=quantity, entry_price=entry)


def at(book: Book, ago: float) -> datetime:
    """The date some seconds ago."""
    return datetime.fromtimestamp((BEGIN_WALL_NS + book.now_ns) / SECOND - ago, UTC)


def two_venues(**config: object) -> Book:
    """Kraken and mexc have 1,000 each."""
    book = Book(**{"venues": ("kraken", "mexc"), **config})
    book.step(balances(USDT=1_000.0), balances("mexc", USDT=1_000.0))
    assert book.equity == 2_000.0
    return book


# -- silent, absent and forgotten venues ----------------------------------------------------------


def test_a_required_venue_falls_silent_twice() -> None:
    """Its age alone makes equity unknown, each time; a heartbeat that names it makes it known."""
    book = Book(max_age=MaxAge(balance=60.0))
    book.step(balances(USDT=1_000.0))
    for _ in range(2):
        book.wait(60)
        assert book.seen == (1_000.0, 1.0)
        book.wait(0.001)
        assert book.equity == Unknown("kraken has not reported its balances for 60 s")
        book.step(ev.Heartbeat(venue="kraken"))
        assert book.seen == (1_000.0, 1.0)
        assert book.portfolio.venue_equity("kraken") == 1_000.0


def test_a_venue_that_is_not_required_leaves_and_returns() -> None:
    """As flows: neither moves the unit value, and what its coins did meanwhile does neither."""
    book = Book(max_age=MaxAge(balance=60.0))
    book.step(price("BTC/USDT", 100.0), balances(USDT=1_000.0), balances("mexc", BTC=10.0))
    assert book.seen == (2_000.0, 1.0)
    book.wait(30)
    book.step(balances(USDT=900.0))
    book.wait(30.1)
    assert book.seen == (900.0, 0.95)
    book.step(price("BTC/USDT", 50.0))
    assert book.unit_value == pytest.approx(0.95)
    book.step(ev.Heartbeat(venue="mexc"))
    assert book.seen == (1_400.0, 0.95)
    assert book.fall("venue:kraken") == 100.0


def test_an_emptied_venue_is_forgotten() -> None:
    """Without `venues`, one that last held nothing may be silent; one that holds may not."""
    for left, equity in ((0.0, 1_000.0), (5.0, None)):
        book = Book(venues=(), max_age=MaxAge(balance=60.0))
        book.step(balances(USDT=1_000.0), balances("mexc", USDT=left))
        book.wait(50)
        book.step(balances(USDT=1_000.0))
        book.wait(20)
        assert isinstance(book.equity, Unknown) is (equity is None)
        assert book.portfolio.holdings.reports("mexc") is (equity is None)


def test_a_venue_that_comes_later_enters_as_a_flow() -> None:
    """By the change in equity that it makes: what its fills had realised is counted already."""
    book = Book()
    book.step(price(PERP, 100.0), balances(USDT=1_000.0))
    book.step(fill("buy", 1.0, 100.0, venue="mexc"), fill("sell", 1.0, 80.0, venue="mexc"))
    assert book.seen == (980.0, 0.98)
    book.step(balances("mexc", USDT=480.0))
    assert book.seen == (1_480.0, 0.98)
    assert book.fall() == pytest.approx(20.0)


# -- the first equity -----------------------------------------------------------------------------


def test_single_balances_of_a_founder_raise_the_capital() -> None:
    """For `unknown_grace`; after it a new asset is P&L."""
    book = Book()
    book.step(price("BTC/USDT", 30_000.0), balance("USDT", 1_000.0))
    book.wait(1)
    assert (book.equity, book.capital) == (1_000.0, 1_000.0)
    book.step(balance("BTC", 1.0))
    book.wait(1)
    assert (book.equity, book.capital, book.unit_value) == (31_000.0, 31_000.0, 1.0)
    book.wait(30)
    book.step(balance("ETH", 1.0), price("ETH/USDT", 3_100.0))
    book.wait(1)
    assert (book.seen, book.capital) == ((34_100.0, 1.1), 31_000.0)


def test_the_unrealised_pnl_of_first_positions_enters() -> None:
    """Within the grace it is no profit, and part of the capital."""
    book = Book()
    book.step(price(PERP, 100.0), balances(USDT=1_000.0))
    book.step(held(10.0, 80.0))
    assert (book.seen, book.capital) == ((1_200.0, 1.0), 1_200.0)
    book.step(price(PERP, 90.0))
    assert book.unit_value == pytest.approx(1_100.0 / 1_200.0)


# -- flows ----------------------------------------------------------------------------------------


def test_a_flow_that_no_balance_contains_lapses() -> None:
    """After `flow_wait`, with a notice and a count; a balance that comes later is P&L."""
    book = Book(flow_wait=100.0)
    book.step(balances(USDT=1_000.0))
    book.step(flow(500.0, id="f1"))
    book.wait(99.9)
    assert book.told == []
    book.wait(0.2)
    assert book.told == [
        "the flow f1 of 500 USDT at kraken lapsed: no balance contained it within 100 s "
        "(portfolio.flow_wait)"
    ]
    assert book.state.differences == {"kraken": {"flow": 1}}
    book.step(balances(USDT=1_500.0))
    assert book.unit_value == pytest.approx(1.5)


def test_a_flow_where_no_balance_is_reported_counts_at_once() -> None:
    """In equity and units; the venue's first balance takes its place."""
    book = Book(venues=(), initial_capital=1_000.0)
    book.step(flow(500.0))
    assert book.seen == (1_500.0, 1.0)
    book.step(ev.Pnl(amount=-150.0, id="p"))
    assert book.unit_value == pytest.approx(0.9)
    book.step(balances(USDT=1_400.0))
    book.wait(30)
    assert book.equity == 1_400.0
    assert book.unit_value == pytest.approx(1_400.0 / 1_500.0)


def test_a_flow_in_an_asset_whose_price_is_old_is_no_profit() -> None:
    """It counts at the last price; what the price did since is P&L."""
    book = Book(max_age=MaxAge(price=20.0))
    book.step(price("BTC/USDT", 100.0), balances(USDT=1_000.0, BTC=10.0))
    book.wait(30)
    book.step(flow(10.0, "BTC"))
    book.step(balances(USDT=1_000.0, BTC=20.0))
    assert isinstance(book.equity, Unknown)
    book.step(price("BTC/USDT", 100.0))
    assert book.seen == (3_000.0, 1.0)


# -- transfers ------------------------------------------------------------------------------------


def test_a_transfer_is_in_equity_while_it_is_under_way() -> None:
    """Neither account nor venue gains or loses by it; its fee is a loss of the account."""
    book = two_venues()
    book.step(transfer(400.0, fee=4.0))
    book.step(balances(USDT=600.0))
    assert book.seen == (1_996.0, 0.998)
    assert (book.fall("venue:kraken"), book.portfolio.venue_share()) == (0.0, 1_000.0 / 1_996.0)
    book.wait(600)
    book.step(balances("mexc", USDT=1_396.0))
    assert book.seen == (1_996.0, 0.998)
    assert (book.fall("venue:kraken"), book.fall("venue:mexc")) == (0.0, 0.0)
    assert book.fall() == pytest.approx(4.0)


def test_a_transfer_that_arrives_first_is_no_profit() -> None:
    """What arrived is taken off until the source's leg is matched."""
    book = two_venues()
    book.step(transfer(400.0))
    book.step(balances("mexc", USDT=1_400.0))
    assert book.seen == (2_000.0, 1.0)
    book.step(balances(USDT=600.0))
    assert book.seen == (2_000.0, 1.0)


def test_the_loss_of_coins_under_way_counts() -> None:
    """A transfer of BTC while its price falls."""
    book = two_venues()
    book.step(price("BTC/USDT", 100.0), balances(USDT=1_000.0), balances("mexc", BTC=10.0))
    book.step(ev.Transfer(id="t", asset="BTC", amount=10.0, from_venue="mexc", to_venue="kraken"))
    before = book.unit_value
    book.step(balances("mexc"))
    assert book.portfolio.exposures.of_asset("BTC").quantity == 10.0
    book.step(price("BTC/USDT", 50.0))
    assert book.seen == (1_500.0, before * 0.75)


def test_a_transfer_that_never_arrives_is_withheld() -> None:
    """After `transit` equity does not contain it, and a notice says so."""
    book = two_venues(transit=500.0)
    book.step(transfer(400.0))
    book.step(balances(USDT=600.0))
    book.wait(499)
    assert book.equity == 2_000.0
    book.wait(2)
    assert book.seen == (1_600.0, 0.8)
    assert book.told == [
        "the transfer t of 400 USDT from kraken to mexc is under way for more than 500 s "
        "(portfolio.transit): equity does not contain it"
    ]


# -- reload ---------------------------------------------------------------------------------------


def test_what_a_reload_makes_of_the_same_facts_enters_as_a_flow() -> None:
    """Neither an asset that is ignored from now on nor one that counts again is P&L."""
    book = Book(ignore=("OLD",))
    book.step(price("OLD/USDT", 5.0), balances(USDT=1_000.0, OLD=100.0))
    book.step(balances(USDT=900.0, OLD=100.0))
    book.reload(ignore=())
    assert book.seen == (1_400.0, 0.9)
    book.reload(ignore=("OLD",))
    assert book.seen == (900.0, 0.9)
    assert book.fall() == pytest.approx(100.0)
    assert book.capital == 1_000.0


def test_what_a_changed_peg_makes_is_pnl() -> None:
    """10 % of half the account, and only that where another key changes with it."""
    book = Book(pegs={"USDC": 1.0})
    book.step(price("OLD/USDT", 5.0), balances(USDC=500.0, USDT=300.0, OLD=40.0))
    book.reload(pegs={"USDC": 0.9}, ignore=("OLD",))
    assert book.equity == 750.0
    assert book.unit_value == pytest.approx(750.0 / 800.0)


def test_unrealised_pnl_that_balances_contain_after_a_reload() -> None:
    """Equity falls by it as a flow: it was counted twice."""
    book = Book()
    book.step(price(PERP, 100.0), balances(USDT=1_000.0))
    book.step(fill("buy", 1.0, 100.0), price(PERP, 300.0))
    assert book.seen == (1_200.0, 1.2)
    book.reload(unrealised_included=("kraken",))
    assert book.seen == (1_000.0, 1.2)


def test_a_required_venue_that_a_reload_adds_is_awaited() -> None:
    """Equity is unknown until it reports, and it enters as a flow then."""
    book = Book()
    book.step(balances(USDT=1_000.0))
    book.reload(venues=("kraken", "mexc"))
    assert isinstance(book.equity, Unknown)
    book.step(balances("mexc", USDT=500.0))
    assert book.seen == (1_500.0, 1.0)


# -- rebase ---------------------------------------------------------------------------------------


def test_a_rebase_begins_anew() -> None:
    """Capital, unit value, peak and periods; a flow of before is part of the new capital."""
    book = Book()
    book.step(balances(USDT=1_000.0))
    book.wait(10)
    book.step(balances(USDT=800.0))
    assert (book.portfolio.loss(), book.portfolio.drawdown()) == (0.2, 0.2)
    book.wait(10)
    book.portfolio.rebase()
    book.step()
    assert (book.capital, book.unit_value, book.portfolio.drawdown()) == (800.0, 1.0, 0.0)
    assert book.fall() == 0.0
    book.step(flow(-200.0, at=at(book, 10)))
    assert (book.unit_value, book.portfolio.drawdown()) == (1.0, 0.0)
    book.step(balances(USDT=760.0))
    assert (book.portfolio.loss(), book.fall()) == (0.05, 40.0)


def test_a_rebase_of_an_unknown_equity_changes_nothing() -> None:
    """There is no number to begin with."""
    book = Book(max_age=MaxAge(balance=60.0))
    book.step(balances(USDT=1_000.0))
    book.wait(61)
    book.portfolio.rebase()
    book.step()
    assert (book.capital, book.state.equity.units) == (1_000.0, 1_000.0)


# -- passes that change nothing -------------------------------------------------------------------


def test_unchanged_equity_has_a_row_in_each_minute_and_after_a_rebase() -> None:
    """A pass adds a point where the history would otherwise lack a row, and else none."""
    book = Book()
    book.step(balances(USDT=1_000.0))
    rows = book.state.histories["account"].rows
    for count in (1, 2, 3):
        book.step(price("ETH/USDT", 1.0))
        book.step(price("ETH/USDT", 2.0))
        assert [row.close for row in rows] == [1_000.0] * count
        book.wait(60)
    book.step(price("ETH/USDT", 1.0))
    book.portfolio.rebase()
    assert not rows
    book.step()
    assert [row.close for row in rows] == [1_000.0]
