"""Prices, read anew from all events (contract, "Prices")."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction as F
from functools import cache

from tests.core.reference.history import SECOND, Rules, Told

OWN_MAY_LAG = 10 * SECOND


class Prices:
    """The prices at one instant."""

    def __init__(self, rules: Rules, told: list[Told], now: int) -> None:
        self.rules = rules
        self.told = told
        self.now = now
        self.mark = cache(self.mark)  # type: ignore[method-assign]  # an instant does not change
        self.rate = cache(self.rate)  # type: ignore[method-assign]  # an instant does not change

    # -- symbols

    def mark(self, symbol: str, venue: str | None) -> F | None:
        """The fresh mark of a symbol at a venue; None when there is none."""
        found = self._newest_price(symbol, venue)
        if found is not None and self._is_fresh(found):
            return found.amount("price")
        fills = [one for one in self._about(symbol, "fill") if self._is_fresh(one)]
        return max(fills, key=lambda one: one.order).amount("price") if fills else None

    def last_mark(self, symbol: str) -> F | None:
        """The newest price of a symbol, however old."""
        found = self._newest_price(symbol, None)
        fills = list(self._about(symbol, "fill"))
        if found is None and fills:
            found = max(fills, key=lambda one: one.order)
        return None if found is None else found.amount("price")

    def _newest_price(self, symbol: str, venue: str | None) -> Told | None:
        """The venue's own newest price, unless that of another is more than 10 s newer."""
        prices = list(self._about(symbol, "price"))
        if not prices:
            return None
        newest = max(prices, key=lambda one: one.order)
        own = [one for one in prices if venue is not None and one.event.get("venue") == venue]
        last = max(own, key=lambda one: one.order, default=newest)
        return last if newest.at - last.at <= OWN_MAY_LAG else newest

    def _about(self, symbol: str, kind: str) -> Iterator[Told]:
        return (one for one in self.told if one.kind == kind and one.event["symbol"] == symbol)

    def _is_fresh(self, one: Told) -> bool:
        return self.now - one.at <= self.rules.price_age

    # -- assets

    def rate(self, asset: str) -> F | None:
        """The price of one unit in the reference; None when no fresh price gives it."""
        if asset == self.rules.reference:
            return F(1)
        peg = self.rules.pegs.get(asset)
        if peg is not None and self._peg_holds(asset, F(peg)):
            return F(peg)
        found = self._pair(asset, self.rules.reference, self.mark_anywhere)
        if found is None and peg is None:
            found = self._through(asset)
        return found

    def last_rate(self, asset: str) -> F | None:
        """The price of an asset, however old."""
        return self.rate(asset) or self._pair(asset, self.rules.reference, self.last_mark)

    def mark_anywhere(self, symbol: str) -> F | None:
        """The fresh mark of a symbol, of any venue."""
        return self.mark(symbol, None)

    def _pair(self, asset: str, quote: str, of: object) -> F | None:
        """The price of ``asset`` in ``quote``, from the pair written either way."""
        assert callable(of)
        direct: F | None = of(f"{asset}/{quote}")
        if direct is not None:
            return direct
        inverse: F | None = of(f"{quote}/{asset}")
        return None if inverse is None else 1 / inverse

    def _peg_holds(self, asset: str, peg: F) -> bool:
        """Whether the newest reported price is within the tolerance, or there is none."""
        reported = self._pair(asset, self.rules.reference, self.last_mark)
        return reported is None or abs(reported / peg - 1) <= F(self.rules.peg_tolerance)

    def _through(self, asset: str) -> F | None:
        for between in sorted(self._assets() - {asset, self.rules.reference}):
            first = self._pair(asset, between, self.mark_anywhere)
            peg = self.rules.pegs.get(between)
            second = self._pair(between, self.rules.reference, self.mark_anywhere)
            if peg is not None and self._peg_holds(between, F(peg)):
                second = F(peg)
            if first is not None and second is not None:
                return first * second
        return None

    def _assets(self) -> set[str]:
        spots = {
            one.event["symbol"]
            for one in self.told
            if one.kind in ("price", "fill") and ":" not in one.event["symbol"]
        }
        named = {asset for symbol in spots for asset in symbol.split("/")}
        return named | set(self.rules.pegs)
