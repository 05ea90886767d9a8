"""Each venue's holdings, and when its reports are settled.

Equity is not computed from half of a report: a buy moves two balances, and between their two
reports the balances add up to less than the account has. A venue is *settled* with a whole
report; 1 s after its last single one; and from 5 s after the first unsettled one on at the first
pause of 0.05 s, at the latest at 6 s, even while reports keep coming. While a contract is open
there, a report that moves its settle asset beyond what is known settles when a fill, a position
report or a flow explains it, at most 5 s later. Until then equity uses the last settled reports,
with all known effects on top.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct, field

from riskmon.core.book.comparison import Comparison
from riskmon.core.book.effects import NOTHING, Amount, Stamp
from riskmon.core.book.ledger import Explained, Ledger, LedgerState
from riskmon.core.book.projection import Known

SECOND_NS = 10**9
QUIET_NS = SECOND_NS  # after the last single report
HURRIED_NS = 5 * SECOND_NS  # from then on after the first, the next pause settles
PAUSE_NS = SECOND_NS // 20
LATEST_NS = 6 * SECOND_NS
EXPLAINED_NS = 5 * SECOND_NS
LEGS_MAX = 16_384  # the newest events, of which the assets that they moved are stored
ZEROS_OF_ONE = 16  # assets of 0 that are as much work as one with a balance

Key = tuple[str, str]  # venue and asset


class Venue(Struct):
    """When a venue reported, and whether that is settled."""

    first_ns: int  # of its first balance
    at_ns: int  # of the last sign that its balances are fresh
    grace_ns: int  # until then the first report of an asset enters as a flow
    whole_ns: int | None = None  # of the last whole report: assets that it did not name were 0
    joined: bool = False  # it settled once
    unsettled_ns: int | None = None  # arrival of the first unsettled report
    last_ns: int = 0  # arrival of the last single report
    due_ns: int = 0  # when it settles without another report


class HoldingsState(Struct):
    """The reports and known effects of all venues."""

    venues: dict[str, Venue] = field(default_factory=dict)
    ledgers: dict[str, dict[str, LedgerState]] = field(default_factory=dict)  # venue -> asset
    causes: int = 0  # numbers given to events with effects


class Settled(NamedTuple):
    """A venue settled: what no effect explains of each asset's change.

    ``first`` are assets that were reported for the first time, within the venue's grace;
    ``joined``: the venue settled for the first time. ``reported_ns`` is the time of the latest
    report among those that settled.
    """

    venue: str
    joined: bool
    amounts: dict[str, float]
    first: dict[str, float]
    reported_ns: int


class Holdings:
    """The holdings of all venues. Times are engine ns."""

    def __init__(self, state: HoldingsState, grace_ns: int) -> None:
        self.state = state
        self._grace_ns = grace_ns
        self.ledgers = {
            (venue, asset): Ledger(one)
            for venue, assets in state.ledgers.items()
            for asset, one in assets.items()
        }
        self.changed: dict[Key, None] = dict.fromkeys(self.ledgers)  # since the last pass
        self._armed: list[tuple[str, int]] = []
        self._explained: list[tuple[str, str, Explained]] = []
        self._legs: dict[int, tuple[str, ...]] = {}  # cause -> the assets that it moved
        self._comparisons: dict[str, Comparison] = {}  # by venue
        self._paired: dict[tuple[str, tuple[str, ...]], None] = {}  # that comparisons have
        for (venue, asset), ledger in self.ledgers.items():
            for effect in ledger.state.effects:
                if effect.cause <= state.causes - LEGS_MAX:
                    continue
                legs = self._legs[effect.cause] = (*self._legs.get(effect.cause, ()), asset)
                if len(legs) > 1 and (venue, legs) not in self._paired:
                    self._pair(venue, legs)
        self._stale: dict[str, dict[str, None]] = {}  # venue -> assets with reports to resolve
        self._to_settle: dict[str, None] = {
            name: None for name, venue in state.venues.items() if venue.unsettled_ns is not None
        }

    # -- queries ----------------------------------------------------------------------------------

    def reports(self, venue: str) -> bool:
        """Return whether a venue reports balances."""
        return venue in self.state.venues

    def live(self, venue: str, asset: str) -> float:
        """Return the amount of an asset at a venue, by its last report and what is known since."""
        ledger = self.ledgers.get((venue, asset))
        return 0.0 if ledger is None else ledger.live

    def settled(self, venue: str, asset: str) -> float:
        """Return the amount that equity uses."""
        ledger = self.ledgers.get((venue, asset))
        return 0.0 if ledger is None else ledger.settled

    @property
    def unsettled(self) -> Iterable[str]:
        """The venues in the middle of a report."""
        return self._to_settle

    @property
    def is_stale(self) -> bool:
        """Whether reports are to be resolved or to settle."""
        return bool(self._stale or self._to_settle)

    def take_timers(self) -> list[tuple[str, int]]:
        """Return the venues whose timer is to be armed, with the due time; once."""
        armed, self._armed = self._armed, []
        return armed

    def take_explained(self) -> list[tuple[str, str, Explained]]:
        """Return what late effects explain of settled reports, by venue and asset; once."""
        explained, self._explained = self._explained, []
        return explained

    def assets(self, venue: str) -> Mapping[str, LedgerState]:
        """Return the assets of a venue."""
        return self.state.ledgers.get(venue, {})

    def is_settled(self) -> bool:
        """Return whether no venue is in the middle of a report."""
        return all(one.unsettled_ns is None for one in self.state.venues.values())

    # -- facts ------------------------------------------------------------------------------------

    def add(self, venue: str, amounts: Mapping[str, float], stamp: Stamp) -> None:
        """Add the known effects of an event on the holdings of a venue, by asset."""
        self.state.causes = cause = self.state.causes + 1
        at_ns, dated = stamp
        ledgers, changed = self.ledgers, self.changed
        for asset, amount in amounts.items():
            key = (venue, asset)
            ledger = ledgers.get(key)
            if ledger is None:
                ledger = self._ledger(venue, asset, at_ns)
            changed[key] = None
            if ledger.add(Known(amount, at_ns, dated, cause)):
                self._stale.setdefault(venue, {})[asset] = None
        legs = self._legs
        legs[cause] = moved = tuple(amounts)
        if (venue, moved) not in self._paired:
            self._pair(venue, moved)
        legs.pop(cause - LEGS_MAX, None)

    def _pair(self, venue: str, assets: tuple[str, ...]) -> None:
        """Record assets that one event moved: their reports are compared."""
        self._paired[venue, assets] = None
        self._comparison(venue).pair(assets)

    def _comparison(self, venue: str) -> Comparison:
        comparison = self._comparisons.get(venue)
        if comparison is None:
            comparison = self._comparisons[venue] = Comparison(venue, self.ledgers, self._legs)
        return comparison

    def flow(self, venue: str, asset: str, amount: float, at_ns: int) -> None:
        """Record that a flow was found in what settled at ``at_ns``."""
        ledger = self.ledgers.get((venue, asset))
        if ledger is not None:
            ledger.flow(amount, at_ns)

    def reconsider(self, venue: str, asset: str) -> None:
        """Decide the reports of an asset anew in the next pass, after a flow of it was reported."""
        ledger = self.ledgers.get((venue, asset))
        if ledger is not None and ledger.reconsider():
            self._change(venue, asset, ledger)

    def on_balance(self, venue: str, asset: str, amount: Amount, stamp: Stamp, now_ns: int) -> None:
        """Apply one balance of a venue."""
        known = self._venue(venue, now_ns, whole=False)
        if not self._report(venue, asset, amount, stamp):
            return
        known.last_ns = now_ns
        if known.unsettled_ns is None:
            known.unsettled_ns = now_ns
        self._to_settle[venue] = None

    def on_balances(
        self,
        venue: str,
        assets: Mapping[str, Amount],
        stamp: Stamp,
        now_ns: int,
        unread: Container[str] = (),
    ) -> Iterator[int]:
        """Apply all balances of a venue; yield the work of each piece.

        What is not named is 0, except the assets ``unread``.
        """
        known = self._venue(venue, now_ns, whole=True)
        if known.whole_ns is not None and stamp.at_ns < known.whole_ns:
            return
        before = self.state.ledgers.setdefault(venue, {})
        for asset in [one for one in before if one not in assets and one not in unread]:
            self._report(venue, asset, NOTHING, stamp)
            yield 1
        zeros = 0
        for asset, amount in assets.items():
            if asset not in before and not any(amount):
                zeros += 1
                if zeros % ZEROS_OF_ONE == 0:
                    yield 1
                continue
            self._report(venue, asset, amount, stamp)
            yield 1
        known.whole_ns = stamp.at_ns
        known.unsettled_ns = now_ns if known.unsettled_ns is None else known.unsettled_ns
        known.due_ns = now_ns
        known.last_ns = now_ns - QUIET_NS
        self._to_settle[venue] = None

    def forget(self, venue: str) -> None:
        """Drop a venue that holds nothing."""
        for asset in self.state.ledgers.pop(venue, {}):
            del self.ledgers[venue, asset]
            self.changed[venue, asset] = None
        self.state.venues.pop(venue, None)
        self._to_settle.pop(venue, None)
        self._stale.pop(venue, None)
        self._comparisons.pop(venue, None)
        self._paired = {one: None for one in self._paired if one[0] != venue}

    def _venue(self, name: str, now_ns: int, *, whole: bool) -> Venue:
        venue = self.state.venues.get(name)
        if venue is None:
            venue = self.state.venues[name] = Venue(now_ns, now_ns, now_ns + self._grace_ns)
        if whole:
            venue.grace_ns = min(venue.grace_ns, now_ns)
        return venue

    def _ledger(self, venue: str, asset: str, at_ns: int) -> Ledger:
        """Return the ledger of an asset; ``at_ns`` is the time of what is added to a new one.

        A new one begins with a report of 0 if a whole report did not name the asset, or if the
        venue reports single balances and its grace is over.
        """
        ledger = self.ledgers.get((venue, asset))
        if ledger is None:
            state = self.state.ledgers.setdefault(venue, {})[asset] = LedgerState()
            ledger = self.ledgers[venue, asset] = Ledger(state)
            known = self.state.venues.get(venue)
            if known is not None and (known.whole_ns is not None or at_ns > known.grace_ns):
                since_ns = known.grace_ns if known.whole_ns is None else known.whole_ns
                ledger.report(NOTHING, Stamp(since_ns, dated=False))
                ledger.settle()
        return ledger

    def _report(self, venue: str, asset: str, amount: Amount, stamp: Stamp) -> bool:
        ledger = self._ledger(venue, asset, stamp.at_ns)
        if not ledger.report(amount, stamp):
            return False
        self._change(venue, asset, ledger)
        return True

    def _change(self, venue: str, asset: str, ledger: Ledger) -> None:
        self.changed[venue, asset] = None
        if ledger.is_stale:
            self._stale.setdefault(venue, {})[asset] = None

    # -- the pass ---------------------------------------------------------------------------------

    def resolving(self, flows: Mapping[Key, Sequence[float]]) -> Iterator[int]:
        """Decide which effects the reports contain; yield the work of each piece.

        ``flows``: amounts that were reported and that no report explained yet.
        """
        for venue, assets in self._stale.items():
            comparison = self._comparison(venue)
            known = self.state.venues.get(venue)
            whole_ns = None if known is None else known.whole_ns
            for piece in comparison.resolving(assets, flows, whole_ns):
                if isinstance(piece, int):
                    yield piece
                else:
                    self.changed[venue, piece] = None
            for asset in assets:
                for one in self.ledgers[venue, asset].take_explained():
                    self._explained.append((venue, asset, one))
                yield 1
        self._stale.clear()

    def settling(
        self,
        now_ns: int,
        waits: Mapping[str, Mapping[str, float]],
        flows: Mapping[Key, Sequence[float]],
    ) -> Iterator[Settled | int]:
        """Settle the venues that are due; yield each, and the work of each piece.

        ``waits``: for each venue with open contracts, their settle assets with the change, in units
        of the asset, above which a report of them needs an explanation; ``flows``: the amounts that
        were reported and that no report explained yet.
        """
        for name in sorted(self._to_settle):
            venue = self.state.venues[name]
            due_ns = self._due_ns(name, venue, waits.get(name, {}), flows)
            if now_ns < due_ns:
                if venue.due_ns != due_ns:
                    venue.due_ns = due_ns
                    self._armed.append((name, due_ns))
                continue
            del self._to_settle[name]
            yield from self._settle(name, venue)

    def _due_ns(
        self,
        name: str,
        venue: Venue,
        waits: Mapping[str, float],
        flows: Mapping[Key, Sequence[float]],
    ) -> int:
        """Return when a venue settles if no other report comes."""
        first_ns = venue.unsettled_ns or 0
        due_ns = min(
            venue.last_ns + QUIET_NS,
            max(first_ns + HURRIED_NS, venue.last_ns + PAUSE_NS),
            first_ns + LATEST_NS,
        )
        for asset, most in waits.items():
            ledger = self.ledgers.get((name, asset))
            if ledger is None or ledger.state.settled < 0:
                continue
            change = ledger.unexplained
            told = flows.get((name, asset), ())
            if abs(change) > most and not any(abs(change - one) <= most for one in told):
                return due_ns + EXPLAINED_NS
        return due_ns

    def _settle(self, name: str, venue: Venue) -> Iterator[Settled | int]:
        amounts: dict[str, float] = {}
        first: dict[str, float] = {}
        reported_ns = 0
        for asset in self.state.ledgers[name]:
            ledger = self.ledgers[name, asset]
            if not ledger.is_unsettled:
                continue
            enters = ledger.state.settled < 0 and ledger.state.reports[0].at_ns < venue.grace_ns
            change = ledger.settle()
            reported_ns = max(reported_ns, ledger.state.reports[-1].at_ns)
            if change:
                (first if enters else amounts)[asset] = change
            self.changed[name, asset] = None
            yield 1
        joined, venue.joined = not venue.joined, True
        venue.unsettled_ns = None
        yield Settled(name, joined, amounts, first, reported_ns)

    def on_timer(self, name: str) -> None:
        """Settle a venue in the next pass, if it is due by then."""
        venue = self.state.venues.get(name)
        if venue is not None and venue.unsettled_ns is not None:
            venue.due_ns = 0
            self._to_settle[name] = None
