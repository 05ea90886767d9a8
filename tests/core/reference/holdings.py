"""Holdings: live and settled amounts of each asset at each venue (contract, "Holdings", "Settled").

A holding is a report plus the effects of fills that it does not contain. Live holdings start from
the last report, settled ones from the last report that has settled; which reports have settled is
the one thing here that the past decides (see :mod:`tests.core.reference.account`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction as F
from functools import cache
from typing import NamedTuple

from tests.core.reference.containment import (
    Beside,
    Effect,
    Reading,
    Report,
    agrees,
    first,
    following,
)
from tests.core.reference.flows import Leg, legs
from tests.core.reference.history import SECOND, Rules, Told, read_symbol
from tests.core.reference.positions import Place, Positions

Key = tuple[str, str]  # venue, asset
ASIDE = SECOND  # how far a report of another asset may be


class Due(NamedTuple):
    """The reports of a venue that wait, and when they settle."""

    reports: list[Told]
    at: int


class Holdings:
    """The holdings at one instant."""

    def __init__(self, rules: Rules, told: list[Told], now: int) -> None:
        self.rules = rules
        self.told = told
        self.now = now
        self.positions = Positions(rules, told, now)
        self.effects = cache(self.effects)  # type: ignore[method-assign]  # an instant stays
        self.chain = cache(self.chain)  # type: ignore[method-assign]  # an instant stays
        self._reading = cache(self._reading)  # type: ignore[method-assign]  # an instant stays
        self._asked: set[tuple[str, str, int]] = set()

    # -- what was reported

    def reports(self, venue: str) -> list[Told]:
        """The balance reports of a venue of which at least one asset counts."""
        counting = {r.number for asset in self.assets(venue) for r in self.chain(venue, asset)}
        return [one for one in self.told if one.number in counting]

    def venues(self) -> list[str]:
        """The venues that have reported a balance."""
        return list({one.event["venue"]: 0 for one in self._balance_events()})

    def _balance_events(self) -> Iterator[Told]:
        return (one for one in self.told if one.kind in ("balance", "balances"))

    def assets(self, venue: str) -> list[str]:
        """Each asset that a report or a fill names at a venue that reports balances."""
        names: dict[str, None] = {}
        for one in self.told:
            event = one.event
            if event.get("venue") != venue:
                continue
            if one.kind == "balance":
                names[event["asset"]] = None
            elif one.kind == "balances":
                names |= dict.fromkeys(event["assets"])
            elif one.kind == "fill":
                what = read_symbol(event["symbol"], self.rules.reference)
                spot = (what.base, what.quote) if what.kind == "spot" else (what.settle,)
                names |= dict.fromkeys((*spot, event.get("fee_asset") or what.settle))
            elif one.kind in ("position", "positions"):
                members = event["positions"] if one.kind == "positions" else [event]
                names |= {self.positions.settle(m["symbol"]): None for m in members}
        return [name for name in names if name not in self.rules.ignore]

    def chain(self, venue: str, asset: str) -> list[Report]:
        """What was reported of one asset, in order, without what is older than the one before.

        What `balances` do not name is 0.
        """
        found: list[Report] = []
        for one in self._balance_events():
            event = one.event
            if event["venue"] != venue or (found and one.at < found[-1].at):
                continue
            if one.kind == "balance" and event["asset"] == asset:
                amount = one.amount("free") + one.amount("locked")
                found.append(Report(one.at, one.dated, amount, one.number))
            elif one.kind == "balances":
                member = event["assets"].get(asset, {})
                amount = F(member.get("free") or 0) + F(member.get("locked") or 0)
                found.append(Report(one.at, one.dated, amount, one.number))
        return found

    # -- what fills and position reports move

    def effects(self, venue: str, asset: str) -> list[Effect]:
        """What each fill and position report moves of an asset."""
        found = []
        for one in self.told:
            if one.event.get("venue") != venue:
                continue
            if one.kind == "fill":
                amount = self._moved_by_fill(one, asset)
            elif one.kind in ("position", "positions"):
                amount = self._realised(venue, one.number, asset)
            else:
                continue
            if amount:
                found.append(Effect(one.at, one.dated, amount, one.number))
        return found

    def _moved_by_fill(self, fill: Told, asset: str) -> F:
        event = fill.event
        what = read_symbol(event["symbol"], self.rules.reference)
        fee_asset = event.get("fee_asset") or what.settle
        moved = -fill.amount("fee") if asset == fee_asset else F(0)
        if what.kind != "spot":
            return moved + self._realised(event["venue"], fill.number, asset)
        sign = 1 if event["side"] == "buy" else -1
        quantity = fill.amount("quantity")
        if asset == what.base:
            moved += sign * quantity
        if asset == what.quote:
            moved -= sign * quantity * fill.amount("price")
        return moved

    def _realised(self, venue: str, number: int, asset: str) -> F:
        if venue in self.rules.unrealised_included:
            return F(0)
        return sum(
            (
                self.positions.path(place).realised.get(number, F(0))
                for place in self.contracts(venue)
                if self.positions.settle(place.symbol) == asset
            ),
            F(0),
        )

    def contracts(self, venue: str) -> list[Place]:
        """The contracts that are named at a venue."""
        places = [one for one in self.positions.places() if one.venue == venue]
        return [one for one in places if self.positions.kind(one.symbol) != "spot"]

    # -- which of them a report contains

    def _reading(self, venue: str, asset: str, index: int) -> Reading:
        chain, effects = self.chain(venue, asset), self.effects(venue, asset)
        if index == 0:
            return first(chain[0], effects)
        before = self._reading(venue, asset, index - 1).contained

        def says(report: Report, effect: int) -> bool | None:
            return self._beside(venue, asset, report, effect)

        told = (leg for leg in legs(self.told) if (leg.venue, leg.asset) == (venue, asset))
        beside = Beside([leg.amount for leg in told], says)
        return following(chain[index], chain[index - 1].amount, before, effects, beside)

    def _beside(self, venue: str, asset: str, report: Report, effect: int) -> bool | None:
        """Whether the nearest exact report of another asset, at most 1 s away, contains it.

        One to which another report of this asset is nearer says nothing of this one.
        """
        question = (venue, asset, report.number)
        if question in self._asked:
            return None
        self._asked.add(question)
        own = self.chain(venue, asset)
        found: list[tuple[int, bool]] = []
        for other in self.assets(venue):
            moved = {one.number for one in self.effects(venue, other)}
            chain = self.chain(venue, other) if other != asset and effect in moved else []
            for index, beside in enumerate(chain):
                apart = abs(beside.at - report.at)
                nearest = min(abs(beside.at - one.at) for one in own)
                if index and apart <= ASIDE and apart == nearest:
                    reading = self._reading(venue, other, index)
                    found += [(apart, effect in reading.contained)] if reading.exact else []
        self._asked.remove(question)
        return min(found, key=lambda one: one[0])[1] if found else None

    def contained(self, venue: str, asset: str, last: int) -> frozenset[int]:
        """The effects in the last report of an asset up to an event number."""
        index = self._index(venue, asset, last)
        return frozenset() if index is None else self._reading(venue, asset, index).contained

    def _index(self, venue: str, asset: str, last: int) -> int | None:
        chain = self.chain(venue, asset)
        found = [index for index, report in enumerate(chain) if report.number <= last]
        return found[-1] if found else None

    def amount(self, venue: str, asset: str, last: int) -> F:
        """The last report up to an event number, plus the effects that it does not contain."""
        inside = self.contained(venue, asset, last)
        added = (e.amount for e in self.effects(venue, asset) if e.number not in inside)
        return self.reported(venue, asset, last) + sum(added, F(0))

    def reported(self, venue: str, asset: str, last: int) -> F:
        """The last report up to an event number; 0 before any."""
        index = self._index(venue, asset, last)
        return F(0) if index is None else self.chain(venue, asset)[index].amount

    def live(self, venue: str, asset: str) -> F:
        """The live holding."""
        return self.amount(venue, asset, len(self.told))

    def explained(self, venue: str, asset: str, since: int, until: int) -> F:
        """What effects moved between two event numbers' reports."""
        inside = self.contained(venue, asset, until) - self.contained(venue, asset, since)
        moved = (e.amount for e in self.effects(venue, asset) if e.number in inside)
        return sum(moved, F(0))

    def change(self, venue: str, asset: str, since: int, until: int) -> F:
        """What a report changed that no effect explains."""
        before, after = self.reported(venue, asset, since), self.reported(venue, asset, until)
        change = after - before - self.explained(venue, asset, since, until)
        return F(0) if agrees(change + after, after) else change

    # -- settling

    def due(self, venue: str, settled: int) -> Due | None:
        """The reports after the event number ``settled`` and when they settle; None: none wait."""
        waiting = [one for one in self.reports(venue) if one.number > settled]
        if not waiting:
            return None
        wholes = [one for one in waiting if one.kind == "balances"]
        if wholes:
            at = wholes[-1].now
            return Due([one for one in waiting if one.number <= wholes[-1].number], at)
        begin, last = waiting[0].now, waiting[-1].now
        pause = max(begin + 5 * SECOND, last + SECOND // 20)
        return Due(waiting, min(last + SECOND, pause, begin + 6 * SECOND))

    def is_held_back(self, venue: str, settled: int, until: int, pending: Sequence[Leg]) -> bool:
        """Whether a settle asset changed by more than dust with an open contract, unexplained."""
        for place in self.contracts(venue):
            asset = self.positions.settle(place.symbol)
            rate = self.positions.prices.rate(asset) or F(0)
            change = self.change(venue, asset, settled, until)
            first = self._index(venue, asset, settled) is None
            if first or abs(change * rate) <= F(self.rules.dust):
                continue
            told = (one for one in pending if (one.venue, one.asset) == (venue, asset))
            is_flow = any(abs((one.amount - change) * rate) <= F(self.rules.dust) for one in told)
            if self.positions.held(place).quantity and not is_flow:
                return True
        return False
