"""All breakers of an account, by what they depend on, and the levels that follow from them.

A scope that is registered gets a breaker of each limit over its kind of scope. The board hands them
what they share (:class:`~riskmon.core.breakers.breaker.Account`), moves their bounds, and keeps
``levels``, the permission left for each scope.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator

import msgspec

from riskmon.core.book.calendar import Calendar
from riskmon.core.book.instruments import instrument
from riskmon.core.breakers import due
from riskmon.core.breakers.bounds import Bounds
from riskmon.core.breakers.breaker import Breaker
from riskmon.core.breakers.cancels import Cancels
from riskmon.core.breakers.observers import Observers
from riskmon.core.breakers.rules import WITHOUT_LIMIT, Rule, removed, rule_of
from riskmon.core.breakers.state import BoardState, BreakerState
from riskmon.core.breakers.transitions import Cause
from riskmon.core.clock import Clock
from riskmon.core.config import EngineConfig
from riskmon.core.decisions import ALLOW, Decision, StateName, Violation
from riskmon.core.limits.facts import Facts
from riskmon.core.limits.limit import Limit, OrderLimit, SampleLimit, SizeLimit, StateLimit
from riskmon.core.scopes import ACCOUNT, Scope, ScopeKind, asset_scope, kind_of, name_of
from riskmon.core.timers import Timer, TimerHandler, TimerKey, Timers
from riskmon.core.topics import Topic

# What each limit keeps of each scope's samples or orders, encoded.
Measures = dict[str, dict[Scope, msgspec.Raw]]


NO_LEVEL = -1  # of a scope that is just registered: it changes to any level


class Board:
    """The breakers of an account under a configuration."""

    def __init__(
        self,
        state: BoardState,
        config: EngineConfig,
        *,
        measures: Measures,
        timers: Timers,
        cancels: Cancels,
        emit: Callable[[Decision], None],
        clock: Clock,
    ) -> None:
        self.state = state
        self.timers, self.cancels = timers, cancels
        self.emit = emit
        self.clock = clock
        self.grace_ns = int(config.portfolio.unknown_grace * 1e9)
        self.calendar = Calendar(config.portfolio.timezone, config.portfolio.day_start)
        self.rules = {limit.name: rule_of(limit) for limit in config.limits if limit.params.enabled}
        self._rules_per: dict[ScopeKind, list[Rule]] = {}  # kind of scope -> the rules over each
        for rule in self.rules.values():
            self._rules_per.setdefault(rule.params.per, []).append(rule)
        self._bounds = Bounds(state.bounds, self.rules.values(), config.portfolio.timezone)
        self._measures = measures  # of the limits that are not made yet, or disabled
        self._levels: dict[str, int] = {}  # by scope
        self._levels_version = 0
        self._reference = config.portfolio.reference
        # The reference and pegged assets are no positions: no limit on sizes is over them.
        self._cash = {asset_scope(one) for one in (self._reference, *config.portfolio.pegs)}
        self._symbols_of: dict[Scope, dict[Scope, None]] = {}  # asset -> the symbols of that base
        self.stale_levels: dict[Scope, None] = {}
        self._breakers: dict[tuple[str, Scope], Breaker[Limit]] = {}  # by limit and scope
        self.by_scope: dict[Scope, list[Breaker[Limit]]] = {}
        self.half_open: dict[Breaker[Limit], None] = {}
        self.observers = Observers()
        self.watching: dict[Topic, dict[Breaker[StateLimit], None]] = {}
        self.sizing: dict[Scope, list[Breaker[SizeLimit]]] = {}
        self.ordering: dict[Scope, list[Breaker[OrderLimit]]] = {}
        self.counting: dict[Scope, list[Breaker[OrderLimit]]] = {}  # those that keep a measure
        # To be evaluated in this instant, because the bound moved, the breaker is back in force, or
        # the value lasts; false: which does not count as a breach.
        self.rechecks: dict[Breaker[Limit], bool] = {}
        self._restore()

    def _restore(self) -> None:
        """Make the breakers that are kept; one that is closed is dropped with its limit."""
        for name, states in self.state.breakers.items():
            for scope, state in list(states.items()):
                rule = self.rules.get(name)
                if rule is not None and self._is_over(rule, scope):
                    continue  # it is made with its scope
                if name in WITHOUT_LIMIT:
                    self._add(WITHOUT_LIMIT[name], state)
                elif state.state in ("closed", "disabled"):
                    del states[scope]
                else:
                    self._add(removed(name), state)
        for scope in self.state.scopes or {ACCOUNT: 0}:
            self.register(scope, first=False)

    # -- breakers and scopes ----------------------------------------------------------------------

    def __iter__(self) -> Iterator[Breaker[Limit]]:
        """All breakers, those of a limit together."""
        for name, states in self.state.breakers.items():
            for scope in states:
                yield self._breakers[name, scope]

    def find(self, limit: str, scope: Scope) -> Breaker[Limit] | None:
        """The breaker of a limit over a scope, if there is one."""
        return self._breakers.get((limit, scope))

    def without_limit(self, name: str, scope: Scope) -> Breaker[Limit]:
        """The breaker of a cause that no limit finds, made when it is first needed."""
        return self.find(name, scope) or self._make(WITHOUT_LIMIT[name], scope)

    def register(self, scope: Scope, *, first: bool = True) -> list[Topic]:
        """Give a scope its level and its breakers; ``first``: because an event named it.

        The topics that the state limits over it depend on.
        """
        self.state.scopes.setdefault(scope, 0)
        if first and not self.state.scopes[scope]:
            self.state.scopes[scope] = self.clock.instant.now_ns
        self.observers.register(scope)
        asset = self.asset_of(scope)
        if asset is not None:
            self._symbols_of.setdefault(asset, {})[scope] = None
        topics: list[Topic] = []
        for rule in self._rules_per.get(kind_of(scope), ()):
            if not self._is_over(rule, scope):
                continue
            breaker = self.find(rule.name, scope) or self._make(rule, scope)
            if isinstance(breaker.limit, StateLimit):
                topics += breaker.limit.topics
        self._levels.setdefault(scope, NO_LEVEL)  # in the order of the scopes
        self.stale_levels[scope] = None
        return topics

    def _is_over(self, rule: Rule, scope: Scope) -> bool:
        """Whether a limit has a breaker over a scope."""
        return rule.params.per == kind_of(scope) and not (rule.is_size and scope in self._cash)

    def _make(self, rule: Rule, scope: Scope) -> Breaker[Limit]:
        states = self.state.breakers.setdefault(rule.name, {})
        state = states.get(scope)
        if state is None:
            state = states[scope] = BreakerState(rule.name, scope)
            state.since_ns, state.since_wall_ns = self.clock.instant
        return self._add(rule, state)

    def _add(self, rule: Rule, state: BreakerState) -> Breaker[Limit]:
        """Make a breaker and enter it where it is found."""
        scope, measure = state.scope, None
        if rule.measures is not None:
            state.bound = self._bounds.of(rule, scope, self.clock.instant.wall_ns)
            state.blocking = state.blocking and rule.holds
            measure = self._measures.get(rule.name, {}).pop(scope, None)
        breaker = self._breaker(rule, rule.limit(scope, state.bound or 0.0, measure), state)
        self._breakers[rule.name, scope] = breaker
        # In the order of their names: a restored board must number its changes as this one does.
        insort(self.by_scope.setdefault(scope, []), breaker, key=lambda one: one.rule.name)
        if state.state == "half_open":
            self.half_open[breaker] = None
        return breaker

    def _breaker(self, rule: Rule, limit: Limit, state: BreakerState) -> Breaker[Limit]:
        """The breaker, entered among those that its limit's inputs concern."""
        if isinstance(limit, SampleLimit):
            observing = Breaker(rule, limit, state, self)
            self.observers.add(observing)
            return observing
        if isinstance(limit, OrderLimit):
            ordering = Breaker(rule, limit, state, self)
            self.ordering.setdefault(state.scope, []).append(ordering)
            if limit.Measure is not None:
                self.counting.setdefault(state.scope, []).append(ordering)
            return ordering
        if isinstance(limit, SizeLimit):
            sizing = Breaker(rule, limit, state, self)
            self.sizing.setdefault(state.scope, []).append(sizing)
            self._watch(sizing)
            return sizing
        if isinstance(limit, StateLimit):
            watching = Breaker(rule, limit, state, self)
            self._watch(watching)
            return watching
        return Breaker(rule, limit, state, self)

    def _watch(self, breaker: Breaker[StateLimit]) -> None:
        for topic in breaker.limit.topics:
            self.watching.setdefault(topic, {})[breaker] = None

    def date(self) -> None:
        """Date the breakers that were made before there was a time."""
        for breaker in self:
            if not breaker.state.since_wall_ns:
                breaker.state.since_ns, breaker.state.since_wall_ns = self.clock.instant

    def measures(self) -> Measures:
        """What the limits keep of their samples, disabled ones too, for a snapshot."""
        kept = {name: dict(scopes) for name, scopes in self._measures.items() if scopes}
        for breaker in self:
            limit = breaker.limit
            if isinstance(limit, (SampleLimit, OrderLimit)) and limit.measure is not None:
                raw = msgspec.Raw(msgspec.msgpack.encode(limit.measure))
                kept.setdefault(breaker.rule.name, {})[breaker.state.scope] = raw
        return kept

    # -- evaluation -------------------------------------------------------------------------------

    def take_rechecks(self) -> dict[Breaker[Limit], bool]:
        """Those to be evaluated before the instant is over, and whether that counts as a breach."""
        rechecks, self.rechecks = self.rechecks, {}
        return rechecks

    def pause_rows(self, known_ns: int) -> None:
        """Riskmon starts, and no value was known after ``known_ns``."""
        for breaker in self:
            if breaker.state.past_since_ns is not None:
                breaker.state.pause_row(known_ns)
                breaker.state.past_since_ns = self.clock.instant.now_ns

    def watch_lasting(self) -> None:
        """After a reload: evaluate the breakers that wait for ``for``, which may be another."""
        for breaker in self:
            due.on_lasting(breaker)

    def timer_handlers(self, facts: Facts) -> dict[Timer, TimerHandler]:
        """What is done when a timer of a breaker, of a probation or of the schedule is due."""
        return {
            Timer.SCHEDULE: lambda key: self._arm_schedule(),
            Timer.PROBATION: self._end_probation,
            Timer.GRACE: self._of_breaker(due.on_grace),
            Timer.RECHECK: self._of_breaker(due.on_recheck),
            Timer.RECOVERY: self._of_breaker(due.on_recovery),
            Timer.CHANGE: self._of_breaker(lambda breaker: due.on_change(breaker, facts)),
            Timer.LASTING: self._of_breaker(due.on_lasting),
        }

    def _of_breaker(self, act: Callable[[Breaker[Limit]], None]) -> TimerHandler:
        """The handler that acts on the breaker of a timer; none may be left."""

        def handler(key: TimerKey) -> None:
            breaker = self.find(key.name, key.scope)
            if breaker is not None:
                act(breaker)

        return handler

    def on_confirmed(self, incident: str) -> None:
        """A cancel is confirmed: recover the breakers that waited for it."""
        for breaker in list(self):
            if breaker.state.incident == incident:
                breaker.recover()

    # -- bounds -----------------------------------------------------------------------------------

    def follow_date(self) -> None:
        """Move the bounds that the time of day changes, if the date has left their time."""
        if self._bounds.is_due(self.clock.instant.wall_ns):
            self.reschedule()

    def reschedule(self) -> None:
        """Set the bounds of this time of day."""
        self._rebind(self._bounds.scheduled)
        self._bounds.move_on(self.clock.instant.wall_ns)
        self._arm_schedule()

    def _arm_schedule(self) -> None:
        if self._bounds.scheduled:
            now_ns, wall_ns = self.clock.instant
            wait_ns = max(1, self.state.bounds.until_wall_ns - wall_ns)
            self.timers.arm(TimerKey(Timer.SCHEDULE), now_ns + wait_ns)

    def _rebind(self, rules: Iterable[Rule]) -> None:
        for rule in rules:
            for scope in self.state.breakers.get(rule.name, {}):
                breaker = self._breakers[rule.name, scope]
                bound = self._bounds.of(rule, scope, self.clock.instant.wall_ns)
                if breaker.rule is rule and breaker.rebind(bound):
                    self.rechecks[breaker] = True

    def _begin_probation(self, breaker: Breaker[Limit]) -> None:
        probation = breaker.rule.params.probation
        if probation is not None:
            key = TimerKey(Timer.PROBATION, breaker.rule.name, breaker.state.scope)
            now_ns = self.clock.instant.now_ns
            self.timers.arm(key, self._bounds.begin_probation(key, probation, now_ns))
            self._rebind(rule for rule in self.rules.values() if rule.is_size)

    def _end_probation(self, key: TimerKey) -> None:
        due_ns = self._bounds.end_probation(key, self.clock.instant.now_ns)
        if due_ns is not None:
            self.timers.arm(key, due_ns)  # it was prolonged
        else:
            self._rebind(rule for rule in self.rules.values() if rule.is_size)

    def on_move(self, breaker: Breaker[Limit], before: StateName, cause: Cause) -> None:
        """A breaker changed its state."""
        state = breaker.state
        self.stale_levels[state.scope] = None
        if before == "half_open":
            del self.half_open[breaker]
        if state.state == "half_open":
            self.half_open[breaker] = None
        elif state.state == "frozen":
            self._count_freeze(breaker, cause)
        elif cause == "good_probes":
            self._begin_probation(breaker)
        if state.state == "closed" and breaker.rule.is_removed:
            del self._breakers[state.limit, state.scope]
            del self.state.breakers[state.limit][state.scope]
            self.by_scope[state.scope].remove(breaker)

    def _count_freeze(self, breaker: Breaker[Limit], cause: Cause) -> None:
        if cause == "freeze":  # an operator's
            why = "manual"
        else:
            why = "edge_collapse" if breaker.rule.kind == "edge" else "limit_violation"
        self.state.freeze_total[why] += 1

    # -- levels -----------------------------------------------------------------------------------

    @property
    def levels(self) -> dict[str, int]:
        """The level of each scope.

        The account's is folded into every other, and that of an asset into the symbols of that
        base.
        """
        stale, levels = self.stale_levels, self._levels
        if stale:
            self.stale_levels = {}
            if ACCOUNT in stale and self._relevel(ACCOUNT, ALLOW):
                stale = dict.fromkeys(self.state.scopes)
            account = levels.get(ACCOUNT, ALLOW)
            for scope in [scope for scope in stale if kind_of(scope) == "asset"]:
                if self._relevel(scope, account):
                    stale |= self._symbols_of.get(scope, {})
            for scope in stale:
                asset = self.asset_of(scope)
                if asset is not None:
                    self._relevel(scope, min(account, levels.get(asset, ALLOW)))
                elif scope != ACCOUNT:
                    self._relevel(scope, account)
        return levels

    def asset_of(self, scope: Scope) -> Scope | None:
        """The scope of a symbol's base, which need not be registered; None of another scope."""
        if kind_of(scope) != "symbol":
            return None
        return asset_scope(instrument(name_of(scope), self._reference).base)

    @property
    def levels_version(self) -> int:
        """A number that changes whenever ``levels`` do."""
        _ = self.levels
        return self._levels_version

    def _relevel(self, scope: Scope, at_most: int) -> bool:
        """Set the level of a scope; whether it changed."""
        level = min([at_most, *(breaker.level for breaker in self.by_scope.get(scope, ()))])
        if self._levels.get(scope) == level:
            return False
        self._levels[scope] = level
        self._levels_version += 1
        return True

    def over(self, scopes: Iterable[Scope]) -> Iterator[Breaker[Limit]]:
        """The breakers over ``scopes``, and over the assets whose level is folded into theirs."""
        for scope in self.folded(scopes):
            yield from self.by_scope.get(scope, ())

    def folded(self, scopes: Iterable[Scope]) -> Iterator[Scope]:
        """``scopes``, each symbol followed by the asset whose level is folded into its own."""
        for scope in scopes:
            yield scope
            asset = self.asset_of(scope)
            if asset is not None:
                yield asset

    def violations(self, scopes: Iterable[Scope], below: int) -> list[Violation]:
        """The breakers that hold ``scopes`` under the level ``below``."""
        return [breaker.violation() for breaker in self.over(scopes) if breaker.level < below]
