"""Equity, capital and units of the account, and what enters as a flow.

Unit value = equity / units. Units begin as the capital, so the first unit value is 1; a flow of
value f adds f / (unit value before it), so that deposits and withdrawals move no ratio:

* portfolio loss = 1 - unit value;
* drawdown = 1 - unit value / its peak;
* P&L of a period = equity - last known equity before its start - net flows.

While an account without any balance has no capital, only its P&L is known: losses in the reference
are measured from it, ratios are unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct, field

from riskmon.core.newbook.config import PortfolioConfig
from riskmon.core.newbook.money import Fixed
from riskmon.core.unknown import Unknown


class EquityState(Struct):
    """The capital, the units, and the last known equity."""

    capital: float | None = None
    configured_capital: float | None = None
    capital_ns: int = 0  # engine time of the first equity, or of the last rebase
    units: float | None = None  # 0: the account is empty, and the unit value stands still
    unit_value: float = 1.0  # of the last known equity
    equity: float | None = None  # the last known one
    entered: Fixed = field(default_factory=Fixed)  # net flows, at their value when they entered
    in_capital: Fixed = field(default_factory=Fixed)  # P&L that a rebase made part of the capital
    known: bool = False  # the first equity was known
    founders: dict[str, bool] = field(default_factory=dict)  # venues in the first equity
    pnl: Fixed = field(default_factory=Fixed)  # realised elsewhere, of an account without balances


class Entering(NamedTuple):
    """Value that enters as a flow at a venue; ``raises``: it is part of the capital."""

    venue: str
    value: float
    raises: bool = False


class Change(NamedTuple):
    """What no effect explains of a venue's settled report, and equity just before it."""

    venue: str
    equity_before: float
    value: float  # of all assets that have a price


class Equity:
    """The equity of the account, as of the last :meth:`assess`."""

    def __init__(self, state: EquityState, config: PortfolioConfig) -> None:
        self.state = state
        self._config = config
        self.value: float | Unknown = Unknown("nothing was reported yet")
        # What the history observes: equity, or P&L alone while there is no capital.
        self.observed: float | Unknown = self.value
        self._take_capital()

    def _take_capital(self) -> None:
        state, configured = self.state, self._config.initial_capital
        if configured is None or configured == state.configured_capital:
            return
        if state.units is None or state.capital is None:
            state.units = configured
        else:
            state.units *= configured / state.capital
        state.capital = state.configured_capital = configured

    # -- queries ----------------------------------------------------------------------------------

    @property
    def dust(self) -> float:
        """The value below which a holding is no open position and keeps its last price."""
        return self._config.dust_of(self.state.equity or 0.0)

    @property
    def unit_value(self) -> float:
        """The unit value of the last known equity."""
        return self.state.unit_value

    # -- the pass ---------------------------------------------------------------------------------

    def begin(self, equity: float | Unknown, founders: Sequence[str], now_ns: int) -> None:
        """Take the first known equity: it is the capital, where none is configured."""
        state = self.state
        self.value = self.observed = equity
        if isinstance(equity, Unknown):
            return
        if state.units is None:
            if equity <= 0:
                self.value = self.observed = Unknown(
                    f"equity is {equity:g}, which cannot be the capital that losses are measured "
                    "by: set portfolio.initial_capital"
                )
                return
            state.units = state.capital = equity
        if state.equity is not None:  # measured by its P&L until now: the difference is none
            state.entered.add(equity - state.equity)
        state.known, state.capital_ns = True, now_ns
        state.founders = dict.fromkeys(founders, True)
        self._take(equity)

    def observe_pnl(self, pnl: float | Unknown, why: Unknown) -> None:
        """Take the P&L of an account without balances and without capital."""
        self.value, self.observed = why, pnl
        if not isinstance(pnl, Unknown):
            self.state.equity = pnl

    def unknown(self, why: Unknown) -> None:
        """Take that equity is unknown now."""
        self.value = self.observed = why

    def assess(self, equity: float) -> None:
        """Take the equity of now, after all that entered."""
        self.value = self.observed = equity
        self._take(equity)

    def _take(self, equity: float) -> None:
        state = self.state
        state.equity = equity
        if state.units:
            state.unit_value = equity / state.units

    # -- flows ------------------------------------------------------------------------------------

    def enter(self, entering: Sequence[Entering], equity_before: float) -> None:
        """Add units for what enters; ``equity_before``: at the prices of now, without it."""
        for one in entering:
            self.grow(self.factor(equity_before, one.value), one.value)
            equity_before += one.value
            if one.raises and self.state.capital is not None:
                self.state.capital += one.value

    def factor(self, equity_before: float, value: float) -> float | None:
        """By what units grow with a flow; None where there is no equity that it could be of."""
        state = self.state
        if not state.units or equity_before <= self.dust:
            return None
        after = equity_before + value
        return 0.0 if value < 0 and after < self.dust else after / equity_before

    def grow(self, factor: float | None, value: float) -> None:
        """Apply a flow to the units; without a factor at the unit value that stands."""
        state = self.state
        state.entered.add(value)
        if state.units is None:
            return
        if factor is not None:
            state.units *= factor
        elif value > 0:
            state.units += value / max(state.unit_value, 1e-12)

    def correct(self, factor: float, value: float) -> None:
        """Apply a flow that was told after the change that contains it was judged."""
        state = self.state
        state.entered.add(value)
        if state.units is not None:
            state.units *= factor

    def rebase(self, now_ns: int) -> bool:
        """Make the equity of now the capital; return whether it is known."""
        state, equity = self.state, self.value
        if isinstance(equity, Unknown) or equity <= 0:
            return False
        state.in_capital.add(equity - (state.capital or 0.0))
        state.capital = state.units = equity
        state.unit_value, state.capital_ns = 1.0, now_ns
        return True


def value_of(amounts: Mapping[str, float], rates: Mapping[str, float]) -> float:
    """Return the value of the amounts of assets that have a price."""
    return sum(amount * rates[asset] for asset, amount in amounts.items() if asset in rates)
