"""What the engine shows of the portfolio: figures of the account, and what it holds.

Money is in the reference currency, times are UTC ns since 1970; None is unknown. ``exposure`` is a
sum of |net notional| over symbols; ``exposure_worst`` counts the resting orders too, where they are
filled on the side that makes it larger; ``leverage`` is ``exposure_worst`` over equity.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum

from msgspec import Struct
from msgspec.structs import asdict

from riskmon.core.book.flows import Transfer
from riskmon.core.book.instruments import instrument
from riskmon.core.book.portfolio import Portfolio
from riskmon.core.book.position import Key
from riskmon.core.book.valuation import ELSEWHERE
from riskmon.core.decisions import DifferenceKind
from riskmon.core.limits.exposure import ratio_of_equity
from riskmon.core.limits.facts import Facts
from riskmon.core.limits.sizes import account_notional, venue_notional
from riskmon.core.scopes import ACCOUNT
from riskmon.core.unknown import Unknown


class BalanceView(Struct, frozen=True, kw_only=True):
    """Free and locked of one asset at a venue, in units of the asset."""

    venue: str
    asset: str
    free: float
    locked: float


class PositionView(Struct, frozen=True, kw_only=True):
    """A position, or one leg of it in hedge mode."""

    venue: str
    symbol: str
    leg: str | None = None  # of a hedge-mode position
    quantity: float
    entry_price: float
    mark: float | None
    notional: float | None
    unrealized: float | None


class VenueView(Struct, frozen=True, kw_only=True):
    """A venue: its settled equity, the P&L of its positions, and its exposure."""

    venue: str
    equity: float | None
    pnl: float | None  # realised, less fees, and unrealised
    exposure: float | None
    exposure_worst: float | None
    leverage: float | None


class StrategyView(Struct, frozen=True, kw_only=True):
    """A strategy's P&L: of its own positions, realised and unrealised, and of its ``pnl``."""

    strategy: str
    pnl: float | None


class AssetView(Struct, frozen=True, kw_only=True):
    """The delta of an asset over all venues and symbols, signed; not of the reference."""

    asset: str
    quantity: float
    notional: float | None


class LeftOutView(Struct, frozen=True, kw_only=True):
    """An asset that equity leaves out because it has no price, and how much of it is held."""

    asset: str
    quantity: float


class FlowView(Struct, frozen=True, kw_only=True):
    """A deposit, or below 0 a withdrawal, that no balance contains yet."""

    id: str
    venue: str
    asset: str
    amount: float
    since_ns: int


class TransferView(Struct, frozen=True, kw_only=True):
    """A transfer of which not both venues' balances contain their part yet.

    ``withheld``: it is under way for longer than ``portfolio.transit``; equity leaves it out.
    """

    id: str
    asset: str
    amount: float
    source: str
    destination: str
    left: bool
    arrived: bool
    withheld: bool
    since_ns: int


class DifferenceView(Struct, frozen=True, kw_only=True):
    """How often a venue reported something else than was known, by kind."""

    venue: str
    kind: DifferenceKind
    count: int


class FiguresView(Struct, frozen=True, kw_only=True):
    """The figures of the account."""

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
    """The figures of the account, and what it holds."""

    balances: list[BalanceView]
    positions: list[PositionView]
    venues: list[VenueView]
    strategies: list[StrategyView]
    assets: list[AssetView]
    left_out: list[LeftOutView]
    flows: list[FlowView]
    transfers: list[TransferView]
    differences: list[DifferenceView]


def figures(facts: Facts) -> FiguresView:
    """The figures of the account, without what it holds."""
    book, settled = facts.book, facts.book.settled_equity
    equity = book.account.equity
    known = not isinstance(settled, Unknown)
    fall = book.fall(ACCOUNT, "day", trailing=False)
    exposure = book.exposures.gross_notional()
    worst = account_notional(facts)
    return FiguresView(
        reference=book.reference,
        equity=_known(settled),
        settled=book.holdings.is_settled(),
        initial_capital=equity.state.capital,
        unit_value=equity.unit_value if known else None,
        pnl_realized=book.pnl_realised(),
        pnl_unrealized=book.pnl_unrealised(),
        pnl_day=None if isinstance(fall, Unknown) else 0.0 - fall,
        pnl_ratio=equity.unit_value - 1.0 if known else None,
        drawdown_ratio=book.drawdown() if known else None,
        exposure=_known(exposure),
        exposure_worst=_known(worst),
        leverage=_leverage(worst, settled),
        unpriced=book.unpriced(),
    )


def portfolio(facts: Facts) -> PortfolioView:
    """The figures of the account, and what it holds."""
    book, state = facts.book, facts.book.state
    return PortfolioView(
        **asdict(figures(facts)),
        balances=list(_balances(book)),
        positions=list(_positions(book)),
        venues=list(_venues(facts)),
        strategies=list(_strategies(book)),
        assets=list(_assets(book)),
        left_out=list(_left_out(book)),
        flows=list(_flows(facts)),
        transfers=list(_transfers(facts)),
        differences=[
            DifferenceView(venue=venue, kind=kind, count=count)
            for venue, kinds in state.differences.items()
            for kind, count in kinds.items()
        ],
    )


def _known(value: float | Unknown) -> float | None:
    return None if isinstance(value, Unknown) else value


def _leverage(notional: float | Unknown, equity: float | Unknown) -> float | None:
    if isinstance(notional, Unknown) or isinstance(equity, Unknown):
        return None
    return ratio_of_equity(notional, equity)


def _balances(book: Portfolio) -> Iterator[BalanceView]:
    for venue, assets in book.state.holdings.ledgers.items():
        for asset, held in assets.items():
            if held.free or held.locked:
                yield BalanceView(venue=venue, asset=asset, free=held.free, locked=held.locked)


def _positions(book: Portfolio) -> Iterator[PositionView]:
    """Yield the account's positions; at a venue that reports balances its spot holdings."""
    for key, position in book.positions.positions.items():
        is_spot = instrument(key.symbol, book.reference).kind == "spot"
        if not key.strategy and not (is_spot and book.holdings.reports(key.venue)):
            value = book.marking.values[key]
            yield PositionView(
                venue=key.venue,
                symbol=key.symbol,
                leg=key.leg or None,
                quantity=position.quantity,
                entry_price=position.entry,
                mark=_known(book.mark(key.symbol, key.venue)),
                notional=_size(value.notional),
                unrealized=_known(value.unrealised),
            )
    for venue, base, symbol in sorted(book.exposing.spot_holdings()):
        own = book.positions.positions.get(Key(venue, symbol, "", ""))
        gain = None if own is None else _known(book.marking.values[own.key].unrealised)
        held = book.holdings.live(venue, base)
        yield PositionView(
            venue=venue,
            symbol=symbol,
            leg=None,
            quantity=held,
            entry_price=0.0 if own is None else own.entry,
            mark=_known(book.mark(symbol, venue)),
            notional=_size(book.exposing.spot_notional(symbol, venue, held)),
            unrealized=gain,
        )


def _size(notional: float | Unknown) -> float | None:
    return None if isinstance(notional, Unknown) else abs(notional)


def _venues(facts: Facts) -> Iterator[VenueView]:
    for venue, pnl in sorted(_pnl_of_venues(facts.book).items()):
        equity, worst = facts.book.venue_equity(venue), venue_notional(facts, venue)
        yield VenueView(
            venue=venue,
            equity=_known(equity),
            pnl=pnl,
            exposure=_known(facts.book.exposures.gross_notional_at(venue)),
            exposure_worst=_known(worst),
            leverage=_leverage(worst, equity),
        )


def _pnl_of_venues(book: Portfolio) -> dict[str, float | None]:
    """Realised P&L and that of open positions, of each venue that reported anything."""
    realised = book.positions.realised
    parts: dict[str, list[float | Unknown]] = {
        name: [] for name in (*book.state.holdings.venues, *realised.state.venues)
    }
    for key, value in book.marking.values.items():
        if not key.strategy:
            parts.setdefault(key.venue, []).append(value.unrealised)
    parts.pop(ELSEWHERE, None)
    for name, them in parts.items():
        for asset, amount in realised.at(name).items():
            rate = book.rate(asset) if amount.value else 0.0
            them.append(rate if isinstance(rate, Unknown) else amount.value * rate)
    return {name: _sum(them) for name, them in parts.items()}


def _sum(parts: list[float | Unknown]) -> float | None:
    known = [one for one in parts if not isinstance(one, Unknown)]
    return fsum(known) if len(known) == len(parts) else None


def _strategies(book: Portfolio) -> Iterator[StrategyView]:
    held = [key.strategy for key in book.marking.values if key.strategy]
    for name in sorted({*book.positions.realised.state.strategies, *held}):
        yield StrategyView(strategy=name, pnl=_known(book.marking.strategy_pnl(name)))


def _left_out(book: Portfolio) -> Iterator[LeftOutView]:
    for asset in book.state.left_out:
        held = fsum(amount for _, amount in book.account.valuation.held(asset))
        yield LeftOutView(asset=asset, quantity=held)


def _assets(book: Portfolio) -> Iterator[AssetView]:
    for asset, one in sorted(book.exposures.assets.items()):
        if asset != book.reference and (one.quantity or one.unknown):
            notional = None if one.unknown else one.notional
            yield AssetView(asset=asset, quantity=one.quantity, notional=notional)


def _flows(facts: Facts) -> Iterator[FlowView]:
    now_ns, wall_ns = facts.clock.instant
    for flow in facts.book.state.flows.flows.values():
        yield FlowView(
            id=flow.id,
            venue=flow.venue,
            asset=flow.asset,
            amount=flow.amount,
            since_ns=flow.told_ns - now_ns + wall_ns,
        )


def _transfers(facts: Facts) -> Iterator[TransferView]:
    state = facts.book.state.flows
    for transfer in (*state.transfers.values(), *state.withheld.values()):
        yield _transfer(transfer, facts)


def _transfer(one: Transfer, facts: Facts) -> TransferView:
    now_ns, wall_ns = facts.clock.instant
    return TransferView(
        id=one.id,
        asset=one.asset,
        amount=one.amount,
        source=one.source,
        destination=one.destination,
        left=one.leaving is None,
        arrived=one.arriving is None,
        withheld=one.withheld,
        since_ns=one.told_ns - now_ns + wall_ns,
    )
