"""What every limit measures of the book and of an order, read anew from the list of what happened.

An order is judged as if it were filled, together with the orders that rest on its side
(:mod:`tests.core.reference.resting`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction as F
from typing import Any, NamedTuple

from riskmon.core import events as ev
from riskmon.core.config import EngineConfig, LimitConfig
from tests.core.reference.history import SECOND
from tests.core.reference.resting import ALLOW, Asked, Orders, Reported
from tests.core.reference.singles import Singles, bound_of
from tests.core.reference.sizes import Sizes
from tests.core.reference.standing import Book, day_begin

HALT, REDUCE_ONLY = range(2)
REFUSES = ("block", "reduce", "trip", "freeze")
STANDING = (
    *("position", "total_position", "open_positions", "inventory", "total_notional"),
    *("concentration", "leverage", "open_orders"),
    *("portfolio_loss", "drawdown", "loss", "daily_loss", "weekly_loss"),
)
SIZES = STANDING[:8]


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
        self.orders = Orders(config, self.book)
        self.sizes = Sizes(self.orders)
        self.singles = Singles(self.orders)
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
                worth = self.orders.notional_of(event) if isinstance(event, ev.Order) else None
                what = Reported(event, worth) if isinstance(event, ev.Order) else event
                self.orders.happened.append((now, what))
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
        due |= {at + self.orders.ttl for at, _ in self.orders.happened}
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
                ends += [
                    (at // (60 * SECOND) + 1) * 60 * SECOND + window for at, _ in self.book.told
                ]
        return ends

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
        past = exceeds(seen.value, bound_of(limit, scope))
        seen.breaches += past and not seen.past
        seen.past = past

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
            return self.sizes.over_equity(book.largest_notional())
        if limit.kind == "leverage":
            return self.sizes.over_equity(self.sizes.committed())
        if limit.kind == "open_orders":
            return F(self.orders.open_at(scope))
        if limit.kind == "portfolio_loss":
            return book.portfolio_loss()
        if limit.kind == "drawdown":
            return book.drawdown()
        trailing: bool = limit.params.trailing  # type: ignore[attr-defined]
        return book.loss(scope, period_of(limit) or "day", trailing=trailing)

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
                    reasons[name, scope] = Blamed(seen.value, bound_of(self.limits[name], scope))
        elif order.reduce_only and not self._only_closes(order):
            held = self.book.held_in(order.venue, order.symbol)[0]
            against = held < 0 if order.side == "buy" else held > 0
            more = F(order.quantity or 0) + self.orders.on_its_side(order)
            reasons["reduce_only", "symbol:" + order.symbol] = Blamed(
                more, abs(held) if against else F(0)
            )
        for limit in self.config.limits:
            for scope in scopes:
                if scope.partition(":")[0] == limit.params.per:
                    self._ask(limit, scope, order, reasons)
        answer = Answer(not reasons, level, reasons)
        if not order.simulate:
            notional = self.orders.order_notional(order)
            number = len(self.orders.happened)
            self.orders.happened.append(
                (self.book.now, Asked(order, notional, not reasons, number, level))
            )
            self.book.answers.clear()
            self.refused.pop((order.venue, order.id), None)
            if reasons:
                self.refused[order.venue, order.id] = (order, answer, self.book.now)
            self._judge()
        return answer

    def _again(self, order: ev.Check) -> Answer | None:
        """The answer that the same order had, while it is remembered."""
        if order.id is None or order.simulate:
            return None
        one = self.orders.known().get((order.venue, order.id))
        if one is not None and one.asked == order:
            return Answer(True, one.level, {})
        same, answer, at = self.refused.get((order.venue, order.id), (None, None, 0))
        return answer if same == order and self.book.now < at + self.orders.ttl else None

    def _ask(
        self, limit: LimitConfig, scope: str, order: ev.Check, reasons: dict[Any, Blamed]
    ) -> None:
        """Whether one limit refuses an order."""
        if limit.kind in STANDING and limit.kind not in SIZES:
            return  # a loss is what it is, whatever is ordered
        bound = bound_of(limit, scope)
        if limit.kind in SIZES:
            before, after = self.sizes.around(limit, order)
            past = before is not None and after is not None and after > before
            past = past and after is not None and exceeds(after, bound)
        else:
            after = self.singles.value(limit, scope, order)
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
        return against and F(order.quantity or 0) + self.orders.on_its_side(order) <= abs(held)


def period_of(limit: LimitConfig) -> str | None:
    """``day``, ``week`` or hours such as ``1h``; None for what has no period."""
    if limit.kind == "loss":
        return str(limit.params.period)  # type: ignore[attr-defined]
    return {"daily_loss": "day", "weekly_loss": "week"}.get(limit.kind)
