"""The newest reported price and fill of each symbol at each venue, and the mark that follows.

The mark of a symbol at a venue is the venue's own newest ``price`` while it is at most 10 s older
than the newest one of any venue, else that one. A fill is the mark, by the same rule, only while no
``price`` of the symbol is fresh: a fill of a thin book says little about the market.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from riskmon.core.book.config import PortfolioConfig
from riskmon.core.unknown import AGE, Unknown

OWN_LAG_NS = 10 * 10**9  # how much older than the newest one a venue's own price may be


class Quote(Struct, gc=False):
    """A price and when it was reported (engine time)."""

    price: float
    at_ns: int


Rows = dict[str, dict[str, Quote]]  # symbol -> venue ("" where none was named) -> its newest


class PriceState(Struct):
    """The newest price and the newest fill of each symbol at each venue."""

    prices: Rows = field(default_factory=dict, name="marks")
    fills: Rows = field(default_factory=dict)


class Prices:
    """The reported prices under a configuration."""

    def __init__(self, state: PriceState, config: PortfolioConfig) -> None:
        self.max_age_ns = int(config.max_age.price * 1e9)
        self._max_age = config.max_age.price
        self._prices = _Newest(state.prices)
        self._fills = _Newest(state.fills)

    @property
    def marked(self) -> int:
        """The number of rows: a symbol at a venue with a price, or with a fill."""
        return self._prices.count + self._fills.count

    def symbols(self) -> Iterator[str]:
        """Yield each symbol with a price or a fill; one with both twice."""
        yield from self._prices.rows
        yield from self._fills.rows

    def known(self, symbol: str, venue: str, *, fill: bool = False) -> bool:
        """Return whether a price (or a fill) of the symbol at the venue adds no row."""
        rows = self._fills.rows if fill else self._prices.rows
        return venue in rows.get(symbol, ())

    def on_price(self, symbol: str, venue: str, price: float, at_ns: int) -> bool:
        """Record a price; return False for one that is older than the one recorded."""
        return self._prices.record(symbol, venue, price, at_ns)

    def on_fill(self, symbol: str, venue: str, price: float, at_ns: int) -> bool:
        """Record the price of a fill; return False for one that is older than the one recorded."""
        return self._fills.record(symbol, venue, price, at_ns)

    def is_fresh(self, symbol: str, now_ns: int) -> bool:
        """Return whether a ``price`` of a symbol is fresh: no fill changes its mark then."""
        return self._prices.quote(symbol, "", now_ns - self.max_age_ns) is not None

    def mark(self, symbol: str, venue: str, now_ns: int) -> Quote | None:
        """Return the fresh mark of a symbol at a venue, or ("") the newest one of any venue."""
        oldest_ns = now_ns - self.max_age_ns
        quote = self._prices.quote(symbol, venue, oldest_ns)
        return quote if quote is not None else self._fills.quote(symbol, venue, oldest_ns)

    def last_mark(self, symbol: str, venue: str) -> Quote | None:
        """Return the newer of the last price and the last fill; it may have expired."""
        price, fill = self._prices.quote(symbol, venue), self._fills.quote(symbol, venue)
        if price is None or fill is None:
            return price if price is not None else fill
        return fill if fill.at_ns > price.at_ns else price

    def last_price(self, symbol: str) -> Quote | None:
        """Return the newest ``price`` of any venue; it may have expired."""
        return self._prices.quote(symbol, "")

    def expires_ns(self, quote: Quote) -> int:
        """Return the first instant at which a price is no longer fresh."""
        return quote.at_ns + self.max_age_ns + 1

    def no_mark(self, symbol: str, venue: str) -> Unknown:
        """Return why a symbol has no mark at a venue."""
        last = self.last_mark(symbol, venue)
        if last is None:
            return Unknown(f"{symbol} has no mark: report its price")
        return self.too_old(symbol, last, "report its price")

    def too_old(self, name: str, last: Quote, cure: str) -> Unknown:
        """Return that the last price of a symbol or asset has expired, and the cure."""
        return Unknown(
            f"{name}'s last price is {AGE} s old; max_age.price is {self._max_age:g}: {cure}",
            last.at_ns,
        )


class _Newest:
    """The newest quote by symbol and venue, and by symbol the venue of the newest of them.

    Of two at the same instant the one whose venue comes later in the alphabet counts as newer, so
    that the result does not depend on the order of rows.
    """

    __slots__ = ("_venue", "count", "rows")

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.count = sum(map(len, rows.values()))
        self._venue = {symbol: _newest_venue(venues) for symbol, venues in rows.items()}

    def record(self, symbol: str, venue: str, price: float, at_ns: int) -> bool:
        venues = self.rows.get(symbol)
        if venues is None:
            venues = self.rows[symbol] = {}
        before = venues.get(venue)
        if before is None:
            self.count += 1
        elif before.at_ns > at_ns:
            return False
        venues[venue] = Quote(price, at_ns)
        newest = self._venue.get(symbol)
        if newest != venue and (newest is None or (at_ns, venue) >= (venues[newest].at_ns, newest)):
            self._venue[symbol] = venue
        return True

    def quote(self, symbol: str, venue: str, oldest_ns: int = -(1 << 62)) -> Quote | None:
        """Return the venue's quote or the newest of any venue; none older than ``oldest_ns``."""
        newest_venue = self._venue.get(symbol)
        if newest_venue is None:
            return None
        venues = self.rows[symbol]
        newest = venues[newest_venue]
        if newest.at_ns < oldest_ns:
            return None
        if venue == newest_venue:
            return newest
        own = venues.get(venue) if venue else None
        if own is not None and own.at_ns >= max(newest.at_ns - OWN_LAG_NS, oldest_ns):
            return own
        return newest


def _newest_venue(venues: dict[str, Quote]) -> str:
    return max(venues, key=lambda venue: (venues[venue].at_ns, venue))
