"""The price of each asset and the mark of each symbol, and when they expire.

The price of an asset in the reference currency is 1 for the reference itself, its peg, the last
price or fill of ``ASSET/REFERENCE``, or that of ``ASSET/X`` times the price of one asset X between.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.instruments import instrument
from riskmon.core.unknown import Unknown


class Quote(Struct, gc=False):
    """A price and when it was reported (engine time)."""

    price: float
    at_ns: int


class PriceState(Struct):
    """The last reported prices."""

    quotes: dict[str, dict[str, Quote]] = field(default_factory=dict)  # asset -> in what -> price
    marks: dict[str, dict[str, Quote]] = field(default_factory=dict)  # symbol -> venue, "" is any


class Prices:
    """The reported prices under a configuration."""

    def __init__(self, state: PriceState, config: PortfolioConfig) -> None:
        self.state = state
        self.reference = config.reference
        self.fixed = {**config.pegs, config.reference: 1.0}
        self.max_age_ns = int(config.max_age.price * 1e9)
        self.marked = sum(map(len, state.marks.values()))  # marks of all symbols
        # asset -> the assets that are priced through it
        self.through: dict[str, dict[str, bool]] = {}
        for asset, quotes in state.quotes.items():
            for quote in quotes:
                self.through.setdefault(quote, {})[asset] = True

    def record(self, symbol: str, venue: str, price: float, at_ns: int) -> str | None:
        """Record a price; return the asset that it is the price of, if the symbol is spot."""
        marks = self.state.marks.get(symbol)
        if marks is None:
            marks = self.state.marks[symbol] = {}
        marked = len(marks)
        if not venue:
            marks.clear()  # a price that names no venue is the last one of every venue
        latest = marks[venue] = marks[""] = Quote(price, at_ns)
        self.marked += len(marks) - marked
        kind, base, quote, _ = instrument(symbol, self.reference)
        if kind != "spot":
            return None
        quotes = self.state.quotes.get(base)
        if quotes is None:
            quotes = self.state.quotes[base] = {}
        if quote not in quotes:
            self.through.setdefault(quote, {})[base] = True
        quotes[quote] = latest
        return base

    def has_later_mark(self, symbol: str, venue: str, at_ns: int) -> bool:
        """Return whether the mark of a symbol, at a venue or ("") at any, is later than that."""
        quote = self.mark(symbol, venue)
        return quote is not None and quote.at_ns > at_ns

    def mark(self, symbol: str, venue: str) -> Quote | None:
        """Return the venue's last price or fill, else any venue's; it may have expired."""
        marks = self.state.marks.get(symbol)
        return None if marks is None else marks.get(venue) or marks[""]

    def is_fresh(self, quote: Quote, now_ns: int) -> bool:
        """Return whether a price has not expired."""
        return now_ns - quote.at_ns <= self.max_age_ns

    def of(self, asset: str, now_ns: int) -> tuple[float, int] | None:
        """Return the price of an asset in the reference, and when it expires; None without one."""
        fixed = self.fixed.get(asset)
        if fixed is not None:
            return fixed, _FOREVER_NS
        quotes = self.state.quotes.get(asset)
        if quotes is None:
            return None
        direct = quotes.get(self.reference)
        if direct is not None and now_ns - direct.at_ns <= self.max_age_ns:
            return direct.price, direct.at_ns + self.max_age_ns
        return max(self._crossed(quotes, now_ns), key=lambda found: found[1], default=None)

    def _crossed(self, quotes: dict[str, Quote], now_ns: int) -> Iterator[tuple[float, int]]:
        for between, quote in quotes.items():
            if between == self.reference or not self.is_fresh(quote, now_ns):
                continue
            until_ns = quote.at_ns + self.max_age_ns
            fixed = self.fixed.get(between)
            if fixed is not None:
                yield quote.price * fixed, until_ns
                continue
            second = self.state.quotes.get(between, {}).get(self.reference)
            if second is not None and self.is_fresh(second, now_ns):
                yield (
                    quote.price * second.price,
                    min(until_ns, second.at_ns + self.max_age_ns),
                )

    def count(self, asset: str) -> int:
        """Return in how many assets an asset is quoted."""
        return len(self.state.quotes.get(asset, ()))

    def is_through(self, asset: str, others: dict[str, bool]) -> bool:
        """Return whether an asset is quoted in one of ``others``."""
        quotes = self.state.quotes.get(asset)
        return quotes is not None and any(quote in others for quote in quotes)

    def last(self, asset: str) -> float | None:
        """Return the last price of an asset in the reference, expired or not."""
        fixed = self.fixed.get(asset)
        if fixed is not None:
            return fixed
        quotes = self.state.quotes.get(asset, {})
        if self.reference in quotes:
            return quotes[self.reference].price
        for between, quote in sorted(quotes.items()):
            second = self.fixed.get(between)
            through = self.state.quotes.get(between, {}).get(self.reference)
            if second is None and through is not None:
                second = through.price
            if second is not None:
                return quote.price * second
        return None

    def was_priced(self, asset: str) -> bool:
        """Return whether the asset ever had a price."""
        return self.last(asset) is not None

    def no_price(self, asset: str) -> Unknown:
        """Return what is missing to value an asset: its price."""
        return Unknown(
            f"{asset} has no price: report a price of "
            f"{asset}/{self.reference}, or set portfolio.pegs or portfolio.ignore"
        )


_FOREVER_NS = 1 << 62
