"""The rate of each asset: the price of one unit in the reference currency.

The rate is 1 for the reference; the peg of the asset; the newest fresh price of
``ASSET/REFERENCE``, else the inverse of that of ``REFERENCE/ASSET``; else the price in one asset
between, the first in the alphabet, times the rate of that one (its peg, its price or the inverse of
one).

A peg holds while the newest reported price of the asset in the reference is within
``peg_tolerance`` of it. Beyond that the reported price counts.

Rates are derived. Assets that are followed have theirs stored here until the next
:meth:`Rates.refresh`, which derives those again that depend on the prices reported since; a price
only records its symbol.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Generator
from typing import NamedTuple

from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.instruments import instrument
from riskmon.core.book.prices import Prices, Quote
from riskmon.core.unknown import Unknown

AT_ONCE = 64  # units of work in a piece; one is a rate by a price of its own
BETWEEN_A_UNIT = 8  # assets between that are examined in a unit of work
NEVER_NS = 1 << 62
_TOLERANCE = 1e-9  # of a comparison with a bound


class PegChange(NamedTuple):
    """A peg stopped or started to hold, by a reported price."""

    asset: str
    peg: float
    price: float
    holds: bool


class _Rate(NamedTuple):
    price: float
    until_ns: int  # the last instant at which it is fresh


class Rates:
    """The rates of assets under a configuration, as of the last :meth:`refresh`."""

    def __init__(self, prices: Prices, config: PortfolioConfig) -> None:
        self.reference = config.reference
        self.now_ns = 0
        self._prices = prices
        self._pegs = {name: peg for name, peg in config.pegs.items() if name != config.reference}
        self._tolerance = config.peg_tolerance + _TOLERANCE
        self._between: dict[str, list[str]] = {}  # asset -> assets it has a price in, sorted
        self._linked: set[str] = set()  # symbols in `_between`
        self._rates: dict[str, float | None] = {}  # of the followed assets
        self._stale: dict[str, None] = {}
        self._old: dict[str, float | None] = {}  # the last rates, of assets without a fresh price
        self._unrated: set[str] = set()  # the followed assets without a rate
        self._touched: dict[str, None] = {}  # symbols with a new price since the last refresh
        self._armed_ns: dict[str, int] = {}
        self._timers: list[tuple[str, int]] = []
        self._peg_changes: list[PegChange] = []
        self.broken: set[str] = set()  # assets whose peg does not hold
        for symbol in prices.symbols():
            self._link(symbol)
        for asset in self._pegs:
            self._judge_peg(asset)
        self._peg_changes.clear()

    # -- events -----------------------------------------------------------------------------------

    def on_price(self, symbol: str) -> None:
        """Record that a symbol has a new price or fill."""
        self._touched[symbol] = None

    def on_timer(self, asset: str) -> None:
        """Derive the rate of an asset again at the next refresh: its price may have expired."""
        self._armed_ns.pop(asset, None)
        if asset in self._rates:
            self._stale[asset] = None

    def follow(self, asset: str) -> None:
        """Store the rate of an asset from now on, and start its expiry timer."""
        if asset not in self._rates:
            self._rates[asset] = None
            self._derive(asset)

    # -- the pass ---------------------------------------------------------------------------------

    def refresh(self, now_ns: int) -> Generator[int, None, list[str]]:
        """Derive what new prices changed; yield the work, return the assets with a new rate.

        Of an asset without a fresh price a new last rate counts too: what is dust depends on it.
        """
        self.now_ns = now_ns
        changed: list[str] = []
        work = 0
        while self._touched or self._stale:
            touched, self._touched = self._touched, {}
            for symbol in touched:
                work += self._spread(symbol)
                if work >= AT_ONCE:
                    yield work
                    work = 0
            stale, self._stale = self._stale, {}
            for asset in stale:
                if self._derive(asset):
                    changed.append(asset)
                work += 1 + len(self._between.get(asset, ())) // BETWEEN_A_UNIT
                if work >= AT_ONCE:
                    yield work
                    work = 0
        return changed

    def take_timers(self) -> list[tuple[str, int]]:
        """Return the assets whose expiry timer is to be armed, with the due time; once."""
        timers, self._timers = self._timers, []
        return timers

    def take_peg_changes(self) -> list[PegChange]:
        """Return which pegs stopped or started to hold since the last call."""
        changes, self._peg_changes = self._peg_changes, []
        return changes

    @property
    def followed(self) -> int:
        """The number of assets that are followed."""
        return len(self._rates)

    @property
    def is_complete(self) -> bool:
        """Whether each followed asset has a rate: none depends on prices that expired."""
        return not self._unrated

    def follows(self, asset: str) -> bool:
        """Return whether the rate of an asset is stored."""
        return asset in self._rates

    # -- queries ----------------------------------------------------------------------------------

    def of(self, asset: str) -> float | None:
        """Return the rate of an asset; None without a fresh price."""
        if asset in self._rates:
            return self._rates[asset]
        rate = self._rate(asset)
        return None if rate is None else rate.price

    def last(self, asset: str) -> Quote | None:
        """Return the newest rate of an asset that any prices gave; it may have expired."""
        fixed = self._fixed(asset)
        if fixed is not None:
            return Quote(fixed, self.now_ns)
        found = [self._last_hop(asset, self.reference)]
        found.extend(
            _product(self._last_hop(asset, between), self._last_hop_home(between))
            for between in self._between.get(asset, ())
        )
        return max((one for one in found if one is not None), key=_at_ns, default=None)

    def was_priced(self, asset: str) -> bool:
        """Return whether the asset ever had a rate."""
        return self.last(asset) is not None

    def no_rate(self, asset: str) -> Unknown:
        """Return why an asset has no rate."""
        cure = f"report a price of {asset}/{self.reference}"
        last = self.last(asset)
        if last is None:
            return Unknown(
                f"{asset} has no price: {cure}, or set portfolio.pegs or portfolio.ignore"
            )
        return self._prices.too_old(asset, last, cure)

    # -- derivation -------------------------------------------------------------------------------

    def _link(self, symbol: str) -> None:
        self._linked.add(symbol)
        kind, base, quote, _ = instrument(symbol, self.reference)
        if kind != "spot" or symbol != f"{base}/{quote}" or self.reference in (base, quote):
            return
        for one, other in ((base, quote), (quote, base)):
            between = self._between.setdefault(one, [])
            if other not in between:
                insort(between, other)

    def _spread(self, symbol: str) -> int:
        """Mark the followed assets whose rate depends on a symbol as stale; return the work."""
        if symbol not in self._linked:
            self._link(symbol)
        kind, base, quote, _ = instrument(symbol, self.reference)
        if kind != "spot":
            return 1
        if self.reference not in (base, quote):
            self._mark_stale(base)
            self._mark_stale(quote)
            return 1
        asset = base if quote == self.reference else quote
        self._judge_peg(asset)
        self._mark_stale(asset)
        through = self._between.get(asset, ())
        for other in through:
            self._mark_stale(other)
        return 1 + len(through) // BETWEEN_A_UNIT

    def _mark_stale(self, asset: str) -> None:
        if asset in self._rates:
            self._stale[asset] = None

    def _judge_peg(self, asset: str) -> None:
        """Compare the newest reported price of a pegged asset with its peg."""
        peg = self._pegs.get(asset)
        price = None if peg is None else self._last_reported(asset)
        if peg is None or price is None:
            return
        holds = abs(price - peg) <= self._tolerance * peg
        if holds is (asset in self.broken):
            self._peg_changes.append(PegChange(asset, peg, price, holds))
            (self.broken.discard if holds else self.broken.add)(asset)

    def _last_reported(self, asset: str) -> float | None:
        direct = self._prices.last_price(f"{asset}/{self.reference}")
        inverse = self._prices.last_price(f"{self.reference}/{asset}")
        if inverse is not None and (direct is None or inverse.at_ns > direct.at_ns):
            return 1 / inverse.price
        return None if direct is None else direct.price

    def _derive(self, asset: str) -> bool:
        """Update the stored rate of an asset; return whether it or the last one changed."""
        rate = self._rate(asset)
        if rate is not None and rate.until_ns < NEVER_NS:
            due_ns = rate.until_ns + 1
            if due_ns < self._armed_ns.get(asset, NEVER_NS):
                self._armed_ns[asset] = due_ns
                self._timers.append((asset, due_ns))
        price = None if rate is None else rate.price
        last = self.last(asset) if rate is None else None
        old = None if last is None else last.price
        (self._unrated.add if rate is None else self._unrated.discard)(asset)
        if price == self._rates[asset] and old == self._old.get(asset):
            return False
        self._rates[asset], self._old[asset] = price, old
        return True

    def _rate(self, asset: str) -> _Rate | None:
        home = self._home(asset)
        if home is not None:
            return home
        for between in self._between.get(asset, ()):
            first = self._hop(asset, between)
            second = None if first is None else self._home(between)
            if first is not None and second is not None:
                return _Rate(first.price * second.price, min(first.until_ns, second.until_ns))
        return None

    def _home(self, asset: str) -> _Rate | None:
        """Return the rate of an asset by its peg or by a price in the reference itself."""
        fixed = self._fixed(asset)
        return self._hop(asset, self.reference) if fixed is None else _Rate(fixed, NEVER_NS)

    def _fixed(self, asset: str) -> float | None:
        if asset == self.reference:
            return 1.0
        return None if asset in self.broken else self._pegs.get(asset)

    def _hop(self, base: str, quote: str) -> _Rate | None:
        """Return the fresh price of one asset in another."""
        direct = self._prices.mark(f"{base}/{quote}", "", self.now_ns)
        if direct is not None:
            return _Rate(direct.price, direct.at_ns + self._prices.max_age_ns)
        inverse = self._prices.mark(f"{quote}/{base}", "", self.now_ns)
        if inverse is not None:
            return _Rate(1 / inverse.price, inverse.at_ns + self._prices.max_age_ns)
        return None

    def _last_hop_home(self, asset: str) -> Quote | None:
        fixed = self._fixed(asset)
        return self._last_hop(asset, self.reference) if fixed is None else Quote(fixed, self.now_ns)

    def _last_hop(self, base: str, quote: str) -> Quote | None:
        direct = self._prices.last_mark(f"{base}/{quote}", "")
        inverse = self._prices.last_mark(f"{quote}/{base}", "")
        if inverse is not None and (direct is None or inverse.at_ns > direct.at_ns):
            return Quote(1 / inverse.price, inverse.at_ns)
        return direct


def _product(first: Quote | None, second: Quote | None) -> Quote | None:
    if first is None or second is None:
        return None
    return Quote(first.price * second.price, min(first.at_ns, second.at_ns))


def _at_ns(quote: Quote) -> int:
    return quote.at_ns
