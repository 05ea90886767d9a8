"""Limits on single orders: their size, their price, how fast they come, and how alike they are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from riskmon.core import events as ev
from riskmon.core.book.config import MaxAge, PortfolioConfig
from riskmon.core.config import EngineConfig, LimitConfig
from riskmon.core.decisions import CheckAnswer, Violation
from riskmon.core.engine import Engine
from tests.core import OMS, SECOND, World, exact, limit, price

PERP = "BTC/USDT:USDT"
SCOPE = "symbol:" + PERP
INVERSE = "BTC/USD:BTC"


def market(*limits: LimitConfig, **config: Any) -> World:
    """A world in which a perpetual costs 100."""
    portfolio = PortfolioConfig(pegs={"USD": 1.0}, max_age=MaxAge(price=60.0))
    world = World(*limits, **{"portfolio": portfolio, "targets": OMS, **config})
    world.each([ev.Heartbeat(venue="kraken", strategy="mm"), price(PERP, 100.0)])
    return world


def ask(world: World, quantity: float = 1.0, each: float = 100.0, **more: Any) -> CheckAnswer:
    """An order of the strategy ``mm``."""
    return world.check(
        **{"symbol": PERP, "strategy": "mm", "quantity": quantity, "price": each, **more}
    )


def refusal(answer: CheckAnswer) -> Violation:
    """The only reason of a refused order."""
    assert not answer.allowed
    (blame,) = answer.reasons
    return blame


# -- size


def test_order_quantity() -> None:
    """One order's quantity, up to the bound; on which side does not matter."""
    world = market(limit("order_quantity", max=2.0))
    assert ask(world, 2.0).allowed
    for side in ("buy", "sell"):
        blame = refusal(ask(world, 2.1, side=side))
        assert (blame.limit, blame.scope, blame.value, blame.bound) == (
            "order_quantity",
            SCOPE,
            2.1,
            2.0,
        )
    assert ask(world, 2.0).allowed  # each order alone


@pytest.mark.parametrize(("quantity", "each"), [(10.0, 1.0), (0.9, 54_000.0)])
def test_a_sale_counts_at_the_mark_where_that_is_higher(quantity: float, each: float) -> None:
    """10 BTC at 1 USDT, or 0.9 BTC 10 % below a market of 60,000, are more than 50,000."""
    world = market(limit("order_notional", max=50_000.0))
    world.step(price("BTC/USDT", 60_000.0))
    refused = world.check(symbol="BTC/USDT", side="sell", quantity=quantity, price=each)
    assert refusal(refused).value == pytest.approx(quantity * 60_000.0)
    dear = world.check(symbol="BTC/USDT", side="sell", quantity=0.5, price=100_000.0)
    assert dear.allowed
    dearer = world.check(symbol="BTC/USDT", side="sell", quantity=0.5, price=100_001.0)
    assert refusal(dearer).value == pytest.approx(50_000.5)
    cheap = world.check(symbol="BTC/USDT", side="buy", quantity=10.0, price=5_000.0)
    assert cheap.allowed


def test_the_notional_of_a_sale_without_a_mark_is_unknown() -> None:
    """A buy costs its own price; a sale may bring more."""
    world = market(limit("order_notional", max=50_000.0))
    assert world.check(symbol="ETH/USDT", side="buy", quantity=1.0, price=100.0).allowed
    sale = world.check(symbol="ETH/USDT", side="sell", quantity=1.0, price=100.0)
    assert refusal(sale).value is None


def test_the_notional_of_a_market_order() -> None:
    """A buy at the mark and its slippage, a sale at the mark; unknown without a mark."""
    world = market(limit("order_notional", max=100.0))
    market_order = {"price": None, "order_type": "market", "symbol": PERP}
    assert refusal(world.check(**market_order)).value == pytest.approx(101.0)
    assert world.check(**market_order, slippage=0.0).allowed
    assert world.check(**market_order, side="sell").allowed
    assert refusal(world.check(**{**market_order, "symbol": "ETH/USDT"})).value is None


def test_order_notional() -> None:
    """One order's worth at its own price, in the reference; contracts by their size."""
    world = market(limit("order_notional", max=200.0))
    assert ask(world, 2.0).allowed
    assert refusal(ask(world, 2.0, 100.5)).value == pytest.approx(201.0)
    contract = ev.Position(
        venue="kraken", symbol=INVERSE, quantity=0.0, entry_price=1.0, contract_size=100.0
    )
    world.step(contract)
    assert ask(world, 2.0, 60_000.0, symbol=INVERSE).allowed
    assert refusal(ask(world, 2.1, 1.0, symbol=INVERSE)).value == pytest.approx(210.0)


def test_the_size_of_an_order_that_closes() -> None:
    """A fat finger is one on the way out, too: these limits are about the order."""
    world = market(limit("order_quantity", max=2.0))
    held = ev.Position(venue="kraken", symbol=PERP, quantity=10.0, entry_price=100.0)
    world.step(held)
    assert not ask(world, 3.0, side="sell").allowed


def test_an_order_of_unknown_worth() -> None:
    """Refused, unless unknown is ignored."""
    world = market(limit("order_notional", max=200.0))
    assert refusal(ask(world, 0.01, symbol="ETH/BTC")).value is None
    waived = market(limit("order_notional", max=200.0, on_unknown="ignore"))
    assert ask(waived, 0.01, symbol="ETH/BTC").allowed


def test_overrides_by_symbol() -> None:
    """`overrides` gives one symbol another bound."""
    world = market(limit("order_quantity", max=2.0, overrides={SCOPE: 5.0}))
    assert ask(world, 5.0).allowed
    assert not ask(world, 5.0, symbol="ETH/USDT:USDT").allowed


@pytest.mark.parametrize(
    ("on_breach", "allowed", "state"),
    [
        ("shadow", True, "closed"),
        ("warn", True, "closed"),
        ("block", False, "closed"),
        ("trip", False, "open"),
        ("freeze", False, "frozen"),
    ],
)
def test_what_an_order_past_the_bound_does(on_breach: Any, allowed: bool, state: str) -> None:
    """Counted always, refused by what acts; a limit that trips or freezes does so."""
    world = market(limit("order_quantity", max=2.0, on_breach=on_breach))
    assert ask(world, 3.0, simulate=True).allowed is allowed
    assert world.state("order_quantity", SCOPE) == "closed"
    assert ask(world, 3.0).allowed is allowed
    assert world.state("order_quantity", SCOPE) == state
    assert world.breaker("order_quantity", SCOPE).breaches_total == 1


def test_a_tripped_order_limit_recovers_when_its_cancel_is_confirmed() -> None:
    """`recover = "clear"`: no order is left that is past the bound."""
    world = market(limit("order_quantity", max=2.0, on_breach="trip", recover="clear"))
    ask(world, 3.0)
    world.wait(60)
    assert world.state("order_quantity", SCOPE) == "open"
    world.confirm()
    assert world.state("order_quantity", SCOPE) == "closed"


def test_an_order_opens_a_half_open_limit_again() -> None:
    """The order that is past its bound, checked while it probes, is a bad probe; no dry run is."""
    world = market(limit("order_quantity", max=2.0, on_breach="trip", recover=exact(10.0)))
    ask(world, 3.0)
    world.confirm()
    world.wait(10)
    assert world.state("order_quantity", SCOPE) == "half_open"
    ask(world, 3.0, simulate=True)
    assert world.state("order_quantity", SCOPE) == "half_open"
    ask(world, 3.0)
    assert world.state("order_quantity", SCOPE) == "open"


# -- price


@pytest.mark.parametrize(("side", "sign"), [("buy", 1), ("sell", -1)])
def test_the_collar_holds_on_the_aggressive_side(side: str, sign: int) -> None:
    """A buy above the mark, a sale below it, by exactly the bound; a passive bid may be far off."""
    world = market(limit("price_collar", max=0.05))
    assert ask(world, 1.0, 100.0 + 5.0 * sign, side=side).allowed
    assert refusal(ask(world, 1.0, 100.0 + 6.0 * sign, side=side)).value == pytest.approx(0.06)
    assert ask(world, 1.0, 100.0 - 60.0 * sign, side=side).allowed


def test_the_collar_of_a_market_order_is_its_slippage() -> None:
    """It costs the mark and its slippage, 1 % unless it says another."""
    world = market(limit("price_collar", max=0.02))
    for side in ("buy", "sell"):
        market_order = {"price": None, "order_type": "market", "side": side}
        assert world.check(symbol=PERP, **market_order).allowed
        refused = world.check(symbol=PERP, slippage=0.03, **market_order)
        assert refusal(refused).value == pytest.approx(0.03)


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_the_collar_holds_on_both_sides(side: str) -> None:
    """`side = "both"`: neither far above the mark nor far below it."""
    world = market(limit("price_collar", max=0.05, side="both"))
    assert ask(world, 1.0, 104.9, side=side).allowed
    assert ask(world, 1.0, 95.1, side=side).allowed
    assert refusal(ask(world, 1.0, 106.0, side=side)).value == pytest.approx(0.06)
    assert refusal(ask(world, 1.0, 94.0, side=side)).value == pytest.approx(0.06)


def test_the_collar_follows_the_mark() -> None:
    """The venue's own last price first, else any venue's."""
    world = market(limit("price_collar", max=0.05))
    world.step(price(PERP, 200.0, "mexc"))
    assert ask(world, 1.0, 200.0, venue="mexc").allowed
    assert not ask(world, 1.0, 211.0, venue="mexc").allowed
    assert ask(world, 1.0, 200.0, venue="okx").allowed


def test_the_collar_takes_the_venues_own_mark_before_a_newer_one() -> None:
    """A later price of another venue does not replace the venue's own."""
    world = market(limit("price_collar", max=0.05))
    world.step(price(PERP, 100.0, "kraken"))
    world.step(price(PERP, 200.0, "mexc"))
    assert ask(world, 1.0, 100.0).allowed
    assert not ask(world, 1.0, 200.0).allowed


def test_without_a_mark_a_collar_may_be_waived() -> None:
    """`on_unknown = "ignore"`: an order without a mark goes, one far from it does not."""
    world = market(limit("price_collar", max=0.05, on_unknown="ignore"))
    assert ask(world, symbol="ETH/USDT:USDT").allowed
    assert not ask(world, 1.0, 106.0).allowed


def test_without_a_fresh_mark_the_collar_refuses() -> None:
    """A price that never came, and one older than `max_age.price`, prove nothing."""
    world = market(limit("price_collar", max=0.05))
    assert refusal(ask(world, symbol="ETH/USDT:USDT")).value is None
    world.wait(60)
    assert ask(world).allowed
    world.wait(0.1)
    assert not ask(world).allowed
    world.step(price(PERP, 100.0))
    assert ask(world).allowed


def test_no_order_that_only_closes_is_refused_because_a_mark_is_old() -> None:
    """Neither by a collar nor by its notional; one that does more is."""
    world = market(limit("price_collar", max=0.05), limit("order_notional", max=1e3))
    world.step(ev.Position(venue="kraken", symbol=PERP, quantity=2.0, entry_price=100.0))
    world.wait(61)
    assert ask(world, 2.0, 100.0, side="sell", simulate=True).allowed
    refused = ask(world, 2.1, 100.0, side="sell")
    assert ask(world, 2.0, 100.0, side="sell", reduce_only=True).allowed
    assert {one.limit for one in refused.reasons} == {"price_collar", "order_notional"}


# -- number


def test_the_orders_of_a_day() -> None:
    """Permitted orders since the day began; refused and simulated ones are not counted."""
    world = market(limit("order_count", max=2.0), limit("order_quantity", max=5.0))
    assert not ask(world, 6.0).allowed
    assert ask(world, simulate=True).allowed
    assert [ask(world).allowed for _ in range(3)] == [True, True, False]
    blame = refusal(ask(world))
    assert (blame.scope, blame.value, blame.bound) == ("account", 3.0, 2.0)
    world.wait(21 * 3_600)  # past midnight
    assert [ask(world).allowed for _ in range(3)] == [True, True, False]


def test_the_orders_of_a_day_by_strategy_and_after_a_restart() -> None:
    """Each strategy has its own number, and a restart keeps it."""
    world = market(limit("order_count", max=2.0, per="strategy"))
    assert [ask(world).allowed for _ in range(2)] == [True, True]
    world.engine = Engine.restore(world.engine.snapshot())
    assert not ask(world).allowed
    assert ask(world, strategy="other").allowed


def test_a_clock_that_is_put_back_does_not_bring_an_earlier_day_back() -> None:
    """The count of the later day goes on."""
    engine = Engine(EngineConfig(limits=(limit("order_count", max=1.0),)))
    order = ev.Check(venue="kraken", symbol=PERP, side="buy", quantity=1.0, price=1.0)
    midnight_ns = 1_767_398_400 * SECOND
    allowed = []
    for number, wall_ns in enumerate((midnight_ns, midnight_ns - SECOND)):
        outcome = engine.step([order], now_ns=(number + 1) * SECOND, wall_ns=wall_ns)
        allowed += [one.allowed for one in outcome.answers if isinstance(one, CheckAnswer)]
    assert allowed == [True, False]


# -- rate


def test_a_burst_and_then_the_rate() -> None:
    """`burst` orders at once, then `max` per second in the long run."""
    world = market(limit("message_rate", max=2.0, burst=3.0))
    assert [ask(world).allowed for _ in range(5)] == [True] * 3 + [False] * 2
    world.wait(0.4)
    assert not ask(world).allowed
    world.wait(0.1)
    assert [ask(world).allowed for _ in range(2)] == [True, False]
    world.wait(60)
    assert [ask(world).allowed for _ in range(5)] == [True] * 3 + [False] * 2


def test_the_rate_of_a_refusal() -> None:
    """Its value is above its bound, and both are orders per second."""
    world = market(limit("message_rate", max=2.0, burst=4.0))
    for _ in range(4):
        ask(world)
    blame = refusal(ask(world))
    assert (blame.limit, blame.scope, blame.bound) == ("message_rate", "venue:kraken", 2.0)
    assert blame.value == pytest.approx(2.5)


def test_refused_orders_take_no_token() -> None:
    """Only an order that may go is a message."""
    world = market(limit("message_rate", max=1.0, burst=2.0), limit("order_quantity", max=1.0))
    assert [ask(world, 9.0).allowed for _ in range(5)] == [False] * 5
    assert [ask(world).allowed for _ in range(3)] == [True, True, False]


def test_the_rate_by_venue_and_by_strategy() -> None:
    """Each scope has its own bucket; an order without a strategy takes none of those."""
    world = market(
        limit("message_rate", "venues", max=1.0, burst=2.0, overrides={"venue:mexc": 100.0}),
        limit("message_rate", "strategies", max=1.0, burst=1.0, per="strategy"),
    )
    assert ask(world).allowed
    assert refusal(ask(world)).limit == "strategies"
    assert ask(world, strategy="other").allowed
    assert refusal(ask(world, strategy=None)).limit == "venues"
    assert ask(world, strategy=None, venue="mexc").allowed


# -- repeats


def test_identical_orders_are_refused_from_the_bound_on() -> None:
    """At most `max` equal orders in `seconds`; refused checks count too."""
    world = market(limit("repeat_orders", max=2.0, seconds=10.0))
    assert [ask(world).allowed for _ in range(4)] == [True, True, False, False]
    assert refusal(ask(world)).value == 5.0
    world.wait(9.9)
    assert not ask(world).allowed
    world.wait(10)
    assert ask(world).allowed


@pytest.mark.parametrize(
    "other",
    [
        {"venue": "mexc"},
        {"symbol": "ETH/USDT:USDT"},
        {"side": "sell"},
        {"quantity": 1.1},
        {"each": 100.1},
        {"strategy": "other"},
    ],
)
def test_an_order_that_differs_is_no_repeat(other: dict[str, Any]) -> None:
    """Venue, symbol, side, quantity, price and strategy make an order what it is."""
    world = market(limit("repeat_orders", max=1.0))
    assert ask(world).allowed
    assert ask(world, **other).allowed
    assert not ask(world).allowed


def test_orders_that_differ_by_id_only_are_identical() -> None:
    """A loop gives each of its orders a new id."""
    world = market(limit("repeat_orders", max=1.0))
    assert [ask(world, id=str(n)).allowed for n in range(2)] == [True, False]


def test_so_many_repeats_freeze_the_strategy() -> None:
    """At `freeze_at` it is a bot gone wild: frozen, cancelled, and ended by an operator only."""
    world = market(limit("repeat_orders", max=2.0, freeze_at=4.0))
    for _ in range(3):
        ask(world)
    assert world.state("repeat_orders", "strategy:mm") == "closed"
    assert not ask(world).allowed
    assert world.state("repeat_orders", "strategy:mm") == "frozen"
    assert (world.level("strategy:mm"), world.level()) == ("halt", "allow")
    assert world.sweeps[0].reason == "4 identical orders of strategy:mm in 10 s"
    for _ in range(3):
        assert not ask(world).allowed
    assert len({sweep.incident for sweep in world.sweeps}) == 1
    assert world.engine.state.board.freeze_total["limit_violation"] == 1
    world.confirm()
    world.wait(3_600)
    assert world.state("repeat_orders", "strategy:mm") == "frozen"
    assert world.operate("unfreeze", "strategy:mm").status == 200
    assert ask(world).allowed


@pytest.mark.parametrize("on_breach", ["shadow", "warn"])
def test_what_does_not_act_does_not_freeze(on_breach: Any) -> None:
    """A limit in `warn` or `shadow` refuses no repeat."""
    world = market(limit("repeat_orders", max=1.0, freeze_at=2.0, on_breach=on_breach))
    assert [ask(world).allowed for _ in range(4)] == [True] * 4
    assert world.state("repeat_orders", "strategy:mm") == "closed"


def test_a_dry_run_is_no_repeat() -> None:
    """A simulated check counts neither towards the bound nor towards the freeze."""
    world = market(limit("repeat_orders", max=1.0, freeze_at=3.0))
    for _ in range(5):
        assert ask(world, simulate=True).allowed
    assert ask(world).allowed
    assert world.state("repeat_orders", "strategy:mm") == "closed"


def test_orders_of_long_ago_are_forgotten() -> None:
    """What is remembered is bounded by what came in the last `seconds`."""
    world = market(limit("repeat_orders", max=1.0, seconds=10.0))
    for number in range(50):
        ask(world, 1.0 + number)
    world.wait(11)
    ask(world)
    state = msgspec.msgpack.decode(world.engine.snapshot())["state"]
    (repeats,) = state["measures"]["repeat_orders"].values()
    assert len(repeats["orders"]) == 1


def test_a_trip_that_ends_when_clear_ends_for_a_limit_on_orders() -> None:
    """A single order leaves nothing that could stay past the bound."""
    world = market(limit("order_quantity", max=2.0, on_breach="trip", recover="clear"), targets=())
    world.check(symbol=PERP, quantity=3.0)
    assert world.state("order_quantity", SCOPE) == "open"
    world.wait(1)
    assert world.state("order_quantity", SCOPE) == "closed"


def test_good_orders_close_a_half_open_limit_on_orders() -> None:
    """The order that is permitted within the bound is its sample; a dry run is none."""
    recover = exact(10.0, probes=2)
    world = market(limit("order_quantity", max=2.0, on_breach="trip", recover=recover), targets=())
    world.check(symbol=PERP, quantity=3.0)
    world.wait(10)
    assert world.state("order_quantity", SCOPE) == "half_open"
    for _ in range(3):
        assert world.check(symbol=PERP, quantity=1.0, simulate=True).allowed
    assert world.check(symbol=PERP, quantity=1.0).allowed
    assert world.state("order_quantity", SCOPE) == "half_open"
    assert world.check(symbol=PERP, quantity=1.0).allowed
    assert world.state("order_quantity", SCOPE) == "closed"


def test_repeats_freeze_what_they_tripped() -> None:
    """Repeats after the trip reach `freeze_at`, and only an operator ends that freeze."""
    repeats: dict[str, Any] = {"max": 1.0, "freeze_at": 3.0, "seconds": 60.0}
    world = market(limit("repeat_orders", on_breach="trip", recover="clear", **repeats))
    for _ in range(2):
        world.check(strategy="mm", symbol=PERP)
    assert world.state("repeat_orders", "strategy:mm") == "open"
    world.check(strategy="mm", symbol=PERP)
    assert world.state("repeat_orders", "strategy:mm") == "frozen"
