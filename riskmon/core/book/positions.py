"""Positions at average cost, and their P&L.

Formulas (q signed quantity, s contract size, e entry price, m mark price, p fill price):

* linear and spot, in the settle (quote) asset: unrealised ``q s (m - e)``; a fill of the opposite
  side realises ``closed s (p - e)`` with the sign of the position; the entry is the mean of the
  prices weighted by quantity.
* inverse, in the settle (base) asset: unrealised ``q s (1/e - 1/m)``, realised likewise; the entry
  is the harmonic mean, because the contracts are sized in the quote currency.

A fill changes its position, and realises P&L, at once. What is derived from the marks (unrealised
P&L and notional) is computed once for each symbol, before a check and at the end of an instant
(:meth:`Positions.refreshing`), however many fills and prices the instant contains.
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
from riskmon.core.timers import Timer, timer_key
from riskmon.core.topics import (
    EQUITY,
    EXPOSURE,
    Topic,
    strategy_topic,
    symbol_topic,
    venue_equity_topic,
)
from riskmon.core.unknown import Unknown

# A quantity this small relative to the last change is the rounding of binary floats, not a
# position: 0.1 + 0.2 - 0.3 leaves 5.6e-17.
_ROUNDING = 1e-12
COMPUTED_AT_ONCE = 64  # positions of a symbol


class Close(NamedTuple):
    """P&L that a strategy realised at once, less fees, in the reference currency."""

    strategy: str
    pnl: float


class BookPosition(Struct):
    """One position; ``quantity`` in base units or contracts, short below 0."""

    venue: str
    symbol: str
    size: float | None  # contract size; None: an inverse contract without a reported one
    strategy: str = ""  # "" for the account's own position
    quantity: float = 0.0
    rest: float = 0.0  # the part of the quantity that its float cannot hold
    entry: float = 0.0
    unrealised: float = 0.0  # in the settle asset, as last computed
    notional: float = 0.0  # signed, in the reference, as last computed
    replaced_wall_ns: int = 0  # of the last `position` event
    unsized: float = 0.0  # realised before the size was reported, per unit of it

    def gain(self, realised: float) -> float:
        """Return ``realised``, per unit of size, in the settle asset; deferred without a size."""
        if self.size is not None:
            return realised * self.size
        self.unsized += realised
        return 0.0

    def resize(self, size: float) -> float:
        """Set the contract size; return the deferred realised P&L, in the settle asset."""
        self.size = size
        deferred, self.unsized = self.unsized, 0.0
        return deferred * size

    def fill(self, quantity: float, price: float, *, inverse: bool) -> float:
        """Apply a fill of signed ``quantity``; return the realised P&L per unit of size."""
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
            self.entry = price  # it passed zero: this fill opened the rest
        return realised

    def _gain(self, price: float, *, inverse: bool) -> float:
        if self.entry <= 0:
            return 0.0  # the venue reported no entry price: the gain is unknown
        return (1 / self.entry - 1 / price) if inverse else (price - self.entry)

    def _move(self, quantity: float) -> None:
        """Add to the quantity as :class:`riskmon.core.book.money.Sum` does, in place."""
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
        """Replace quantity and entry price by those that the venue reports."""
        self.quantity, self.rest = quantity, 0.0
        self.entry = entry if quantity else 0.0
        self.replaced_wall_ns = wall_ns

    def unrealised_at(self, mark: float, *, inverse: bool) -> float | None:
        """Return the unrealised P&L in the settle asset; None without a contract size."""
        if self.quantity == 0:
            return 0.0
        if self.size is None or self.entry <= 0:
            return None
        if inverse:
            return self.quantity * self.size * (1 / self.entry - 1 / mark)
        return self.quantity * self.size * (mark - self.entry)

    def notional_at(self, mark: float | None, *, inverse: bool) -> float | None:
        """Return the signed notional in the quote asset; None if it is unknown."""
        if self.quantity == 0:
            return 0.0
        if self.size is None or (mark is None and not inverse):
            return None
        return self.quantity * self.size * (1.0 if inverse else mark or 0.0)


def _mean(held: float, entry: float, quantity: float, price: float, *, inverse: bool) -> float:
    if held == 0:
        return price
    if entry <= 0:
        return 0.0  # the entry of a part is unknown
    total = abs(held) + abs(quantity)
    if inverse:
        return total / (abs(held) / entry + abs(quantity) / price)
    return (abs(held) * entry + abs(quantity) * price) / total


class PositionsState(Struct):
    """The positions, and what is derived from them."""

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

    ``credit_venue`` is called with changes of the unrealised P&L on top of a venue's balances.
    """

    def __init__(
        self,
        state: PositionsState,
        config: PortfolioConfig,
        worths: Worths,
        dirty: dict[Topic, bool],
        credit_venue: Callable[[str, str, float], None],
    ) -> None:
        self.state = state
        self.reference = config.reference
        self.exposures = Exposures(state.exposures, config.dust)
        self.closes: list[Close] = []  # of the latest event; the engine empties it
        self.stale: dict[str, bool] = {}  # symbols to compute again
        self.now_ns = 0
        self._included = config.unrealised_included
        self._worths = worths
        self._prices: Prices = worths.prices
        self._arm = worths.arm
        self._armed_ns: dict[str, int] = {}  # symbol -> when the armed timer fires
        self._dirty = dirty
        self._credit_venue = credit_venue
        self._by_symbol: dict[str, list[tuple[str, BookPosition]]] = {}
        self._sizes: dict[tuple[str, str], float] = {}  # contract size by symbol and venue
        # symbol -> venue -> a new contract size, which some positions do not have yet
        self._resized: dict[str, dict[str, float]] = {}
        for ledger in (state.realised, state.unrealised, state.unrealised_within):
            worths.attach(ledger)
        for ledger in state.strategies.values():
            worths.attach(ledger)
        for key, position in state.positions.items():
            self._index(key, position)

    def _index(self, key: str, position: BookPosition) -> None:
        self._by_symbol.setdefault(position.symbol, []).append((key, position))
        if position.size is not None:
            self._sizes.setdefault((position.symbol, position.venue), position.size)
        quote = instrument(position.symbol, self.reference).quote
        self._worths.quote(position.symbol, quote)

    # -- events -----------------------------------------------------------------------------------

    def on_fill(self, event: ev.Fill, what: Instrument) -> None:
        """Apply a fill to the account's position and the strategy's: quantity, P&L and fee."""
        position = self._position(event.venue, event.symbol, "")
        if event.at is None or ev.datetime_ns(event.at) >= position.replaced_wall_ns:
            self._fill(event, what, position, self.state.realised)
        if event.strategy:
            position = self._position(event.venue, event.symbol, event.strategy)
            self._fill(event, what, position, self.strategy(event.strategy))
        self._mark_stale(event.symbol)

    def _fill(
        self, event: ev.Fill, what: Instrument, position: BookPosition, ledger: Ledger
    ) -> None:
        price = event.price
        quantity = -event.quantity if event.side == "sell" else event.quantity
        closes = position.strategy and position.entry > 0 and position.quantity * quantity < 0
        realised = position.fill(quantity, price, inverse=what.kind == "inverse")
        if realised:
            self._worths.credit(ledger, what.settle, position.gain(realised))
        if event.fee:
            self._worths.credit(ledger, event.fee_asset or what.settle, -event.fee)
        if closes and position.size is None and realised:
            self.closes.append(Close(position.strategy, realised))  # only its sign is known
        elif closes:
            self._close(event, what.settle, realised * (position.size or 0.0))

    def _close(self, event: ev.Fill, settle: str, realised: float) -> None:
        """Record a strategy's P&L of a close, less the fee, as far as prices are known."""
        worth = self._worths.of(settle) or 1.0
        fee_worth = worth if event.fee_asset is None else self._worths.of(event.fee_asset) or 0.0
        self.closes.append(Close(event.strategy or "", realised * worth - event.fee * fee_worth))

    def on_position(self, event: ev.Position, wall_ns: int) -> None:
        """Replace a position by the one that the venue reports."""
        if event.contract_size is not None:
            size = self._sizes[event.symbol, event.venue] = event.contract_size
            self._resized.setdefault(event.symbol, {})[event.venue] = size
        position = self._position(event.venue, event.symbol, "")
        position.replace(event.quantity, event.entry_price, wall_ns)
        self._mark_stale(event.symbol)

    def contracts(self, venue: str) -> set[str]:
        """Return the symbols of the open contract positions at a venue."""
        return {
            one.symbol
            for one in self.state.positions.values()
            if one.venue == venue and one.quantity and self._what(one).kind != "spot"
        }

    def _resize(self, position: BookPosition) -> None:
        """Set the contract size that the venue reported last, if it did in this instant."""
        size = self._resized[position.symbol].get(position.venue)
        if size is None:
            return
        deferred = position.resize(size)
        if deferred:
            strategy = position.strategy
            ledger = self.strategy(strategy) if strategy else self.state.realised
            self._worths.credit(ledger, self._what(position).settle, deferred)

    def on_pnl(self, event: ev.Pnl) -> None:
        """Add P&L that was realised elsewhere."""
        amount = event.amount
        self._worths.credit(self.state.realised, self.reference, amount)
        if event.strategy:
            self._worths.credit(self.strategy(event.strategy), self.reference, amount)
            self.closes.append(Close(event.strategy, amount))
            self._dirty[strategy_topic(event.strategy)] = True

    def on_price(self, symbol: str) -> None:
        """Mark a symbol with a new mark as stale."""
        if symbol in self._by_symbol:
            self._mark_stale(symbol)

    def on_timer(self, symbol: str) -> None:
        """Mark a symbol whose mark expired as stale."""
        self._armed_ns.pop(symbol, None)
        self.on_price(symbol)

    def on_worth(self, asset: str) -> None:
        """Mark the symbols quoted in a repriced asset as stale."""
        for symbol in self._worths.quoting.get(asset, ()):
            self._mark_stale(symbol)
        for name, ledger in self.state.strategies.items():
            if asset in ledger.amounts:
                self._dirty[strategy_topic(name)] = True

    def _mark_stale(self, symbol: str) -> None:
        self.stale[symbol] = True
        self._dirty[EQUITY] = True

    # -- positions and ledgers --------------------------------------------------------------------

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
        """Return the contract size of a symbol; None for an inverse one without a reported size."""
        size = self._sizes.get((symbol, venue))
        if size is not None:
            return size
        return None if instrument(symbol, self.reference).kind == "inverse" else 1.0

    def strategy(self, name: str) -> Ledger:
        """Return the ledger of a strategy; the first call creates it."""
        ledger = self.state.strategies.get(name)
        if ledger is None:
            ledger = self.state.strategies[name] = Ledger()
        return ledger

    def reduces(self, venue: str, symbol: str, side: ev.Side, quantity: float) -> bool:
        """Return whether an order can only reduce the venue's position in a symbol."""
        position = self.state.positions.get(f"{venue}|{symbol}|")
        held = position.quantity if position is not None else 0.0
        against = held < 0 if side == "buy" else held > 0
        return against and quantity <= abs(held)

    def unmarked(self, *, contracts_only: bool) -> Iterator[BookPosition]:
        """Yield the account's positions without a mark; or those on top of the balances only."""
        for key in self.state.unmarked:
            position = self.state.positions[key]
            # A closed one without a size: the balances include the P&L that it realised.
            on_top = position.quantity and self._what(position).kind != "spot"
            if on_top or not contracts_only:
                yield position

    def strategy_unmarked(self, name: str) -> Iterator[BookPosition]:
        """Yield a strategy's positions without a mark."""
        for key in self.state.strategies_unmarked.get(name, ()):
            yield self.state.positions[key]

    def on_top_at(self, venue: str) -> Iterator[tuple[str, float]]:
        """Yield the unrealised P&L on top of a venue's balances: settle asset and amount."""
        for position in self.state.positions.values():
            if position.venue == venue and not position.strategy and position.unrealised:
                what = self._what(position)
                if self._ledger(position, what) is self.state.unrealised:
                    yield what.settle, position.unrealised

    def _what(self, position: BookPosition) -> Instrument:
        return instrument(position.symbol, self.reference)

    # -- marking ----------------------------------------------------------------------------------

    def refreshing(self) -> Iterator[int]:
        """Compute the stale symbols at the present marks and worths; yield the work of each."""
        work = 0
        while self.stale:
            for symbol in list(self.stale):
                # First: the first query of a worth marks the symbols quoted in it as stale.
                worth = self._worths.of(instrument(symbol, self.reference).quote)
                del self.stale[symbol]
                yield from self._compute(symbol, worth)
                work += 1 + len(self._by_symbol[symbol]) % COMPUTED_AT_ONCE
                if work >= COMPUTED_AT_ONCE // 4:
                    yield work
                    work = 0

    def _compute(self, symbol: str, worth: float | None) -> Iterator[int]:
        """Compute the unrealised P&L and the exposure of a symbol; yield the work."""
        what = instrument(symbol, self.reference)
        quantities, notionals, unpriced = [], [], 0
        resized = symbol in self._resized
        for at, (key, position) in enumerate(self._by_symbol[symbol], 1):
            if at % COMPUTED_AT_ONCE == 0:
                yield COMPUTED_AT_ONCE
            if resized:
                self._resize(position)
            mark = self._mark(position)
            self._compute_gain(key, position, what, mark)
            if position.strategy:
                continue
            notional = position.notional_at(mark, inverse=what.kind == "inverse")
            if notional:
                notional = None if worth is None else notional * worth
            position.notional = notional or 0.0
            quantities.append(position.quantity)
            notionals.append(position.notional)
            unpriced += notional is None
        self.exposures.update(symbol, Exposure(_total(quantities), _total(notionals), unpriced))
        self._dirty[symbol_topic(symbol)] = self._dirty[EXPOSURE] = True
        self._resized.pop(symbol, None)
        self._worths.early_left -= len(quantities)

    def _mark(self, position: BookPosition) -> float | None:
        """Return the mark of a position; None without one that has not expired."""
        mark = self._prices.mark(position.symbol, position.venue)
        if mark is None or not self._prices.is_fresh(mark, self.now_ns):
            return None
        if position.quantity:
            old_ns = mark.at_ns + self._prices.max_age_ns + 1
            armed_ns = self._armed_ns.get(position.symbol)
            if armed_ns is None or old_ns < armed_ns:
                self._armed_ns[position.symbol] = old_ns
                self._arm(timer_key(Timer.MARK, position.symbol), old_ns)
        return mark.price

    def _compute_gain(
        self, key: str, position: BookPosition, what: Instrument, mark: float | None
    ) -> None:
        """Compute a position's unrealised P&L and add the change to its ledger."""
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
            self._dirty[strategy_topic(position.strategy)] = True

    def _note_mark(self, key: str, position: BookPosition, *, known: bool) -> None:
        unmarked = self.state.unmarked
        if not position.strategy and (key in unmarked) is known:
            self._dirty[venue_equity_topic(position.venue)] = True
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
