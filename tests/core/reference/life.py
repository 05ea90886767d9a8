"""One breaker, from the list of what happened to it.

A breaker keeps no counters. It keeps its ``life`` (every change of its state) and what was
``judged`` (every evaluation). How many evaluations in a row were past the bound, how long it has
been clear, how many good probes there were, how many trips in a row, until when it waits: each is
counted anew from these two lists when it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from riskmon.core.config import LimitConfig
from riskmon.core.limits.policy import Recovery
from tests.core.reference.incidents import Incident
from tests.core.reference.samples import STANDING, to_ns

HALT, REDUCE_ONLY, PROBE, ALLOW = range(4)
SHUT = ("open", "frozen")


@dataclass(frozen=True)
class Change:
    """A breaker changed its state."""

    now_ns: int
    before: str
    after: str
    cause: str
    generation: int
    until_ns: int | None = None  # of the wait that begins
    judged: int = 0  # how many evaluations there had been


@dataclass(frozen=True)
class Judged:
    """An evaluation. ``past`` is None when the value was unknown."""

    now_ns: int
    past: bool | None
    counts: bool = False
    clear: bool = False
    probe: bool = False  # a good one, of a half-open breaker
    acts: bool = False  # the breach was told


@dataclass
class Breaker:
    """One (limit, scope); ``limit`` is None for those that no configuration names."""

    name: str
    scope: str
    limit: LimitConfig | None
    born_ns: int
    life: list[Change] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    value: float | None = None  # of a standing limit, when it was judged last
    warned: bool = False
    unknown: bool = False
    halted: bool = False
    unknown_since_ns: int | None = None
    generation: int = 0
    forgot: int = 0  # events that had been heard when it loosened last
    incident: Incident | None = None
    breaches: int = 0
    look_ns: int | None = None  # when a window that may clear by itself is looked at

    @property
    def kind(self) -> str:
        return self.limit.kind if self.limit else ""

    @property
    def policy(self) -> Any:
        return self.limit.params if self.limit else None

    @property
    def recover(self) -> str | Recovery:
        """Operators end what they began; the rest ends when its cancel is confirmed."""
        if self.limit is None:
            return "operator" if self.name == "manual" else "clear"
        return self.limit.params.recover

    @property
    def is_standing(self) -> bool:
        return self.kind in STANDING

    @property
    def bound(self) -> float | None:
        if self.limit is None:
            return None
        params: Any = self.limit.params
        return float(params.overrides.get(self.scope, getattr(params, self._bound_key)))

    @property
    def _bound_key(self) -> str:
        return "min" if self.kind == "edge" else "max"

    # -- what follows from its life

    @property
    def state(self) -> str:
        return self.life[-1].after if self.life else "closed"

    @property
    def until_ns(self) -> int | None:
        return self.life[-1].until_ns if self.life else None

    @property
    def trips(self) -> int:
        return sum(change.after in SHUT for change in self.life)

    @property
    def trips_in_row(self) -> int:
        """Trips since an operator ended one, or since it was closed for as long as `max` says."""
        trips, closed_since_ns = 0, self.born_ns
        for change in self.life:
            if change.before == "closed" and self._is_long(change.now_ns - closed_since_ns):
                trips = 0
            if change.after in SHUT:
                trips += 1
            elif change.after == "closed":
                closed_since_ns = change.now_ns
                if change.before == "frozen" or change.cause == "reset":
                    trips = 0
        return trips

    def _is_long(self, closed_ns: int) -> bool:
        return isinstance(self.recover, Recovery) and closed_ns >= to_ns(self.recover.max)

    def _of_this_state(self) -> list[Judged]:
        return self.judged[self.life[-1].judged if self.life else 0 :]

    @property
    def past_in_row(self) -> int:
        """Evaluations past the bound in a row. One that does not count leaves their number."""
        run = 0
        for one in self._of_this_state():
            if one.past is False:
                run = 0
            elif one.past and one.counts:
                run += 1
        return run

    def past_ns(self, now_ns: int) -> int:
        """How long it has been past the bound, without the time in which it was unknown."""
        run_ns, seen_ns, past = 0, 0, None
        for one in self._of_this_state():
            if past:
                run_ns += one.now_ns - seen_ns
            if one.past is False:
                run_ns = 0
            past, seen_ns = one.past, one.now_ns
        return run_ns + (now_ns - seen_ns if past else 0)

    def is_enough(self, now_ns: int) -> bool:
        """Whether it is past the bound as often and for as long as it takes."""
        run = self._of_this_state()
        while run and run[-1].past is None:
            run.pop()
        past = bool(run) and run[-1].past is True
        often = self.past_in_row >= self.policy.breaches
        return past and often and self.past_ns(now_ns) >= to_ns(self.policy.for_)

    @property
    def is_timed(self) -> bool:
        """Whether it is past its bound, and it matters for how long."""
        run = [one.past for one in self._of_this_state() if one.past is not None]
        lasts = self.limit is not None and self.policy.for_ > 0
        return self.state == "closed" and lasts and bool(run) and run[-1] is True

    @property
    def is_blocking(self) -> bool:
        """Whether it holds its scope though it does not trip."""
        blocks = self.limit is not None and self.policy.on_breach in ("block", "reduce")
        return self.state == "closed" and blocks and self.acted

    @property
    def acted(self) -> bool:
        """Whether it was enough at an evaluation since the value was within the bound last."""
        return any(one.acts for one in self._since_within())

    def _since_within(self) -> list[Judged]:
        run: list[Judged] = []
        for one in self._of_this_state():
            run = [] if one.past is False else [*run, one]
        return run

    @property
    def good_probes(self) -> int:
        return sum(one.probe for one in self._of_this_state())

    @property
    def clear_since_ns(self) -> int | None:
        """The first of the evaluations, up to the last one, that all found it clear."""
        since_ns = None
        for one in self._of_this_state():
            if not one.clear:
                since_ns = None
            elif since_ns is None:
                since_ns = one.now_ns
        return since_ns

    # -- what follows from its value

    def utilization(self, value: float | None) -> float | None:
        """value / bound, for a floor bound / value; from 0 to 10."""
        bound = self.bound
        if value is None or bound is None:
            return None
        if self.kind != "edge":
            return min(10.0, max(0.0, value / bound))
        return 10.0 if value <= 0 else min(10.0, bound / value)

    def is_past(self, value: float | None) -> bool:
        """A streak and an error rate reach their bound, others pass it; a floor is passed below."""
        bound = self.bound
        if value is None or bound is None:
            return False
        if self.kind in ("error_streak", "error_rate", "loss_streak"):
            return value >= bound
        beyond = bound - value if self.kind == "edge" else value - bound
        return beyond > bound * 1e-9  # so much is granted to the bound

    def is_near(self, value: float | None) -> bool:
        """Whether a warning is due. As its bound, the warning level of a P99 must be passed."""
        ratio = self.utilization(value)
        if ratio is None or value is None:
            return False
        if self.kind == "latency_p99":
            return bool(value > (self.bound or 0.0) * self.policy.warn)
        return bool(ratio >= self.policy.warn)

    def is_clear(self, value: float | None) -> bool:
        """Whether the value is on the good side of `clear` x bound; nothing to measure is."""
        if value is None:
            return True
        bound = self.bound or 0.0
        if self.kind == "edge":
            return bool(value > bound / self.policy.clear)
        return bool(value < bound * self.policy.clear)

    @property
    def level(self) -> int:
        """What it leaves of its scope's permission."""
        left = ALLOW
        if self.state in SHUT:
            reduces = self.limit is not None and self.policy.level == "reduce_only"
            left = REDUCE_ONLY if reduces else HALT
        elif self.state == "half_open":
            left = PROBE
        elif self.is_blocking:
            left = REDUCE_ONLY
        return min(left, self._left_unknown) if self.halted and self.state != "disabled" else left

    @property
    def _left_unknown(self) -> int:
        """What is written; else as a breach leaves it, and reduce_only where that only blocks."""
        blocks = self.policy.on_breach in ("block", "reduce")
        level = self.policy.on_unknown or ("reduce_only" if blocks else self.policy.level)
        return REDUCE_ONLY if level == "reduce_only" else HALT
