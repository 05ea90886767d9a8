"""Exposure by symbol, by asset and by venue, and the sums over all symbols. Nothing here is stored.

The book sets what changed. A sum is kept as one exact part for each symbol
(:class:`riskmon.core.book.money.Total`), so that it does not depend on the order of the changes.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from msgspec import Struct

from riskmon.core.book.money import Total
from riskmon.core.unknown import Unknown


class Exposure(Struct, frozen=True):
    """Of a symbol over all venues, or of an asset over all symbols and venues.

    ``quantity``: net, in base units or contracts; of an asset in its units (its delta).
    ``notional``: net and signed, in the reference.
    """

    quantity: float = 0.0
    notional: float = 0.0
    unknown: Unknown | None = None  # why a part has no notional


NONE = Exposure()
NEAR = 1.1


class _Gross:
    """The sum of |net notional| over symbols; unknown while that of one is."""

    __slots__ = ("_total", "_unknown")

    def __init__(self) -> None:
        self._total: Total[str] = Total()
        self._unknown: dict[str, Unknown] = {}

    def set(self, symbol: str, net: float | Unknown) -> None:
        if isinstance(net, Unknown):
            self._unknown[symbol] = net
            return
        self._total.set(symbol, abs(net))
        if self._unknown:
            self._unknown.pop(symbol, None)

    @property
    def why(self) -> Unknown | None:
        """Why it is unknown: the reason of the first such symbol by name."""
        return self._unknown[min(self._unknown)] if self._unknown else None

    @property
    def value(self) -> float | Unknown:
        return self.why or self._total.value


class Exposures:
    """The exposure of each symbol, asset and venue, and their sums."""

    def __init__(self, dust: float) -> None:
        self.dust = dust
        self.symbols: dict[str, Exposure] = {}
        self.assets: dict[str, Exposure] = {}
        self.open: dict[str, None] = {}  # symbols with a position above dust
        # Symbols whose |notional| is in the band around the dust, and the band.
        self._near: dict[str, None] = {}
        self._low, self._high = dust / NEAR, dust * NEAR
        self.changed: dict[str, None] = {}  # symbols; `Commitments.refresh` empties it
        self._quantity: Total[str] = Total()  # the sum of |net quantity| over all symbols
        self._gross = _Gross()
        self._venues: dict[str, _Gross] = {}
        # A heap of (-|notional|, symbol) with outdated entries, so that a price costs no search.
        self._ranking: list[tuple[float, str]] = []
        self._largest: float | None = None  # as last computed, until a notional changes

    # -- what the book sets -----------------------------------------------------------------------

    def set_dust(self, dust: float) -> None:
        """Set what a position must be worth to be open.

        It may follow equity, so it changes in nearly each pass, by little: until it has left the
        band of a factor ``NEAR``, only the positions in that band are compared with it again.
        """
        if dust == self.dust:
            return
        self.dust = dust
        if self._low <= dust <= self._high:
            for symbol in list(self._near):
                self._set_open(symbol, self.symbols[symbol])
            return
        self._low, self._high = dust / NEAR, dust * NEAR
        for symbol, one in self.symbols.items():
            self._set_open(symbol, one)

    def set_symbol(self, symbol: str, now: Exposure) -> None:
        """Set the exposure of a symbol, net over all venues."""
        before = self.symbols.get(symbol)
        self.symbols[symbol] = now
        self.changed[symbol] = None
        if before is None or now.quantity != before.quantity:
            self._quantity.set(symbol, abs(now.quantity))
        if before is None or now.notional != before.notional:
            self._largest = None
            heappush(self._ranking, (-abs(now.notional), symbol))
            if len(self._ranking) > 2 * len(self.symbols) + 64:
                self._rank()
        self._gross.set(symbol, now.notional if now.unknown is None else now.unknown)
        self._set_open(symbol, now)

    def set_asset(self, asset: str, now: Exposure) -> None:
        """Set the exposure (delta) of an asset: holdings, spot positions and contracts."""
        self.assets[asset] = now

    def set_at(self, venue: str, symbol: str, net: float | Unknown) -> None:
        """Set the net notional of a symbol at a venue."""
        gross = self._venues.get(venue)
        if gross is None:
            gross = self._venues[venue] = _Gross()
        gross.set(symbol, net)
        self.changed[symbol] = None

    def _set_open(self, symbol: str, now: Exposure) -> None:
        size = abs(now.notional)
        held = size != 0 or now.quantity != 0
        if held and (size >= self.dust or now.unknown is not None):
            self.open[symbol] = None
        else:
            self.open.pop(symbol, None)
        if self._low <= size <= self._high:
            self._near[symbol] = None
        elif symbol in self._near:
            del self._near[symbol]

    def _rank(self) -> None:
        self._ranking = [(-abs(one.notional), symbol) for symbol, one in self.symbols.items()]
        heapify(self._ranking)

    # -- queries ----------------------------------------------------------------------------------

    def of(self, symbol: str) -> Exposure:
        """Return the exposure of a symbol."""
        return self.symbols.get(symbol, NONE)

    def of_asset(self, asset: str) -> Exposure:
        """Return the exposure of an asset."""
        return self.assets.get(asset, NONE)

    def net_notional(self, symbol: str) -> float | Unknown:
        """Return |net notional| of a symbol."""
        return _net(self.of(symbol))

    def net_notional_of_asset(self, asset: str) -> float | Unknown:
        """Return |net notional| of an asset."""
        return _net(self.of_asset(asset))

    def gross_quantity(self) -> float:
        """Return the sum of |net quantity| over all symbols."""
        return self._quantity.value

    def gross_notional(self) -> float | Unknown:
        """Return the sum of |net notional| over all symbols."""
        return self._gross.value

    def gross_notional_at(self, venue: str) -> float | Unknown:
        """Return the sum of |net notional| at a venue over all symbols."""
        gross = self._venues.get(venue)
        return 0.0 if gross is None else gross.value

    def largest_notional(self) -> float | Unknown:
        """Return the largest |net notional| of a symbol."""
        why = self._gross.why
        if why is not None:
            return why
        if self._largest is None:
            ranking = self._ranking
            while ranking and -ranking[0][0] != abs(self.of(ranking[0][1]).notional):
                heappop(ranking)
            self._largest = -ranking[0][0] if ranking else 0.0
        return self._largest


def _net(one: Exposure) -> float | Unknown:
    return abs(one.notional) if one.unknown is None else one.unknown
