"""What every limit says of the book, and of an order, read anew from the list of what happened.

An order is judged as if it were filled. Orders that were admitted and are not filled yet count with
it on its own side: of orders that rest on both sides only one may be filled, so the worse is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction as F
from typing import Any, NamedTuple

from riskmon.core import events as ev
from riskmon.core.config import EngineConfig, LimitConfig
from tests.core.reference.standing import SECOND, Book, day_begin, read_symbol, remembered

HALT, REDUCE_ONLY, _, ALLOW = range(4)
REFUSES = ("block", "reduce", "trip", "freeze")
STANDING = (
    *("position", "total_position", "open_positions", "inventory", "total_notional"),
    *("concentration", "portfolio_loss", "drawdown", "loss", "daily_loss", "weekly_loss"),
)
SIZES = STANDING[:6]


class Asked(NamedTuple):
    """An order that was checked and not simulated, and its notional then."""

    order: ev.Check
    notional: F | None
    admitted: bool
    number: int


@dataclass
class Resting:
    """An order that counts; ``left`` of its quantity."""

    order: ev.Check
    notional: F | None
    quantity: F
    left: F
    since: int
    heard: bool = False
    filled: F = F(0)  # by its fills
    told: F = F(0)  # executed, by what the venue said remains

    def count(self) -> None:
        """Both only grow: the larger one counts."""
        self.left = self.quantity - max(self.filled, self.told)


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

    # -- what happens ---------------------------------------------------------------------------

    def instant(self, now: int, *events: Any) -> None:
        """Time passes to ``now``, events happen in order, and all is judged."""
        self.pass_to(now)
        for event in events:
            self._register(event)
            if self.book.tell(event):
                self.happened.append((now, event))
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

    @remembered
    def resting(self) -> dict[str, Resting]:
        """The orders that count now, by id."""
        found: dict[str, Resting] = {}
        for at, what in self.happened:
            self._give_up(found, at)
            if isinstance(what, Asked) and what.admitted:
                order = what.order
                quantity = F(order.quantity)
                found[order.id or f"\n{what.number}"] = Resting(
                    order, what.notional, quantity, quantity, at
                )
            elif isinstance(what, ev.Order) and what.id in found:
                self._hear(found, what)
            elif isinstance(what, ev.Fill) and what.order_id in found:
                one = found[what.order_id]
                one.heard = True
                one.filled += F(what.quantity)
                one.count()
            found = {name: one for name, one in found.items() if one.left > 0}
        self._give_up(found, self.book.now)
        return found

    def _give_up(self, found: dict[str, Resting], now: int) -> None:
        ttl = round(self.config.check_ttl * SECOND)
        for name, one in list(found.items()):
            if not one.heard and now >= one.since + ttl:
                del found[name]

    def _hear(self, found: dict[str, Resting], event: ev.Order) -> None:
        one = found[event.id]
        one.heard = True
        if event.status == "closed":
            del found[event.id]
        elif event.remaining is not None:
            remaining = F(event.remaining)
            if remaining > one.quantity:  # it was made larger at the venue
                larger = remaining + max(one.filled, one.told)
                if one.notional is not None:
                    one.notional *= larger / one.quantity
                one.quantity = larger
            one.told = max(one.told, one.quantity - remaining)
            one.count()

    def _reserved(self, symbol: str, side: str, order: ev.Check, *, money: bool = False) -> F:
        """What rests on one side of a symbol, without the order itself."""
        amount = F(0)
        for name, one in self.resting().items():
            same = name == order.id and one.order.symbol == order.symbol
            if (one.order.symbol, one.order.side) == (symbol, side) and not same:
                # One whose notional could not be told when it was admitted counts for none.
                each = (one.notional or F(0)) / one.quantity if money else F(1)
                amount += one.left * each
        return amount

    # -- orders ---------------------------------------------------------------------------------

    def check(self, order: ev.Check) -> Answer:
        """May it be sent? An order that may, and is not simulated, counts from now on."""
        if not order.simulate:
            self._register(order)
        scopes = ["account", "venue:" + order.venue, "symbol:" + order.symbol]
        scopes += ["strategy:" + order.strategy] if order.strategy else []
        level = min(map(self.level, scopes))
        reasons: dict[tuple[str, str], Blamed] = {}
        if level == HALT or (level == REDUCE_ONLY and not self._only_closes(order)):
            for (name, scope), seen in self.seen.items():
                if scope in scopes and self._leaves(self.limits[name], seen) != ALLOW:
                    reasons[name, scope] = Blamed(seen.value, self.bound(self.limits[name], scope))
        for limit in self.config.limits:
            for scope in scopes:
                if scope.partition(":")[0] == limit.params.per:
                    self._ask(limit, scope, order, reasons)
        if not order.simulate:
            asked = Asked(order, self.order_notional(order), not reasons, len(self.happened))
            self.happened.append((self.book.now, asked))
            self.answers.clear()
        return Answer(not reasons, level, reasons)

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
            if refuses and not (limit.kind in SIZES and self._gets_smaller(order)):
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
        """Whether it can do no more than close, with what rests on its side of the venue."""
        held: F = self.book.held_in(order.venue, order.symbol)[0]
        resting = sum(
            (
                one.left
                for name, one in self.resting().items()
                if (one.order.venue, one.order.symbol, one.order.side)
                == (order.venue, order.symbol, order.side)
                and name != order.id
            ),
            F(0),
        )
        against = held < 0 if order.side == "buy" else held > 0
        return against and F(order.quantity) + resting <= abs(held)

    def _gets_smaller(self, order: ev.Check) -> bool:
        before, after = self._quantities(order)
        return after < before and self._only_closes(order)

    # -- sizes before and after an order --------------------------------------------------------

    def order_notional(self, order: ev.Check) -> F | None:
        """At its own price, in the reference."""
        what = read_symbol(order.symbol, self.config.portfolio.reference)
        size, worth = self.book.size(order.venue, order.symbol), self.book.worth(what.quote)
        if size is None or worth is None:
            return None
        price = F(1) if what.kind == "inverse" else F(order.price)
        notional: F = F(order.quantity) * size * price * worth
        return notional

    def _quantities(self, order: ev.Check) -> tuple[F, F]:
        held = self.book.quantity(order.symbol)
        resting = self._reserved(order.symbol, order.side, order)
        return _as_if(order.side, held, resting, F(order.quantity))

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
        notionals = self._notionals(order)
        if limit.kind == "inventory":
            return notionals or (None, None)
        if limit.kind == "total_notional":
            known = self.book.gross_notional() is not None
            own = self.order_notional(order) is not None
            return self._total(order, money=True) if known and own else (None, None)
        largest = self._over_equity(self.book.largest_notional())
        if notionals is None or largest is None:
            return None, None
        before, after = (self._over_equity(one) or F(0) for one in notionals)
        return max(largest, before), max(largest if after >= before else F(0), after)

    def _total(self, order: ev.Check, *, money: bool) -> tuple[F, F]:
        """The sum over all symbols of the worst that resting orders may make of each."""
        symbols = {*self.book.symbols, order.symbol}
        symbols |= {one.order.symbol for one in self.resting().values()}
        sums = []
        for own in (F(0), self.order_notional(order) if money else F(order.quantity)):
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

    def _opened(self, order: ev.Check) -> tuple[F, F]:
        """The symbols that are open, and those that resting orders may open."""
        symbols = self.book.open_symbols()
        for one in self.resting().values():
            symbol = one.order.symbol
            held = self.book.quantity(symbol)
            buys, sells = self._resting_sides(symbol)
            if _worst(held, buys, sells) > abs(held):
                symbols.add(symbol)
        before, after = self._quantities(order)
        new = order.symbol not in symbols and after > before
        return F(len(symbols)), F(len(symbols) + new)

    def _resting_sides(self, symbol: str) -> tuple[F, F]:
        sides = {"buy": F(0), "sell": F(0)}
        for one in self.resting().values():
            if one.order.symbol == symbol:
                sides[one.order.side] += one.left
        return sides["buy"], sides["sell"]

    # -- limits on single orders ----------------------------------------------------------------

    def _of_order(self, limit: LimitConfig, scope: str, order: ev.Check) -> F | None:
        if limit.kind == "order_notional":
            return self.order_notional(order)
        if limit.kind == "order_quantity":
            return F(order.quantity)
        if limit.kind == "price_collar":
            mark = self.book.mark(order.symbol, order.venue)
            return None if mark is None else abs(F(order.price) / mark - 1)
        if limit.kind == "message_rate":
            return self._rate(limit, scope)
        return self._repeats(limit, order)

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
