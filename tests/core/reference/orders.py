"""What every limit says of the book, and of an order, read anew from the list of what happened.

An order is judged as if it were filled. Orders that were admitted or rest, and are not filled yet,
count with it on its own side: of orders that rest on both sides only one may be filled, so the
worse is meant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction as F
from typing import Any, NamedTuple

from riskmon.core import events as ev
from riskmon.core.config import EngineConfig, LimitConfig
from tests.core.reference.history import SECOND, read_symbol
from tests.core.reference.standing import Book, day_begin, period_begin, remembered

HALT, REDUCE_ONLY, _, ALLOW = range(4)
REFUSES = ("block", "reduce", "trip", "freeze")
STANDING = (
    *("position", "total_position", "open_positions", "inventory", "total_notional"),
    *("concentration", "leverage", "open_orders"),
    *("portfolio_loss", "drawdown", "loss", "daily_loss", "weekly_loss"),
)
SIZES = STANDING[:8]


class Asked(NamedTuple):
    """An order that was checked and not simulated, and its notional then."""

    order: ev.Check
    notional: F | None
    admitted: bool
    number: int
    level: int


class Reported(NamedTuple):
    """A report of an order, and its notional then."""

    event: ev.Order
    notional: F | None


@dataclass
class Resting:
    """All that happened to one order. Amounts are of its whole quantity."""

    venue: str
    symbol: str
    side: str | None  # None: either
    quantity: F
    notional: F | None
    since: int
    asked: ev.Check | None  # as it was admitted
    level: int = ALLOW
    reduce_only: bool = False
    heard: int | None = None  # the last report of it
    filled: F = F(0)  # by its fills
    told: list[tuple[int, F]] = field(default_factory=list)  # when, and how much was executed
    over: int | None = None  # since when nothing of it rests

    def executed(self, before: int) -> F:
        """The most that reports up to a time say was executed."""
        return max((amount for at, amount in self.told if at <= before), default=F(0))

    def left(self, now: int, ttl: int) -> F:
        """What rests, and what was executed within the time to live and has not come as a fill."""
        whole = self.quantity if self.over is None else self.executed(now)
        return max(F(0), whole - max(self.filled, self.executed(now - ttl)))


@dataclass
class Seen:
    """What was last known of one (limit, scope)."""

    value: F | None = None
    past: bool = False
    unknown_since: int | None = None
    halted: bool = False
    frozen: bool = False
    breaches: int = 0


class Blamed(NamedTuple):
    """Why an order is refused; None: it cannot be told."""

    value: F | None
    bound: F


class Answer(NamedTuple):
    """Whether an order may be sent, and by (limit, scope) why not."""

    allowed: bool
    level: int
    reasons: dict[tuple[str, str], Blamed]


def exceeds(value: F, bound: F) -> bool:
    """Whether a value is past its bound, by more than what is granted to it."""
    return (value - bound) / bound > F(1, 10**9)


def left_unknown(limit: LimitConfig) -> int:
    """The level that an unknown limit leaves: what is written, else as a breach would."""
    params: Any = limit.params
    blocks = params.on_breach in ("block", "reduce")
    written = params.on_unknown or ("reduce_only" if blocks else params.level)
    return REDUCE_ONLY if written == "reduce_only" else HALT


class Desk:
    """An account with its limits."""

    def __init__(self, config: EngineConfig, begin_wall: int, now: int) -> None:
        self.config = config
        self.book = Book(config.portfolio, begin_wall, now)
        self.happened: list[tuple[int, Any]] = []  # events and orders that were asked for
        self.scopes = {"account": True}
        self.seen: dict[tuple[str, str], Seen] = {}
        self.limits = {limit.name: limit for limit in config.limits}
        # By venue and id: the order that was refused, the answer, and when.
        self.refused: dict[tuple[str, str | None], tuple[ev.Check, Answer, int]] = {}

    # -- what happens ---------------------------------------------------------------------------

    def instant(self, now: int, *events: Any) -> None:
        """Time passes to ``now``, events happen in order, and all is judged."""
        self.pass_to(now)
        for event in events:
            self._register(event)
            if self.book.tell(event):
                worth = self._notional_of(event) if isinstance(event, ev.Order) else None
                what = Reported(event, worth) if isinstance(event, ev.Order) else event
                self.happened.append((now, what))
        self._judge()

    def pass_to(self, now: int) -> None:
        """Time passes, and at each instant at which something may change by itself it is judged."""
        while (due := min(self._moments(), default=now)) < now:
            self.book.move_to(due)
            self._judge()
        self.book.move_to(now)

    def _moments(self) -> list[int]:
        """The instants after now at which an age, a wait, a day or a minute ends."""
        portfolio, now = self.config.portfolio, self.book.now
        ages = [portfolio.unknown_grace, 1.0, 5.0]
        due = {at + round(age * SECOND) for at, _ in self.book.told for age in ages}
        for age in (portfolio.max_age.price, portfolio.max_age.balance):
            due |= {at + round(age * SECOND) + 1 for at, _ in self.book.told}
        due |= {at + self.ttl for at, _ in self.happened}
        for one in self.seen.values():
            if one.unknown_since is not None:
                due.add(one.unknown_since + round(portfolio.unknown_grace * SECOND))
        return [at for at in (*due, *self._period_ends()) if at > now]

    def _period_ends(self) -> list[int]:
        begun, ends = self.book.begin_wall, []
        date = datetime.fromtimestamp((begun + self.book.now) // SECOND, UTC).date()
        days = (date + timedelta(days=number) for number in (0, 1, 2))
        ends += [day_begin(day, self.config.portfolio) - begun for day in days]
        for limit in self.config.limits:
            period = period_of(limit)
            if period is not None and period not in ("day", "week"):
                window = int(F(period.removesuffix("h")) * 3_600 * SECOND)
                ends += [(at // (60 * SECOND) + 1) * 60 * SECOND + window for at, _ in self.told]
        return ends

    @property
    def told(self) -> list[Any]:
        """What the book was told."""
        return self.book.told

    def _register(self, event: Any) -> None:
        for kind in ("venue", "symbol", "strategy"):
            name = getattr(event, kind, None)
            if name:
                self.scopes[f"{kind}:{name}"] = True

    # -- standing limits ------------------------------------------------------------------------

    def _judge(self) -> None:
        self.book.judge()
        for limit in self.config.limits:
            if limit.kind in STANDING:
                for scope in self.scopes:
                    if scope.partition(":")[0] == limit.params.per:
                        self._look(limit, scope)

    def _look(self, limit: LimitConfig, scope: str) -> None:
        seen = self.seen.setdefault((limit.name, scope), Seen())
        seen.value = self.value(limit, scope)
        now = self.book.now
        if seen.value is None:
            acts = limit.params.on_breach not in ("shadow", "warn")
            must = limit.written and acts and limit.params.on_unknown != "ignore"
            seen.unknown_since = now if seen.unknown_since is None else seen.unknown_since
            grace = round(self.config.portfolio.unknown_grace * SECOND)
            seen.halted = must and now >= seen.unknown_since + grace
            return
        seen.unknown_since, seen.halted = None, False
        past = exceeds(seen.value, self.bound(limit, scope))
        seen.breaches += past and not seen.past
        seen.past = past

    def bound(self, limit: LimitConfig, scope: str) -> F:
        """An override, or ``max``."""
        params: Any = limit.params
        return F(params.overrides.get(scope, params.max))

    def value(self, limit: LimitConfig, scope: str) -> F | None:
        """What a standing limit measures now; None when it is unknown."""
        book, name = self.book, scope.partition(":")[2]
        if limit.kind == "position":
            return abs(F(book.quantity(name)))
        if limit.kind == "total_position":
            return book.gross_quantity()
        if limit.kind == "open_positions":
            return F(len(book.open_symbols()))
        if limit.kind == "inventory":
            notional = book.notional(name)
            return None if notional is None else abs(notional)
        if limit.kind == "total_notional":
            return book.gross_notional()
        if limit.kind == "concentration":
            return self._over_equity(book.largest_notional())
        if limit.kind == "leverage":
            return self._over_equity(self._committed())
        if limit.kind == "open_orders":
            return F(self._open_orders(scope))
        if limit.kind == "portfolio_loss":
            return book.portfolio_loss()
        if limit.kind == "drawdown":
            return book.drawdown()
        trailing: bool = limit.params.trailing  # type: ignore[attr-defined]
        return book.loss(scope, period_of(limit) or "day", trailing=trailing)

    def _over_equity(self, notional: F | None) -> F | None:
        equity = self.book.equity_known
        if notional is None or equity is None:
            return None
        return notional / equity

    def level(self, scope: str) -> int:
        """What is left of a scope's permission; the account's is folded into each."""
        levels = [ALLOW]
        for (name, where), seen in self.seen.items():
            if where in (scope, "account"):
                levels.append(self._leaves(self.limits[name], seen))
        return min(levels)

    def _leaves(self, limit: LimitConfig, seen: Seen) -> int:
        if seen.frozen:
            return HALT
        if seen.halted:
            return left_unknown(limit)
        blocks = limit.params.on_breach in ("block", "reduce")
        return REDUCE_ONLY if seen.past and blocks and limit.kind in STANDING else ALLOW

    # -- reservations ---------------------------------------------------------------------------

    @property
    def answers(self) -> dict[Any, Any]:
        """What is remembered until something is told or time moves."""
        return self.book.answers

    @property
    def ttl(self) -> int:
        """How long what is not heard of counts."""
        return round(self.config.check_ttl * SECOND)

    @remembered
    def known(self) -> dict[tuple[str, str], Resting]:
        """The orders that are remembered now, by venue and id."""
        found: dict[tuple[str, str], Resting] = {}
        for at, what in self.happened:
            self._forget(found, at)
            if isinstance(what, Asked):
                if what.admitted:
                    self._admit(found, at, what)
            elif isinstance(what, Reported):
                self._hear(found, at, what)
            elif isinstance(what, ev.OpenOrders) and what.count == 0:
                for one in found.values():
                    heard = one.venue == what.venue and one.heard is not None and one.heard < at
                    if heard and one.over is None:
                        one.over = at
            elif isinstance(what, ev.Fill):
                self._fill(found, at, what)
            self._end_filled(found, at)
        self._forget(found, self.book.now)
        return found

    def resting(self) -> dict[tuple[str, str], Resting]:
        """The orders that count now: of which something is left."""
        now = self.book.now
        return {name: one for name, one in self.known().items() if one.left(now, self.ttl) > 0}

    def _admit(self, found: dict[tuple[str, str], Resting], at: int, asked: Asked) -> None:
        order, quantity = asked.order, F(asked.order.quantity or 0)
        name = (order.venue, order.id or f"\n{asked.number}")
        earlier = found.pop(name, None)
        found[name] = Resting(
            *(order.venue, order.symbol, order.side, quantity, asked.notional, at, order),
            level=asked.level,
            reduce_only=order.reduce_only,
            heard=earlier.heard if earlier is not None and earlier.over is None else None,
        )

    def _forget(self, found: dict[tuple[str, str], Resting], now: int) -> None:
        self._end_filled(found, now)
        for name, one in list(found.items()):
            silent = one.over is None and one.heard is None and now >= one.since + self.ttl
            over = one.over is not None and now >= one.over + self.ttl
            if silent or (over and not one.left(now, self.ttl)):
                del found[name]

    def _end_filled(self, found: dict[tuple[str, str], Resting], now: int) -> None:
        """An order of which nothing is left is over, from the instant at which that became so."""
        for one in found.values():
            if one.over is None and one.left(now, self.ttl) == 0:
                lapses = [at + self.ttl for at, amount in one.told if amount >= one.quantity]
                one.over = now if one.filled >= one.quantity else min(lapses)
                one.told.append((one.over, one.quantity))

    def _hear(self, found: dict[tuple[str, str], Resting], at: int, report: Reported) -> None:
        event = report.event
        one = found.get((event.venue, event.id))
        if one is None:
            if event.status != "open":
                return
            quantity = F(event.quantity or 0)
            one = found[event.venue, event.id] = Resting(
                *(event.venue, event.symbol, event.side, quantity),
                *(report.notional, at, None),
            )
        one.heard = at
        if one.over is not None:  # a later report of the end may say that less was executed
            if event.status != "open" and event.remaining is not None:
                most = max(F(0), one.quantity - F(event.remaining))
                one.told = [(when, min(amount, most)) for when, amount in one.told]
            return
        if event.status != "open" and event.remaining is None:
            one.told.append((at, one.quantity))
        elif event.remaining is not None:
            remaining = F(event.remaining)
            if remaining > one.quantity:  # it was made larger at the venue
                larger = remaining + max(one.filled, one.executed(at))
                if one.notional is not None:
                    one.notional *= larger / one.quantity
                one.quantity = larger
            one.told.append((at, one.quantity - remaining))
        one.over = None if event.status == "open" else at

    def _notional_of(self, event: ev.Order) -> F | None:
        quantity, price = F(event.quantity or 0), F(event.price or 0)
        return self._worth(event.venue, event.symbol, event.side, quantity, price)

    def _fill(self, found: dict[tuple[str, str], Resting], at: int, event: ev.Fill) -> None:
        if event.order_id is not None:
            one = found.get((event.venue, event.order_id))
            if one is not None:
                one.heard = at
                one.filled += F(event.quantity)
            return
        rest = F(event.quantity)
        for one in found.values():  # the oldest first
            left = one.left(at, self.ttl)
            where = (one.venue, one.symbol) == (event.venue, event.symbol)
            if where and one.side in (event.side, None) and left:
                filled = min(rest, left)
                one.filled += filled
                rest -= filled

    def _reserved(self, symbol: str, side: str, order: ev.Check, *, money: bool = False) -> F:
        """What is reserved on one side of a symbol, without the order itself."""
        amount = F(0)
        for name, one in self.resting().items():
            same = name == (order.venue, order.id) and one.symbol == order.symbol
            if one.symbol == symbol and one.side in (side, None) and not same:
                # One whose notional could not be told when it was admitted counts for none.
                each = (one.notional or F(0)) / one.quantity if money else F(1)
                amount += one.left(self.book.now, self.ttl) * each
        return amount

    # -- orders ---------------------------------------------------------------------------------

    def check(self, order: ev.Check) -> Answer:
        """May it be sent? An order that may, and is not simulated, counts from now on."""
        if not order.simulate:
            self._register(order)
            self.book.tell(order)  # it names the symbol at the venue
        scopes = ["account", "venue:" + order.venue, "symbol:" + order.symbol]
        scopes += ["strategy:" + order.strategy] if order.strategy else []
        level = min(map(self.level, scopes))
        again = self._again(order)
        if again is not None and again.level == level:
            return again
        reasons: dict[tuple[str, str], Blamed] = {}
        if level == HALT or (level == REDUCE_ONLY and not self._only_closes(order)):
            for (name, scope), seen in self.seen.items():
                if scope in scopes and self._leaves(self.limits[name], seen) != ALLOW:
                    reasons[name, scope] = Blamed(seen.value, self.bound(self.limits[name], scope))
        elif order.reduce_only and not self._only_closes(order):
            held = self.book.held_in(order.venue, order.symbol)[0]
            against = held < 0 if order.side == "buy" else held > 0
            more = F(order.quantity or 0) + self._on_its_side(order)
            reasons["reduce_only", "symbol:" + order.symbol] = Blamed(
                more, abs(held) if against else F(0)
            )
        for limit in self.config.limits:
            for scope in scopes:
                if scope.partition(":")[0] == limit.params.per:
                    self._ask(limit, scope, order, reasons)
        answer = Answer(not reasons, level, reasons)
        if not order.simulate:
            notional = self.order_notional(order)
            number = len(self.happened)
            self.happened.append(
                (self.book.now, Asked(order, notional, not reasons, number, level))
            )
            self.answers.clear()
            self.refused.pop((order.venue, order.id), None)
            if reasons:
                self.refused[order.venue, order.id] = (order, answer, self.book.now)
            self._judge()
        return answer

    def _again(self, order: ev.Check) -> Answer | None:
        """The answer that the same order had, while it is remembered."""
        if order.id is None or order.simulate:
            return None
        one = self.known().get((order.venue, order.id))
        if one is not None and one.asked == order:
            return Answer(True, one.level, {})
        same, answer, at = self.refused.get((order.venue, order.id), (None, None, 0))
        return answer if same == order and self.book.now < at + self.ttl else None

    def _ask(
        self, limit: LimitConfig, scope: str, order: ev.Check, reasons: dict[Any, Blamed]
    ) -> None:
        """Whether one limit refuses an order."""
        if limit.kind in STANDING and limit.kind not in SIZES:
            return  # a loss is what it is, whatever is ordered
        bound = self.bound(limit, scope)
        if limit.kind in SIZES:
            before, after = self._sizes(limit, order)
            past = before is not None and after is not None and after > before
            past = past and after is not None and exceeds(after, bound)
        else:
            after = self._of_order(limit, scope, order)
            past = after is not None and exceeds(after, bound)
        refuses = limit.params.on_breach in REFUSES
        if after is None:
            refuses = refuses and limit.params.on_unknown != "ignore"
            if refuses and not self._only_closes(order):
                reasons[limit.name, scope] = Blamed(None, bound)
        elif past and refuses:
            reasons[limit.name, scope] = Blamed(after, bound)
        self._act(limit, scope, order, after, past=past)

    def _act(
        self, limit: LimitConfig, scope: str, order: ev.Check, value: F | None, *, past: bool
    ) -> None:
        if order.simulate:
            return
        seen = self.seen.setdefault((limit.name, scope), Seen())
        seen.breaches += past
        freeze_at = getattr(limit.params, "freeze_at", None)
        if freeze_at is not None and value is not None and value >= freeze_at:
            seen.frozen = True

    def _only_closes(self, order: ev.Check) -> bool:
        """Whether it can do no more than close, with what is reserved on its side of the venue."""
        held: F = self.book.held_in(order.venue, order.symbol)[0]
        against = held < 0 if order.side == "buy" else held > 0
        return against and F(order.quantity or 0) + self._on_its_side(order) <= abs(held)

    def _on_its_side(self, order: ev.Check) -> F:
        """What is reserved there; a venue lets no order flip a contract that is flagged so."""
        spot = read_symbol(order.symbol, self.config.portfolio.reference).kind == "spot"
        return sum(
            (
                one.left(self.book.now, self.ttl)
                for name, one in self.resting().items()
                if (one.venue, one.symbol) == (order.venue, order.symbol)
                and one.side in (order.side, None)
                and name != (order.venue, order.id)
                and not (order.reduce_only and one.reduce_only and not spot)
            ),
            F(0),
        )

    # -- sizes before and after an order --------------------------------------------------------

    def order_notional(self, order: ev.Check) -> F | None:
        """At its own price, a sale at the mark if that is higher, in the reference."""
        quantity, price = F(order.quantity or 0), F(order.price or 0)
        return self._worth(order.venue, order.symbol, order.side, quantity, price)

    def _worth(self, venue: str, symbol: str, side: str | None, quantity: F, price: F) -> F | None:
        what = read_symbol(symbol, self.config.portfolio.reference)
        size, worth = self.book.size(venue, symbol), self.book.worth(what.quote)
        if size is None or worth is None:
            return None
        if what.kind == "inverse":
            return quantity * size * worth
        if side != "buy":
            mark = self.book.mark(symbol, venue)
            if mark is None:
                return None
            price = max(price, mark)
        return quantity * size * price * worth

    def _quantities(self, order: ev.Check) -> tuple[F, F]:
        held = self.book.quantity(order.symbol)
        resting = self._reserved(order.symbol, order.side, order)
        return _as_if(order.side, held, resting, F(order.quantity or 0))

    def _notionals(self, order: ev.Check) -> tuple[F, F] | None:
        held, own = self.book.notional(order.symbol), self.order_notional(order)
        if held is None or own is None:
            return None
        resting = self._reserved(order.symbol, order.side, order, money=True)
        return _as_if(order.side, held, resting, own)

    def _sizes(self, limit: LimitConfig, order: ev.Check) -> tuple[F | None, F | None]:
        """What a size limit measures, before and after the order is filled."""
        if limit.kind == "position":
            return self._quantities(order)
        if limit.kind == "total_position":
            return self._total(order, money=False)
        if limit.kind == "open_positions":
            return self._opened(order)
        if limit.kind == "open_orders":
            return self._one_more(order)
        notionals = self._notionals(order)
        if limit.kind == "inventory":
            return notionals or (None, None)
        if limit.kind in ("total_notional", "leverage"):
            known = self.book.gross_notional() is not None
            own = self.order_notional(order) is not None
            total = self._total(order, money=True) if known and own else (None, None)
            if limit.kind == "total_notional":
                return total
            before, after = map(self._over_equity, total)
            return before, after
        largest = self._over_equity(self.book.largest_notional())
        if notionals is None or largest is None:
            return None, None
        before, after = (self._over_equity(one) or F(0) for one in notionals)
        return max(largest, before), max(largest if after >= before else F(0), after)

    def _total(self, order: ev.Check, *, money: bool) -> tuple[F, F]:
        """The sum over all symbols of the worst that resting orders may make of each."""
        symbols = {*self.book.symbols, order.symbol}
        symbols |= {one.symbol for one in self.resting().values()}
        sums = []
        for own in (F(0), self.order_notional(order) if money else F(order.quantity or 0)):
            amount = F(0)
            for symbol in symbols:
                held = self.book.notional(symbol) if money else self.book.quantity(symbol)
                buys = self._reserved(symbol, "buy", order, money=money)
                sells = self._reserved(symbol, "sell", order, money=money)
                if symbol == order.symbol:
                    buys += own or F(0) if order.side == "buy" else F(0)
                    sells += own or F(0) if order.side == "sell" else F(0)
                amount += _worst(held or F(0), buys, sells)
            sums.append(amount)
        return sums[0], sums[1]

    def _committed(self) -> F | None:
        """The gross notional, as large as the orders that rest may make it."""
        if self.book.gross_notional() is None:
            return None
        nothing = ev.Check(venue="", symbol="", side="buy", quantity=0.0, price=1.0)
        symbols = {*self.book.symbols, *(one.symbol for one in self.resting().values())}
        return sum(
            (
                _worst(
                    self.book.notional(symbol) or F(0),
                    self._reserved(symbol, "buy", nothing, money=True),
                    self._reserved(symbol, "sell", nothing, money=True),
                )
                for symbol in symbols
            ),
            F(0),
        )

    def _open_orders(self, scope: str) -> int:
        kind, _, name = scope.partition(":")
        return sum(
            one.over is None
            and name in {"account": name, "venue": one.venue, "symbol": one.symbol}[kind]
            for one in self.known().values()
        )

    def _one_more(self, order: ev.Check) -> tuple[F, F]:
        """The orders that rest before and after; one that is changed is no more."""
        one = self.known().get((order.venue, order.id or ""))
        changed = one is not None and one.over is None
        before = F(self._open_orders("account"))
        return before, before + (not changed)

    def _opened(self, order: ev.Check) -> tuple[F, F]:
        """The symbols that are open, and those that resting orders may open."""
        symbols = self.book.open_symbols()
        for one in self.resting().values():
            held = self.book.quantity(one.symbol)
            buys, sells = self._resting_sides(one.symbol)
            if _worst(held, buys, sells) > abs(held):
                symbols.add(one.symbol)
        before, after = self._quantities(order)
        new = order.symbol not in symbols and after > before
        return F(len(symbols)), F(len(symbols) + new)

    def _resting_sides(self, symbol: str) -> tuple[F, F]:
        sides = {"buy": F(0), "sell": F(0)}
        for one in self.resting().values():
            for side in sides if one.symbol == symbol else ():
                if one.side in (side, None):
                    sides[side] += one.left(self.book.now, self.ttl)
        return sides["buy"], sides["sell"]

    # -- limits on single orders ----------------------------------------------------------------

    def _of_order(self, limit: LimitConfig, scope: str, order: ev.Check) -> F | None:
        if limit.kind == "order_notional":
            return self.order_notional(order)
        if limit.kind == "order_quantity":
            return F(order.quantity or 0)
        if limit.kind == "price_collar":
            mark = self.book.mark(order.symbol, order.venue)
            if mark is None:
                return None
            off = F(order.price or 0) / mark - 1
            both = limit.params.side == "both"  # type: ignore[attr-defined]
            return abs(off) if both else max(F(0), off if order.side == "buy" else -off)
        if limit.kind == "order_count":
            return F(1 + self._admitted_today(scope))
        if limit.kind == "message_rate":
            return self._rate(limit, scope)
        return self._repeats(limit, order)

    def _admitted_today(self, scope: str) -> int:
        wall = self.book.begin_wall + self.book.now
        begun = period_begin("day", wall, self.config.portfolio) - self.book.begin_wall
        return sum(
            isinstance(what, Asked)
            and what.admitted
            and at >= begun
            and scope in ("account", *_scopes(what.order))
            for at, what in self.happened
        )

    def _rate(self, limit: LimitConfig, scope: str) -> F:
        """bound x (burst - tokens + 1) / burst: past the bound when no whole token is left."""
        burst, bound = F(limit.params.burst), self.bound(limit, scope)  # type: ignore[attr-defined]
        tokens, counted = burst, 0
        for at, what in [*self.happened, (self.book.now, None)]:
            asked = what if isinstance(what, Asked) and what.admitted else None
            if asked is not None and scope not in _scopes(asked.order):
                continue
            if asked is not None or what is None:
                tokens = min(burst, tokens + F(at - counted, SECOND) * bound)
                tokens -= asked is not None
                counted = at
        return bound * (burst - tokens + 1) / burst

    def _repeats(self, limit: LimitConfig, order: ev.Check) -> F:
        """How often this order was asked for in the last seconds, with this time."""
        seconds = F(limit.params.seconds)  # type: ignore[attr-defined]
        since = self.book.now - int(seconds * SECOND)
        times = [
            at
            for at, what in self.happened
            if isinstance(what, Asked) and at > since and _same(what.order) == _same(order)
        ]
        return F(len(times) + 1)


def period_of(limit: LimitConfig) -> str | None:
    """``day``, ``week`` or hours such as ``1h``; None for what has no period."""
    if limit.kind == "loss":
        return str(limit.params.period)  # type: ignore[attr-defined]
    return {"daily_loss": "day", "weekly_loss": "week"}.get(limit.kind)


def _scopes(order: ev.Check) -> tuple[str, str]:
    return f"venue:{order.venue}", f"strategy:{order.strategy}"


def _same(order: ev.Check) -> tuple[Any, ...]:
    return (
        *(order.strategy, order.venue, order.symbol),
        *(order.side, order.quantity, order.price),
    )


def _as_if(side: str, held: F, resting: F, own: F) -> tuple[F, F]:
    sign = 1 if side == "buy" else -1
    return abs(held + sign * resting), abs(held + sign * (resting + own))


def _worst(held: F, buys: F, sells: F) -> F:
    return max(abs(held), abs(held + buys), abs(held - sells))
