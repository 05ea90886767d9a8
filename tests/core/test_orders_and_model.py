"""The engine's limits on what is held and ordered, and its checks, against the model of them.

A story is a state machine of Hypothesis: any sequence of prices, fills, orders, checks and waits.
After each step every (limit, scope) and every answer must be what the slow and obvious model says.
Balances agree with the fills: :mod:`tests.core.test_engine_and_model` has those that do not.
"""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction as F
from math import isclose
from typing import Any, ClassVar

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
from riskmon.core.portfolio_view import PortfolioView
from tests.core import BEGIN_WALL_NS, SECOND, World, balances, limit, price
from tests.core.reference.orders import STANDING, Answer, Desk, Resting

VENUES = ("a", "b")
STRATEGIES = ("mm", "arb")
SIDES: tuple[ev.Side, ...] = ("buy", "sell")
SPOT, LINEAR, INVERSE = "BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC"
SYMBOLS = (SPOT, LINEAR, INVERSE, "ETH/USDT:USDT")
SIZES = {INVERSE: 100.0, "ETH/USDT:USDT": 0.5}
ASSETS = ("USDT", "BTC")

# -- what is configured -----------------------------------------------------------------------


def all_limits() -> tuple[LimitConfig, ...]:
    """Return every state and order limit, some more than once under other names.

    Bounds of ratios are odd, so that no rounding of floats decides whether a value is past one.
    """
    shadow: dict[str, Any] = {"on_breach": "shadow"}
    return (
        limit("position", max=4.0, overrides={f"symbol:{SPOT}": 6.0}),
        limit("position", "tight", max=2.0, **shadow),
        limit("total_position", max=9.0),
        limit("open_positions", max=3.0),
        limit("inventory", max=500.0, written=True, overrides={f"symbol:{LINEAR}": 300.0}),
        limit("total_notional", max=900.0, on_unknown="ignore"),
        limit("total_notional", "gross", max=700.0, **shadow),
        limit("concentration", max=0.0413),
        limit("leverage", max=0.0613),
        limit("open_orders", max=7.0),
        limit("order_count", max=9.0, per="strategy"),
        limit("portfolio_loss", max=0.00413, **shadow),
        limit("drawdown", max=0.00313, **shadow, written=True),
        limit("daily_loss", max=30.0, **shadow),
        limit("weekly_loss", max=40.0, **shadow),
        limit("loss", "trailing", max=25.0, trailing=True, **shadow),
        limit("order_notional", max=400.0),
        limit("order_quantity", max=4.0, overrides={f"symbol:{SPOT}": 2.0}),
        limit("price_collar", max=0.25),
        limit("price_collar", "both", max=0.35, side="both"),
        limit("message_rate", max=0.5, burst=4.0),
        limit("message_rate", "pace", per="strategy", max=0.25, burst=3.0),
        limit("repeat_orders", max=2.0, freeze_at=4.0, seconds=8.0),
    )


def a_portfolio(day_start: str, **more: Any) -> PortfolioConfig:
    """Prices for half an hour, balances for an hour, in a zone with daylight saving."""
    return PortfolioConfig(
        timezone="Europe/Berlin",
        day_start=day_start,
        pegs={"USD": 1.25},
        **{"max_age": MaxAge(price=1_800.0, balance=3_600.0), **more},
    )


# Midnights: to a Monday, and in both nights in which the clocks of Berlin are changed.
NIGHTS = (
    (datetime(2026, 1, 11, 22, 0, tzinfo=UTC), "00:00"),
    (datetime(2026, 3, 28, 23, 30, tzinfo=UTC), "02:30"),
    (datetime(2026, 10, 24, 23, 15, tzinfo=UTC), "02:30"),
    (datetime(2026, 10, 24, 21, 0, tzinfo=UTC), "00:00"),
)

# -- the two side by side ---------------------------------------------------------------------


class Pair:
    """An engine and a model that get the same events."""

    def __init__(self, portfolio: PortfolioConfig, begin: datetime = NIGHTS[0][0]) -> None:
        self.world = World(*all_limits(), portfolio=portfolio)
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
        self._compare_books(view.portfolio)
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


# -- stories ----------------------------------------------------------------------------------

quantities = st.sampled_from((0.5, 1.0, 1.5, 2.0, 3.0))
prices = st.sampled_from((64.0, 80.0, 90.0, 100.0, 110.0, 128.0))
venues = st.sampled_from(VENUES)
symbols = st.sampled_from(SYMBOLS)
sides = st.sampled_from(SIDES)
strategies = st.sampled_from((None, *STRATEGIES))
fees = st.sampled_from(((0.0, None), (0.25, None), (0.5, "USDT"), (-0.25, "USDT")))
waits = st.sampled_from((0.5, 1.0, 2.5, 5.0, 31.0, 400.0))
amounts = st.sampled_from((-30.0, -20.0, -5.0, 5.0, 40.0))
orders = st.integers(0, 2)


a_price = st.builds(
    price,
    *(st.sampled_from(SYMBOLS), prices, st.none() | venues),
)
a_fill = st.builds(
    lambda symbol, venue, side, quantity, each, fee, strategy: {
        "symbol": symbol,
        "venue": venue,
        "side": side,
        "quantity": quantity,
        "price": each,
        "strategy": strategy,
        "fee": fee[0],
        "fee_asset": fee[1],
    },
    *(symbols, venues, sides, quantities, prices, fees, strategies),
)
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
    """An account with balances at two venues."""

    portfolio: ClassVar[dict[str, Any]] = {"venues": VENUES}

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.told: list[ev.Event] = []
        self.asked: dict[str, Any] | None = None

    @initialize(night=st.sampled_from(NIGHTS))
    def begin(self, night: tuple[datetime, str]) -> None:
        """Every asset has a price, and both venues report."""
        self.pair = Pair(a_portfolio(night[1], **self.portfolio), night[0])
        self._price_all()
        self._report(*(balances(venue, USDT=20_000.0, BTC=1.0) for venue in VENUES))
        self.pair.wait(6.0)

    @rule()
    def refresh(self) -> None:
        """Every value is reported again, balances with what the fills made of them."""
        self._price_all()
        live = self.pair.desk.book.account.holdings.live
        held = {venue: {a: float(live(venue, a)) for a in ASSETS} for venue in VENUES}
        self._report(*(balances(venue, **amounts) for venue, amounts in held.items()))

    def _price_all(self) -> None:
        self.pair.step(*(price(symbol, 100.0) for symbol in SYMBOLS))

    def _report(self, *events: ev.Event) -> None:
        self.pair.step(*events)

    @rule(event=a_price)
    def quote(self, event: ev.Event) -> None:
        """A price alone."""
        self.pair.step(event)

    @rule(more=a_fill)
    def fill(self, more: dict[str, Any]) -> None:
        """A fill."""
        self.made += 1
        self._tell(ev.Fill(id=str(self.made), **more))

    @rule(amount=amounts, strategy=strategies)
    def gain(self, amount: float, strategy: str | None) -> None:
        """P&L without a fill."""
        self.made += 1
        self._tell(ev.Pnl(id=str(self.made), amount=amount, strategy=strategy))

    def _tell(self, *events: ev.Event) -> None:
        self.told = [*events]
        self.pair.step(*events)

    @rule()
    def report_again(self) -> None:
        """The last fact again: a duplicate."""
        self.pair.step(*self.told)

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
            self._tell(event)

    def _resting(self, pick: int) -> tuple[str, Resting] | None:
        """One of the resting orders that have an id."""
        known = sorted(self.pair.desk.resting().items(), key=lambda item: item[0])
        resting = [(name, one) for (_, name), one in known if not name.startswith("\n")]
        return resting[pick % len(resting)] if resting else None

    @rule(
        pick=st.integers(0, 9),
        part=st.sampled_from((0.5, 1.0, 3.0)),
        each=prices,
        named=st.sampled_from((True, True, False)),
    )
    def fill_order(self, pick: int, part: float, each: float, named: bool = True) -> None:
        """An order that rests is filled, in part or more than whole; the fill may not name it."""
        found = self._resting(pick)
        if found is not None:
            name, one = found
            self.made += 1
            self._tell(
                ev.Fill(
                    id=str(self.made),
                    order_id=name if named else None,
                    venue=one.venue,
                    symbol=one.symbol,
                    side="sell" if one.side == "sell" else "buy",
                    quantity=part,
                    price=each,
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


class StoriesWithoutBalances(Stories):
    """An account whose equity is its capital and its P&L."""

    portfolio: ClassVar[dict[str, Any]] = {"initial_capital": 20_000.0}

    def _report(self, *events: ev.Event) -> None:
        """It reports none."""


QUICK = settings(
    max_examples=4,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # to shrink a story takes minutes: add Phase.shrink
    suppress_health_check=list(HealthCheck),
)
BOTH = pytest.mark.parametrize("stories", [Stories, StoriesWithoutBalances])


@BOTH
def test_every_story(stories: type[Stories]) -> None:
    """The same values, utilizations, levels and answers after every step."""
    run_state_machine_as_test(stories, settings=QUICK)


@pytest.mark.slow
@BOTH
def test_every_story_long(stories: type[Stories]) -> None:
    """As above, with many more examples."""
    many = settings(QUICK, max_examples=10, stateful_step_count=30)
    run_state_machine_as_test(stories, settings=many)


# -- the model can fail -------------------------------------------------------------------------


def nothing(*_: object, **__: object) -> None:
    """No effect."""


Step = tuple[str, dict[str, Any]]


def order(quantity: float, each: float, **more: Any) -> dict[str, Any]:
    """A purchase by mm."""
    place = {"symbol": LINEAR, "venue": "a", "strategy": "mm", "side": "buy"}
    return {**place, "quantity": quantity, "price": each, **more}


def check(quantity: float, each: float, **more: Any) -> Step:
    """A step with a check."""
    asked = order(quantity, each, **more)
    return "check", {"order": asked, "simulate": False, "reduce_only": False}


FILLED: list[Step] = [
    check(3.0, 100.0, id="first"),
    ("fill_order", {"pick": 0, "part": 3.0, "each": 100.0}),
    check(1.0, 100.0),
]
UNREPORTED: list[Step] = [check(3.0, 100.0), ("wait", {"seconds": 31.0}), ("check_again", {})]
MANY: list[Step] = [check(0.5, each) for each in (90.0, 100.0, 110.0, 120.0)]
FAULTS = [
    pytest.param(FILLED, Reservations, "on_fill", id="a fill releases nothing"),
    pytest.param(UNREPORTED, Reservations, "on_timer", id="an order is never given up"),
    pytest.param(MANY, MessageRateLimit, "commit", id="an order costs no token"),
]


@pytest.mark.parametrize(("steps", "where", "name"), FAULTS)
def test_a_faulty_engine_is_caught(
    steps: list[Step], where: type[Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A story that passes fails as soon as the engine has one fault."""
    tell(steps)
    monkeypatch.setattr(where, name, nothing)
    with pytest.raises(AssertionError):
        tell(steps)


def tell(steps: list[Step]) -> None:
    """A story from its beginning."""
    story = Stories()
    story.begin(night=NIGHTS[1])
    for name, more in steps:
        getattr(story, name)(**more)
