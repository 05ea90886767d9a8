"""From balances, prices, fills and cash flows to equity, exposure and P&L.

All money is in the reference currency unless a name says otherwise. Formulas and units:

* equity = sum over assets of (free + locked) x price + unrealised P&L of contract positions (left
  out for a venue whose balance holds it already); before any balance was reported, initial capital
  + realised + unrealised P&L + cash flows;
* unit value = equity / units. Units begin as the initial capital, so the first unit value is 1,
  and a flow of value f adds f / (unit value before it): deposits and withdrawals move no ratio;
* portfolio loss = 1 - unit value; drawdown = 1 - unit value / its peak;
* notional of a symbol = |sum over venues of quantity x contract size x mark| (inverse contracts:
  quantity x contract size, which is an amount of the quote currency).

Only *settled* equity is judged: a buy moves two balances, and between the two reports the account
looks poorer than it is. ``judged`` is the last settled equity, or in words why there is none.
Sums are compensated (:mod:`riskmon.core.money`), and every event touches only what depends on it:
the value of each ledger is kept, not computed again. What prices and fills move is counted once for
all of an instant: :meth:`Portfolio.refresh`.

Positions have a room of their own (:mod:`riskmon.core.positions`), as have the worth of assets
(:mod:`riskmon.core.worths`) and the P&L of a period (:mod:`riskmon.core.curves`).
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, field

from riskmon.core import events as ev
from riskmon.core.config import PortfolioConfig
from riskmon.core.curves import Curves
from riskmon.core.instruments import Instrument, instrument
from riskmon.core.ledger import Ledger
from riskmon.core.money import Sum
from riskmon.core.positions import Positions, PositionsState, no_mark
from riskmon.core.prices import Prices, PriceState
from riskmon.core.tracks import Best, Point, Tracks, TracksState
from riskmon.core.worths import Arm, Worths

LATE_NS = 10 * 10**9  # a price or fill that is told later says little of now
SETTLE_QUIET_NS = 10**9  # after the last `balance` …
SETTLE_LATEST_NS = 5 * 10**9  # … but at most so long after the first


class Holding(Struct):
    """Free and locked of one asset, and when the venue said so."""

    free: float
    locked: float
    wall_ns: int


class Venue(Struct):
    """What a venue reported."""

    assets: dict[str, Holding] = field(default_factory=dict)
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


class PortfolioState(Struct):
    """Everything a portfolio remembers."""

    prices: PriceState = field(default_factory=PriceState)
    worth: dict[str, float] = field(default_factory=dict)  # asset -> price in the reference
    venues: dict[str, Venue] = field(default_factory=dict)
    first_balance_ns: int | None = None
    complete: bool = False  # every venue has reported once
    balances: Ledger = field(default_factory=Ledger)
    flows: Ledger = field(default_factory=Ledger)
    book: PositionsState = field(default_factory=PositionsState)
    unpriced_since_ns: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, bool] = field(default_factory=dict)
    capital: float | None = None
    capital_wall_ns: int = 0  # when equity became the capital, if it did
    in_capital: float = 0.0  # P&L and flows that a rebase made part of the capital
    configured_capital: float | None = None
    units: float | None = None
    peak: Best = field(default_factory=lambda: Best(1.0))  # of the unit value
    judged: float | str = "nothing was reported yet"
    judged_unit_value: float = 1.0
    tracks: TracksState = field(default_factory=TracksState)


class Portfolio:
    """The account's holdings, positions and P&L under a configuration."""

    def __init__(self, state: PortfolioState, config: PortfolioConfig, arm: Arm) -> None:
        self.state = state
        self.config = config
        self.reference = config.reference
        self.arm = arm
        self.dirty: dict[str, bool] = {}  # topics that changed; the engine empties it
        self.grace_ns = int(config.unknown_grace * 1e9)
        self.balance_age_ns = int(config.max_age.balance * 1e9)
        self.prices = Prices(state.prices, config)
        self.worths = Worths(state.worth, self.prices, arm, self._is_dust, self._on_worth)
        self.worths.hold(state.balances)
        self.worths.hold(state.flows)
        self.positions = Positions(state.book, config, self.worths, self.dirty, self._credit_venue)
        self.exposures = self.positions.exposures
        self.tracks = Tracks(state.tracks, config.timezone, config.day_start)
        self.curves = Curves(self)
        self.by_venue = False  # whether venues have an equity of their own
        for venue in state.venues.values():
            if venue.own is not None:
                self.worths.hold(venue.own)
        self.at(0, 0)
        self._take_capital()

    def at(self, now_ns: int, wall_ns: int) -> None:
        """Let it be so late."""
        self.now_ns = self.worths.now_ns = self.positions.now_ns = now_ns
        self.wall_ns = wall_ns

    def refresh(self) -> None:
        """Bring up to date what prices and fills moved."""
        while self.worths.stale or self.positions.stale:
            self.worths.refresh()
            self.positions.refresh()

    def _take_capital(self) -> None:
        state, configured = self.state, self.config.initial_capital
        if configured is None or configured == state.configured_capital:
            return
        if state.units is None or state.capital is None:
            state.units = configured
        else:
            state.units *= configured / state.capital
            if not state.venues:  # equity is counted from the capital: that is no profit
                state.tracks.entered.add(configured - state.capital)
        state.capital = state.configured_capital = configured

    # -- what is asked ----------------------------------------------------------------------------

    @property
    def judged(self) -> float | str:
        """The last settled equity, or why it is unknown."""
        return self.state.judged

    def unit_value(self) -> float:
        """Unit value at the last settled equity; the first one is 1."""
        return self.state.judged_unit_value

    def drawdown(self) -> float:
        """1 - unit value / peak, of settled equity."""
        return max(0.0, 1.0 - self.state.judged_unit_value / self.state.peak.value)

    def settled(self) -> bool:
        """Whether no venue is in the middle of reporting."""
        return all(venue.unsettled_since_ns is None for venue in self.state.venues.values())

    def pnl_realised(self) -> float:
        """Realised P&L, less fees."""
        return self.state.book.realised.value.value

    def pnl_unrealised(self) -> float:
        """Unrealised P&L of all positions, spot ones too."""
        book = self.state.book
        return book.unrealised.value.value + book.unrealised_within.value.value

    def unpriced(self) -> list[str]:
        """Assets that are held and have no price."""
        return sorted(self.state.balances.missing)

    def order_notional(self, order: ev.Check) -> float | str:
        """An order's notional at its own price, in the reference, or why it cannot be told."""
        what = instrument(order.symbol, self.reference)
        size = self.positions.size_of(order.venue, order.symbol)
        if size is None:
            return f"{order.symbol} has no contract size: report a position with contract_size"
        worth = self.worths.asked(what.quote)
        if worth is None:
            return f"{what.quote} has no price: report a price of {what.quote}/{self.reference}"
        price = 1.0 if what.kind == "inverse" else order.price
        return order.quantity * size * price * worth

    def rebase(self) -> None:
        """Make the current settled equity the new capital and peak."""
        state = self.state
        if isinstance(state.judged, float) and state.judged > 0:
            state.in_capital += state.judged - (state.capital or 0.0)
            state.capital = state.units = state.judged
            state.peak, state.judged_unit_value = Best(1.0), 1.0
            state.capital_wall_ns = self.wall_ns
            self.tracks.restart("account")
        self.dirty["equity"] = True  # if there was nothing to begin from, what tripped trips again

    # -- what the curves of venues need -----------------------------------------------------------

    def is_settled(self, name: str) -> bool:
        """Whether a venue is not in the middle of reporting."""
        venue = self.state.venues.get(name)
        return venue is None or venue.unsettled_since_ns is None

    def is_silent(self, venue: Venue) -> bool:
        """Whether a venue's last report is too old to say what it holds."""
        return self.now_ns - venue.at_ns > self.balance_age_ns

    def follow(self, wanted: set[tuple[str, str]]) -> None:
        """Keep what the limits over (kind of scope, period) need."""
        self.by_venue = any(kind == "venue" for kind, _ in wanted)
        for name, venue in self.state.venues.items():
            if self.by_venue and venue.own is None:
                self._begin_own(name, venue)
            elif not self.by_venue and venue.own is not None:
                self.worths.drop(venue.own)
                venue.own, venue.flows = None, Sum()
                self.state.tracks.points.pop("venue:" + name, None)

    def refollow(self, wanted: set[tuple[str, str]]) -> None:
        """After a reload: price everything anew, drop what is not asked for."""
        self.worths.stale.update(dict.fromkeys(self.worths.worth, True))
        self.curves.keep(wanted)

    def _begin_own(self, name: str, venue: Venue) -> None:
        venue.own = Ledger()
        for asset, holding in venue.assets.items():
            if asset not in self.config.ignore:
                self.worths.credit(venue.own, asset, holding.free + holding.locked)
        for asset, unrealised in self.positions.on_top_at(name):
            self.worths.credit(venue.own, asset, unrealised)
        self.dirty["venue_equity:" + name] = True

    # -- worths -----------------------------------------------------------------------------------

    def on_price(self, event: ev.Price) -> None:
        """A price: of a symbol at its venue, and of its base asset."""
        self._hear(event, event.venue or "")
        self.positions.on_price(event.symbol)

    def _hear(self, event: ev.Price | ev.Fill, venue: str) -> None:
        symbol, at_ns = event.symbol, self.now_ns
        if event.at is not None:
            age_ns = self._age_ns(event)
            at_ns -= age_ns
            if age_ns > LATE_NS and self.prices.is_known_since(symbol, venue, at_ns):
                return  # told late, and a later price is known
        enters = self.state.left_out and self._may_price_left_out(symbol)
        if enters:  # as a flow, at the unit value of before
            self.refresh()
        base = self.prices.hear(symbol, venue, event.price, at_ns)  # type: ignore[arg-type]
        if base is not None and self.worths.hear(base):
            self.dirty["equity"] = True
        if enters:
            self.refresh()

    def _age_ns(self, event: ev.Reported) -> int:
        """How long ago it happened."""
        return max(0, self.wall_ns - self._wall_of(event))

    def _may_price_left_out(self, symbol: str) -> bool:
        base = instrument(symbol, self.reference).base
        return base in self.state.left_out or base in self.prices.through

    def _on_worth(self, asset: str, worth: float | None) -> None:
        """The ledgers hold an asset at a new worth: so does all else that follows from it."""
        entering = self._entering(asset, worth)
        if entering is not None:
            self._add_units(entering)
        if self.by_venue:
            self._revalue_venues(asset, None if entering is None else worth)
        self.positions.on_worth(asset)
        self.dirty["equity"] = True

    def _revalue_venues(self, asset: str, entering_at: float | None) -> None:
        for name, venue in self.state.venues.items():
            if venue.own is not None and asset in venue.own.amounts:
                self.dirty["venue_equity:" + name] = True
                if entering_at is not None:
                    venue.flows.add(venue.own.amount(asset) * entering_at)

    def _is_dust(self, asset: str) -> bool:
        held = abs(self.state.balances.amount(asset)) * self.state.worth.get(asset, 0.0)
        return held < self.config.dust

    def _entering(self, asset: str, worth: float | None) -> float | None:
        """The value of an asset that was left out for want of a price and now has one."""
        self.state.unpriced_since_ns.pop(asset, None)
        if worth is None or not self.state.left_out.pop(asset, False):
            return None
        return self.state.balances.amount(asset) * worth

    def _credit_venue(self, name: str, asset: str, amount: float) -> None:
        venue = self.state.venues.get(name)
        if venue is not None and venue.own is not None:
            self.worths.credit(venue.own, asset, amount)
            self.dirty["venue_equity:" + name] = True

    # -- balances ---------------------------------------------------------------------------------

    def on_balance(self, event: ev.Balance) -> None:
        """One asset of a venue; settled when the venue pauses."""
        venue = self._venue(event.venue)
        if venue.unsettled_since_ns is None:
            venue.unsettled_since_ns = self.now_ns
        venue.awaited.pop(event.asset, None)
        latest_ns = venue.unsettled_since_ns + SETTLE_LATEST_NS
        quiet_ns = latest_ns if venue.awaited else self.now_ns + SETTLE_QUIET_NS
        venue.settle_ns = min(quiet_ns, latest_ns)
        self.arm(("settle", event.venue, ""), venue.settle_ns)
        self._hold(venue, event.asset, event.free, event.locked, self._wall_of(event))  # type: ignore[arg-type]
        self._reported(event.venue, venue)

    def on_balances(self, event: ev.Balances) -> None:
        """All assets of a venue: settled at once."""
        venue = self._venue(event.venue)
        wall_ns = self._wall_of(event)
        for asset in [a for a in venue.assets if a not in event.assets]:
            self._hold(venue, asset, 0.0, 0.0, wall_ns)
        for asset, holding in event.assets.items():
            self._hold(venue, asset, holding.free, holding.locked, wall_ns)  # type: ignore[arg-type]
        venue.all_wall_ns = wall_ns
        venue.gone_wall_ns.clear()
        self._reported(event.venue, venue)
        self._settle(venue)

    def _wall_of(self, event: ev.Reported) -> int:
        return self.wall_ns if event.at is None else ev.datetime_ns(event.at)

    def _venue(self, name: str) -> Venue:
        venue = self.state.venues.get(name)
        if venue is None:
            # One that comes in later enters as a cash flow, once it is settled.
            venue = self.state.venues[name] = Venue(counted=not self.state.complete)
            if self.by_venue:
                self._begin_own(name, venue)
        return venue

    def _hold(self, venue: Venue, asset: str, free: float, locked: float, wall_ns: int) -> None:
        held = venue.assets.get(asset)
        before = held.free + held.locked if held is not None else 0.0
        if free == 0 and locked == 0:
            venue.assets.pop(asset, None)
            venue.gone_wall_ns[asset] = wall_ns
        elif held is None:
            venue.assets[asset] = Holding(free, locked, wall_ns)
        else:
            held.free, held.locked, held.wall_ns = free, locked, wall_ns
        change = free + locked - before
        if venue.own is not None and change and asset not in self.config.ignore:
            self.worths.credit(venue.own, asset, change)
        if venue.counted and change and asset not in self.config.ignore:
            self.worths.credit(self.state.balances, asset, change)
            self._notice_price(asset)

    def _notice_price(self, asset: str) -> None:
        """Begin, or end, to wait for the price of an asset that is held."""
        state = self.state
        if asset not in state.balances.missing:
            state.unpriced_since_ns.pop(asset, None)
        elif asset not in state.unpriced_since_ns and asset not in state.left_out:
            state.unpriced_since_ns[asset] = self.now_ns
            self.arm(("unpriced", asset, ""), self.now_ns + self.grace_ns)

    def _reported(self, name: str, venue: Venue) -> None:
        venue.at_ns = self.now_ns
        self.arm(("stale", name, ""), self.now_ns + self.balance_age_ns + 1)
        if self.state.first_balance_ns is None:
            self.state.first_balance_ns = self.now_ns
            self.arm(("complete", "", ""), self.now_ns + self.grace_ns)
        self.dirty["equity"] = True
        if self.by_venue:
            self.dirty["venue_equity:" + name] = True

    def _settle(self, venue: Venue) -> None:
        venue.unsettled_since_ns = None
        venue.awaited.clear()
        self.dirty["equity"] = True
        if venue.counted:
            return
        self.refresh()
        venue.counted = True
        venue.entered_wall_ns = self.wall_ns
        before = self._equity()
        for asset, holding in venue.assets.items():
            if asset not in self.config.ignore:
                self.worths.credit(self.state.balances, asset, holding.free + holding.locked)
                self._notice_price(asset)
                if asset in self.state.balances.missing and not self.prices.ever(asset):
                    self.state.left_out[asset] = True  # a flow too, when it gets a price
        self._add_units(self._equity() - before)

    # -- flows ------------------------------------------------------------------------------------

    def on_cash_flow(self, event: ev.CashFlow) -> None:
        """A deposit or withdrawal: equity moves, no ratio does."""
        self.refresh()
        amount: float = event.amount  # type: ignore[assignment]
        self.worths.credit(self.state.flows, event.asset, amount)
        worth = self.worths.of(event.asset)
        venue = self.state.venues.get(event.venue)
        self.dirty["equity"] = True
        if event.asset in self.config.ignore:
            return
        held = venue is not None and not self._move_balance(venue, event, amount)
        if venue is not None and worth is not None:
            venue.flows.add(amount * worth)
            if held:
                self.tracks.correct("venue:" + event.venue, amount * worth, self._wall_of(event))
        if self.state.complete and (venue is None or not venue.counted):
            return  # it enters with its venue
        if held and venue is not None and self._wall_of(event) < self._begun_wall_ns(venue):
            return  # it was in what began
        if worth is None:
            worth = self.prices.last(event.asset)  # old, and better than none
        if worth is not None:
            self._add_units(amount * worth)
            if held:
                self._take_back(amount * worth, self._wall_of(event))
        elif venue is not None:  # its value was never known: it enters when it is
            self.state.left_out[event.asset] = True

    def _begun_wall_ns(self, venue: Venue) -> int:
        """From when on what a venue's balances hold came in by flows and P&L alone."""
        return max(self.state.capital_wall_ns, venue.entered_wall_ns)

    def _take_back(self, flow: float, wall_ns: int) -> None:
        """A flow is reported after a balance that held it: it looked like P&L until now."""
        self.tracks.correct("account", flow, wall_ns)
        if flow > 0:
            self.state.peak.take_back(wall_ns)  # what was earned since raises it again at once

    def _move_balance(self, venue: Venue, event: ev.CashFlow, amount: float) -> bool:
        """A flow that the venue's balance does not hold yet moves it at once; else False."""
        wall_ns = self._wall_of(event)
        held = venue.assets.get(event.asset)
        gone_wall_ns = max(venue.gone_wall_ns.get(event.asset, 0), venue.all_wall_ns)
        if (gone_wall_ns if held is None else held.wall_ns) >= wall_ns:
            return False
        if held is None:
            self._hold(venue, event.asset, amount, 0.0, gone_wall_ns)
        else:
            self._hold(venue, event.asset, held.free + amount, held.locked, held.wall_ns)
        if self.by_venue:
            self.dirty["venue_equity:" + event.venue] = True
        return True

    def _add_units(self, flow: float) -> None:
        """Units for a flow that equity holds already, at the unit value before it."""
        state = self.state
        state.tracks.entered.add(flow)
        if state.units is None or not (state.complete or not state.venues):
            if state.units is not None:
                state.units += flow
            return
        unit_value = state.judged_unit_value
        if isinstance(state.judged, float) and self.settled():
            before = (self._equity() - flow) / state.units
            unit_value = before if before > 0 else unit_value
        if unit_value > 0:
            state.units = max(state.units + flow / unit_value, 1e-9)

    # -- fills and positions ----------------------------------------------------------------------

    def on_fill(self, event: ev.Fill) -> None:
        """A fill: a move of the position, and a price."""
        what = instrument(event.symbol, self.reference)
        self.positions.on_fill(event, what)
        if what.kind == "spot" and not (event.at is not None and self._age_ns(event) > LATE_NS):
            self._await_balances(event, what)
        self._hear(event, event.venue)

    def _await_balances(self, event: ev.Fill, what: Instrument) -> None:
        """A spot fill moves two balances; one without the other is not settled."""
        venue = self.state.venues.get(event.venue)
        if venue is None:
            return
        venue.awaited[what.base] = venue.awaited[what.quote] = True
        until_ns = self.now_ns + SETTLE_LATEST_NS
        if venue.awaited_until_ns != until_ns:
            venue.awaited_until_ns = until_ns
            self.arm(("awaited", event.venue, ""), until_ns)

    def on_position(self, event: ev.Position) -> None:
        """The venue's word on a position."""
        self.positions.on_position(event, self._wall_of(event))

    def on_pnl(self, event: ev.Pnl) -> None:
        """P&L realised elsewhere."""
        self.positions.on_pnl(event)
        self.dirty["equity"] = True

    # -- time -------------------------------------------------------------------------------------

    def on_timer(self, what: str, name: str) -> None:
        """Something grew old, or a venue paused."""
        state = self.state
        if what == "price":
            self.worths.on_timer(name)
        elif what == "mark":
            self.positions.on_timer(name)
        elif what in ("settle", "awaited", "stale"):
            self._on_venue_timer(what, name, state.venues[name])
        elif what == "unpriced" and name in state.unpriced_since_ns:
            del state.unpriced_since_ns[name]
            if not self.prices.ever(name):
                state.left_out[name] = True
        self.dirty["equity"] = True

    def _on_venue_timer(self, what: str, name: str, venue: Venue) -> None:
        # A timer is armed at the earliest time it was asked for: look whether it is due by now.
        if what == "settle" and venue.unsettled_since_ns is not None:
            due_ns = venue.settle_ns
        elif what == "awaited" and venue.awaited:
            due_ns = venue.awaited_until_ns
        else:
            due_ns = venue.at_ns + self.balance_age_ns + 1
        if self.by_venue:
            self.dirty["venue_equity:" + name] = True
        if self.now_ns < due_ns:
            self.arm((what, name, ""), due_ns)
        elif what == "settle":
            self._settle(venue)
        elif what == "awaited":
            venue.awaited.clear()

    # -- judging ----------------------------------------------------------------------------------

    def _equity(self) -> float:
        """The sum, whether or not it is settled and whole."""
        state = self.state
        if not state.venues:
            return (
                (state.capital or 0.0)
                - state.in_capital
                + state.book.realised.value.value
                + self.pnl_unrealised()
                + state.flows.value.value
            )
        return state.balances.value.value + state.book.unrealised.value.value

    def assess(self) -> bool:
        """Judge equity, if it is settled: remember it, or why it is unknown.

        False while a venue is in the middle of reporting: the last judgement stands.
        """
        state = self.state
        if not self.settled():
            return False
        missing = next(iter(self._missing()), None)
        if missing is not None:
            state.judged = missing
            return True
        equity = self._equity()
        if state.venues and not state.complete:
            state.complete = True
            self._change_over(equity)
        if state.units is None:
            if equity <= 0:
                state.judged = (
                    f"equity is {equity:g}, which cannot be the capital that losses are measured "
                    "by: set portfolio.initial_capital"
                )
                return True
            state.units = state.capital = equity
            state.capital_wall_ns = self.wall_ns
        state.judged = equity
        state.judged_unit_value = equity / state.units
        state.peak.raise_to(state.judged_unit_value, self.wall_ns)
        point = Point(equity - state.tracks.entered.value, self.now_ns, self.wall_ns)
        state.tracks.points["account"] = point
        self.tracks.show("account", "day", point, self.wall_ns)
        return True

    def _change_over(self, equity: float) -> None:
        """From here on equity comes from balances: the difference to before is no P&L."""
        before = self.state.tracks.points.get("account")
        if before is not None:
            entered = self.state.tracks.entered
            entered.add(equity - entered.value - before.value)

    def _missing(self) -> Iterable[str]:
        """What stands between here and a whole equity, in words, with the cure."""
        state, book = self.state, self.state.book
        ledgers = [state.balances, book.unrealised]
        if not state.venues and not self.config.venues:
            if state.capital is None:
                yield "no balance was reported and portfolio.initial_capital is not set"
            ledgers = [book.realised, book.unrealised, book.unrealised_within, state.flows]
        else:
            yield from self._silent_venues()
        for ledger in ledgers:
            for asset in ledger.missing:
                if asset not in state.left_out:
                    yield self.no_price(asset)
        for position in self.positions.unmarked(contracts_only=bool(state.venues)):
            yield no_mark(position)

    def no_price(self, asset: str) -> str:
        """What is missing of an asset, with the cure."""
        return (
            f"{asset} has no price: report a price of "
            f"{asset}/{self.reference}, or set portfolio.pegs or portfolio.ignore"
        )

    def _silent_venues(self) -> Iterable[str]:
        state, config = self.state, self.config
        for name in config.venues:
            if name not in state.venues:
                yield f"{name} has not reported its balances: report them (portfolio.venues)"
        if not config.venues and not state.complete and self._may_be_partial():
            yield (
                "other venues may not have reported yet: set portfolio.venues, "
                "or wait for portfolio.unknown_grace"
            )
        for name, venue in state.venues.items():
            if self.is_silent(venue):
                yield f"{name} has not reported its balances for {config.max_age.balance:g} s"

    def _may_be_partial(self) -> bool:
        state = self.state
        if state.first_balance_ns is None:
            return True
        only_reference = all(
            asset == self.reference for venue in state.venues.values() for asset in venue.assets
        )
        return not only_reference and self.now_ns - state.first_balance_ns < self.grace_ns
