"""Which reports decide for those of other assets: exact ones, the nearest, of the same events."""

from __future__ import annotations

import pytest

from riskmon.core.book.comparison import Comparison
from riskmon.core.book.effects import Amount, Stamp
from riskmon.core.book.ledger import Ledger, LedgerState
from riskmon.core.book.projection import Known

SECOND = 10**9


class Venue:
    """Ledgers of one venue that begin with 1,000; times in seconds, nothing is dated."""

    def __init__(self, *assets: str) -> None:
        self.ledgers = {("kraken", asset): Ledger(LedgerState()) for asset in assets}
        self.legs: dict[int, tuple[str, ...]] = {}
        self.comparison = Comparison("kraken", self.ledgers, self.legs)
        for asset in assets:
            self.report(asset, 1_000.0, 0)

    def __getitem__(self, asset: str) -> Ledger:
        return self.ledgers["kraken", asset]

    def fill(self, at: float, **amounts: float) -> None:
        cause = len(self.legs) + 1
        self.legs[cause] = tuple(amounts)
        self.comparison.pair(self.legs[cause])
        for asset, amount in amounts.items():
            self[asset].add(Known(amount, round(at * SECOND), False, cause))

    def report(self, asset: str, amount: float, at: float) -> list[str]:
        """Report a balance; return the other assets that it changes."""
        self[asset].report(Amount(amount, 0.0), Stamp(round(at * SECOND), False))
        pieces = list(self.comparison.resolving([asset], {}, None))
        return [one for one in pieces if isinstance(one, str)]


@pytest.mark.parametrize(("at", "contains"), [(10.5, 1_900), (11.5, 1_800)])
def test_an_exact_report_decides_within_a_second(at: float, contains: float) -> None:
    """A deposit of 1,000 hides a buy for 100; the bought asset's report contains the buy."""
    venue = Venue("USDT", "BTC")
    venue.fill(9, USDT=-100.0, BTC=1.0)
    venue.report("USDT", 1_900.0, 10)
    assert venue["USDT"].live == 1_800
    venue.report("BTC", 1_001.0, at)
    assert venue["USDT"].live == contains


def test_the_nearest_of_two_decides() -> None:
    """The earlier report is without the buy and further away: it does not count."""
    for first, second, contains in ((9.5, 10.2, 1_900), (9.9, 10.6, 1_800)):
        venue = Venue("USDT", "BTC")
        venue.fill(9, USDT=-100.0, BTC=1.0)
        venue.report("BTC", 1_000.0, first)
        venue.report("USDT", 1_900.0, 10)
        venue.report("BTC", 1_001.0, second)
        assert venue["USDT"].live == contains


def test_a_report_of_an_asset_that_the_fill_did_not_move_decides_nothing() -> None:
    venue = Venue("USDT", "BTC", "ETH")
    venue.fill(9, USDT=-100.0, BTC=1.0)
    venue.fill(9.1, ETH=1.0, BTC=-2.0)
    venue.report("USDT", 1_900.0, 10)
    assert venue.report("ETH", 1_001.0, 10.1) == []
    assert venue["USDT"].live == 1_800


def test_a_report_that_amounts_decide_changes_no_other() -> None:
    """Each asset agrees by itself: nothing is compared."""
    venue = Venue("USDT", "BTC")
    venue.fill(9, USDT=-100.0, BTC=1.0)
    assert venue.report("USDT", 900.0, 10) == []
    assert venue.report("BTC", 1_001.0, 10.1) == []
    assert (venue["USDT"].live, venue["BTC"].live) == (900, 1_001)


def test_the_work_of_a_report_does_not_grow_with_the_reports_before() -> None:
    """Fees that are not reported make each report of the quote inexact: only neighbours count."""
    pieces = {}
    for fills in (20, 80):
        venue = Venue("USDT", "BTC")
        for n in range(fills):
            at = 1 + n / 50
            venue.fill(at, USDT=-100.0, BTC=1.0)
            list(venue.comparison.resolving(["USDT"], {}, None))
            venue.report("BTC", 1_001.0 + n, at + 0.001)
            venue["USDT"].report(
                Amount(1_000.0 - 100.1 * (n + 1), 0.0), Stamp(round((at + 0.002) * SECOND), False)
            )
            pieces[fills] = len(list(venue.comparison.resolving(["USDT"], {}, None)))
    assert pieces[80] == pieces[20] < 6
