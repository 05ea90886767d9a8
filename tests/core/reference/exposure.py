"""Exposure by symbol and asset, live (contract, "P&L and positions")."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction as F

from tests.core.reference.account import Settled
from tests.core.reference.history import read_symbol
from tests.core.reference.holdings import Holdings
from tests.core.reference.positions import Place

NAMING = ("fill", "order", "check")


class Exposure:
    """What is held of each symbol and asset at one instant."""

    def __init__(self, holdings: Holdings, settled: Settled) -> None:
        self.holdings = holdings
        self.positions = holdings.positions
        self.rules = holdings.rules
        self.reporting = set(settled)

    def symbols(self) -> list[str]:
        """Each symbol in which something is held."""
        return sorted({place.symbol for place, _ in self._held()})

    def quantity(self, symbol: str) -> F:
        """The net quantity over all venues."""
        return sum((amount for place, amount in self._held() if place.symbol == symbol), F(0))

    def notional(self, symbol: str) -> F | None:
        """The signed notional, net over venues; None when a price is missing."""
        parts = [self._notional(place, n) for place, n in self._held() if place.symbol == symbol]
        return None if None in parts else sum((part for part in parts if part is not None), F(0))

    def gross(self) -> F | None:
        """The sum of the absolute notionals of all symbols."""
        parts = [self.notional(symbol) for symbol in self.symbols()]
        return None if None in parts else sum((abs(p) for p in parts if p is not None), F(0))

    def delta(self, asset: str) -> F:
        """Holdings, spot positions where no balance is reported, and base quantities."""
        total = sum((self.holdings.live(v, asset) for v in self.reporting), F(0))
        for place in self.positions.places():
            what = read_symbol(place.symbol, self.rules.reference)
            if what.base != asset or (what.kind == "spot" and place.venue in self.reporting):
                continue
            quantity = self.positions.held(place).quantity * self.positions.size(place)
            if what.kind == "inverse" and quantity:
                mark = self.positions.prices.mark(place.symbol, place.venue)
                quantity /= mark if mark is not None else F(1)
            total += quantity
        return total

    def _held(self) -> Iterator[tuple[Place, F]]:
        for place in self.positions.places():
            spot = self.positions.kind(place.symbol) == "spot"
            if not (spot and place.venue in self.reporting):
                yield place, self.positions.held(place).quantity
        for venue in self.reporting:
            for asset in self.holdings.assets(venue):
                if asset != self.rules.reference and asset not in self.rules.pegs:
                    yield self._spot(venue, asset), self.holdings.live(venue, asset)

    def _spot(self, venue: str, asset: str) -> Place:
        """The only spot symbol of a base that is named at a venue, else that in the reference."""
        named = {
            one.event["symbol"]
            for one in self.holdings.told
            if one.kind in NAMING and one.event["venue"] == venue
        }
        spots = [read_symbol(symbol, self.rules.reference) for symbol in named]
        quotes = {s.quote for s in spots if (s.kind, s.base) == ("spot", asset)}
        quote = next(iter(quotes)) if len(quotes) == 1 else self.rules.reference
        return Place(venue, f"{asset}/{quote}")

    def _notional(self, place: Place, quantity: F) -> F | None:
        if quantity == 0:
            return F(0)
        what = read_symbol(place.symbol, self.rules.reference)
        size = F(1) if what.kind == "spot" else self.positions.size(place)
        prices = self.positions.prices
        mark = F(1) if what.kind == "inverse" else prices.mark(place.symbol, place.venue)
        rate = prices.rate(what.quote)
        return None if mark is None or rate is None else quantity * size * mark * rate
