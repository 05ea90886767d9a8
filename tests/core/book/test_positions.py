"""Positions at average cost: fills, fees, contract sizes, legs, strategies; what they are worth."""

from __future__ import annotations

import pytest

from riskmon.core.book.effects import Stamp
from riskmon.core.book.marking import Value
from riskmon.core.book.realised import Close, OrderKey
from riskmon.core.unknown import Unknown
from tests.core.book.world import INVERSE, LINEAR, NOW, SECOND, SPOT, World

near = pytest.approx


@pytest.mark.parametrize(
    ("fills", "quantity", "entry", "realised"),
    [
        ([(1, 100), (3, 200)], 4.0, 175.0, 0.0),
        ([(4, 100), (-1, 130)], 3.0, 100.0, 30.0),
        ([(-4, 100), (1, 130)], -3.0, 100.0, -30.0),
        ([(1, 100), (-3, 90)], -2.0, 90.0, -10.0),
        ([(1, 100), (-1, 90)], 0.0, 0.0, -10.0),
        ([(0.1, 9), (0.2, 9), (-0.3, 9)], 0.0, 0.0, 0.0),
    ],
)
@pytest.mark.parametrize("symbol", [LINEAR, SPOT])
def test_average_cost(
    fills: list[tuple[float, float]], quantity: float, entry: float, realised: float, symbol: str
) -> None:
    """Fills of the same side average, opposite ones realise, and past zero the position flips."""
    here = World()
    for amount, price in fills:
        here.fill(amount, price, symbol, strategy="mm")
    assert here.held(symbol) == here.held(symbol, "mm") == (quantity, entry)
    assert here.realised == realised


def test_inverse_contracts() -> None:
    """Inverse: harmonic mean, P&L in the base asset, notional quantity x size, base by the mark."""
    here = World()
    here.price(SPOT, 20_000)
    here.report(0, symbol=INVERSE, size=100)
    here.fill(10, 10_000, INVERSE, ago=None)
    here.fill(10, 20_000, INVERSE)
    assert here.held(INVERSE) == near((20.0, 20 / (10 / 10_000 + 10 / 20_000)))
    value = here.value(INVERSE)
    assert value.unrealised == near(2_000 * (0.000075 - 0.00005) * 20_000)
    assert value.notional == 2_000.0
    assert value.base == near(0.1)
    here.fill(-20, 40_000, INVERSE)
    gain = 2_000 * (0.000075 - 0.000025)
    assert here.realised == near(gain * 20_000)
    assert here.amounts() == {"BTC": near(gain)}


@pytest.mark.parametrize("sign", [1, -1])
def test_an_inverse_position_flips(sign: int) -> None:
    """Past zero the rest is opened at the fill's price; what was closed realises in the base."""
    here = World()
    here.price(SPOT, 10_000)
    here.report(0, symbol=INVERSE, size=100)
    here.wait(10)
    here.fill(10 * sign, 8_000, INVERSE)
    here.fill(-15 * sign, 10_000, INVERSE)
    assert here.held(INVERSE) == (-5.0 * sign, 10_000.0)
    assert here.realised == near(sign * 10 * 100 * (1 / 8_000 - 1 / 10_000) * 10_000)


def test_the_effects_of_a_spot_fill() -> None:
    """Both assets move; the fee is in the quote, the base or a third asset."""
    here = World()
    assert here.fill(2, 100, SPOT, fee=0.5) == {"BTC": 2.0, "USDT": -200.5}
    assert here.fill(-2, 100, SPOT, fee=0.01, fee_asset="BTC") == {"BTC": -2.01, "USDT": 200.0}
    moved = here.fill(1, 100, SPOT, fee=0.2, fee_asset="BNB")
    assert moved == {"BTC": 1, "USDT": -100, "BNB": -0.2}


def test_the_effects_of_a_contract_fill() -> None:
    """Realised P&L and the fee, in the settle asset; a rebate raises it."""
    here = World()
    assert here.fill(2, 100) == {}
    assert here.fill(-1, 110, fee=0.5) == {"USDT": 9.5}
    assert here.fill(1, 110, fee=-0.25) == {"USDT": 0.25}


def test_a_balance_that_includes_unrealised_pnl() -> None:
    """At such a venue a close moves no balance, only its fee does."""
    here = World(unrealised_included=("kraken",))
    here.fill(2, 100)
    assert here.fill(-1, 110, fee=0.5) == {"USDT": -0.5}
    assert here.realised == 9.5


def test_200_round_trips_with_fees_in_the_base() -> None:
    """A fee in the base asset lowers the position, the account's and the strategy's: 0 is left."""
    here = World()
    for _ in range(200):
        here.fill(1.0, 100.0, SPOT, fee=0.001, fee_asset="BTC", strategy="mm")
        here.fill(-0.999, 100.0, SPOT, fee=0.0999, strategy="mm")
    assert here.held(SPOT) == here.held(SPOT, "mm") == (0.0, 0.0)
    assert here.realised == near(-200 * 0.1999)
    assert here.pnl_of("mm") == near(-200 * 0.1999)
    assert here.amounts() == {"BTC": near(0, abs=1e-12), "USDT": near(-200 * 0.1999)}


def test_a_fee_in_the_base_costs_its_value() -> None:
    """Held at 50, 0.5 sold at 100 with a fee of 0.001 BTC: P&L falls by the fee, 0.1."""
    here = World()
    here.fill(1, 50, SPOT)
    here.price(SPOT, 100)
    before = here.pnl
    here.fill(-0.5, 100, SPOT, fee=0.001, fee_asset="BTC")
    assert here.position(SPOT).quantity == near(0.499)
    assert here.pnl - before == near(-0.1)


def test_a_fee_stays_what_it_was() -> None:
    """A fee in BNB, then BNB x 3: the fee is its value when it was paid."""
    here = World()
    here.price("BNB/USDT", 300)
    here.fill(1, 100, fee=0.01, fee_asset="BNB", strategy="mm")
    here.price("BNB/USDT", 900)
    assert here.realised == near(-3)
    assert here.pnl_of("mm") == near(-3)


@pytest.mark.parametrize(("hours", "fee"), [(23, 6.0), (25, 0.0)])
def test_an_unpriced_fee_counts_at_its_first_price(hours: float, fee: float) -> None:
    """At most 24 h later; all fees that wait count at once, also after a restore."""
    here = World()
    for strategy in ("mm", "mm", "arb"):
        here.fill(1, 100, fee=0.01, fee_asset="BNB", strategy=strategy)
    assert here.realised == 0
    here.restore()
    here.wait(hours * 3600)
    here.price("BNB/USDT", 200)
    here.price("BNB/USDT", 400)
    assert here.realised == near(-fee)
    here.price(LINEAR, 100)
    assert here.pnl_of("mm") == near(-fee * 2 / 3)


def test_the_fee_of_an_ignored_asset_has_no_value() -> None:
    """It leaves the holding, and no P&L waits for its price."""
    here = World(ignore=("XYZ",))
    assert here.fill(1, 100, fee=5, fee_asset="XYZ") == {"XYZ": -5}
    here.price("XYZ/USDT", 1)
    assert here.realised == 0


def test_contract_size() -> None:
    """A linear contract has size 1 until one is reported, for its venue only."""
    here = World()
    here.fill(2, 100)
    here.fill(2, 100, venue="mexc")
    here.price(LINEAR, 110)
    assert here.value().unrealised == 20.0
    here.wait(10)
    here.report(2, 100, size=10)
    assert here.value() == Value(200.0, 2_200.0, 20.0)
    assert here.value(venue="mexc").unrealised == 20.0
    here.report(2, 100)
    assert here.value().unrealised == 200.0
    assert here.realised == 0


def test_what_an_inverse_contract_realised_waits_for_its_size() -> None:
    """Unknown until the contract size comes, and counted then: account and strategy."""
    here = World()
    here.price(SPOT, 10_000)
    here.fill(10, 10_000, INVERSE, strategy="mm")
    here.fill(-10, 8_000, INVERSE, strategy="mm", order_id="O")
    assert isinstance(here.value(INVERSE).unrealised, Unknown)
    missing = here.pnl_of("mm")
    assert isinstance(missing, Unknown)
    assert "contract_size" in missing.reason
    assert here.closes[0].pnl < 0
    assert here.closes[0].order == OrderKey("kraken", "O")
    here.wait(10)
    here.report(0, symbol=INVERSE, size=100)
    lost = 10 * 100 * (1 / 8_000 - 1 / 10_000)
    assert here.realised == near(-lost * 10_000)
    assert here.pnl_of("mm") == near(-lost * 10_000)
    assert here.moved == [{"BTC": near(-lost)}]
    assert [one.stamp for one in here.outcomes if one.amounts] == [Stamp(NOW, dated=False)]


def test_closes() -> None:
    """A close is what a strategy realised, less its fee, with the order that it is of."""
    here = World()
    here.price("BNB/USDT", 300)
    here.fill(2, 100, strategy="mm", order_id="1")
    here.fill(-1, 90, strategy="mm", order_id="2", fee=0.01, fee_asset="BNB")
    here.fill(-3, 120, strategy="mm")
    here.fill(1, 100)
    first, second = here.closes
    assert first == Close("mm", first.pnl, OrderKey("kraken", "2"))
    assert second == Close("mm", second.pnl, None)
    assert (first.pnl, second.pnl) == near((-13, 20))


def test_pnl_events() -> None:
    """P&L realised elsewhere: the account's at no venue, the strategy's, and a close."""
    here = World()
    here.positions.on_pnl("mm", -5.0)
    here.positions.on_pnl("", 2.0)
    here.settle()
    assert here.realised == -3
    assert here.positions.realised.at("")["USDT"].value == -3
    assert here.pnl_of("mm") == -5
    assert here.closes == [Close("mm", -5.0, None)]


# -- what positions are worth ---------------------------------------------------------------------


def test_the_value_of_a_position() -> None:
    """P&L at settle, notional at the mark, base quantity; by a feed at another venue (story 2)."""
    here = World()
    here.price("BTC/EUR:EUR", 100, "binance")
    here.price("EUR/USDT", 1.2)
    here.fill(-3, 90, "BTC/EUR:EUR")
    assert here.value("BTC/EUR:EUR") == near(Value(-36, -360, -3))
    here.price("BTC/EUR:EUR", 80, "binance")
    here.price("EUR/USDT", 1.5)
    assert here.value("BTC/EUR:EUR") == near(Value(45, -360, -3))
    assert here.marking.unrealised.value == near(45)


def test_an_old_mark_is_unknown_and_dust_keeps_it() -> None:
    """An expired mark: its age and the cure are said; less than dust keeps its last value."""
    here = World()
    here.price(LINEAR, 100)
    here.fill(1, 90)
    here.fill(0.001, 90, SPOT)
    here.price(SPOT, 100)
    here.wait(301)
    value = here.value()
    assert isinstance(value.unrealised, Unknown)
    assert value.unrealised.text(here.now_ns) == (
        "BTC/USDT:USDT's last price is 301 s old; max_age.price is 300: report its price"
    )
    assert value.notional == value.unrealised
    assert value.base == 1
    assert here.value(SPOT) == near(Value(0.01, 0.1, 0.001))
    here.price(LINEAR, 80)
    assert here.value() == Value(-10, 80, 1)


def test_a_strategy_without_a_price() -> None:
    """Its P&L is unknown, and the reason names what is missing."""
    here = World()
    here.fill(1, 100, "X/EUR:EUR", strategy="mm")
    here.fill(1, 100, strategy="arb")
    missing = here.pnl_of("mm")
    assert isinstance(missing, Unknown)
    assert missing.reason.startswith("EUR has no price")
    assert here.pnl_of("arb") == 0
    assert here.pnl_of("none") == 0


def test_the_pass_names_what_changed() -> None:
    """A price changes the positions in its symbol and their strategies, and no others."""
    here = World()
    here.fill(1, 100, strategy="mm")
    here.fill(1, 100, SPOT, strategy="arb")
    here.prices.on_price(LINEAR, "", 120.0, here.now_ns)
    here.marking.on_price(LINEAR)
    revalued = here.settle()
    assert {(key.symbol, key.strategy) for key in revalued.keys} == {(LINEAR, ""), (LINEAR, "mm")}
    assert revalued.strategies == ["mm"]
    assert here.settle() == ([], [])


# -- legs -----------------------------------------------------------------------------------------


def test_legs_stand_side_by_side() -> None:
    """Long and short of one symbol; a strategy's too (story 27)."""
    here = World()
    here.fill(2, 100, leg="long", strategy="mm")
    here.fill(-3, 110, leg="short", strategy="mm")
    assert here.held(leg="long") == here.held(leg="long", strategy="mm") == (2, 100)
    assert here.held(leg="short") == here.held(leg="short", strategy="mm") == (-3, 110)
    assert here.positions.held("kraken", LINEAR) == -1
    assert here.positions.held("kraken", LINEAR, "short") == -3
    here.fill(1, 105, leg="short")
    assert here.held(leg="short") == (-2, 110)
    assert here.realised == 5


def test_a_fill_without_a_leg() -> None:
    """Where legs are known it reduces the opposite leg first; then the own one grows."""
    here = World()
    here.fill(2, 100, leg="long")
    here.fill(-3, 110, leg="short")
    here.fill(4, 105)
    assert here.held(leg="short") == (0, 0)
    assert here.held(leg="long") == near((3, (2 * 100 + 105) / 3))
    assert here.realised == 15


def test_a_position_becomes_the_leg_of_its_side() -> None:
    """What was known without legs is the leg of its side once one is named."""
    here = World()
    here.fill(-2, 100, strategy="mm")
    here.fill(1, 110, leg="long")
    assert here.held(leg="short") == here.held(leg="short", strategy="mm") == (-2, 100)
    assert here.held(leg="long") == (1, 110)
    assert here.marking.unrealised.value == near(-20)
    assert here.pnl_of("mm") == near(-20)
    here.restore()
    assert here.positions.held("kraken", LINEAR) == -1
    assert here.marking.unrealised.value == near(-20)


def test_what_the_open_contracts_of_a_venue_settle_in() -> None:
    """The account's own contracts, until they are closed; not spot, and not other venues'."""
    here = World()
    here.fill(1, 100, SPOT)
    here.fill(1, 100, INVERSE, leg="long")
    here.fill(1, 100, venue="mexc")
    assert here.positions.settle_assets("kraken") == ["BTC"]
    here.fill(1, 100, strategy="mm")
    assert here.positions.settle_assets("kraken") == ["BTC", "USDT"]
    here.restore()
    assert sorted(here.positions.settle_assets("kraken")) == ["BTC", "USDT"]
    here.fill(-1, 100, INVERSE, leg="long")
    here.fill(-1, 100, strategy="mm")
    assert here.positions.settle_assets("kraken") == []


# -- long runs ------------------------------------------------------------------------------------


def test_a_long_run_stays_exact() -> None:
    """30,000 fills with fees: P&L and quantity equal the sums in whole cents."""
    here = World()
    cash = held = 0
    for number in range(30_000):
        lots = (number * 7919) % 19 - 9 or 1
        cents = 10_000 + (number * 104_729) % 997
        cash -= lots * cents
        held += lots
        here.fill(lots / 10, cents / 100, fee=0.01, settle=False)
        here.now_ns += SECOND // 10
    here.price(LINEAR, 100)
    assert here.position().quantity == held / 10
    assert here.pnl == near((cash + held * 10_000) / 1_000 - 300, abs=1e-9)
    assert len(here.position().ledger_state().effects) < 10_000
