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
the value of each ledger is kept, not computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush

from msgspec import Struct, field

from riskmon.core import events as ev
from riskmon.core.config import PortfolioConfig
from riskmon.core.instruments import instrument
from riskmon.core.ledger import Ledger
from riskmon.core.money import Sum
from riskmon.core.positions import Close, Position
from riskmon.core.prices import Prices, PriceState
from riskmon.core.tracks import Best, Point, Tracks, TracksState

SETTLE_QUIET_NS = 10**9  # after the last `balance` …
SETTLE_LATEST_NS = 5 * 10**9  # … but at most so long after the first

Arm = Callable[[tuple[str, str, str], int], None]


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


class Exposure(Struct):
    """A symbol over all venues: net quantity, net signed notional (reference)."""

    quantity: Sum = field(default_factory=Sum)
    notional: Sum = field(default_factory=Sum)
    unpriced: int = 0  # positions whose notional cannot be told


class PortfolioState(Struct):
    """Everything a portfolio remembers."""

    prices: PriceState = field(default_factory=PriceState)
    worth: dict[str, float] = field(default_factory=dict)  # asset -> price in the reference
    venues: dict[str, Venue] = field(default_factory=dict)
    first_balance_ns: int | None = None
    complete: bool = False  # every venue has reported once
    balances: Ledger = field(default_factory=Ledger)
    unrealised: Ledger = field(default_factory=Ledger)  # of contracts, on top of the balances
    unrealised_within: Ledger = field(default_factory=Ledger)  # of spot, or in the balance already
    realised: Ledger = field(default_factory=Ledger)
    flows: Ledger = field(default_factory=Ledger)
    strategies: dict[str, Ledger] = field(default_factory=dict)  # realised + unrealised + pnl
    positions: dict[str, Position] = field(default_factory=dict)  # by venue|symbol|strategy
    unmarked: dict[str, bool] = field(default_factory=dict)  # account positions without a mark
    strategies_unmarked: dict[str, dict[str, bool]] = field(default_factory=dict)
    exposures: dict[str, Exposure] = field(default_factory=dict)
    gross_quantity: Sum = field(default_factory=Sum)
    gross_notional: Sum = field(default_factory=Sum)
    open_symbols: dict[str, bool] = field(default_factory=dict)  # with a position above dust
    unpriced_symbols: dict[str, bool] = field(default_factory=dict)  # whose notional is unknown
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
        self.grace_ns = int(config.unknown_grace * 1e9)
        self.prices = Prices(state.prices, config)
        self.tracks = Tracks(state.tracks, config.timezone, config.day_start)
        self.by_venue = False  # whether venues have an equity of their own
        self.closes: list[Close] = []  # of the latest event; the engine empties it
        self.arm = arm
        self.dirty: dict[str, bool] = {}  # topics that changed; the engine empties it
        self.now_ns = 0
        self.wall_ns = 0
        for asset, price in self.prices.fixed.items():
            state.worth[asset] = price
        self._index()
        self._take_capital()

    # -- indexes that follow from the state -------------------------------------------------------

    def _index(self) -> None:
        state = self.state
        self.holders: dict[str, list[Ledger]] = {}
        self.by_symbol: dict[str, list[str]] = {}
        self.by_quote: dict[str, dict[str, bool]] = {}
        for ledger in (
            state.balances,
            state.unrealised,
            state.unrealised_within,
            state.realised,
            state.flows,
            *state.strategies.values(),
            *(venue.own for venue in state.venues.values() if venue.own is not None),
        ):
            for asset in ledger.amounts:
                self.holders.setdefault(asset, []).append(ledger)
        for key, position in state.positions.items():
            self._index_position(key, position)
        # A heap of (-notional, symbol) with old entries in it, so that a tick costs no search.
        self._ranking = self._ranked()

    def _index_position(self, key: str, position: Position) -> None:
        self.by_symbol.setdefault(position.symbol, []).append(key)
        quote = instrument(position.symbol, self.reference).quote
        self.by_quote.setdefault(quote, {})[position.symbol] = True

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
        return self.state.realised.value.value

    def pnl_unrealised(self) -> float:
        """Unrealised P&L of all positions, spot ones too."""
        return self.state.unrealised.value.value + self.state.unrealised_within.value.value

    def unpriced(self) -> list[str]:
        """Assets that are held and have no price."""
        return sorted(self.state.balances.missing)

    def net_quantity(self, symbol: str) -> float:
        """The net position in a symbol over all venues, in base units or contracts."""
        exposure = self.state.exposures.get(symbol)
        return exposure.quantity.value if exposure is not None else 0.0

    def signed_notional(self, symbol: str) -> float:
        """The net notional of a symbol, as far as it is known."""
        exposure = self.state.exposures.get(symbol)
        return exposure.notional.value if exposure is not None else 0.0

    def net_notional(self, symbol: str) -> float | str:
        """|net notional| of a symbol, or why it cannot be told."""
        if symbol in self.state.unpriced_symbols:
            return _no_mark(symbol)
        return abs(self.signed_notional(symbol))

    def gross_notional(self) -> float | str:
        """The sum of |net notional| over all symbols, or why it cannot be told."""
        for symbol in self.state.unpriced_symbols:
            return _no_mark(symbol)
        return max(0.0, self.state.gross_notional.value)

    def largest_notional(self) -> float | str:
        """The largest |net notional| of a symbol, or why it cannot be told."""
        for symbol in self.state.unpriced_symbols:
            return _no_mark(symbol)
        ranking = self._ranking
        while ranking and -ranking[0][0] != abs(self.signed_notional(ranking[0][1])):
            heappop(ranking)
        return -ranking[0][0] if ranking else 0.0

    def order_notional(self, order: ev.Check) -> float | str:
        """An order's notional at its own price, in the reference, or why it cannot be told."""
        what = instrument(order.symbol, self.reference)
        size = self._size_of(order.venue, order.symbol)
        if size is None:
            return f"{order.symbol} has no contract size: report a position with contract_size"
        worth = self._worth_now(what.quote)
        if worth is None:
            return f"{what.quote} has no price: report a price of {what.quote}/{self.reference}"
        price = 1.0 if what.kind == "inverse" else order.price
        return order.quantity * size * price * worth

    def reduces(self, venue: str, symbol: str, side: ev.Side, quantity: float) -> bool:
        """Whether so much bought or sold can only lower the venue's position in a symbol."""
        position = self.state.positions.get(f"{venue}|{symbol}|")
        held = position.quantity if position is not None else 0.0
        against = held < 0 if side == "buy" else held > 0
        return against and quantity <= abs(held)

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

    # -- P&L of a period --------------------------------------------------------------------------

    def fall(self, scope: str, period: str, *, trailing: bool) -> float | str:
        """By how much P&L fell in a period, below 0 if it rose, or why that is unknown."""
        point = self._point(scope)
        if isinstance(point, str):
            return point
        return self.tracks.fall(scope, period, point, self.now_ns, self.wall_ns, trailing=trailing)

    def pnl_day(self) -> float | None:
        """The account's P&L of the trading day; None when it is unknown."""
        if isinstance(self.state.judged, str):
            return None
        return self.tracks.profit("account", "day", self.wall_ns)

    def _point(self, scope: str) -> Point | str:
        if scope == "account":
            judged = self.state.judged
            return judged if isinstance(judged, str) else self.state.tracks.points["account"]
        kind, _, name = scope.partition(":")
        return self._venue_point(name) if kind == "venue" else self._strategy_point(name)

    def _strategy_point(self, name: str) -> Point | str:
        book = self.state.strategies.get(name)
        if book is None:
            return Point(0.0, self.now_ns, self.wall_ns)
        for asset in book.missing:
            return self._no_price(asset)
        for key in self.state.strategies_unmarked.get(name, ()):
            return _position_unmarked(self.state.positions[key])
        return Point(book.value.value, self.now_ns, self.wall_ns)

    def _venue_point(self, name: str) -> Point | str:
        venue = self.state.venues.get(name)
        if venue is None or venue.own is None:
            return f"{name} has not reported its balances: report them"
        if self.now_ns - venue.at_ns > self.config.max_age.balance * 1e9:
            return f"{name} has not reported its balances for {self.config.max_age.balance:g} s"
        for asset in venue.own.missing:
            if asset not in self.state.left_out:
                return self._no_price(asset)
        for key in self.state.unmarked:
            position = self.state.positions[key]
            if position.venue == name and position.quantity and self._is_contract(position):
                return _position_unmarked(position)
        points = self.state.tracks.points
        if self.is_settled(name):
            value = venue.own.value.value - venue.flows.value
            points["venue:" + name] = Point(value, self.now_ns, self.wall_ns)
        return points.get("venue:" + name, f"{name} is still reporting its balances")

    def is_settled(self, name: str) -> bool:
        """Whether a venue is not in the middle of reporting."""
        venue = self.state.venues.get(name)
        return venue is None or venue.unsettled_since_ns is None

    def _is_contract(self, position: Position) -> bool:
        return instrument(position.symbol, self.reference).kind != "spot"

    def _no_price(self, asset: str) -> str:
        return (
            f"{asset} has no price: report a price of "
            f"{asset}/{self.reference}, or set portfolio.pegs or portfolio.ignore"
        )

    def follow(self, wanted: set[tuple[str, str]]) -> None:
        """Keep what the limits over (kind of scope, period) need."""
        self.by_venue = any(kind == "venue" for kind, _ in wanted)
        for name, venue in self.state.venues.items():
            if self.by_venue and venue.own is None:
                self._begin_own(name, venue)
            elif not self.by_venue and venue.own is not None:
                for asset in venue.own.amounts:
                    self.holders[asset] = [x for x in self.holders[asset] if x is not venue.own]
                venue.own, venue.flows = None, Sum()
                self.state.tracks.points.pop("venue:" + name, None)

    def refollow(self, wanted: set[tuple[str, str]]) -> None:
        """After a reload: drop what is not asked for; strategies are measured from here on."""
        self.tracks.keep(wanted | {("account", "day")})
        for kind, period in wanted if self.state.strategies else ():
            for name in self.state.strategies if kind == "strategy" else ():
                value = self.state.strategies[name].value.value
                point = Point(value, self.now_ns, self.wall_ns)
                self.tracks.begin("strategy:" + name, period, point, self.wall_ns)

    def _begin_own(self, name: str, venue: Venue) -> None:
        venue.own = Ledger()
        for asset, holding in venue.assets.items():
            if asset not in self.config.ignore:
                self._credit(venue.own, asset, holding.free + holding.locked)
        for position in self.state.positions.values():
            if position.venue == name and not position.strategy and position.unrealised:
                what = instrument(position.symbol, self.reference)
                if self._unrealised_ledger(position, what.kind) is self.state.unrealised:
                    self._credit(venue.own, what.settle, position.unrealised)
        self.dirty["venue_equity:" + name] = True

    # -- ledgers ----------------------------------------------------------------------------------

    def _credit(self, ledger: Ledger, asset: str, amount: float) -> None:
        if asset not in ledger.amounts:
            self.holders.setdefault(asset, []).append(ledger)
        ledger.add(asset, amount, self._worth(asset))

    def _worth_now(self, asset: str) -> float | None:
        """For a question: what nobody holds is not kept, for it would grow old."""
        worth = self.state.worth.get(asset)
        if worth is not None:
            return worth
        found = self.prices.of(asset, self.now_ns)
        return None if found is None else found[0]

    def _worth(self, asset: str) -> float | None:
        worth = self.state.worth.get(asset)
        if worth is None:
            worth = self._reprice(asset)
        return worth

    def _reprice(self, asset: str) -> float | None:
        """Bring an asset's worth, and all that is kept in it, up to date."""
        before = self.state.worth.get(asset)
        found = self.prices.of(asset, self.now_ns)
        if found is None:
            after = None
        else:
            after, until_ns = found
            wanted = asset in self.holders or asset in self.by_quote
            if wanted and asset not in self.prices.fixed:
                self.arm(("price", asset, ""), until_ns + 1)
        if after == before:
            return after
        if after is None:
            if self._is_dust(asset):
                return before  # too little to make the whole account unknown
            del self.state.worth[asset]
        else:
            self.state.worth[asset] = after
        entering = self._entering(asset, after)
        for ledger in self.holders.get(asset, ()):
            ledger.revalue(asset, before, after)
        if entering is not None:
            self._add_units(entering)
        if self.by_venue:
            self._revalue_venues(asset, None if entering is None else after)
        for symbol in self.by_quote.get(asset, ()):
            self._expose(symbol)
        self.dirty["equity"] = True
        return after

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

    # -- prices and marks -------------------------------------------------------------------------

    def on_price(self, event: ev.Price) -> None:
        """A price: of a symbol at its venue, and of its base asset."""
        self._hear(event.symbol, event.venue or "", event.price)  # type: ignore[arg-type]

    def _hear(self, symbol: str, venue: str, price: float) -> None:
        base = self.prices.hear(symbol, venue, price, self.now_ns)
        if base is not None:
            for asset in self.prices.depending_on(base):
                if asset in self.state.worth or asset in self.holders or asset in self.by_quote:
                    self._reprice(asset)
        if symbol in self.by_symbol:
            self._remark(symbol)

    def _remark(self, symbol: str) -> None:
        """Count the positions in ``symbol`` again, at its marks of now."""
        for key in self.by_symbol[symbol]:
            self._count(key, self.state.positions[key])
        self._expose(symbol)

    def _count(self, key: str, position: Position) -> None:
        """Bring a position's unrealised P&L in its ledger up to date."""
        what = instrument(position.symbol, self.reference)
        mark = self.prices.mark(position.symbol, position.venue)
        now: float | None = None
        if position.quantity == 0:
            now = None if position.unsized else 0.0
        elif mark is not None and self.prices.is_fresh(mark, self.now_ns):
            now = position.unrealised_at(mark.price, inverse=what.kind == "inverse")
            self.arm(("mark", position.symbol, ""), mark.at_ns + self.prices.max_age_ns + 1)
        if now is None:
            self._unmarked(position)[key] = True
        elif not position.strategy or self.state.strategies_unmarked:
            self._unmarked(position).pop(key, None)
        change = (now or 0.0) - position.unrealised
        if change:
            position.unrealised = now or 0.0
            ledger = self._unrealised_ledger(position, what.kind)
            self._credit(ledger, what.settle, change)
            if self.by_venue and ledger is self.state.unrealised:
                self._credit_venue(position.venue, what.settle, change)
        self.dirty["strategy:" + position.strategy if position.strategy else "equity"] = True

    def _unmarked(self, position: Position) -> dict[str, bool]:
        if not position.strategy:
            return self.state.unmarked
        return self.state.strategies_unmarked.setdefault(position.strategy, {})

    def _credit_venue(self, name: str, asset: str, amount: float) -> None:
        venue = self.state.venues.get(name)
        if venue is not None and venue.own is not None:
            self._credit(venue.own, asset, amount)
            self.dirty["venue_equity:" + name] = True

    def _unrealised_ledger(self, position: Position, kind: str) -> Ledger:
        if position.strategy:
            return self.strategy(position.strategy)
        if kind == "spot" or position.venue in self.config.unrealised_included:
            return self.state.unrealised_within
        return self.state.unrealised

    def strategy(self, name: str) -> Ledger:
        """The book of a strategy, begun when first asked for."""
        book = self.state.strategies.get(name)
        if book is None:
            book = self.state.strategies[name] = Ledger()
        return book

    def _expose(self, symbol: str) -> None:
        """Bring a symbol's net exposure, and the account's gross ones, up to date."""
        exposure = self.state.exposures.get(symbol)
        if exposure is None:
            exposure = self.state.exposures[symbol] = Exposure()
        # The first look at an asset's worth exposes what is quoted in it: not while counting.
        self._worth(instrument(symbol, self.reference).quote)
        quantity_before = abs(exposure.quantity.value)
        notional_before = abs(exposure.notional.value)
        exposure.quantity, exposure.notional, exposure.unpriced = Sum(), Sum(), 0
        for key in self.by_symbol.get(symbol, ()):
            position = self.state.positions[key]
            if position.strategy:
                continue
            exposure.quantity.add(position.quantity)
            counted = self._notional(position)
            position.notional = counted or 0.0
            exposure.notional.add(position.notional)
            exposure.unpriced += counted is None
        self.state.gross_quantity.add(abs(exposure.quantity.value) - quantity_before)
        notional = abs(exposure.notional.value)
        self.state.gross_notional.add(notional - notional_before)
        self._rank(symbol, exposure, notional)
        self.dirty["symbol:" + symbol] = True
        self.dirty["exposure"] = True

    def _rank(self, symbol: str, exposure: Exposure, notional: float) -> None:
        """Keep who is open, who has no price, and who is largest."""
        _mark(self.state.unpriced_symbols, symbol, exposure.unpriced > 0)
        held = exposure.quantity.value != 0 or notional > 0
        _mark(
            self.state.open_symbols,
            symbol,
            held and (notional >= self.config.dust or exposure.unpriced > 0),
        )
        heappush(self._ranking, (-notional, symbol))
        if len(self._ranking) > 2 * len(self.state.exposures) + 64:
            self._ranking = self._ranked()

    def _ranked(self) -> list[tuple[float, str]]:
        ranking = [(-abs(one.notional.value), s) for s, one in self.state.exposures.items()]
        heapify(ranking)
        return ranking

    def _notional(self, position: Position) -> float | None:
        """Signed notional in the reference; None when a price is missing or old."""
        what = instrument(position.symbol, self.reference)
        mark = self.prices.mark(position.symbol, position.venue)
        price = mark.price if mark and self.prices.is_fresh(mark, self.now_ns) else None
        notional = position.notional_at(price, inverse=what.kind == "inverse")
        if notional is None or notional == 0:
            return notional
        worth = self._worth(what.quote)
        return None if worth is None else notional * worth

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
            self._credit(venue.own, asset, change)
        if venue.counted and change and asset not in self.config.ignore:
            self._credit(self.state.balances, asset, change)
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
        self.arm(("stale", name, ""), self.now_ns + int(self.config.max_age.balance * 1e9) + 1)
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
        venue.counted = True
        venue.entered_wall_ns = self.wall_ns
        before = self._equity()
        for asset, holding in venue.assets.items():
            if asset not in self.config.ignore:
                self._credit(self.state.balances, asset, holding.free + holding.locked)
                self._notice_price(asset)
                if asset in self.state.balances.missing and not self.prices.ever(asset):
                    self.state.left_out[asset] = True  # a flow too, when it gets a price
        self._add_units(self._equity() - before)

    # -- flows ------------------------------------------------------------------------------------

    def on_cash_flow(self, event: ev.CashFlow) -> None:
        """A deposit or withdrawal: equity moves, no ratio does."""
        amount: float = event.amount  # type: ignore[assignment]
        self._credit(self.state.flows, event.asset, amount)
        worth = self._worth(event.asset)
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
        """A fill: a price, a move of the position (also the strategy's), realised P&L, a fee."""
        price: float = event.price  # type: ignore[assignment]
        position = self._position(event.venue, event.symbol, "")
        if event.at is None or ev.datetime_ns(event.at) >= position.replaced_wall_ns:
            self._fill(event, position, self.state.realised)
        if event.strategy:
            book = self.strategy(event.strategy)
            self._fill(event, self._position(event.venue, event.symbol, event.strategy), book)
            self.dirty["strategy:" + event.strategy] = True
        self._await_balances(event)
        self._hear(event.symbol, event.venue, price)

    def _fill(self, event: ev.Fill, position: Position, book: Ledger) -> None:
        what = instrument(event.symbol, self.reference)
        quantity: float = event.quantity if event.side == "buy" else -event.quantity  # type: ignore[assignment, operator]
        closes = position.strategy and position.entry > 0 and position.quantity * quantity < 0
        realised = position.fill(quantity, event.price, inverse=what.kind == "inverse")  # type: ignore[arg-type]
        if realised:
            self._credit(book, what.settle, position.gain(realised))
        if event.fee:
            self._credit(book, event.fee_asset or what.settle, -event.fee)  # type: ignore[operator]
        if closes:
            if position.size is None and realised:  # what it gained cannot be told, but its sign
                self.closes.append(Close(position.strategy, realised))
            else:
                self._close(event, what.settle, realised * (position.size or 0.0))

    def _close(self, event: ev.Fill, settle: str, realised: float) -> None:
        """Note what a strategy gained by closing, less the fee, as far as prices are known."""
        worth = self._worth(settle) or 1.0
        fee_worth = worth if event.fee_asset is None else self._worth(event.fee_asset) or 0.0
        fee: float = event.fee  # type: ignore[assignment]
        self.closes.append(Close(event.strategy or "", realised * worth - fee * fee_worth))

    def _await_balances(self, event: ev.Fill) -> None:
        """A spot fill moves two balances; one without the other is not settled."""
        venue = self.state.venues.get(event.venue)
        what = instrument(event.symbol, self.reference)
        if venue is None or what.kind != "spot":
            return
        venue.awaited[what.base] = venue.awaited[what.quote] = True
        venue.awaited_until_ns = self.now_ns + SETTLE_LATEST_NS
        self.arm(("awaited", event.venue, ""), venue.awaited_until_ns)

    def _position(self, venue: str, symbol: str, strategy: str) -> Position:
        key = f"{venue}|{symbol}|{strategy}"
        position = self.state.positions.get(key)
        if position is None:
            position = Position(venue, symbol, self._size_of(venue, symbol), strategy)
            self.state.positions[key] = position
            self._index_position(key, position)
        return position

    def _size_of(self, venue: str, symbol: str) -> float | None:
        for key in self.by_symbol.get(symbol, ()):
            position = self.state.positions[key]
            if position.venue == venue and position.size is not None:
                return position.size
        return None if instrument(symbol, self.reference).kind == "inverse" else 1.0

    def on_position(self, event: ev.Position) -> None:
        """The venue's word on a position."""
        position = self._position(event.venue, event.symbol, "")
        if event.contract_size is not None:
            for key in self.by_symbol[event.symbol]:
                one = self.state.positions[key]
                if one.venue == event.venue and (waited := one.resize(float(event.contract_size))):
                    settle = instrument(one.symbol, self.reference).settle
                    book = self.strategy(one.strategy) if one.strategy else self.state.realised
                    self._credit(book, settle, waited)
        position.replace(event.quantity, event.entry_price, self._wall_of(event))  # type: ignore[arg-type]
        self._remark(event.symbol)

    def on_pnl(self, event: ev.Pnl) -> None:
        """P&L realised elsewhere."""
        amount: float = event.amount  # type: ignore[assignment]
        self._credit(self.state.realised, self.reference, amount)
        if event.strategy:
            self._credit(self.strategy(event.strategy), self.reference, amount)
            self.closes.append(Close(event.strategy, amount))
            self.dirty["strategy:" + event.strategy] = True
        self.dirty["equity"] = True

    # -- time -------------------------------------------------------------------------------------

    def on_timer(self, what: str, name: str) -> None:
        """Something grew old, or a venue paused."""
        state = self.state
        if what == "price":
            self._reprice(name)
        elif what == "mark" and name in self.by_symbol:
            self._remark(name)
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
            due_ns = venue.at_ns + int(self.config.max_age.balance * 1e9) + 1
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
                + state.realised.value.value
                + self.pnl_unrealised()
                + state.flows.value.value
            )
        return state.balances.value.value + state.unrealised.value.value

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
        state = self.state
        ledgers = [state.balances, state.unrealised]
        if not state.venues:
            if state.capital is None:
                yield "no balance was reported and portfolio.initial_capital is not set"
            ledgers = [state.realised, state.unrealised, state.unrealised_within, state.flows]
        else:
            yield from self._silent_venues()
        for ledger in ledgers:
            for asset in ledger.missing:
                if asset not in state.left_out:
                    yield self._no_price(asset)
        for key in state.unmarked:
            position = state.positions[key]
            if (position.quantity and self._is_contract(position)) or not state.venues:
                yield _position_unmarked(position)

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
            if self.now_ns - venue.at_ns > config.max_age.balance * 1e9:
                yield f"{name} has not reported its balances for {config.max_age.balance:g} s"

    def _may_be_partial(self) -> bool:
        state = self.state
        if state.first_balance_ns is None:
            return True
        only_reference = all(
            asset == self.reference for venue in state.venues.values() for asset in venue.assets
        )
        return not only_reference and self.now_ns - state.first_balance_ns < self.grace_ns


def _mark(names: dict[str, bool], name: str, wanted: bool) -> None:
    if wanted:
        names[name] = True
    else:
        names.pop(name, None)


def _no_mark(symbol: str) -> str:
    return f"{symbol} has no mark: report its price"


def _position_unmarked(position: Position) -> str:
    where = f"the position in {position.symbol} at {position.venue}"
    if position.size is None:
        return f"{where} has no contract size: report a position with contract_size"
    return f"{where} has no mark: report its price"
