"""Capital and units, and what enters."""

from __future__ import annotations

from math import isclose

import pytest

from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.equity import Equity, EquityState
from riskmon.core.unknown import Unknown

CONFIG = PortfolioConfig()


def begun(equity: float = 1_000.0, **config: float) -> Equity:
    """An account whose first equity is known."""
    account = Equity(EquityState(), PortfolioConfig(**config))  # type: ignore[arg-type]  # numbers
    account.begin(equity, ["kraken"])
    account.take(equity, 1.0, empty=False)
    return account


def test_the_first_equity_is_the_capital() -> None:
    """Units begin as the capital, so that the unit value is 1; before it, equity is unknown."""
    account = Equity(EquityState(), CONFIG)
    assert account.value == Unknown("nothing was reported yet")
    account.begin(800.0, ["kraken"])
    account.take(800.0, 1.0, empty=False)
    assert (account.last, account.state.capital, account.unit_value) == (800.0, 800.0, 1.0)
    account.take(760.0, 1.0, empty=False)
    assert (account.unit_value, account.state.capital) == (0.95, 800.0)


def test_a_configured_capital_is_what_losses_are_measured_by() -> None:
    """The first equity of 9,500 of 10,000 is a loss of 5 %."""
    account = begun(9_500.0, initial_capital=10_000.0)
    assert (account.state.capital, account.unit_value) == (10_000.0, 0.95)


def test_another_configured_capital_scales_the_units() -> None:
    """The unit value stays; the same number again, after it grew, changes nothing."""
    account = begun(9_500.0, initial_capital=10_000.0)
    account.enter(500.0, 9_500.0)
    doubled = Equity(account.state, PortfolioConfig(initial_capital=20_000.0))
    assert doubled.state.units == pytest.approx(2 * 10_000.0 * 10_000.0 / 9_500.0)
    assert doubled.state.capital == 20_000.0
    units = doubled.state.units
    assert Equity(doubled.state, PortfolioConfig(initial_capital=20_000.0)).state.units == units


@pytest.mark.parametrize("equity", [0.0, -5.0])
def test_nothing_is_no_capital(equity: float) -> None:
    """The reason names the cure; with a configured capital an empty account is one."""
    fault = Equity(EquityState(), CONFIG).fault(equity)
    assert "portfolio.initial_capital" in str(fault)
    assert Equity(EquityState(), PortfolioConfig(initial_capital=9.0)).fault(equity) is None
    assert Equity(EquityState(), CONFIG).fault(1.0) is None


@pytest.mark.parametrize("value", [500.0, -400.0])
def test_what_enters_moves_units_alone(value: float) -> None:
    """The unit value stays what it was at the equity before it."""
    account = begun()
    account.take(900.0, 1.0, empty=False)
    account.enter(value, 900.0)
    account.take(900.0 + value, 1.0, empty=False)
    assert isclose(account.unit_value, 0.9)
    assert account.state.entered.value == value


def test_the_unit_value_of_an_empty_account_stands_still() -> None:
    """A withdrawal of all leaves units of dust, and the next deposit is no profit."""
    account = begun()
    account.take(900.0, 1.0, empty=False)
    account.enter(-900.0, 900.0)
    account.take(0.0, 1.0, empty=True)
    assert isclose(account.unit_value, 0.9)
    account.enter(600.0, 0.0)
    account.take(600.0, 1.0, empty=False)
    assert account.unit_value == pytest.approx(0.9)


def test_a_founder_raises_the_capital() -> None:
    """Not another venue, and not a capital that is configured."""
    account = begun()
    account.raise_capital("mexc", 50.0)
    assert account.state.capital == 1_000.0
    account.raise_capital("kraken", 50.0)
    assert account.state.capital == 1_050.0
    configured = begun(initial_capital=900.0)
    configured.raise_capital("kraken", 50.0)
    assert configured.state.capital == 900.0


def test_a_rebase_needs_a_known_equity_above_zero() -> None:
    """Then equity is the capital, and the unit value 1; what was lost is part of the capital."""
    account = begun()
    account.take(900.0, 1.0, empty=False)
    assert account.rebase()
    state = account.state
    assert (state.capital, state.units, state.unit_value) == (900, 900, 1.0)
    assert state.in_capital == -100.0
    account.take(0.0, 1.0, empty=False)
    assert not account.rebase()
    account.take_unknown(Unknown("BTC has no price"))
    assert not account.rebase()
    assert state.capital == 900.0


def test_pnl_alone_is_observed_while_there_is_no_capital() -> None:
    """Equity stays unknown; the first one does not count the P&L before it as a flow's profit."""
    account, why = Equity(EquityState(), CONFIG), Unknown("no balance was reported")
    account.take_pnl(-40.0, why)
    assert (account.value, account.observed, account.last) == (why, -40.0, -40.0)
    account.begin(500.0, ["kraken"])
    account.take(500.0, 1.0, empty=False)
    assert account.state.entered.value == 540.0


def test_dust() -> None:
    """1 of a dollar, 0.01 % of equity of another reference, or what is configured."""
    assert begun().dust == 1.0
    account = Equity(EquityState(), PortfolioConfig(reference="BTC"))
    account.begin(20_000.0, [])
    account.take(20_000.0, 1.0, empty=False)
    assert account.dust == pytest.approx(2.0)
    assert begun(dust=7.0).dust == 7.0
