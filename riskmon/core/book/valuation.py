"""The value of each venue: its settled holdings and unrealised P&L at the present rates.

A venue counts with its balances from its first settled report on; before that, and where no
balances are reported, with its realised and unrealised P&L and the flows there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from math import fsum

from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.equity import Equity
from riskmon.core.book.holdings import Holdings
from riskmon.core.book.instruments import instrument
from riskmon.core.book.marking import Marking
from riskmon.core.book.money import Fixed
from riskmon.core.book.position import Key
from riskmon.core.book.positions import Positions
from riskmon.core.book.rates import Rates
from riskmon.core.book.state import PortfolioState
from riskmon.core.book.values import Part, PartKind, Values
from riskmon.core.unknown import Unknown

TRANSIT = "\ntransit"  # what is between venues; no venue has this name
ELSEWHERE = ""  # P&L that was realised elsewhere
AT_ONCE = 64

Holder = tuple[str, PartKind]


class Valuation:
    """The parts of each venue's value, kept up to date in each pass."""

    def __init__(
        self,
        *,
        state: PortfolioState,
        config: PortfolioConfig,
        rates: Rates,
        positions: Positions,
        marking: Marking,
        holdings: Holdings,
        equity: Equity,
    ) -> None:
        self.values = Values()
        self.unpriced: dict[str, None] = {}  # assets that never had a price, since the last pass
        self._state, self._ignored = state, frozenset(config.ignore)
        self._included = frozenset(config.unrealised_included)
        self._rates, self._positions, self._marking = rates, positions, marking
        self._holdings, self._equity = holdings, equity
        self._transit: Mapping[str, float] = {}
        self._moved: dict[str, None] = {}  # assets with another amount between venues
        self._joined = {n: None for n, venue in holdings.state.venues.items() if venue.joined}
        self._holders: dict[str, dict[Holder, Part]] = {}  # asset -> the parts that are of it

    def everything(self) -> Iterator[int]:
        """Value all that is held; yield the work of each piece."""
        for venue in (*self._positions.realised.state.venues, *self._state.flowed):
            self.value_pnl([venue])
        yield from self.value_held(list(self._holdings.ledgers))

    # -- what changed -----------------------------------------------------------------------------

    def value_held(self, keys: Iterable[tuple[str, str]]) -> Iterator[int]:
        """Value assets at venues by their settled amounts; yield the work of each piece."""
        for at, (venue, asset) in enumerate(keys, 1):
            if venue in self._joined:
                self._set((venue, PartKind.HELD), asset, self._holdings.settled(venue, asset))
            if at % AT_ONCE == 0:
                yield AT_ONCE

    def value_pnl(self, venues: Iterable[str]) -> None:
        """Value realised P&L and flows at venues that report no balances."""
        for venue in venues:
            if venue not in self._joined:
                self._set_all((venue, PartKind.REALISED), self._positions.realised.at(venue))
                self._set_all((venue, PartKind.FLOWED), self._state.flowed.get(venue, {}))

    def value_flow(self, venue: str, asset: str) -> None:
        """Value what flowed of an asset at a venue that reports no balances."""
        if venue not in self._joined:
            holder = (venue, PartKind.FLOWED)
            self._set(holder, asset, self._amount(holder, asset))

    def value_positions(self, keys: Iterable[Key]) -> None:
        """Value the unrealised P&L of the account's positions."""
        for key in keys:
            if not key.strategy and not self._is_within(key):
                value = self._marking.values.get(key)
                unrealised = 0.0 if value is None else value.unrealised
                self.values.set(key.venue, Part(PartKind.UNREALISED, key.name), unrealised)

    def _is_within(self, key: Key) -> bool:
        """Whether the balances of a venue contain a position's unrealised P&L."""
        if key.venue not in self._joined:
            return False
        is_spot = instrument(key.symbol, self._rates.reference).kind == "spot"
        return is_spot or key.venue in self._included

    def value_transit(self, amounts: Mapping[str, float]) -> None:
        """Value what is between venues."""
        self.values.clear(TRANSIT)
        self._moved.update(dict.fromkeys((*self._transit, *amounts)))
        self._transit = amounts
        for asset, amount in amounts.items():
            self._set((TRANSIT, PartKind.HELD), asset, amount)

    def reprice(self, assets: Iterable[str]) -> Iterator[int]:
        """Value the parts that are amounts of repriced assets; yield the work of each piece."""
        for asset in assets:
            for at, (holder, part) in enumerate(list(self._holders.get(asset, {}).items()), 1):
                self._value(holder, part, self._amount(holder, asset))
                if at % AT_ONCE == 0:
                    yield AT_ONCE

    def join(self, venue: str) -> Generator[int, None, float]:
        """Count a venue with its balances from now on; return by how much its value changes.

        Yield the work of each piece.
        """
        before = self.estimate(venue)
        self.values.clear(venue)
        self._joined[venue] = None
        for at, asset in enumerate(self._holdings.assets(venue), 1):
            self._set((venue, PartKind.HELD), asset, self._holdings.settled(venue, asset))
            if at % AT_ONCE == 0:
                yield AT_ONCE
        self.value_positions([key for key in self._marking.values if key.venue == venue])
        return self.estimate(venue) - before

    def is_joined(self, venue: str) -> bool:
        """Return whether a venue counts with its balances."""
        return venue in self._joined

    def forget(self, venue: str) -> None:
        """Stop counting a venue that holds nothing."""
        self._joined.pop(venue, None)
        self.values.clear(venue)

    # -- queries ----------------------------------------------------------------------------------

    def take_moved(self) -> list[str]:
        """Return the assets of which another amount is between venues since the last call."""
        moved, self._moved = self._moved, {}
        return list(moved)

    def in_transit(self, asset: str) -> float:
        """Return the amount of an asset that is between venues."""
        return self._transit.get(asset, 0.0)

    def held(self, asset: str) -> Iterator[tuple[str, float]]:
        """Yield the venues with an amount of an asset in their value, and that amount."""
        holders = self._holders.get(asset, ())
        for holder in sorted(holders):
            amount = self._amount(holder, asset)
            if amount:
                yield holder[0], amount

    def largest(self) -> float | Unknown:
        """Return the value of the venue that has the most."""
        largest = 0.0
        for name in sorted(self.values.venues):
            if name not in (ELSEWHERE, TRANSIT) and name not in self._state.absent:
                value = self.values.of(name)
                if isinstance(value, Unknown):
                    return value
                largest = max(largest, value)
        return largest

    def estimate(self, venue: str) -> float:
        """Return the value of a venue, with last prices where no fresh ones are known."""
        one = self.values.venues.get(venue)
        unknown = () if one is None else sorted(one.unknown, key=lambda part: part.name)
        return fsum((self.values.known_part(venue), *(self._last(venue, part) for part in unknown)))

    def _last(self, venue: str, part: Part) -> float:
        if part.kind is PartKind.UNREALISED:
            return self._marking.last_unrealised(part.name)
        last = self._rates.last(part.name)
        return 0.0 if last is None else self._amount((venue, part.kind), part.name) * last.price

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

    # -- parts ------------------------------------------------------------------------------------

    def _set_all(self, holder: Holder, amounts: Mapping[str, Fixed]) -> None:
        for asset, amount in amounts.items():
            self._set(holder, asset, amount.value)

    def _set(self, holder: Holder, asset: str, amount: float) -> None:
        holders = self._holders.get(asset)
        if holders is None:
            holders = self._holders[asset] = {}
            self._rates.follow(asset)
        part = holders.get(holder)
        if part is None:
            part = holders[holder] = Part(holder[1], asset)
        self._value(holder, part, amount)

    def _value(self, holder: Holder, part: Part, amount: float) -> None:
        worth = self.worth(part.name, amount)
        if isinstance(worth, Unknown) and not self._rates.was_priced(part.name):
            self.unpriced[part.name] = None  # exposure alone has no grace: it is no part of equity
        self.values.set(holder[0], part, worth)

    def _amount(self, holder: Holder, asset: str) -> float:
        venue, kind = holder
        if venue == TRANSIT:
            return self._transit.get(asset, 0.0)
        if (kind is PartKind.HELD) is not (venue in self._joined):
            return 0.0
        if kind is PartKind.HELD:
            return self._holdings.settled(venue, asset)
        amounts = (
            self._positions.realised.at(venue)
            if kind is PartKind.REALISED
            else self._state.flowed.get(venue, {})
        )
        return amounts[asset].value if asset in amounts else 0.0
