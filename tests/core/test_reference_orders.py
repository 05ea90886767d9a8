"""Checks and reports of orders against a second implementation of them.

A story is a state machine of Hypothesis: any sequence of checks, reports of orders, fills and
waits, in contracts whose price stays as it is. After each step every (limit, scope) and every
answer must be what the slow and obvious model says.
"""

from __future__ import annotations

from fractions import Fraction as F
from math import isclose
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from riskmon.core import events as ev
from riskmon.core.book.config import MaxAge, PortfolioConfig
from riskmon.core.book.reservations import Reservations
from riskmon.core.config import EngineConfig, LimitConfig
from riskmon.core.decisions import LEVEL_NAMES, CheckAnswer, Violation
from riskmon.core.limits.orders import MessageRateLimit
from tests.core import BEGIN_WALL_NS, World, limit, price
from tests.core.reference.orders import STANDING, Answer, Desk, Resting

VENUES = ("a", "b")
STRATEGIES = ("mm", "arb")
SIDES: tuple[ev.Side, ...] = ("buy", "sell")
LINEAR = "BTC/USDT:USDT"
SYMBOLS = (LINEAR, "ETH/USDT:USDT", "XRP/USDT:USDT")
PORTFOLIO = PortfolioConfig(
    initial_capital=20_000.0, timezone="Europe/Berlin", max_age=MaxAge(price=1e6)
)


def all_limits() -> tuple[LimitConfig, ...]:
    """Return every limit on sizes and orders; bounds of ratios are odd, so that none is met."""
    return (
        limit("position", max=4.0, overrides={f"symbol:{LINEAR}": 6.0}),
        limit("position", "tight", max=2.0, on_breach="shadow"),
        limit("total_position", max=9.0),
        limit("open_positions", max=2.0),
        limit("inventory", max=500.0, overrides={f"symbol:{LINEAR}": 300.0}),
        limit("total_notional", max=900.0),
        limit("total_notional", "gross", max=700.0, on_breach="shadow"),
        limit("concentration", max=0.0213),
        limit("leverage", max=0.0413),
        limit("open_orders", max=7.0),
        limit("order_count", max=9.0, per="strategy"),
        limit("order_notional", max=400.0),
        limit("order_quantity", max=4.0),
        limit("price_collar", max=0.2513),
        limit("price_collar", "both", max=0.3513, side="both"),
        limit("message_rate", max=0.5, burst=4.0),
        limit("repeat_orders", max=2.0, freeze_at=4.0, seconds=8.0),
    )


class Pair:
    """An engine and a model that get the same events."""

    def __init__(self) -> None:
        self.world = World(*all_limits(), portfolio=PORTFOLIO)
        self.rested: set[str] = set()  # symbols with resting orders at the last comparison
        config: EngineConfig = self.world.config
        self.desk = Desk(config, BEGIN_WALL_NS, self.world.now_ns)
        self.step(
            *(ev.Heartbeat(venue=venue) for venue in VENUES),
            *(ev.Heartbeat(strategy=strategy) for strategy in STRATEGIES),
            *(price(symbol, 100.0) for symbol in SYMBOLS),
        )

    def step(self, *events: ev.Event) -> None:
        """Apply one instant to both and compare them."""
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
            breaker, bound = seen[key], self.desk.bound(self.desk.limits[key[0]], key[1])
            assert (breaker.unknown is None) == (one.value is not None), (key, breaker.unknown)
            assert near(breaker.bound, bound), key
            assert near(breaker.value, one.value), (key, breaker.value, one.value)
            if one.value is not None and clear_cut(one.value, bound):
                assert near(breaker.utilization, min(F(10), one.value / bound)), key
                assert ((breaker.value or 0) > (breaker.bound or 0)) == one.past, key
                assert breaker.breaches_total == one.breaches, key
        for scope, level in view.levels.items():
            assert level == LEVEL_NAMES[self.desk.level(scope)], scope
        self._compare_reserved()

    def _compare_reserved(self) -> None:
        """Compare the reserved amounts through a dry run of a far too large order."""
        resting = {one.symbol for one in self.desk.resting().values()}
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


# -- stories ----------------------------------------------------------------------------------

quantities = st.sampled_from((0.5, 1.0, 1.5, 2.0, 3.0))
prices = st.sampled_from((64.0, 80.0, 90.0, 100.0, 110.0, 128.0))
venues = st.sampled_from(VENUES)
symbols = st.sampled_from(SYMBOLS)
sides = st.sampled_from(SIDES)
strategies = st.sampled_from((None, *STRATEGIES))
waits = st.sampled_from((0.5, 1.0, 2.5, 5.0, 31.0, 400.0, 90_000.0))
orders = st.integers(0, 2)
an_order = st.builds(
    lambda symbol, venue, side, quantity, each, strategy, name: {
        "symbol": symbol,
        "venue": venue,
        "side": side,
        "quantity": quantity,
        "price": each,
        "strategy": strategy,
        "id": f"{symbol} {name}" if name else None,
    },
    *(symbols, venues, sides, quantities, prices, strategies, orders),
)


class Stories(RuleBasedStateMachine):
    """An account whose equity is its capital: every fill is at the mark."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.asked: dict[str, Any] | None = None

    @initialize()
    def begin(self) -> None:
        """Every symbol has a price."""
        self.pair = Pair()

    @rule(symbol=symbols, venue=venues, side=sides, quantity=quantities)
    def fill(self, symbol: str, venue: str, side: Any, quantity: float) -> None:
        """A fill of an order that nobody checked or reported."""
        self.made += 1
        order = {"symbol": symbol, "venue": venue, "side": side, "quantity": quantity}
        self.pair.step(
            ev.Fill(**order, price=100.0, id=str(self.made), order_id=f"unknown {self.made}")
        )

    @rule(seconds=waits)
    def wait(self, seconds: float) -> None:
        """Time passes, perhaps over a midnight."""
        self.pair.wait(seconds)

    @rule(order=an_order, simulate=st.booleans(), reduce_only=st.booleans())
    def check(self, order: dict[str, Any], simulate: bool, reduce_only: bool) -> None:
        """A check of an order."""
        self.pair.check(**order, simulate=simulate, reduce_only=reduce_only)
        self.asked = order

    @rule()
    def check_again(self) -> None:
        """A check of the same order again."""
        if self.asked is not None:
            self.pair.check(**self.asked)

    @rule(symbol=symbols, venue=venues, side=sides, parts=st.lists(quantities, max_size=3))
    def trade(self, symbol: str, venue: str, side: Any, parts: list[float]) -> None:
        """An order at a usual price and its fills, perhaps of all of it."""
        self.made += 1
        name, each = f"{symbol} {self.made}", 100.0
        order: dict[str, Any] = {"symbol": symbol, "venue": venue, "side": side, "price": each}
        self.pair.check(**order, quantity=2.0, id=name)
        for part in parts:
            self.made += 1
            event = ev.Fill(**order, quantity=part / 2, id=str(self.made), order_id=name)
            self.pair.step(event)

    def _resting(self, pick: int) -> tuple[str, Resting] | None:
        """One of the resting orders that have an id."""
        known = sorted(self.pair.desk.resting().items(), key=lambda item: item[0])
        resting = [(name, one) for (_, name), one in known if not name.startswith("\n")]
        return resting[pick % len(resting)] if resting else None

    @rule(
        pick=st.integers(0, 9),
        part=st.sampled_from((0.5, 1.0, 3.0)),
        named=st.sampled_from((True, True, False)),
    )
    def fill_order(self, pick: int, part: float, named: bool = True) -> None:
        """An order that rests is filled, in part or more than whole; the fill may not name it."""
        found = self._resting(pick)
        if found is not None:
            name, one = found
            self.made += 1
            self.pair.step(
                ev.Fill(
                    id=str(self.made),
                    order_id=name if named else None,
                    venue=one.venue,
                    symbol=one.symbol,
                    side="sell" if one.side == "sell" else "buy",
                    quantity=part,
                    price=100.0,
                    strategy=one.asked.strategy if one.asked is not None else None,
                )
            )

    @rule(
        pick=st.integers(0, 9),
        what=st.sampled_from(("open", "left", "less", "more", "gone")),
        status=st.sampled_from(("open", "open", "closed", "canceled", "rejected")),
    )
    def report_order(self, pick: int, what: str, status: Any) -> None:
        """The venue's report of a resting order."""
        found = self._resting(pick)
        if found is not None:
            name, one = found
            now, ttl = self.pair.world.now_ns, self.pair.desk.ttl
            left = one.left(now, ttl)
            remaining = {"left": left, "less": left / 2, "gone": F(0)}.get(what)
            if what == "more" and status == "open":
                remaining = one.quantity + 1
            event = ev.Order(
                id=name,
                venue=one.venue,
                symbol=one.symbol,
                status=status,
                remaining=None if remaining is None else float(remaining),
            )
            self.pair.step(event)

    @rule(order=an_order, left=st.none() | st.sampled_from((0.5, 3.0)), one_side=st.booleans())
    def report_unchecked(self, order: dict[str, Any], left: float | None, one_side: bool) -> None:
        """The venue's report of an order that nobody checked."""
        self.made += 1
        fields = {"side": order["side"]} if one_side else {}
        event = ev.Order(
            **{key: order[key] for key in ("symbol", "venue", "quantity", "price")},
            **fields,
            id=f"unchecked {self.made}",
            status="open",
            remaining=left,
        )
        self.pair.step(event)

    @rule(venue=venues)
    def nothing_rests(self, venue: str) -> None:
        """The venue reports that no order rests there."""
        self.pair.step(ev.OpenOrders(venue=venue, count=0))


QUICK = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # to shrink a story takes minutes: add Phase.shrink
    suppress_health_check=list(HealthCheck),
)


def test_every_story() -> None:
    """The same values, levels and answers after every step."""
    run_state_machine_as_test(Stories, settings=QUICK)


@pytest.mark.slow
def test_every_story_long() -> None:
    """As above, with many more examples."""
    run_state_machine_as_test(Stories, settings=settings(QUICK, max_examples=150))


# -- the model can fail -------------------------------------------------------------------------

Step = tuple[str, dict[str, Any]]


def check(quantity: float, **more: Any) -> Step:
    """A step with a check of a buy of mm."""
    order = {"symbol": LINEAR, "venue": "a", "strategy": "mm", "side": "buy", "price": 100.0}
    asked = {**order, "quantity": quantity, **more}
    return "check", {"order": asked, "simulate": False, "reduce_only": False}


def nothing(*_: Any, **__: Any) -> None:
    """What a method without an effect does."""


FILLED: list[Step] = [
    check(3.0, id="first"),
    ("fill_order", {"pick": 0, "part": 3.0}),
    check(1.0),
]
UNREPORTED: list[Step] = [check(3.0), ("wait", {"seconds": 31.0}), ("check_again", {})]
TWICE = [check(3.0, id="first"), check(2.0, id="first")]
MANY = [check(0.5, price=each) for each in (90.0, 100.0, 110.0, 120.0)]


@pytest.mark.parametrize(
    ("steps", "where", "name"),
    [
        pytest.param(FILLED, Reservations, "on_fill", id="a fill releases nothing"),
        pytest.param(UNREPORTED, Reservations, "on_timer", id="an order is never given up"),
        pytest.param(TWICE, Reservations, "find", id="an order counts twice"),
        pytest.param(MANY, MessageRateLimit, "commit", id="an order costs no token"),
    ],
)
def test_a_faulty_engine_is_caught(
    steps: list[Step], where: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A story that passes fails as soon as the engine has one fault."""
    tell(steps)
    monkeypatch.setattr(where, name, nothing)
    with pytest.raises(AssertionError):
        tell(steps)


def tell(steps: list[Step]) -> None:
    """A story from its beginning."""
    story = Stories()
    story.begin()
    for name, more in steps:
        getattr(story, name)(**more)
