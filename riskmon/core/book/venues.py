"""Balances by venue, as reported, and whether a venue's report is complete.

A buy moves two balances, and between the two reports the balances add up to less than the account
has: so a venue is *settled* after ``balances``, or once its single ``balance`` events pause. A
venue that first reports after the first complete equity counts once it is settled, and enters as a
cash flow; so does an asset that was left out because it had no price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct, field

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.instruments import Instrument
from riskmon.core.book.ledger import Ledger
from riskmon.core.book.money import Sum
from riskmon.core.book.worths import Worths
from riskmon.core.timers import Timer, timer_key
from riskmon.core.topics import EQUITY, Topic, venue_equity_topic
from riskmon.core.unknown import Unknown

ZEROS_OF_ONE = 16  # assets of 0 that are as much work as one with a balance
SETTLE_QUIET_NS = 10**9  # after the last `balance` …
SETTLE_LATEST_NS = 5 * 10**9  # … but at most so long after the first

OnTop = Callable[[str], Iterator[tuple[str, float]]]


class VenueAsset(Struct, gc=False):
    """Free and locked amount of one asset at a venue, and the date of the report."""

    free: float
    locked: float
    wall_ns: int


class Venue(Struct):
    """The balances of one venue and the state of its report."""

    assets: dict[str, VenueAsset] = field(default_factory=dict)
    at_ns: int = 0
    all_wall_ns: int = 0  # of the last `balances`: assets that it did not name were 0
    gone_wall_ns: dict[str, int] = field(default_factory=dict)  # asset -> since when it is 0
    counted: bool = True  # its balances are part of equity
    entered_wall_ns: int = 0  # when they entered as a flow, if they did
    unsettled_since_ns: int | None = None
    settle_ns: int = 0  # when it is settled, without another report
    awaited: dict[str, bool] = field(default_factory=dict)  # moved by a fill, not reported since
    awaited_until_ns: int = 0
    own: Ledger | None = None  # balances and contracts here, while a limit uses it
    flows: Sum = field(default_factory=Sum)  # here since `own`, at their value then


class VenuesState(Struct):
    """The balances of all venues, and their sum."""

    venues: dict[str, Venue] = field(default_factory=dict)
    first_balance_ns: int | None = None
    complete: bool = False  # every venue has reported once
    balances: Ledger = field(default_factory=Ledger)
    unpriced_since_ns: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, bool] = field(default_factory=dict)  # assets without a price


class Venues:
    """The balances of all venues.

    ``on_top_at`` yields the unrealised P&L on top of a venue's balances; ``entered`` is called with
    the value of a venue that begins to count.
    """

    def __init__(
        self,
        state: VenuesState,
        config: PortfolioConfig,
        worths: Worths,
        dirty: dict[Topic, bool],
        *,
        on_top_at: OnTop,
        entered: Callable[[float], None],
    ) -> None:
        self.state = state
        self.config = config
        self.grace_ns = int(config.unknown_grace * 1e9)
        self.age_ns = int(config.max_age.balance * 1e9)
        self.each = False  # whether venues have an equity of their own
        self.now_ns = self.wall_ns = 0
        self._worths = worths
        self._arm = worths.arm
        self._dirty = dirty
        self._on_top_at = on_top_at
        self._entered = entered
        worths.attach(state.balances)
        for venue in state.venues.values():
            if venue.own is not None:
                worths.attach(venue.own)

    # -- queries ----------------------------------------------------------------------------------

    def settled(self) -> bool:
        """Return whether no venue is in the middle of a report."""
        return all(venue.unsettled_since_ns is None for venue in self.state.venues.values())

    def is_settled(self, name: str) -> bool:
        """Return whether a venue is not in the middle of a report."""
        venue = self.state.venues.get(name)
        return venue is None or venue.unsettled_since_ns is None

    def stale_report(self, name: str, venue: Venue) -> Unknown | None:
        """Return why a venue's balances are unknown; None while its last report is fresh."""
        if self.now_ns - venue.at_ns <= self.age_ns:
            return None
        seconds = self.config.max_age.balance
        return Unknown(f"{name} has not reported its balances for {seconds:g} s")

    def missing(self) -> Iterator[Unknown]:
        """Yield each report that equity lacks."""
        state, required = self.state, self.config.venues
        for name in required:
            if name not in state.venues:
                yield Unknown(
                    f"{name} has not reported its balances: report them (portfolio.venues)"
                )
        if not required and not state.complete and self._may_be_partial():
            yield Unknown(
                "other venues may not have reported yet: set portfolio.venues, "
                "or wait for portfolio.unknown_grace"
            )
        for name, venue in state.venues.items():
            stale = self.stale_report(name, venue)
            if stale is not None:
                yield stale

    def _may_be_partial(self) -> bool:
        first_ns = self.state.first_balance_ns
        if first_ns is None:
            return True
        only_reference = all(
            asset == self.config.reference
            for venue in self.state.venues.values()
            for asset in venue.assets
        )
        return not only_reference and self.now_ns - first_ns < self.grace_ns

    # -- reports ----------------------------------------------------------------------------------

    def on_balance(self, event: ev.Balance, wall_ns: int) -> None:
        """Apply one balance of a venue; it is settled when its reports pause."""
        venue = self._venue(event.venue)
        if venue.unsettled_since_ns is None:
            venue.unsettled_since_ns = self.now_ns
        venue.awaited.pop(event.asset, None)
        latest_ns = venue.unsettled_since_ns + SETTLE_LATEST_NS
        quiet_ns = latest_ns if venue.awaited else self.now_ns + SETTLE_QUIET_NS
        venue.settle_ns = min(quiet_ns, latest_ns)
        self._arm(timer_key(Timer.SETTLE, event.venue), venue.settle_ns)
        self._set_balance(venue, event.asset, event.free, event.locked, wall_ns)
        self._reported(event.venue, venue)

    def on_balances(self, event: ev.Balances, wall_ns: int) -> Iterator[int]:
        """Apply all balances of a venue, which settles it; yield the work of each piece."""
        venue = self._venue(event.venue)
        unread = set(event.unread)
        for asset in [a for a in venue.assets if a not in event.assets and a not in unread]:
            self._set_balance(venue, asset, 0.0, 0.0, wall_ns)
            yield 1
        zeros = 0
        for asset, balance in event.assets.items():
            if not (balance.free or balance.locked or asset in venue.assets):
                zeros += 1
                if zeros % ZEROS_OF_ONE == 0:
                    yield 1
                continue
            self._set_balance(venue, asset, balance.free, balance.locked, wall_ns)
            yield 1
        venue.all_wall_ns = wall_ns
        venue.gone_wall_ns.clear()
        self._reported(event.venue, venue)
        yield from self._settle(venue)

    def on_spot_fill(self, name: str, what: Instrument) -> None:
        """Await both balances that a spot fill moves: one without the other is not settled."""
        venue = self.state.venues.get(name)
        if venue is None:
            return
        venue.awaited[what.base] = venue.awaited[what.quote] = True
        until_ns = self.now_ns + SETTLE_LATEST_NS
        if venue.awaited_until_ns != until_ns:
            venue.awaited_until_ns = until_ns
            self._arm(timer_key(Timer.AWAITED, name), until_ns)

    def move(self, name: str, asset: str, amount: float, wall_ns: int) -> bool:
        """Add a flow that is later than the balance to it; return whether it was."""
        venue = self.state.venues[name]
        held = venue.assets.get(asset)
        gone_wall_ns = max(venue.gone_wall_ns.get(asset, 0), venue.all_wall_ns)
        if (gone_wall_ns if held is None else held.wall_ns) >= wall_ns:
            return False
        if held is None:
            self._set_balance(venue, asset, amount, 0.0, gone_wall_ns)
        else:
            self._set_balance(venue, asset, held.free + amount, held.locked, held.wall_ns)
        self.touch(name)
        return True

    def on_timer(self, what: Timer, name: str) -> Iterator[int]:
        """Apply a timer: a venue paused, or its report expired; yield the work of each piece."""
        venue = self.state.venues[name]
        # A timer keeps the earliest time that it was armed for; a later report moved the due time.
        if what is Timer.SETTLE and venue.unsettled_since_ns is not None:
            due_ns = venue.settle_ns
        elif what is Timer.AWAITED and venue.awaited:
            due_ns = venue.awaited_until_ns
        else:
            due_ns = venue.at_ns + self.age_ns + 1
        self.touch(name)
        if self.now_ns < due_ns:
            self._arm(timer_key(what, name), due_ns)
        elif what is Timer.SETTLE:
            yield from self._settle(venue)
        elif what is Timer.AWAITED:
            venue.awaited.clear()

    def _venue(self, name: str) -> Venue:
        venue = self.state.venues.get(name)
        if venue is None:
            venue = self.state.venues[name] = Venue(counted=not self.state.complete)
            if self.each:
                self._begin_own(name, venue)
        return venue

    def _set_balance(
        self, venue: Venue, asset: str, free: float, locked: float, wall_ns: int
    ) -> None:
        held = venue.assets.get(asset)
        before = held.free + held.locked if held is not None else 0.0
        if free == 0 and locked == 0:
            venue.assets.pop(asset, None)
            venue.gone_wall_ns[asset] = wall_ns
        elif held is None:
            venue.assets[asset] = VenueAsset(free, locked, wall_ns)
        else:
            held.free, held.locked, held.wall_ns = free, locked, wall_ns
        change = free + locked - before
        if not change or asset in self.config.ignore:
            return
        if venue.own is not None:
            self._worths.credit(venue.own, asset, change)
        if venue.counted:
            self._count(asset, change)

    def _count(self, asset: str, amount: float) -> None:
        """Add to the account's balances; start or end the grace of an asset without a price."""
        state = self.state
        self._worths.credit(state.balances, asset, amount)
        if asset not in state.balances.missing:
            state.unpriced_since_ns.pop(asset, None)
        elif asset not in state.unpriced_since_ns and asset not in state.left_out:
            state.unpriced_since_ns[asset] = self.now_ns
            self._arm(timer_key(Timer.UNPRICED, asset), self.now_ns + self.grace_ns)

    def _reported(self, name: str, venue: Venue) -> None:
        venue.at_ns = self.now_ns
        self._arm(timer_key(Timer.STALE, name), self.now_ns + self.age_ns + 1)
        if self.state.first_balance_ns is None:
            self.state.first_balance_ns = self.now_ns
            self._arm(timer_key(Timer.KNOWN), self.now_ns + self.grace_ns)
        self._dirty[EQUITY] = True
        self.touch(name)

    def _settle(self, venue: Venue) -> Iterator[int]:
        venue.unsettled_since_ns = None
        venue.awaited.clear()
        self._dirty[EQUITY] = True
        if not venue.counted:
            yield from self._enter(venue)

    def _enter(self, venue: Venue) -> Iterator[int]:
        venue.counted = True
        venue.entered_wall_ns = self.wall_ns
        state = self.state
        value = Sum()
        for asset, held in venue.assets.items():
            if asset in self.config.ignore:
                continue
            self._worths.of(asset)  # a flow is valued at the present worth of its assets
            before = state.balances.value.value
            self._count(asset, held.free + held.locked)
            value.add(state.balances.value.value - before)
            if asset in state.balances.missing and not self._worths.prices.was_priced(asset):
                state.left_out[asset] = True  # it enters as a flow too, when it gets a price
            yield 1
        self._entered(value.value)

    # -- assets without a price -------------------------------------------------------------------

    def leave_out(self, asset: str) -> None:
        """Leave out an asset whose grace ended without a price."""
        waited = self.state.unpriced_since_ns.pop(asset, None) is not None
        if waited and not self._worths.prices.was_priced(asset):
            self.state.left_out[asset] = True
            for name in self.state.venues:
                self.touch(name)

    def enter_left_out(self, asset: str, worth: float | None) -> float | None:
        """Count an asset that was left out and now has a price; return its value, else None."""
        self.state.unpriced_since_ns.pop(asset, None)
        if worth is None or not self.state.left_out.pop(asset, False):
            return None
        return self.state.balances.amount(asset) * worth

    # -- equity of each venue ---------------------------------------------------------------------

    def follow(self, *, each: bool) -> list[str]:
        """Start or stop an equity of each venue; return the venues whose own was dropped."""
        self.each, dropped = each, []
        for name, venue in self.state.venues.items():
            if each and venue.own is None:
                self._begin_own(name, venue)
            elif not each and venue.own is not None:
                self._worths.detach(venue.own)
                venue.own, venue.flows = None, Sum()
                dropped.append(name)
        return dropped

    def _begin_own(self, name: str, venue: Venue) -> None:
        venue.own = Ledger()
        for asset, held in venue.assets.items():
            if asset not in self.config.ignore:
                self._worths.credit(venue.own, asset, held.free + held.locked)
        for asset, unrealised in self._on_top_at(name):
            self._worths.credit(venue.own, asset, unrealised)
        self.touch(name)

    def credit(self, name: str, asset: str, amount: float) -> None:
        """Add a change of the unrealised P&L on top of a venue's balances."""
        venue = self.state.venues.get(name)
        if venue is not None and venue.own is not None:
            self._worths.credit(venue.own, asset, amount)
            self.touch(name)

    def revalue(self, asset: str, entering_at: float | None) -> None:
        """Mark venues with a repriced asset; ``entering_at``: its worth, if it was left out."""
        for name, venue in self.state.venues.items() if self.each else ():
            if venue.own is not None and asset in venue.own.amounts:
                self.touch(name)
                if entering_at is not None:
                    venue.flows.add(venue.own.amount(asset) * entering_at)

    def touch(self, name: str) -> None:
        """Mark the equity of a venue as changed."""
        if self.each:
            self._dirty[venue_equity_topic(name)] = True
