"""The engine and the model of its orders and limits side by side: both get the same events.

After each step every (limit, scope), every level and every answer is compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from fractions import Fraction as F
from math import isclose
from typing import Any

from riskmon.core import events as ev
from riskmon.core.book.config import MaxAge, PortfolioConfig
from riskmon.core.config import EngineConfig, LimitConfig
from riskmon.core.decisions import LEVEL_NAMES, CheckAnswer, Violation
from riskmon.core.portfolio_view import PortfolioView
from tests.core import BEGIN_WALL_NS, SECOND, World, limit
from tests.core.reference.orders import STANDING, Answer, Desk
from tests.core.reference.singles import bound_of

VENUES = ("a", "b")
STRATEGIES = ("mm", "arb")
SIDES: tuple[ev.Side, ...] = ("buy", "sell")
SPOT, LINEAR, INVERSE = "BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC"
SYMBOLS = (SPOT, LINEAR, INVERSE, "ETH/USDT:USDT")
SIZES = {INVERSE: 100.0, "ETH/USDT:USDT": 0.5}
ASSETS = ("USDT", "BTC")


SHADOW: dict[str, Any] = {"on_breach": "shadow"}


def size_limits() -> tuple[LimitConfig, ...]:
    """Return every limit on sizes and orders, some more than once under other names.

    Bounds of ratios are odd, so that no rounding of floats decides whether a value is past one.
    """
    return (
        limit("position", max=4.0, overrides={f"symbol:{SPOT}": 6.0}),
        limit("position", "tight", max=2.0, **SHADOW),
        limit("total_position", max=9.0),
        limit("open_positions", max=3.0),
        limit("inventory", max=500.0, written=True, overrides={f"symbol:{LINEAR}": 300.0}),
        limit("total_notional", max=900.0, on_unknown="ignore"),
        limit("total_notional", "gross", max=700.0, **SHADOW),
        limit("concentration", max=0.0413),
        limit("leverage", max=0.0613),
        limit("open_orders", max=7.0),
        limit("order_count", max=9.0, per="strategy"),
        limit("order_notional", max=400.0),
        limit("order_quantity", max=4.0, overrides={f"symbol:{SPOT}": 2.0}),
        limit("price_collar", max=0.25),
        limit("price_collar", "both", max=0.35, side="both"),
        limit("message_rate", max=0.5, burst=4.0),
        limit("message_rate", "pace", per="strategy", max=0.25, burst=3.0),
        limit("repeat_orders", max=2.0, freeze_at=4.0, seconds=8.0),
    )


def all_limits() -> tuple[LimitConfig, ...]:
    """Return the limits on sizes and orders, and those on losses."""
    return (
        *size_limits(),
        limit("portfolio_loss", max=0.00413, **SHADOW),
        limit("drawdown", max=0.00313, **SHADOW, written=True),
        limit("daily_loss", max=30.0, **SHADOW),
        limit("weekly_loss", max=40.0, **SHADOW),
        limit("loss", "trailing", max=25.0, trailing=True, **SHADOW),
    )


def a_portfolio(day_start: str, **more: Any) -> PortfolioConfig:
    """Prices for half an hour, balances for an hour, in a zone with daylight saving."""
    return PortfolioConfig(
        timezone="Europe/Berlin",
        day_start=day_start,
        pegs={"USD": 1.25},
        **{"max_age": MaxAge(price=1_800.0, balance=3_600.0), **more},
    )


class Pair:
    """An engine and a model that get the same events."""

    def __init__(
        self, limits: Iterable[LimitConfig], portfolio: PortfolioConfig, begin: datetime
    ) -> None:
        self.world = World(*limits, portfolio=portfolio)
        self.world.now_ns = round(begin.timestamp()) * SECOND - BEGIN_WALL_NS
        self.rested: set[str] = set()  # symbols with resting orders at the last comparison
        config: EngineConfig = self.world.config
        self.desk = Desk(config, BEGIN_WALL_NS, self.world.now_ns)
        self.step(
            *(ev.Heartbeat(venue=venue) for venue in VENUES),
            *(ev.Heartbeat(symbol=symbol) for symbol in SYMBOLS),
            *(ev.Heartbeat(strategy=strategy) for strategy in STRATEGIES),
            *(
                ev.Position(
                    venue=venue, symbol=symbol, quantity=0.0, entry_price=0.0, contract_size=size
                )
                for venue in VENUES
                for symbol, size in SIZES.items()
            ),
        )

    def step(self, *events: ev.Event) -> None:
        """Apply one instant to both and compare them; no two have the same time."""
        self.world.now_ns += 1_000_000
        self.world.step(*events)
        self.desk.instant(self.world.now_ns, *events)
        self.compare()

    def wait(self, seconds: float) -> None:
        """Advance the time of both."""
        self.world.wait(seconds)
        self.desk.instant(self.world.now_ns)
        self.compare()

    def check(self, **order: Any) -> None:
        """Check an order with both and compare the answers."""
        asked = ev.Check(**order)
        expected = self.desk.check(asked)
        (answer,) = self.world.step(asked).answers
        assert isinstance(answer, CheckAnswer)
        same_answer(answer, expected)
        self.compare()

    def compare(self) -> None:
        """Compare every state limit and every level."""
        view = self.world.view
        seen = {(b.limit, b.scope): b for b in view.breakers if b.kind in STANDING}
        known = {key: one for key, one in self.desk.seen.items() if self._is_standing(key[0])}
        assert seen.keys() == known.keys()
        for key, one in known.items():
            breaker, bound = seen[key], bound_of(self.desk.limits[key[0]], key[1])
            assert (breaker.unknown is None) == (one.value is not None), (key, breaker.unknown)
            assert near(breaker.bound, bound), key
            assert near(breaker.value, one.value), (key, breaker.value, one.value)
            if one.value is not None and clear_cut(one.value, bound):
                assert near(breaker.utilization, min(F(10), one.value / bound)), key
                assert ((breaker.value or 0) > (breaker.bound or 0)) == one.past, key
                assert breaker.breaches_total == one.breaches, key
        for scope, level in view.levels.items():
            assert level == LEVEL_NAMES[self.desk.level(scope)], scope
        self._compare_books(view.portfolio)
        self._compare_reserved()

    def _compare_reserved(self) -> None:
        """Compare the reserved amounts through a dry run of a far too large order."""
        resting = {one.symbol for one in self.desk.orders.resting().values()}
        for symbol in sorted(resting | self.rested):
            for side in SIDES:
                asked = ev.Check(
                    venue=VENUES[0],
                    symbol=symbol,
                    side=side,
                    quantity=64.0,
                    price=100.0,
                    simulate=True,
                )
                (answer,) = self.world.step(asked).answers
                assert isinstance(answer, CheckAnswer)
                same_answer(answer, self.desk.check(asked))
        self.rested = resting

    def _compare_books(self, view: PortfolioView) -> None:
        book = self.desk.book
        for one in view.positions:
            quantity, _ = book.held_in(one.venue, one.symbol)
            assert near(one.quantity, quantity), (one.venue, one.symbol)
        assert near(view.equity, book.equity_known)

    def _is_standing(self, name: str) -> bool:
        return self.desk.limits[name].kind in STANDING


def near(value: float | None, exact: F | None) -> bool:
    """Whether two numbers agree to nine digits, differences to nine digits of their parts."""
    if value is None or exact is None:
        return value is None and exact is None
    return isclose(value, float(exact), rel_tol=1e-9, abs_tol=1e-8)


def clear_cut(value: F, bound: F) -> bool:
    """Whether the side of the bound does not depend on the rounding of floats."""
    return value == bound or abs(value - bound) > F(1, 10**8) * max(bound, F(1))


def same_answer(answer: CheckAnswer, expected: Answer) -> None:
    """Allowed, level, and each reason with its numbers."""
    told: dict[tuple[str, str], Violation] = {(one.limit, one.scope): one for one in answer.reasons}
    assert len(told) == len(answer.reasons)
    assert told.keys() == expected.reasons.keys()
    for key, one in expected.reasons.items():
        assert near(told[key].bound, one.bound), key
        assert near(told[key].value, one.value), (key, told[key].value, one.value)
    assert answer.allowed == expected.allowed
    assert answer.level == LEVEL_NAMES[expected.level]
