"""The value of each venue: its settled holdings and unrealised P&L at the rates of now.

A venue counts with its balances from its first settled report on; before that, and where no
balances are reported, with its realised and unrealised P&L and the flows there.
"""

from __future__ import annotations

from riskmon.core.newbook.config import PortfolioConfig
from riskmon.core.newbook.equity import Equity
from riskmon.core.newbook.holdings import Holdings
from riskmon.core.newbook.instruments import instrument
from riskmon.core.newbook.positions import BookPosition, Positions
from riskmon.core.newbook.rates import Rates
from riskmon.core.newbook.state import PortfolioState
from riskmon.core.newbook.values import Part, PartKind, Values
from riskmon.core.unknown import Unknown

TRANSIT = ""  # the name that holds what is between venues
AT_ONCE = 64
UNREPORTED = (PartKind.FLOWED, PartKind.REALISED)


class Valuation:
    """Keeps the parts of each venue's value up to date."""

    def __init__(
        self,
        state: PortfolioState,
        config: PortfolioConfig,
        rates: Rates,
        positions: Positions,
        holdings: Holdings,
        equity: Equity,
    ) -> None:
        self.values = Values()
        self._state, self._ignored = state, frozenset(config.ignore)
        self._included = frozenset(config.unrealised_included)
        self._rates, self._positions, self._holdings = rates, positions, holdings
        self._equity = equity
        # asset -> the parts that are amounts of it
        self._holders: dict[str, dict[tuple[str, PartKind], None]] = {}

    def is_joined(self, venue: str) -> bool:
        """Return whether a venue counts with its balances."""
        known = self._holdings.state.venues.get(venue)
        return known is not None and known.joined

    # -- parts ------------------------------------------------------------------------------------

    def set_held(self, venue: str, asset: str) -> None:
        """Value an asset at a venue by its settled amount."""
        if self.is_joined(venue):
            self._set(venue, PartKind.HELD, asset, self._holdings.settled(venue, asset))

    def set_realised(self, venue: str, asset: str) -> None:
        """Value the realised P&L in an asset at a venue that reports no balances."""
        if not self.is_joined(venue):
            amount = self._positions.realised_at(venue).get(asset)
            self._set(venue, PartKind.REALISED, asset, 0.0 if amount is None else amount.value)

    def set_flowed(self, venue: str, asset: str) -> None:
        """Value the flows in an asset at a venue that reports no balances."""
        if not self.is_joined(venue):
            amount = self._state.flowed.get(venue, {}).get(asset)
            self._set(venue, PartKind.FLOWED, asset, 0.0 if amount is None else amount.value)

    def set_position(self, key: str, position: BookPosition) -> None:
        """Value the unrealised P&L of one of the account's positions."""
        what = instrument(position.symbol, self._rates.reference)
        within = position.venue in self._included or what.kind == "spot"
        value = 0.0 if within and self.is_joined(position.venue) else position.unrealised_value
        self.values.set(position.venue, Part(PartKind.UNREALISED, key), value)

    def set_transit(self, asset: str, amount: float) -> None:
        """Value what is between venues."""
        self._set(TRANSIT, PartKind.TRANSIT, asset, amount)

    def _set(self, venue: str, kind: PartKind, asset: str, amount: float) -> None:
        holders = self._holders.get(asset)
        if holders is None:
            holders = self._holders[asset] = {}
            self._rates.follow(asset)
        holders[venue, kind] = None
        self.values.set(venue, Part(kind, asset), self.worth(asset, amount))

    def worth(self, asset: str, amount: float) -> float | Unknown:
        """Return the value of an amount of an asset, or why it has none."""
        if not amount or asset in self._ignored:
            return 0.0
        rate = self._rates.of(asset)
        if rate is not None:
            return amount * rate
        if asset in self._state.left_out:
            return 0.0
        last = self._rates.last(asset)
        if last is not None and abs(amount) * last.price < self._equity.dust:
            return amount * last.price
        return self._rates.no_rate(asset)
