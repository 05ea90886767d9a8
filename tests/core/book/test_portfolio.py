"""The portfolio: equity, unit value and P&L against a slow and obvious model of fractions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from tests.core import (
    FEW,
    MANY,
    World,
    balance,
    balances,
    fill,
    flow,
    latency,
    limit,
    loss_limit,
    price,
)

CAPITAL = PortfolioConfig(initial_capital=10_000.0)

# -- the model --------------------------------------------------------------------------------

F = Fraction
VENUES = ("a", "b")
LINEAR, INVERSE, SPOT = "BTC/USDT:USDT", "BTC/USD:BTC", "BTC/USDT"
SYMBOLS = (LINEAR, INVERSE, SPOT, "ETH/USDT", "XRP/BTC")
SIZES = {LINEAR: F(1), INVERSE: F(100), SPOT: F(1), "ETH/USDT": F(1), "XRP/BTC": F(1)}
SETTLE = {LINEAR: "USDT", INVERSE: "BTC", SPOT: "USDT", "ETH/USDT": "USDT", "XRP/BTC": "BTC"}


@dataclass
class Model:
    """A portfolio with exact amounts that computes every value from scratch."""

    held: dict[tuple[str, str], Fraction] = field(default_factory=dict)
    marks: dict[str, dict[str, Fraction]] = field(default_factory=dict)
    books: dict[tuple[str, str], tuple[Fraction, Fraction]] = field(default_factory=dict)
    realised: dict[str, Fraction] = field(default_factory=dict)
    units: Fraction = field(default_factory=lambda: Fraction(10_000))

    def worth(self, asset: str) -> Fraction:
        if asset in ("USDT", "USD"):
            return F(1)
        if asset == "XRP":
            return self.marks["XRP/BTC"][""] * self.worth("BTC")
        return self.marks[asset + "/USDT"][""]

    def mark(self, venue: str, symbol: str) -> Fraction:
        return self.marks[symbol].get(venue, self.marks[symbol][""])

    def hear(self, symbol: str, at: Fraction, venue: str = "") -> None:
        if not venue:
            self.marks[symbol] = {}
        self.marks[symbol][venue] = self.marks[symbol][""] = at

    def balances(self, venue: str, **free: Fraction) -> None:
        self.held = {k: v for k, v in self.held.items() if k[0] != venue}
        self.held.update({(venue, asset): amount for asset, amount in free.items()})

    def flow(self, venue: str, asset: str, amount: Fraction) -> None:
        unit_value = self.equity() / self.units
        self.held[venue, asset] = self.held.get((venue, asset), F(0)) + amount
        self.units += amount * self.worth(asset) / unit_value

    def fill(self, venue: str, symbol: str, signed: Fraction, at: Fraction, fee: Fraction) -> None:
        quantity, entry = self.books.get((venue, symbol), (F(0), F(0)))
        inverse, gained = symbol == INVERSE, -fee
        after = quantity + signed
        if quantity * signed < 0:
            closed = min(abs(quantity), abs(signed)) * (1 if quantity > 0 else -1)
            gain = 1 / entry - 1 / at if inverse else at - entry
            gained += closed * gain * SIZES[symbol]
            if after * quantity < 0:
                entry = at
        elif inverse and quantity:
            entry = after / (quantity / entry + signed / at)
        else:
            entry = (quantity * entry + signed * at) / after
        self.books[venue, symbol] = (after, entry)
        self.realised[SETTLE[symbol]] = self.realised.get(SETTLE[symbol], F(0)) + gained
        self.hear(symbol, at, venue)

    def unrealised(self, spot: bool) -> Fraction:
        total = F(0)
        for (venue, symbol), (quantity, entry) in self.books.items():
            if quantity and (symbol in (LINEAR, INVERSE) or spot):
                mark = self.mark(venue, symbol)
                gain = 1 / entry - 1 / mark if symbol == INVERSE else mark - entry
                total += quantity * SIZES[symbol] * gain * self.worth(SETTLE[symbol])
        return total

    def equity(self) -> Fraction:
        total = sum((v * self.worth(asset) for (_, asset), v in self.held.items()), F(0))
        return total + self.unrealised(spot=False)

    def notional(self, symbol: str) -> Fraction:
        net = F(0)
        for (venue, name), (quantity, _) in self.books.items():
            if name == symbol:
                mark = F(1) if symbol == INVERSE else self.mark(venue, symbol)
                net += quantity * SIZES[symbol] * mark
        return net * self.worth(symbol.partition("/")[2].partition(":")[0])


def near(value: float | None, exact: Fraction, scale: Fraction) -> bool:
    """Whether a float is right to 1e-9 of the amounts that it is made of."""
    return value is not None and abs(F(value) - exact) <= scale * F(1, 10**9)


def decimals(low: int, high: int, digits: int) -> st.SearchStrategy[Fraction]:
    """Decimal numbers."""
    return st.integers(low * 10**digits, high * 10**digits).map(lambda n: F(n, 10**digits))


PRICES = {"BTC": decimals(500, 60_000, 2), "XRP": decimals(1, 9, 5), "ETH": decimals(10, 9_000, 2)}
SOME_PRICES = st.sampled_from(SYMBOLS).flatmap(
    lambda symbol: st.tuples(
        st.just("price"), st.just(symbol), st.sampled_from(("", *VENUES)), PRICES[symbol[:3]]
    )
)
SOME_FILLS = st.sampled_from(SYMBOLS).flatmap(
    lambda symbol: st.tuples(
        st.just("fill"),
        st.just(symbol),
        st.sampled_from(VENUES),
        decimals(-3, 3, 1).filter(bool),
        PRICES[symbol[:3]],
        decimals(-1, 2, 3) if SETTLE[symbol] == "USDT" else st.just(F(0)),
    )
)
SOME_BALANCES = st.tuples(
    st.just("balances"),
    st.sampled_from(VENUES),
    st.fixed_dictionaries(
        {"USDT": decimals(100_000, 900_000, 2)},
        optional={"BTC": decimals(0, 9, 8), "ETH": decimals(0, 90, 4), "XRP": decimals(0, 999, 1)},
    ),
)
SOME_FLOWS = st.tuples(
    st.just("flow"),
    st.sampled_from(VENUES),
    st.sampled_from(("USDT", "BTC", "XRP")),
    decimals(-1, 9, 3).filter(bool),
)
SOME_POSITIONS = st.tuples(
    st.just("position"),
    st.sampled_from((LINEAR, INVERSE)),
    st.sampled_from(VENUES),
    decimals(-9, 9, 1),
    PRICES["BTC"],
)
STEPS = st.lists(
    st.one_of(SOME_PRICES, SOME_FILLS, SOME_BALANCES, SOME_FLOWS, SOME_POSITIONS), max_size=40
)


def begin() -> tuple[World, Model]:
    """Two venues with money, and a price for everything."""
    world = World(
        loss_limit(on_breach="shadow"),
        portfolio=PortfolioConfig(initial_capital=10_000.0, venues=VENUES, pegs={"USD": 1.0}),
    )
    model = Model()
    for symbol in SYMBOLS:
        world.step(price(symbol, 1_000.0))
        model.hear(symbol, F(1_000))
    for venue in VENUES:
        world.step(
            balances(venue, USDT=500_000.0),
            ev.Position(
                venue=venue, symbol=INVERSE, quantity=0.0, entry_price=0.0, contract_size=100.0
            ),
        )
        model.balances(venue, USDT=F(500_000))
    return world, model


def apply(world: World, model: Model, number: int, what: Any) -> None:
    """One step of both."""
    kind, name, *rest = what
    if kind == "price":
        world.step(price(name, float(rest[1]), rest[0] or None))
        model.hear(name, rest[1], rest[0])
    elif kind == "fill":
        venue, signed, at, fee = rest
        side = "buy" if signed > 0 else "sell"
        more = {"venue": venue, "fee": float(fee), "id": str(number)}
        world.step(fill(side, float(abs(signed)), float(at), name, **more))
        model.fill(venue, name, signed, at, fee)
    elif kind == "balances":
        world.step(balances(name, **{asset: float(f) for asset, f in rest[0].items()}))
        model.balances(name, **rest[0])
    elif kind == "flow":
        left = model.equity() + min(F(0), rest[1] * model.worth(rest[0]))
        if left < 10_000:
            return  # a withdrawal is never larger than the balance
        world.step(flow(float(rest[1]), rest[0], venue=name, id=str(number)))
        model.flow(name, *rest)
    else:
        venue, quantity, entry = rest
        world.step(
            ev.Position(
                venue=venue, symbol=name, quantity=float(quantity), entry_price=float(entry)
            )
        )
        model.books[venue, name] = (quantity, entry)


def check_against_model(steps: list[Any]) -> None:
    world, model = begin()
    for number, what in enumerate(steps):
        world.wait(0.001)
        apply(world, model, number, what)
        view, scale = world.portfolio, F(10**8)
        assert near(view.equity, model.equity(), scale)
        assert near(view.unit_value, model.equity() / model.units, scale / model.units)
        realised = sum((v * model.worth(a) for a, v in model.realised.items()), F(0))
        assert near(view.pnl_realized, realised, scale)
        assert near(view.pnl_unrealized, model.unrealised(spot=True), scale)
        notionals = [model.notional(symbol) for symbol in SYMBOLS]
        exposed = world.engine._book.exposures.symbols.values()
        gross = sum(abs(one.notional) for one in exposed)
        assert near(gross, sum(map(abs, notionals), F(0)), scale)
        for position in view.positions:
            exact = model.books.get((position.venue, position.symbol), (F(0), F(0)))
            assert near(position.quantity, exact[0], F(10))
            assert not exact[0] or near(position.entry_price, exact[1], F(60_000))


@FEW
@given(STEPS)
def test_equals_the_model(steps: list[Any]) -> None:
    """The engine equals the model for prices, fills, balances, flows and positions in any order."""
    check_against_model(steps)


@pytest.mark.slow
@MANY
@given(STEPS)
def test_equals_the_model_long(steps: list[Any]) -> None:
    """As above, with many more examples."""
    check_against_model(steps)


# -- settled ----------------------------------------------------------------------------------


def test_balances_settle_at_once() -> None:
    """After `balances` equity is settled at once; the first value becomes the capital."""
    world = World()
    world.step(balances(USDT=1_000.0))
    view = world.portfolio
    assert (view.equity, view.initial_capital, view.unit_value) == (1_000.0, 1_000.0, 1.0)
    assert view.settled


def test_balance_settles_after_a_quiet_second() -> None:
    """After single `balance` events equity waits for 1 s without another, and at most 5 s."""
    world = World(loss_limit())
    world.step(balances(USDT=1_000.0))
    world.step(balance("USDT", 500.0))
    assert (world.portfolio.equity, world.portfolio.settled) == (1_000.0, False)
    world.wait(0.999)
    assert world.portfolio.equity == 1_000.0
    world.wait(0.001)
    assert world.portfolio.equity == 500.0
    assert world.state("portfolio_loss", "account") == "open"


def test_balance_settles_within_five_seconds() -> None:
    """A venue that reports without a pause settles every 5 s."""
    world = World()
    world.step(balances(USDT=1_000.0))
    for n in range(9):
        world.step(balance("USDT", 900.0 - n))
        world.wait(0.5)
    assert world.portfolio.equity == 1_000.0
    world.step(balance("USDT", 800.0))
    world.wait(0.5)
    assert world.portfolio.equity == 800.0


def test_a_buy_between_two_balances_is_no_loss() -> None:
    """A buy changes two balances; between the two reports no equity is settled."""
    world = World(loss_limit())
    world.step(price("BTC/USDT", 100.0), balances(USDT=1_000.0))
    world.wait(31)
    world.step(balance("USDT", 500.0))
    world.wait(0.9)
    world.step(balance("BTC", 5.0))
    world.wait(10)
    assert world.portfolio.equity == 1_000.0
    assert world.breaker("portfolio_loss", "account").trips_total == 0


@pytest.mark.parametrize(("symbol", "state"), [("BTC/USDT", "closed"), ("BTC/USDT:USDT", "open")])
def test_a_spot_fill_moves_two_balances(symbol: str, state: str) -> None:
    """One of them alone is not settled for up to 5 s; a contract's fill moves no such pair."""
    world = World(loss_limit())
    world.step(price("BTC/USDT", 100.0), balances(USDT=1_000.0))
    world.wait(31)
    world.step(fill("buy", 5.0, 100.0, symbol), balance("USDT", 500.0))
    world.wait(4)
    world.step(balance("BTC", 5.0))
    world.wait(5)
    assert world.state("portfolio_loss", "account") == state


def test_equity_is_unknown_until_each_venue_reported() -> None:
    """Equity is unknown until each venue in `venues` has reported."""
    world = World(portfolio=PortfolioConfig(venues=("a", "b")))
    world.step(balances("a", USDT=1_000.0))
    assert world.portfolio.equity is None
    world.step(balances("b", USDT=500.0))
    assert world.portfolio.initial_capital == 1_500.0


def test_the_reference_alone_settles_at_once_and_only_alone() -> None:
    """Without `venues`, equity with an asset besides the reference is not settled at once."""
    world = World(portfolio=PortfolioConfig(pegs={"USD": 1.0}))
    world.step(balances(USDT=100.0, USD=1.0))
    assert world.portfolio.equity is None
    alone = World()
    alone.step(balances(USDT=100.0))
    assert alone.portfolio.initial_capital == 100.0


def test_without_venues_it_settles_after_the_grace() -> None:
    """Without `venues`, others have `unknown_grace` to report unless only the reference is held."""
    world = World()
    world.step(price("BTC/USDT", 100.0), balances("a", BTC=1.0))
    world.wait(29)
    assert world.portfolio.equity is None
    world.step(balances("b", USDT=50.0))
    world.wait(1)
    assert world.portfolio.initial_capital == 150.0


def test_nothing_is_no_capital() -> None:
    """An empty account measures no loss by a capital of zero; a deposit begins it."""
    world = World(loss_limit(written=True))
    world.step(balances(USDT=0.0))
    assert world.portfolio.equity is None
    assert "initial_capital" in world.view.unknown[0].reason
    world.step(balances(USDT=100.0))
    assert world.portfolio.initial_capital == 100.0
    world.step(balances(USDT=90.0))
    assert world.state("portfolio_loss", "account") == "open"


def test_the_first_capital_is_kept() -> None:
    """Profit moves neither capital nor baseline: the loss counts from the first equity."""
    world = World(loss_limit())
    world.each([balances(USDT=1_000.0), balances(USDT=2_000.0), balances(USDT=951.0)])
    assert world.state("portfolio_loss", "account") == "closed"
    world.step(balances(USDT=949.0))
    assert world.state("portfolio_loss", "account") == "open"
    assert world.breaker("portfolio_loss", "account").value == pytest.approx(0.051)


# -- equity without balances, flows -------------------------------------------------------------


def test_without_balances_equity_is_capital_and_pnl() -> None:
    """Initial capital + realised + unrealised P&L + cash flows."""
    world = World(loss_limit(), portfolio=CAPITAL)
    world.step(fill("buy", 2.0, 100.0, fee=1.0), price("BTC/USDT:USDT", 110.0))
    assert world.portfolio.equity == 10_019.0
    world.step(fill("sell", 2.0, 105.0), ev.Pnl(amount=-9.0, id="p"), flow(1_000.0))
    assert world.portfolio.equity == 11_000.0
    assert world.portfolio.unit_value == pytest.approx(1.0)


def test_duplicates_change_nothing() -> None:
    """A fill, P&L or flow seen before is counted and moves nothing."""
    world = World(portfolio=CAPITAL)
    facts: list[ev.Event] = [
        fill("buy", 2.0, 100.0, fee=1.0),
        ev.Pnl(amount=-9.0, id="p"),
        flow(1_000.0),
    ]
    world.step(*facts)
    before = world.portfolio
    assert world.step(*facts).duplicates == 3
    assert world.portfolio == before
    assert world.view.duplicates_total == 3
    world.step(fill("buy", 2.0, 100.0, fee=1.0, venue="mexc"))
    assert len(world.portfolio.positions) == 2


def test_what_a_strategy_realised_elsewhere_is_the_accounts_too() -> None:
    """A `pnl` that names a strategy counts in both books."""
    world = World(limit("daily_loss", max=100.0, per="strategy"), portfolio=CAPITAL)
    world.step(ev.Pnl(amount=-9.0, id="p", strategy="mm"))
    assert (world.portfolio.equity, world.portfolio.pnl_realized) == (9_991.0, -9.0)
    assert world.breaker("daily_loss", "strategy:mm").value == 9.0


def test_what_makes_a_fact_the_same() -> None:
    """Type, venue, symbol, side and id together: with one of them another it is another fact."""
    world = World(portfolio=CAPITAL)
    facts: list[ev.Event] = [
        fill("buy", 1.0, 9.0, id="x"),
        fill("buy", 1.0, 9.0, id="y"),
        fill("sell", 1.0, 9.0, id="x"),
        fill("buy", 1.0, 9.0, id="x", venue="mexc"),
        fill("buy", 1.0, 9.0, "ETH/USDT", id="x"),
        flow(1.0, id="x"),
        flow(1.0, id="x", venue="mexc"),
        ev.Pnl(amount=1.0, id="x"),
    ]
    assert world.step(*facts).duplicates == 0
    assert world.step(fill("buy", 7.0, 8.0, id="x", strategy="mm")).duplicates == 1
    assert world.step(flow(5.0, "BTC", id="x"), ev.Pnl(amount=2.0, id="x")).duplicates == 2


def test_a_fact_is_remembered_for_seven_days() -> None:
    """An id is a duplicate for 7 days, whenever they begin."""
    world = World(portfolio=CAPITAL)
    for days, duplicates in ((0, 0), (6.9, 1), (0.2, 0), (0.1, 1)):
        world.wait(days * 86_400)
        assert world.step(ev.Pnl(amount=1.0, id="p")).duplicates == duplicates


@pytest.mark.parametrize("amount", [-300.0, 700.0])
def test_a_flow_moves_no_ratio(amount: float) -> None:
    """A deposit or withdrawal changes equity in the same step, but neither loss nor drawdown."""
    world = World(loss_limit())
    world.each([balances(USDT=1_000.0), balances(USDT=960.0)])
    world.wait(1)
    world.step(flow(amount))
    assert world.portfolio.equity == 960.0 + amount
    assert world.portfolio.unit_value == pytest.approx(0.96)
    assert world.portfolio.drawdown_ratio == pytest.approx(0.04)
    world.step(balances(USDT=960.0 + amount))
    assert world.portfolio.unit_value == pytest.approx(0.96)
    assert world.state("portfolio_loss", "account") == "closed"


def test_two_flows_in_one_step() -> None:
    """Each of two flows of one instant changes the balance, also of an asset not held before."""
    world = World(loss_limit())
    world.step(price("BTC/USDT", 100.0), balances(USDT=1_000.0))
    world.wait(31)
    world.step(flow(1.0, "BTC", id="1"), flow(2.0, "BTC", id="2"), flow(100.0))
    assert world.portfolio.equity == 1_400.0
    assert world.portfolio.unit_value == pytest.approx(1.0)


def test_a_flow_that_the_balance_holds_already() -> None:
    """A flow older than its venue's balance changes only the units."""
    world = World(loss_limit())
    world.step(balances(USDT=1_000.0))
    world.wait(10)
    world.step(balances(USDT=0.0))
    now = datetime.fromtimestamp(world.view.at_ns / 1e9, UTC)
    world.step(flow(-1_000.0, at=now - timedelta(seconds=1)))
    assert world.portfolio.equity == 0.0
    world.wait(1)
    world.step(flow(500.0))
    assert world.portfolio.equity == 500.0


def test_a_flow_that_a_single_balance_of_zero_holds_already() -> None:
    """A balance of 0 has its time like any other: an older withdrawal does not move it again."""
    world = World(loss_limit(), portfolio=PortfolioConfig(venues=("kraken",)))
    world.step(price("BTC/USDT", 100.0), balances(USDT=1_000.0, BTC=1.0))
    world.wait(10)
    world.step(balance("BTC", 0.0))
    world.wait(1)
    now = datetime.fromtimestamp(world.view.at_ns / 1e9, UTC)
    world.step(flow(-1.0, "BTC", at=now - timedelta(seconds=5)))
    assert world.portfolio.equity == 1_000.0
    assert world.portfolio.unit_value == pytest.approx(1.0)
    world.step(flow(2.0, "BTC"))  # one that is newer does
    assert world.portfolio.equity == 1_200.0


def test_a_late_venue_enters_as_a_flow() -> None:
    """Neither a venue that reports later nor an earlier deposit to it changes a ratio."""
    world = World(loss_limit())
    world.each([balances("a", USDT=1_000.0), balances("a", USDT=960.0)])
    world.step(flow(5_000.0, venue="b"))
    assert world.portfolio.unit_value == pytest.approx(0.96)
    world.step(balances("b", USDT=5_000.0))
    assert world.portfolio.equity == 5_960.0
    assert world.portfolio.unit_value == pytest.approx(0.96)


def test_an_unpriced_asset_is_left_out_after_the_grace() -> None:
    """Unknown for `unknown_grace`, then left out; it enters as a flow when it has a price."""
    world = World(loss_limit(written=True))
    world.step(balances(USDT=1_000.0, XYZ=10.0))
    world.wait(29.9)
    assert (world.portfolio.equity, world.portfolio.unpriced) == (None, ["XYZ"])
    world.wait(1)
    assert (world.portfolio.equity, world.level()) == (1_000.0, "allow")
    world.step(price("XYZ/USDT", 7.0))
    assert world.portfolio.equity == 1_070.0
    assert world.portfolio.unit_value == pytest.approx(1.0)


def test_a_fill_is_a_mark_while_an_asset_is_left_out() -> None:
    """The price of a fill counts in its step although another held asset has no price."""
    perp = "BTC/USDT:USDT"
    world = World(limit("inventory", max=500.0), portfolio=PortfolioConfig(venues=("kraken",)))
    world.step(price("XRP/BTC", 0.5), price(perp, 100.0), balances(USDT=1_000.0, SOL=4.0))
    world.wait(31)
    world.each(fill("sell", 1.0, each, perp) for each in (100.0, 80.0))
    assert world.breaker("inventory", f"symbol:{perp}").value == 160.0


def test_ignored_and_pegged_assets() -> None:
    """`ignore` leaves an asset out, `pegs` prices it."""
    world = World(portfolio=PortfolioConfig(ignore=("XYZ",), pegs={"USD": 1.5}))
    world.step(balances(USDT=100.0, XYZ=9.0, USD=10.0))
    world.wait(31)
    assert world.portfolio.equity == 115.0
    assert world.portfolio.unpriced == []
    world.step(price("XYZ/USDT", 5.0), flow(50.0, "XYZ"))
    assert (world.portfolio.equity, world.portfolio.unit_value) == (115.0, 1.0)


def test_a_price_kept_for_a_cross_expires() -> None:
    """A price first received for a position's quote currency expires for a later balance too."""
    world = World(loss_limit())
    world.step(fill("buy", 1.0, 0.05, "ETH/BTC", id="f"), price("BTC/USDT", 100.0))
    world.step(balances(USDT=1_000.0))
    world.wait(100)
    world.step(balances(USDT=1_000.0, BTC=1.0, ETH=0.0))
    assert world.portfolio.equity == 1_100.0
    world.wait(250)
    assert world.portfolio.equity is None


def test_a_peg_precedes_any_price() -> None:
    """A pegged asset is valued at its peg, also where another asset is priced through it."""
    world = World(portfolio=PortfolioConfig(pegs={"USD": 0.5}))
    world.step(price("USD/USDT", 2.0), price("ABC/USD", 4.0))
    world.step(balances(USD=10.0, ABC=10.0))
    world.wait(31)
    assert world.portfolio.equity == 25.0


def test_a_price_crosses_at_most_one_asset() -> None:
    """A direct price precedes one through another asset; through two assets there is no price."""
    world = World()
    world.step(price("BTC/USDT", 100.0), price("ETH/BTC", 0.1), price("XRP/ETH", 0.5))
    world.step(balances(ETH=10.0, XRP=1.0))
    assert world.portfolio.unpriced == ["XRP"]
    world.step(balances(ETH=10.0))
    world.wait(31)
    assert world.portfolio.equity == 100.0
    world.step(price("ETH/USDT", 11.0), price("ETH/BTC", 0.2))
    assert world.portfolio.equity == 110.0


def test_a_fill_is_a_price() -> None:
    """A spot fill sets the price of its asset; a contract's fill does not set its base asset's."""
    world = World()
    world.step(balances(BTC=2.0), price("BTC/USDT:USDT", 90.0))
    assert world.portfolio.unpriced == ["BTC"]
    world.step(fill("buy", 1.0, 100.0, "BTC/USDT"))
    world.wait(31)
    assert world.portfolio.equity == 200.0


def test_locked_amounts_count_and_missing_assets_are_zero() -> None:
    """Free and locked count alike; an asset that `balances` does not name is 0."""
    world = World()
    world.step(ev.Balances(venue="kraken", assets={"USDT": ev.AssetBalance(free=1.0, locked=2.0)}))
    assert world.portfolio.equity == 3.0
    world.step(balance("USDT", 1.0, locked=4.0))
    world.wait(1)
    assert world.portfolio.equity == 5.0
    world.step(balances("mexc", USDT=7.0))
    world.step(balances(BTC=0.0))
    assert world.portfolio.equity == 7.0


def test_dust_with_an_old_price_makes_nothing_unknown() -> None:
    """A holding worth less than `dust` keeps its last price; a larger one does not."""
    for held, equity in ((0.009, 1_000.9), (0.011, None)):
        world = World()
        world.step(price("ABC/USDT", 100.0), balances(USDT=1_000.0, ABC=held))
        world.wait(301)
        world.step(balances(USDT=1_000.0, ABC=held))
        assert world.portfolio.equity == equity


def test_spot_counts_once() -> None:
    """A spot position counts for P&L and exposure, and never twice for equity."""
    world = World()
    world.step(price("BTC/USDT", 100.0), balances(USDT=900.0, BTC=1.0))
    world.wait(31)
    world.step(fill("buy", 1.0, 100.0, "BTC/USDT"), price("BTC/USDT", 150.0))
    assert world.portfolio.equity == 1_050.0
    assert world.portfolio.pnl_unrealized == 50.0
    assert world.portfolio.positions[0].notional == 150.0


def test_unrealised_included() -> None:
    """Unrealised P&L is not added where the venue's balance includes it."""
    world = World(portfolio=PortfolioConfig(unrealised_included=("kraken",)))
    world.step(balances(USDT=900.0), fill("buy", 1.0, 100.0), price("BTC/USDT:USDT", 150.0))
    assert world.portfolio.equity == 900.0
    assert world.portfolio.pnl_unrealized == 50.0


def test_a_silent_venue_makes_equity_unknown() -> None:
    """A balance older than `max_age` is unknown."""
    world = World()
    world.step(balances(USDT=900.0), latency(0.1))
    world.wait(900)
    assert world.portfolio.equity == 900.0
    world.wait(1)
    assert world.portfolio.equity is None


# -- rebase -------------------------------------------------------------------------------------


def test_rebase_from_balances() -> None:
    """The current settled equity becomes capital and peak; the next 5 % trip again."""
    world = World(loss_limit())
    world.each([balances(USDT=1_000.0), balances(USDT=900.0)])
    assert world.operate("reset").status == 409
    assert world.operate("reset", rebase=True).status == 200
    view = world.portfolio
    assert (view.equity, view.initial_capital, view.unit_value) == (900.0, 900.0, 1.0)
    world.step(balances(USDT=860.0))
    assert world.state("portfolio_loss", "account") == "closed"
    world.step(balances(USDT=850.0))
    assert world.state("portfolio_loss", "account") == "open"


def test_rebase_without_balances() -> None:
    """A loss before a rebase does not count against the new capital."""
    world = World(loss_limit(), portfolio=CAPITAL)
    world.step(ev.Pnl(amount=-600.0, id="1"))
    assert world.operate("reset", rebase=True).status == 200
    view = world.portfolio
    assert (view.equity, view.initial_capital, view.unit_value) == (9_400.0, 9_400.0, 1.0)
    assert world.state("portfolio_loss", "account") == "closed"
    world.step(ev.Pnl(amount=-471.0, id="2"))
    assert world.state("portfolio_loss", "account") == "open"


def test_rebase_of_nothing() -> None:
    """An account that lost everything can be rebased by force, and trips again."""
    world = World(loss_limit())
    world.each([balances(USDT=1_000.0), balances(USDT=0.0)])
    world.operate("reset", rebase=True)
    assert world.state("portfolio_loss", "account") == "open"
    world.step(balances(USDT=0.0))
    assert world.portfolio.unit_value == 0.0


def test_a_deposit_in_an_asset_whose_price_is_old_is_no_loss() -> None:
    """The holding stays in equity: it is unknown until a price comes, and no loss then."""
    world = World(loss_limit(), portfolio=CAPITAL)
    world.step(price("BTC/USDT", 50_000.0), balances("kraken", USDT=5_000.0, BTC=0.1))
    world.wait(301)
    world.step(flow(0.1, "BTC"))
    assert world.portfolio.equity is None
    world.step(price("BTC/USDT", 50_000.0))
    assert world.portfolio.equity == pytest.approx(15_000.0)
    assert world.loss == pytest.approx(0.0)


def test_an_asset_that_a_late_venue_brings_without_a_price_is_no_profit() -> None:
    """It enters as a cash flow when its price comes, within the grace too."""
    world = World(loss_limit(), portfolio=CAPITAL)
    world.step(balances("kraken", USDT=9_800.0))
    world.step(balances("mexc", SOL=10.0))
    world.step(price("SOL/USDT", 100.0))
    assert world.portfolio.equity == pytest.approx(10_800.0)
    assert world.loss == pytest.approx(0.02)


# -- late reports, and venues that must report ------------------------------------------------


def _ago(world: World, seconds: float) -> datetime:
    return datetime.fromtimestamp(world.view.at_ns / 1e9 - seconds, UTC)


def test_an_old_fill_is_not_a_current_price() -> None:
    """Fills of a reported history change the position, but no mark and no error streak."""
    world = World(limit("error_streak"), portfolio=CAPITAL)
    world.step(ev.Position(venue="kraken", symbol=LINEAR, quantity=1.0, entry_price=100.0))
    world.wait(60)
    world.step(price(LINEAR, 110.0, "kraken"), ev.Error(venue="kraken"))
    world.step(fill("buy", 1.0, 50.0, "ETH/USDT:USDT", at=_ago(world, 3600)))
    world.step(fill("buy", 1.0, 50.0, at=_ago(world, 3600)))
    world.step(ev.Price(symbol=LINEAR, price=60.0, venue="kraken", at=_ago(world, 30)))
    first, second = world.portfolio.positions
    assert (first.quantity, first.mark) == (1.0, 110.0)
    assert (second.quantity, second.mark) == (1.0, 50.0)
    assert world.portfolio.equity is None  # the only price of ETH is an hour old
    assert world.breaker("error_streak").value == 1.0


def test_a_prices_age_counts_from_its_own_time() -> None:
    """The age of a price counts from its `at`, not from its arrival."""
    world = World(loss_limit(), portfolio=CAPITAL)
    world.step(fill("buy", 1.0, 100.0))
    world.step(ev.Price(symbol=LINEAR, price=99.0, venue="kraken", at=_ago(world, 8)))
    assert world.portfolio.positions[0].mark == 99.0
    world.wait(291.9)
    assert world.portfolio.equity is not None
    world.wait(0.2)
    assert world.portfolio.equity is None


def test_named_venues_must_report_though_the_capital_is_given() -> None:
    """With `venues`, equity is the sum of their balances, and unknown until each has reported."""
    config = PortfolioConfig(venues=("kraken",), initial_capital=1_000.0)
    world = World(loss_limit(written=True), portfolio=config)
    world.step(latency(0.1))
    assert world.portfolio.equity is None
    world.step(balances(USDT=990.0))
    assert world.portfolio.equity == 990.0


def test_a_position_without_a_mark_makes_its_venue_unknown() -> None:
    """The venue's value is known again with a mark that changes no P&L."""
    world = World(limit("daily_loss", max=100.0, per="venue", written=True))
    world.step(balances("mexc", USDT=1_000.0))
    world.step(ev.Position(venue="mexc", symbol=LINEAR, quantity=2.0, entry_price=100.0))
    assert world.breaker("daily_loss", "venue:mexc").unknown
    world.step(price(LINEAR, 100.0))
    assert world.breaker("daily_loss", "venue:mexc").value == 0.0
    world.wait(60)
    assert world.level("venue:mexc") == "allow"


def test_a_venue_is_known_again_when_its_airdrop_is_left_out() -> None:
    """At the end of the grace the venue is known again without another report."""
    config = PortfolioConfig(venues=("kraken",))
    world = World(limit("daily_loss", max=100.0, written=True, per="venue"), portfolio=config)
    world.step(balances(USDT=1_000.0))
    world.wait(60)
    world.step(balances(USDT=1_000.0, GIFT=5.0))
    world.wait(120)
    assert world.view.unknown == []
    assert world.level("venue:kraken") == "allow"
