"""The book as state versions 1 and 2 stored it, and what it is now.

Those versions stored sums where this one stores facts: the P&L tracks of each period instead of the
history of equity, and one ledger of flows and of realised P&L for all venues. What follows from
them (capital, units, peak, what was lost in the present periods) is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Struct, field

from riskmon.core.book.equity import EquityState
from riskmon.core.book.history import MINUTE_NS, HistoryState, Row
from riskmon.core.book.holdings import HoldingsState, Venue
from riskmon.core.book.instruments import instrument
from riskmon.core.book.ledger import LedgerState
from riskmon.core.book.money import Fixed
from riskmon.core.book.periods import Begin, PeriodsState
from riskmon.core.book.position import BookPosition, Key
from riskmon.core.book.positions import PositionsState
from riskmon.core.book.prices import PriceState, Rows
from riskmon.core.book.projection import Report
from riskmon.core.book.realised import RealisedState
from riskmon.core.book.state import PortfolioState
from riskmon.core.book.valuation import ELSEWHERE
from riskmon.core.clock import Instant


class _Sum(Struct):
    high: float = 0.0
    low: float = 0.0

    @property
    def fixed(self) -> Fixed:
        total = Fixed()
        total.add(self.high)
        total.add(self.low)
        return total


class _Ledger(Struct):
    amounts: dict[str, _Sum] = field(default_factory=dict)


class _Prices(Struct):
    marks: Rows = field(default_factory=dict)


class _VenueAsset(Struct):
    free: float
    locked: float
    wall_ns: int


class _Venue(Struct):
    assets: dict[str, _VenueAsset] = field(default_factory=dict)
    at_ns: int = 0
    all_wall_ns: int = 0
    counted: bool = True
    flows: _Sum = field(default_factory=_Sum)


class _Venues(Struct):
    venues: dict[str, _Venue] = field(default_factory=dict)
    first_balance_ns: int | None = None
    complete: bool = False
    unpriced_since_ns: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, bool] = field(default_factory=dict)


class _Position(Struct):
    venue: str
    symbol: str
    size: float | None
    strategy: str = ""
    quantity: float = 0.0
    rest: float = 0.0
    entry: float = 0.0
    unrealised: float = 0.0
    unsized: float = 0.0


class _Positions(Struct):
    positions: dict[str, _Position] = field(default_factory=dict)
    realised: _Ledger = field(default_factory=_Ledger)
    strategies: dict[str, _Ledger] = field(default_factory=dict)


class _Point(Struct):
    value: float
    at_ns: int


class _Best(Struct):
    value: float = 1.0


class _Span(Struct):
    began_wall_ns: int
    base: _Point
    last: _Point
    best: _Best


class _Minute(Struct):
    number: int
    last: _Point
    high: float


class _Rolling(Struct):
    base: _Point
    minutes: list[_Minute] = field(default_factory=list)


class _Tracks(Struct):
    entered: _Sum = field(default_factory=_Sum)
    spans: dict[str, dict[str, _Span]] = field(default_factory=dict)
    rolling: dict[str, dict[str, _Rolling]] = field(default_factory=dict)


class EarlierPortfolio(Struct):
    """The portfolio of a snapshot of state version 1 or 2."""

    prices: _Prices = field(default_factory=_Prices)
    venues: _Venues = field(default_factory=_Venues)
    flows: _Ledger = field(default_factory=_Ledger)
    book: _Positions = field(default_factory=_Positions)
    capital: float | None = None
    in_capital: float = 0.0
    configured_capital: float | None = None
    units: float | None = None
    peak: _Best = field(default_factory=_Best)
    judged: float | str = ""
    judged_unit_value: float = 1.0
    tracks: _Tracks = field(default_factory=_Tracks)


def convert(earlier: EarlierPortfolio, reference: str, instant: Instant) -> PortfolioState:
    """Return the portfolio that an earlier version stored."""
    venues = earlier.venues
    return PortfolioState(
        prices=PriceState(prices=earlier.prices.marks),
        positions=_positions(earlier.book, reference),
        holdings=_holdings(venues, instant),
        equity=_equity(earlier),
        periods=_periods(earlier.tracks, instant),
        histories=_histories(earlier, instant),
        entered={name: one.flows.fixed for name, one in venues.venues.items()},
        flowed={ELSEWHERE: {name: one.fixed for name, one in earlier.flows.amounts.items()}},
        unpriced_ns=venues.unpriced_since_ns,
        left_out=venues.left_out,
    )


def _equity(earlier: EarlierPortfolio) -> EquityState:
    venues = earlier.venues
    reported = bool(venues.venues)
    return EquityState(
        capital=earlier.capital,
        configured_capital=earlier.configured_capital,
        units=earlier.units,
        unit_value=earlier.judged_unit_value,
        equity=earlier.judged if isinstance(earlier.judged, float) else None,
        entered=earlier.tracks.entered.fixed,
        in_capital=earlier.in_capital,
        reported=reported,
        known=venues.complete if reported else earlier.capital is not None,
        founders={name: True for name, one in venues.venues.items() if one.counted},
    )


def _holdings(venues: _Venues, instant: Instant) -> HoldingsState:
    state = HoldingsState()
    for name, one in venues.venues.items():
        whole_ns = _engine_ns(one.all_wall_ns, instant) if one.all_wall_ns else None
        state.venues[name] = Venue(
            first_ns=min(venues.first_balance_ns or one.at_ns, one.at_ns),
            at_ns=one.at_ns,
            grace_ns=one.at_ns,
            whole_ns=whole_ns,
            joined=one.counted,
        )
        state.ledgers[name] = {
            asset: LedgerState(
                free=held.free,
                locked=held.locked,
                reports=[
                    Report(held.free + held.locked, _engine_ns(held.wall_ns, instant), dated=False)
                ],
                settled=0,
            )
            for asset, held in one.assets.items()
        }
    return state


def _engine_ns(wall_ns: int, instant: Instant) -> int:
    return instant.now_ns - max(0, instant.wall_ns - wall_ns)


def _positions(earlier: _Positions, reference: str) -> PositionsState:
    state = PositionsState(realised=RealisedState())
    realised = state.realised
    realised.venues[ELSEWHERE] = {
        asset: one.fixed for asset, one in earlier.realised.amounts.items()
    }
    for name, ledger in earlier.strategies.items():
        realised.strategies[name] = {asset: one.fixed for asset, one in ledger.amounts.items()}
    for one in earlier.positions.values():
        position = BookPosition(
            venue=one.venue,
            symbol=one.symbol,
            size=one.size,
            strategy=one.strategy,
            quantity=one.quantity,
            rest=one.rest,
            entry=one.entry,
            unsized=one.unsized,
        )
        state.positions[Key(one.venue, one.symbol, "", one.strategy).name] = position
        if one.strategy and one.unrealised:  # the ledger of a strategy had it, too
            settle = instrument(one.symbol, reference).settle
            own = realised.strategies.setdefault(one.strategy, {})
            own.setdefault(settle, Fixed()).add(-one.unrealised)
    return state


def _periods(tracks: _Tracks, instant: Instant) -> PeriodsState:
    """Return the present day and week: those that the levels below are of."""
    begins: dict[str, Begin] = {}
    for spans in tracks.spans.values():
        for period, span in spans.items():
            latest = begins.get(period)
            if latest is None or span.began_wall_ns > latest.began_wall_ns:
                began_ns = _engine_ns(span.began_wall_ns, instant)
                begins[period] = Begin(span.began_wall_ns, began_ns)
    return PeriodsState(begins)


class _Level(NamedTuple):
    """The P&L of a scope from a time on: its last and its highest level."""

    at_ns: int
    last: float
    high: float


def _histories(earlier: EarlierPortfolio, instant: Instant) -> dict[str, HistoryState]:
    tracks = earlier.tracks
    found: dict[str, HistoryState] = {}
    for scope in {**tracks.spans, **tracks.rolling}:
        levels = sorted(
            [
                *_levels_of_spans(tracks.spans.get(scope, {}), instant),
                *_levels_of_hours(tracks.rolling.get(scope, {})),
            ]
        )
        kind, _, name = scope.partition(":")
        entered = tracks.entered.fixed.value if scope == "account" else 0.0
        if kind == "venue" and name in earlier.venues.venues:
            entered = earlier.venues.venues[name].flows.fixed.value
        # Without units, because the peak of the unit value is stored by itself.
        rows = [
            Row(one.at_ns, one.high + entered, one.last + entered, one.last + entered, 0.0, entered)
            for one in levels
        ]
        before = earlier.peak.value if scope == "account" else 1.0
        found[scope] = HistoryState(rows, before, levels[0].last, levels[0].at_ns)
    if "account" not in found:
        found["account"] = HistoryState(before=earlier.peak.value)
    return found


def _levels_of_spans(spans: dict[str, _Span], instant: Instant) -> Iterator[_Level]:
    for span in spans.values():
        began_ns, base, last = _engine_ns(span.began_wall_ns, instant), span.base.value, span.last
        yield _Level(began_ns - 1, base, base)
        yield _Level(began_ns, base, max(base, span.best.value))
        yield _Level(max(began_ns, last.at_ns), last.value, last.value)


def _levels_of_hours(windows: dict[str, _Rolling]) -> Iterator[_Level]:
    longest = max(windows.values(), key=lambda one: len(one.minutes), default=None)
    if longest is not None:
        yield _Level(longest.base.at_ns, longest.base.value, longest.base.value)
        for one in longest.minutes:
            at_ns = max(one.number * MINUTE_NS, longest.base.at_ns)
            yield _Level(at_ns, one.last.value, max(one.high, one.last.value))
