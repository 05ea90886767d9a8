"""What every limit has in common: its warning ratio, what a breach does, and how it recovers.

A limit's own parameters are one frozen dataclass that extends :class:`Policy`. These dataclasses
are the only model of a limit's configuration: the settings validate them, the journal stores
them, and the engine reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from typing import Any, ClassVar, Literal

from riskmon.core.constraints import MAX_SECONDS, TOO_LONG, ParamFaults, refuse
from riskmon.core.limits import schedule as times

ScopeKind = Literal["account", "venue", "symbol", "strategy"]
OnBreach = Literal["shadow", "warn", "block", "reduce", "trip", "freeze"]


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Wait ``after`` seconds, longer for each trip in a row, then ask for ``probes`` good samples.

    The wait is ``after * multiplier**(trips in a row - 1)``, plus up to ``jitter`` of itself, at
    most ``max`` seconds. ``probes = 0`` closes when the wait is over.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    after: float = 30.0
    multiplier: float = 2.0
    max: float = 300.0
    jitter: float = 0.1
    probes: int = 3

    def __post_init__(self) -> None:
        refuse(
            (not self.after > 0, "after", "must be above 0 seconds"),
            (not self.multiplier >= 1, "multiplier", "must be 1 or above"),
            (not self.max >= self.after, "max", "must be at least `after`"),
            (self.max > MAX_SECONDS, "max", TOO_LONG),
            (not 0 <= self.jitter <= 1, "jitter", "must be a ratio from 0 to 1"),
            (not 0 <= self.probes <= 1_000, "probes", "must be from 0 to 1000"),
        )

    def seconds(self, trips_in_row: int) -> float:
        """The wait after so many trips in a row, without jitter, at most ``max``."""
        try:
            return min(self.max, self.after * self.multiplier ** (trips_in_row - 1))
        except OverflowError:  # a venue that is down for days
            return self.max


@dataclass(frozen=True, kw_only=True)
class Probation:
    """After a half-open success, size limits stand at ``ratio`` of their bound for ``seconds``."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    ratio: float = 0.5
    seconds: float = 600.0

    def __post_init__(self) -> None:
        refuse(
            (not 0 < self.ratio <= 1, "ratio", "must be above 0 and at most 1"),
            (not self.seconds > 0, "seconds", "must be above 0"),
            (self.seconds > MAX_SECONDS, "seconds", TOO_LONG),
        )


HALF_OPEN = Recovery()


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The parameters that every limit takes. Durations in seconds, ratios of the bound."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    enabled: bool = True
    per: ScopeKind = "account"  # each of these has the limit
    warn: float = 0.8  # of the bound
    on_breach: OnBreach = "trip"
    recover: Literal["operator", "clear", "period"] | Recovery = "operator"
    breaches: int = 1  # evaluations past the bound, in a row, before it acts
    clear: float = 1.0  # of the bound: a standing value must be below it before a breaker closes
    hold: float = 0.0  # seconds that it must stay clear
    cancels: Literal["all", "entries"] = "all"
    flatten: bool = False
    level: Literal["halt", "reduce_only"] = "halt"
    on_unknown: Literal["halt", "ignore"] = "halt"
    overrides: dict[str, float] = field(default_factory=dict)  # scope -> bound, at any time of day
    schedule: tuple[dict[str, str | float], ...] = ()  # from, to, max (or min); else max
    probation: Probation | None = None

    def __post_init__(self) -> None:
        refuse(
            (not 0 < self.warn <= 1, "warn", "must be a ratio above 0 and at most 1"),
            (not 1 <= self.breaches <= 1_000_000, "breaches", "must be 1 or above"),
            (not 0 < self.clear <= 1, "clear", "must be a ratio above 0 and at most 1"),
            (not self.hold >= 0, "hold", "must be 0 seconds or above"),
            (self.hold > MAX_SECONDS, "hold", TOO_LONG),
            *(
                (not (bound > 0 and isfinite(bound)), f"overrides.{scope}", "must be above 0")
                for scope, bound in self.overrides.items()
            ),
            *(
                (
                    value is not None and not (value > 0 and isfinite(value)),
                    key,
                    "must be above 0: a bound of 0 has no utilization; set `enabled = false` "
                    "to be without this limit",
                )
                for key, value in self.bounds()
            ),
            *((True, key, what) for key, what in self._schedule_faults()),
        )

    def _schedule_faults(self) -> Iterator[tuple[str, str]]:
        if not self.schedule:
            return
        key = self._bound_key
        found = times.faults(self.schedule, key)
        yield from found
        for at, slot in enumerate(() if found else self.slots()):
            try:  # what a kind asks of its bound, it asks of each
                changes: dict[str, Any] = {key: slot.bound, "schedule": ()}
                replace(self, **changes)
            except ParamFaults as fault:
                yield from ((f"schedule.{at}.{k}", what) for k, what in fault.faults if k == key)

    @property
    def _bound_key(self) -> str:
        return self.bounds()[-1][0]

    def slots(self) -> tuple[times.Slot, ...]:
        """The schedule, read."""
        return times.slots(self.schedule, self._bound_key)

    def bounds(self) -> list[tuple[str, float | None]]:
        """The keys that hold a bound (``max``, or ``min`` for a floor), with their values."""
        names = {f.name for f in fields(self)}
        return [(key, getattr(self, key)) for key in ("max", "min") if key in names]
