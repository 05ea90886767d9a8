"""Limits on positions: their values, and the orders that they refuse."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from riskmon.core import events as ev
from riskmon.core.book.config import MaxAge, PortfolioConfig
from riskmon.core.config import LimitConfig
from riskmon.core.decisions import CheckAnswer, UnknownLimit, Warned
from tests.core import KRAKEN, OMS, World, balances, exact, fill, limit, price

PERP = "BTC/USDT:USDT"
ETH = "ETH/USDT:USDT"
SOL = "SOL/USDT:USDT"
INVERSE = "BTC/USD:BTC"
SCOPE = "symbol:" + PERP
MONEY = PortfolioConfig(initial_capital=10_000.0, pegs={"USD": 1.0})


def position(quantity: float, symbol: str = PERP, entry: float = 100.0, **more: Any) -> ev.Position:
    """A position that a venue reports."""
    values = {"venue": "kraken", **more}
    return ev.Position(symbol=symbol, quantity=quantity, entry_price=entry, **values)


def ask(world: World, quantity: float, **more: Any) -> CheckAnswer:
    """An order of so much (sold if below 0) at 100."""
    side = "buy" if quantity > 0 else "sell"
    order = {"symbol": PERP, "price": 100.0, "side": side, "quantity": abs(quantity)}
    return world.check(**{**order, **more})


def market(*limits: LimitConfig, **config: Any) -> World:
    """A world in which three symbols cost 100."""
    world = World(*limits, **{"portfolio": MONEY, "targets": OMS, **config})
    world.step(ev.Heartbeat(venue="kraken"))
    world.each([price(symbol, 100.0) for symbol in (PERP, ETH, SOL, INVERSE)])
    return world


# -- each kind: its value, the order that it refuses, and the one that it takes


class Case(NamedTuple):
    """A position and its value; an order that fits, one that does not, and its value."""

    kind: str
    max: float
    scope: str
    held: list[tuple[str, float]]
    value: float
    fits: float
    not_fits: float
    then: float

    def hold(self, world: World, times: float) -> None:
        """Report the position of a case, scaled."""
        world.each([position(quantity * times, symbol) for symbol, quantity in self.held])


CASES = pytest.mark.parametrize(
    "case",
    [
        Case("position", 5.0, SCOPE, [(PERP, -4.0)], 4.0, -1.0, -1.1, 5.1),
        Case("total_position", 7.0, "account", [(PERP, -4.0), (ETH, 2.0)], 6.0, -1.0, -1.1, 7.1),
        Case("inventory", 500.0, SCOPE, [(PERP, 4.0)], 400.0, 1.0, 1.1, 510.0),
        Case("total_notional", 700.0, "account", [(PERP, 4.0), (ETH, -2.0)], 600.0, 1.0, 1.1, 710),
        Case("concentration", 0.05, "account", [(PERP, 4.0), (ETH, 2.0)], 0.04, 1.0, 1.1, 0.051),
    ],
    ids=lambda case: case.kind,
)


@CASES
def test_an_order_past_the_bound_is_refused(case: Case) -> None:
    """Each kind has its value; an order up to the bound is allowed, one past it is not."""
    world = market(limit(case.kind, max=case.max))
    case.hold(world, 1)
    assert world.breaker(case.kind, case.scope).value == pytest.approx(case.value)
    answer = ask(world, case.not_fits)
    (blame,) = answer.reasons
    assert (answer.allowed, answer.level) == (False, "allow")
    assert (blame.limit, blame.scope, blame.bound) == (case.kind, case.scope, case.max)
    assert blame.value == pytest.approx(case.then)
    assert blame.utilization == pytest.approx(case.then / case.max)
    assert ask(world, case.fits).allowed
    assert world.state(case.kind, case.scope) == "closed"
    assert not world.sweeps


@CASES
def test_past_the_bound_the_scope_may_only_reduce(case: Case) -> None:
    """`block` keeps the gate of its scope at reduce_only only while the value is past its bound."""
    world = market(limit(case.kind, max=case.max))
    case.hold(world, 2)
    assert (world.level(case.scope), world.state(case.kind, case.scope)) == (
        "reduce_only",
        "closed",
    )
    assert not ask(world, case.fits / 100).allowed
    assert ask(world, -case.fits).allowed
    case.hold(world, 1)
    assert world.level(case.scope) == "allow"
    assert not world.sweeps


def test_open_positions_refuse_a_new_symbol_only() -> None:
    """At `max` open positions no new symbol may be opened; open ones may grow."""
    world = market(limit("open_positions", max=2))
    world.each([position(1.0), position(-1.0, ETH)])
    assert world.breaker("open_positions", "account").value == 2.0
    assert not ask(world, 1.0, symbol=SOL).allowed
    assert ask(world, 1.0, symbol=ETH, simulate=True).allowed
    world.step(position(0.0, ETH))
    assert ask(world, 1.0, symbol=SOL).allowed


def test_a_permitted_order_counts_as_an_open_position() -> None:
    """A second new symbol is refused while the order for the first is not filled."""
    world = market(limit("open_positions", max=1))
    assert ask(world, 1.0).allowed
    assert ask(world, 1.0).allowed  # the same symbol
    assert not ask(world, 1.0, symbol=ETH).allowed


def test_dust_is_no_open_position() -> None:
    """A position worth less than `dust` is not counted, and may be sold at any count."""
    world = market(limit("open_positions", max=1))
    world.each([position(0.009), position(1.0, ETH)])
    assert world.breaker("open_positions", "account").value == 1.0
    assert ask(world, -0.009).allowed
    assert not ask(world, 1.0).allowed


@pytest.mark.parametrize(("quantity", "count"), [(0.0099, 0.0), (0.01, 1.0)])
def test_dust_is_worth_less_than_its_bound(quantity: float, count: float) -> None:
    """A position worth exactly `dust`, or of unknown worth, is counted."""
    world = market(limit("open_positions", max=5))
    world.step(position(quantity))
    assert world.breaker("open_positions", "account").value == count
    world.step(position(0.0099, "NEW/USDT:USDT"))
    assert world.breaker("open_positions", "account").value == count + 1


def test_the_fourth_position_trips_when_it_is_checked() -> None:
    """`open_positions` of 3 that trips: the fourth, when checked, is refused and trips."""
    world = market(limit("open_positions", max=3, on_breach="trip", recover="operator"))
    world.each([position(1.0, symbol) for symbol in (PERP, ETH, SOL)])
    assert world.state("open_positions", "account") == "closed"
    order = {"symbol": "XRP/USDT:USDT", "quantity": 1.0, "price": 100.0}
    assert not world.check(**order, simulate=True).allowed
    assert world.state("open_positions", "account") == "closed"
    answer = world.check(**order)
    assert (answer.allowed, [blame.value for blame in answer.reasons]) == (False, [4.0])
    assert world.state("open_positions", "account") == "open"
    assert world.sweeps[0].reason == "checked order: 4 open positions over 3"
    assert not ask(world, 1.0).allowed
    world.confirm()
    assert world.operate("reset").status == 200
    assert ask(world, 1.0).allowed


def test_an_order_too_large_for_the_inventory_freezes_nothing() -> None:
    """An order of 2,500 on a position of 4,000 under a bound of 5,000 is only refused."""
    world = market(limit("inventory", max=5_000))
    world.step(position(40.0))
    answer = ask(world, 25.0)
    assert [(blame.limit, blame.value) for blame in answer.reasons] == [("inventory", 6_500.0)]
    assert (world.level(SCOPE), world.state("inventory", SCOPE)) == ("allow", "closed")
    assert not world.transitions
    assert ask(world, 10.0).allowed


@pytest.mark.parametrize(
    ("on_breach", "allowed", "state", "level"),
    [
        ("shadow", True, "closed", "allow"),
        ("warn", True, "closed", "allow"),
        ("block", False, "closed", "allow"),
        ("reduce", False, "closed", "allow"),
        ("trip", False, "open", "halt"),
        ("freeze", False, "frozen", "halt"),
    ],
)
def test_what_a_checked_order_past_the_bound_does(
    on_breach: Any, allowed: bool, state: str, level: str
) -> None:
    """An order past the bound is always counted; `on_breach` decides about refusal and trip."""
    world = market(limit("position", max=1.0, on_breach=on_breach))
    assert ask(world, 2.0, simulate=True).allowed is allowed
    assert world.breaker("position", SCOPE).state == "closed"
    assert ask(world, 2.0).allowed is allowed
    assert (world.state("position", SCOPE), world.level(SCOPE)) == (state, level)
    assert world.breaker("position", SCOPE).breaches_total == 1
    assert world.engine.state.board.freeze_total["limit_violation"] == (state == "frozen")


@pytest.mark.parametrize(
    ("on_breach", "state", "level"),
    [
        ("shadow", "closed", "allow"),
        ("warn", "closed", "allow"),
        ("block", "closed", "reduce_only"),
        ("reduce", "closed", "reduce_only"),
        ("trip", "open", "halt"),
        ("freeze", "frozen", "halt"),
    ],
)
def test_what_a_size_past_the_bound_does(on_breach: Any, state: str, level: str) -> None:
    """A fill past the bound has the effect of `on_breach` too."""
    world = market(limit("position", max=1.0, on_breach=on_breach))
    world.step(fill("buy", 2.0, 100.0))
    assert (world.state("position", SCOPE), world.level(SCOPE)) == (state, level)


def test_the_reason_has_every_digit_of_a_large_bound() -> None:
    """Neither 1e+06 nor the digits that rounding makes."""
    world = market(limit("position", max=1_234_567.0, on_breach="trip"), targets=OMS)
    world.step(position(1_234_567.1 + 0.2))
    assert world.sweeps[0].reason == f"position of 1234567.3 in {PERP} over 1234567"


def test_a_size_is_evaluated_at_the_end_of_a_batch() -> None:
    """A size that is past its bound only in the middle of a batch does not trip."""
    world = market(limit("position", max=1.0, on_breach="trip"))
    world.step(fill("buy", 2.0, 100.0), fill("sell", 1.0, 100.0))
    assert world.breaker("position", SCOPE).breaches_total == 0
    world.step(fill("sell", 1.0, 100.0, id="all"), fill("buy", 2.0, 100.0, id="again"))
    assert world.state("position", SCOPE) == "open"


def test_a_tripped_size_closes_when_it_is_clear_and_cancelled() -> None:
    """A limit on size closes by itself when it is below its bound and its cancel is confirmed."""
    world = market(limit("position", max=1.0, on_breach="trip"))
    world.step(fill("buy", 2.0, 100.0))
    world.confirm()
    assert world.state("position", SCOPE) == "open"
    world.step(fill("sell", 1.0, 100.0))  # at its bound it is not below it
    assert world.state("position", SCOPE) == "open"
    world.step(fill("sell", 0.5, 100.0))
    assert world.state("position", SCOPE) == "closed"


def test_a_trip_by_an_order_closes_without_another_event() -> None:
    """A trip by a refused order waits for its cancel and `hold` only: its value is clear."""
    world = market(limit("position", max=1.0, on_breach="trip", hold=60.0))
    ask(world, 2.0)
    world.wait(61)
    assert world.state("position", SCOPE) == "open"
    world.confirm()
    assert world.state("position", SCOPE) == "closed"


def test_it_warns_from_its_ratio_on() -> None:
    """The warning begins at 80 % of the bound and ends below."""
    world = market(limit("inventory", max=500.0))
    world.each([position(4.0), position(3.9)])
    told = [(d.scope, d.active) for d in world.decisions if isinstance(d, Warned)]
    assert told == [(SCOPE, True), (SCOPE, False)]


def test_concentration_is_of_the_largest() -> None:
    """While the largest position is past the bound no symbol may grow, and each may close."""
    world = market(limit("concentration", max=0.05))
    world.each([position(6.0), position(2.0, ETH)])
    assert world.breaker("concentration", "account").value == pytest.approx(0.06)
    (blame, *_) = ask(world, 1.0, symbol=SOL).reasons
    assert blame.limit == "concentration"
    assert ask(world, -1.0).allowed
    assert ask(world, -1.0, symbol=ETH).allowed


def test_a_size_opens_again_by_a_checked_order() -> None:
    """A half-open limit trips again when an order would exceed its bound."""
    world = market(limit("position", max=1.0, on_breach="trip", recover=exact(10.0, probes=9)))
    ask(world, 2.0)
    world.confirm()
    world.wait(10)
    assert world.state("position", SCOPE) == "half_open"
    ask(world, 2.0, simulate=True)
    assert world.state("position", SCOPE) == "half_open"
    ask(world, 2.0)
    assert (world.state("position", SCOPE), world.level(SCOPE)) == ("open", "halt")


# -- what lowers the size


@pytest.mark.parametrize("kind", ["position", "inventory", "total_position", "total_notional"])
def test_a_closing_order_is_never_refused(kind: str) -> None:
    """However far past the bound, a closing order is allowed, one that would flip is not."""
    world = market(limit(kind, max=0.5, on_breach="block"))
    world.step(position(-10.0))
    assert ask(world, 4.0).allowed
    assert ask(world, 6.0).allowed
    assert not ask(world, 0.1).allowed  # those two close all of it
    assert not ask(world, -0.1).allowed


def test_closing_needs_no_price() -> None:
    """Where the size is unknown, an order that lowers it is allowed, one that raises it is not."""
    world = World(limit("inventory", max=500.0), portfolio=MONEY)
    world.step(position(4.0, ETH))
    assert world.breaker("inventory", "symbol:" + ETH).value is None
    assert not ask(world, 0.1, symbol=ETH).allowed
    assert ask(world, -4.0, symbol=ETH).allowed


def test_closing_one_leg_is_refused_when_the_net_would_grow() -> None:
    """Closing one leg of a hedge is refused where it makes the net position larger."""
    world = market(limit("position", max=1.0))
    world.each([position(5.0), position(-5.0, venue="mexc")])
    assert not ask(world, -3.0).allowed
    assert ask(world, -1.0).allowed


# -- unknown values


def test_an_order_without_a_price_is_refused() -> None:
    """A currency without a price or a contract without a size: unknown is not zero."""
    world = market(limit("inventory", max=500.0), limit("total_notional", max=500.0))
    assert not ask(world, 0.01, symbol="ETH/BTC").allowed
    answer = ask(world, 1.0, symbol=INVERSE)
    assert [(one.limit, one.value) for one in answer.reasons] == [
        ("total_notional", None),
        ("inventory", None),
    ]


def test_on_unknown_ignore_waives_it() -> None:
    """`on_unknown = "ignore"`: an unknown value refuses no order."""
    world = market(limit("inventory", max=500.0, on_unknown="ignore"))
    assert ask(world, 0.01, symbol="ETH/BTC").allowed


def test_quantities_need_no_price() -> None:
    """Limits on quantity need no price."""
    world = market(limit("position", max=5.0), limit("total_position", max=5.0))
    assert ask(world, 5.0, symbol="ETH/BTC").allowed


def test_a_written_limit_that_is_unknown_reduces_after_the_grace() -> None:
    """The reason names the missing price; nothing is cancelled; a price ends it."""
    world = World(limit("inventory", max=500.0, written=True), portfolio=MONEY, targets=OMS)
    scope = "symbol:" + ETH
    world.step(position(1.0, ETH))
    world.wait(29.9)
    assert world.level(scope) == "allow"
    world.wait(0.1)
    assert (world.level(scope), world.level()) == ("reduce_only", "allow")
    (told,) = [d for d in world.decisions if isinstance(d, UnknownLimit)]
    assert told.reason == f"{ETH} has no mark: report its price"
    assert not world.sweeps
    world.step(price(ETH, 100.0))
    assert world.level(scope) == "allow"


def test_an_old_price_makes_the_size_unknown() -> None:
    """A mark older than `max_age.price` does not count."""
    config = PortfolioConfig(initial_capital=1e4, max_age=MaxAge(price=10.0), unknown_grace=5.0)
    world = market(limit("total_notional", max=1e3, written=True), portfolio=config)
    world.step(position(1.0))
    assert world.level() == "allow"
    world.wait(10)
    assert world.breaker("total_notional", "account").value == 100.0
    world.wait(5.1)
    assert world.level() == "reduce_only"
    world.step(price(PERP, 100.0))
    assert world.level() == "allow"


def test_concentration_needs_equity() -> None:
    """Without equity the ratio is unknown, and every order that needs it is refused."""
    world = market(limit("concentration", max=0.5), portfolio=KRAKEN)
    assert not ask(world, 0.1).allowed
    world.step(balances(USDT=1_000.0))
    assert ask(world, 5.0).allowed
    assert not ask(world, 0.1).allowed


def test_concentration_follows_equity() -> None:
    """The same position weighs more when equity falls."""
    world = market(limit("concentration", max=0.5), portfolio=KRAKEN)
    world.each([balances(USDT=1_000.0), position(4.0)])
    assert world.breaker("concentration", "account").value == pytest.approx(0.4)
    world.step(balances(USDT=700.0))
    world.wait(5)  # for a fill that explains it
    assert world.level() == "reduce_only"


def test_concentration_of_an_account_without_equity_is_past_any_bound() -> None:
    """With a position and no equity only reducing orders are allowed; no position is 0."""
    world = market(limit("concentration", max=1_000.0), portfolio=KRAKEN)
    world.each([balances(USDT=1_000.0), balances(USDT=0.0)])
    assert (world.breaker("concentration", "account").value, world.level()) == (0.0, "allow")
    world.step(position(0.1))
    assert world.level() == "reduce_only"


# -- venues, contracts, overrides


def test_one_symbol_at_several_venues_is_netted() -> None:
    """Long at one venue and short at another are netted, in quantity and in money."""
    world = market(limit("position", max=5.0), limit("inventory", max=500.0))
    world.each([position(8.0), position(-5.0, venue="mexc")])
    assert world.breaker("position", SCOPE).value == 3.0
    assert world.breaker("inventory", SCOPE).value == 300.0
    assert ask(world, 2.0, venue="okx").allowed
    assert not ask(world, 0.1, venue="mexc").allowed


def test_the_contract_size_of_a_linear_contract() -> None:
    """Quantity counts contracts, notional counts contracts x size x mark."""
    world = market(limit("position", max=50.0), limit("inventory", max=500.0))
    world.step(position(40.0, contract_size=0.1))
    assert world.breaker("position", SCOPE).value == 40.0
    assert world.breaker("inventory", SCOPE).value == pytest.approx(400.0)
    assert ask(world, 10.0).allowed
    (blame, *_) = ask(world, 0.2).reasons
    assert blame.value == pytest.approx(502.0) or blame.limit == "position"


def test_an_inverse_contract_is_sized_in_its_quote() -> None:
    """Its notional is contracts x size, whatever the price."""
    world = market(limit("inventory", max=500.0))
    world.step(position(4.0, INVERSE, contract_size=100.0))
    assert world.breaker("inventory", "symbol:" + INVERSE).value == 400.0
    world.step(price(INVERSE, 1.0))
    assert world.breaker("inventory", "symbol:" + INVERSE).value == 400.0
    assert ask(world, 1.0, symbol=INVERSE, price=7.0).allowed
    assert not ask(world, 0.1, symbol=INVERSE, price=7.0).allowed


def test_notional_in_another_quote_currency() -> None:
    """What is quoted in BTC counts at the price of BTC."""
    world = market(limit("inventory", max=500.0))
    world.each([price("BTC/USDT", 1_000.0), price("ETH/BTC", 0.1)])
    assert ask(world, 5.0, symbol="ETH/BTC", price=0.1).allowed
    assert not ask(world, 0.1, symbol="ETH/BTC", price=0.1).allowed
    world.step(position(-4.0, "ETH/BTC", 0.1))
    assert world.breaker("inventory", "symbol:ETH/BTC").value == pytest.approx(400.0)
    world.step(price("BTC/USDT", 500.0))
    assert world.breaker("inventory", "symbol:ETH/BTC").value == pytest.approx(200.0)


def test_an_old_price_of_the_quote_currency_is_none() -> None:
    """A price that only an order needed expires like every other."""
    world = market(limit("inventory", max=500.0))
    world.step(price("BTC/USDT", 1_000.0))
    assert ask(world, 1.0, symbol="ETH/BTC", price=0.1).allowed
    world.wait(301)
    assert not ask(world, 1.0, symbol="ETH/BTC", price=0.1).allowed


def test_overrides_by_symbol() -> None:
    """`overrides` gives one symbol another bound."""
    world = market(limit("position", max=1.0, overrides={SCOPE: 3.0}))
    assert ask(world, 3.0).allowed
    assert not ask(world, 3.0, symbol=ETH).allowed


def test_several_limits_of_one_kind() -> None:
    """A soft bound below a hard one, under their own names."""
    world = market(
        limit("position", "soft", max=1.0, on_breach="warn"),
        limit("position", "hard", max=2.0, on_breach="trip"),
    )
    world.step(fill("buy", 1.5, 100.0))
    assert (world.state("soft", SCOPE), world.state("hard", SCOPE)) == ("closed", "closed")
    assert [one.limit for one in ask(world, 1.0).reasons] == ["hard"]
    assert world.state("hard", SCOPE) == "open"


def test_a_limit_that_a_reload_adds_is_evaluated_with_it() -> None:
    """A position past a new bound blocks from the reload on, without another event."""
    world = market()
    world.step(position(4.0))
    world.configure(limit("position", max=1.0))
    assert world.level(SCOPE) == "reduce_only"
    world.configure(limit("position", max=5.0))
    assert world.level(SCOPE) == "allow"


# -- orders on both sides


@pytest.mark.parametrize("kind", ["position", "total_position"])
def test_orders_on_both_sides_do_not_add_up(kind: str) -> None:
    """Of a quote on each side only one can make the position larger."""
    world = market(limit(kind, max=4.0))
    assert ask(world, 3.0).allowed
    assert ask(world, -3.0).allowed
    assert not ask(world, 2.0).allowed
    assert not ask(world, -2.0).allowed
    assert ask(world, -1.0).allowed


def test_notional_on_both_sides_does_not_add_up() -> None:
    """Notional over two symbols counts the worse side of each."""
    world = market(limit("total_notional", max=700.0))
    assert ask(world, 3.0).allowed
    assert ask(world, -3.0).allowed
    assert ask(world, 3.0, symbol=ETH).allowed
    (blame,) = ask(world, -4.5, symbol=ETH).reasons
    assert blame.value == pytest.approx(750.0)
