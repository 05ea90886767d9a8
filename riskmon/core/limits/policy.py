"""The parameters that every limit has: its warning ratio, what a breach does, how it recovers.

A limit's own parameters are one frozen dataclass that extends :class:`Ceiling` or :class:`Floor`.
These dataclasses are the only model of a limit's configuration: the settings validate them, the
journal stores them, and the engine reads them.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from math import inf
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le

from riskmon.core.constraints import (
    MAX_SECONDS,
    TABLE,
    Beside,
    Constraint,
    Count,
    Positive,
    Scope,
    Seconds,
    Share,
    must,
)
from riskmon.core.limits.schedule import CeilingSlots, FloorSlots, Slot
from riskmon.core.scopes import ScopeKind

OnBreach = Literal["shadow", "warn", "block", "reduce", "trip", "freeze"]
Bound = Annotated[
    float,
    must(
        lambda bound: bound > 0,
        "must be above 0\na bound of 0 has no utilization; set `enabled = false` to be without "
        "this limit",
    ),
]
BELOW_ONE: Constraint[float] = must(lambda bound: bound < 1, "must be a ratio below 1\n0.05 is 5 %")

NOT_ABOVE_WINDOW: Beside[float] = Beside(
    "window",
    operator.le,
    "cannot be above `window`\nthe limit would never be evaluated",
    unless="seconds",
)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Wait ``after`` seconds, longer for each trip in a row, then require ``probes`` good samples.

    The wait is ``after * multiplier**(trips in a row - 1)``, plus up to ``jitter`` of itself, at
    most ``max`` seconds. ``probes = 0`` closes when the wait is over.
    """

    __pydantic_config__: ClassVar[dict[str, bool | str]] = TABLE

    after: Positive = 30.0  # seconds
    multiplier: Annotated[float, Ge(1)] = 2.0  # for each trip in a row
    # seconds
    max: Annotated[Seconds, Beside("after", operator.ge, "must be at least `after`")] = 300.0
    jitter: Annotated[float, Ge(0), Le(1)] = 0.1  # added to the wait, as a ratio of it
    probes: Annotated[int, Ge(0), Le(1_000)] = 3  # good samples that close it; 0 closes at once

    def seconds(self, trips_in_row: int) -> float:
        """The wait after so many trips in a row, without jitter, at most ``max``."""
        try:
            return min(self.max, self.after * self.multiplier ** (trips_in_row - 1))
        except OverflowError:  # a venue that is down for days
            return self.max


@dataclass(frozen=True, kw_only=True)
class Probation:
    """After a half-open success, size limits have ``ratio`` of their bound for ``seconds``."""

    __pydantic_config__: ClassVar[dict[str, bool | str]] = TABLE

    ratio: Share = 0.5  # of the bounds of size limits
    seconds: Seconds = 600.0  # from the half-open success on


HALF_OPEN = Recovery()
Recover = Literal["operator", "clear", "period"] | Recovery


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The parameters that every limit takes. Durations in seconds, ratios of the bound."""

    __pydantic_config__: ClassVar[dict[str, bool | str]] = TABLE

    enabled: bool = True  # `false` switches it off
    per: ScopeKind = "account"  # each of these has the limit
    warn: Share = 0.8  # of the bound
    on_breach: OnBreach = "trip"  # what a breach does
    recover: Recover = "operator"  # what closes the breaker
    breaches: Count = 1  # evaluations past the bound, in a row, before it acts
    # seconds that the value must stay past the bound before it acts
    for_: Annotated[float, Ge(0), Le(MAX_SECONDS)] = field(default=0.0, metadata={"alias": "for"})
    clear: Share = 1.0  # of the bound: a state limit must be below it before a breaker closes
    hold: Annotated[float, Ge(0), Le(MAX_SECONDS)] = 0.0  # seconds that it must stay clear
    cancels: Literal["all", "entries"] = "all"  # passed on to the cancel target
    flatten: bool = False  # passed on to the cancel target
    level: Literal["halt", "reduce_only"] = "halt"  # what the shut gate still allows
    # the level while the value is unknown: by default `level`, or `reduce_only` for a limit that
    # blocks or reduces; `ignore` exempts the limit
    on_unknown: Literal["halt", "reduce_only", "ignore"] | None = None
    overrides: dict[Scope, Positive] = field(default_factory=dict)  # by scope, at any time of day
    probation: Probation | None = None  # smaller sizes after a half-open success

    @property
    def bound(self) -> float:
        """The bound where no override and no slot of the schedule holds; infinite without one."""
        return inf

    @property
    def floor(self) -> bool:
        """Whether the bound is a minimum."""
        return False

    @property
    def unknown_level(self) -> Literal["halt", "reduce_only"] | None:
        """The level of the scope while the value is unknown; None for a limit that is exempt."""
        if self.on_unknown is not None:
            return None if self.on_unknown == "ignore" else self.on_unknown
        return "reduce_only" if self.on_breach in ("block", "reduce") else self.level

    def slots(self) -> tuple[Slot, ...]:
        """The bounds by time of day."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Ceiling(Policy):
    """The parameters of a limit whose value must not rise above ``max``."""

    max: Bound
    schedule: CeilingSlots[Positive] = ()  # from, to, max; `max` outside of them

    @property
    def bound(self) -> float:
        """``max``."""
        return self.max

    def slots(self) -> tuple[Slot, ...]:
        """The bounds by time of day."""
        return tuple(slot.timed(slot.max) for slot in self.schedule)


@dataclass(frozen=True, kw_only=True)
class Floor(Policy):
    """The parameters of a limit whose value must not fall below ``min``."""

    min: Bound
    schedule: FloorSlots = ()  # from, to, min; `min` outside of them

    @property
    def bound(self) -> float:
        """``min``."""
        return self.min

    @property
    def floor(self) -> bool:
        """True: the bound is a minimum."""
        return True

    def slots(self) -> tuple[Slot, ...]:
        """The bounds by time of day."""
        return tuple(slot.timed(slot.min) for slot in self.schedule)
