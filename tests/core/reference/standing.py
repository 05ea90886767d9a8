"""What is held, what it is worth and what was lost, read anew from the list of all that was told.

Nothing is carried on from one question to the next but three lists: what was told and when, the
settled values that were judged, and the units that flows made. Amounts are fractions, so no sum
rounds. The rules are those of the documentation, and each has its place here:

* a price, a balance or a mark that is older than ``max_age`` is not known, and what needs it is
  not known either (None);
* equity is judged at the end of an instant, when no venue is in the middle of reporting;
* a flow makes units at the unit value before it, and is no profit.

A spot position that is closed, or a venue whose balance holds unrealised P&L, is counted once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction as F
from typing import Any, NamedTuple, TypeVar, cast
from zoneinfo import ZoneInfo

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig

SECOND = 10**9
MINUTE = 60 * SECOND
Ask = TypeVar("Ask", bound=Callable[..., Any])
ACCOUNT = ""  # as a strategy: the account's own book


class Told(NamedTuple):
    """An event and when it came (engine time)."""

    at: int
    event: Any


@dataclass
class Point:
    """A settled value: P&L so far net of flows, and (of the account) equity and units."""

    at: int
    value: F
    equity: F = F(0)
    units: F = F(1)


class Symbol(NamedTuple):
    """What a symbol says of itself."""

    kind: str
    base: str
    quote: str
    settle: str


def read_symbol(symbol: str, reference: str) -> Symbol:
    """``BTC/USDT`` spot, ``BTC/USDT:USDT`` linear, ``BTC/USD:BTC`` inverse, ``BTC`` linear."""
    if "/" not in symbol:
        return Symbol("linear", symbol, reference, reference)
    base, rest = symbol.split("/")
    if ":" not in rest:
        return Symbol("spot", base, rest, rest)
    quote, settle = rest.split(":")
    return Symbol("inverse" if settle == base else "linear", base, quote, settle)


def remembered(ask: Ask) -> Ask:
    """The answer stands until something is told or time moves: only for the sake of speed."""

    def asked(self: Any, *what: Any) -> Any:
        key = (ask.__name__, *what)
        if key not in self.answers:
            self.answers[key] = ask(self, *what)
        return self.answers[key]

    return cast(Ask, asked)


class Book:
    """The account, from the list of what was told."""

    def __init__(self, config: PortfolioConfig, begin_wall: int, now: int) -> None:
        self.config = config
        self.begin_wall = begin_wall  # the date at engine time 0
        self.now = now
        self.told: list[Told] = []
        self.facts: dict[tuple[str, ...], int] = {}  # ids that were seen, and when
        self.curves: dict[str, list[Point]] = {}  # "account", "venue:a", "strategy:mm"
        self.flows: list[tuple[str, F]] = []  # (venue, value then); one that is counted nowhere: 0
        self.units: list[F] = []  # the capital, and what flows added
        if config.initial_capital is not None:
            self.units.append(F(config.initial_capital))
        self.equity_known: F | None = None  # as it was last judged
        self.venues_known: dict[str, bool] = {}  # as each was last judged
        self.left_out: set[str] = set()
        self.answers: dict[Any, Any] = {}

    # -- telling --------------------------------------------------------------------------------

    def tell(self, event: Any) -> bool:
        """Something happens now; False when it was told before."""
        if not self._is_new(event):
            return False
        self.answers.clear()
        if isinstance(event, ev.CashFlow):
            self._flow(event)
            return True
        entering = self._may_enter(event)
        self.told.append(Told(self.now, event))
        self.answers.clear()
        for asset in entering:
            if self.worth(asset) is not None:
                self._enter(asset)
        return True

    def move_to(self, now: int) -> None:
        """Time passes; what was never priced for the grace is left out."""
        self.now = now
        self.answers.clear()
        for asset in {asset for _, asset in self.amounts()}:
            since = self._unpriced_since(asset)
            if since is not None and now >= since + round(self.config.unknown_grace * SECOND):
                self.left_out.add(asset)
                self.answers.clear()

    def _is_new(self, event: Any) -> bool:
        key: tuple[str, ...]
        if isinstance(event, ev.Fill):
            key = ("fill", event.venue, event.symbol, event.side, event.id)
        elif isinstance(event, ev.CashFlow):
            key = ("flow", event.venue, "", "", event.id)
        elif isinstance(event, ev.Pnl):
            key = ("pnl", "", "", "", event.id)
        else:
            return True
        if key in self.facts and self.now - self.facts[key] <= 7 * 86_400 * SECOND:
            return False
        self.facts[key] = self.now
        return True

    def wall(self, event: Any) -> int:
        """When an event that comes now happened, by the date."""
        if event.at is None:
            return self.begin_wall + self.now
        at: datetime = event.at
        return round(at.timestamp() * 10**6) * 1_000

    # -- prices ---------------------------------------------------------------------------------

    @remembered
    def heard(self, symbol: str) -> list[tuple[int, str, F]]:
        """(when, venue, price) of every price and fill of a symbol; "" is no venue.

        One that is told more than 10 s late is none if a later one is known by then.
        """
        found: list[tuple[int, str, F]] = []
        for told, event in self.told:
            if not isinstance(event, ev.Price | ev.Fill) or event.symbol != symbol:
                continue
            at, where = told - self.age(told, event), event.venue or ""
            known = _last_of(found, where)
            if self.is_late(told, event) and known is not None and known[0] > at:
                continue
            found.append((at, where, F(event.price)))
        return found

    def age(self, told: int, event: Any) -> int:
        """How long ago it had happened when it was told."""
        return 0 if event.at is None else max(0, self.begin_wall + told - self.wall(event))

    def is_late(self, told: int, event: Any) -> bool:
        """Whether it had happened too long ago to say much of then."""
        return self.age(told, event) > 10 * SECOND

    @remembered
    def mark(self, symbol: str, venue: str) -> F | None:
        """The venue's last price or fill, else any venue's; None when it is old."""
        found = _last_of(self.heard(symbol), venue)
        return found[1] if found is not None and self._is_fresh(found[0]) else None

    def _is_fresh(self, at: int) -> bool:
        return self.now - at <= round(self.config.max_age.price * SECOND)

    @remembered
    def worth(self, asset: str) -> F | None:
        """The price of an asset in the reference; None when it has none that is fresh."""
        direct = self._quoted(asset, self.config.reference)
        if direct is not None and (direct[0] is None or self._is_fresh(direct[0])):
            return direct[1]
        ways = []
        for between in self._quotes_of(asset):
            first, second = self._quoted(asset, between), self._direct(between)
            if first is None or second is None:
                continue
            since = [at for at in (first[0], second[0]) if at is not None]
            if all(map(self._is_fresh, since)):
                ways.append((min(since), first[1] * second[1]))
        return max(ways)[1] if ways else None

    def last_worth(self, asset: str) -> F | None:
        """The last price of an asset that was ever known, however old."""
        direct = self._direct(asset)
        if direct is not None:
            return direct[1]
        for between in sorted(self._quotes_of(asset)):
            first, second = self._quoted(asset, between), self._direct(between)
            if first is not None and second is not None:
                return first[1] * second[1]
        return None

    def _direct(self, asset: str) -> tuple[int | None, F] | None:
        return self._quoted(asset, self.config.reference)

    def _quoted(self, asset: str, quote: str) -> tuple[int | None, F] | None:
        """The last (when, price) of ASSET/QUOTE; a peg and the reference are for ever."""
        if quote == self.config.reference:
            if asset == quote:
                return None, F(1)
            if asset in self.config.pegs:
                return None, F(self.config.pegs[asset])
        heard = self.heard(f"{asset}/{quote}")
        return (heard[-1][0], heard[-1][2]) if heard else None

    @remembered
    def _quotes_of(self, asset: str) -> list[str]:
        symbols = {e.symbol for _, e in self.told if isinstance(e, ev.Price | ev.Fill)}
        spots = [read_symbol(symbol, self.config.reference) for symbol in symbols]
        quotes = {s.quote for s in spots if s.kind == "spot" and s.base == asset}
        return sorted(quotes - {self.config.reference})

    # -- positions ------------------------------------------------------------------------------

    @remembered
    def size(self, venue: str, symbol: str) -> F | None:
        """The contract size; None for an inverse contract that has none yet."""
        size = None if read_symbol(symbol, self.config.reference).kind == "inverse" else F(1)
        for _, e in self.told:
            if isinstance(e, ev.Position) and (e.venue, e.symbol) == (venue, symbol):
                size = F(e.contract_size) if e.contract_size is not None else size
        return size

    @remembered
    def held_in(self, venue: str, symbol: str, strategy: str = ACCOUNT) -> tuple[F, F, F]:
        """(quantity, entry, realised in the settle asset); entry 0 is unknown."""
        inverse = read_symbol(symbol, self.config.reference).kind == "inverse"
        size = self.size(venue, symbol) or F(0)
        quantity = entry = realised = F(0)
        for event in self.moves(venue, symbol, strategy):
            if isinstance(event, ev.Position):
                quantity = F(event.quantity)
                entry = F(event.entry_price) if quantity else F(0)
                continue
            price = F(event.price)
            change = F(event.quantity) if event.side == "buy" else -F(event.quantity)
            after = quantity + change
            if quantity * change < 0:
                closed = min(abs(quantity), abs(change)) * (1 if quantity > 0 else -1)
                realised += closed * size * gain(entry, price, inverse=inverse)
                if after * quantity < 0:
                    entry = price
            elif quantity == 0:
                entry = price
            elif entry:
                weighted = quantity / entry + change / price
                plain = (quantity * entry + change * price) / after
                entry = after / weighted if inverse else plain
            quantity = after
            entry = entry if quantity else F(0)
        return quantity, entry, realised

    def moves(self, venue: str, symbol: str, strategy: str) -> list[Any]:
        """The fills of a book, and (of the account) what the venue said of the position."""
        found: list[Any] = []
        replaced = 0
        for at, event in self.told:
            if not isinstance(event, ev.Fill | ev.Position):
                continue
            if (event.venue, event.symbol) != (venue, symbol):
                continue
            wall = self.begin_wall + at if event.at is None else self.wall(event)
            if isinstance(event, ev.Position):
                if not strategy:
                    found, replaced = [*found, event], wall
            elif event.strategy == strategy if strategy else event.at is None or wall >= replaced:
                found.append(event)
        return found

    @remembered
    def places(self) -> list[tuple[str, str]]:
        """(venue, symbol) of every position that there ever was."""
        pairs = {
            (e.venue, e.symbol): True for _, e in self.told if isinstance(e, ev.Fill | ev.Position)
        }
        return list(pairs)

    @remembered
    def unrealised(self, venue: str, symbol: str, strategy: str = ACCOUNT) -> F | None:
        """Unrealised P&L of a position in its settle asset; None when it cannot be told."""
        quantity, entry, _ = self.held_in(venue, symbol, strategy)
        if quantity == 0:
            return F(0)
        mark, size = self.mark(symbol, venue), self.size(venue, symbol)
        if mark is None or size is None or not entry:
            return None
        inverse = read_symbol(symbol, self.config.reference).kind == "inverse"
        gained: F = quantity * size * gain(entry, mark, inverse=inverse)
        return gained

    # -- exposure -------------------------------------------------------------------------------

    @property
    def symbols(self) -> list[str]:
        """Every symbol in which there ever was a position."""
        return sorted({symbol for _, symbol in self.places()})

    @remembered
    def quantity(self, symbol: str) -> F:
        """The net position over all venues."""
        return sum((self.held_in(v, s)[0] for v, s in self.places() if s == symbol), F(0))

    @remembered
    def notionals(self, symbol: str) -> list[F | None]:
        """The signed notional at each venue, in the reference."""
        return [self._notional(venue, symbol) for venue, s in self.places() if s == symbol]

    def _notional(self, venue: str, symbol: str) -> F | None:
        quantity = self.held_in(venue, symbol)[0]
        if quantity == 0:
            return F(0)
        what = read_symbol(symbol, self.config.reference)
        mark = F(1) if what.kind == "inverse" else self.mark(symbol, venue)
        size, worth = self.size(venue, symbol), self.worth(what.quote)
        if mark is None or size is None or worth is None:
            return None
        notional: F = quantity * size * mark * worth
        return notional

    def notional(self, symbol: str) -> F | None:
        """The net signed notional over all venues."""
        return total(self.notionals(symbol))

    def gross_quantity(self) -> F:
        """Of all symbols."""
        return sum((abs(self.quantity(symbol)) for symbol in self.symbols), F(0))

    def gross_notional(self) -> F | None:
        """Of all symbols."""
        each = [self.notional(symbol) for symbol in self.symbols]
        return None if None in each else sum((abs(one or F(0)) for one in each), F(0))

    def largest_notional(self) -> F | None:
        """Of any symbol."""
        each = [self.notional(symbol) for symbol in self.symbols]
        return None if None in each else max((abs(one or F(0)) for one in each), default=F(0))

    def open_symbols(self) -> set[str]:
        """The symbols with a position that is not dust, as far as that can be told."""
        found = set()
        for symbol in self.symbols:
            notional = self.notional(symbol)
            partly = sum((one or F(0) for one in self.notionals(symbol)), F(0))
            unknown = notional is None and (self.quantity(symbol) or partly)
            if unknown or (notional and abs(notional) >= F(self.config.dust_of(0.0))):
                found.add(symbol)
        return found

    # -- balances -------------------------------------------------------------------------------

    @remembered
    def amounts(self) -> dict[tuple[str, str], F]:
        """(venue, asset) -> free + locked, with the flows that came after the venue's word."""
        held: dict[tuple[str, str], F] = {}
        words: dict[tuple[str, str], int] = {}
        for at, event in self.told:
            wall = self.begin_wall + at if getattr(event, "at", None) is None else self.wall(event)
            if isinstance(event, ev.Balance):
                held[event.venue, event.asset] = F(event.free) + F(event.locked)
                words[event.venue, event.asset] = wall
            elif isinstance(event, ev.Balances):
                held = {key: held[key] for key in held if key[0] != event.venue}
                words = {key: words[key] for key in words if key[0] != event.venue}
                words[event.venue, ""] = wall
                for asset, one in event.assets.items():
                    held[event.venue, asset] = F(one.free) + F(one.locked)
                    words[event.venue, asset] = wall
            elif isinstance(event, ev.CashFlow) and event.venue in self.venues_before(at):
                key = (event.venue, event.asset)
                if words.get(key, words.get((event.venue, ""), 0)) < wall:
                    held[key] = held.get(key, F(0)) + F(event.amount)
        return {
            key: amount
            for key, amount in held.items()
            if amount and key[1] not in self.config.ignore
        }

    def venues_before(self, at: int) -> set[str]:
        """The venues that have reported a balance."""
        return {
            e.venue for t, e in self.told if isinstance(e, ev.Balance | ev.Balances) and t <= at
        }

    @property
    def venues(self) -> set[str]:
        """The venues that have reported a balance."""
        return self.venues_before(self.now)

    def amount(self, asset: str) -> F:
        """Over all venues."""
        return sum((n for (_, name), n in self.amounts().items() if name == asset), F(0))

    def _unpriced_since(self, asset: str) -> int | None:
        """Since when an asset is held that never had a price."""
        if self.last_worth(asset) is not None:
            return None
        since, names = None, self.told
        for cut in range(1, len(names) + 1):
            event = names[cut - 1].event
            if not isinstance(event, ev.Balance | ev.Balances | ev.CashFlow):
                continue
            self.told = names[:cut]
            self.answers.clear()
            held = self.amount(asset)
            since = (names[cut - 1].at if since is None else since) if held else None
        self.told = names
        self.answers.clear()
        return since

    def is_settled(self, venue: str) -> bool:
        """Whether a venue is not in the middle of reporting."""
        first = due = None
        awaited: set[str] = set()
        until = 0
        for at, event in self.told:
            if getattr(event, "venue", None) != venue:
                continue
            if due is not None and at >= due:
                first, due, awaited = None, None, set()
            if at >= until:
                awaited = set()
            if isinstance(event, ev.Balances):
                first, due, awaited = None, None, set()
            elif isinstance(event, ev.Fill) and venue in self.venues_before(at):
                what = read_symbol(event.symbol, self.config.reference)
                if what.kind == "spot" and not self.is_late(at, event):
                    awaited |= {what.base, what.quote}
                    until = at + 5 * SECOND
            elif isinstance(event, ev.Balance):
                first = at if first is None else first
                awaited -= {event.asset}
                due = min(first + 5 * SECOND, first + 5 * SECOND if awaited else at + SECOND)
        return due is None or self.now >= due

    def is_silent(self, venue: str) -> bool:
        """Whether a venue's balances are old, or never came."""
        told = [
            at
            for at, e in self.told
            if isinstance(e, ev.Balance | ev.Balances) and e.venue == venue
        ]
        return not told or self.now - told[-1] > round(self.config.max_age.balance * SECOND)

    # -- equity ---------------------------------------------------------------------------------

    @remembered
    def equity(self) -> F | None:
        """Holdings and what contracts gained; without balances capital, P&L and flows."""
        if not self.venues:
            return self._equity_without_balances()
        if any(map(self.is_silent, {*self.venues, *self.config.venues})):
            return None
        parts: list[F | None] = [
            self._value(asset, amount) for (_, asset), amount in self.amounts().items()
        ]
        return total([*parts, *self._contract_gains(self.places())])

    def _value(self, asset: str, amount: F) -> F | None:
        if asset in self.left_out:
            return F(0)
        worth = self.worth(asset)
        return None if worth is None else amount * worth

    def _contract_gains(self, places: list[tuple[str, str]]) -> Iterator[F | None]:
        """What contracts gained and no balance holds yet."""
        for venue, symbol in places:
            what = read_symbol(symbol, self.config.reference)
            if what.kind != "spot" and venue not in self.config.unrealised_included:
                yield self._in_reference({what.settle: self.unrealised(venue, symbol)})

    def _in_reference(self, amounts: dict[str, F | None]) -> F | None:
        parts: list[F | None] = []
        for asset, amount in amounts.items():
            worth = self.worth(asset) if amount else F(0)
            parts.append(None if amount is None or worth is None else amount * worth)
        return total(parts)

    def _equity_without_balances(self) -> F | None:
        if self.config.initial_capital is None:
            return None
        flows: dict[str, F | None] = {}
        for _, e in self.told:
            if isinstance(e, ev.CashFlow):
                flows[e.asset] = (flows.get(e.asset) or F(0)) + F(e.amount)
        capital = F(self.config.initial_capital)
        return total([capital, self.profit(ACCOUNT), self._in_reference(flows)])

    @remembered
    def realised(self, strategy: str) -> dict[str, F | None]:
        """Realised P&L less fees of a book, by asset."""
        sums: dict[str, F] = {}
        for venue, symbol in self.places():
            settle = read_symbol(symbol, self.config.reference).settle
            sums[settle] = sums.get(settle, F(0)) + self.held_in(venue, symbol, strategy)[2]
            for event in self.moves(venue, symbol, strategy):
                if isinstance(event, ev.Fill):
                    asset = event.fee_asset or settle
                    sums[asset] = sums.get(asset, F(0)) - F(event.fee)
        reference = self.config.reference
        for _, e in self.told:
            if isinstance(e, ev.Pnl) and (not strategy or e.strategy == strategy):
                sums[reference] = sums.get(reference, F(0)) + F(e.amount)
        return dict(sums)

    def realised_value(self) -> F | None:
        """Of the account's own book."""
        return self._in_reference(self.realised(ACCOUNT))

    def profit(self, strategy: str) -> F | None:
        """Realised and unrealised P&L of a book at the prices of now."""
        parts = [self._in_reference(self.realised(strategy))]
        for venue, symbol in self.places():
            settle = read_symbol(symbol, self.config.reference).settle
            parts.append(self._in_reference({settle: self.unrealised(venue, symbol, strategy)}))
        return total(parts)

    # -- flows ----------------------------------------------------------------------------------

    def _flow(self, event: ev.CashFlow) -> None:
        """Units at the unit value before it; one that a balance holds already was no profit."""
        held, before = self.equity(), self.amount(event.asset)
        unit_value = self.unit_value()
        settled = all(map(self.is_settled, self.venues))
        self.told.append(Told(self.now, event))
        self.answers.clear()
        worth = self.last_worth(event.asset)
        if event.asset in self.config.ignore or worth is None:
            return
        value = F(event.amount) * worth
        self.flows.append((event.venue, value))
        late = bool(self.venues) and self.amount(event.asset) == before
        if late:
            self._was_no_profit(event, value)
        if settled and held is not None and self.equity_known is not None:
            live = (held - value if late else held) / sum(self.units)
            unit_value = live if live > 0 else unit_value
        self.units.append(value / unit_value)

    def _was_no_profit(self, event: ev.CashFlow, value: F) -> None:
        for scope in ("account", "venue:" + event.venue):
            for point in self.curves.get(scope, ()):
                if self.begin_wall + point.at >= self.wall(event):
                    point.value -= value
                    point.equity -= value

    def _may_enter(self, event: Any) -> list[str]:
        """The assets that were left out, and that a price may bring in."""
        return sorted(self.left_out) if isinstance(event, ev.Price | ev.Fill) else []

    def _enter(self, asset: str) -> None:
        """An asset that was left out has a price now: what there is of it is a flow."""
        self.left_out.discard(asset)
        self.answers.clear()
        worth = self.worth(asset) or F(0)
        for venue in self.venues:
            amount = self.amounts().get((venue, asset), F(0))
            self.flows.append((venue, amount * worth))
        value, equity = self.amount(asset) * worth, self.equity()
        unit_value = self.unit_value()
        settled = all(map(self.is_settled, self.venues))
        if settled and equity is not None and self.equity_known is not None:
            unit_value = (equity - value) / sum(self.units)
        self.units.append(value / unit_value)

    # -- judging --------------------------------------------------------------------------------

    def judge(self) -> None:
        """The end of an instant: keep what is settled."""
        if all(map(self.is_settled, self.venues)):
            self.equity_known = self.equity()
            if self.equity_known is not None:
                if not self.units:
                    self.units.append(self.equity_known)
                value = self.equity_known - sum((f for _, f in self.flows), F(0))
                self._keep("account", value, self.equity_known, sum(self.units, F(0)))
        for venue in self.venues:
            if not self.is_settled(venue):
                continue
            own = self.venue_value(venue)
            self.venues_known[venue] = own is not None
            if own is not None:
                flows = sum((f for where, f in self.flows if where == venue), F(0))
                self._keep("venue:" + venue, own - flows)
        for name in {getattr(e, "strategy", None) or "" for _, e in self.told} - {""}:
            profit = self.profit(name)
            if profit is not None:
                self._keep("strategy:" + name, profit)

    def _keep(self, scope: str, *values: F) -> None:
        self.curves.setdefault(scope, []).append(Point(self.now, *values))

    def venue_value(self, venue: str) -> F | None:
        """What is held at a venue, and what contracts gained there."""
        if self.is_silent(venue):
            return None
        here = [(v, s) for v, s in self.places() if v == venue]
        parts = [self._value(a, n) for (v, a), n in self.amounts().items() if v == venue]
        return total([*parts, *self._contract_gains(here)])

    def unit_value(self) -> F:
        """At the last settled equity; 1 before there was any."""
        points = self.curves.get("account")
        return points[-1].equity / points[-1].units if points else F(1)

    def portfolio_loss(self) -> F | None:
        """1 - unit value; 0 while in profit."""
        return None if self.equity_known is None else max(F(0), 1 - self.unit_value())

    def drawdown(self) -> F | None:
        """1 - unit value / its peak."""
        if self.equity_known is None:
            return None
        values = [point.equity / point.units for point in self.curves["account"]]
        return 1 - values[-1] / max(F(1), *values)

    def loss(self, scope: str, period: str, *, trailing: bool) -> F | None:
        """How far P&L is below where the period began, or below its best point."""
        points = self._known_points(scope)
        if points is None:
            return None
        begin = self._begins(period)
        before = [point for point in points if point.at < begin]
        inside = [point for point in points if point.at >= begin]
        first = F(0) if scope.startswith("strategy:") else points[0].value
        base = before[-1].value if before else first
        last = points[-1].value
        best = max([base, *(point.value for point in inside)]) if trailing else base
        return max(F(0), best - last)

    def _known_points(self, scope: str) -> list[Point] | None:
        kind, _, name = scope.partition(":")
        points = self.curves.get(scope)
        if kind == "account":
            return points if self.equity_known is not None else None
        if kind == "venue":
            return points if self.venues_known.get(name) else None
        if self.profit(name) is None:
            return None
        return points or [Point(self.now, F(0))]

    def _begins(self, period: str) -> int:
        """When a period began (engine time); the last hours begin with a whole minute."""
        if period not in ("day", "week"):
            hours = F(period.removesuffix("h"))
            return (self.now - int(hours * 3_600 * SECOND)) // MINUTE * MINUTE
        wall = self.begin_wall + self.now
        return period_begin(period, wall, self.config) - self.begin_wall


def _last_of(heard: list[tuple[int, str, F]], venue: str) -> tuple[int, F] | None:
    own = last = None
    for at, where, price in heard:
        last = (at, price)
        if where == venue:
            own = last
        elif not where:
            own = None  # it is the last one of every venue
    return own or last


def gain(entry: F, price: F, *, inverse: bool) -> F:
    """What one contract of size 1 gains; what has no entry gains nothing that can be told."""
    if not entry:
        return F(0)
    return 1 / entry - 1 / price if inverse else price - entry


def total(parts: list[F | None]) -> F | None:
    """The sum, unless a part is unknown."""
    return None if None in parts else sum((part for part in parts if part is not None), F(0))


_days: dict[tuple[date, str, str], int] = {}


def day_begin(day: date, config: PortfolioConfig) -> int:
    """The first minute in which the clock on the wall shows ``day_start`` of a day, or later."""
    key = (day, config.timezone, config.day_start)
    if key not in _days:
        zone = ZoneInfo(config.timezone)
        wanted = datetime.combine(day, time.fromisoformat(config.day_start))
        minute = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=15)
        while minute.astimezone(zone).replace(tzinfo=None) < wanted:
            minute += timedelta(minutes=1)
        _days[key] = int(minute.timestamp()) * SECOND
    return _days[key]


def period_begin(period: str, wall: int, config: PortfolioConfig) -> int:
    """When the day or week around ``wall`` began."""
    zone = ZoneInfo(config.timezone)
    day = datetime.fromtimestamp(wall // SECOND, zone).date() + timedelta(days=1)
    while day_begin(day, config) > wall:
        day -= timedelta(days=1)
    if period == "week":
        day -= timedelta(days=day.weekday())
    return day_begin(day, config)
