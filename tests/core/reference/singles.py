"""What the limits on single orders measure: of the order itself, and of those before it."""

from __future__ import annotations

from fractions import Fraction as F
from typing import Any

from riskmon.core import events as ev
from riskmon.core.config import LimitConfig
from tests.core.reference.history import SECOND
from tests.core.reference.resting import Asked, Orders
from tests.core.reference.standing import period_begin


def bound_of(limit: LimitConfig, scope: str) -> F:
    """An override, or ``max``."""
    params: Any = limit.params
    return F(params.overrides.get(scope, params.max))


class Singles:
    """The limits on single orders of an account."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.book = orders.book

    def value(self, limit: LimitConfig, scope: str, order: ev.Check) -> F | None:
        if limit.kind == "order_notional":
            return self.orders.order_notional(order)
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
        begun = period_begin("day", wall, self.orders.config.portfolio) - self.book.begin_wall
        return sum(
            isinstance(what, Asked)
            and what.admitted
            and at >= begun
            and scope in ("account", *_scopes(what.order))
            for at, what in self.orders.happened
        )

    def _rate(self, limit: LimitConfig, scope: str) -> F:
        """bound x (burst - tokens + 1) / burst: past the bound when no whole token is left."""
        burst, bound = F(limit.params.burst), bound_of(limit, scope)  # type: ignore[attr-defined]
        tokens, counted = burst, 0
        for at, what in [*self.orders.happened, (self.book.now, None)]:
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
            for at, what in self.orders.happened
            if isinstance(what, Asked) and at > since and _same(what.order) == _same(order)
        ]
        return F(len(times) + 1)


def _scopes(order: ev.Check) -> tuple[str, str]:
    return f"venue:{order.venue}", f"strategy:{order.strategy}"


def _same(order: ev.Check) -> tuple[Any, ...]:
    return (
        *(order.strategy, order.venue, order.symbol),
        *(order.side, order.quantity, order.price),
    )
