"""Net quantity and notional of each symbol over all venues, and their sums."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from msgspec import Struct, field

from riskmon.core.book.money import Sum
from riskmon.core.unknown import Unknown


class Exposure(Struct):
    """A symbol over all venues: net quantity, net signed notional (reference)."""

    quantity: float = 0.0
    notional: float = 0.0
    unpriced: int = 0  # positions whose notional is unknown


class ExposuresState(Struct):
    """Every symbol's exposure, and what is derived from all of them."""

    symbols: dict[str, Exposure] = field(default_factory=dict)
    gross_quantity: Sum = field(default_factory=Sum)
    gross_notional: Sum = field(default_factory=Sum)
    open: dict[str, bool] = field(default_factory=dict)  # symbols with a position above dust
    unpriced: dict[str, bool] = field(default_factory=dict)  # whose notional is unknown


class Exposures:
    """The exposure of each symbol, and their sums."""

    def __init__(self, state: ExposuresState, dust: float) -> None:
        self.state = state
        self.dust = dust
        self.touched: dict[str, bool] = {}  # symbols that changed; `Commitments` empties it
        # A heap of (-notional, symbol) with outdated entries, so that a price costs no search.
        self._ranking = self._ranked()
        self._largest: float | None = None  # as last computed, until a notional changes

    def update(self, symbol: str, now: Exposure) -> None:
        """Set a symbol's exposure and update the sums."""
        state = self.state
        before = state.symbols.get(symbol, _NONE)
        state.symbols[symbol] = now
        self.touched[symbol] = True
        if now.quantity != before.quantity:
            state.gross_quantity.add(abs(now.quantity) - abs(before.quantity))
        notional = abs(now.notional)
        if now.notional != before.notional or before is _NONE:
            state.gross_notional.add(notional - abs(before.notional))
            self._largest = None
            heappush(self._ranking, (-notional, symbol))
            if len(self._ranking) > 2 * len(state.symbols) + 64:
                self._ranking = self._ranked()
        _set_member(state.unpriced, symbol, now.unpriced > 0)
        held = now.quantity != 0 or notional > 0
        _set_member(state.open, symbol, held and (notional >= self.dust or now.unpriced > 0))

    def _ranked(self) -> list[tuple[float, str]]:
        ranking = [(-abs(one.notional), symbol) for symbol, one in self.state.symbols.items()]
        heapify(ranking)
        return ranking

    def of(self, symbol: str) -> Exposure:
        """Return the exposure of a symbol; callers do not change it."""
        return self.state.symbols.get(symbol, _NONE)

    def net_notional(self, symbol: str) -> float | Unknown:
        """Return |net notional| of a symbol."""
        if symbol in self.state.unpriced:
            return _no_mark(symbol)
        return abs(self.of(symbol).notional)

    def gross_quantity(self) -> float:
        """Return the sum of |net quantity| over all symbols."""
        return max(0.0, self.state.gross_quantity.value)

    def gross_notional(self) -> float | Unknown:
        """Return the sum of |net notional| over all symbols."""
        for symbol in self.state.unpriced:
            return _no_mark(symbol)
        return max(0.0, self.state.gross_notional.value)

    def largest_notional(self) -> float | Unknown:
        """Return the largest |net notional| of a symbol."""
        for symbol in self.state.unpriced:
            return _no_mark(symbol)
        if self._largest is None:
            ranking = self._ranking
            while ranking and -ranking[0][0] != abs(self.of(ranking[0][1]).notional):
                heappop(ranking)
            self._largest = -ranking[0][0] if ranking else 0.0
        return self._largest


_NONE = Exposure()


def _set_member(names: dict[str, bool], name: str, member: bool) -> None:
    if member:
        names[name] = True
    elif name in names:
        del names[name]


def _no_mark(symbol: str) -> Unknown:
    return Unknown(f"{symbol} has no mark: report its price")
