"""Tripping and recovering: how breakers move, what an incident is, and when it may end.

Every change of a breaker's state is made here, through
:data:`riskmon.core.breakers.breaker.TRANSITIONS`: it gets the account's next generation, moves the
level of its scope, opens or ends an incident, and is told.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from riskmon.core.breakers.board import Arm, Board
from riskmon.core.breakers.breaker import SHUT, Breaker, Cause
from riskmon.core.breakers.cancels import Cancels
from riskmon.core.breakers.rules import PSEUDO, STOP, UNCLEAN_START, Rule, utilization
from riskmon.core.decisions import BreakerState, Decision, Record, Transition, Warned
from riskmon.core.limits.policy import Policy, Recovery

LOOK_NS = 10**9  # how often a tripped window is looked at that closes as soon as it is clear
PERIOD_LEAST_NS = 3_600 * 10**9  # `recover = "period"`: no sooner after the trip


class Trips:
    """Moves the breakers of a board."""

    def __init__(self, board: Board, cancels: Cancels) -> None:
        self.board = board
        self.cancels = cancels
        self.arm: Arm = board.arm
        self.emit: Callable[[Decision], None] = cancels.emit

    # -- tripping ---------------------------------------------------------------------------------

    def shut(
        self,
        breaker: Breaker,
        cause: Cause,
        reason: str,
        by: str | None = None,
        *,
        value: float | None = None,
    ) -> bool:
        """Trip or freeze; False when the breaker is there already.

        ``value`` spares measuring again what the caller has just measured.
        """
        value, bound = self.board.value(breaker) if value is None else value, breaker.bound
        was_half_open = breaker.state == "half_open"
        before = self._move(breaker, cause)
        if before is None:
            return False
        self.board.half_open -= was_half_open
        recover = self.board.params(breaker).recover
        breaker.trips_in_row += 1
        breaker.trips_total += 1
        breaker.last_trip_wall_ns = self.board.wall_ns
        breaker.reason = reason
        if breaker.state == "frozen":
            self._count_freeze(breaker, cause)
        if breaker.incident is not None:
            self.cancels.end(breaker.incident, f"{breaker.state} again", self.board.wall_ns)
        self._begin_incident(breaker, value, bound, by)
        if breaker.state == "open":
            self._wait(breaker, recover)
            self._look_whether_clear(breaker)
        self.board.relevel(breaker.scope)
        self._tell(breaker, before, value, bound, by)
        return True

    def _move(self, breaker: Breaker, cause: Cause) -> BreakerState | None:
        recover = self.board.params(breaker).recover
        if breaker.state == "closed" and isinstance(recover, Recovery):
            closed_ns = self.board.now_ns - breaker.since_ns
            if closed_ns >= recover.max * 1e9:  # waits start anew
                breaker.trips_in_row = 0
        generation = self.board.state.generation + 1
        before = breaker.move(cause, generation, self.board.now_ns, self.board.wall_ns)
        if before is not None:
            self.board.state.generation = generation
        return before

    def _count_freeze(self, breaker: Breaker, cause: Cause) -> None:
        rule = self.board.rules.get(breaker.limit)
        if cause == "freeze":  # an operator's
            why = "manual"
        else:
            is_edge = rule is not None and rule.limit.kind == "edge"
            why = "edge_collapse" if is_edge else "limit_violation"
        self.board.state.freeze_total[why] += 1

    def _begin_incident(
        self, breaker: Breaker, value: float | None, bound: float | None, by: str | None
    ) -> None:
        self.board.state.incidents_made += 1
        breaker.incident = f"inc_{self.board.state.epoch}_{self.board.state.incidents_made}"
        params = self.board.params(breaker)
        record = Record(
            id=breaker.incident,
            kind="freeze" if breaker.state == "frozen" else "trip",
            at_ns=self.board.wall_ns,
            scope=breaker.scope,
            limit=breaker.limit,
            generation=breaker.generation,
            reason=breaker.reason,
            value=value,
            bound=bound,
            by=by,
            category=self.board.category(breaker),
            recovers=self.board.recovers(breaker),
        )
        self.cancels.begin(
            record, cancels=params.cancels, flatten=params.flatten, now_ns=self.board.now_ns
        )

    def _wait(self, breaker: Breaker, recover: str | Recovery) -> None:
        """Set the end of an open breaker's wait, if its recovery has one."""
        if isinstance(recover, Recovery):
            seconds = recover.seconds(breaker.trips_in_row)
            # The jitter comes from the incident's id, so that a replay waits as long.
            chance = crc32((breaker.incident or "").encode()) / 2**32
            seconds = min(recover.max, seconds * (1 + recover.jitter * chance))
            breaker.until_ns = self.board.now_ns + int(seconds * 1e9)
            self._wake(breaker, breaker.until_ns)
        elif recover == "period":
            self._wait_for_period(breaker)

    def _wait_for_period(self, breaker: Breaker) -> None:
        """Until the period's end (the day's, for a limit that has none); hours have no end."""
        rule = self.board.rules.get(breaker.limit)
        period = getattr(rule.limit, "period", "day") if rule else "day"
        if period not in ("day", "week"):
            return
        _, ends_wall_ns = self.board.calendar.span(period, self.board.wall_ns)
        end_ns = self.board.now_ns + ends_wall_ns - self.board.wall_ns
        # What was lost minutes before the period's end is not forgiven by it.
        breaker.until_ns = max(end_ns, self.board.now_ns + PERIOD_LEAST_NS)
        self._wake(breaker, breaker.until_ns)

    # -- loosening --------------------------------------------------------------------------------

    def loosen(self, breaker: Breaker, cause: Cause, reason: str, by: str | None = None) -> bool:
        """Leave ``open``, ``half_open``, ``frozen`` or ``disabled``."""
        was_half_open = breaker.state == "half_open"
        before = self._move(breaker, cause)
        if before is None:
            return False
        self.board.half_open += (breaker.state == "half_open") - was_half_open
        if before in SHUT or was_half_open:
            self._forget(breaker)
        if breaker.state == "closed":
            if breaker.incident is not None:
                self.cancels.end(breaker.incident, by or reason, self.board.wall_ns)
                breaker.incident = None
            if before == "frozen" or cause == "reset":
                breaker.trips_in_row = 0
            self.board.ask_again(breaker)
        self._tell(breaker, before, None, breaker.bound, by, reason=reason)
        breaker.reason = "" if breaker.state == "closed" else breaker.reason
        if cause == "good_probes":
            self.board.begin_probation(breaker)
        self.board.relevel(breaker.scope)
        self._drop_if_gone(breaker)
        return True

    def disable(self, breaker: Breaker, seconds: float, by: str) -> bool:
        """Take a closed breaker out of service for a while, or a disabled one for another."""
        before = self._move(breaker, "disable")
        if before is None:
            return False
        breaker.until_ns = self.board.now_ns + int(seconds * 1e9)
        self._wake(breaker, breaker.until_ns)
        self._tell(
            breaker, before, None, breaker.bound, by, reason=f"out of service for {seconds:g} s"
        )
        self.board.relevel(breaker.scope)
        return True

    def _forget(self, breaker: Breaker) -> None:
        """Old samples would trip it again at once."""
        rule = self.board.rules.get(breaker.limit)
        if rule is not None and not rule.limit.standing:
            rule.limit.forget(breaker.scope)
            self.warn(breaker, near=False)

    def _drop_if_gone(self, breaker: Breaker) -> None:
        """A breaker whose limit was removed lives until it is reset."""
        known = breaker.limit in self.board.rules or breaker.limit in PSEUDO
        if breaker.state == "closed" and not known:
            del self.board.state.breakers[breaker.limit][breaker.scope]
            self.board.by_scope[breaker.scope].remove(breaker)

    # -- recovering by itself ---------------------------------------------------------------------

    def watch_clear(
        self, rule: Rule, breaker: Breaker, value: float, bound: float, *, floor: bool
    ) -> None:
        """Remember since when a standing value is clear of its bound."""
        clear_at = bound / rule.params.clear if floor else bound * rule.params.clear
        if not (value > clear_at if floor else value < clear_at):
            breaker.clear_since_ns = None
        elif breaker.clear_since_ns is None:
            breaker.clear_since_ns = self.board.now_ns

    def is_clear(self, breaker: Breaker, params: Policy) -> bool:
        """Whether nothing of its cause is left: a standing value for `hold` seconds."""
        rule = self.board.rules.get(breaker.limit)
        if rule is None:
            return breaker.limit in (UNCLEAN_START, STOP)
        if rule.limit.standing:
            since_ns = breaker.clear_since_ns
            return since_ns is not None and self.board.now_ns - since_ns >= int(params.hold * 1e9)
        if params.recover != "clear":
            return True
        value = self.board.value(breaker)
        return value is None or value < (breaker.bound or 0.0) * params.clear

    def try_recover(self, breaker: Breaker) -> None:
        """Loosen an open breaker by itself if all that its recovery asks for is there."""
        params = self.board.params(breaker)
        if breaker.state != "open" or params.recover == "operator":
            return
        if not self.cancels.is_confirmed(breaker.incident):
            return
        if breaker.until_ns is not None and self.board.now_ns < breaker.until_ns:
            return
        if not self.is_clear(breaker, params):
            if breaker.clear_since_ns is not None:
                self._wake(breaker, breaker.clear_since_ns + int(params.hold * 1e9))
            self.look_again(breaker)
            return
        if isinstance(params.recover, Recovery) and params.recover.probes:
            self.loosen(breaker, "wait_over", "the wait is over: probing")
        else:
            self.loosen(breaker, "recovered", "recovered")

    def _look_whether_clear(self, breaker: Breaker) -> None:
        """An order or an operator may trip what is clear: no value will say so again."""
        self.look_again(breaker)
        rule = self.board.rules.get(breaker.limit)
        if rule is None or not rule.limit.standing or breaker.unknown is not None:
            return
        if breaker.value is None:
            breaker.clear_since_ns = self.board.now_ns
        else:
            bound, floor = breaker.bound or 0.0, self.board.is_floor(breaker)
            self.watch_clear(rule, breaker, breaker.value, bound, floor=floor)
        if breaker.clear_since_ns is not None and breaker.until_ns is None:
            self._wake(breaker, self.board.now_ns + int(rule.params.hold * 1e9))

    def look_again(self, breaker: Breaker) -> None:
        """What a window holds may clear without an event that says so."""
        rule = self.board.rules.get(breaker.limit)
        if rule is None or rule.limit.standing:
            return
        if breaker.blocking or rule.params.recover == "clear":
            self.arm(("look", breaker.limit, breaker.scope), self.board.now_ns + LOOK_NS)

    def _look(self, breaker: Breaker) -> None:
        if breaker.blocking:
            self.board.ask_again(breaker)
            self.look_again(breaker)
        else:
            self.try_recover(breaker)

    def _wake(self, breaker: Breaker, due_ns: int) -> None:
        self.arm(("wait", breaker.limit, breaker.scope), due_ns)

    def on_confirmed(self, incident: str) -> None:
        """A cancel is confirmed: what waited for it may go on."""
        for breakers in list(self.board.state.breakers.values()):
            for breaker in list(breakers.values()):
                if breaker.incident == incident:
                    self.try_recover(breaker)

    def on_timer(self, what: str, limit: str, scope: str) -> None:
        """A wait, a grace or a probation is over."""
        if what == "probation":
            self.board.end_probation(limit, scope)
            return
        breaker = self.board.state.breakers.get(limit, {}).get(scope)
        if breaker is None:
            return
        if what == "unknown":
            if breaker.unknown is not None:
                self.board.ask_again(breaker)
        elif what == "look":
            self._look(breaker)
        elif breaker.until_ns is not None and self.board.now_ns < breaker.until_ns:
            self._wake(breaker, breaker.until_ns)  # a timer may be of an earlier wait
        elif breaker.state == "open":
            self.try_recover(breaker)
        elif breaker.state == "disabled":
            self.loosen(breaker, "leave_over", "the time out of service ended")

    # -- telling ----------------------------------------------------------------------------------

    def _tell(
        self,
        breaker: Breaker,
        before: BreakerState,
        value: float | None,
        bound: float | None,
        by: str | None,
        *,
        reason: str | None = None,
    ) -> None:
        self.emit(
            Transition(
                limit=breaker.limit,
                scope=breaker.scope,
                before=before,
                after=breaker.state,
                generation=breaker.generation,
                reason=reason or breaker.reason,
                at_ns=self.board.wall_ns,
                incident=breaker.incident,
                value=value,
                bound=bound,
                by=by,
                category=self.board.category(breaker),
                recovers=self.board.recovers(breaker),
            )
        )

    def warn(self, breaker: Breaker, near: bool) -> None:
        """Tell, once, that a value came near its bound or is clear of it again."""
        if near == breaker.warned or (near and self.board.params(breaker).on_breach == "shadow"):
            return
        breaker.warned = near
        value = self.board.value(breaker)
        self.emit(
            Warned(
                limit=breaker.limit,
                scope=breaker.scope,
                active=near,
                utilization=utilization(value, breaker.bound, self.board.is_floor(breaker)) or 0.0,
                at_ns=self.board.wall_ns,
                value=value,
                bound=breaker.bound,
            )
        )
