"""The persisted state of a portfolio. Names of fields that snapshots store are kept."""

from __future__ import annotations

from msgspec import Struct, field

from riskmon.core.book.ledger import Ledger
from riskmon.core.book.positions import PositionsState
from riskmon.core.book.prices import PriceState
from riskmon.core.book.tracks import Best, TracksState
from riskmon.core.book.venues import VenuesState
from riskmon.core.unknown import Unknown


class PortfolioState(Struct):
    """Prices, balances, positions and flows, and the equity that was derived last."""

    prices: PriceState = field(default_factory=PriceState)
    worth: dict[str, float] = field(default_factory=dict)  # asset -> price in the reference
    venues: VenuesState = field(default_factory=VenuesState)
    flows: Ledger = field(default_factory=Ledger)
    positions: PositionsState = field(default_factory=PositionsState, name="book")
    capital: float | None = None
    capital_wall_ns: int = 0  # when equity became the capital, if it did
    in_capital: float = 0.0  # P&L and flows that a rebase made part of the capital
    configured_capital: float | None = None
    units: float | None = None
    peak: Best = field(default_factory=lambda: Best(1.0))  # of the unit value
    # The last settled equity; a text is the reason why it is unknown.
    settled: float | str = field(default="nothing was reported yet", name="judged")
    settled_unit_value: float = field(default=1.0, name="judged_unit_value")
    tracks: TracksState = field(default_factory=TracksState)

    @property
    def settled_equity(self) -> float | Unknown:
        """The last settled equity."""
        return Unknown(self.settled) if isinstance(self.settled, str) else self.settled
