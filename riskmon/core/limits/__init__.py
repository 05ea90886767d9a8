"""Every kind of limit, in one table.

A limit is one class with its own parameters and one entry here. Three shapes exist:

* a *standing* limit measures something that has a value at any time (a loss, an exposure). It
  names the ``topics`` that its value depends on; the engine asks for ``value`` when one of them
  changed.
* a *sampled* limit judges what happens (a latency, an error). It says which events it ``takes``,
  and answers each with a :class:`~riskmon.core.limits.evaluation.Verdict` when there is anything to
  act on.
* a limit on orders judges an order that is checked; it may ``note`` each that was asked for, and
  ``spend`` on each that was permitted. Standing limits on what is held judge orders too, by the
  ``size`` before and after it.

The ``category`` says in a word where the cause lies: at the ``venue``, in the ``market``, in the
``strategy`` or its ``edge``, in an ``order``, or in a ``position`` or ``loss`` of the account. By
default what may pass by itself (venue, market, strategy) recovers by itself, a loss of a period at
its end, and what a person should look at (a loss of the capital, an edge that is gone) waits for an
operator.
"""

from __future__ import annotations

from typing import Any

from riskmon.core.limits.edge import Edge
from riskmon.core.limits.errors import ErrorRate, ErrorStreak
from riskmon.core.limits.exposure import (
    Concentration,
    Inventory,
    OpenPositions,
    Position,
    TotalNotional,
    TotalPosition,
)
from riskmon.core.limits.latency import LatencyP99
from riskmon.core.limits.losses import (
    DailyLoss,
    Drawdown,
    Loss,
    LossStreak,
    PortfolioLoss,
    WeeklyLoss,
)
from riskmon.core.limits.orders import (
    MessageRate,
    OrderNotional,
    OrderQuantity,
    PriceCollar,
    RepeatOrders,
)
from riskmon.core.limits.silence import Heartbeat, Staleness
from riskmon.core.limits.volatility import Volatility

LIMITS: dict[str, Any] = {
    limit.kind: limit
    for limit in (
        LatencyP99,
        ErrorStreak,
        ErrorRate,
        PortfolioLoss,
        Loss,
        DailyLoss,
        WeeklyLoss,
        Drawdown,
        LossStreak,
        Position,
        TotalPosition,
        OpenPositions,
        Inventory,
        TotalNotional,
        Concentration,
        Edge,
        Staleness,
        Heartbeat,
        OrderNotional,
        OrderQuantity,
        PriceCollar,
        MessageRate,
        RepeatOrders,
        Volatility,
    )
}
