"""By how much orders that were permitted or rest, and are not filled, may enlarge each exposure.

Orders may rest on both sides of a symbol and only one side be filled, so the side counts that
makes the net size larger: by ``excess = max(|h|, |h + buys|, |h - sells|) - |h|``, h being the net
position. A symbol is computed again only after its position or its orders changed: before a check,
and at the end of an instant; at a venue when that is read. Nothing here is stored.
"""

from __future__ import annotations

from msgspec import Struct

from riskmon.core.book.exposure import Exposure
from riskmon.core.book.instruments import instrument
from riskmon.core.book.money import Total
from riskmon.core.book.pending import NOTHING, Amounts, Pending
from riskmon.core.book.portfolio import Portfolio


class Committed(Struct, frozen=True):
    """The orders that move a symbol, and by how much they may enlarge it.

    ``quantity`` is in base units or contracts, ``notional`` in the reference.
    """

    buys: Amounts = NOTHING
    sells: Amounts = NOTHING
    quantity: float = 0.0
    notional: float = 0.0


class Commitments:
    """The excess of each symbol, and the sums over all symbols."""

    def __init__(self, pending: Pending, book: Portfolio) -> None:
        self._pending = pending
        self._book, self._exposures = book, book.exposures
        self._symbols: dict[str, Committed] = {}
        self._quantity: Total[str] = Total()
        self._notional: Total[str] = Total()
        # No exposure is derived of these assets, so a change of a holding marks no symbol.
        self._cash = frozenset({book.reference, *book.config.pegs, *book.config.ignore})
        self._venues: dict[str, Total[str]] = {}  # of notional, by venue
        self._changed: dict[str, None] = {}  # symbols, since `_venues` was computed
        self.opening: dict[str, None] = {}  # symbols that are not open, and that orders may open

    def refresh(self) -> bool:
        """Compute the excess of the symbols whose position or orders changed.

        Return whether orders changed.
        """
        orders, positions = self._pending.changed, self._exposures.changed
        if not orders and not positions:
            return False
        for symbol in {**orders, **positions} if positions else orders:
            self._update(symbol)
        positions.clear()
        if not orders:
            return False
        orders.clear()
        return True

    def _update(self, symbol: str) -> None:
        sides = self._pending.sides(symbol)
        if sides is not None:
            own = self._symbols[symbol] = committed(self._exposures.of(symbol), *sides)
        elif self._symbols.pop(symbol, None) is not None:
            own = _NONE
        else:
            return
        self._changed[symbol] = None
        self._quantity.set(symbol, own.quantity)
        self._notional.set(symbol, own.notional)
        if own.quantity > 0 and symbol not in self._exposures.open:
            self.opening[symbol] = None
        elif symbol in self.opening:
            del self.opening[symbol]

    def of(self, symbol: str) -> Committed:
        """Return the orders that move one symbol, and its excess."""
        return self._symbols.get(symbol, _NONE)

    def at(self, venue: str) -> float:
        """Return the sum of the excesses at a venue, in the reference."""
        changed, self._changed = self._changed, {}
        for symbol in changed:
            self._update_venues(symbol)
        total = self._venues.get(venue)
        return 0.0 if total is None else total.value

    def _update_venues(self, symbol: str) -> None:
        venues = self._pending.venues(symbol)
        for venue in venues:
            if venue not in self._venues:
                self._venues[venue] = Total()
        for venue, total in self._venues.items():
            if venue in venues:
                held, sides = self._book.held(venue, symbol), self._pending.sides_at(symbol, venue)
                total.set(symbol, excess_notional(held, *sides))
            else:
                total.set(symbol, 0.0)
        if venues and instrument(symbol, self._book.reference).base in self._cash:
            self._changed[symbol] = None

    @property
    def quantity(self) -> float:
        """The sum of the excesses of all symbols, in base units or contracts."""
        return self._quantity.value

    @property
    def notional(self) -> float:
        """The sum of the excesses of all symbols, in the reference."""
        return self._notional.value


def committed(held: Exposure, buys: Amounts, sells: Amounts) -> Committed:
    """Return the orders that move a symbol of which so much is held."""
    return Committed(
        buys,
        sells,
        excess(held.quantity, buys.quantity, sells.quantity),
        excess(held.notional, buys.notional, sells.notional),
    )


def excess_notional(held: float, buys: Amounts, sells: Amounts) -> float:
    """Return what the larger side of resting orders adds, at the price of its orders."""
    larger = buys if abs(held + buys.quantity) >= abs(held - sells.quantity) else sells
    if larger.quantity <= 0:
        return 0.0
    added = excess(held, buys.quantity, sells.quantity)
    return added * larger.notional / larger.quantity


def excess(held: float, buys: float, sells: float) -> float:
    """Return by how much the larger side of resting orders enlarges a net size."""
    size, bought, sold = abs(held), abs(held + buys), abs(held - sells)
    more = bought - size if bought > sold else sold - size
    return more if more > 0 else 0.0


_NONE = Committed()
