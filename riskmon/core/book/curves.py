"""The settled point of each scope's curve, and how far it fell in a period.

A curve is a value net of flows: of the account its equity less the flows that entered, of a venue
the same of its balances and contracts alone, of a strategy its own ledger of P&L.
"""

from __future__ import annotations

from riskmon.core.book.positions import Positions, no_mark
from riskmon.core.book.prices import Prices
from riskmon.core.book.state import PortfolioState
from riskmon.core.book.tracks import Point, Tracks
from riskmon.core.book.venues import Venues
from riskmon.core.unknown import Unknown


class Curves:
    """The curves of a portfolio."""

    def __init__(
        self,
        state: PortfolioState,
        prices: Prices,
        positions: Positions,
        venues: Venues,
        tracks: Tracks,
    ) -> None:
        self.now_ns = self.wall_ns = 0
        self._state = state
        self._prices = prices
        self._positions = positions
        self._venues = venues
        self._tracks = tracks

    def fall(self, scope: str, period: str, *, trailing: bool) -> float | Unknown:
        """Return by how much P&L fell in a period: below 0 if it rose."""
        point = self._point(scope)
        if isinstance(point, Unknown):
            return point
        return self._tracks.fall(scope, period, point, self.now_ns, self.wall_ns, trailing=trailing)

    def pnl_day(self) -> float | None:
        """Return the account's P&L of the trading day; None while it is unknown."""
        if isinstance(self._state.settled_equity, Unknown):
            return None
        return self._tracks.profit("account", "day", self.wall_ns)

    def retain(self, used: set[tuple[str, str]]) -> None:
        """Retain the tracks of (kind of scope, period) that limits use; start new ones at now.

        A strategy's ledger is older than its new track: without a start at this point, all of its
        P&L would count as today's.
        """
        self._tracks.retain(used | {("account", "day")})
        for period in [period for kind, period in used if kind == "strategy"]:
            for name, ledger in self._state.positions.strategies.items():
                point = self._at(ledger.value.value)
                self._tracks.start("strategy:" + name, period, point, self.wall_ns)

    def _at(self, value: float) -> Point:
        return Point(value, self.now_ns, self.wall_ns)

    def _point(self, scope: str) -> Point | Unknown:
        if scope == "account":
            equity = self._state.settled_equity
            return equity if isinstance(equity, Unknown) else self._tracks.state.points["account"]
        kind, _, name = scope.partition(":")
        return self._venue(name) if kind == "venue" else self._strategy(name)

    def _strategy(self, name: str) -> Point | Unknown:
        pnl = self.strategy_pnl(name)
        return pnl if isinstance(pnl, Unknown) else self._at(pnl)

    def strategy_pnl(self, name: str) -> float | Unknown:
        """Return the P&L of a strategy, realised and unrealised."""
        ledger = self._state.positions.strategies.get(name)
        if ledger is None:
            return 0.0
        for asset in ledger.missing:
            return self._prices.no_price(asset)
        for position in self._positions.strategy_unmarked(name):
            return no_mark(position)
        return ledger.value.value

    def _venue(self, name: str) -> Point | Unknown:
        venues = self._venues
        venue = venues.state.venues.get(name)
        if venue is None or venue.own is None:
            return Unknown(f"{name} has not reported its balances: report them")
        stale = venues.stale_report(name, venue)
        if stale is not None:
            return stale
        for asset in venue.own.missing:
            if asset not in venues.state.left_out:
                return self._prices.no_price(asset)
        for position in self._positions.unmarked(contracts_only=True):
            if position.venue == name:
                return no_mark(position)
        points = self._tracks.state.points
        if venues.is_settled(name):
            points["venue:" + name] = self._at(venue.own.value.value - venue.flows.value)
        return points.get("venue:" + name, Unknown(f"{name} is still reporting its balances"))
