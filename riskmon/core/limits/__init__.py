"""Every kind of limit, in one table.

A limit is one class with its own parameters and one entry here. Two shapes exist:

* a *standing* limit measures something that has a value at any time (a loss, an exposure). It
  names the ``topics`` that its value depends on; the engine asks for ``value`` when one of them
  changed.
* a *sampled* limit judges what happens (a latency, an error). It says which events it ``takes``,
  and answers each with a :class:`~riskmon.core.limits.verdict.Verdict` when there is anything to
  act on.
"""

from __future__ import annotations

from typing import Any

from riskmon.core.limits.errors import ErrorStreak
from riskmon.core.limits.latency import LatencyP99
from riskmon.core.limits.losses import PortfolioLoss

LIMITS: dict[str, Any] = {
    limit.kind: limit
    for limit in (
        LatencyP99,
        ErrorStreak,
        PortfolioLoss,
    )
}
