"""Equity, units and drawdown of the account, derived from the parts of the book.

All money is in the reference currency unless a name says otherwise. Formulas and units:

* equity = sum over assets of (free + locked) x price + unrealised P&L of contract positions (left
  out for a venue whose balance holds it already); before any balance was reported, initial capital
  + realised + unrealised P&L + cash flows;
* unit value = equity / units. Units begin as the initial capital, so the first unit value is 1,
  and a flow of value f adds f / (unit value before it): deposits and withdrawals move no ratio;
* portfolio loss = 1 - unit value; drawdown = 1 - unit value / its peak;
* notional of a symbol = |sum over venues of quantity x contract size x mark| (inverse contracts:
  quantity x contract size, which is an amount of the quote currency).

Limits evaluate *settled* equity only: a buy moves two balances, and between the two reports the
balances add up to less than the account has. Sums are compensated (:mod:`riskmon.core.book.money`),
and every event changes only what depends on it: the value of each ledger is kept, not computed
again. What depends on prices and fills is derived once for an instant:
:meth:`Portfolio.refreshing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.curves import Curves
from riskmon.core.book.instruments import instrument
from riskmon.core.book.positions import Positions, no_mark
from riskmon.core.book.prices import Prices
from riskmon.core.book.state import PortfolioState
from riskmon.core.book.tracks import Best, Point, Tracks
from riskmon.core.book.venues import Venue, Venues
from riskmon.core.book.worths import EARLY_MAX, Arm, Worths
from riskmon.core.timers import Timer, TimerHandler, TimerKey
from riskmon.core.topics import EQUITY, Topic
from riskmon.core.unknown import Unknown

_UNLIMITED = 1 << 62
LATE_NS = 10 * 10**9  # a price or fill that is reported later is no evidence of the present


class Portfolio:
    """The account's balances, positions and P&L under a configuration."""

    def __init__(self, state: PortfolioState, config: PortfolioConfig, arm: Arm) -> None:
        self.state = state
        self.config = config
        self.reference = config.reference
        self.dirty: dict[Topic, bool] = {}  # topics that changed; the engine empties it
        self.prices = Prices(state.prices, config)
        self.worths = Worths(state.worth, self.prices, arm, config.dust, self._on_worth)
        self.worths.attach(state.flows)
        self.positions = Positions(
            state.positions, config, self.worths, self.dirty, self._credit_venue
        )
        self.venues = Venues(
            state.venues,
            config,
            self.worths,
            self.dirty,
            on_top_at=self.positions.on_top_at,
            entered=self.add_units,
        )
        self.exposures = self.positions.exposures
        self.tracks = Tracks(state.tracks, config.timezone, config.day_start)
        self.curves = Curves(state, self.prices, self.positions, self.venues, self.tracks)
        self.enters = False  # whether an asset that was left out may have a price now
        self._entering = 0.0  # value of the assets that were left out and have a price now
        self.at(0, 0)
        self._take_capital()

    def at(self, now_ns: int, wall_ns: int) -> None:
        """Set the current time."""
        self.worths.early_left = EARLY_MAX
        self.now_ns = self.worths.now_ns = self.positions.now_ns = now_ns
        self.venues.now_ns = self.curves.now_ns = now_ns
        self.wall_ns = self.venues.wall_ns = self.curves.wall_ns = wall_ns

    def refresh(self) -> None:
        """Derive what depends on the prices and fills of this instant."""
        if self.is_stale:
            for _ in self.refreshing():
                pass

    def refreshing(self) -> Iterator[int]:
        """As :meth:`refresh`, in pieces; yield the work of each."""
        self.worths.early_left = _UNLIMITED
        return self._refreshing()

    def refreshing_within(self) -> Iterator[int]:
        """As :meth:`refreshing`, before the instant ends; does nothing past ``EARLY_MAX``.

        A flow, and an asset that gets its first price, enter at the unit value before them; past
        ``EARLY_MAX`` at the one that was derived last.
        """
        self.enters = False
        if self.worths.early_left > 0:
            yield from self._refreshing()

    def _refreshing(self) -> Iterator[int]:
        while True:
            yield from self._deriving()
            if not self._entering:
                return
            self.add_units(0.0)

    @property
    def is_stale(self) -> bool:
        """Whether :meth:`refreshing` would change anything."""
        return bool(
            self.worths.stale or self.worths.spread or self.positions.stale or self._entering
        )

    def _deriving(self) -> Iterator[int]:
        worths, positions = self.worths, self.positions
        while worths.stale or worths.spread or positions.stale:
            self.expand()
            if worths.stale:
                yield from worths.refreshing()
            if positions.stale:
                yield from positions.refreshing()

    def expand(self) -> None:
        """Mark the assets that are priced through one with a new price."""
        if self.worths.spread and self.worths.expand():
            self.dirty[EQUITY] = True

    def _take_capital(self) -> None:
        state, configured = self.state, self.config.initial_capital
        if configured is None or configured == state.configured_capital:
            return
        if state.units is None or state.capital is None:
            state.units = configured
        else:
            state.units *= configured / state.capital
            if not state.venues.venues:  # equity starts from the capital: this is no profit
                state.tracks.entered.add(configured - state.capital)
        state.capital = state.configured_capital = configured

    # -- queries ----------------------------------------------------------------------------------

    @property
    def settled_equity(self) -> float | Unknown:
        """The last settled equity."""
        return self.state.settled_equity

    def loss(self) -> float:
        """Return 1 - unit value, of settled equity."""
        return _ratio_lost(self.state.settled_unit_value)

    def drawdown(self) -> float:
        """Return 1 - unit value / peak, of settled equity."""
        return _ratio_lost(self.state.settled_unit_value / self.state.peak.value)

    def pnl_realised(self) -> float:
        """Return the realised P&L, less fees."""
        return self.state.positions.realised.value.value

    def pnl_unrealised(self) -> float:
        """Return the unrealised P&L of all positions, including spot."""
        positions = self.state.positions
        return positions.unrealised.value.value + positions.unrealised_within.value.value

    def unpriced(self) -> list[str]:
        """Return the assets with a balance and without a price."""
        return sorted(self.state.venues.balances.missing)

    def left_out(self) -> Iterator[tuple[str, float]]:
        """Yield each asset that equity leaves out, and how much of it is held."""
        for asset in self.state.venues.left_out:
            yield asset, self.state.venues.balances.amount(asset)

    def strategies(self) -> Iterable[str]:
        """Return the names of the strategies that have traded."""
        return self.state.positions.strategies

    def strategy_pnl(self, name: str) -> float | Unknown:
        """Return the P&L of a strategy, realised and unrealised."""
        return self.curves.strategy_pnl(name)

    def order_notional(self, order: ev.Check) -> float | Unknown:
        """Return an order's notional at its own price, in the reference."""
        what = instrument(order.symbol, self.reference)
        size = self.positions.size_of(order.venue, order.symbol)
        if size is None:
            return Unknown(
                f"{order.symbol} has no contract size: report a position with contract_size"
            )
        worth = self.worths.peek(what.quote)
        if worth is None:
            return Unknown(
                f"{what.quote} has no price: report a price of {what.quote}/{self.reference}"
            )
        price = 1.0 if what.kind == "inverse" else order.price
        return order.quantity * size * price * worth

    def rebase(self) -> None:
        """Make the current settled equity the new capital and peak."""
        state = self.state
        if isinstance(state.settled, float) and state.settled > 0:
            state.in_capital += state.settled - (state.capital or 0.0)
            state.capital = state.units = state.settled
            state.peak, state.settled_unit_value = Best(1.0), 1.0
            state.capital_wall_ns = self.wall_ns
            self.tracks.restart("account")
        self.dirty[EQUITY] = True  # without settled equity, a tripped limit trips again

    def follow(self, used: set[tuple[str, str]]) -> None:
        """Start and stop what limits use, by (kind of scope, period)."""
        for name in self.venues.follow(each=any(kind == "venue" for kind, _ in used)):
            self.state.tracks.points.pop("venue:" + name, None)

    def refollow(self, used: set[tuple[str, str]]) -> None:
        """After a reload: price all assets again and drop what no limit uses."""
        self.worths.stale.update(dict.fromkeys(self.worths.worth, True))
        self.curves.retain(used)

    # -- prices -----------------------------------------------------------------------------------

    def on_price(self, event: ev.Price) -> None:
        """Record a price: of a symbol at its venue, and of its base asset."""
        self._record_price(event, event.venue or "")
        self.positions.on_price(event.symbol)

    def _record_price(self, event: ev.Price | ev.Fill, venue: str) -> None:
        symbol, at_ns = event.symbol, self.now_ns
        if event.at is not None:
            age_ns = self._age_ns(event)
            at_ns -= age_ns
            if age_ns > LATE_NS and self.prices.has_later_mark(symbol, venue, at_ns):
                return  # reported late, after a later price
        enters = self._may_price_left_out(symbol)
        base = self.prices.record(symbol, venue, event.price, at_ns)
        if base is not None and self.worths.on_price(base):
            self.dirty[EQUITY] = True
        if enters:  # as a flow, at the unit value before it: the engine derives at once
            self.positions.on_price(symbol)
            self.enters = True

    def _age_ns(self, event: ev.Reported) -> int:
        """Return how long ago an event happened."""
        return max(0, self.wall_ns - self._wall_of(event))

    def _may_price_left_out(self, symbol: str) -> bool:
        left_out = self.state.venues.left_out
        if not left_out:
            return False
        base = instrument(symbol, self.reference).base
        return base in left_out or base in self.prices.through

    def _credit_venue(self, name: str, asset: str, amount: float) -> None:
        self.venues.credit(name, asset, amount)

    def _on_worth(self, asset: str, worth: float | None) -> None:
        """Update what depends on an asset, after its worth changed in the ledgers."""
        entering = self.venues.enter_left_out(asset, worth)
        if entering is not None:
            self._entering += entering
        self.venues.revalue(asset, None if entering is None else worth)
        self.positions.on_worth(asset)
        self.dirty[EQUITY] = True

    # -- balances ---------------------------------------------------------------------------------

    def on_balance(self, event: ev.Balance) -> None:
        """Apply one balance of a venue."""
        self.venues.on_balance(event, self._wall_of(event))

    def on_balances(self, event: ev.Balances) -> Iterator[int]:
        """Apply all balances of a venue; yield the work of each piece."""
        return self.venues.on_balances(event, self._wall_of(event))

    def _wall_of(self, event: ev.Reported) -> int:
        return self.wall_ns if event.at is None else ev.datetime_ns(event.at)

    # -- flows ------------------------------------------------------------------------------------

    def on_cash_flow(self, event: ev.CashFlow) -> None:
        """Apply a deposit or withdrawal: it changes equity and no ratio."""
        amount = event.amount
        self.worths.credit(self.state.flows, event.asset, amount)
        worth = self.worths.of(event.asset)
        fresh = worth is not None
        if worth is None:
            worth = self.prices.last(event.asset)  # expired, and better than none
        venue = self.state.venues.venues.get(event.venue)
        self.dirty[EQUITY] = True
        if event.asset in self.config.ignore:
            return
        wall_ns = self._wall_of(event)
        held = venue is not None and not self.venues.move(event.venue, event.asset, amount, wall_ns)
        if venue is not None and worth is not None:
            venue.flows.add(amount * worth)
            self.venues.touch(event.venue)
            if held:
                self.tracks.correct("venue:" + event.venue, amount * worth, wall_ns)
        if self.state.venues.complete and (venue is None or not venue.counted):
            return  # it enters with its venue
        if held and venue is not None and wall_ns < self._begun_wall_ns(venue):
            return  # the first equity includes it
        if worth is not None:
            self.add_units(amount * worth, counted=fresh)
            if held:
                self._take_back(amount * worth, wall_ns)
        elif venue is not None:  # it never had a price: it enters when it has one
            self.state.venues.left_out[event.asset] = True

    def _begun_wall_ns(self, venue: Venue) -> int:
        """Return since when a venue's balances change by flows and P&L alone."""
        return max(self.state.capital_wall_ns, venue.entered_wall_ns)

    def _take_back(self, flow: float, wall_ns: int) -> None:
        """Correct for a flow reported after a balance that includes it: it counted as P&L."""
        self.tracks.correct("account", flow, wall_ns)
        if flow > 0:
            self.state.peak.take_back(wall_ns)  # a profit since then raises it again at once

    def add_units(self, flow: float, *, counted: bool = True) -> None:
        """Add units for a flow at the unit value before it; ``counted``: equity includes it.

        The assets that were left out and have a price now enter with it.
        """
        if self.worths.early_left > 0:
            for _ in self._deriving():
                pass
        if self._entering and not counted:
            self.add_units(0.0)
        flow, self._entering = flow + self._entering, 0.0
        state = self.state
        state.tracks.entered.add(flow)
        if state.units is None or not (state.venues.complete or not state.venues.venues):
            if state.units is not None:
                state.units += flow
            return
        unit_value = state.settled_unit_value
        if counted and isinstance(state.settled, float) and self.venues.settled():
            before = (self._equity() - flow) / state.units
            unit_value = before if before > 0 else unit_value
        if unit_value > 0:
            state.units = max(state.units + flow / unit_value, 1e-9)

    # -- fills and positions ----------------------------------------------------------------------

    def on_fill(self, event: ev.Fill) -> None:
        """Apply a fill: to the position, and as a price."""
        what = instrument(event.symbol, self.reference)
        self.positions.on_fill(event, what)
        if what.kind == "spot" and not (event.at is not None and self._age_ns(event) > LATE_NS):
            self.venues.on_spot_fill(event.venue, what)
        self._record_price(event, event.venue)

    def on_position(self, event: ev.Position) -> None:
        """Replace a position by the one that the venue reports."""
        self.positions.on_position(event, self._wall_of(event))

    def on_pnl(self, event: ev.Pnl) -> None:
        """Add P&L that was realised elsewhere."""
        self.positions.on_pnl(event)
        self.dirty[EQUITY] = True

    # -- time -------------------------------------------------------------------------------------

    def timer_handlers(self) -> dict[Timer, TimerHandler]:
        """What is done when a timer of the book is due."""
        return dict.fromkeys(
            (
                Timer.PRICE,
                Timer.MARK,
                Timer.SETTLE,
                Timer.AWAITED,
                Timer.STALE,
                Timer.UNPRICED,
                Timer.KNOWN,
            ),
            self._on_timer,
        )

    def _on_timer(self, key: TimerKey) -> Iterator[int]:
        """Apply a timer: a value expired, or a venue paused; yield the work of each piece."""
        kind, name, _ = key
        if kind is Timer.PRICE:
            self.worths.on_timer(name)
        elif kind is Timer.MARK:
            self.positions.on_timer(name)
        elif kind is Timer.UNPRICED:
            self.venues.leave_out(name)
        elif kind is not Timer.KNOWN:
            yield from self.venues.on_timer(kind, name)
        self.dirty[EQUITY] = True

    # -- equity -----------------------------------------------------------------------------------

    def _equity(self) -> float:
        """Return the sum, settled and complete or not."""
        state = self.state
        if not state.venues.venues:
            return (
                (state.capital or 0.0)
                - state.in_capital
                + state.positions.realised.value.value
                + self.pnl_unrealised()
                + state.flows.value.value
            )
        return state.venues.balances.value.value + state.positions.unrealised.value.value

    def assess(self) -> bool:
        """Derive equity, if it is settled: store it, or why it is unknown.

        Return False while a venue is in the middle of a report: the last equity stands.
        """
        state = self.state
        if not self.venues.settled():
            return False
        missing = next(iter(self._missing()), None)
        if missing is not None:
            state.settled = missing.reason
            return True
        equity = self._equity()
        if state.venues.venues and not state.venues.complete:
            state.venues.complete = True
            self._change_over(equity)
        if state.units is None:
            if equity <= 0:
                state.settled = (
                    f"equity is {equity:g}, which cannot be the capital that losses are measured "
                    "by: set portfolio.initial_capital"
                )
                return True
            state.units = state.capital = equity
            state.capital_wall_ns = self.wall_ns
        state.settled = equity
        state.settled_unit_value = equity / state.units
        state.peak.raise_to(state.settled_unit_value, self.wall_ns)
        point = Point(equity - state.tracks.entered.value, self.now_ns, self.wall_ns)
        state.tracks.points["account"] = point
        self.tracks.observe("account", "day", point, self.wall_ns)
        return True

    def _change_over(self, equity: float) -> None:
        """Start deriving equity from balances: the difference to before is no P&L."""
        before = self.state.tracks.points.get("account")
        if before is not None:
            entered = self.state.tracks.entered
            entered.add(equity - entered.value - before.value)

    def _missing(self) -> Iterator[Unknown]:
        """Yield each fact that equity lacks."""
        state, positions = self.state, self.state.positions
        ledgers = [state.venues.balances, positions.unrealised]
        if not state.venues.venues and not self.config.venues:
            if state.capital is None:
                yield Unknown("no balance was reported and portfolio.initial_capital is not set")
            ledgers = [
                positions.realised,
                positions.unrealised,
                positions.unrealised_within,
                state.flows,
            ]
        else:
            yield from self.venues.missing()
        for ledger in ledgers:
            for asset in ledger.missing:
                if asset not in state.venues.left_out:
                    yield self.prices.no_price(asset)
        for position in self.positions.unmarked(contracts_only=bool(state.venues.venues)):
            yield no_mark(position)


def _ratio_lost(left: float) -> float:
    # 1 - 0.95 is a little more than 0.05 in binary: a loss of just the bound is not over it.
    return max(0.0, round(1.0 - left, 12))
