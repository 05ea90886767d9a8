"""What the engine shows of the portfolio: figures of the account, and what it holds.

Money is in the reference currency; None is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import asdict

from riskmon.core.book.instruments import instrument
from riskmon.core.book.portfolio import Portfolio
from riskmon.core.limits.exposure import ratio_of_equity
from riskmon.core.limits.facts import Facts
from riskmon.core.unknown import Unknown


class BalanceView(Struct, frozen=True, kw_only=True):
    """Free and locked of one asset at a venue, in units of the asset."""

    venue: str
    asset: str
    free: float
    locked: float


class PositionView(Struct, frozen=True, kw_only=True):
    """A position; ``notional`` and ``unrealized`` in the reference, None when it has no price."""

    venue: str
    symbol: str
    quantity: float
    entry_price: float
    mark: float | None
    notional: float | None
    unrealized: float | None


class StrategyView(Struct, frozen=True, kw_only=True):
    """A strategy's P&L: of its own positions, realised and unrealised, and of its ``pnl``."""

    strategy: str
    pnl: float | None


class LeftOutView(Struct, frozen=True, kw_only=True):
    """An asset that equity leaves out because it has no price, and how much of it is held."""

    asset: str
    quantity: float


class FiguresView(Struct, frozen=True, kw_only=True):
    """The account.

    ``exposure`` is the sum of |net notional| over all symbols. ``exposure_worst`` is the same with
    the orders that rest, where they are filled on the side that makes it larger; ``leverage`` is
    that over equity.
    """

    reference: str
    equity: float | None
    settled: bool
    initial_capital: float | None
    unit_value: float | None
    pnl_realized: float | None
    pnl_unrealized: float | None
    pnl_day: float | None
    pnl_ratio: float | None  # P&L over the initial capital, net of cash flows
    drawdown_ratio: float | None
    exposure: float | None
    exposure_worst: float | None
    leverage: float | None
    unpriced: list[str]


class PortfolioView(FiguresView, frozen=True, kw_only=True):
    """The account's figures, and what it holds."""

    balances: list[BalanceView]
    positions: list[PositionView]
    strategies: list[StrategyView]
    left_out: list[LeftOutView]


def figures(facts: Facts) -> FiguresView:
    """The account's figures, without what it holds."""
    book, settled = facts.book, facts.book.settled_equity
    known = not isinstance(settled, Unknown)
    unit_value = book.state.settled_unit_value
    exposure = book.exposures.gross_notional()
    worst = exposure
    if not isinstance(worst, Unknown):
        worst += facts.commitments.state.notional.value
    return FiguresView(
        reference=book.reference,
        equity=_known(settled),
        settled=book.venues.settled(),
        initial_capital=book.state.capital,
        unit_value=unit_value if known else None,
        pnl_realized=book.pnl_realised(),
        pnl_unrealized=book.pnl_unrealised(),
        pnl_day=book.curves.pnl_day(),
        pnl_ratio=unit_value - 1.0 if known else None,
        drawdown_ratio=book.drawdown() if known else None,
        exposure=_known(exposure),
        exposure_worst=_known(worst),
        leverage=_leverage(worst, settled),
        unpriced=book.unpriced(),
    )


def _known(value: float | Unknown) -> float | None:
    return None if isinstance(value, Unknown) else value


def _leverage(notional: float | Unknown, equity: float | Unknown) -> float | None:
    if isinstance(notional, Unknown) or isinstance(equity, Unknown):
        return None
    return ratio_of_equity(notional, equity)


def portfolio(facts: Facts) -> PortfolioView:
    """The account's figures, and what it holds."""
    book = facts.book
    return PortfolioView(
        **asdict(figures(facts)),
        balances=[
            BalanceView(venue=name, asset=asset, free=held.free, locked=held.locked)
            for name, venue in book.state.venues.venues.items()
            for asset, held in venue.assets.items()
        ],
        positions=list(_positions(book)),
        strategies=[
            StrategyView(strategy=name, pnl=_known(book.strategy_pnl(name)))
            for name in book.strategies()
        ],
        left_out=[
            LeftOutView(asset=asset, quantity=quantity) for asset, quantity in book.left_out()
        ],
    )


def _positions(book: Portfolio) -> Iterator[PositionView]:
    for position in book.state.positions.positions.values():
        if position.strategy:
            continue
        what = instrument(position.symbol, book.reference)
        mark = book.prices.mark(position.symbol, position.venue)
        worth = book.state.worth.get(what.settle)
        yield PositionView(
            venue=position.venue,
            symbol=position.symbol,
            quantity=position.quantity,
            entry_price=position.entry,
            mark=mark.price if mark else None,
            notional=abs(position.notional) if mark else None,
            unrealized=None if worth is None else position.unrealised * worth,
        )
