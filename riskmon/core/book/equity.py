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

from collections.abc import Iterable

from msgspec import Struct, field

from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.money import Fixed
from riskmon.core.unknown import Unknown


class EquityState(Struct):
    """The capital, the units, and the last known equity."""

    capital: float | None = None
    configured_capital: float | None = None
    units: float | None = None
    unit_value: float = 1.0  # of the last known equity
    equity: float | None = None  # the last known one; of an account without capital its P&L
    entered: Fixed = field(default_factory=Fixed)  # net flows, at their value when they entered
    in_capital: float = 0.0  # P&L that a rebase made part of the capital
    reported: bool = False  # a venue reported a balance
    known: bool = False  # the first equity was known
    founders: dict[str, bool] = field(default_factory=dict)  # venues in the first equity


class Equity:
    """The equity of the account, as of the last pass."""

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
            if state.equity is not None and not state.reported:  # it is counted from the capital
                state.entered.add(configured - state.capital)
        state.capital = state.configured_capital = configured

    # -- queries ----------------------------------------------------------------------------------

    @property
    def dust(self) -> float:
        """The value below which a holding is no open position and keeps its last price."""
        return self._config.dust_of(self.state.equity or 0.0)

    @property
    def last(self) -> float:
        """The last known equity; 0 before the first."""
        return self.state.equity or 0.0

    @property
    def unit_value(self) -> float:
        """The unit value of the last known equity."""
        return self.state.unit_value

    # -- the pass ---------------------------------------------------------------------------------

    def fault(self, equity: float) -> Unknown | None:
        """Return why an equity cannot be the first one."""
        if self.state.units is not None or equity > 0:
            return None
        return Unknown(
            f"equity is {equity:.12g}, which cannot be the capital that losses are measured by: "
            "set portfolio.initial_capital"
        )

    def begin(self, equity: float, founders: Iterable[str]) -> None:
        """Set the first equity; it becomes the capital if none is configured."""
        state = self.state
        if state.units is None:
            state.units = state.capital = equity
        if state.equity is not None:  # it was P&L alone: the difference is no P&L
            state.entered.add(equity - state.equity)
        state.known = True
        state.founders = dict.fromkeys(founders, True)

    def take(self, equity: float, dust: float, *, empty: bool) -> None:
        """Set the present equity. The unit value of an ``empty`` account does not change."""
        state = self.state
        self.value = self.observed = state.equity = equity
        if state.units:
            state.unit_value = (max(equity, dust) if empty else equity) / state.units

    def take_pnl(self, pnl: float, why: Unknown) -> None:
        """Set the P&L of an account without balances and without capital."""
        self.value, self.observed = why, pnl
        self.state.equity = pnl

    def take_unknown(self, why: Unknown) -> None:
        """Record why equity is unknown."""
        self.value = self.observed = why

    # -- flows ------------------------------------------------------------------------------------

    def enter(self, value: float, equity_before: float) -> None:
        """Apply a flow of this value to the units, at the unit value before it."""
        least = max(self.dust, 1e-9)
        self.grow(max(equity_before + value, least) / max(equity_before, least), value)

    def grow(self, factor: float, value: float) -> None:
        """Apply a flow to the units."""
        state = self.state
        state.entered.add(value)
        if state.units is not None:
            state.units *= factor
            state.unit_value /= factor

    def raise_capital(self, venue: str, value: float) -> None:
        """Add what a venue reported for the first time to the capital, if it is a founder."""
        state = self.state
        if state.capital is not None and state.configured_capital is None:
            state.capital += value if venue in state.founders else 0.0

    def rebase(self) -> bool:
        """Make the present equity the capital; return False if it cannot be one."""
        state, equity = self.state, self.value
        if isinstance(equity, Unknown) or equity <= 0:
            return False
        state.in_capital += equity - (state.capital or 0.0)
        state.capital = state.units = equity
        state.unit_value = 1.0
        return True
