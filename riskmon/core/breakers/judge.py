"""Judging: what a value, a sample, or not knowing means for its breaker."""

from __future__ import annotations

from riskmon.core.breakers.board import Board
from riskmon.core.breakers.breaker import Breaker, Cause
from riskmon.core.breakers.rules import Rule, utilization
from riskmon.core.breakers.transitions import Trips
from riskmon.core.decisions import UnknownLimit
from riskmon.core.limits.evaluation import Verdict
from riskmon.core.limits.policy import Recovery
from riskmon.core.unknown import Unknown

_PROBE_FAILED = "a probe failed: "


class Judge:
    """Judges by the limits of a board."""

    def __init__(self, board: Board, trips: Trips) -> None:
        self.board = board
        self.trips = trips

    # -- values and samples -----------------------------------------------------------------------

    def judge_sample(self, rule: Rule, verdict: Verdict) -> None:
        """A sampled limit has something to say."""
        breaker = self.board.state.breakers[rule.name][verdict.scope]
        self.trips.warn(breaker, verdict.near)
        if breaker.state == "closed":
            self._count(rule, breaker, past=verdict.past, counts=verdict.counts)
        elif breaker.state == "open" and rule.params.recover == "clear":
            self.trips.try_recover(breaker)
        elif verdict.probe is not None:
            self.probe(rule, verdict.scope, good=verdict.probe)

    def judge_standing(self, rule: Rule, breaker: Breaker, value: float | Unknown | None) -> None:
        """A standing limit has a value, is unknown, or has nothing to measure (None): then it is
        clear."""
        if isinstance(value, Unknown):
            self._lose_sight(rule, breaker, value.reason)
            return
        bound, floor = breaker.bound or 0.0, rule.floor
        if (
            value is not None
            and value < bound * rule.calm
            and breaker.state == "closed"
            and not (breaker.past or breaker.warned or breaker.unknown is not None)
            and breaker.clear_since_ns is not None
        ):
            breaker.value = value  # nearly always: none of what follows would change anything
            return
        self._regain_sight(breaker)
        breaker.value = value
        if value is None:
            self._clear(rule, breaker)
            return
        past = value < bound if floor else value > bound
        self.trips.warn(breaker, (utilization(value, bound, floor) or 0.0) >= rule.params.warn)
        self.trips.watch_clear(rule, breaker, value, bound, floor=floor)
        if breaker.state == "closed":
            self._count(rule, breaker, past=past, counts=past)
        elif breaker.state == "half_open":
            if past or self.trips.is_clear(breaker, rule.params):
                self.probe(rule, breaker.scope, good=not past)
        elif breaker.state == "open":
            self.trips.try_recover(breaker)

    def _clear(self, rule: Rule, breaker: Breaker) -> None:
        self.trips.warn(breaker, near=False)
        if breaker.clear_since_ns is None:
            breaker.clear_since_ns = self.board.now_ns
        if breaker.state == "closed":
            self._count(rule, breaker, past=False, counts=False)
        elif breaker.state == "open":
            self.trips.try_recover(breaker)
        else:
            self.probe(rule, breaker.scope, good=True)

    def _count(self, rule: Rule, breaker: Breaker, *, past: bool, counts: bool) -> None:
        """Count the evaluations past the bound in a row, and act on the last that is needed."""
        if not past:
            breaker.past = 0
            if breaker.blocking:
                breaker.blocking = False
                self.board.relevel(breaker.scope)
        elif counts:
            breaker.past += 1
            wanted = rule.params.breaches
            if breaker.past == wanted or (
                breaker.past > wanted and self._has_yet_to_act(rule, breaker)
            ):
                self._act(rule, breaker)
            elif breaker.past < wanted and hasattr(rule.limit, "again_ns"):
                key = ("wake", rule.name, breaker.scope)
                self.board.arm(key, self.board.now_ns + rule.limit.again_ns)

    def _has_yet_to_act(self, rule: Rule, breaker: Breaker) -> bool:
        """Whether a reload made the limit one that acts while it was past its bound already."""
        on_breach = rule.params.on_breach
        return on_breach in ("trip", "freeze") or (rule.holds and not breaker.blocking)

    def _act(self, rule: Rule, breaker: Breaker) -> None:
        breaker.breaches_total += 1
        on_breach = rule.params.on_breach
        if on_breach in ("trip", "freeze"):
            value = self.board.value(breaker)
            reason = rule.limit.describe(breaker.scope, value, breaker.bound)
            cause: Cause = "breach" if on_breach == "trip" else "breach_freeze"
            self.trips.shut(breaker, cause, reason, value=value)
        elif rule.holds:
            breaker.blocking = True
            self.board.relevel(breaker.scope)
            self.trips.look_again(breaker)

    def probe(self, rule: Rule, scope: str, *, good: bool) -> None:
        """A half-open breaker sees a sample: enough good ones close it, a bad one opens it."""
        breaker = self.board.state.breakers[rule.name].get(scope)
        if breaker is None or breaker.state != "half_open":
            return
        if not good:
            self.trips.shut(
                breaker, "bad_probe", _PROBE_FAILED + breaker.reason.removeprefix(_PROBE_FAILED)
            )
            return
        breaker.good += 1
        if breaker.permits_ns:
            breaker.permits_ns.pop(0)
        recover = rule.params.recover
        if breaker.good >= (recover.probes if isinstance(recover, Recovery) else 1):
            self.trips.loosen(breaker, "good_probes", f"{breaker.good} good probes")

    # -- what is unknown --------------------------------------------------------------------------

    def _lose_sight(self, rule: Rule, breaker: Breaker, why: str) -> None:
        breaker.value = breaker.clear_since_ns = None
        breaker.unknown = why
        if not rule.must_know:
            breaker.unknown_since_ns = None
            if breaker.halted:  # until a reload it had to be provable
                self._set_halted(breaker, halted=False)
            return
        first_ns = self.board.state.scopes.get(breaker.scope, 0)
        if breaker.unknown_since_ns is None and first_ns:
            breaker.unknown_since_ns = self.board.now_ns
        if breaker.unknown_since_ns is not None and not breaker.halted:
            due_ns = breaker.unknown_since_ns + self.board.grace_ns
            if self.board.now_ns < due_ns:
                self.board.arm(("unknown", breaker.limit, breaker.scope), due_ns)
            else:
                self._set_halted(breaker, halted=True)

    def _regain_sight(self, breaker: Breaker) -> None:
        breaker.unknown = breaker.unknown_since_ns = None
        if breaker.halted:
            self._set_halted(breaker, halted=False)

    def _set_halted(self, breaker: Breaker, *, halted: bool) -> None:
        breaker.halted = halted
        self.board.state.generation += 1
        breaker.generation = self.board.state.generation
        self.board.relevel(breaker.scope)
        self.trips.emit(
            UnknownLimit(
                limit=breaker.limit,
                scope=breaker.scope,
                halted=halted,
                reason=breaker.unknown or "known again",
                generation=breaker.generation,
                at_ns=self.board.wall_ns,
            )
        )
