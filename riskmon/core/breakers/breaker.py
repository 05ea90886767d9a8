"""One limit over one scope: its evaluation, and the state machine that follows from it.

An evaluation is a value (:meth:`Breaker.evaluate`), the result of a sample
(:meth:`Breaker.observe`) or an order (:mod:`riskmon.core.checks`). Enough evaluations past the
bound in a row open the breaker, which begins an incident and the cancel of its orders. It closes as
its limit recovers, and never while that cancel is unconfirmed. A value that is unknown for the
grace holds the scope without a trip.

Every change of state goes through :data:`riskmon.core.breakers.transitions.TRANSITIONS`: it gets
the account's next generation and leaves a :class:`~riskmon.core.decisions.Transition`.
"""

from __future__ import annotations

from typing import Generic, Literal, Protocol, TypeGuard, TypeVar

from riskmon.core.book.calendar import Calendar
from riskmon.core.breakers.cancels import Cancels
from riskmon.core.breakers.messages import incident, transition, unknown_limit, violated, warned
from riskmon.core.breakers.recovery import level_left, wait_end_ns
from riskmon.core.breakers.rules import Rule
from riskmon.core.breakers.state import BoardState, BreakerState
from riskmon.core.breakers.transitions import TRANSITIONS, Cause
from riskmon.core.clock import Clock, Instant
from riskmon.core.decisions import Decision, StateName, Violation
from riskmon.core.limits.facts import Facts
from riskmon.core.limits.limit import Evaluation, Limit, OrderLimit, SampleLimit, StateLimit
from riskmon.core.limits.policy import Recovery
from riskmon.core.scopes import Scope
from riskmon.core.timers import Timer, TimerKey, Timers
from riskmon.core.unknown import Unknown

RECHECK_NS = 10**9  # how often an open window limit is evaluated that closes when it is clear
_PROBE_FAILED = "a probe failed: "

L_co = TypeVar("L_co", bound=Limit, covariant=True)


class Account(Protocol):
    """What a breaker shares with all others of its account."""

    clock: Clock
    grace_ns: int
    timers: Timers
    calendar: Calendar
    cancels: Cancels
    state: BoardState
    # To be evaluated before the instant is over; false: which does not count as a breach.
    rechecks: dict[Breaker[Limit], bool]
    stale_levels: dict[Scope, None]  # those whose level may have changed

    def emit(self, decision: Decision) -> None:
        """Add a decision to the step's outcome."""

    def on_move(self, breaker: Breaker[Limit], before: StateName, cause: Cause) -> None:
        """A breaker changed its state."""


class Breaker(Generic[L_co]):
    """One limit over one scope."""

    __slots__ = ("_calm", "_change", "account", "bound", "limit", "rule", "state")

    def __init__(self, rule: Rule, limit: L_co, state: BreakerState, account: Account) -> None:
        self.rule = rule
        self.limit = limit
        self.state = state
        self.bound = state.bound or 0.0  # of now
        self._calm = self.bound * rule.calm  # read at every evaluation
        self.account = account
        self._change = self._key(Timer.CHANGE)

    # -- what it shows ----------------------------------------------------------------------------

    @property
    def level(self) -> int:
        """What the breaker leaves of its scope's permission."""
        return level_left(self.rule, self.state)

    def value(self, now_ns: int | None = None) -> float | None:
        """The value, now or at ``now_ns``; None: unknown, there is none yet, or of an order."""
        if isinstance(self.limit, SampleLimit):
            return self.limit.value(self.instant.now_ns if now_ns is None else now_ns)
        # A reload may leave an order limit the state that a state limit of the same name had.
        return None if isinstance(self.limit, OrderLimit) else self.state.value

    @property
    def probes(self) -> int:
        """How many good samples close it when it is half-open."""
        recover = self.rule.params.recover
        return recover.probes if isinstance(recover, Recovery) else 1

    def violation(self) -> Violation:
        """The breaker in numbers."""
        value = self.value()
        return self.violated_by(value, self.limit.utilization(value, self.state.bound))

    def violated_by(self, value: float | None, utilization: float | None) -> Violation:
        """The breaker in numbers, with this value."""
        return violated(self.state, value, utilization)

    # -- evaluations ------------------------------------------------------------------------------

    def rebind(self, bound: float) -> bool:
        """Set the bound; whether it changed."""
        if bound == self.state.bound:
            return False
        self.state.bound = self.bound = bound
        self._calm = bound * self.rule.calm
        if isinstance(self.limit, SampleLimit):
            self.limit.rebind(bound)
        return True

    def evaluate(self: Breaker[StateLimit], facts: Facts, *, counts: bool = True) -> None:
        """Evaluate a state limit, and arm a timer for when its value changes by itself."""
        rechecks = self.account.rechecks
        if rechecks:
            rechecks.pop(self, None)  # this is the evaluation that was due
        value, state = self.limit.value(facts), self.state
        if (
            isinstance(value, float)
            and value < self._calm
            and state.state == "closed"
            and state.clear_since_ns is not None
            and not (state.past or state.warned)
            and state.unknown is None
        ):
            state.value = value  # nearly always: nothing else would change
        else:
            self._take(value, counts=counts)
        if self.rule.is_timed:
            self.arm_next_change(facts)

    def reevaluate(self, facts: Facts, *, counts: bool) -> None:
        """Evaluate though nothing that the limit reads changed.

        Its bound or its state did, or time passed, which alone does not count as a breach.
        """
        if is_state(self):
            self.account.timers.disarm(self._change)
            self.evaluate(facts, counts=counts)
        elif isinstance(self.limit, SampleLimit):
            limit, now_ns = self.limit, self.instant.now_ns
            self.observe(limit.evaluate(now_ns) if counts else limit.evaluate(now_ns, counts=False))

    def arm_next_change(self: Breaker[StateLimit], facts: Facts) -> None:
        """Set the timer for when the value changes by itself.

        An armed one stands: when it is due, it is armed again for the time that holds then.
        """
        timers, key = self.account.timers, self._change
        if key not in timers.armed_ns:
            due_ns = self.limit.next_change_ns(facts, self.bound)
            if due_ns is not None:
                timers.arm(key, due_ns)

    def _take(self: Breaker[StateLimit], value: float | Unknown | None, *, counts: bool) -> None:
        """Act on a value; None is clear."""
        if type(value) is Unknown:
            self._mark_unknown(value.text(self.instant.now_ns))
            return
        state, params = self.state, self.rule.params
        self._mark_known()
        state.value = value
        near = (self.limit.utilization(value, self.bound) or 0.0) >= params.warn
        self.warn(near=near)
        self._track_clear()
        past = value is not None and self.limit.is_past(value, self.bound)
        if state.state == "closed":
            self._count(past=past, counts=past and counts)
        elif state.state == "open":
            self.recover()
        elif state.state == "half_open" and (past or value is None or self.is_clear()):
            self.probe(good=not past)

    def observe(self, evaluation: Evaluation) -> None:
        """Act on the result of a sample."""
        self.warn(near=evaluation.near)
        if self.state.state == "closed":
            self._count(past=evaluation.past, counts=evaluation.counts)
        elif self.state.state == "open" and self.rule.params.recover == "clear":
            self.recover()
        elif evaluation.probe is not None:
            self.probe(good=evaluation.probe)

    def _count(self, *, past: bool, counts: bool) -> None:
        """Count the evaluations past the bound in a row; act once they are enough, for so long."""
        state, needed = self.state, self.rule.params.breaches
        if not past:
            state.end_row()
            if state.blocking:
                state.blocking = False
                self.account.stale_levels[state.scope] = None
            return
        if state.past_since_ns is None:
            state.past_since_ns = self.instant.now_ns
        if counts:
            state.past += 1
            if state.past == needed or (state.past > needed and self._has_yet_to_act()):
                state.waiting = True
            elif (
                state.past < needed
                and isinstance(self.limit, StateLimit)
                and self.limit.grows_with_time
            ):
                self.arm(Timer.CHANGE, self.instant.now_ns + RECHECK_NS)
        if self.rule.for_ns:
            self.arm_recheck()
        if state.waiting:
            self._act_if_long()

    def _act_if_long(self) -> None:
        """Act if the value has been past its bound for long enough; else evaluate it then."""
        state, now_ns = self.state, self.instant.now_ns
        left_ns = self.rule.for_ns - state.past_ns(now_ns)
        if left_ns > 0:
            self.arm(Timer.LASTING, now_ns + left_ns)
        else:
            state.waiting = False
            self._act()

    def _has_yet_to_act(self) -> bool:
        """Whether a reload made the limit one that acts while it was past its bound."""
        return self.rule.shuts or (self.rule.holds and not self.state.blocking)

    def _act(self) -> None:
        self.state.breaches_total += 1
        if self.rule.shuts:
            value = self.value()
            self.open(self.breach, self.limit.describe(value or 0.0, self.bound), value=value)
        elif self.rule.holds:
            self.state.blocking = True
            self.account.stale_levels[self.state.scope] = None
            self.arm_recheck()

    def exceed(self, value: float) -> None:
        """Count a checked order that would be past the bound; trip, unless something delays it.

        Each order that a limit on orders judges is an evaluation. The value of a limit on sizes
        does not pass its bound by an order that is refused, so none lasts for ``for``.
        """
        state = self.state
        state.breaches_total += 1
        if not self.rule.shuts or state.state not in ("closed", "half_open"):
            return
        if state.state == "closed":
            state.past += 1
            if isinstance(self.limit, OrderLimit) and state.past_since_ns is None:
                state.past_since_ns = self.instant.now_ns
            lasts = state.past_ns(self.instant.now_ns) >= self.rule.for_ns
            if state.past < self.rule.params.breaches or not lasts:
                return
        reason = "checked order: " + self.limit.describe(value, self.bound)
        self.open(self.breach, reason, value=value)

    @property
    def breach(self) -> Literal["breach", "breach_freeze"]:
        """The cause of a transition when the limit breaks."""
        return "breach_freeze" if self.rule.params.on_breach == "freeze" else "breach"

    def probe(self, *, good: bool) -> None:
        """Count a sample of a half-open breaker: enough good ones close it, a bad one opens it."""
        state = self.state
        if state.state != "half_open":
            return
        if not good:
            self.open("bad_probe", _PROBE_FAILED + state.reason.removeprefix(_PROBE_FAILED))
            return
        state.good += 1
        if state.permits_ns:
            state.permits_ns.pop(0)
        if state.good >= self.probes:
            self.close("good_probes", f"{state.good} good probes")

    def warn(self, *, near: bool) -> None:
        """Emit, once, that the value came near its bound or is clear of it again."""
        state = self.state
        if near == state.warned or (near and self.rule.params.on_breach == "shadow"):
            return
        state.warned = near
        value = self.value()
        utilization = self.limit.utilization(value, state.bound) or 0.0
        self.account.emit(warned(state, value, utilization, self.instant.wall_ns))

    # -- unknown values ---------------------------------------------------------------------------

    def _mark_unknown(self, reason: str) -> None:
        """Hold the scope when the value is unknown for the grace, if it must be known."""
        state, account = self.state, self.account
        state.value = state.clear_since_ns = None
        state.unknown = reason
        state.pause_row(self.instant.now_ns)
        if not self.rule.must_know:
            state.unknown_since_ns = None
            self._set_halted(halted=False)  # until a reload it had to be known
            return
        if state.unknown_since_ns is None and account.state.scopes.get(state.scope):
            state.unknown_since_ns = self.instant.now_ns
        if state.unknown_since_ns is None:
            return
        due_ns = state.unknown_since_ns + account.grace_ns
        if self.instant.now_ns >= due_ns:
            self._set_halted(halted=True)
        elif not state.halted:
            self.arm(Timer.GRACE, due_ns)

    def _mark_known(self) -> None:
        self.state.unknown = self.state.unknown_since_ns = None
        self._set_halted(halted=False)

    def _set_halted(self, *, halted: bool) -> None:
        state = self.state
        if halted == state.halted:
            return
        state.halted = halted
        state.generation = self.account.state.next_generation()
        self.account.stale_levels[state.scope] = None
        self.account.emit(unknown_limit(state, self.instant.wall_ns))

    # -- opening ----------------------------------------------------------------------------------

    def open(
        self, cause: Cause, reason: str, by: str | None = None, *, value: float | None = None
    ) -> bool:
        """Trip or freeze; False when the breaker is there already.

        ``value`` is that of the breach, if it differs from :meth:`value`.
        """
        state, account = self.state, self.account
        value = self.value() if value is None else value
        before = self._move(cause)
        if before is None:
            return False
        state.trips_in_row += 1
        state.trips_total += 1
        state.last_trip_wall_ns = self.instant.wall_ns
        state.reason = reason
        if state.incident is not None:
            account.cancels.end(state.incident, f"{state.state} again")
        self._begin_incident(value, by)
        if state.state == "open":
            until_ns = wait_end_ns(self.rule, self.limit, state, account.calendar, self.instant)
            if until_ns is not None:
                self._set_until(until_ns)
            self._check_clear()
        account.on_move(self, before, cause)
        self._emit(before, reason, by, value)
        return True

    def _move(self, cause: Cause) -> StateName | None:
        """Change the state by ``cause``; the state before, or None when it changes nothing."""
        state, account, recover = self.state, self.account, self.rule.params.recover
        before = state.state
        if (before, cause) not in TRANSITIONS:
            return None
        closed_ns = self.instant.now_ns - state.since_ns if before == "closed" else 0
        if isinstance(recover, Recovery) and closed_ns >= recover.max * 1e9:
            state.trips_in_row = 0  # waits start anew
        state.move(cause, account.state.next_generation(), self.instant)
        return before

    def _begin_incident(self, value: float | None, by: str | None) -> None:
        state, account, params = self.state, self.account, self.rule.params
        state.incident = account.state.next_incident_id()
        record = incident(self.rule, state, value, by, self.instant.wall_ns)
        account.cancels.begin(record, cancels=params.cancels, flatten=params.flatten)

    def _set_until(self, until_ns: int) -> None:
        self.state.until_ns = until_ns
        self.arm(Timer.RECOVERY, until_ns)

    # -- closing ----------------------------------------------------------------------------------

    def close(self, cause: Cause, reason: str, by: str | None = None) -> bool:
        """Leave ``open``, ``half_open``, ``frozen`` or ``disabled``; False if ``cause`` cannot."""
        state, account = self.state, self.account
        before = self._move(cause)
        if before is None:
            return False
        if before != "disabled":
            self.forget()
        if state.state == "closed":
            if state.incident is not None:
                account.cancels.end(state.incident, by or reason)
                state.incident = None
            if before == "frozen" or cause == "reset":
                state.trips_in_row = 0
            if isinstance(self.limit, StateLimit):
                account.rechecks[self] = True
        self._emit(before, reason, by)
        state.reason = "" if state.state == "closed" else state.reason
        account.on_move(self, before, cause)
        return True

    def disable(self, seconds: float, by: str) -> bool:
        """Take a closed breaker out of service for a while, or a disabled one for another."""
        before = self._move("disable")
        if before is None:
            return False
        self._set_until(self.instant.now_ns + int(seconds * 1e9))
        self._emit(before, f"out of service for {seconds:g} s", by)
        self.account.on_move(self, before, "disable")
        return True

    def forget(self) -> None:
        """Drop old samples, which would trip it again at once."""
        if isinstance(self.limit, (SampleLimit, OrderLimit)):
            self.limit.forget()
            self.warn(near=False)

    # -- recovery ---------------------------------------------------------------------------------

    def recover(self) -> None:
        """Leave ``open`` if all that the limit's recovery needs is there."""
        state, params, now_ns = self.state, self.rule.params, self.instant.now_ns
        if state.state != "open" or params.recover == "operator":
            return
        if not self.account.cancels.is_confirmed(state.incident):
            return
        if state.until_ns is not None and now_ns < state.until_ns:
            return
        if not self.is_clear():
            if state.clear_since_ns is not None:
                self.arm(Timer.RECOVERY, state.clear_since_ns + int(params.hold * 1e9))
            self.arm_recheck()
        elif isinstance(params.recover, Recovery) and params.recover.probes:
            self.close("wait_over", "the wait is over: probing")
        else:
            self.close("recovered", "recovered")

    def is_clear(self) -> bool:
        """Whether its cause is gone: a state limit's value is clear for ``hold`` seconds."""
        params = self.rule.params
        if isinstance(self.limit, StateLimit):
            since_ns = self.state.clear_since_ns
            return since_ns is not None and (
                self.instant.now_ns - since_ns >= int(params.hold * 1e9)
            )
        if params.recover != "clear":
            return True
        value = self.value()
        return value is None or self.limit.is_clear(value, self.bound, params.clear)

    def _track_clear(self) -> None:
        """Keep since when the value is clear of its bound; nothing to measure is clear."""
        state, ratio = self.state, self.rule.params.clear
        if state.value is not None and not self.limit.is_clear(state.value, self.bound, ratio):
            state.clear_since_ns = None
        elif state.clear_since_ns is None:
            state.clear_since_ns = self.instant.now_ns

    def _check_clear(self) -> None:
        """An order or an operator may trip what is clear: no evaluation would recover it."""
        self.arm_recheck()
        if not isinstance(self.limit, StateLimit) or self.state.unknown is not None:
            return
        self._track_clear()
        if self.state.clear_since_ns is not None and self.state.until_ns is None:
            self.arm(
                Timer.RECOVERY,
                self.instant.now_ns + int(self.rule.params.hold * 1e9),
            )

    def arm_recheck(self) -> None:
        """Evaluate again in a while what may clear with time, without a sample."""
        waits = self.ends_in_time or self.rule.params.recover == "clear"
        if waits and isinstance(self.limit, (SampleLimit, OrderLimit)):
            self.arm(Timer.RECHECK, self.instant.now_ns + RECHECK_NS)

    @property
    def ends_in_time(self) -> bool:
        """Whether something ends when the value is not past its bound any more."""
        lasting = self.rule.for_ns > 0 and self.state.past_since_ns is not None
        return self.state.blocking or lasting

    # -- timers and decisions ---------------------------------------------------------------------

    def _key(self, kind: Timer) -> TimerKey:
        return TimerKey(kind, self.rule.name, self.state.scope)

    @property
    def instant(self) -> Instant:
        """The time of the step."""
        return self.account.clock.instant

    def arm(self, kind: Timer, due_ns: int) -> None:
        """Set one of its timers."""
        self.account.timers.arm(self._key(kind), due_ns)

    def _emit(
        self, before: StateName, reason: str, by: str | None, value: float | None = None
    ) -> None:
        self.account.emit(
            transition(
                self.rule,
                self.state,
                before,
                reason=reason,
                by=by,
                value=value,
                at_ns=self.instant.wall_ns,
            )
        )


def is_state(breaker: Breaker[Limit]) -> TypeGuard[Breaker[StateLimit]]:
    """Whether a breaker is that of a state limit."""
    return isinstance(breaker.limit, StateLimit)
