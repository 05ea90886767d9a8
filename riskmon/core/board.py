"""All breakers of an account: judging values, tripping, recovering, and the levels that follow.

The board knows nothing of events. It is told what a limit measured and what an operator wants; it
moves breakers through :data:`riskmon.core.breaker.TRANSITIONS`, opens and ends incidents, and
keeps ``levels``, the permission that is left for each scope.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal
from zlib import crc32

from msgspec import Struct, field

from riskmon.core.bounds import Bounds, BoundsState
from riskmon.core.breaker import SHUT, Breaker, Cause
from riskmon.core.cancels import Cancels
from riskmon.core.config import EngineConfig
from riskmon.core.decisions import (
    ALLOW,
    Blame,
    BreakerState,
    Decision,
    Record,
    Transition,
    Unknown,
    Warned,
)
from riskmon.core.limits import LIMITS
from riskmon.core.limits.policy import Policy, Recovery
from riskmon.core.limits.verdict import Verdict
from riskmon.core.periods import Calendar

LOOK_NS = 10**9  # how often a tripped window is looked at that closes as soon as it is clear
PERIOD_LEAST_NS = 3_600 * 10**9  # `recover = "period"`: no sooner after the trip

_PROBE_FAILED = "a probe failed: "
MANUAL = "manual"
UNCLEAN_START = "unclean_start"
STOP = "stop"
# Breakers that no configuration names: an operator's own, that of a start after a kill, and that
# of an orderly stop with `on_stop = "cancel"`. The last two close when their cancel is confirmed.
PSEUDO: dict[str, Policy] = {
    MANUAL: Policy(recover="operator"),
    UNCLEAN_START: Policy(recover="clear"),
    STOP: Policy(recover="clear"),
}

_BLOCKS = ("block", "reduce")  # what `on_breach` says of a limit that holds its scope

Arm = Callable[[tuple[str, str, str], int], None]


@dataclass(frozen=True)
class Rule:
    """A configured limit: its name, the object that measures, its parameters.

    ``calm`` is the ratio of the bound below which a value says nothing new of a closed breaker.
    """

    name: str
    limit: Any
    params: Any
    must_know: bool  # whether its scope halts while it is unknown
    floor: bool  # whether the bound is a minimum
    calm: float
    notes: bool  # whether the limit wants to know of every order that is asked for


class BoardState(Struct):
    """Everything a board remembers."""

    epoch: str = "0"
    incidents_made: int = 0
    operations_made: int = 0
    generation: int = 0
    scopes: dict[str, int] = field(default_factory=dict)  # -> time of its first event, 0: none yet
    breakers: dict[str, dict[str, Breaker]] = field(default_factory=dict)  # limit -> scope
    freeze_total: dict[str, int] = field(
        default_factory=lambda: {"edge_collapse": 0, "manual": 0, "limit_violation": 0}
    )
    bounds: BoundsState = field(default_factory=BoundsState)


class Board:
    """The breakers of an account under a configuration."""

    def __init__(
        self,
        state: BoardState,
        config: EngineConfig,
        measures: dict[str, dict[str, Any]],
        cancels: Cancels,
        *,
        now_ns: int = 0,
        wall_ns: int = 0,
    ) -> None:
        self.state = state
        self.config = config
        self.cancels = cancels
        self.arm: Arm = cancels.arm
        self.emit: Callable[[Decision], None] = cancels.emit
        self.now_ns, self.wall_ns = now_ns, wall_ns
        self.grace_ns = int(config.portfolio.unknown_grace * 1e9)
        self.calendar = Calendar(config.portfolio.timezone, config.portfolio.day_start)
        self.rules = {
            limit.name: _rule(limit, measures) for limit in config.limits if limit.params.enabled
        }
        self.levels: dict[str, int] = {}
        self.levels_version = 0  # counts their changes
        self.by_scope: dict[str, list[Breaker]] = {}
        self.watching: dict[str, list[tuple[Rule, Breaker]]] = {}  # topic -> standing limits
        self.checking: dict[str, list[tuple[Rule, Breaker]]] = {}  # scope -> limits on orders
        self.spending: dict[str, list[tuple[Rule, Breaker]]] = {}  # … that permitted orders use up
        self.half_open = 0  # breakers that want probes
        self.bounds = Bounds(state.bounds, self.rules, config.portfolio.timezone)
        # Whose bound moved by itself, or who are back in force: to be judged before this instant
        # is over.
        self.rebound: dict[tuple[str, str], tuple[Rule, Breaker]] = {}
        self._index()

    def _index(self) -> None:
        state = self.state
        for limit, breakers in list(state.breakers.items()):
            for scope, breaker in list(breakers.items()):
                known = limit in PSEUDO or self._applies(limit, scope)
                if not known and breaker.state in ("closed", "disabled"):
                    del breakers[scope]
                    continue
                self._list(breaker)
                self.half_open += breaker.state == "half_open"
        for scope in state.scopes or {"account": 0}:
            self.register(scope, first=False)

    def _applies(self, limit: str, scope: str) -> bool:
        rule = self.rules.get(limit)
        return rule is not None and rule.params.per == scope.partition(":")[0]

    # -- scopes and bounds ------------------------------------------------------------------------

    def register(self, scope: str, *, first: bool = True) -> None:
        """Give a scope its level and its breakers; ``first``: because an event named it."""
        kind = scope.partition(":")[0]
        self.state.scopes.setdefault(scope, 0)
        if first and not self.state.scopes[scope]:
            self.state.scopes[scope] = self.now_ns
        for rule in self.rules.values():
            if rule.params.per == kind:
                self._watch(rule, scope)
        self.relevel(scope)

    def _watch(self, rule: Rule, scope: str) -> None:
        breaker = self.breaker(rule.name, scope)
        breaker.bound = self.bounds.of(rule, scope, self.wall_ns)
        breaker.blocking = breaker.blocking and rule.params.on_breach in _BLOCKS
        if hasattr(rule.limit, "size") or hasattr(rule.limit, "judge"):
            _enlist(self.checking, scope, rule, breaker)
        if hasattr(rule.limit, "spend"):
            _enlist(self.spending, scope, rule, breaker)
        if rule.limit.standing:
            for topic in rule.limit.topics(scope):
                _enlist(self.watching, topic, rule, breaker)
        else:
            rule.limit.register(scope, breaker.bound)

    def topics_of(self, scope: str) -> list[str]:
        """What the standing limits over a scope depend on."""
        return [
            topic
            for rule in self.rules.values()
            if rule.limit.standing and rule.params.per == scope.partition(":")[0]
            for topic in rule.limit.topics(scope)
        ]

    def breaker(self, limit: str, scope: str) -> Breaker:
        """The breaker of (limit, scope), made when first asked for."""
        breakers = self.state.breakers.setdefault(limit, {})
        breaker = breakers.get(scope)
        if breaker is None:
            breaker = breakers[scope] = Breaker(limit, scope)
            breaker.since_ns, breaker.since_wall_ns = self.now_ns, self.wall_ns
            self._list(breaker)
        return breaker

    def _list(self, breaker: Breaker) -> None:
        # In the order of their names: a restored board must number its changes as this one does.
        insort(self.by_scope.setdefault(breaker.scope, []), breaker, key=lambda b: b.limit)

    def date(self) -> None:
        """Date the breakers that were made before there was a time."""
        for breakers in self.state.breakers.values():
            for breaker in breakers.values():
                if not breaker.since_wall_ns:
                    breaker.since_ns, breaker.since_wall_ns = self.now_ns, self.wall_ns

    def rebind(self, rules: Iterable[Rule]) -> None:
        """Give the breakers of ``rules`` the bounds that hold now."""
        for rule in rules:
            for scope, breaker in self.state.breakers.get(rule.name, {}).items():
                bound = self.bounds.of(rule, scope, self.wall_ns)
                if bound == breaker.bound or not self._applies(rule.name, scope):
                    continue
                breaker.bound = bound
                self.rebound[rule.name, scope] = (rule, breaker)
                if not rule.limit.standing:
                    rule.limit.register(scope, bound)

    def _begin_probation(self, breaker: Breaker) -> None:
        probation = self.params(breaker).probation
        if probation is not None:
            key = f"{breaker.limit}|{breaker.scope}"
            until_ns = self.bounds.begin(key, probation, self.now_ns)
            self.arm(("probation", breaker.limit, breaker.scope), until_ns)
            self.rebind(self.bounds.sizes)

    def _end_probation(self, limit: str, scope: str) -> None:
        probations = self.state.bounds.probations
        last = probations.get(f"{limit}|{scope}")
        if last is not None and self.now_ns < last.until_ns:
            self.arm(("probation", limit, scope), last.until_ns)  # it was prolonged
        elif last is not None:
            del probations[f"{limit}|{scope}"]
            self.rebind(self.bounds.sizes)

    def _ask_again(self, breaker: Breaker) -> None:
        """Have a standing limit judged before this instant is over: no event may come to do so."""
        rule = self.rules.get(breaker.limit)
        if rule is not None and rule.limit.standing:
            self.rebound[breaker.limit, breaker.scope] = (rule, breaker)

    def params(self, breaker: Breaker) -> Policy:
        """The policy of a breaker; that of ``manual`` when its limit is gone."""
        rule = self.rules.get(breaker.limit)
        return rule.params if rule else PSEUDO.get(breaker.limit, PSEUDO[MANUAL])

    # -- levels -----------------------------------------------------------------------------------

    def relevel(self, scope: str) -> None:
        """Bring the level of a scope up to date; the account's is folded into every other."""
        own = min(
            (breaker.level(self.params(breaker).level) for breaker in self.by_scope.get(scope, ())),
            default=ALLOW,
        )
        level = own if scope == "account" else min(own, self.levels.get("account", ALLOW))
        if self.levels.get(scope) == level:
            return
        self.levels[scope] = level
        self.levels_version += 1
        if scope == "account":
            for other in self.state.scopes:
                if other != "account":
                    self.relevel(other)

    def blames(self, scopes: Iterable[str], below: int) -> list[Blame]:
        """The breakers that hold ``scopes`` under the level ``below``."""
        return [
            self.blame(breaker)
            for scope in scopes
            for breaker in self.by_scope.get(scope, ())
            if breaker.level(self.params(breaker).level) < below
        ]

    def blame(self, breaker: Breaker) -> Blame:
        """What a breaker stands for, in numbers."""
        value = self.value(breaker)
        return Blame(
            limit=breaker.limit,
            scope=breaker.scope,
            value=value,
            bound=breaker.bound,
            utilization=utilization(value, breaker.bound, self.is_floor(breaker)),
        )

    def value(self, breaker: Breaker) -> float | None:
        """What the limit measures now; None when it is unknown or there is none yet."""
        rule = self.rules.get(breaker.limit)
        if rule is None or rule.limit.standing:
            return breaker.value
        measured: float | None = rule.limit.value(breaker.scope, self.now_ns)
        return measured

    def is_floor(self, breaker: Breaker) -> bool:
        """Whether the bound is a minimum."""
        rule = self.rules.get(breaker.limit)
        return rule is not None and rule.floor

    # -- judging ----------------------------------------------------------------------------------

    def judge_sample(self, rule: Rule, verdict: Verdict) -> None:
        """A sampled limit has something to say."""
        breaker = self.state.breakers[rule.name][verdict.scope]
        self._warn(breaker, verdict.near)
        if breaker.state == "closed":
            self._count(rule, breaker, past=verdict.past, counts=verdict.counts)
        elif breaker.state == "open" and rule.params.recover == "clear":
            self.try_recover(breaker)
        elif verdict.probe is not None:
            self.probe(rule, verdict.scope, good=verdict.probe)

    def judge_standing(self, rule: Rule, breaker: Breaker, value: float | str | None) -> None:
        """A standing limit has a value, a reason (a text) why it is unknown, or nothing to measure
        (None): then it is clear."""
        if isinstance(value, str):
            self._lose_sight(rule, breaker, value)
            return
        bound, floor = breaker.bound or 0.0, rule.floor
        if value is not None and value < bound * rule.calm and _is_calm(breaker):
            breaker.value = value  # nearly always: none of what follows would change anything
            return
        self._regain_sight(breaker)
        breaker.value = value
        if value is None:
            self._clear(rule, breaker)
            return
        past = value < bound if floor else value > bound
        self._warn(breaker, (utilization(value, bound, floor) or 0.0) >= rule.params.warn)
        self._watch_clear(rule, breaker, value, bound, floor=floor)
        if breaker.state == "closed":
            self._count(rule, breaker, past=past, counts=past)
        elif breaker.state == "half_open":
            if past or self._is_clear(breaker, rule.params):
                self.probe(rule, breaker.scope, good=not past)
        elif breaker.state == "open":
            self.try_recover(breaker)

    def _clear(self, rule: Rule, breaker: Breaker) -> None:
        self._warn(breaker, near=False)
        if breaker.clear_since_ns is None:
            breaker.clear_since_ns = self.now_ns
        if breaker.state == "closed":
            self._count(rule, breaker, past=False, counts=False)
        elif breaker.state == "open":
            self.try_recover(breaker)
        else:
            self.probe(rule, breaker.scope, good=True)

    def _count(self, rule: Rule, breaker: Breaker, *, past: bool, counts: bool) -> None:
        """Count the evaluations past the bound in a row, and act on the last that is needed."""
        if not past:
            breaker.past = 0
            if breaker.blocking:
                breaker.blocking = False
                self.relevel(breaker.scope)
        elif counts:
            breaker.past += 1
            if breaker.past == rule.params.breaches or (
                breaker.past > rule.params.breaches and self._has_yet_to_act(rule, breaker)
            ):
                self._act(rule, breaker)
            elif breaker.past < rule.params.breaches and hasattr(rule.limit, "again_ns"):
                self.arm(("wake", rule.name, breaker.scope), self.now_ns + rule.limit.again_ns)

    def _has_yet_to_act(self, rule: Rule, breaker: Breaker) -> bool:
        """Whether a reload made the limit one that acts while it was past its bound already."""
        on_breach = rule.params.on_breach
        return on_breach in ("trip", "freeze") or (on_breach in _BLOCKS and not breaker.blocking)

    def _act(self, rule: Rule, breaker: Breaker) -> None:
        breaker.breaches_total += 1
        on_breach = rule.params.on_breach
        if on_breach in ("trip", "freeze"):
            value = self.value(breaker)
            reason = rule.limit.describe(breaker.scope, value, breaker.bound)
            cause: Cause = "breach" if on_breach == "trip" else "breach_freeze"
            self.shut(breaker, cause, reason, value=value)
        elif on_breach in _BLOCKS:
            breaker.blocking = True
            self.relevel(breaker.scope)

    def probe(self, rule: Rule, scope: str, *, good: bool) -> None:
        """A half-open breaker sees a sample: enough good ones close it, a bad one opens it."""
        breaker = self.state.breakers[rule.name].get(scope)
        if breaker is None or breaker.state != "half_open":
            return
        if not good:
            self.shut(
                breaker, "bad_probe", _PROBE_FAILED + breaker.reason.removeprefix(_PROBE_FAILED)
            )
            return
        breaker.good += 1
        if breaker.permits_ns:
            breaker.permits_ns.pop(0)
        recover = rule.params.recover
        if breaker.good >= (recover.probes if isinstance(recover, Recovery) else 1):
            self.loosen(breaker, "good_probes", f"{breaker.good} good probes")

    def _warn(self, breaker: Breaker, near: bool) -> None:
        if near == breaker.warned or (near and self.params(breaker).on_breach == "shadow"):
            return
        breaker.warned = near
        value = self.value(breaker)
        self.emit(
            Warned(
                limit=breaker.limit,
                scope=breaker.scope,
                active=near,
                utilization=utilization(value, breaker.bound, self.is_floor(breaker)) or 0.0,
                at_ns=self.wall_ns,
                value=value,
                bound=breaker.bound,
            )
        )

    # -- what is unknown --------------------------------------------------------------------------

    def _lose_sight(self, rule: Rule, breaker: Breaker, why: str) -> None:
        breaker.value = breaker.clear_since_ns = None
        breaker.unknown = why
        if not rule.must_know:
            breaker.unknown_since_ns = None
            if breaker.halted:  # until a reload it had to be provable
                self._set_halted(breaker, halted=False)
            return
        first_ns = self.state.scopes.get(breaker.scope, 0)
        if breaker.unknown_since_ns is None and first_ns:
            breaker.unknown_since_ns = self.now_ns
        if breaker.unknown_since_ns is not None and not breaker.halted:
            due_ns = breaker.unknown_since_ns + self.grace_ns
            if self.now_ns < due_ns:
                self.arm(("unknown", breaker.limit, breaker.scope), due_ns)
            else:
                self._set_halted(breaker, halted=True)

    def _regain_sight(self, breaker: Breaker) -> None:
        breaker.unknown = breaker.unknown_since_ns = None
        if breaker.halted:
            self._set_halted(breaker, halted=False)

    def _set_halted(self, breaker: Breaker, *, halted: bool) -> None:
        breaker.halted = halted
        self.state.generation += 1
        breaker.generation = self.state.generation
        self.relevel(breaker.scope)
        self.emit(
            Unknown(
                limit=breaker.limit,
                scope=breaker.scope,
                halted=halted,
                reason=breaker.unknown or "known again",
                generation=breaker.generation,
                at_ns=self.wall_ns,
            )
        )

    # -- tripping and recovering ------------------------------------------------------------------

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
        value, bound = self.value(breaker) if value is None else value, breaker.bound
        was_half_open = breaker.state == "half_open"
        closed_for_ns = self.now_ns - breaker.since_ns if breaker.state == "closed" else 0
        before = self._move(breaker, cause)
        if before is None:
            return False
        self.half_open -= was_half_open
        recover = self.params(breaker).recover
        if isinstance(recover, Recovery) and closed_for_ns >= recover.max * 1e9:
            breaker.trips_in_row = 0
        breaker.trips_in_row += 1
        breaker.trips_total += 1
        breaker.last_trip_wall_ns = self.wall_ns
        breaker.reason = reason
        if breaker.state == "frozen":
            self._count_freeze(breaker)
        if breaker.incident is not None:
            self.cancels.end(breaker.incident, f"{breaker.state} again", self.wall_ns)
        self._begin_incident(breaker, value, bound, by)
        if breaker.state == "open":
            self._wait(breaker, recover)
            self._look_whether_clear(breaker)
        self.relevel(breaker.scope)
        self._tell(breaker, before, value, bound, by)
        return True

    def _move(self, breaker: Breaker, cause: Cause) -> BreakerState | None:
        generation = self.state.generation + 1
        before = breaker.move(cause, generation, self.now_ns, self.wall_ns)
        if before is not None:
            self.state.generation = generation
        return before

    def _count_freeze(self, breaker: Breaker) -> None:
        rule = self.rules.get(breaker.limit)
        if breaker.limit == MANUAL or rule is None:
            why = "manual"
        else:
            why = "edge_collapse" if rule.limit.kind == "edge" else "limit_violation"
        self.state.freeze_total[why] += 1

    def _begin_incident(
        self, breaker: Breaker, value: float | None, bound: float | None, by: str | None
    ) -> None:
        self.state.incidents_made += 1
        breaker.incident = f"inc_{self.state.epoch}_{self.state.incidents_made}"
        params = self.params(breaker)
        record = Record(
            id=breaker.incident,
            kind="freeze" if breaker.state == "frozen" else "trip",
            at_ns=self.wall_ns,
            scope=breaker.scope,
            limit=breaker.limit,
            generation=breaker.generation,
            reason=breaker.reason,
            value=value,
            bound=bound,
            by=by,
        )
        self.cancels.begin(
            record, cancels=params.cancels, flatten=params.flatten, now_ns=self.now_ns
        )

    def _wait(self, breaker: Breaker, recover: str | Recovery) -> None:
        """Set the end of an open breaker's wait, if its recovery has one."""
        if isinstance(recover, Recovery):
            seconds = recover.seconds(breaker.trips_in_row)
            # The jitter comes from the incident's id, so that a replay waits as long.
            chance = crc32((breaker.incident or "").encode()) / 2**32
            seconds = min(recover.max, seconds * (1 + recover.jitter * chance))
            breaker.until_ns = self.now_ns + int(seconds * 1e9)
            self.arm(("wait", breaker.limit, breaker.scope), breaker.until_ns)
        elif recover == "period":
            self._wait_for_period(breaker)

    def _wait_for_period(self, breaker: Breaker) -> None:
        """Until the period's end (the day's, for a limit that has none); hours have no end."""
        rule = self.rules.get(breaker.limit)
        period = getattr(rule.limit, "period", "day") if rule else "day"
        if period not in ("day", "week"):
            return
        _, ends_wall_ns = self.calendar.span(period, self.wall_ns)
        end_ns = self.now_ns + ends_wall_ns - self.wall_ns
        # What was lost minutes before the period's end is not forgiven by it.
        breaker.until_ns = max(end_ns, self.now_ns + PERIOD_LEAST_NS)
        self.arm(("wait", breaker.limit, breaker.scope), breaker.until_ns)

    def _watch_clear(
        self, rule: Rule, breaker: Breaker, value: float, bound: float, *, floor: bool
    ) -> None:
        """Remember since when a standing value is clear of its bound."""
        clear_at = bound / rule.params.clear if floor else bound * rule.params.clear
        if not (value > clear_at if floor else value < clear_at):
            breaker.clear_since_ns = None
        elif breaker.clear_since_ns is None:
            breaker.clear_since_ns = self.now_ns

    def _look_whether_clear(self, breaker: Breaker) -> None:
        """An order or an operator may trip what is clear: no value will say so again."""
        rule = self.rules.get(breaker.limit)
        if rule is None or breaker.unknown is not None:
            return
        if not rule.limit.standing:
            self._look_again(breaker, rule.params)
            return
        if breaker.value is None:
            breaker.clear_since_ns = self.now_ns
        else:
            bound, floor = breaker.bound or 0.0, self.is_floor(breaker)
            self._watch_clear(rule, breaker, breaker.value, bound, floor=floor)
        if breaker.clear_since_ns is not None and breaker.until_ns is None:
            due_ns = self.now_ns + int(rule.params.hold * 1e9)
            self.arm(("wait", breaker.limit, breaker.scope), due_ns)

    def _look_again(self, breaker: Breaker, params: Policy) -> None:
        """What windows hold may clear without an event that says so."""
        if params.recover == "clear":
            self.arm(("wait", breaker.limit, breaker.scope), self.now_ns + LOOK_NS)

    def try_recover(self, breaker: Breaker) -> None:
        """Loosen an open breaker by itself if all that its recovery asks for is there."""
        params = self.params(breaker)
        if breaker.state != "open" or params.recover == "operator":
            return
        if not self.cancels.is_confirmed(breaker.incident):
            return
        if breaker.until_ns is not None and self.now_ns < breaker.until_ns:
            return
        if not self._is_clear(breaker, params):
            if breaker.clear_since_ns is not None:
                due_ns = breaker.clear_since_ns + int(params.hold * 1e9)
                self.arm(("wait", breaker.limit, breaker.scope), due_ns)
            elif breaker.limit in self.rules and not self.rules[breaker.limit].limit.standing:
                self._look_again(breaker, params)
            return
        if isinstance(params.recover, Recovery) and params.recover.probes:
            self.loosen(breaker, "wait_over", "the wait is over: probing")
        else:
            self.loosen(breaker, "recovered", "recovered")

    def _is_clear(self, breaker: Breaker, params: Policy) -> bool:
        rule = self.rules.get(breaker.limit)
        if rule is None:
            return breaker.limit in (UNCLEAN_START, STOP)
        if rule.limit.standing:
            since_ns = breaker.clear_since_ns
            return since_ns is not None and self.now_ns - since_ns >= int(params.hold * 1e9)
        if params.recover != "clear":
            return True
        value = self.value(breaker)
        return value is None or value < (breaker.bound or 0.0) * params.clear

    def loosen(self, breaker: Breaker, cause: Cause, reason: str, by: str | None = None) -> bool:
        """Leave ``open``, ``half_open``, ``frozen`` or ``disabled``."""
        was_half_open = breaker.state == "half_open"
        before = self._move(breaker, cause)
        if before is None:
            return False
        self.half_open += (breaker.state == "half_open") - was_half_open
        if before in SHUT or was_half_open:
            self._forget(breaker)
        if breaker.state == "closed":
            if breaker.incident is not None:
                self.cancels.end(breaker.incident, by or reason, self.wall_ns)
                breaker.incident = None
            if before == "frozen" or cause == "reset":
                breaker.trips_in_row = 0
            self._ask_again(breaker)
        self._tell(breaker, before, None, breaker.bound, by, reason=reason)
        breaker.reason = "" if breaker.state == "closed" else breaker.reason
        if cause == "good_probes":
            self._begin_probation(breaker)
        self.relevel(breaker.scope)
        self._drop_if_gone(breaker)
        return True

    def _forget(self, breaker: Breaker) -> None:
        """Old samples would trip it again at once."""
        rule = self.rules.get(breaker.limit)
        if rule is not None and not rule.limit.standing:
            rule.limit.forget(breaker.scope)
            self._warn(breaker, near=False)

    def _drop_if_gone(self, breaker: Breaker) -> None:
        """A breaker whose limit was removed lives until it is reset."""
        if breaker.state != "closed" or breaker.limit in self.rules or breaker.limit in PSEUDO:
            return
        del self.state.breakers[breaker.limit][breaker.scope]
        self.by_scope[breaker.scope].remove(breaker)

    def disable(self, breaker: Breaker, seconds: float, by: str) -> bool:
        """Take a closed breaker out of service for a while, or a disabled one for another."""
        before = self._move(breaker, "disable")
        if before is None:
            return False
        breaker.until_ns = self.now_ns + int(seconds * 1e9)
        self.arm(("wait", breaker.limit, breaker.scope), breaker.until_ns)
        self._tell(
            breaker, before, None, breaker.bound, by, reason=f"out of service for {seconds:g} s"
        )
        self.relevel(breaker.scope)
        return True

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
                at_ns=self.wall_ns,
                incident=breaker.incident,
                value=value,
                bound=bound,
                by=by,
            )
        )

    # -- time and confirmation --------------------------------------------------------------------

    def on_timer(self, what: Literal["wait", "unknown"] | str, limit: str, scope: str) -> None:
        """A wait, a grace or a probation is over."""
        if what == "probation":
            self._end_probation(limit, scope)
            return
        breaker = self.state.breakers.get(limit, {}).get(scope)
        if breaker is None:
            return
        if what == "unknown":
            if breaker.unknown is not None:
                self._ask_again(breaker)
        elif breaker.until_ns is not None and self.now_ns < breaker.until_ns:
            self.arm(("wait", limit, scope), breaker.until_ns)  # a timer may be of an earlier wait
        elif breaker.state == "open":
            self.try_recover(breaker)
        elif breaker.state == "disabled":
            self.loosen(breaker, "leave_over", "the time out of service ended")

    def on_confirmed(self, incident: str) -> None:
        """A cancel is confirmed: what waited for it may go on."""
        for breakers in list(self.state.breakers.values()):
            for breaker in list(breakers.values()):
                if breaker.incident == incident:
                    self.try_recover(breaker)


def _rule(limit: Any, measures: dict[str, dict[str, Any]]) -> Rule:
    kind = LIMITS[limit.kind]
    if kind.standing:
        measure = kind(limit.params)
    else:
        measure = kind(limit.params, measures.setdefault(limit.name, {}))
    params, floor = limit.params, hasattr(limit.params, "min")
    acts = params.on_breach not in ("shadow", "warn")
    return Rule(
        name=limit.name,
        limit=measure,
        params=params,
        must_know=limit.written and acts and params.on_unknown != "ignore",
        floor=floor,
        # A little less than the ratio, so that rounding is never on the calm side.
        calm=-1.0 if floor else min(params.warn, params.clear) * (1 - 1e-9),
        notes=hasattr(kind, "note"),
    )


def _enlist(
    lists: dict[str, list[tuple[Rule, Breaker]]], key: str, rule: Rule, breaker: Breaker
) -> None:
    enlisted = lists.setdefault(key, [])
    if all(listed is not breaker for _, listed in enlisted):
        enlisted.append((rule, breaker))


def _is_calm(breaker: Breaker) -> bool:
    return (
        breaker.state == "closed"
        and not breaker.past
        and not breaker.warned
        and breaker.unknown is None
        and breaker.clear_since_ns is not None
    )


def utilization(value: float | None, bound: float | None, floor: bool = False) -> float | None:
    """value / bound (for a floor bound / value, 10 when the value is <= 0), within 0 and 10."""
    if value is None or not bound:
        return None
    if floor:
        return 10.0 if value <= 0 else min(10.0, max(0.0, bound / value))
    return min(10.0, max(0.0, value / bound))
