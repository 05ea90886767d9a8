"""The facts of the book: what a snapshot stores. All else is derived from them."""

from __future__ import annotations

from msgspec import Struct, field

from riskmon.core.book.equity import EquityState
from riskmon.core.book.flows import FlowsState
from riskmon.core.book.history import HistoryState
from riskmon.core.book.holdings import HoldingsState
from riskmon.core.book.money import Fixed
from riskmon.core.book.notices import Differences
from riskmon.core.book.periods import PeriodsState
from riskmon.core.book.positions import PositionsState
from riskmon.core.book.prices import PriceState


class Unvalued(Struct):
    """A reported position whose P&L enters as a flow once it is known."""

    raises: bool  # the capital
    is_realised: bool  # at the mark of the report; only the rate of the settle asset is missing


class PortfolioState(Struct):
    """Prices, balances, positions, flows, units, and the history of equity."""

    prices: PriceState = field(default_factory=PriceState)
    positions: PositionsState = field(default_factory=PositionsState)
    holdings: HoldingsState = field(default_factory=HoldingsState)
    flows: FlowsState = field(default_factory=FlowsState)
    equity: EquityState = field(default_factory=EquityState)
    periods: PeriodsState = field(default_factory=PeriodsState)
    histories: dict[str, HistoryState] = field(default_factory=dict)  # by scope
    # Net flows of each venue since its first settled report, at their value when they entered.
    entered: dict[str, Fixed] = field(default_factory=dict)
    # Flows at venues that report no balances: venue -> asset -> amount.
    flowed: dict[str, dict[str, Fixed]] = field(default_factory=dict)
    unpriced_ns: dict[str, int] = field(default_factory=dict)  # asset -> since when
    left_out: dict[str, bool] = field(default_factory=dict)  # assets without a price
    # Reported positions whose P&L is not known yet, by the name of the key.
    unvalued: dict[str, Unvalued] = field(default_factory=dict)
    absent: dict[str, bool] = field(default_factory=dict)  # silent venues that left as a flow
    differences: Differences = field(default_factory=dict)


def has_facts(state: PortfolioState) -> bool:
    """Return whether anything of money was reported."""
    positions = state.positions
    return bool(
        state.holdings.venues or state.flowed or positions.positions or positions.realised.venues
    )


def measured_anew(state: PortfolioState) -> PortfolioState:
    """Return the facts without what was measured in the reference: it is another one now."""
    flows = state.flows
    return PortfolioState(
        prices=state.prices,
        positions=state.positions,
        holdings=state.holdings,
        flows=FlowsState(
            flows=flows.flows, transfers=flows.transfers, withheld=flows.withheld, told=flows.told
        ),
        equity=EquityState(reported=state.equity.reported),
        periods=state.periods,
        flowed=state.flowed,
        absent=state.absent,
        differences=state.differences,
    )
