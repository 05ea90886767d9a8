"""By how much orders that were permitted, and are not filled yet, may enlarge each exposure.

Orders may rest on both sides of a symbol and only one side be filled, so the side counts that
makes the net size larger: by ``excess = max(|h|, |h + buys|, |h - sells|) - |h|``, h being the net
position. The sums over all symbols are kept, and a symbol is computed again only after its position
or its orders changed: before a check, and at the end of an instant.
"""

from __future__ import annotations

from msgspec import Struct, field

from riskmon.core.book.exposure import Exposures
from riskmon.core.book.money import Sum
from riskmon.core.book.reservations import Reservations


class Excess(Struct):
    """By how much a symbol's orders may enlarge it: base units or contracts, the reference."""

    quantity: float
    notional: float


class CommitmentsState(Struct):
    """Every symbol's excess, and their sums."""

    symbols: dict[str, Excess] = field(default_factory=dict)
    quantity: Sum = field(default_factory=Sum)
    notional: Sum = field(default_factory=Sum)
    opening: dict[str, bool] = field(default_factory=dict)  # closed, and orders may open them


class Commitments:
    """The excess of each symbol, and their sums."""

    def __init__(self, state: CommitmentsState, orders: Reservations, exposures: Exposures) -> None:
        self.state = state
        self._pending = orders.pending
        self._exposures = exposures
        self.touched: dict[str, bool] = {}  # symbols to compute again
        orders.touched = exposures.touched = self.touched

    def refresh(self) -> None:
        """Compute the excess of the symbols whose position or orders changed."""
        for symbol in self.touched:
            if symbol in self._pending or symbol in self.state.symbols:
                self._update(symbol)
        self.touched.clear()

    def _update(self, symbol: str) -> None:
        state, pending = self.state, self._pending.get(symbol)
        own, quantity, notional = state.symbols.get(symbol), 0.0, 0.0
        if own is None:
            own = state.symbols[symbol] = Excess(0.0, 0.0)
        if pending is not None:
            held = self._exposures.of(symbol)
            quantity = excess(held.quantity, pending.buys.value, pending.sells.value)
            notional = excess(
                held.notional, pending.buys_notional.value, pending.sells_notional.value
            )
        else:
            del state.symbols[symbol]
        state.quantity.add(quantity - own.quantity)
        state.notional.add(notional - own.notional)
        own.quantity, own.notional = quantity, notional
        if quantity > 0 and symbol not in self._exposures.state.open:
            state.opening[symbol] = True
        elif symbol in state.opening:
            del state.opening[symbol]

    def of(self, symbol: str) -> Excess:
        """Return the excess of one symbol."""
        return self.state.symbols.get(symbol, _NONE)


def excess(held: float, buys: float, sells: float) -> float:
    """Return by how much the larger side of resting orders enlarges a net size."""
    size, bought, sold = abs(held), abs(held + buys), abs(held - sells)
    most = max(bought, sold)
    return most - size if most > size else 0.0


_NONE = Excess(0.0, 0.0)
