"""What the engine shows: plain data for the status endpoint, the metrics and the page.

:meth:`riskmon.core.engine.Engine.view` builds it for each reader; nothing here is the engine's own
state, so a reader can neither change it nor see half of a step. Times are UTC ns since 1970.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from riskmon.core.decisions import CancelState, HaltReason, Recovers, StateName


class BreakerView(Struct, frozen=True, kw_only=True):
    """One (limit, scope): its latest evaluation and its state machine."""

    limit: str
    kind: str
    scope: str
    state: StateName
    generation: int
    since_ns: int
    reason: str
    incident: str | None
    value: float | None
    bound: float | None
    utilization: float | None
    warning_ratio: float
    warning: bool
    unknown: str | None  # why the value cannot be told, when it should be
    breaches_total: int
    trips_total: int
    last_trip_ns: int | None
    on_breach: str
    category: str  # where the cause of its trips lies
    recovers: Recovers  # who ends them
    until_ns: int | None  # when the wait of an open, or the leave of a disabled breaker, ends
    holds: HaltReason | None = None  # why it holds its scope below allow; None: it does not


class LatencyView(Struct, frozen=True, kw_only=True):
    """Statistics of a latency window, in seconds (nearest rank)."""

    venue: str
    operation: str | None
    limit: str
    count: int
    mean: float
    min: float
    max: float
    p50: float
    p95: float
    p99: float


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


class FiguresView(Struct, frozen=True, kw_only=True):
    """The account in the reference currency; None is unknown."""

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
    unpriced: list[str]


class PortfolioView(FiguresView, frozen=True, kw_only=True):
    """The account's figures, and what it holds."""

    balances: list[BalanceView]
    positions: list[PositionView]


class UnknownView(Struct, frozen=True, kw_only=True):
    """A limit that cannot be evaluated, what is missing and the cure."""

    limit: str
    scope: str
    reason: str
    halted: bool


class CancelView(Struct, frozen=True, kw_only=True):
    """An incident whose cancel is under way, or that has not ended yet."""

    incident: str
    scope: str
    limit: str
    sweep: int
    confirmed: bool
    targets: dict[str, CancelState]
    since_ns: int


class EdgeView(Struct, frozen=True, kw_only=True):
    """The last edge in basis points; strategy ``""`` is the account."""

    strategy: str
    bps: float
    at_ns: int


class LastEventView(Struct, frozen=True, kw_only=True):
    """When a venue's last event of one type came."""

    venue: str
    stream: str
    at_ns: int


class Withheld(Struct, frozen=True, kw_only=True):
    """Why the sidecar does not renew the lease, whatever the engine's levels are."""

    reason: HaltReason
    detail: str


class View(Struct, frozen=True, kw_only=True):
    """Everything that a reader may see of the engine, at one instant."""

    account: str
    generation: int
    at_ns: int
    level: str
    levels: dict[str, str]
    breakers: list[BreakerView]
    latency: list[LatencyView]
    portfolio: PortfolioView
    edges: list[EdgeView]
    unknown: list[UnknownView]
    cancel: list[CancelView]
    last_events: list[LastEventView]
    freeze_total: dict[str, int]  # edge_collapse, manual, limit_violation
    freeze_active: dict[str, bool]  # by scope
    orders_checked: dict[str, int]  # allowed, refused
    orders_blocked: dict[str, int]  # by limit
    duplicates_total: int
    withheld: Withheld | None = None  # set by the sidecar: the engine has no lease


def withhold(view: View, why: Withheld | None) -> View:
    """``view`` as it is while the lease is withheld: every level is halt."""
    if why is None:
        return view
    return replace(view, level="halt", levels=dict.fromkeys(view.levels, "halt"), withheld=why)
