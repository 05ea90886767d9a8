"""The engine's portfolio, state limits and checks against a second implementation of them.

A story is a state machine of Hypothesis: any sequence of reports, checks and waits. After each step
every (limit, scope) and every answer must be what the slow and obvious model says.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from fractions import Fraction as F
from math import isclose
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from riskmon.core import events as ev
from riskmon.core.book.calendar import Zone
from riskmon.core.book.config import MaxAge, PortfolioConfig
from riskmon.core.book.portfolio import Portfolio
from riskmon.core.book.positions import BookPosition
from riskmon.core.book.prices import Prices
from riskmon.core.book.reservations import Reservations
from riskmon.core.book.tracks import Best
from riskmon.core.config import EngineConfig, LimitConfig
from riskmon.core.decisions import LEVEL_NAMES, CheckAnswer, Violation
from riskmon.core.limits.orders import MessageRateLimit
from riskmon.core.portfolio_view import PortfolioView
from riskmon.core.reports import ReportedEvents
from tests.core import BEGIN_WALL_NS, SECOND, World, balance, balances, flow, limit, price
from tests.core.reference.orders import STANDING, Answer, Desk, Resting

VENUES = ("a", "b")
STRATEGIES = ("mm", "arb")
SIDES: tuple[ev.Side, ...] = ("buy", "sell")
SPOT, LINEAR, INVERSE, CROSS = "BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC", "XRP/BTC"
SYMBOLS = (SPOT, LINEAR, INVERSE, CROSS, "ETH/USDT:USDT")
SIZES = {INVERSE: 100.0, "ETH/USDT:USDT": 0.5}
QUOTED = (*SYMBOLS, "BNB/USDT")
ASSETS = ("USDT", "BTC", "XRP", "BNB")

# -- what is configured -----------------------------------------------------------------------


def all_limits() -> tuple[LimitConfig, ...]:
    """Return every state and order limit, some more than once under other names.

    Bounds of ratios are odd, so that no rounding of floats decides whether a value is past one.
    """
    shadow: dict[str, Any] = {"on_breach": "shadow"}
    block: dict[str, Any] = {"on_breach": "block"}
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
        limit("loss", "hour", max=20.0, period="1h", **shadow),
        limit("loss", "hour_trailing", max=20.0, period="1h", trailing=True, **shadow),
        limit("daily_loss", "venue_day", per="venue", max=20.0, **shadow, written=True),
        limit("loss", "venue_hour", per="venue", max=20.0, period="1h", trailing=True, **shadow),
        limit("daily_loss", "strategy_day", per="strategy", max=10.0, **block),
        limit("loss", "strategy_hour", per="strategy", max=9.0, period="1h", **shadow),
        limit("order_notional", max=400.0),
        limit("order_quantity", max=4.0, overrides={f"symbol:{CROSS}": 2.0}),
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
                    price=scaled(symbol, 100.0),
                    simulate=True,
                )
                (answer,) = self.world.step(asked).answers
                assert isinstance(answer, CheckAnswer)
                same_answer(answer, self.desk.check(asked))
        self.rested = resting

    def _compare_books(self, view: PortfolioView) -> None:
        book = self.desk.book
        for one in view.positions:
            quantity, entry, _ = book.held_in(one.venue, one.symbol)
            assert near(one.quantity, quantity), (one.venue, one.symbol)
            assert near(one.entry_price, entry), (one.venue, one.symbol)
        realised = book.realised_value()
        assert realised is None or near(view.pnl_realized, realised)
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
fees = st.sampled_from(((0.0, None), (0.25, None), (0.5, "USDT"), (0.125, "BNB"), (-0.25, "BNB")))
waits = st.sampled_from((0.5, 1.0, 2.5, 5.0, 31.0, 400.0, 1_801.0, 3_000.0, 7_000.0))
amounts = st.sampled_from((-30.0, -20.0, -5.0, 5.0, 40.0))
cash = st.sampled_from((20_000.0, 19_990.0, 19_970.0, 19_950.0, 20_030.0))
owned = st.sampled_from((2.0, 3.0))
orders = st.integers(0, 2)


def scaled(symbol: str, each: float) -> float:
    """Scale a price to a usual size; the cross is below 1, so that no position dominates."""
    return each / 128.0 if symbol == CROSS else each


a_price = st.builds(
    lambda symbol, each, venue: price(symbol, scaled(symbol, each), venue),
    *(st.sampled_from(QUOTED), prices, st.none() | venues),
)
a_balances = st.builds(
    lambda venue, usdt, btc, unknown: balances(
        venue, USDT=usdt, BTC=btc, XRP=1.0, BNB=1.0, **({"SOL": 4.0} if unknown else {})
    ),
    *(venues, cash, owned, st.booleans()),
)
a_balance = st.builds(balance, st.sampled_from(ASSETS[:2]), owned, venues, owned)
a_fill = st.builds(
    lambda symbol, venue, side, quantity, each, fee, strategy: {
        "symbol": symbol,
        "venue": venue,
        "side": side,
        "quantity": quantity,
        "price": scaled(symbol, each),
        "strategy": strategy,
        "fee": fee[0],
        "fee_asset": fee[1],
    },
    *(symbols, venues, sides, quantities, prices, fees, strategies),
)
a_position = st.builds(
    lambda venue, symbol, quantity, entry: ev.Position(
        venue=venue, symbol=symbol, quantity=quantity, entry_price=scaled(symbol, entry)
    ),
    venues,
    symbols,
    st.sampled_from((-2.0, 0.0, 0.0078125, 1.0, 3.0)),
    prices,
)
an_order = st.builds(
    lambda symbol, venue, side, quantity, each, strategy, name: {
        "symbol": symbol,
        "venue": venue,
        "side": side,
        "quantity": quantity,
        "price": scaled(symbol, each),
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
        self.refresh()

    @rule()
    def refresh(self) -> None:
        """Every value is reported again, as after a weekend."""
        self.pair.step(*(price(symbol, scaled(symbol, 100.0)) for symbol in QUOTED))
        self._report(
            *(balances(venue, USDT=20_000.0, BTC=2.0, XRP=1.0, BNB=1.0) for venue in VENUES)
        )

    def _report(self, *events: ev.Event) -> None:
        self.pair.step(*events)

    @rule(events=st.lists(st.one_of(a_price, a_balances, a_position), min_size=1, max_size=4))
    def report(self, events: list[ev.Event]) -> None:
        """A batch of prices, balances and positions: one instant."""
        self._report(*events)

    @rule(event=a_price)
    def quote(self, event: ev.Event) -> None:
        """A price alone."""
        self.pair.step(event)

    @rule(event=a_balance)
    def report_balance(self, event: ev.Event) -> None:
        """The balance of one asset, which settles when the venue pauses."""
        self._report(event)

    @rule(more=a_fill, late=st.sampled_from((0, 0, 0, 2, 40)))
    def fill(self, more: dict[str, Any], late: int) -> None:
        """A fill, which may have happened some seconds ago."""
        self.made += 1
        event = ev.Fill(id=str(self.made), at=self._ago(late) if late else None, **more)
        self._tell(event)

    @rule(amount=amounts, strategy=strategies)
    def gain(self, amount: float, strategy: str | None) -> None:
        """P&L without a fill."""
        self.made += 1
        self._tell(ev.Pnl(id=str(self.made), amount=amount, strategy=strategy))

    @rule(venue=venues, amount=amounts, asset=st.sampled_from(("USDT", "BTC")), more=a_price)
    def flow(self, venue: str, amount: float, asset: str, more: ev.Event) -> None:
        """A deposit or withdrawal; a price follows in the same instant."""
        self.made += 1
        if asset == "BTC":
            amount /= 64
        self.pair.wait(0.5)  # newer than the venue's last report
        self._tell(flow(amount, asset, venue=venue, id=str(self.made)), more)

    @rule(venue=venues, amount=amounts)
    def late_flow(self, venue: str, amount: float) -> None:
        """A deposit or withdrawal that is reported a second after the balance that includes it."""
        self.made += 1
        self.pair.wait(60.0)  # closer high points are stored as one
        self.pair.world.now_ns += 1_000  # later than the last settled value, which excludes it
        at = self._ago(0.0)
        usdt = self.pair.desk.book.amounts().get((venue, "USDT"), F(0))
        self._report(balances(venue, USDT=float(usdt) + amount, BTC=2.0, XRP=1.0, BNB=1.0))
        self.pair.wait(1.0)
        self._tell(flow(amount, venue=venue, id=str(self.made), at=at))

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
        name, each = f"{symbol} {self.made}", scaled(symbol, 100.0)
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
                    price=scaled(one.symbol, each),
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

    def _ago(self, seconds: float) -> datetime:
        wall_ns = BEGIN_WALL_NS + self.pair.world.now_ns
        whole = datetime.fromtimestamp(wall_ns // SECOND, UTC)
        return (
            whole + timedelta(microseconds=wall_ns % SECOND // 1_000) - timedelta(seconds=seconds)
        )


class StoriesWithoutBalances(Stories):
    """An account whose equity is its capital and its P&L."""

    portfolio: ClassVar[dict[str, Any]] = {"initial_capital": 20_000.0}

    def _report(self, *events: ev.Event) -> None:
        rest = [e for e in events if not isinstance(e, ev.Balance | ev.Balances)]
        self.pair.step(*rest)


QUICK = settings(
    max_examples=12,
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
    many = settings(QUICK, max_examples=20, stateful_step_count=40)
    run_state_machine_as_test(stories, settings=many)


# -- the model can fail -------------------------------------------------------------------------


def without_fees(on_fill: Callable[..., None]) -> Callable[..., None]:
    """The fee of a fill is ignored."""
    return lambda self, event: on_fill(self, msgspec.structs.replace(event, fee=0.0))


def keeping_the_entry(fill: Callable[..., float]) -> Callable[..., float]:
    """A position that goes past zero keeps the price of the other side."""

    def kept(self: BookPosition, *change: Any, **more: Any) -> float:
        held, entry = self.quantity, self.entry
        realised = fill(self, *change, **more)
        if held * self.quantity < 0:
            self.entry = entry
        return realised

    return kept


def nothing(_: Any) -> Callable[..., None]:
    """The method has no effect."""
    return lambda *_, **__: None


def for_ever(begin: Callable[..., None]) -> Callable[..., None]:
    """Prices expire after a hundred years."""

    def begun(self: Prices, *what: Any) -> None:
        begin(self, *what)
        self.max_age_ns = 100 * 365 * 86_400 * SECOND

    return begun


def winter_time(_: Any) -> Callable[..., int]:
    """A day begins at the same hour UTC all year."""

    def first_second(_self: Zone, day: date, at: time) -> int:
        return int(datetime.combine(day, at, timezone(timedelta(hours=1))).timestamp())

    return first_second


Step = tuple[str, dict[str, Any]]


def step(name: str, **more: Any) -> Step:
    """One step of a fixed story."""
    return name, more


def fill(side: str, quantity: float, each: float, **more: Any) -> Step:
    """A step with a fill of the strategy mm."""
    return step("fill", more={**order(side, quantity, each), **more}, late=0)


def check(quantity: float, each: float, **more: Any) -> Step:
    """A step with a check of a buy of mm."""
    asked = {**order("buy", quantity, each), **more}
    return step("check", order=asked, simulate=False, reduce_only=False)


def order(side: str, quantity: float, each: float) -> dict[str, Any]:
    """The common fields of a fill and a check."""
    place = {"symbol": LINEAR, "venue": "a", "strategy": "mm"}
    return {**place, "side": side, "quantity": quantity, "price": each}


FEE = [fill("buy", 1.0, 100.0, fee=0.5, fee_asset="USDT")]
FLIP = [
    fill("buy", 1.0, 100.0),
    fill("sell", 3.0, 110.0),
    step("quote", event=price(LINEAR, 128.0)),
]
FILLED = [
    check(3.0, 100.0, id="first"),
    step("fill_order", pick=0, part=3.0, each=100.0),
    check(1.0, 100.0),
]
UNREPORTED = [check(3.0, 100.0), step("wait", seconds=31.0), step("check_again")]
TWICE = [check(3.0, 100.0, id="first"), check(2.0, 100.0, id="first")]
DEPOSIT = [
    step("flow", venue="a", amount=40.0, asset="USDT", more=price(LINEAR, 100.0)),
    step("report", events=[balances("a", USDT=19_950.0, BTC=2.0, XRP=1.0, BNB=1.0)]),
]
LATE_DEPOSIT = [step("late_flow", venue="a", amount=40.0)]
OLD = [fill("buy", 1.0, 100.0), step("wait", seconds=1_801.0)]
MANY = [check(0.5, each) for each in (90.0, 100.0, 110.0, 120.0)]
SUMMER = [step("gain", amount=-20.0, strategy=None), step("wait", seconds=91_800.0)]

FAULTS = [
    pytest.param(FEE, ReportedEvents, "on_fill", without_fees, id="a fee is forgotten"),
    pytest.param(FLIP, BookPosition, "fill", keeping_the_entry, id="a flip keeps the entry"),
    pytest.param(FILLED, Reservations, "on_fill", nothing, id="a fill releases nothing"),
    pytest.param(UNREPORTED, Reservations, "on_timer", nothing, id="an order is never given up"),
    pytest.param(TWICE, Reservations, "find", nothing, id="an order counts twice"),
    pytest.param(DEPOSIT, Portfolio, "add_units", nothing, id="a deposit raises the peak"),
    pytest.param(LATE_DEPOSIT, Best, "take_back", nothing, id="a late deposit stays in the peak"),
    pytest.param(OLD, Prices, "__init__", for_ever, id="a price is never old"),
    pytest.param(MANY, MessageRateLimit, "commit", nothing, id="an order costs no token"),
    pytest.param(SUMMER, Zone, "first_second", winter_time, id="no summer time"),
]


@pytest.mark.parametrize(("steps", "where", "name", "fault"), FAULTS)
def test_a_faulty_engine_is_caught(
    steps: list[Step],
    where: Any,
    name: str,
    fault: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A story that passes fails as soon as the engine has one fault."""
    stories = StoriesWithoutBalances if steps is SUMMER else Stories
    tell(stories, steps)
    monkeypatch.setattr(where, name, fault(getattr(where, name)))
    with pytest.raises(AssertionError):
        tell(stories, steps)


def tell(stories: type[Stories], steps: list[Step]) -> None:
    """A story from its beginning, in the night in which the summer time begins."""
    story = stories()
    story.begin(night=NIGHTS[1])
    for name, more in steps:
        getattr(story, name)(**more)
