"""The settled point of each scope's curve, and by how much it fell in a period.

A curve is a value net of flows: of the account its equity less what entered, of a venue the same
of its balances and contracts alone, of a strategy its own book of P&L.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from riskmon.core.book.positions import no_mark
from riskmon.core.book.tracks import Point
from riskmon.core.unknown import Unknown

if TYPE_CHECKING:
    from riskmon.core.book.portfolio import Portfolio


class Curves:
    """The curves of a portfolio."""

    def __init__(self, book: Portfolio) -> None:
        self._book = book

    def fall(self, scope: str, period: str, *, trailing: bool) -> float | Unknown:
        """Return by how much P&L fell in a period: below 0 if it rose."""
        book, point = self._book, self._point(scope)
        if isinstance(point, Unknown):
            return point
        return book.tracks.fall(scope, period, point, book.now_ns, book.wall_ns, trailing=trailing)

    def pnl_day(self) -> float | None:
        """The account's P&L of the trading day; None when it is unknown."""
        if isinstance(self._book.judged, Unknown):
            return None
        return self._book.tracks.profit("account", "day", self._book.wall_ns)

    def keep(self, wanted: set[tuple[str, str]]) -> None:
        """Keep what limits over (kind of scope, period) ask for; begin what is new at this point.

        A strategy's book is older than that: without a beginning all of it would be of today.
        """
        book = self._book
        book.tracks.keep(wanted | {("account", "day")})
        for period in [period for kind, period in wanted if kind == "strategy"]:
            for name, own in book.state.book.strategies.items():
                point = self._at(own.value.value)
                book.tracks.begin("strategy:" + name, period, point, book.wall_ns)

    def _at(self, value: float) -> Point:
        return Point(value, self._book.now_ns, self._book.wall_ns)

    def _point(self, scope: str) -> Point | Unknown:
        if scope == "account":
            judged = self._book.judged
            if isinstance(judged, Unknown):
                return judged
            return self._book.tracks.state.points["account"]
        kind, _, name = scope.partition(":")
        return self._venue(name) if kind == "venue" else self._strategy(name)

    def _strategy(self, name: str) -> Point | Unknown:
        own = self._book.state.book.strategies.get(name)
        if own is None:
            return self._at(0.0)
        for asset in own.missing:
            return self._book.no_price(asset)
        for position in self._book.positions.strategy_unmarked(name):
            return no_mark(position)
        return self._at(own.value.value)

    def _venue(self, name: str) -> Point | Unknown:
        book = self._book
        venue = book.venues.state.venues.get(name)
        if venue is None or venue.own is None:
            return Unknown(f"{name} has not reported its balances: report them")
        silent = book.venues.silent(name, venue)
        if silent is not None:
            return silent
        for asset in venue.own.missing:
            if asset not in book.venues.state.left_out:
                return book.no_price(asset)
        for position in book.positions.unmarked(contracts_only=True):
            if position.venue == name:
                return no_mark(position)
        points = book.tracks.state.points
        if book.venues.is_settled(name):
            points["venue:" + name] = self._at(venue.own.value.value - venue.flows.value)
        return points.get("venue:" + name, Unknown(f"{name} is still reporting its balances"))
