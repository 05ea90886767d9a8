"""What each venue holds, by its own reports, and when a report is whole.

A buy moves two balances, and between the two reports the account looks poorer than it is: so a
venue is *settled* after ``balances``, or once its single ``balance`` events pause. A venue that
comes in after the first complete equity is counted once it is settled, and enters as a cash flow,
as does an asset that was left out for want of a price.
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
from riskmon.core.unknown import Unknown

NOTHING_HELD = 16  # assets of 0 that are as much work as one that is held
SETTLE_QUIET_NS = 10**9  # after the last `balance` …
SETTLE_LATEST_NS = 5 * 10**9  # … but at most so long after the first

OnTop = Callable[[str], Iterator[tuple[str, float]]]


class VenueAsset(Struct, gc=False):
    """Free and locked of one asset, and when the venue said so."""

    free: float
    locked: float
    wall_ns: int


class Venue(Struct):
    """What a venue reported."""

    assets: dict[str, VenueAsset] = field(default_factory=dict)
    at_ns: int = 0
    all_wall_ns: int = 0  # of the last `balances`: what it did not name was 0 then
    gone_wall_ns: dict[str, int] = field(default_factory=dict)  # asset -> when it was 0, since
    counted: bool = True  # its holdings are part of equity
    entered_wall_ns: int = 0  # when they became so as a flow, if they did
    unsettled_since_ns: int | None = None
    settle_ns: int = 0  # when it is settled, if nothing more comes
    awaited: dict[str, bool] = field(default_factory=dict)  # what a fill moved and nobody reported
    awaited_until_ns: int = 0
    own: Ledger | None = None  # balances and contracts here, while a limit asks for it
    flows: Sum = field(default_factory=Sum)  # here since `own`, at their value then


class VenuesState(Struct):
    """Everything that venues reported."""

    venues: dict[str, Venue] = field(default_factory=dict)
    first_balance_ns: int | None = None
    complete: bool = False  # every venue has reported once
    balances: Ledger = field(default_factory=Ledger)
    unpriced_since_ns: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, bool] = field(default_factory=dict)  # assets, for want of a price


class Venues:
    """The holdings of all venues.

    ``on_top_at`` gives the unrealised P&L that comes on top of a venue's balances; ``entered`` is
    told the value of a venue that begins to count.
    """

    def __init__(
        self,
        state: VenuesState,
        config: PortfolioConfig,
        worths: Worths,
        dirty: dict[str, bool],
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
        worths.hold(state.balances)
        for venue in state.venues.values():
            if venue.own is not None:
                worths.hold(venue.own)

    # -- what is asked ----------------------------------------------------------------------------

    def settled(self) -> bool:
        """Whether no venue is in the middle of reporting."""
        return all(venue.unsettled_since_ns is None for venue in self.state.venues.values())

    def is_settled(self, name: str) -> bool:
        """Whether a venue is not in the middle of reporting."""
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
        state, wanted = self.state, self.config.venues
        for name in wanted:
            if name not in state.venues:
                yield Unknown(
                    f"{name} has not reported its balances: report them (portfolio.venues)"
                )
        if not wanted and not state.complete and self._may_be_partial():
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
        """One asset of a venue; settled when the venue pauses."""
        venue = self._venue(event.venue)
        if venue.unsettled_since_ns is None:
            venue.unsettled_since_ns = self.now_ns
        venue.awaited.pop(event.asset, None)
        latest_ns = venue.unsettled_since_ns + SETTLE_LATEST_NS
        quiet_ns = latest_ns if venue.awaited else self.now_ns + SETTLE_QUIET_NS
        venue.settle_ns = min(quiet_ns, latest_ns)
        self._arm(("settle", event.venue, ""), venue.settle_ns)
        self._hold(venue, event.asset, event.free, event.locked, wall_ns)
        self._reported(event.venue, venue)

    def on_balances(self, event: ev.Balances, wall_ns: int) -> Iterator[int]:
        """All assets of a venue, one at a time: settled at once. Yields the work of each."""
        venue = self._venue(event.venue)
        for asset in [a for a in venue.assets if a not in event.assets]:
            self._hold(venue, asset, 0.0, 0.0, wall_ns)
            yield 1
        passed_over = 0
        for asset, holding in event.assets.items():
            if not (holding.free or holding.locked or asset in venue.assets):
                passed_over += 1
                if passed_over % NOTHING_HELD == 0:
                    yield 1
                continue
            self._hold(venue, asset, holding.free, holding.locked, wall_ns)
            yield 1
        venue.all_wall_ns = wall_ns
        venue.gone_wall_ns.clear()
        self._reported(event.venue, venue)
        yield from self._settle(venue)

    def on_spot_fill(self, name: str, what: Instrument) -> None:
        """A spot fill moves two balances; one without the other is not settled."""
        venue = self.state.venues.get(name)
        if venue is None:
            return
        venue.awaited[what.base] = venue.awaited[what.quote] = True
        until_ns = self.now_ns + SETTLE_LATEST_NS
        if venue.awaited_until_ns != until_ns:
            venue.awaited_until_ns = until_ns
            self._arm(("awaited", name, ""), until_ns)

    def move(self, name: str, asset: str, amount: float, wall_ns: int) -> bool:
        """A flow that the venue's balance does not hold yet moves it at once; else False."""
        venue = self.state.venues[name]
        held = venue.assets.get(asset)
        gone_wall_ns = max(venue.gone_wall_ns.get(asset, 0), venue.all_wall_ns)
        if (gone_wall_ns if held is None else held.wall_ns) >= wall_ns:
            return False
        if held is None:
            self._hold(venue, asset, amount, 0.0, gone_wall_ns)
        else:
            self._hold(venue, asset, held.free + amount, held.locked, held.wall_ns)
        self.touch(name)
        return True

    def on_timer(self, what: str, name: str) -> Iterator[int]:
        """Apply a timer: a venue paused, or its last report is too old; yields the work."""
        venue = self.state.venues[name]
        # A timer is armed at the earliest time it was asked for: look whether it is due by now.
        if what == "settle" and venue.unsettled_since_ns is not None:
            due_ns = venue.settle_ns
        elif what == "awaited" and venue.awaited:
            due_ns = venue.awaited_until_ns
        else:
            due_ns = venue.at_ns + self.age_ns + 1
        self.touch(name)
        if self.now_ns < due_ns:
            self._arm((what, name, ""), due_ns)
        elif what == "settle":
            yield from self._settle(venue)
        elif what == "awaited":
            venue.awaited.clear()

    def _venue(self, name: str) -> Venue:
        venue = self.state.venues.get(name)
        if venue is None:
            venue = self.state.venues[name] = Venue(counted=not self.state.complete)
            if self.each:
                self._begin_own(name, venue)
        return venue

    def _hold(self, venue: Venue, asset: str, free: float, locked: float, wall_ns: int) -> None:
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
        """Add to the account's balances; begin, or end, to wait for the asset's price."""
        state = self.state
        self._worths.credit(state.balances, asset, amount)
        if asset not in state.balances.missing:
            state.unpriced_since_ns.pop(asset, None)
        elif asset not in state.unpriced_since_ns and asset not in state.left_out:
            state.unpriced_since_ns[asset] = self.now_ns
            self._arm(("unpriced", asset, ""), self.now_ns + self.grace_ns)

    def _reported(self, name: str, venue: Venue) -> None:
        venue.at_ns = self.now_ns
        self._arm(("stale", name, ""), self.now_ns + self.age_ns + 1)
        if self.state.first_balance_ns is None:
            self.state.first_balance_ns = self.now_ns
            self._arm(("complete", "", ""), self.now_ns + self.grace_ns)
        self._dirty["equity"] = True
        self.touch(name)

    def _settle(self, venue: Venue) -> Iterator[int]:
        venue.unsettled_since_ns = None
        venue.awaited.clear()
        self._dirty["equity"] = True
        if not venue.counted:
            yield from self._enter(venue)

    def _enter(self, venue: Venue) -> Iterator[int]:
        venue.counted = True
        venue.entered_wall_ns = self.wall_ns
        state = self.state
        value = Sum()
        for asset, holding in venue.assets.items():
            if asset in self.config.ignore:
                continue
            self._worths.of(asset)  # a flow is worth what its assets are worth now
            before = state.balances.value.value
            self._count(asset, holding.free + holding.locked)
            value.add(state.balances.value.value - before)
            if asset in state.balances.missing and not self._worths.prices.ever(asset):
                state.left_out[asset] = True  # a flow too, when it gets a price
            yield 1
        self._entered(value.value)

    # -- assets without a price -------------------------------------------------------------------

    def leave_out(self, asset: str) -> None:
        """The grace of an asset that had no price is over."""
        waited = self.state.unpriced_since_ns.pop(asset, None) is not None
        if waited and not self._worths.prices.ever(asset):
            self.state.left_out[asset] = True
            for name in self.state.venues:
                self.touch(name)

    def let_in(self, asset: str, worth: float | None) -> float | None:
        """The value of an asset that was left out for want of a price and now has one."""
        self.state.unpriced_since_ns.pop(asset, None)
        if worth is None or not self.state.left_out.pop(asset, False):
            return None
        return self.state.balances.amount(asset) * worth

    # -- each venue by itself ---------------------------------------------------------------------

    def follow(self, *, each: bool) -> list[str]:
        """Keep an equity of each venue, or no longer; those whose own was dropped."""
        self.each, dropped = each, []
        for name, venue in self.state.venues.items():
            if each and venue.own is None:
                self._begin_own(name, venue)
            elif not each and venue.own is not None:
                self._worths.drop(venue.own)
                venue.own, venue.flows = None, Sum()
                dropped.append(name)
        return dropped

    def _begin_own(self, name: str, venue: Venue) -> None:
        venue.own = Ledger()
        for asset, holding in venue.assets.items():
            if asset not in self.config.ignore:
                self._worths.credit(venue.own, asset, holding.free + holding.locked)
        for asset, unrealised in self._on_top_at(name):
            self._worths.credit(venue.own, asset, unrealised)
        self.touch(name)

    def credit(self, name: str, asset: str, amount: float) -> None:
        """Unrealised P&L on top of a venue's balances changed."""
        venue = self.state.venues.get(name)
        if venue is not None and venue.own is not None:
            self._worths.credit(venue.own, asset, amount)
            self.touch(name)

    def revalue(self, asset: str, entering_at: float | None) -> None:
        """An asset is worth something else; ``entering_at``: it was left out until now."""
        for name, venue in self.state.venues.items() if self.each else ():
            if venue.own is not None and asset in venue.own.amounts:
                self.touch(name)
                if entering_at is not None:
                    venue.flows.add(venue.own.amount(asset) * entering_at)

    def touch(self, name: str) -> None:
        """What a venue holds, or is worth, changed."""
        if self.each:
            self._dirty["venue_equity:" + name] = True
