"""Every kind of limit, in one table.

:mod:`riskmon.core.limits.limit` says what a limit is and which shapes there are. A new kind is one
class with its parameters, one entry here, and one table of cases.

The ``category`` of a kind says where the cause of a trip lies: at the ``venue``, in the ``market``,
in the ``strategy`` or its ``edge``, in an ``order``, or in a ``position`` or ``loss`` of the
account. By default, what may pass by itself (venue, market, strategy) recovers by itself, a loss of
a period at its end, and a loss of the capital or an edge that is gone by an operator.
"""

from __future__ import annotations

from riskmon.core.limits.edge import EdgeLimit
from riskmon.core.limits.errors import ErrorRateLimit, ErrorStreakLimit
from riskmon.core.limits.exposure import (
    ConcentrationLimit,
    InventoryLimit,
    LeverageLimit,
    OpenOrdersLimit,
    OpenPositionsLimit,
    PositionLimit,
    TotalNotionalLimit,
    TotalPositionLimit,
)
from riskmon.core.limits.latency import LatencyP99Limit
from riskmon.core.limits.limit import OrderLimit, SampleLimit, StateLimit
from riskmon.core.limits.losses import (
    DailyLossLimit,
    DrawdownLimit,
    LossLimit,
    LossStreakLimit,
    PortfolioLossLimit,
    WeeklyLossLimit,
)
from riskmon.core.limits.metric import MetricLimit
from riskmon.core.limits.orders import (
    MessageRateLimit,
    OrderCountLimit,
    OrderNotionalLimit,
    OrderQuantityLimit,
    PriceCollarLimit,
    RepeatOrdersLimit,
)
from riskmon.core.limits.silence import HeartbeatLimit, StalenessLimit
from riskmon.core.limits.venue_share import VenueShareLimit
from riskmon.core.limits.volatility import VolatilityLimit

MeasuredLimit = StateLimit | SampleLimit | OrderLimit

LIMITS: dict[str, type[MeasuredLimit]] = {
    limit.kind: limit
    for limit in (
        LatencyP99Limit,
        ErrorStreakLimit,
        ErrorRateLimit,
        PortfolioLossLimit,
        LossLimit,
        DailyLossLimit,
        WeeklyLossLimit,
        DrawdownLimit,
        LossStreakLimit,
        PositionLimit,
        TotalPositionLimit,
        OpenPositionsLimit,
        OpenOrdersLimit,
        InventoryLimit,
        TotalNotionalLimit,
        LeverageLimit,
        ConcentrationLimit,
        VenueShareLimit,
        MetricLimit,
        EdgeLimit,
        StalenessLimit,
        HeartbeatLimit,
        OrderNotionalLimit,
        OrderQuantityLimit,
        PriceCollarLimit,
        MessageRateLimit,
        OrderCountLimit,
        RepeatOrdersLimit,
        VolatilityLimit,
    )
}
