"""The mark of a symbol at a venue: which price or fill it is, and until when."""

from __future__ import annotations

import pytest

from riskmon.core.book.config import MaxAge, PortfolioConfig
from riskmon.core.book.prices import Prices, PriceState, Quote

SECOND = 10**9
NOW = 1_000 * SECOND
CONFIG = PortfolioConfig(max_age=MaxAge(price=300.0))


def prices(state: PriceState | None = None) -> Prices:
    """Return the prices of a state under a maximum age of 300 s."""
    return Prices(state or PriceState(), CONFIG)


def at(age: float) -> int:
    """Return the instant ``age`` seconds before now."""
    return NOW - int(age * SECOND)


# (venue or "", price, age) of each price; the mark at kraken
CASES = {
    "own": ([("kraken", 100, 0)], 100),
    "another venue's": ([("binance", 101, 0)], 101),
    "one without a venue": ([("", 102, 0)], 102),
    "own, 10 s older than the newest": ([("kraken", 100, 10), ("binance", 101, 0)], 100),
    "own, more than 10 s older": ([("kraken", 100, 10.1), ("binance", 101, 0)], 101),
    "own, more than 10 s older than one without a venue": ([("kraken", 100, 11), ("", 99, 0)], 99),
    "own, expired a moment before the newest": ([("kraken", 100, 301), ("binance", 101, 295)], 101),
    "at its maximum age": ([("kraken", 100, 300)], 100),
    "expired": ([("kraken", 100, 300.1)], None),
    "an older one does not replace it": ([("kraken", 100, 1), ("kraken", 90, 2)], 100),
    "one of the same instant does": ([("kraken", 100, 1), ("kraken", 90, 1)], 90),
    "a newer one does": ([("kraken", 100, 2), ("kraken", 90, 1)], 90),
}


@pytest.mark.parametrize(("reports", "mark"), CASES.values(), ids=CASES)
def test_the_mark_of_a_venue(reports: list[tuple[str, float, float]], mark: float | None) -> None:
    """The venue's own newest price while it is at most 10 s older than the newest of any venue."""
    book = prices()
    for venue, price, age in reports:
        book.on_price("BTC/USDT", venue, price, at(age))
    quote = book.mark("BTC/USDT", "kraken", NOW)
    assert (quote and quote.price) == mark


@pytest.mark.parametrize(
    ("price_age", "fill_age", "mark"),
    [(1, 10, 100.0), (299, 0, 100.0), (301, 0, 92.0), (301, 299, 92.0), (302, 301, None)],
)
def test_a_fill_is_the_mark_only_without_a_fresh_price(
    price_age: float, fill_age: float, mark: float | None
) -> None:
    """A fill of a thin book, older or newer than the price, does not replace a fresh price."""
    book = prices()
    book.on_price("BTC/USDT", "binance", 100.0, at(price_age))
    book.on_fill("BTC/USDT", "kraken", 92.0, at(fill_age))
    for venue in ("kraken", "binance", ""):
        quote = book.mark("BTC/USDT", venue, NOW)
        assert (quote and quote.price) == mark


def test_last_mark_may_have_expired() -> None:
    """The last mark is the newer of price and fill, whatever their age."""
    book = prices()
    assert book.last_mark("BTC/USDT", "kraken") is None
    book.on_price("BTC/USDT", "", 100.0, at(400))
    assert book.last_mark("BTC/USDT", "kraken") == Quote(100.0, at(400))
    book.on_fill("BTC/USDT", "kraken", 90.0, at(350))
    assert book.last_mark("BTC/USDT", "mexc") == Quote(90.0, at(350))


def test_no_mark_says_why() -> None:
    """No price and an old price are two sentences."""
    book = prices()
    missing = book.no_mark("BTC/USDT", "kraken")
    assert missing.reason == "BTC/USDT has no mark: report its price"
    book.on_price("BTC/USDT", "kraken", 100.0, at(312))
    assert book.no_mark("BTC/USDT", "kraken").text(NOW) == (
        "BTC/USDT's last price is 312 s old; max_age.price is 300: report its price"
    )


def test_rows_are_counted_and_restored() -> None:
    """A restored state gives the same marks and the same number of rows."""
    state = PriceState()
    book = prices(state)
    for venue, age in (("kraken", 3), ("binance", 1), ("", 1), ("kraken", 2)):
        book.on_price("BTC/USDT", venue, 100.0 + age, at(age))
    book.on_fill("BTC/USDT", "kraken", 99.0, at(0))
    assert book.marked == 4
    assert book.known("BTC/USDT", "binance")
    assert not book.known("BTC/USDT", "mexc")
    assert book.known("BTC/USDT", "kraken", fill=True)
    assert not book.known("BTC/USDT", "binance", fill=True)
    again = prices(state)
    assert again.marked == 4
    for venue in ("kraken", "binance", "mexc", ""):
        assert again.mark("BTC/USDT", venue, NOW) == book.mark("BTC/USDT", venue, NOW)
