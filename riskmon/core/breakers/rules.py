"""A configured limit as the engine keeps it, and what of it holds for breakers without a limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from riskmon.core.config import LimitConfig
from riskmon.core.limits import LIMITS
from riskmon.core.limits.policy import Policy
from riskmon.core.view import HaltReason

MANUAL = "manual"
UNCLEAN_START = "unclean_start"
STOP = "stop"
STORAGE = "storage"
# Where the cause of a trip lies that no limit found.
CATEGORIES = {
    MANUAL: "operator",
    UNCLEAN_START: "riskmon",
    STOP: "riskmon",
    STORAGE: "riskmon",
}
HALT_REASONS: dict[str, HaltReason] = {
    MANUAL: "operator",
    UNCLEAN_START: "start",
    STOP: "stop",
    STORAGE: "storage",
}
# Breakers that no configuration names: an operator's own, that of a start after a kill, that of an
# orderly stop with `on_stop = "cancel"`, and that of a start after a write that failed. Those of a
# start after a kill and of a stop close when their cancel is confirmed, the others by an operator.
PSEUDO: dict[str, Policy] = {
    MANUAL: Policy(recover="operator"),
    UNCLEAN_START: Policy(recover="clear"),
    STOP: Policy(recover="clear"),
    STORAGE: Policy(recover="operator"),
}


@dataclass(frozen=True)
class Rule:
    """A configured limit: its name, the object that measures, its parameters.

    ``calm`` is the ratio of the bound below which a value says nothing new of a closed breaker.
    """

    name: str
    limit: Any
    params: Any
    holds: bool  # whether its scope stands at reduce_only while it is past its bound
    must_know: bool  # whether its scope halts while it is unknown
    floor: bool  # whether the bound is a minimum
    calm: float
    notes: bool  # whether the limit wants to know of every order that is asked for
    judges: bool  # whether it judges orders
    spends: bool  # whether permitted orders use it up


def rule_of(limit: LimitConfig, measures: dict[str, dict[str, Any]]) -> Rule:
    """The rule of a limit, which measures in ``measures`` if it is fed with samples."""
    kind = LIMITS[limit.kind]
    if kind.standing:
        measure = kind(limit.params)
    else:
        measure = kind(limit.params, measures.setdefault(limit.name, {}))
    params, floor = limit.params, limit.params.is_floor
    acts = params.on_breach not in ("shadow", "warn")
    return Rule(
        name=limit.name,
        limit=measure,
        params=params,
        holds=params.on_breach in ("block", "reduce"),
        must_know=limit.written and acts and params.on_unknown != "ignore",
        floor=floor,
        # A little less than the ratio, so that rounding is never on the calm side.
        calm=-1.0 if floor else min(params.warn, params.clear) * (1 - 1e-9),
        notes=hasattr(kind, "note"),
        judges=hasattr(kind, "size") or hasattr(kind, "judge"),
        spends=hasattr(kind, "spend"),
    )


def utilization(value: float | None, bound: float | None, floor: bool = False) -> float | None:
    """value / bound (for a floor bound / value, 10 when the value is <= 0), within 0 and 10."""
    if value is None or not bound:
        return None
    if floor:
        return 10.0 if value <= 0 else min(10.0, max(0.0, bound / value))
    return min(10.0, max(0.0, value / bound))
