"""The rate of an asset in the reference: by peg, price, inverse, or through one asset between."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskmon.core.book.config import MaxAge, PortfolioConfig
from riskmon.core.book.prices import Prices, PriceState, Quote
from riskmon.core.book.rates import PegChange, Rates
from tests.core.book.world import run

SECOND = 10**9
NOW = 1_000 * SECOND


class World:
    """Prices and rates; ``ago`` is the age of a price in seconds."""

    def __init__(
        self, reference: str = "USDT", pegs: dict[str, float] | None = None, tolerance: float = 0.02
    ) -> None:
        self.config = PortfolioConfig(
            reference=reference,
            pegs=pegs or {},
            peg_tolerance=tolerance,
            max_age=MaxAge(price=300.0),
        )
        self.state = PriceState()
        self.prices = Prices(self.state, self.config)
        self.rates = Rates(self.prices, self.config)
        self.now_ns = NOW
        self.refresh()

    def price(self, symbol: str, price: float, ago: float = 0.0, venue: str = "") -> None:
        """Report a price."""
        if self.prices.on_price(symbol, venue, price, self.now_ns - int(ago * SECOND)):
            self.rates.on_price(symbol)

    def refresh(self) -> list[str]:
        """Return the assets whose rate changed."""
        return sorted(run(self.rates.refresh(self.now_ns)))

    def told(self, reports: Iterable[tuple[str, float]]) -> World:
        """Report prices and refresh."""
        for symbol, price in reports:
            self.price(symbol, price)
        self.refresh()
        return self


# prices, the asset, its rate
ROUTES = {
    "reference": ([], "USDT", 1.0),
    "peg": ([], "USD", 1.0),
    "unknown": ([], "BTC", None),
    "direct": ([("BTC/USDT", 60_000)], "BTC", 60_000),
    "inverse": ([("USDT/EUR", 0.8)], "EUR", 1.25),
    "direct before inverse": ([("EUR/USDT", 1.2), ("USDT/EUR", 0.8)], "EUR", 1.2),
    "through a peg": ([("BTC/USD", 50_000)], "BTC", 50_000),
    "through a price": ([("ALT/BTC", 0.01), ("BTC/USDT", 60_000)], "ALT", 600),
    "inverse of the first hop": ([("BTC/IDR", 1e9), ("BTC/USDT", 60_000)], "IDR", 6e-5),
    "inverse of the second hop": ([("ALT/EUR", 4), ("USDT/EUR", 0.8)], "ALT", 5),
    "the first in the alphabet": (
        [("ALT/ETH", 1), ("ETH/USDT", 3_000), ("ALT/BTC", 0.1), ("BTC/USDT", 60_000)],
        "ALT",
        6_000,
    ),
    "the first of those that have a price": (
        [("ALT/ETH", 1), ("ETH/USDT", 3_000), ("ALT/BTC", 0.1)],
        "ALT",
        3_000,
    ),
    "direct before through": ([("ALT/USD", 4), ("ALT/USDT", 5)], "ALT", 5),
    "not through two": ([("A/B", 2), ("B/C", 2), ("C/USDT", 2)], "A", None),
    "not by a contract": ([("BTC/USDT:USDT", 60_000)], "BTC", None),
}


@pytest.mark.parametrize(("reports", "asset", "rate"), ROUTES.values(), ids=ROUTES)
@pytest.mark.parametrize("followed", [True, False])
def test_the_rate_of_an_asset(
    reports: list[tuple[str, float]], asset: str, rate: float | None, *, followed: bool
) -> None:
    """Peg, price, inverse, else the first asset between in the alphabet; followed or asked once."""
    here = World(pegs={"USD": 1.0})
    if followed:
        here.rates.follow(asset)
    here.told(reports)
    assert here.rates.of(asset) == (None if rate is None else pytest.approx(rate))
    assert here.rates.was_priced(asset) is (rate is not None)


def test_an_account_in_btc_counts_its_usdt() -> None:
    """BTC/USDT prices USDT in BTC."""
    here = World(reference="BTC").told([("BTC/USDT", 50_000)])
    assert here.rates.of("USDT") == pytest.approx(2e-5)


def test_a_fresh_direct_price_follows_an_expired_one() -> None:
    """An expired price gives way to the next route, and its timer says when."""
    here = World(pegs={"USD": 1.0})
    here.rates.follow("BTC")
    here.price("BTC/USDT", 60_000, ago=200)
    here.price("BTC/USD", 59_000, ago=100)
    here.refresh()
    assert here.rates.of("BTC") == 60_000
    assert here.rates.take_timers() == [("BTC", NOW + 100 * SECOND + 1)]
    here.now_ns = NOW + 100 * SECOND + 1
    here.rates.on_timer("BTC")
    assert here.refresh() == ["BTC"]
    assert here.rates.of("BTC") == 59_000
    assert here.rates.take_timers() == [("BTC", NOW + 200 * SECOND + 1)]
    here.now_ns = NOW + 200 * SECOND + 1
    here.rates.on_timer("BTC")
    assert here.refresh() == ["BTC"]
    assert here.rates.of("BTC") is None
    assert here.rates.last("BTC") == Quote(59_000.0, NOW - 100 * SECOND)
    assert here.rates.no_rate("BTC").text(here.now_ns) == (
        "BTC's last price is 301 s old; max_age.price is 300: report a price of BTC/USDT"
    )
    assert here.rates.no_rate("ETH").reason == (
        "ETH has no price: report a price of ETH/USDT, or set portfolio.pegs or portfolio.ignore"
    )


def test_a_followed_asset_changes_with_the_one_between() -> None:
    """A price of BTC/USDT changes the rates of what is priced in BTC, and of nothing else."""
    here = World()
    for asset in ("BTC", "ALT", "ETH"):
        here.rates.follow(asset)
    here.told([("ALT/BTC", 0.01), ("BTC/USDT", 60_000), ("ETH/BTC", 0.1), ("ETH/USDT", 3_000)])
    here.price("BTC/USDT", 50_000)
    assert here.refresh() == ["ALT", "BTC"]
    assert here.rates.of("ALT") == 500
    assert here.rates.of("ETH") == 3_000


# reported prices in turn, whether the peg holds after each, the rate at the end
PEGS = {
    "within": ([("USDC/USDT", 0.98)], [True], 1.0),
    "the bound itself": ([("USDC/USDT", 1.02)], [True], 1.0),
    "beyond": ([("USDC/USDT", 0.9)], [False], 0.9),
    "back": ([("USDC/USDT", 0.9), ("USDC/USDT", 0.99)], [False, True], 1.0),
    "nearer but beyond": ([("USDC/USDT", 0.9), ("USDC/USDT", 0.97)], [False, False], 0.97),
    "by the inverse": ([("USDT/USDC", 1.25)], [False], 0.8),
    "back by the inverse": ([("USDC/USDT", 0.9), ("USDT/USDC", 1.01)], [False, True], 1.0),
    "not by other quotes": ([("BTC/USDC", 50_000), ("BTC/USDT", 40_000)], [True, True], 1.0),
}


@pytest.mark.parametrize(("reports", "holds", "rate"), PEGS.values(), ids=PEGS)
def test_a_peg(reports: list[tuple[str, float]], holds: list[bool], rate: float) -> None:
    """A peg holds within the tolerance; beyond it the reported price counts, until one within."""
    here = World(pegs={"USDC": 1.0})
    here.rates.follow("USDC")
    held = []
    for symbol, price in reports:
        here.now_ns += SECOND
        here.told([(symbol, price)])
        held.append("USDC" not in here.rates.broken)
    assert held == holds
    assert here.rates.of("USDC") == pytest.approx(rate)
    again = Rates(Prices(here.state, here.config), here.config)
    run(again.refresh(here.now_ns))
    assert again.of("USDC") == here.rates.of("USDC")


def test_a_peg_does_not_hold_again_by_age() -> None:
    """The price that broke the peg expires: the rate is unknown, not the peg."""
    here = World(pegs={"USDC": 1.0})
    here.rates.follow("USDC")
    here.told([("USDC/USDT", 0.5)])
    assert here.rates.take_peg_changes() == [PegChange("USDC", 1.0, 0.5, holds=False)]
    here.now_ns += 301 * SECOND
    here.rates.on_timer("USDC")
    here.refresh()
    assert here.rates.of("USDC") is None
    here.told([("USDC/USDT", 1.0)])
    assert here.rates.of("USDC") == 1.0
    assert here.rates.take_peg_changes() == [PegChange("USDC", 1.0, 1.0, holds=True)]
    assert here.rates.take_peg_changes() == []


def test_a_fill_does_not_break_a_peg() -> None:
    """A fill of a thin book prices an asset without a price, and breaks no peg."""
    here = World(pegs={"USDC": 1.0})
    for symbol in ("USDC/USDT", "BTC/USDT"):
        here.prices.on_fill(symbol, "kraken", 0.5, NOW)
        here.rates.on_price(symbol)
    here.refresh()
    assert here.rates.of("USDC") == 1.0
    assert here.rates.of("BTC") == 0.5


ASSETS = ["USDT", "USD", "BTC", "ETH", "ALT"]
SYMBOLS = [f"{a}/{b}" for a in ASSETS for b in ASSETS if a != b]
STEPS = st.lists(
    st.tuples(
        st.lists(
            st.tuples(st.sampled_from(SYMBOLS), st.sampled_from([0.5, 1.0, 1.01, 2.0])), max_size=3
        ),
        st.sampled_from([0, 1, 100, 200, 301]),
    ),
    max_size=12,
)


def known(rates: Rates, asset: str) -> tuple[float | None, float | None]:
    """Return the rate of an asset and, while it has none, the last one."""
    rate, last = rates.of(asset), rates.last(asset)
    return rate, None if rate is not None or last is None else last.price


@given(STEPS)
def test_rates_do_not_depend_on_when_they_are_derived(
    steps: list[tuple[list[tuple[str, float]], int]],
) -> None:
    """Followed rates, changed by prices and timers alone, equal rates derived from nothing."""
    here = World(pegs={"USD": 1.0})
    due: dict[str, int] = {}
    before: dict[str, tuple[float | None, float | None]] = {}
    for asset in ASSETS:
        here.rates.follow(asset)
        before[asset] = known(here.rates, asset)
    for reports, seconds in steps:
        here.now_ns += seconds * SECOND
        for asset in [one for one, at_ns in due.items() if at_ns <= here.now_ns]:
            del due[asset]
            here.rates.on_timer(asset)
        for symbol, price in reports:
            here.price(symbol, price)
        changed = here.refresh()
        for asset, at_ns in here.rates.take_timers():
            due[asset] = min(at_ns, due.get(asset, at_ns))
        anew = Rates(Prices(here.state, here.config), here.config)
        run(anew.refresh(here.now_ns))
        assert [here.rates.of(one) for one in ASSETS] == [anew.of(one) for one in ASSETS]
        assert here.rates.broken == anew.broken
        # Without a fresh price a new last rate is a change too.
        now = {asset: known(here.rates, asset) for asset in ASSETS}
        assert changed == sorted(one for one in ASSETS if now[one] != before[one])
        before = now


def test_refresh_yields_its_work() -> None:
    """A price through which 1,000 assets are priced is derived in pieces of about 64 units."""
    here = World()
    names = [f"A{number}" for number in range(1_000)]
    for name in names:
        here.price(f"{name}/BTC", 0.5)
        here.rates.follow(name)
    here.refresh()
    here.price("BTC/USDT", 2.0)
    pieces = list(here.rates.refresh(here.now_ns))
    assert len(pieces) >= 10
    assert max(pieces) < 256
    assert here.rates.of("A999") == 1.0
