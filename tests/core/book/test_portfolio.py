"""The portfolio: equity, unit value and P&L of an account, event by event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.decisions import Notice
from tests.core import (
    NO_VENUES,
    SECOND,
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
LINEAR = "BTC/USDT:USDT"

# -- settled ----------------------------------------------------------------------------------


def test_balances_settle_at_once() -> None:
    """After `balances` equity is settled at once; the first value becomes the capital."""
    world = World()
    world.step(balances(USDT=1_000.0))
    view = world.portfolio
    assert (view.equity, view.initial_capital, view.unit_value) == (1_000.0, 1_000.0, 1.0)
    assert view.settled


def test_balance_settles_after_a_quiet_second() -> None:
    """After single `balance` events equity waits for 1 s without another."""
    world = World(loss_limit())
    world.step(balances(USDT=1_000.0))
    world.step(balance("USDT", 500.0))
    assert (world.portfolio.equity, world.portfolio.settled) == (1_000.0, False)
    world.wait(0.999)
    assert world.portfolio.equity == 1_000.0
    world.wait(0.001)
    assert world.portfolio.equity == 500.0
    assert world.state("portfolio_loss", "account") == "open"


def test_a_stream_of_balances_settles() -> None:
    """From 5 s after the first report on a pause of 0.05 s settles; without one, 6 s."""
    for every, seconds in ((0.1, 5.0), (0.04, 6.0)):
        world = World()
        world.step(balances(USDT=1_000.0))
        began_ns = world.now_ns
        while world.now_ns < began_ns + 7 * SECOND and world.portfolio.equity == 1_000.0:
            world.step(balance("USDT", 900.0))
            world.wait(every)
            due_s = (world.now_ns - began_ns) / SECOND
        assert seconds <= due_s <= seconds + every
        assert world.portfolio.equity == 900.0


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


def test_a_fill_is_in_the_balances_that_follow_it() -> None:
    """Both assets of a spot fill are known before their balances, which come one by one."""
    world = World(loss_limit())
    world.step(price("BTC/USDT", 100.0), balances(USDT=1_000.0))
    world.wait(31)
    world.step(fill("buy", 5.0, 100.0, "BTC/USDT"), balance("USDT", 500.0))
    world.wait(4)
    assert world.portfolio.equity == 1_000.0
    world.step(balance("BTC", 5.0))
    world.wait(5)
    assert (world.portfolio.equity, world.state("portfolio_loss", "account")) == (1_000.0, "closed")


def test_a_contract_fill_moves_no_balance() -> None:
    """A balance that falls by the notional of a contract that was bought is a loss of as much."""
    world = World(loss_limit())
    world.step(price(LINEAR, 100.0), balances(USDT=1_000.0))
    world.wait(31)
    world.step(fill("buy", 5.0, 100.0), balance("USDT", 500.0))
    world.wait(5.9)
    assert world.state("portfolio_loss", "account") == "closed"
    world.wait(0.1)  # 1 s, and 5 s for a fill or a flow that explains it
    assert world.portfolio.equity == 500.0
    assert world.state("portfolio_loss", "account") == "open"


def test_equity_is_unknown_until_each_venue_reported() -> None:
    """Equity is unknown until each venue in `venues` has reported."""
    world = World(portfolio=PortfolioConfig(venues=("a", "b")))
    world.step(balances("a", USDT=1_000.0))
    assert world.portfolio.equity is None
    world.step(balances("b", USDT=500.0))
    assert world.portfolio.initial_capital == 1_500.0


def test_without_venues_any_first_balance_waits() -> None:
    """Without `venues`, also an account in the reference alone is known after the grace."""
    world = World(portfolio=NO_VENUES)
    world.step(balances(USDT=100.0))
    world.wait(29.9)
    assert world.portfolio.equity is None
    world.wait(0.1)
    assert world.portfolio.initial_capital == 100.0


def test_with_a_capital_the_newest_venue_counts() -> None:
    """With `initial_capital`, equity is known 30 s after the newest venue's first balance."""
    world = World(loss_limit(), portfolio=CAPITAL)
    world.step(balances("a", USDT=5_000.0))
    world.wait(20)
    world.step(balances("b", USDT=4_900.0))
    world.wait(29.9)
    assert world.portfolio.equity is None
    world.wait(0.1)
    assert world.portfolio.equity == 9_900.0
    assert world.loss == pytest.approx(0.01)
    assert world.breaker("portfolio_loss", "account").trips_total == 0


def test_without_venues_it_is_known_after_the_grace() -> None:
    """Without `venues`, others have `unknown_grace` from the first balance on to report."""
    world = World(portfolio=NO_VENUES)
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
    """A flow is pending until a balance contains it: neither loss nor drawdown moves."""
    world = World(loss_limit())
    world.each([balances(USDT=1_000.0), balances(USDT=960.0)])
    world.wait(1)
    world.step(flow(amount))
    assert world.portfolio.equity == 960.0
    assert world.portfolio.unit_value == pytest.approx(0.96)
    world.step(balances(USDT=960.0 + amount))
    assert world.portfolio.equity == 960.0 + amount
    assert world.portfolio.unit_value == pytest.approx(0.96)
    assert world.portfolio.drawdown_ratio == pytest.approx(0.04)
    assert world.state("portfolio_loss", "account") == "closed"


def test_two_flows_in_one_report() -> None:
    """One report contains two deposits and a withdrawal, also of an asset not held before."""
    world = World(loss_limit())
    world.step(price("BTC/USDT", 100.0), balances(USDT=1_000.0))
    world.wait(31)
    world.step(flow(1.0, "BTC", id="1"), flow(2.0, "BTC", id="2"), flow(-100.0))
    assert world.portfolio.equity == 1_000.0
    world.step(balances(USDT=900.0, BTC=3.0))
    assert world.portfolio.equity == 1_200.0
    assert world.portfolio.unit_value == pytest.approx(1.0)


def test_a_flow_that_empties_and_one_that_funds() -> None:
    """While nothing is left the unit value stands still; the next deposit is no profit."""
    world = World(loss_limit())
    world.step(balances(USDT=1_000.0))
    world.wait(10)
    world.step(flow(-1_000.0))
    world.step(balances(USDT=0.0))
    assert world.portfolio.equity == 0.0
    assert world.portfolio.unit_value == pytest.approx(1.0)
    world.wait(1)
    world.step(flow(500.0))
    world.step(balances(USDT=500.0))
    assert world.portfolio.equity == 500.0
    assert world.portfolio.unit_value == pytest.approx(1.0)
    world.step(balances(USDT=250.0))
    assert world.loss == pytest.approx(0.5)


def test_a_flow_that_is_told_after_its_balance() -> None:
    """The balance is a loss until the flow is told, by its `at`; then the loss is none."""
    world = World(loss_limit(max=0.2))
    world.step(price("BTC/USDT", 100.0), balances(USDT=1_000.0, BTC=1.0))
    world.wait(10)
    world.step(balance("BTC", 0.0))
    world.wait(1)
    assert world.loss == pytest.approx(1 / 11)
    now = datetime.fromtimestamp(world.view.at_ns / 1e9, UTC)
    world.step(flow(-1.0, "BTC", at=now - timedelta(seconds=5)))
    assert world.portfolio.equity == 1_000.0
    assert world.portfolio.unit_value == pytest.approx(1.0)
    assert world.portfolio.drawdown_ratio == pytest.approx(0.0)


def test_a_late_venue_enters_as_a_flow() -> None:
    """Neither a venue that reports later nor an earlier deposit to it changes a ratio."""
    world = World(loss_limit(), portfolio=PortfolioConfig(venues=("a",)))
    world.each([balances("a", USDT=1_000.0), balances("a", USDT=960.0)])
    world.step(flow(5_000.0, venue="b"))
    assert world.portfolio.unit_value == pytest.approx(0.96)
    world.step(balances("b", USDT=5_000.0))
    assert world.portfolio.equity == 5_960.0
    assert world.portfolio.unit_value == pytest.approx(0.96)


def test_an_unpriced_asset_is_left_out_after_the_grace() -> None:
    """Unknown for `unknown_grace`, then left out; it enters as a flow when it has a price."""
    world = World(loss_limit(written=True))
    world.step(balances(USDT=1_000.0))
    world.step(balances(USDT=1_000.0, XYZ=10.0))
    world.wait(29.9)
    assert (world.portfolio.equity, world.portfolio.unpriced) == (None, ["XYZ"])
    world.wait(1)
    assert (world.portfolio.equity, world.level()) == (1_000.0, "allow")
    told = [d.text for d in world.decisions if isinstance(d, Notice)]
    assert told == [
        "10 XYZ are left out of equity: XYZ has no price; report a price of XYZ/USDT, or set "
        "portfolio.pegs or portfolio.ignore"
    ]
    world.step(price("XYZ/USDT", 7.0))
    assert world.portfolio.equity == 1_070.0
    assert world.portfolio.unit_value == pytest.approx(1.0)


def test_what_is_held_first_must_have_a_price() -> None:
    """An asset without a price in the first balances is not left out: equity stays unknown."""
    world = World(loss_limit(written=True))
    world.step(balances(USDT=1_000.0, XYZ=10.0))
    world.wait(100)
    assert (world.portfolio.equity, world.level()) == (None, "halt")
    world.step(price("XYZ/USDT", 7.0))
    assert (world.portfolio.initial_capital, world.level()) == (1_070.0, "allow")


def test_a_fill_is_a_mark_while_an_asset_is_left_out() -> None:
    """Without a price, a fill is the mark in its step although another asset has no price."""
    world = World(limit("inventory", max=500.0))
    world.step(price("XRP/BTC", 0.5), balances(USDT=1_000.0, SOL=4.0))
    world.wait(31)
    world.each(fill("sell", 1.0, each) for each in (100.0, 80.0))
    assert world.breaker("inventory", f"symbol:{LINEAR}").value == 160.0


def test_a_fill_is_no_mark_beside_a_fresh_price() -> None:
    """A fill 20 % below the price does not move the notional."""
    world = World(limit("inventory", max=500.0))
    world.step(price(LINEAR, 100.0), balances(USDT=1_000.0))
    world.each(fill("sell", 1.0, each) for each in (100.0, 80.0))
    assert world.breaker("inventory", f"symbol:{LINEAR}").value == 200.0


def test_a_fill_is_the_mark_when_the_price_beside_it_expires() -> None:
    """A price of 300 s ago is replaced by the fill of 200 s later, of a contract and of spot."""
    world = World(limit("inventory", max=500.0))
    world.step(price(LINEAR, 100.0), price("BTC/USDT", 100.0), balances(USDT=1_000.0, BTC=2.0))
    world.wait(200)
    world.step(
        fill("sell", 1.0, 80.0), fill("buy", 1.0, 80.0, "BTC/USDT"), balances(USDT=920.0, BTC=3.0)
    )
    assert world.breaker("inventory", f"symbol:{LINEAR}").value == 100.0
    assert world.breaker("inventory", "symbol:BTC/USDT").value == 300.0
    world.wait(101)
    assert world.breaker("inventory", f"symbol:{LINEAR}").value == 80.0
    assert world.breaker("inventory", "symbol:BTC/USDT").value == 240.0


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


def test_a_peg_precedes_a_price_within_its_tolerance() -> None:
    """The peg holds, also where another asset is priced through it; beyond 2 % the price does."""
    world = World(portfolio=PortfolioConfig(venues=("kraken",), pegs={"USD": 0.5}))
    world.step(price("USD/USDT", 0.505), price("ABC/USD", 4.0))
    world.step(balances(USD=10.0, ABC=10.0))
    assert world.portfolio.equity == 25.0
    world.step(price("USD/USDT", 0.6))
    assert world.portfolio.equity == pytest.approx(30.0)
    told = [d.text for d in world.decisions if isinstance(d, Notice)]
    assert told == ["USD is not at its peg of 0.5: its price is 0.6 USDT"]


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
    assert world.portfolio.equity == 1_100.0  # 800, and two at 150
    assert world.portfolio.pnl_unrealized == 50.0
    (position,) = world.portfolio.positions
    assert (position.quantity, position.notional) == (2.0, 300.0)


def test_unrealised_included() -> None:
    """Unrealised P&L is not added where the venue's balance includes it."""
    config = PortfolioConfig(venues=("kraken",), unrealised_included=("kraken",))
    world = World(portfolio=config)
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
    """Equity is unknown until a price comes, and the deposit is neither loss nor profit then."""
    config = PortfolioConfig(initial_capital=10_000.0, venues=("kraken",))
    world = World(loss_limit(), portfolio=config)
    world.step(price("BTC/USDT", 50_000.0), balances(USDT=5_000.0, BTC=0.1))
    world.wait(301)
    world.step(flow(0.1, "BTC"))
    world.step(balances(USDT=5_000.0, BTC=0.2))
    assert world.portfolio.equity is None
    world.step(price("BTC/USDT", 50_000.0))
    assert world.portfolio.equity == pytest.approx(15_000.0)
    assert world.loss == pytest.approx(0.0)


def test_an_asset_that_a_late_venue_brings_without_a_price_is_no_profit() -> None:
    """It enters as a cash flow when its price comes, within the grace too."""
    config = PortfolioConfig(initial_capital=10_000.0, venues=("kraken",))
    world = World(loss_limit(), portfolio=config)
    world.step(balances("kraken", USDT=9_800.0))
    world.step(balances("mexc", SOL=10.0))
    assert world.portfolio.equity is None
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
    assert (second.quantity, second.mark) == (1.0, None)
    assert world.portfolio.equity is None  # the only price of ETH is an hour old
    assert world.breaker("error_streak").value == 1.0


def test_a_prices_age_counts_from_its_own_time() -> None:
    """The age of a price counts from its `at`, not from its arrival."""
    world = World(loss_limit(), portfolio=CAPITAL)
    world.step(ev.Price(symbol=LINEAR, price=99.0, venue="kraken", at=_ago(world, 8)))
    world.step(fill("buy", 1.0, 100.0, at=_ago(world, 8)))
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
