"""The account's book: events change facts, one pass derives the rest.

:meth:`Portfolio.deriving` is the pass. In a fixed order, and each only for what changed since the
last one: prices give rates, rates and fills positions, reports and known effects the settled
holdings, these equity and units, equity its history, and positions and holdings the exposure. No
part calls back into another; what one stage changed is the input of the next.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace

from riskmon.core import events as ev
from riskmon.core.book.account import Account, Changed, ratio_lost
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.effects import Amount, Arm, Stamp
from riskmon.core.book.exposing import Exposing
from riskmon.core.book.exposure import Exposures
from riskmon.core.book.flows import Transfer
from riskmon.core.book.holdings import Holdings, Settled
from riskmon.core.book.instruments import instrument
from riskmon.core.book.marking import Marking
from riskmon.core.book.notices import Notices
from riskmon.core.book.positions import Outcome, Positions, Row
from riskmon.core.book.prices import Prices
from riskmon.core.book.rates import Rates
from riskmon.core.book.realised import Close
from riskmon.core.book.state import PortfolioState
from riskmon.core.book.waiting import Flow
from riskmon.core.clock import Clock
from riskmon.core.scopes import Scope
from riskmon.core.timers import Timer, TimerHandler, TimerKey, timer_key
from riskmon.core.topics import (
    EQUITY,
    EXPOSURE,
    Topic,
    asset_topic,
    strategy_topic,
    symbol_topic,
    venue_equity_topic,
)
from riskmon.core.unknown import Unknown

LATE_NS = 10 * 10**9  # a sample that is reported later is no evidence of the present


class Portfolio:
    """The account's balances, positions, flows and equity under a configuration."""

    def __init__(
        self,
        state: PortfolioState,
        config: PortfolioConfig,
        clock: Clock,
        arm: Arm,
        *,
        symbols: Sequence[str] = (),
    ) -> None:
        """Derive the book of ``state``; ``symbols`` are those that the limits' overrides name."""
        self.state = state
        self.config = config
        self.reference = config.reference
        self.dirty: dict[Topic, bool] = {}  # topics that changed; the engine empties it
        self._closes: list[Close] = []
        self._compared: list[ev.Position] = []  # spot positions, since the last pass
        self._marked: dict[str, None] = {}  # symbols with a new price or fill, since the last pass
        self._clock, self._arm, self._symbols = clock, arm, symbols
        self._undated = Stamp(clock.instant.now_ns, dated=False)
        self.prices = Prices(state.prices, config)
        self.rates = Rates(self.prices, config)
        self.positions = Positions(state.positions, config, self.prices)
        self.positions.spot_symbols.set_everywhere(symbols)
        self.holdings = Holdings(state.holdings, int(config.unknown_grace * 1e9))
        self.notices = Notices(state.differences, clock)
        self.marking = Marking(self.positions, self.prices, self.rates, 0.0)
        self.account = Account(
            state=state,
            config=config,
            clock=clock,
            arm=arm,
            rates=self.rates,
            positions=self.positions,
            marking=self.marking,
            holdings=self.holdings,
            notices=self.notices,
        )
        self.exposures = Exposures(0.0)
        self.exposing = Exposing(
            config=config,
            prices=self.prices,
            rates=self.rates,
            positions=self.positions,
            marking=self.marking,
            holdings=self.holdings,
            valuation=self.account.valuation,
            exposures=self.exposures,
        )
        self._is_stale = True
        self._restore()
        self._assessed = self.account.assessed()

    def _restore(self) -> None:
        """Derive everything from the facts."""
        now_ns, wall_ns = self._clock.instant
        if wall_ns and not self.state.periods.begins:  # an earlier version stored none
            self.account.periods.move(now_ns, wall_ns)
        for _ in self.rates.refresh(now_ns):
            pass
        for _ in self.marking.valuing(now_ns):
            pass
        for _ in self.account.restoring():
            pass
        self.exposing.on_positions(self.marking.values)
        self.exposing.on_held(self.holdings.ledgers)
        self.exposing.on_transit(self.account.valuation.take_moved())
        for _ in self.exposing.deriving():
            pass
        self.exposing.take_symbols()
        self.exposing.take_assets()
        self._set_dust()
        self.holdings.changed.clear()
        self._arm_timers()
        self._is_stale = False

    def move_time(self) -> None:
        """Set the time that prices are judged by; begin the trading day and week that it is in."""
        self.rates.now_ns = self._clock.instant.now_ns
        self._undated = Stamp(self.rates.now_ns, dated=False)
        if self.account.periods.move(*self._clock.instant):
            self.dirty[EQUITY] = self._is_stale = True

    # -- events: facts ----------------------------------------------------------------------------

    def _stamp(self, event: ev.Reported) -> Stamp:
        """When an event happened, in engine time."""
        if event.at is None:
            return self._undated
        now_ns, wall_ns = self._clock.instant
        return Stamp(now_ns - max(0, wall_ns - ev.datetime_ns(event.at)), dated=True)

    def keep_fresh(self, venue: str) -> None:
        """Record an event that names a venue: its balances stay fresh."""
        if self.account.presence.keep_fresh(venue):
            self.dirty[venue_equity_topic(venue)] = self._is_stale = True

    def on_price(self, event: ev.Price) -> None:
        """Record a price of a symbol."""
        if self.prices.on_price(
            event.symbol, event.venue or "", event.price, self._stamp(event).at_ns
        ):
            self._marked[event.symbol] = None
            self._is_stale = True

    def on_fill(self, event: ev.Fill) -> None:
        """Apply a fill: to positions, to holdings, and as a price."""
        stamp = self._stamp(event)
        moved = self.positions.on_fill(event, event.leg or "", stamp)
        if moved:
            self.holdings.add(event.venue, moved, stamp)
        self.name(event.venue, event.symbol)
        self.keep_fresh(event.venue)
        if self.prices.on_fill(event.symbol, event.venue, event.price, stamp.at_ns) and not (
            self.rates.is_complete and self.prices.is_fresh(event.symbol, self.rates.now_ns)
        ):
            self._marked[event.symbol] = None
        self._is_stale = True

    def name(self, venue: str, symbol: str) -> None:
        """Record that a fill, an order or a check names a symbol at a venue."""
        if self.positions.spot_symbols.add(venue, symbol):
            self.exposing.on_named(venue, symbol)
            self._is_stale = True

    def on_position(self, event: ev.Position) -> None:
        """Apply a position that a venue reports."""
        self.keep_fresh(event.venue)
        self._is_stale = True
        if self._is_holding(event.venue, event.symbol):
            self._compared.append(event)
            return
        self.positions.on_report(event.venue, _row(event), self._stamp(event))

    def _is_holding(self, venue: str, symbol: str) -> bool:
        """Whether a position is a holding of its base asset."""
        is_spot = instrument(symbol, self.reference).kind == "spot"
        return is_spot and self.holdings.reports(venue)

    def _compare(self) -> None:
        """Compare the spot positions that venues reported with their holdings."""
        compared, self._compared = self._compared, []
        for event in compared:
            held = self.holdings.live(event.venue, instrument(event.symbol, self.reference).base)
            if abs(event.quantity - held) > 1e-9 * max(abs(event.quantity), abs(held)):
                self.notices.count(event.venue, "position")
                self.notices.add(
                    "difference",
                    f"{event.venue} reports a position of {event.quantity:.12g} {event.symbol} and "
                    f"balances of {held:.12g}",
                )

    def on_positions(self, event: ev.Positions) -> Iterator[int]:
        """Apply all contracts of a venue; yield the work of each piece."""
        self.keep_fresh(event.venue)
        self._is_stale = True
        rows = [_row(one) for one in event.positions]
        return self.positions.on_reports(event.venue, rows, self._stamp(event), event.unread)

    def on_balance(self, event: ev.Balance) -> None:
        """Apply one balance of a venue."""
        is_first = not self.holdings.reports(event.venue)
        self.keep_fresh(event.venue)
        amount, now_ns = Amount(event.free, event.locked), self._clock.instant.now_ns
        self.holdings.on_balance(event.venue, event.asset, amount, self._stamp(event), now_ns)
        self._on_balances(event.venue, is_first=is_first)

    def on_balances(self, event: ev.Balances) -> Iterator[int]:
        """Apply all balances of a venue; yield the work of each piece."""
        is_first = not self.holdings.reports(event.venue)
        self.keep_fresh(event.venue)
        amounts = {asset: Amount(one.free, one.locked) for asset, one in event.assets.items()}
        now_ns = self._clock.instant.now_ns
        yield from self.holdings.on_balances(
            event.venue, amounts, self._stamp(event), now_ns, event.unread
        )
        self._on_balances(event.venue, is_first=is_first)

    def _on_balances(self, venue: str, *, is_first: bool) -> None:
        self._is_stale = True
        if is_first:
            self.account.presence.on_first_balance(venue)
            # Its holdings count from now on, in place of its positions by fills.
            self.exposing.on_held([(venue, asset) for asset in self.holdings.assets(venue)])
            self.exposing.on_positions([k for k in self.marking.values if k.venue == venue])

    def on_cash_flow(self, event: ev.CashFlow) -> None:
        """Add a deposit or a withdrawal."""
        stamp = self._stamp(event)
        self.account.tell(
            Flow(
                id=event.id,
                venue=event.venue,
                asset=event.asset,
                amount=event.amount,
                told_ns=self._clock.instant.now_ns,
                at_ns=stamp.at_ns if stamp.dated else None,
            )
        )
        self._is_stale = True

    def on_transfer(self, event: ev.Transfer) -> None:
        """Add a transfer between two venues."""
        stamp = self._stamp(event)
        self.account.tell_transfer(
            Transfer(
                id=event.id,
                asset=event.asset,
                amount=event.amount,
                fee=event.fee,
                source=event.from_venue,
                destination=event.to_venue,
                told_ns=self._clock.instant.now_ns,
                at_ns=stamp.at_ns if stamp.dated else None,
            )
        )
        self._is_stale = True

    def on_pnl(self, event: ev.Pnl) -> None:
        """Add P&L that was realised elsewhere."""
        self.positions.on_pnl(event.strategy or "", event.amount)
        self._is_stale = True

    def timer_handlers(self) -> dict[Timer, TimerHandler]:
        """What is done when a timer of the book is due."""
        return dict.fromkeys(
            (
                Timer.PRICE,
                Timer.MARK,
                Timer.SETTLE,
                Timer.STALE,
                Timer.UNPRICED,
                Timer.FLOW,
                Timer.KNOWN,
            ),
            self._on_timer,
        )

    def _on_timer(self, key: TimerKey) -> None:
        """Apply a timer of the book: the next pass derives what it changes."""
        self._is_stale = True
        if key.kind is Timer.PRICE:
            self.rates.on_timer(key.name)
        elif key.kind is Timer.MARK:
            self.marking.on_timer(key.name)
            self.exposing.on_price(key.name)
        elif key.kind is Timer.SETTLE:
            self.holdings.on_timer(key.name)
        elif key.kind is Timer.STALE:
            self.account.presence.watch(key.name)
            self.dirty[venue_equity_topic(key.name)] = True
        elif key.kind is Timer.UNPRICED:
            self.account.awaited.on_timer(key.name)
        elif key.kind is Timer.FLOW:
            self.account.on_flow_timer()
        elif key.kind is Timer.KNOWN:
            self.account.presence.on_known_timer()

    # -- the pass ---------------------------------------------------------------------------------

    @property
    def is_stale(self) -> bool:
        """Whether :meth:`deriving` may change anything."""
        return self._is_stale

    def refresh(self) -> None:
        """Derive what changed."""
        if self._is_stale:
            for _ in self.deriving():
                pass

    def deriving(self) -> Iterator[int]:
        """Derive what changed since the last pass; yield the work of each piece."""
        self._is_stale = False
        now_ns = self._clock.instant.now_ns
        marked, self._marked = self._marked, {}
        for symbol in marked:
            self.rates.on_price(symbol)
            self.marking.on_price(symbol)
            self.exposing.on_price(symbol)
        repriced = yield from self.rates.refresh(now_ns)
        for change in self.rates.take_peg_changes():
            where = "is back at" if change.holds else "is not at"
            self.notices.add(
                "peg",
                f"{change.asset} {where} its peg of {change.peg:.12g}: its price is "
                f"{change.price:.12g} {self.reference}",
            )
        if repriced:
            self.positions.realised.on_rates(repriced)
            self.marking.on_rates(repriced)
        outcomes = yield from self.positions.resolving(now_ns)
        first = list(self._apply_outcomes(outcomes)) if outcomes else []
        yield from self.positions.realised.valuing(self.rates, now_ns)
        self._closes += self.positions.realised.take_closes()
        revalued = yield from self.marking.valuing(now_ns)
        settled = (yield from self._settling(now_ns)) if self.holdings.is_stale else []
        if self._compared:
            self._compare()
        held, self.holdings.changed = self.holdings.changed, {}
        realised = self.positions.realised.take_venues()
        yield from self.account.deriving(
            Changed(
                repriced,
                revalued.keys,
                revalued.strategies,
                realised,
                list(held),
                settled,
                first,
            )
        )
        self.exposing.on_rates(repriced)
        self.exposing.on_rates(self.account.awaited.take_left_out())
        self.exposing.on_positions(revalued.keys)
        self.exposing.on_held(held)
        self.exposing.on_transit(self.account.valuation.take_moved())
        yield from self.exposing.deriving()
        self._set_dust()
        self._mark_topics(revalued.strategies)
        self._arm_timers()

    def _settling(self, now_ns: int) -> Generator[int, None, list[Settled]]:
        """Decide what the reported balances contain, and settle the venues that are due.

        Yield the work of each piece; return the venues that settled.
        """
        flows = self.account.flows.told
        yield from self.holdings.resolving(flows)
        settled: list[Settled] = []
        for piece in self.holdings.settling(now_ns, self._waits(), flows):
            if isinstance(piece, int):
                yield piece
            else:
                settled.append(piece)
        self.account.explain(self.holdings.take_explained())
        return settled

    def _apply_outcomes(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """Apply what position reports changed; yield those whose P&L enters as a flow."""
        for outcome in outcomes:
            key = outcome.key
            is_new = outcome.first and self.account.presence.is_new(key.venue)
            if is_new or outcome.is_unvalued:
                yield outcome
            elif outcome.amounts:
                self.holdings.add(key.venue, outcome.amounts, outcome.stamp)
            if outcome.difference:
                self.notices.count(key.venue, "position")
                self.notices.add(
                    "difference",
                    f"{key.venue} reports {outcome.difference:+.12g} {key.symbol} more than its "
                    "fills explain",
                )

    def _waits(self) -> dict[str, dict[str, float]]:
        """By venue the settle assets of open contracts, with what counts as dust of them."""
        waits: dict[str, dict[str, float]] = {}
        for venue in self.holdings.unsettled:
            if venue in self.config.unrealised_included:
                continue
            for settle in self.positions.settle_assets(venue):
                rate = self.rates.of(settle)
                if rate:
                    waits.setdefault(venue, {})[settle] = self.account.equity.dust / rate
        return waits

    def _set_dust(self) -> None:
        dust = self.account.equity.dust
        if dust != self.marking.dust:
            self.marking.dust = dust
            self.exposures.set_dust(dust)

    def _mark_topics(self, strategies: Iterable[str]) -> None:
        dirty, before = self.dirty, self._assessed
        self._assessed = self.account.assessed()
        if self._assessed != before:
            dirty[EQUITY] = True
        # In an order that a restore does not change: breakers are evaluated in it.
        for symbol in self.exposing.take_symbols():
            dirty[symbol_topic(symbol)] = dirty[EXPOSURE] = True
        for asset in self.exposing.take_assets():
            dirty[asset_topic(asset)] = True
        for venue in self.account.valuation.values.take_changed():
            dirty[venue_equity_topic(venue)] = True
        for strategy in sorted(strategies):
            dirty[strategy_topic(strategy)] = True

    def _arm_timers(self) -> None:
        for asset, due_ns in self.rates.take_timers():
            self._arm(timer_key(Timer.PRICE, asset), due_ns)
        for symbol, due_ns in self.marking.take_timers():
            self._arm(timer_key(Timer.MARK, symbol), due_ns)
        for venue, due_ns in self.holdings.take_timers():
            self._arm(timer_key(Timer.SETTLE, venue), due_ns)

    def take_closes(self) -> list[Close]:
        """Return the closes of strategies since the last call, in order."""
        closes, self._closes = self._closes, []
        return closes

    def follow(self, kinds: Iterable[str]) -> None:
        """Keep a history of each scope of these kinds, for limits on losses."""
        self.account.follow(kinds)

    # -- queries ----------------------------------------------------------------------------------

    @property
    def settled_equity(self) -> float | Unknown:
        """The equity of the account."""
        return self.account.equity.value

    @property
    def awaits_first_equity(self) -> bool:
        """Whether the first balances are incomplete: limits on equity are not armed yet."""
        return self.account.awaits_first

    def venue_equity(self, venue: str) -> float | Unknown:
        """Return the settled equity of a venue."""
        return self.account.venue_equity(venue)

    def venue_share(self) -> float | Unknown:
        """Return the largest share of equity at one venue."""
        equity = self.settled_equity
        if isinstance(equity, Unknown):
            return equity
        if not self.account.equity.state.reported:
            return Unknown("no venue has reported its balances: report them")
        largest = self.account.valuation.largest()
        if isinstance(largest, Unknown):
            return largest
        return largest / equity if equity > 0 else 0.0

    def loss(self) -> float:
        """Return 1 - unit value, of the last known equity."""
        return ratio_lost(self.account.equity.unit_value)

    def drawdown(self) -> float:
        """Return 1 - unit value / its peak, of the last known equity."""
        return self.account.drawdown()

    def fall(self, scope: Scope, period: str, *, trailing: bool) -> float | Unknown:
        """Return by how much P&L fell in a period: below 0 if it rose."""
        return self.account.fall(scope, period, trailing=trailing)

    def next_change_ns(self, scope: Scope, period: str) -> int | None:
        """Return when (engine time) the fall in a period changes without an event."""
        return self.account.curves.next_change_ns(scope, period)

    def pnl_realised(self) -> float:
        """Return the realised P&L, less fees."""
        return self.positions.realised.total(self.rates)

    def pnl_unrealised(self) -> float:
        """Return the unrealised P&L of all positions, including spot, as far as it is known."""
        return self.marking.unrealised.value

    def mark(self, symbol: str, venue: str) -> float | Unknown:
        """Return the fresh mark of a symbol at a venue."""
        now_ns = self._clock.instant.now_ns
        quote = self.prices.mark(symbol, venue, now_ns)
        return self.prices.no_mark(symbol, venue) if quote is None else quote.price

    def rate(self, asset: str) -> float | Unknown:
        """Return the price of one unit of an asset in the reference."""
        rate = self.rates.of(asset)
        return self.rates.no_rate(asset) if rate is None else rate

    def held(self, venue: str, symbol: str, leg: ev.Leg | None = None) -> float:
        """Return the signed position at a venue, in base units or contracts."""
        if self._is_holding(venue, symbol):
            return self.holdings.live(venue, instrument(symbol, self.reference).base)
        return self.positions.held(venue, symbol, leg or "")

    def position_symbol(self, venue: str, symbol: str) -> str:
        """Return the symbol whose position an order in ``symbol`` moves."""
        what = instrument(symbol, self.reference)
        if what.kind != "spot" or not self.holdings.reports(venue):
            return symbol
        return self.positions.spot_symbols.of(venue, what.base)

    def unpriced(self) -> list[str]:
        """Return the assets that are held and have no price."""
        held = {asset for (_, asset), one in self.holdings.ledgers.items() if one.live}
        known = {self.reference, *self.config.ignore}
        return sorted(asset for asset in held - known if self.rates.of(asset) is None)

    def contract_size(self, venue: str, symbol: str) -> float | Unknown:
        """Return the size of one contract of a symbol, 1 of a spot symbol."""
        size = self.positions.size_of(venue, symbol)
        if size is None:
            return Unknown(f"{symbol} has no contract size: report a position with contract_size")
        return size

    def enter_difference(self, before: Portfolio) -> None:
        """Apply the change of equity that a new configuration causes as a flow.

        The change that another peg causes is P&L, except that of an asset's first price. Amounts in
        different references are not compared.
        """
        self.holdings.changed.update(dict.fromkeys(self.holdings.ledgers))
        # The history of a venue that begins with this configuration begins at the present equity.
        values = self.account.valuation.values
        values.changed.update(dict.fromkeys(values.venues))
        self._is_stale = True
        if before.reference != self.reference:
            return
        middle = self
        if before.config.pegs != self.config.pegs:
            first = {
                asset: peg
                for asset, peg in self.config.pegs.items()
                if asset in before.config.ignore or not before.rates.was_priced(asset)
            }
            pegged = replace(self.config, pegs={**first, **before.config.pegs})
            middle = Portfolio(self.state, pegged, self._clock, self._arm, symbols=self._symbols)
        self.account.enter_difference(before.account, middle.account)

    def rebase(self) -> None:
        """Make the present equity the capital, the peak and the start of each period."""
        self.account.rebase()
        self._is_stale = self.dirty[EQUITY] = True


def _row(event: ev.Position | ev.VenuePosition) -> Row:
    return Row(
        event.symbol, event.quantity, event.entry_price, event.contract_size, event.leg or ""
    )
