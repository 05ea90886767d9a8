"""Positions at average cost, and what they gained.

Formulas (q signed quantity, s contract size, e entry price, m mark price, p fill price):

* linear and spot, in the settle (quote) asset: unrealised ``q s (m - e)``; a fill of the opposite
  side realises ``closed s (p - e)`` with the sign of the position; the entry is the mean of the
  prices weighted by quantity.
* inverse, in the settle (base) asset: unrealised ``q s (1/e - 1/m)``, realised likewise; the entry
  is the harmonic mean, because the contracts are sized in the quote currency.

A fill moves its position, and realises, at once. What follows from the marks (unrealised P&L and
notional) is counted once for each symbol when somebody asks or the instant ends
(:meth:`Positions.refreshing`), however many fills and prices came meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import fsum
from typing import NamedTuple

from msgspec import Struct, field

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.exposure import Exposure, Exposures, ExposuresState
from riskmon.core.book.instruments import Instrument, instrument
from riskmon.core.book.ledger import Ledger
from riskmon.core.book.prices import Prices
from riskmon.core.book.worths import Worths
from riskmon.core.unknown import Unknown

# A quantity this small against what just moved is the rounding of binary floats, not a holding:
# 0.1 + 0.2 - 0.3 leaves 5.6e-17.
_ROUNDING = 1e-12
COUNTED_AT_ONCE = 64  # positions of a symbol


class Close(NamedTuple):
    """P&L that a strategy realised at once, less fees, in the reference currency."""

    strategy: str
    pnl: float


class BookPosition(Struct):
    """One position; ``quantity`` in base units or contracts, short below 0."""

    venue: str
    symbol: str
    size: float | None  # contract size; None: an inverse contract nobody gave a size for
    strategy: str = ""  # "" for the account's own book
    quantity: float = 0.0
    rest: float = 0.0  # the part of the quantity that its float cannot hold
    entry: float = 0.0
    unrealised: float = 0.0  # in the settle asset, as last counted
    notional: float = 0.0  # signed, in the reference, as last counted
    replaced_wall_ns: int = 0  # of the last `position` event
    unsized: float = 0.0  # realised before there was a size, per unit of it: not told yet

    def gain(self, realised: float) -> float:
        """``realised`` per unit of size in the settle asset; without a size it waits for one."""
        if self.size is not None:
            return realised * self.size
        self.unsized += realised
        return 0.0

    def resize(self, size: float) -> float:
        """Take the contract size; what was realised before it was known, in the settle asset."""
        self.size = size
        waited, self.unsized = self.unsized, 0.0
        return waited * size

    def fill(self, quantity: float, price: float, *, inverse: bool) -> float:
        """Apply a fill of signed ``quantity``; the P&L it realised per unit of contract size."""
        held = self.quantity
        realised = 0.0
        if held == 0 or (held > 0) == (quantity > 0):
            self.entry = _mean(held, self.entry, quantity, price, inverse=inverse)
        else:
            closed = min(abs(held), abs(quantity))
            realised = self._gain(price, inverse=inverse) * (closed if held > 0 else -closed)
        self._move(quantity)
        if self.quantity == 0:
            self.entry = 0.0
        elif (self.quantity > 0) != (held > 0) and held != 0:
            self.entry = price  # it went past zero: what is left was opened by this fill
        return realised

    def _gain(self, price: float, *, inverse: bool) -> float:
        if self.entry <= 0:
            return 0.0  # the venue gave no entry: what was gained cannot be told
        return (1 / self.entry - 1 / price) if inverse else (price - self.entry)

    def _move(self, quantity: float) -> None:
        """As :class:`riskmon.core.book.money.Sum` adds, in place."""
        held, size, larger = self.quantity, abs(quantity), abs(self.quantity)
        total = held + quantity
        if larger >= size:
            low = self.rest + ((held - total) + quantity)
        else:
            low, larger = self.rest + ((quantity - total) + held), size
        left = total + low
        if abs(left) <= _ROUNDING * larger:
            self.quantity = self.rest = 0.0
        else:
            self.quantity, self.rest = left, (total - left) + low

    def replace(self, quantity: float, entry: float, wall_ns: int) -> None:
        """Take the venue's word for it."""
        self.quantity, self.rest = quantity, 0.0
        self.entry = entry if quantity else 0.0
        self.replaced_wall_ns = wall_ns

    def unrealised_at(self, mark: float, *, inverse: bool) -> float | None:
        """Unrealised P&L in the settle asset; None without a contract size."""
        if self.quantity == 0:
            return 0.0
        if self.size is None or self.entry <= 0:
            return None
        if inverse:
            return self.quantity * self.size * (1 / self.entry - 1 / mark)
        return self.quantity * self.size * (mark - self.entry)

    def notional_at(self, mark: float | None, *, inverse: bool) -> float | None:
        """Signed notional in the quote asset; None when it cannot be told."""
        if self.quantity == 0:
            return 0.0
        if self.size is None or (mark is None and not inverse):
            return None
        return self.quantity * self.size * (1.0 if inverse else mark or 0.0)


def _mean(held: float, entry: float, quantity: float, price: float, *, inverse: bool) -> float:
    if held == 0:
        return price
    if entry <= 0:
        return 0.0  # unknown in part is unknown
    total = abs(held) + abs(quantity)
    if inverse:
        return total / (abs(held) / entry + abs(quantity) / price)
    return (abs(held) * entry + abs(quantity) * price) / total


class PositionsState(Struct):
    """Everything that is remembered of positions."""

    positions: dict[str, BookPosition] = field(default_factory=dict)  # by venue|symbol|strategy
    exposures: ExposuresState = field(default_factory=ExposuresState)
    realised: Ledger = field(default_factory=Ledger)
    unrealised: Ledger = field(default_factory=Ledger)  # of contracts, on top of the balances
    unrealised_within: Ledger = field(default_factory=Ledger)  # of spot, or in the balance already
    strategies: dict[str, Ledger] = field(default_factory=dict)  # realised + unrealised + pnl
    unmarked: dict[str, bool] = field(default_factory=dict)  # account positions without a mark
    strategies_unmarked: dict[str, dict[str, bool]] = field(default_factory=dict)


def no_mark(position: BookPosition) -> Unknown:
    """Return what is missing to value a position: its contract size or its mark."""
    where = f"the position in {position.symbol} at {position.venue}"
    if position.size is None:
        return Unknown(f"{where} has no contract size: report a position with contract_size")
    return Unknown(f"{where} has no mark: report its price")


class Positions:
    """The account's positions, and each strategy's own.

    ``credit_venue`` is told of unrealised P&L that is on top of a venue's balances.
    """

    def __init__(
        self,
        state: PositionsState,
        config: PortfolioConfig,
        worths: Worths,
        dirty: dict[str, bool],
        credit_venue: Callable[[str, str, float], None],
    ) -> None:
        self.state = state
        self.reference = config.reference
        self.exposures = Exposures(state.exposures, config.dust)
        self.closes: list[Close] = []  # of the latest event; the engine empties it
        self.stale: dict[str, bool] = {}  # symbols to be counted again
        self.now_ns = 0
        self._included = config.unrealised_included
        self._worths = worths
        self._prices: Prices = worths.prices
        self._arm = worths.arm
        self._armed_ns: dict[str, int] = {}  # when a mark grows old, if that is waited for
        self._dirty = dirty
        self._credit_venue = credit_venue
        self._by_symbol: dict[str, list[tuple[str, BookPosition]]] = {}
        self._sizes: dict[tuple[str, str], float] = {}  # contract size by symbol and venue
        self._resized: dict[str, dict[str, float]] = {}  # symbol -> venue -> one not taken by all
        for ledger in (state.realised, state.unrealised, state.unrealised_within):
            worths.hold(ledger)
        for ledger in state.strategies.values():
            worths.hold(ledger)
        for key, position in state.positions.items():
            self._index(key, position)

    def _index(self, key: str, position: BookPosition) -> None:
        self._by_symbol.setdefault(position.symbol, []).append((key, position))
        if position.size is not None:
            self._sizes.setdefault((position.symbol, position.venue), position.size)
        quote = instrument(position.symbol, self.reference).quote
        self._worths.quote(position.symbol, quote)

    # -- what happens -----------------------------------------------------------------------------

    def on_fill(self, event: ev.Fill, what: Instrument) -> None:
        """A fill moves the position (also the strategy's), realises P&L and costs a fee."""
        position = self._position(event.venue, event.symbol, "")
        if event.at is None or ev.datetime_ns(event.at) >= position.replaced_wall_ns:
            self._fill(event, what, position, self.state.realised)
        if event.strategy:
            position = self._position(event.venue, event.symbol, event.strategy)
            self._fill(event, what, position, self.strategy(event.strategy))
        self._mark_stale(event.symbol)

    def _fill(self, event: ev.Fill, what: Instrument, position: BookPosition, book: Ledger) -> None:
        price = event.price
        quantity = -event.quantity if event.side == "sell" else event.quantity
        closes = position.strategy and position.entry > 0 and position.quantity * quantity < 0
        realised = position.fill(quantity, price, inverse=what.kind == "inverse")
        if realised:
            self._worths.credit(book, what.settle, position.gain(realised))
        if event.fee:
            self._worths.credit(book, event.fee_asset or what.settle, -event.fee)
        if closes and position.size is None and realised:
            self.closes.append(Close(position.strategy, realised))  # its sign is all that is known
        elif closes:
            self._close(event, what.settle, realised * (position.size or 0.0))

    def _close(self, event: ev.Fill, settle: str, realised: float) -> None:
        """Note what a strategy gained by closing, less the fee, as far as prices are known."""
        worth = self._worths.of(settle) or 1.0
        fee_worth = worth if event.fee_asset is None else self._worths.of(event.fee_asset) or 0.0
        self.closes.append(Close(event.strategy or "", realised * worth - event.fee * fee_worth))

    def on_position(self, event: ev.Position, wall_ns: int) -> None:
        """The venue's word on a position."""
        if event.contract_size is not None:
            size = self._sizes[event.symbol, event.venue] = event.contract_size
            self._resized.setdefault(event.symbol, {})[event.venue] = size
        position = self._position(event.venue, event.symbol, "")
        position.replace(event.quantity, event.entry_price, wall_ns)
        self._mark_stale(event.symbol)

    def _resize(self, position: BookPosition) -> None:
        """Take the contract size that the venue gave last, if it gave one in this instant."""
        size = self._resized[position.symbol].get(position.venue)
        if size is None:
            return
        waited = position.resize(size)
        if waited:
            book = self.strategy(position.strategy) if position.strategy else self.state.realised
            self._worths.credit(book, self._what(position).settle, waited)

    def on_pnl(self, event: ev.Pnl) -> None:
        """P&L realised elsewhere."""
        amount = event.amount
        self._worths.credit(self.state.realised, self.reference, amount)
        if event.strategy:
            self._worths.credit(self.strategy(event.strategy), self.reference, amount)
            self.closes.append(Close(event.strategy, amount))
            self._dirty["strategy:" + event.strategy] = True

    def on_price(self, symbol: str) -> None:
        """A symbol has a new mark."""
        if symbol in self._by_symbol:
            self._mark_stale(symbol)

    def on_timer(self, symbol: str) -> None:
        """A mark grew old."""
        self._armed_ns.pop(symbol, None)
        self.on_price(symbol)

    def on_worth(self, asset: str) -> None:
        """An asset is worth something else."""
        for symbol in self._worths.quoting.get(asset, ()):
            self._mark_stale(symbol)
        for name, book in self.state.strategies.items():
            if asset in book.amounts:
                self._dirty["strategy:" + name] = True

    def _mark_stale(self, symbol: str) -> None:
        self.stale[symbol] = True
        self._dirty["equity"] = True

    # -- positions and books ----------------------------------------------------------------------

    def _position(self, venue: str, symbol: str, strategy: str) -> BookPosition:
        key = f"{venue}|{symbol}|{strategy}"
        position = self.state.positions.get(key)
        if position is None:
            position = BookPosition(venue, symbol, self.size_of(venue, symbol), strategy)
            self.state.positions[key] = position
            self._index(key, position)
        elif symbol in self._resized:
            self._resize(position)
        return position

    def size_of(self, venue: str, symbol: str) -> float | None:
        """The contract size of a symbol; None for an inverse contract nobody gave one for."""
        size = self._sizes.get((symbol, venue))
        if size is not None:
            return size
        return None if instrument(symbol, self.reference).kind == "inverse" else 1.0

    def strategy(self, name: str) -> Ledger:
        """The book of a strategy, begun when first asked for."""
        book = self.state.strategies.get(name)
        if book is None:
            book = self.state.strategies[name] = Ledger()
        return book

    def reduces(self, venue: str, symbol: str, side: ev.Side, quantity: float) -> bool:
        """Whether so much bought or sold can only lower the venue's position in a symbol."""
        position = self.state.positions.get(f"{venue}|{symbol}|")
        held = position.quantity if position is not None else 0.0
        against = held < 0 if side == "buy" else held > 0
        return against and quantity <= abs(held)

    def unmarked(self, *, contracts_only: bool) -> Iterator[BookPosition]:
        """The account's positions without a mark; ``contracts_only``: on top of the balances."""
        for key in self.state.unmarked:
            position = self.state.positions[key]
            # A closed one that waits for its size: the balances hold already what it realised.
            on_top = position.quantity and self._what(position).kind != "spot"
            if on_top or not contracts_only:
                yield position

    def strategy_unmarked(self, name: str) -> Iterator[BookPosition]:
        """A strategy's positions without a mark."""
        for key in self.state.strategies_unmarked.get(name, ()):
            yield self.state.positions[key]

    def on_top_at(self, venue: str) -> Iterator[tuple[str, float]]:
        """The unrealised P&L on top of a venue's balances: settle asset and amount."""
        for position in self.state.positions.values():
            if position.venue == venue and not position.strategy and position.unrealised:
                what = self._what(position)
                if self._ledger(position, what) is self.state.unrealised:
                    yield what.settle, position.unrealised

    def _what(self, position: BookPosition) -> Instrument:
        return instrument(position.symbol, self.reference)

    # -- marking ----------------------------------------------------------------------------------

    def refreshing(self) -> Iterator[int]:
        """Count what is stale, at the marks and worths of now; yields the work of each symbol."""
        work = 0
        while self.stale:
            for symbol in list(self.stale):
                # First: the first query of a worth makes stale what is quoted in that asset.
                worth = self._worths.of(instrument(symbol, self.reference).quote)
                del self.stale[symbol]
                yield from self._count(symbol, worth)
                work += 1 + len(self._by_symbol[symbol]) % COUNTED_AT_ONCE
                if work >= COUNTED_AT_ONCE // 4:
                    yield work
                    work = 0

    def _count(self, symbol: str, worth: float | None) -> Iterator[int]:
        """Bring the unrealised P&L and the exposure of a symbol up to date; yields the work."""
        what = instrument(symbol, self.reference)
        quantities, notionals, unpriced = [], [], 0
        resized = symbol in self._resized
        for at, (key, position) in enumerate(self._by_symbol[symbol], 1):
            if at % COUNTED_AT_ONCE == 0:
                yield COUNTED_AT_ONCE
            if resized:
                self._resize(position)
            mark = self._mark(position)
            self._count_gain(key, position, what, mark)
            if position.strategy:
                continue
            notional = position.notional_at(mark, inverse=what.kind == "inverse")
            if notional:
                notional = None if worth is None else notional * worth
            position.notional = notional or 0.0
            quantities.append(position.quantity)
            notionals.append(position.notional)
            unpriced += notional is None
        self.exposures.take(symbol, Exposure(_total(quantities), _total(notionals), unpriced))
        self._dirty["symbol:" + symbol] = self._dirty["exposure"] = True
        self._resized.pop(symbol, None)
        self._worths.early_left -= len(quantities)

    def _mark(self, position: BookPosition) -> float | None:
        """Where a position is marked, if that is known and not old."""
        mark = self._prices.mark(position.symbol, position.venue)
        if mark is None or not self._prices.is_fresh(mark, self.now_ns):
            return None
        if position.quantity:
            old_ns = mark.at_ns + self._prices.max_age_ns + 1
            armed_ns = self._armed_ns.get(position.symbol)
            if armed_ns is None or old_ns < armed_ns:
                self._armed_ns[position.symbol] = old_ns
                self._arm(("mark", position.symbol, ""), old_ns)
        return mark.price

    def _count_gain(
        self, key: str, position: BookPosition, what: Instrument, mark: float | None
    ) -> None:
        """Bring a position's unrealised P&L in its ledger up to date."""
        gain = None if position.unsized else 0.0
        if position.quantity:
            inverse = what.kind == "inverse"
            gain = None if mark is None else position.unrealised_at(mark, inverse=inverse)
        self._note_mark(key, position, known=gain is not None)
        change = (gain or 0.0) - position.unrealised
        if change:
            position.unrealised = gain or 0.0
            ledger = self._ledger(position, what)
            self._worths.credit(ledger, what.settle, change)
            if ledger is self.state.unrealised:
                self._credit_venue(position.venue, what.settle, change)
        if position.strategy:
            self._dirty["strategy:" + position.strategy] = True

    def _note_mark(self, key: str, position: BookPosition, *, known: bool) -> None:
        unmarked = self.state.unmarked
        if not position.strategy and (key in unmarked) is known:
            self._dirty["venue_equity:" + position.venue] = True
        if position.strategy:
            if known and position.strategy not in self.state.strategies_unmarked:
                return
            unmarked = self.state.strategies_unmarked.setdefault(position.strategy, {})
        if not known:
            unmarked[key] = True
        elif key in unmarked:
            del unmarked[key]

    def _ledger(self, position: BookPosition, what: Instrument) -> Ledger:
        if position.strategy:
            return self.strategy(position.strategy)
        if what.kind == "spot" or position.venue in self._included:
            return self.state.unrealised_within
        return self.state.unrealised


def _total(amounts: list[float]) -> float:
    return amounts[0] if len(amounts) == 1 else fsum(amounts)
