"""What a breaker follows: a limit of the configuration, or a cause that no limit finds."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import msgspec

from riskmon.core.config import LimitConfig
from riskmon.core.decisions import HALT, REDUCE_ONLY, HaltReason
from riskmon.core.limits import LIMITS, MeasuredLimit
from riskmon.core.limits.limit import (
    DELIVERED,
    TOLERANCE,
    Limit,
    OrderLimit,
    SampleLimit,
    StateLimit,
    Unmeasured,
)
from riskmon.core.limits.policy import Policy
from riskmon.core.limits.schedule import Slot
from riskmon.core.scopes import Scope

MANUAL = "manual"
UNCLEAN_START = "unclean_start"
REFERENCE = "reference"
STOP = "stop"
STORAGE = "storage"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The part of a breaker that its configuration decides.

    ``calm`` is the ratio of the bound below which a value changes nothing of a closed breaker.
    """

    name: str
    kind: str
    category: str
    params: Policy
    measures: type[MeasuredLimit] | None = None  # None: opened by a cause that no limit finds
    bound: float = 0.0  # as it is written
    slots: tuple[Slot, ...] = ()  # the bounds by time of day
    written: bool = False  # in the configuration
    must_know: bool = False  # whether it holds its scope while it is unknown
    calm: float = -inf
    is_timed: bool = False  # whether its value changes without an event
    halt_reason: HaltReason = "breach"

    @property
    def holds(self) -> bool:
        """Whether its scope is at reduce_only while it is past its bound."""
        return self.params.on_breach in ("block", "reduce")

    @property
    def unknown_level(self) -> int:
        """The level of its scope while it is unknown, if it must be known."""
        return REDUCE_ONLY if self.params.unknown_level == "reduce_only" else HALT

    @property
    def for_ns(self) -> int:
        """How long the value must stay past the bound before it acts."""
        return int(self.params.for_ * 1e9)

    @property
    def shuts(self) -> bool:
        """Whether a breach shuts the gate of its scope."""
        return self.params.on_breach in ("trip", "freeze")

    @property
    def refuses(self) -> bool:
        """Whether an order that would break it is refused."""
        return self.holds or self.shuts

    @property
    def is_removed(self) -> bool:
        """Whether its limit left the configuration while the breaker was open."""
        return self.measures is None and self.name not in WITHOUT_LIMIT

    @property
    def is_size(self) -> bool:
        """Whether a probation tightens its bound."""
        return self.measures is not None and self.measures.is_size

    def limit(self, scope: Scope, bound: float, measure: msgspec.Raw | None) -> Limit:
        """The limit over a scope; ``measure`` is what an earlier one kept of its samples."""
        kind = self.measures
        if kind is None:
            return Unmeasured(self.params, scope)
        if issubclass(kind, SampleLimit):
            return kind(self.params, scope, bound, measure)
        if issubclass(kind, OrderLimit):
            return kind(self.params, scope, measure)
        return kind(self.params, scope)


# Causes that no configuration names, each with its category, the reason of its halt, and whether it
# recovers by itself (when its cancel is confirmed): an operator, a start after a kill, a start with
# another `portfolio.reference`, an orderly stop with `on_stop = "cancel"`, and a start after a
# write that failed.
_CAUSES: tuple[tuple[str, str, HaltReason, bool], ...] = (
    (MANUAL, "operator", "operator", False),
    (UNCLEAN_START, "riskmon", "start", True),
    (REFERENCE, "riskmon", "start", False),
    (STOP, "riskmon", "stop", True),
    (STORAGE, "riskmon", "storage", False),
)
WITHOUT_LIMIT: dict[str, Rule] = {
    name: Rule(
        name=name,
        kind=name,
        category=category,
        params=Policy(recover="clear" if by_itself else "operator"),
        halt_reason=halt_reason,
    )
    for name, category, halt_reason, by_itself in _CAUSES
}


def removed(name: str) -> Rule:
    """The rule of an open breaker whose limit left the configuration: it stays until a reset."""
    return Rule(name=name, kind=name, category="removed", params=Policy(recover="operator"))


def rule_of(config: LimitConfig) -> Rule:
    """The rule of a limit of the configuration."""
    kind, params = LIMITS[config.kind], config.params
    _refuse_undelivered(kind, params)
    acts = params.on_breach not in ("shadow", "warn")
    return Rule(
        name=config.name,
        kind=config.kind,
        category=kind.category,
        params=params,
        measures=kind,
        bound=params.bound,
        slots=params.slots(),
        written=config.written,
        must_know=config.written and acts and params.unknown_level is not None,
        is_timed=issubclass(kind, StateLimit)
        and kind.next_change_ns is not StateLimit.next_change_ns,
        # A little less than the ratio, so that rounding is never on the calm side. Below a floor
        # there is no such value: a negative one is past it.
        calm=-inf if params.floor else min(params.warn, params.clear) * (1 - TOLERANCE),
    )


def _refuse_undelivered(kind: type[MeasuredLimit], params: Policy) -> None:
    """Raise TypeError when a kind of limit reads what the engine never delivers to it."""
    if issubclass(kind, SampleLimit):
        for read in kind.reads:
            if params.per not in DELIVERED.get(read, ()):
                raise TypeError(
                    f"{kind.__name__} reads {read.__name__} per {params.per}, which no event "
                    "delivers: see DELIVERED in riskmon.core.limits.limit"
                )
