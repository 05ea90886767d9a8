"""The engine's limits on what is held and ordered, and its checks, against the model of them.

A story is a state machine of Hypothesis: any sequence of prices, fills, orders, checks and waits.
After each step every (limit, scope) and every answer must be what the slow and obvious model says.
Balances agree with the fills: :mod:`tests.core.test_engine_and_model` has those that do not.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction as F
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from riskmon.core import events as ev
from riskmon.core.book.config import MaxAge
from riskmon.core.book.reservations import Reservations
from riskmon.core.limits.orders import MessageRateLimit
from tests.core import balances, price
from tests.core.reference.orders_pair import (
    ASSETS,
    LINEAR,
    SIDES,
    STRATEGIES,
    SYMBOLS,
    VENUES,
    Pair,
    a_portfolio,
    all_limits,
    size_limits,
)
from tests.core.reference.resting import Resting

# Midnights: to a Monday, and in both nights in which the clocks of Berlin are changed.
NIGHTS = (
    (datetime(2026, 1, 11, 22, 0, tzinfo=UTC), "00:00"),
    (datetime(2026, 3, 28, 23, 30, tzinfo=UTC), "02:30"),
    (datetime(2026, 10, 24, 23, 15, tzinfo=UTC), "02:30"),
    (datetime(2026, 10, 24, 21, 0, tzinfo=UTC), "00:00"),
)

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


class StoriesOfOrders(RuleBasedStateMachine):
    """Orders in symbols whose prices neither change nor expire: over days, with few other facts."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.told: list[ev.Event] = []
        self.asked: dict[str, Any] | None = None

    @initialize(night=st.sampled_from(NIGHTS))
    def begin(self, night: tuple[datetime, str]) -> None:
        """Every symbol has a price; the equity is the capital."""
        portfolio = a_portfolio(night[1], initial_capital=20_000.0, max_age=MaxAge(price=1e6))
        self.pair = Pair(size_limits(), portfolio, night[0])
        self._price_all()

    def _price_all(self) -> None:
        self.pair.step(*(price(symbol, 100.0) for symbol in SYMBOLS))

    def _tell(self, *events: ev.Event) -> None:
        self.told = [*events]
        self.pair.step(*events)

    @rule(symbol=symbols, venue=venues, side=sides, quantity=quantities)
    def fill_unknown(self, symbol: str, venue: str, side: Any, quantity: float) -> None:
        """A fill of an order that nobody checked or reported."""
        self.made += 1
        order = {"symbol": symbol, "venue": venue, "side": side, "quantity": quantity}
        order_id = f"unknown {self.made}"
        self._tell(ev.Fill(**order, price=100.0, id=str(self.made), order_id=order_id))

    @rule()
    def wait_a_day(self) -> None:
        """A trading day ends."""
        self.pair.wait(90_000.0)

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
        known = sorted(self.pair.desk.orders.resting().items(), key=lambda item: item[0])
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
            now, ttl = self.pair.world.now_ns, self.pair.desk.orders.ttl
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


class Stories(StoriesOfOrders):
    """An account with balances at two venues."""

    portfolio: ClassVar[dict[str, Any]] = {"venues": VENUES}

    @initialize(night=st.sampled_from(NIGHTS))
    def begin(self, night: tuple[datetime, str]) -> None:
        """Every asset has a price, and both venues report."""
        self.pair = Pair(all_limits(), a_portfolio(night[1], **self.portfolio), night[0])
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

    def _report(self, *events: ev.Event) -> None:
        self.pair.step(*events)

    @rule(event=a_price)
    def quote(self, event: ev.Event) -> None:
        """A price alone."""
        self.pair.step(event)

    @rule(more=a_fill)
    def fill(self, more: dict[str, Any]) -> None:
        """A fill that names no order."""
        self.made += 1
        self._tell(ev.Fill(id=str(self.made), **more))

    @rule(amount=amounts, strategy=strategies)
    def gain(self, amount: float, strategy: str | None) -> None:
        """P&L without a fill."""
        self.made += 1
        self._tell(ev.Pnl(id=str(self.made), amount=amount, strategy=strategy))

    @rule()
    def report_again(self) -> None:
        """The last fact again: a duplicate."""
        self.pair.step(*self.told)

    def wait_a_day(self) -> None:
        """All values would be too old."""


class StoriesWithoutBalances(Stories):
    """An account whose equity is its capital and its P&L."""

    portfolio: ClassVar[dict[str, Any]] = {"initial_capital": 20_000.0}

    def _report(self, *events: ev.Event) -> None:
        """It reports none."""


QUICK = settings(
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # to shrink a story takes minutes: add Phase.shrink
    suppress_health_check=list(HealthCheck),
)
EACH = pytest.mark.parametrize(
    ("stories", "examples"), [(StoriesOfOrders, 20), (Stories, 4), (StoriesWithoutBalances, 4)]
)


@EACH
def test_every_story(stories: type[StoriesOfOrders], examples: int) -> None:
    """The same values, utilizations, levels and answers after every step."""
    run_state_machine_as_test(stories, settings=settings(QUICK, max_examples=examples))


@pytest.mark.slow
@EACH
def test_every_story_long(stories: type[StoriesOfOrders], examples: int) -> None:
    """As above, with many more examples."""
    many = settings(QUICK, max_examples=3 * examples, stateful_step_count=30)
    run_state_machine_as_test(stories, settings=many)


# -- the model can fail -------------------------------------------------------------------------


def nothing(*_: object, **__: object) -> None:
    """No effect."""


Step = Callable[[StoriesOfOrders], None]


def check(quantity: float, each: float, name: str | None = None) -> Step:
    """A check of a purchase by mm."""
    place = {"symbol": LINEAR, "venue": "a", "strategy": "mm", "side": "buy"}
    order = {**place, "quantity": quantity, "price": each, "id": name}
    return lambda story: story.check(order, simulate=False, reduce_only=False)


def fill_first(story: StoriesOfOrders) -> None:
    """The first order is filled."""
    story.fill_order(0, 3.0, 100.0)


def wait(story: StoriesOfOrders) -> None:
    """The time to live of an order passes."""
    story.wait(31.0)


FAULTS = [
    pytest.param(
        [check(3.0, 100.0, "first"), fill_first, check(1.0, 100.0)],
        Reservations,
        "on_fill",
        id="a fill releases nothing",
    ),
    pytest.param(
        [check(3.0, 100.0), wait, check(3.0, 100.0)],
        Reservations,
        "on_timer",
        id="an order is never released",
    ),
    pytest.param(
        [check(3.0, 100.0, "first"), check(2.0, 100.0, "first")],
        Reservations,
        "find",
        id="an order counts twice",
    ),
    pytest.param(
        [check(0.5, each) for each in (90.0, 100.0, 110.0, 120.0)],
        MessageRateLimit,
        "commit",
        id="an order costs no token",
    ),
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
    for step in steps:
        step(story)
