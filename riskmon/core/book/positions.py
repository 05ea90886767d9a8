"""The account's positions, and each strategy's own: facts of fills and of the venue's reports.

A fill moves its position at average cost at once (:mod:`riskmon.core.book.position`). A report
replaces the account's position. Which fills it contains is decided as for a balance, by a ledger of
quantities (:mod:`riskmon.core.book.ledger`), once for each instant (:meth:`resolving`); those
that it does not contain are applied on top. The first report of a position contains the fills that
were known before it and are not later than it.

A report alone moves no equity: what it changes in unrealised P&L, at the mark of its instant, is
realised. A fill that comes late and is contained in the report changes the position no more; what
it should have realised, against that mark, corrects the realised P&L. A quantity that no fill
explains reduces the strategies on the reduced side, in proportion, at the mark; a late fill that
explains it after all gives it back.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct, field

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.contained import Moved, add, begin, resolve, settle, stamp_of
from riskmon.core.book.effects import Amount, Stamp
from riskmon.core.book.instruments import Instrument, instrument
from riskmon.core.book.ledger import Ledger
from riskmon.core.book.position import BookPosition, Key, Leg, key_of
from riskmon.core.book.prices import Prices
from riskmon.core.book.projection import Known
from riskmon.core.book.realised import OrderKey, Realised, RealisedState
from riskmon.core.book.shares import Shared, give_back, take
from riskmon.core.book.spot_symbols import Named, SpotSymbols

AT_ONCE = 64  # units of work in a piece
_ROUNDING = 1e-12  # of a quantity

Pair = tuple[str, str]  # venue and symbol


class Row(NamedTuple):
    """A position as a venue reports it; a short one is below 0."""

    symbol: str
    quantity: float
    entry: float = 0.0
    size: float | None = None
    leg: Leg = ""


class Outcome(NamedTuple):
    """What a report changed: holdings by realised P&L, and the quantity that no fill explains.

    ``first``: nothing was known of the position before. ``is_unvalued``: it has no mark or no
    contract size yet, so that nothing of its P&L is realised.
    """

    key: Key
    stamp: Stamp
    amounts: dict[str, float]  # by asset
    difference: float = 0.0
    first: bool = False
    is_unvalued: bool = False


class PositionsState(Struct):
    """The positions, realised P&L, and the spot symbols that were named."""

    positions: dict[str, BookPosition] = field(default_factory=dict)  # by the name of the key
    whole: dict[str, Stamp] = field(default_factory=dict)  # the last report of all, by venue
    named: Named = field(default_factory=dict)  # spot symbols
    realised: RealisedState = field(default_factory=RealisedState, name="realised_pnl")


class _Fill(Struct, frozen=True, gc=False):
    """What a fill changes of a position."""

    quantity: float  # signed
    price: float
    at_ns: int
    dated: bool
    is_inverse: bool


class Positions:
    """The positions of the account and of strategies. Times are engine ns."""

    def __init__(self, state: PositionsState, config: PortfolioConfig, prices: Prices) -> None:
        self.state = state
        self.reference = config.reference
        self.realised = Realised(state.realised, config)
        self.spot_symbols = SpotSymbols(state.named, config.reference)
        self.positions: dict[Key, BookPosition] = {}
        self.changed: dict[Key, None] = {}  # since the last pass
        self._included = frozenset(config.unrealised_included)
        self._prices = prices
        self._of_pair: dict[Pair, dict[Key, None]] = {}
        self._of_venue: dict[str, dict[Key, None]] = {}  # the account's contracts
        # Venue -> settle asset -> the account's open contracts, as of the last `take_changed`.
        self._open: dict[str, dict[str, dict[Key, None]]] = {}
        self._legged: set[Pair] = set()  # pairs with a position of a leg
        self._ledgers: dict[Key, Ledger] = {}
        self._sizes: dict[Pair, float] = {}
        self._resized: dict[Pair, None] = {}  # with positions of another size
        self._moved: dict[Key, Moved] = {}
        self._outcomes: list[Outcome] = []
        # Earlier versions stored the names of keys without the leg.
        state.positions = {one.key.name: one for one in state.positions.values()}
        for position in state.positions.values():
            self._index(position)

    # -- fills ------------------------------------------------------------------------------------

    def on_fill(self, event: ev.Fill, leg: Leg, stamp: Stamp) -> dict[str, float]:
        """Apply a fill to the account's position and the strategy's.

        Return by how much it changes holdings, by asset.
        """
        venue, price, strategy = event.venue, event.price, event.strategy
        kind, base, quote, settle = what = instrument(event.symbol, self.reference)
        quantity = -event.quantity if event.side == "sell" else event.quantity
        moved = {base: quantity, quote: -quantity * price} if kind == "spot" else {}
        fee = (settle, 0.0)
        if event.fee:
            fee = self._pay(event, what, moved, stamp)
            quantity = moved.get(base, quantity) if kind == "spot" else quantity
        fill = _Fill(quantity, price, *stamp, kind == "inverse")
        realised = self._fill(key_of(venue, event.symbol, leg, ""), fill)
        if realised:
            self.realised.add(venue, settle, realised)
            if kind != "spot" and venue not in self._included:
                moved[settle] = moved.get(settle, 0.0) + realised
        if strategy:
            order = None if event.order_id is None else OrderKey(venue, event.order_id)
            self._fill_of(key_of(venue, event.symbol, leg, strategy), fill, settle, fee, order)
        return moved

    def _pay(
        self, event: ev.Fill, what: Instrument, moved: dict[str, float], stamp: Stamp
    ) -> tuple[str, float]:
        """Apply the fee of a fill; return its asset and amount as a part of P&L."""
        asset, fee = event.fee_asset or what.settle, event.fee
        moved[asset] = moved.get(asset, 0.0) - fee
        if what.kind == "spot" and asset == what.base:  # it is taken from the position
            asset, fee = what.quote, fee * event.price
        self.realised.add_fee(event.venue, event.strategy or "", asset, fee, stamp.at_ns)
        return asset, fee

    def _fill(self, whose: Key, fill: _Fill) -> float:
        """Apply a fill to the account's position; return the realised P&L in the settle asset."""
        realised, price = 0.0, fill.price
        for key, part in self._parts(whose, fill.quantity):
            position = self._position(key)
            ledger = self._ledgers[key]
            position.causes += 1
            known = Known(part, fill.at_ns, fill.dated, position.causes, price)
            if ledger.state.reports:
                add(ledger, self._begin(key, position, ledger), known)
            else:
                ledger.add(known)
            gained = position.fill(part, price, inverse=fill.is_inverse)
            if gained:
                realised += position.gain(gained, fill.at_ns)
            self.changed[key] = None
        return realised

    def _fill_of(
        self, whose: Key, fill: _Fill, settle: str, fee: tuple[str, float], order: OrderKey | None
    ) -> None:
        """Apply a fill to a strategy's position; record what it closes."""
        closed, closes = 0.0, False
        for key, part in self._parts(whose, fill.quantity):
            position = self._position(key)
            closes = closes or (position.entry > 0 and position.quantity * part < 0)
            gained = position.fill(part, fill.price, inverse=fill.is_inverse)
            gain = position.gain(gained, fill.at_ns) if gained else 0.0
            if gain:
                self.realised.add_of(whose.strategy, settle, gain)
            if position.size is None:  # the sign of the close is known without a size
                closed, fee = closed + gained, (settle, 0.0)
            else:
                closed += gain
            self.changed[key] = None
        if closes:
            self.realised.add_close(whose.strategy, settle, closed, fee, order)

    def _parts(self, whose: Key, quantity: float) -> Sequence[tuple[Key, float]]:
        """Return the legs that a fill moves, and by how much."""
        if not (self._legged or whose.leg):
            return ((whose, quantity),)
        if whose.leg:
            self._split(whose[:2])
        elif whose[:2] in self._legged:
            own, other = _legs(whose, quantity)
            position = self.positions.get(other)
            held = 0.0 if position is None else position.quantity
            closed = min(abs(held), abs(quantity)) if held * quantity < 0 else 0.0
            left = abs(quantity) - closed
            parts = [(other, closed if quantity > 0 else -closed)] if closed else []
            if left > _ROUNDING * abs(quantity):
                parts.append((own, left if quantity > 0 else -left))
            return parts
        return ((whose, quantity),)

    # -- reports ----------------------------------------------------------------------------------

    def on_report(self, venue: str, row: Row, stamp: Stamp) -> bool:
        """Apply a venue's report of a position; return False for one that is older than known."""
        pair = (venue, row.symbol)
        if row.size is not None and row.size != self._sizes.get(pair):
            self._sizes[pair] = row.size
            self._resized[pair] = None
        if row.leg:
            self._split(pair)
        whose = Key(venue, row.symbol, row.leg, "")
        if row.leg or pair not in self._legged:
            return self._report(whose, row.quantity, row.entry, stamp)
        own, other = _legs(whose, row.quantity)
        taken = self._report(own, row.quantity, row.entry, stamp)
        return (other in self.positions and self._report(other, 0.0, 0.0, stamp)) or taken

    def on_reports(
        self, venue: str, rows: Iterable[Row], stamp: Stamp, unread: Collection[str] = ()
    ) -> Iterator[int]:
        """Apply a venue's report of all its contracts; yield the work of each piece.

        One that is not named is 0, except those of the symbols ``unread``.
        """
        whole = self.state.whole.get(venue)
        if whole is not None and stamp.at_ns < whole.at_ns:
            return
        named: set[tuple[str, Leg]] = set()
        for at, row in enumerate(rows, 1):
            is_spot = instrument(row.symbol, self.reference).kind == "spot"
            if not is_spot and not _is_beside_legs(row, named):
                self.on_report(venue, row, stamp)
                named.update([(row.symbol, row.leg)] if row.leg else _each_leg(row.symbol))
            if at % AT_ONCE == 0:
                yield AT_ONCE
        for at, key in enumerate(list(self._of_venue.get(venue, ())), 1):
            if (key.symbol, key.leg) not in named and key.symbol not in unread:
                self._report(key, 0.0, 0.0, stamp)
            if at % AT_ONCE == 0:
                yield AT_ONCE
        self.state.whole[venue] = stamp

    def _report(self, key: Key, quantity: float, entry: float, stamp: Stamp) -> bool:
        first = key not in self.positions and key.venue not in self.state.whole
        position = self._position(key)
        ledger = self._ledgers[key]
        is_later = bool(ledger.state.reports) and not ledger.is_unsettled
        if not ledger.state.reports:
            ledger = self._ledgers[key] = begin(position, ledger, stamp)
        moved = self._begin(key, position, ledger)
        if not ledger.report(Amount(quantity, 0.0), stamp):
            return False
        if is_later:
            position.base = None  # it was of the first report
        moved.reported, moved.first = entry, moved.first or first
        return True

    def _begin(self, key: Key, position: BookPosition, ledger: Ledger) -> Moved:
        moved = self._moved.get(key)
        if moved is None:
            moved = self._moved[key] = Moved(position.quantity, position.entry, ledger.live)
        return moved

    # -- other facts ------------------------------------------------------------------------------

    def on_pnl(self, strategy: str, amount: float) -> None:
        """Add P&L that was realised elsewhere, in the reference."""
        self.realised.add_pnl(strategy, amount)

    # -- the pass ---------------------------------------------------------------------------------

    def resolving(self, now_ns: int) -> Generator[int, None, list[Outcome]]:
        """Apply the reports of this instant, and the fills that they do not contain.

        Yield the work of each piece; return what the reports changed.
        """
        work = 0
        while self._resized:
            pair, _ = self._resized.popitem()
            for key in list(self._of_pair.get(pair, ())):
                self._resize(self.positions[key])
                work += 1
                if work % AT_ONCE == 0:
                    yield AT_ONCE
        moved, self._moved = self._moved, {}
        for key, before in moved.items():
            self._resolve(key, before, now_ns)
            work += 1 + len(self._ledgers[key].state.effects) // 8
            if work >= AT_ONCE:
                yield work
                work = 0
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def _resolve(self, key: Key, moved: Moved, now_ns: int) -> None:
        position = self.positions[key]
        ledger = self._ledgers[key] = settle(position, self._ledgers[key], moved)
        inverse = instrument(key.symbol, self.reference).kind == "inverse"
        mark = None if moved.reported is None else self._mark_of(key, now_ns)
        resolved = resolve(position, ledger, moved, mark, inverse=inverse)
        if resolved is None:
            return
        realised, difference, explained = resolved
        counted = 0.0 if moved.first else difference
        stamp = stamp_of(ledger, moved)
        lacks = position.quantity and (mark is None or position.size is None)
        is_unvalued = moved.reported is not None and bool(lacks)
        amounts = self._amounts(key, realised)
        outcome = Outcome(key, stamp, amounts, counted, moved.first, is_unvalued)
        self._realise(outcome, realised)
        if not difference and not explained:
            return
        books = self._books_of(key)
        left, shared = give_back(position, books, difference or explained, now_ns, inverse=inverse)
        if difference and left:
            shared += take(position, books, left, mark, now_ns, inverse=inverse)
        self._realise_shares(books, shared, now_ns)

    def _mark_of(self, key: Key, now_ns: int) -> float | None:
        quote = self._prices.mark(key.symbol, key.venue, now_ns)
        quote = self._prices.last_mark(key.symbol, key.venue) if quote is None else quote
        return None if quote is None else quote.price

    def _amounts(self, key: Key, realised: float) -> dict[str, float]:
        """Return by how much realised P&L changes holdings, by asset."""
        what = instrument(key.symbol, self.reference)
        if not realised or what.kind == "spot" or key.venue in self._included:
            return {}
        return {what.settle: realised}

    def _realise(self, outcome: Outcome, realised: float) -> None:
        key = outcome.key
        if realised:
            settle = instrument(key.symbol, self.reference).settle
            self.realised.add(key.venue, settle, realised)
        self.changed[key] = None
        self._outcomes.append(outcome)

    def _books_of(self, key: Key) -> dict[str, BookPosition]:
        """Return the positions of strategies beside the account's."""
        return {
            one.strategy: self.positions[one]
            for one in self._of_pair[key.venue, key.symbol]
            if one.strategy and one.leg == key.leg
        }

    def _realise_shares(
        self, books: dict[str, BookPosition], shared: list[Shared], now_ns: int
    ) -> None:
        for strategy, realised, closes in shared:
            own = books[strategy]
            settle = instrument(own.symbol, self.reference).settle
            gain = own.gain(realised, now_ns)
            if gain:
                self.realised.add_of(strategy, settle, gain)
            if closes:
                known = realised if own.size is None else gain
                self.realised.add_close(strategy, settle, known, (settle, 0.0), None)
            self.changed[own.key] = None

    def _resize(self, position: BookPosition) -> None:
        """Set the contract size that the venue reported last."""
        key = position.key
        size = self._sizes[position.venue, position.symbol]
        self.changed[key] = None
        if size == position.size:
            return
        deferred = position.resize(size)
        if deferred and key.strategy:
            settle = instrument(key.symbol, self.reference).settle
            self.realised.add_of(key.strategy, settle, deferred)
        elif deferred:
            stamp = Stamp(position.unsized_ns, dated=False)
            self._realise(Outcome(key, stamp, self._amounts(key, deferred)), deferred)

    # -- the table --------------------------------------------------------------------------------

    def _position(self, key: Key) -> BookPosition:
        position = self.positions.get(key)
        if position is None:
            size = self.size_of(key.venue, key.symbol)
            position = BookPosition(key.venue, key.symbol, size, key.strategy, leg=key.leg)
            self.state.positions[key.name] = position
            self._index(position)
            whole = self.state.whole.get(key.venue)
            if whole is not None and key in self._of_venue.get(key.venue, ()):
                ledger = begin(position, self._ledgers[key], whole)
                ledger.report(Amount(0.0, 0.0), whole)
                ledger.settle()
                self._ledgers[key], position.base = ledger, None
        elif self._resized and key[:2] in self._resized:
            self._resize(position)
        return position

    def _index(self, position: BookPosition) -> None:
        key = position.key
        pair = (key.venue, key.symbol)
        self.positions[key] = position
        self.changed[key] = None
        self._of_pair.setdefault(pair, {})[key] = None
        if key.leg:
            self._legged.add(pair)
        if position.size is not None:
            self._sizes.setdefault(pair, position.size)
        if key.strategy:
            return
        self._ledgers[key] = Ledger(position.ledger_state())
        if instrument(key.symbol, self.reference).kind != "spot":
            self._of_venue.setdefault(key.venue, {})[key] = None

    def _split(self, pair: Pair) -> None:
        """Keep the legs of a symbol at a venue apart from now on."""
        if pair in self._legged:
            return
        self._legged.add(pair)
        for key in list(self._of_pair.get(pair, ())):
            position = self.positions.pop(key)
            del self.state.positions[key.name], self._of_pair[pair][key]
            self._of_venue.get(key.venue, {}).pop(key, None)
            self._ledgers.pop(key, None)
            moved = self._moved.pop(key, None)
            self.changed[key] = None
            position.leg = "short" if position.quantity < 0 else "long"
            self.state.positions[position.key.name] = position
            self._index(position)
            if moved is not None:
                self._moved[position.key] = moved

    # -- queries ----------------------------------------------------------------------------------

    def size_of(self, venue: str, symbol: str) -> float | None:
        """Return the contract size of a symbol; None for an inverse one without a reported size."""
        size = self._sizes.get((venue, symbol))
        if size is not None:
            return size
        return None if instrument(symbol, self.reference).kind == "inverse" else 1.0

    def held(self, venue: str, symbol: str, leg: Leg = "") -> float:
        """Return the account's signed quantity of a leg; without one of all legs together."""
        legs: tuple[Leg, ...] = (leg,) if leg else ("", "long", "short")
        found = [self.positions.get(Key(venue, symbol, one, "")) for one in legs]
        return sum(one.quantity for one in found if one is not None)

    def settle_assets(self, venue: str) -> list[str]:
        """Return the assets that the account's open contracts at a venue settle in."""
        return [asset for asset, keys in self._open.get(venue, {}).items() if keys]

    def take_changed(self) -> list[Key]:
        """Return the keys of the positions that changed since the last call; some are gone."""
        changed, self.changed = self.changed, {}
        for key in changed:
            self._note_open(key)
        return list(changed)

    def _note_open(self, key: Key) -> None:
        what = instrument(key.symbol, self.reference)
        if key.strategy or what.kind == "spot":
            return
        keys = self._open.setdefault(key.venue, {}).setdefault(what.settle, {})
        position = self.positions.get(key)
        if position is not None and position.quantity:
            keys[key] = None
        else:
            keys.pop(key, None)


def _legs(whose: Key, quantity: float) -> tuple[Key, Key]:
    """Return the leg that a signed quantity belongs to, and the opposite one."""
    legs = whose._replace(leg="long"), whose._replace(leg="short")
    return legs if quantity >= 0 else (legs[1], legs[0])


def _is_beside_legs(row: Row, named: Collection[tuple[str, Leg]]) -> bool:
    """Return whether a row is 0 and of no leg, beside one of a leg: venues list all three."""
    legs = _each_leg(row.symbol)[1:]
    return not row.leg and not row.quantity and any(leg in named for leg in legs)


def _each_leg(symbol: str) -> list[tuple[str, Leg]]:
    return [(symbol, ""), (symbol, "long"), (symbol, "short")]
