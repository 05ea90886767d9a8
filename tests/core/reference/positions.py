"""Positions at average cost, read anew from all fills and reports (contract, "P&L and positions").

The model takes fills in the order in which they happened. It covers one position for each venue
and symbol; legs of a hedge mode are left to tests of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction as F
from functools import cache
from typing import NamedTuple

from tests.core.reference.containment import Effect, Report, contained
from tests.core.reference.history import Rules, Told, read_symbol
from tests.core.reference.prices import Prices


class Place(NamedTuple):
    """A symbol at a venue."""

    venue: str
    symbol: str


class Held(NamedTuple):
    """A signed quantity and its entry price (0 without a position)."""

    quantity: F = F(0)
    entry: F = F(0)


class Path(NamedTuple):
    """A position, and what each event realised on the way to it, in the settle asset."""

    held: Held
    realised: dict[int, F]  # by the number of the event


class Positions:
    """The positions at one instant."""

    def __init__(self, rules: Rules, told: list[Told], now: int) -> None:
        self.rules = rules
        self.told = told
        self.prices = Prices(rules, told, now)
        self.path = cache(self.path)  # type: ignore[method-assign]  # an instant does not change
        self.places = cache(self.places)  # type: ignore[method-assign]  # an instant stays

    def places(self) -> list[Place]:
        """Each symbol at each venue that a fill or a report names, in order."""
        names: dict[Place, None] = {}
        for one in self.told:
            if one.kind in ("fill", "position"):
                names[Place(one.event["venue"], one.event["symbol"])] = None
            elif one.kind == "positions":
                for member in one.event["positions"]:
                    names[Place(one.event["venue"], member["symbol"])] = None
        return list(names)

    def kind(self, symbol: str) -> str:
        """Spot, linear or inverse."""
        return read_symbol(symbol, self.rules.reference).kind

    def settle(self, symbol: str) -> str:
        """The asset in which P&L is realised."""
        return read_symbol(symbol, self.rules.reference).settle

    def size(self, place: Place) -> F:
        """The contract size as last reported; 1 where none was."""
        found = F(1)
        for _, report in self._reports(place):
            size = report.get("contract_size")
            found = found if size is None else F(str(size))
        return found

    def path(self, place: Place, strategy: str | None = None) -> Path:
        """The position, from the first event on; of a strategy: from its own fills alone."""
        steps = self._fills(place, strategy)
        reports = [] if strategy is not None else self._accepted(place)
        held, realised = Held(), dict[int, F]()
        done: set[int] = set()
        for told, report, inside in reports:
            for fill in steps:
                if fill.number in inside and fill.number not in done:
                    held = self._apply(place, held, fill, realised)
                    done.add(fill.number)
            before = self._gain(place, held, told)
            held = Held(F(report["quantity"]), F(report.get("entry_price") or 0))
            held = held if held.quantity else Held()
            realised[told.number] = before - self._gain(place, held, told)
        for fill in steps:
            if fill.number not in done:
                held = self._apply(place, held, fill, realised)
        return Path(held, realised)

    def held(self, place: Place) -> Held:
        """The position."""
        return self.path(place).held

    def unrealised(self, place: Place) -> F | None:
        """Unrealised P&L in the settle asset; None without a fresh mark."""
        held = self.held(place)
        if held.quantity == 0:
            return F(0)
        mark = self.prices.mark(place.symbol, place.venue)
        return None if mark is None else self._gained(place, held.quantity, held.entry, mark)

    # -- how a position moves

    def _apply(self, place: Place, held: Held, fill: Told, realised: dict[int, F]) -> Held:
        price, change = fill.amount("price"), self.change(fill)
        after = held.quantity + change
        if held.quantity * change >= 0:
            return Held(after, self._average(place, held, change, price))
        closed = -change if abs(change) < abs(held.quantity) else held.quantity
        realised[fill.number] = self._gained(place, closed, held.entry, price)
        if after == 0:
            return Held()
        return Held(after, price if after * held.quantity < 0 else held.entry)

    def change(self, fill: Told) -> F:
        """The signed quantity of a fill, less a fee that is paid in the base asset of a spot."""
        quantity = fill.amount("quantity")
        moved = quantity if fill.event["side"] == "buy" else -quantity
        what = read_symbol(fill.event["symbol"], self.rules.reference)
        in_base = what.kind == "spot" and fill.event.get("fee_asset") == what.base
        return moved - (fill.amount("fee") if in_base else F(0))

    def _average(self, place: Place, held: Held, change: F, price: F) -> F:
        if held.quantity == 0:
            return price
        after = held.quantity + change
        if self.kind(place.symbol) == "inverse":
            return after / (held.quantity / held.entry + change / price)
        return (held.quantity * held.entry + change * price) / after

    def _gained(self, place: Place, quantity: F, entry: F, price: F) -> F:
        if self.kind(place.symbol) == "inverse":
            return quantity * self.size(place) * (1 / entry - 1 / price)
        return quantity * self.size(place) * (price - entry)

    def _gain(self, place: Place, held: Held, told: Told) -> F:
        """Unrealised P&L at the mark at the time when a report came; 0 without a mark."""
        earlier = [one for one in self.told if one.now <= told.now]
        mark = Prices(self.rules, earlier, told.now).mark(place.symbol, place.venue)
        if mark is None or held.quantity == 0 or held.entry == 0:
            return F(0)
        return self._gained(place, held.quantity, held.entry, mark)

    # -- which fills a report contains

    def _fills(self, place: Place, strategy: str | None = None) -> list[Told]:
        found = [
            one
            for one in self.told
            if one.kind == "fill"
            and (one.event["venue"], one.event["symbol"]) == place
            and (strategy is None or one.event.get("strategy") == strategy)
        ]
        return sorted(found, key=lambda one: one.order)

    def _reports(self, place: Place) -> Iterable[tuple[Told, dict[str, float]]]:
        """What `position` and `positions` say of a symbol; not named is 0."""
        for one in self.told:
            event = one.event
            if one.kind not in ("position", "positions") or event["venue"] != place.venue:
                continue
            if one.kind == "position" and event["symbol"] == place.symbol:
                yield one, dict(event)
            elif one.kind == "positions" and self.kind(place.symbol) != "spot":
                named = [p for p in event["positions"] if p["symbol"] == place.symbol]
                yield one, dict(named[0]) if named else {"quantity": 0.0}

    def _accepted(self, place: Place) -> list[tuple[Told, dict[str, float], frozenset[int]]]:
        """The reports that are not older than those before them, and the fills in each."""
        kept: list[tuple[Told, dict[str, float]]] = []
        for told, report in self._reports(place):
            if not kept or told.at >= kept[-1][0].at:
                kept.append((told, report))
        reports = [Report(t.at, t.dated, F(r["quantity"]), t.number) for t, r in kept]
        effects = [
            Effect(one.at, one.dated, self.change(one), one.number) for one in self._fills(place)
        ]
        return [
            (told, report, contained(reports, effects, number))
            for number, (told, report) in enumerate(kept)
        ]
