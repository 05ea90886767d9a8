"""Deposits, withdrawals and transfers, and the changes of balances that contain them.

A flow counts when a balance contains it, so that equity and units move in the same instant. If it
is reported before the balance, it is pending until a report settles that contains it; if after, it
is matched with a remembered change (:mod:`changes`), and corrects all that followed from it:

* first with a change of its asset that equals it within 0.5 %: units move by the change itself;
* else, together with other flows of its asset, with a change that is their sum;
* else with the earliest change in which the venue's value moves in the direction of the flow by at
  least half of its value: units move by the flow.

The oldest flow comes first; one that matches nothing lapses. Units are multiplied by the equity
after the flow / the equity before it, the flows that already entered with the same change included,
so that several flows of one change make one factor in whatever order they come. An equity below
``dust`` counts as ``dust``. So no factor is 0 or infinite: a whole withdrawal leaves the units that
``dust`` buys, and the next deposit grows them back at the same unit value.

A transfer has two legs, each matched as a flow of its venue. It moves no units of the account: what
is in transit between the two is part of the equity.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from msgspec import Struct, field

from riskmon.core.book.changes import Change, Remembered, is_equal
from riskmon.core.book.history import Correction
from riskmon.core.book.money import Fixed
from riskmon.core.book.waiting import EARLY_NS, Flow, Waiting

SECOND_NS = 10**9
AHEAD_NS = 5 * SECOND_NS  # a change in value may be so much earlier than a flow with a time
WITHHELD_MAX = 1_024  # transfers
TINY = 1e-9  # an equity to divide by, where dust is 0


class Transfer(Struct):
    """An amount under way from one venue to another, of which ``fee`` does not arrive."""

    id: str
    asset: str
    amount: float
    fee: float
    source: str
    destination: str
    told_ns: int
    at_ns: int | None = None
    number: int = 0
    leaving: Flow | None = None  # the legs that are not matched yet
    arriving: Flow | None = None
    arrived: float = 0.0  # the amount that the destination reported
    withheld: bool = False  # under way for too long: it is no longer part of equity

    @property
    def in_transit(self) -> float:
        """What has left and not arrived; below 0: what has arrived and not left."""
        if self.leaving is None and self.arriving is not None and not self.withheld:
            return self.amount - self.fee
        if self.leaving is not None and self.arriving is None:
            return -self.arrived
        return 0.0


class Match(Struct):
    """A flow that was found in a change, or the whole of a change that enters (no ``flow``).

    ``late``: the change was judged before; history is corrected from ``change.at_ns`` on.
    """

    change: Change
    flow: Flow | None
    value: float  # that enters the account
    venue_value: float  # that enters the venue
    factor: float  # of the account's units
    late: bool
    amount: float = 0.0  # that the flow took of the change
    transit: float = 0.0  # value in transit that the history does not have yet

    @property
    def correction(self) -> Correction:
        """What a late match corrects in the history of the account."""
        return Correction(self.change.at_ns, self.factor, self.value, self.transit)

    @property
    def venue_correction(self) -> Correction:
        """What a late match corrects in the history of its venue."""
        return Correction(self.change.at_ns, 1.0, self.venue_value)


class Lapsed(NamedTuple):
    """What was found in no change: flows; transfers, which are gone or ``withheld``."""

    flows: list[Flow]
    transfers: list[Transfer]


class FlowsState(Struct):
    """Pending flows, transfers and remembered changes."""

    flows: dict[int, Flow] = field(default_factory=dict)  # in the order in which they were reported
    transfers: dict[int, Transfer] = field(default_factory=dict)
    withheld: dict[int, Transfer] = field(default_factory=dict)
    changes: dict[str, list[Change]] = field(default_factory=dict)  # by venue
    told: int = 0  # flows and transfers until now
    dust: float = TINY  # the highest so far: of an empty account it must not move
    entered_ns: int = 0  # when the last change settled of which a flow entered
    empty: bool = False  # it left less than dust


class Flows:
    """The flows and transfers of an account."""

    def __init__(self, state: FlowsState, wait_ns: int, transit_ns: int) -> None:
        self.state = state
        self._wait_ns = wait_ns
        self._transit_ns = transit_ns
        self._remembered = {venue: Remembered(them) for venue, them in state.changes.items()}
        self._pending: dict[str, Waiting] = {}
        self._told: dict[tuple[str, str], list[float]] = {}
        self._transit: dict[str, Fixed] = {}
        for flow in state.flows.values():
            self._index(flow)
        for transfer in (*state.transfers.values(), *state.withheld.values()):
            self._transfer(transfer, 1)
            for leg in (transfer.leaving, transfer.arriving):
                if leg is not None:
                    self._index(leg)

    # -- queries ----------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether flows emptied the account: its unit value stays at dust / units."""
        return self.state.empty

    @property
    def dust(self) -> float:
        """The equity that the units of an empty account stand for."""
        return self.state.dust

    @property
    def told(self) -> Mapping[tuple[str, str], Sequence[float]]:
        """The pending amounts by venue and asset, in ascending order."""
        return self._told

    def pending(self, venue: str) -> Mapping[str, Mapping[int, float]]:
        """Return the pending amounts at a venue by asset: a change there needs their prices."""
        pending = self._pending.get(venue)
        return {} if pending is None else pending.by_asset

    def in_transit(self) -> dict[str, float]:
        """Return what transfers add to equity, or take from it, by asset."""
        return {asset: amount.value for asset, amount in self._transit.items() if amount.scaled}

    def next_due_ns(self) -> int | None:
        """Return when the next flow or transfer lapses."""
        flow = next(iter(self.state.flows.values()), None)
        transfer = next(iter(self.state.transfers.values()), None)
        due_ns = [] if flow is None else [flow.told_ns + self._wait_ns]
        if transfer is not None:
            due_ns.append(transfer.told_ns + self._transit_ns)
        return min(due_ns, default=None)

    # -- what is reported --------------------------------------------------------------------------

    def tell(self, flow: Flow, rate: float | None) -> list[Match]:
        """Add a flow; return its late match. ``rate``: the price of its asset now."""
        self.state.told += 1
        flow.number = self.state.told
        matches = self._match_late(flow, rate)
        if not matches and flow.amount:
            self.state.flows[flow.number] = flow
            self._index(flow)
        return matches

    def tell_transfer(
        self, transfer: Transfer, rate: float | None, *, left: bool = False, arrived: bool = False
    ) -> list[Match]:
        """Add a transfer; return the late matches of its legs.

        ``left``, ``arrived``: that venue reports no balances, so the caller applies the leg there.
        """
        state, net = self.state, transfer.amount - transfer.fee
        transfer.number = state.told = state.told + 1
        if not left:
            transfer.leaving = self._leg(transfer, transfer.source, -transfer.amount)
        if arrived:
            transfer.arrived = net
        else:
            transfer.arriving = self._leg(transfer, transfer.destination, net)
        state.transfers[transfer.number] = transfer
        self._transfer(transfer, 1)
        matches: list[Match] = []
        for leg in (transfer.leaving, transfer.arriving):
            if leg is None:
                continue
            found = self._match_late(leg, rate)
            if not found:
                self._index(leg)
            matches += found
        self._end_transfer(transfer)
        _balance_transit(matches, transfer.number)
        return matches

    def _leg(self, transfer: Transfer, venue: str, amount: float) -> Flow | None:
        if not amount:
            return None
        number = self.state.told = self.state.told + 1
        return Flow(
            id=transfer.id,
            venue=venue,
            asset=transfer.asset,
            amount=amount,
            told_ns=transfer.told_ns,
            at_ns=transfer.at_ns,
            transfer=transfer.number,
            number=number,
        )

    def _match_late(self, flow: Flow, rate: float | None) -> list[Match]:
        """Match a flow that is not pending with a change that was judged before."""
        remembered = self._remembered.get(flow.venue)
        if remembered is None or not flow.amount:
            return []
        number = remembered.equal(flow.asset, flow.amount, flow.age[0] - EARLY_NS)
        if number is None:
            since_ns = flow.told_ns if flow.at_ns is None else flow.at_ns - AHEAD_NS
            number = remembered.moved(flow.asset, flow.amount, rate, since_ns)
        if number is None:
            return []
        match = self._take(remembered, number, flow, rate, late=True)
        return [match, *self._take_equal(remembered, number, late=True)]

    # -- what settles -----------------------------------------------------------------------------

    def settle(self, change: Change) -> Iterator[Match]:
        """Remember a change; yield the pending flows that it contains, oldest first."""
        state = self.state
        change.dust = state.dust = max(state.dust, change.dust)
        remembered = self._remembered.get(change.venue)
        if remembered is None:
            changes = state.changes.setdefault(change.venue, [])
            remembered = self._remembered[change.venue] = Remembered(changes)
        number, value, taken = remembered.add(change), change.value, 0.0
        for match in chain(
            self._take_equal(remembered, number, late=False),
            self._take_together(remembered, number, late=False),
            self._take_moved(remembered, number),
        ):
            taken += match.venue_value
            yield match
        if change.past:  # a flow that is reported from now on is later than the first equity
            remembered.clear(number)
        if change.enters and not change.past:
            rest = value - taken
            factor = self._enter(change, rest)
            yield Match(change, None, rest, rest, factor, late=False)

    def explain(
        self, venue: str, asset: str, amount: float, rate: float | None, since_ns: int
    ) -> list[Match]:
        """Take what a late effect explains from the change of its report.

        Return the pending flows that what is left of the change equals, alone or together.
        """
        remembered = self._remembered.get(venue)
        number = None
        if remembered is not None:
            number = remembered.explain(asset, amount, rate, since_ns)
        if remembered is None or number is None:
            return []
        matches = [*self._take_equal(remembered, number, late=True)]
        return [*matches, *self._take_together(remembered, number, late=True)]

    def _take_equal(self, remembered: Remembered, number: int, *, late: bool) -> Iterator[Match]:
        """Match a change with the pending flows that what is left of it equals."""
        change = remembered[number]
        pending = self._pending.get(change.venue)
        for asset in list(change.amounts) if pending is not None else ():
            while pending is not None and asset in change.amounts:
                flow = pending.equal(change, asset)
                if flow is None:
                    break
                self._remove(flow)
                yield self._take(remembered, number, flow, None, late=late)

    def _take_together(self, remembered: Remembered, number: int, *, late: bool) -> Iterator[Match]:
        """Match a change with several pending flows of one asset whose sum it is."""
        change = remembered[number]
        pending = self._pending.get(change.venue)
        for asset in list(change.amounts) if pending is not None else ():
            for flow in pending.together(change, asset) if pending is not None else ():
                self._remove(flow)
                yield self._take(remembered, number, flow, None, late=late, apart=True)

    def _take_moved(self, remembered: Remembered, number: int) -> Iterator[Match]:
        """Match a change with the pending flows in whose direction its value moves."""
        change = remembered[number]
        pending = self._pending.get(change.venue)
        after, found = (0, 0), False
        while pending is not None:
            flow = pending.moved(change, after)
            if flow is None:
                if not found:
                    return
                after, found = (0, 0), False  # what is left may contain an older flow
                continue
            after, found = flow.age, True
            self._remove(flow)
            yield self._take(remembered, number, flow, None, late=False)
            yield from self._take_equal(remembered, number, late=False)

    def _take(
        self,
        remembered: Remembered,
        number: int,
        flow: Flow,
        rate: float | None,
        *,
        late: bool,
        apart: bool = False,
    ) -> Match:
        """Subtract a flow from a change; ``apart``: from its asset alone, even past 0."""
        change = remembered[number]
        held = change.amounts.get(flow.asset, 0.0)
        amount = held if is_equal(held, flow.amount) and not apart else flow.amount
        price = change.rates.get(flow.asset, rate)
        if apart:
            remembered.subtract(number, flow.asset, amount)
        else:
            remembered.take(number, flow.asset, amount, price)
        value = 0.0 if change.past or price is None else amount * price
        account = venue = value
        if flow.transfer is None:
            if change.enters:  # it entered, or enters, as a whole
                account = venue = 0.0
            return Match(change, flow, account, venue, self._enter(change, account), late, amount)
        account = 0.0
        if change.enters and late:  # what entered was a transfer, not a flow of the account
            account, venue = -value, 0.0
        transit = self._leg_matched(flow, amount) * (0.0 if change.past else price or 0.0)
        factor = self._enter(change, account)
        return Match(change, flow, account, venue, factor, late, amount, transit)

    def _enter(self, change: Change, value: float) -> float:
        """Count a value of a change as a flow of the account; return the factor of the units."""
        if not value:
            return 1.0
        before = change.equity
        change.taken += value
        state = self.state
        if change.at_ns >= state.entered_ns:
            state.entered_ns = change.at_ns
            state.empty = change.equity_before + change.taken < change.dust
        return change.equity / before

    # -- transfers --------------------------------------------------------------------------------

    def _leg_matched(self, leg: Flow, amount: float) -> float:
        """Record that a leg was matched; return the amount in transit that this makes."""
        number = leg.transfer or 0
        transfer = self.state.transfers.get(number) or self.state.withheld[number]
        self._transfer(transfer, -1)
        if leg.amount < 0:
            transfer.leaving = None
            made = transfer.amount - transfer.fee
        else:
            transfer.arriving, transfer.arrived = None, amount
            made = -amount
        self._transfer(transfer, 1)
        self._end_transfer(transfer)
        return made

    def _end_transfer(self, transfer: Transfer) -> None:
        if transfer.leaving is None and transfer.arriving is None:
            self.state.transfers.pop(transfer.number, None)
            self.state.withheld.pop(transfer.number, None)

    def _transfer(self, transfer: Transfer, sign: int) -> None:
        """Add a transfer to what is in transit, or subtract it before it changes."""
        total = self._transit.setdefault(transfer.asset, Fixed())
        total.add(sign * transfer.in_transit)

    # -- lapsing, and what ends -------------------------------------------------------------------

    def lapse(self, now_ns: int) -> Lapsed:
        """Remove the flows that are pending for too long, and withhold such transfers."""
        state, lapsed = self.state, Lapsed([], [])
        for flow in state.flows.values():
            if flow.told_ns + self._wait_ns > now_ns:
                break
            lapsed.flows.append(flow)
        for transfer in state.transfers.values():
            if transfer.told_ns + self._transit_ns > now_ns:
                break
            lapsed.transfers.append(transfer)
        for flow in lapsed.flows:
            self._remove(flow)
        for transfer in lapsed.transfers:
            del state.transfers[transfer.number]
            self._transfer(transfer, -1)
            transfer.withheld = True
            self._transfer(transfer, 1)
            if transfer.leaving is None or transfer.arriving is None:
                state.withheld[transfer.number] = transfer  # until its other leg comes
            else:
                self._drop_transfer(transfer)
        while len(state.withheld) > WITHHELD_MAX:
            self._drop_transfer(state.withheld.pop(next(iter(state.withheld))))
        return lapsed

    def _drop_transfer(self, transfer: Transfer) -> None:
        self._transfer(transfer, -1)
        for leg in (transfer.leaving, transfer.arriving):
            if leg is not None:
                self._remove(leg)

    def forget(self, venue: str) -> None:
        """Forget the changes of a venue that is no longer part of the account."""
        self.state.changes.pop(venue, None)
        self._remembered.pop(venue, None)

    def rebase(self) -> None:
        """Make remembered changes part of the capital: a flow that matches one has no effect."""
        for changes in self.state.changes.values():
            for change in changes:
                change.past = True
        self.state.dust, self.state.empty = TINY, False

    def _index(self, flow: Flow) -> None:
        pending = self._pending.get(flow.venue)
        if pending is None:
            pending = self._pending[flow.venue] = Waiting()
        pending.add(flow)
        insort(self._told.setdefault((flow.venue, flow.asset), []), flow.amount)

    def _remove(self, flow: Flow) -> None:
        """Remove a pending flow or leg."""
        self.state.flows.pop(flow.number, None)
        self._pending[flow.venue].remove(flow)
        told = self._told[flow.venue, flow.asset]
        del told[bisect_left(told, flow.amount)]
        if not told:
            del self._told[flow.venue, flow.asset]


def _balance_transit(matches: list[Match], transfer: int) -> None:
    """Let the later leg subtract from transit the value that the earlier one added."""
    legs = [one for one in matches if one.flow is not None and one.flow.transfer == transfer]
    if len(legs) == 2:
        first, second = sorted(legs, key=lambda one: one.change.at_ns)
        second.transit = -first.transit
