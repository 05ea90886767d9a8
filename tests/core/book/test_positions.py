"""Positions at average cost: fills, flips, positions that venues report, contracts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.instruments import instrument
from tests.core import World, fill, limit, price

LINEAR, INVERSE = "BTC/USDT:USDT", "BTC/USD:BTC"


def world() -> World:
    """A world without balances, so that equity is capital and P&L."""
    return World(portfolio=PortfolioConfig(initial_capital=10_000.0, pegs={"USD": 1.0}))


def stated(quantity: float, entry: float, symbol: str = LINEAR, **more: object) -> ev.Position:
    """A position as kraken states it."""
    return ev.Position(
        venue="kraken",
        symbol=symbol,
        quantity=quantity,
        entry_price=entry,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("symbol", "kind", "quote", "settle"),
    [
        ("BTC/USDT", "spot", "USDT", "USDT"),
        ("BTC/USDT:USDT", "linear", "USDT", "USDT"),
        ("BTC/USD:BTC", "inverse", "USD", "BTC"),
        ("BTC/USDT:USDT-261225", "linear", "USDT", "USDT"),
        ("ESZ6", "linear", "EUR", "EUR"),
    ],
)
def test_symbols(symbol: str, kind: str, quote: str, settle: str) -> None:
    """A symbol in ccxt's notation gives its kind, its quote currency and its settlement asset."""
    what = instrument(symbol, "EUR")
    assert (what.kind, what.quote, what.settle) == (kind, quote, settle)


@pytest.mark.parametrize(
    ("fills", "quantity", "entry", "realised"),
    [
        ([("buy", 1, 100), ("buy", 3, 200)], 4.0, 175.0, 0.0),
        ([("buy", 4, 100), ("sell", 1, 130)], 3.0, 100.0, 30.0),
        ([("sell", 4, 100), ("buy", 1, 130)], -3.0, 100.0, -30.0),
        ([("buy", 1, 100), ("sell", 3, 90)], -2.0, 90.0, -10.0),
        ([("buy", 1, 100), ("sell", 1, 90)], 0.0, 0.0, -10.0),
    ],
)
def test_average_cost(
    fills: list[tuple[str, int, int]], quantity: float, entry: float, realised: float
) -> None:
    """Fills of the same side average, opposite ones realise, and past zero the position flips."""
    here = world()
    here.step(*[fill(side, float(q), float(p)) for side, q, p in fills])
    (position,) = here.portfolio.positions
    assert (position.quantity, position.entry_price) == (quantity, entry)
    assert here.portfolio.pnl_realized == realised


def test_inverse_contracts() -> None:
    """Inverse: harmonic mean, P&L in the base asset, notional quantity × size."""
    here = world()
    here.step(price("BTC/USDT", 20_000.0), stated(0.0, 0.0, INVERSE, contract_size=100.0))
    here.step(fill("buy", 10.0, 10_000.0, INVERSE), fill("buy", 10.0, 20_000.0, INVERSE))
    (position,) = here.portfolio.positions
    assert position.entry_price == pytest.approx(20 / (10 / 10_000 + 10 / 20_000))
    assert position.unrealized == pytest.approx(2_000 * (0.000075 - 0.00005) * 20_000)
    assert position.notional == 2_000.0
    here.step(fill("sell", 20.0, 40_000.0, INVERSE))
    assert here.portfolio.pnl_realized == pytest.approx(2_000 * (0.000075 - 0.000025) * 20_000)


@pytest.mark.parametrize(("side", "back", "sign"), [("buy", "sell", 1), ("sell", "buy", -1)])
def test_an_inverse_position_flips(side: str, back: str, sign: int) -> None:
    """Past zero the rest is opened at the fill's price; what was closed realises in the base."""
    here = world()
    here.step(price("BTC/USDT", 10_000.0), stated(0.0, 0.0, INVERSE, contract_size=100.0))
    here.step(fill(side, 10.0, 8_000.0, INVERSE), fill(back, 15.0, 10_000.0, INVERSE))
    (position,) = here.portfolio.positions
    assert (position.quantity, position.entry_price) == (-5.0 * sign, 10_000.0)
    gained = sign * 10 * 100 * (1 / 8_000 - 1 / 10_000)
    assert here.portfolio.pnl_realized == pytest.approx(gained * 10_000)
    here.step(price(INVERSE, 12_500.0))
    (position,) = here.portfolio.positions
    held = -5.0 * sign * 100 * (1 / 10_000 - 1 / 12_500)
    assert position.unrealized == pytest.approx(held * 10_000)


def test_contract_size() -> None:
    """A linear contract has size 1 until one is reported; P&L and notional scale with it."""
    here = world()
    here.step(fill("buy", 2.0, 100.0), price(LINEAR, 110.0))
    assert here.portfolio.positions[0].unrealized == 20.0
    here.step(stated(2.0, 100.0, contract_size=10.0))
    assert here.portfolio.positions[0].unrealized == 200.0
    assert here.portfolio.positions[0].notional == 2_200.0


def test_a_contract_size_is_its_venues() -> None:
    """A contract size applies to its venue only, and stays after one report."""
    here = world()
    here.step(price(LINEAR, 110.0), stated(2.0, 100.0, contract_size=10.0))
    here.step(fill("buy", 2.0, 100.0, venue="mexc"), price(LINEAR, 110.0))
    assert {p.venue: p.unrealized for p in here.portfolio.positions} == {
        "kraken": 200.0,
        "mexc": 20.0,
    }
    here.step(stated(3.0, 100.0), price(LINEAR, 110.0))
    assert here.portfolio.positions[0].unrealized == 300.0


def test_an_inverse_contract_without_a_size_is_unknown() -> None:
    """A position without a value makes equity unknown, not zero."""
    here = world()
    here.step(price("BTC/USDT", 20_000.0), fill("buy", 10.0, 10_000.0, INVERSE))
    assert here.portfolio.equity is None
    here.step(stated(10.0, 10_000.0, INVERSE, contract_size=1.0))
    assert here.portfolio.equity == 10_000.0


@pytest.mark.parametrize("rest", [0.0, 4.0])
def test_what_an_inverse_contract_realised_waits_for_its_size(rest: float) -> None:
    """Not lost and not zero: unknown until the contract size comes, and counted then."""
    here, told = world(), world()
    told.step(stated(0.0, 0.0, INVERSE, contract_size=100.0))
    fills = [
        fill("buy", 10.0, 10_000.0, INVERSE, strategy="mm"),
        fill("sell", 10.0 - rest, 20_000.0, INVERSE, strategy="mm"),
    ]
    for one in (here, told):
        one.step(price("BTC/USDT", 20_000.0))
        one.each(fills)
    assert here.portfolio.equity is None
    here.step(stated(rest, 10_000.0, INVERSE, contract_size=100.0))
    assert told.portfolio.pnl_realized == pytest.approx((10.0 - rest) * 100.0)
    assert here.portfolio.pnl_realized == pytest.approx(told.portfolio.pnl_realized)
    assert here.portfolio.equity == pytest.approx(told.portfolio.equity)
    here.step(stated(rest, 10_000.0, INVERSE, contract_size=100.0))
    assert here.portfolio.equity == pytest.approx(told.portfolio.equity)


def test_the_book_of_a_strategy_waits_for_the_size_too() -> None:
    """Its loss is unknown, not 0, and then what it was."""
    scope = "strategy:mm"
    here = World(
        limit("loss", max=1e6, per="strategy", period="day"),
        portfolio=PortfolioConfig(pegs={"USD": 1.0}),
    )
    here.step(price("BTC/USDT", 10_000.0))
    here.step(fill("buy", 10.0, 10_000.0, INVERSE, strategy="mm"))
    here.step(fill("sell", 10.0, 8_000.0, INVERSE, strategy="mm"))
    assert here.breaker("loss", scope).value is None
    assert "contract_size" in (here.breaker("loss", scope).unknown or "")
    here.step(stated(0.0, 0.0, INVERSE, contract_size=100.0))
    lost = 10.0 * 100.0 * (1 / 8_000 - 1 / 10_000) * 10_000
    assert here.breaker("loss", scope).value == pytest.approx(lost)


def test_balances_hold_what_was_realised_whatever_its_size() -> None:
    """Closed, and the venue reports its balance: equity is known without a contract size."""
    here = world()
    here.step(price("BTC/USDT", 20_000.0), fill("buy", 10.0, 10_000.0, INVERSE))
    here.step(fill("sell", 10.0, 20_000.0, INVERSE))
    here.step(ev.Balances(venue="kraken", assets={"USDT": ev.AssetBalance(free=10_000.0)}))
    assert here.portfolio.equity == 10_000.0


def test_a_losing_close_counts_before_its_size_is_known() -> None:
    """The sign of the close is known before its amount; a fee does not turn a gain into a loss."""
    here = World(limit("loss_streak", max=2))
    for number, at in enumerate((9_000.0, 11_000.0, 9_000.0)):
        here.step(fill("buy", 1.0, 10_000.0, INVERSE, id=f"b{number}", strategy="mm"))
        more = {"id": f"s{number}", "strategy": "mm", "fee": 1e-3}
        here.step(fill("sell", 1.0, at, INVERSE, **more))
    assert here.breaker("loss_streak", "strategy:mm").value == 1.0


def test_a_reported_position_replaces_fills() -> None:
    """A reported position replaces the sum of the fills; earlier fills do not change it."""
    here = world()
    here.step(fill("buy", 2.0, 100.0))
    here.wait(60)
    here.step(stated(5.0, 120.0))
    now = datetime.fromtimestamp(here.view.at_ns // 10**9, UTC)
    here.step(fill("buy", 2.0, 100.0, id="old", at=now - timedelta(seconds=10)))
    (position,) = here.portfolio.positions
    assert (position.quantity, position.entry_price) == (5.0, 120.0)
    here.step(fill("buy", 1.0, 180.0, id="new", at=now + timedelta(seconds=1)))
    (position,) = here.portfolio.positions
    assert (position.quantity, position.entry_price) == (6.0, 130.0)


def test_a_strategys_book_is_of_fills_alone() -> None:
    """A reported position replaces the account's; a strategy's position is the sum of its fills."""
    here = World(
        limit("daily_loss", max=1e6, per="strategy"),
        portfolio=PortfolioConfig(initial_capital=10_000.0),
    )
    here.step(fill("buy", 2.0, 100.0, strategy="mm"))
    here.wait(60)
    here.step(stated(50.0, 500.0))
    now = datetime.fromtimestamp(here.view.at_ns // 10**9, UTC)
    here.step(fill("buy", 1.0, 100.0, id="old", at=now - timedelta(seconds=9), strategy="mm"))
    here.step(price(LINEAR, 90.0))
    assert here.portfolio.positions[0].quantity == 50.0
    assert here.breaker("daily_loss", "strategy:mm").value == 30.0


@pytest.mark.parametrize("symbol", [LINEAR, INVERSE])
@pytest.mark.parametrize("side", ["buy", "sell"])
def test_a_position_without_an_entry(symbol: str, side: str) -> None:
    """An entry of 0 is unknown: fills neither divide by it nor make a profit of it."""
    here = world()
    here.step(price("BTC/USDT", 100.0), price(LINEAR, 100.0))
    here.step(stated(5.0, 0.0, symbol, contract_size=1.0), fill(side, 1.0, 100.0, symbol))
    assert here.portfolio.pnl_realized == 0.0
    assert here.portfolio.equity is None
    here.step(fill("sell", 6.0 if side == "buy" else 4.0, 100.0, symbol, id="all"))
    assert here.portfolio.equity == 10_000.0


def test_decimal_quantities_end_at_zero() -> None:
    """0.1 + 0.2 − 0.3 is flat."""
    here = world()
    here.step(fill("buy", 0.1, 9.0), fill("buy", 0.2, 9.0), fill("sell", 0.3, 9.0))
    assert here.portfolio.positions[0].quantity == 0.0


def test_fees_lower_realised_pnl_in_their_asset() -> None:
    """A fee counts at the price of the asset it was paid in; a rebate raises."""
    here = world()
    here.step(price("BNB/USDT", 300.0))
    here.step(fill("buy", 1.0, 100.0, fee=0.01, fee_asset="BNB"))
    assert here.portfolio.pnl_realized == pytest.approx(-3.0)
    here.step(fill("buy", 1.0, 100.0, fee=-1.0, id="rebate"))
    assert here.portfolio.pnl_realized == pytest.approx(-2.0)
    here.step(price("BNB/USDT", 400.0))
    assert here.portfolio.pnl_realized == pytest.approx(-3.0)


def test_a_fee_without_an_asset_is_in_what_it_is_settled_in() -> None:
    """The quote currency of a linear contract, the base of an inverse one."""
    here = world()
    here.step(price("BTC/USDT", 200.0), stated(0.0, 0.0, INVERSE, contract_size=1.0))
    here.step(fill("buy", 1.0, 200.0, INVERSE, fee=0.01))
    assert here.portfolio.pnl_realized == pytest.approx(-2.0)
    here.step(fill("buy", 1.0, 200.0, fee=0.5))
    assert here.portfolio.pnl_realized == pytest.approx(-2.5)


def test_the_mark_is_the_venues_last() -> None:
    """The venue's last price or fill; else any venue's; a price without a venue is for all."""
    here = world()
    here.step(fill("buy", 1.0, 100.0), price(LINEAR, 150.0, "mexc"))
    assert here.portfolio.positions[0].mark == 100.0
    here.step(fill("buy", 1.0, 100.0, venue="okx"), price(LINEAR, 160.0, "okx"))
    here.step(price(LINEAR, 170.0, "kraken"))
    assert {p.venue: p.mark for p in here.portfolio.positions} == {"kraken": 170.0, "okx": 160.0}
    here.step(price(LINEAR, 180.0))
    assert {p.mark for p in here.portfolio.positions} == {180.0}
