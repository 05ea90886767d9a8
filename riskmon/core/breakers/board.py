"""All breakers of an account, their bounds, and the levels that follow from them.

The board knows nothing of events. :mod:`riskmon.core.breakers.judge` tells breakers what was
measured and :mod:`riskmon.core.breakers.transitions` moves them; the board knows who they are,
which limit and which scope each belongs to, and keeps ``levels``, the permission left for each
scope.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct, field

from riskmon.core.book.calendar import Calendar
from riskmon.core.breakers.bounds import Bounds, BoundsState
from riskmon.core.breakers.breaker import Breaker
from riskmon.core.breakers.rules import CATEGORIES, MANUAL, PSEUDO, Rule, rule_of, utilization
from riskmon.core.config import EngineConfig
from riskmon.core.decisions import ALLOW, Recovers, Violation
from riskmon.core.limits.policy import Policy

Arm = Callable[[tuple[str, str, str], int], None]


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
        arm: Arm,
        *,
        now_ns: int = 0,
        wall_ns: int = 0,
    ) -> None:
        self.state = state
        self.config = config
        self.arm = arm
        self.now_ns, self.wall_ns = now_ns, wall_ns
        self.grace_ns = int(config.portfolio.unknown_grace * 1e9)
        self.calendar = Calendar(config.portfolio.timezone, config.portfolio.day_start)
        self.rules = {
            limit.name: rule_of(limit, measures) for limit in config.limits if limit.params.enabled
        }
        self._rules_per: dict[str, list[Rule]] = {}  # kind of scope -> the rules over each
        for rule in self.rules.values():
            self._rules_per.setdefault(rule.params.per, []).append(rule)
        self._levels: dict[str, int] = {}
        self._version = 0  # counts their changes
        self._folding = False  # whether the account's level changed and is not folded in yet
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

    def register(self, scope: str, *, first: bool = True) -> list[str]:
        """Give a scope its level and its breakers; ``first``: because an event named it.

        What the standing limits over it depend on.
        """
        kind = scope.partition(":")[0]
        self.state.scopes.setdefault(scope, 0)
        if first and not self.state.scopes[scope]:
            self.state.scopes[scope] = self.now_ns
        topics: list[str] = []
        for rule in self._rules_per.get(kind, ()):
            topics += self._watch(rule, scope)
        self.relevel(scope)
        return topics

    def _watch(self, rule: Rule, scope: str) -> Sequence[str]:
        """Begin to measure a scope by a rule; what it depends on, if it is a standing one."""
        breaker = self.breaker(rule.name, scope)
        breaker.bound = self.bounds.of(rule, scope, self.wall_ns)
        breaker.blocking = breaker.blocking and rule.holds
        if rule.judges:
            _enlist(self.checking, scope, rule, breaker)
        if rule.spends:
            _enlist(self.spending, scope, rule, breaker)
        if not rule.limit.standing:
            rule.limit.register(scope, breaker.bound)
            return ()
        topics: Sequence[str] = rule.limit.topics(scope)
        for topic in topics:
            _enlist(self.watching, topic, rule, breaker)
        return topics

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

    def begin_probation(self, breaker: Breaker) -> None:
        probation = self.params(breaker).probation
        if probation is not None:
            key = f"{breaker.limit}|{breaker.scope}"
            until_ns = self.bounds.begin(key, probation, self.now_ns)
            self.arm(("probation", breaker.limit, breaker.scope), until_ns)
            self.rebind(self.bounds.sizes)

    def end_probation(self, limit: str, scope: str) -> None:
        probations = self.state.bounds.probations
        last = probations.get(f"{limit}|{scope}")
        if last is not None and self.now_ns < last.until_ns:
            self.arm(("probation", limit, scope), last.until_ns)  # it was prolonged
        elif last is not None:
            del probations[f"{limit}|{scope}"]
            self.rebind(self.bounds.sizes)

    def ask_again(self, breaker: Breaker) -> None:
        """Have a limit judged before this instant is over: no event may come to do so."""
        rule = self.rules.get(breaker.limit)
        if rule is not None and (rule.limit.standing or breaker.blocking):
            self.rebound[breaker.limit, breaker.scope] = (rule, breaker)

    def params(self, breaker: Breaker) -> Policy:
        """The policy of a breaker; that of ``manual`` when its limit is gone."""
        rule = self.rules.get(breaker.limit)
        return rule.params if rule else PSEUDO.get(breaker.limit, PSEUDO[MANUAL])

    # -- levels -----------------------------------------------------------------------------------

    @property
    def levels(self) -> dict[str, int]:
        """The level of each scope; the account's is folded into every other."""
        if self._folding:
            self._folding = False
            for scope in self.state.scopes:
                if scope != "account":
                    self.relevel(scope)
        return self._levels

    @property
    def levels_version(self) -> int:
        """How often ``levels`` changed."""
        _ = self.levels
        return self._version

    def relevel(self, scope: str) -> None:
        """Bring the level of a scope up to date.

        The account's is folded into the others when ``levels`` is read: once for all its changes.
        """
        own = min(
            (breaker.level(self.params(breaker).level) for breaker in self.by_scope.get(scope, ())),
            default=ALLOW,
        )
        level = own if scope == "account" else min(own, self._levels.get("account", ALLOW))
        if self._levels.get(scope) == level:
            return
        self._levels[scope] = level
        self._version += 1
        self._folding = self._folding or scope == "account"

    def blames(self, scopes: Iterable[str], below: int) -> list[Violation]:
        """The breakers that hold ``scopes`` under the level ``below``."""
        return [
            self.blame(breaker)
            for scope in scopes
            for breaker in self.by_scope.get(scope, ())
            if breaker.level(self.params(breaker).level) < below
        ]

    def blame(self, breaker: Breaker) -> Violation:
        """What a breaker stands for, in numbers."""
        value = self.value(breaker)
        return Violation(
            limit=breaker.limit,
            scope=breaker.scope,
            value=value,
            bound=breaker.bound,
            utilization=utilization(value, breaker.bound, self.is_floor(breaker)),
        )

    def value(self, breaker: Breaker, now_ns: int = 0) -> float | None:
        """What the limit measures, now or at ``now_ns``; None: unknown, or there is none yet."""
        rule = self.rules.get(breaker.limit)
        if rule is None or rule.limit.standing:
            return breaker.value
        measured: float | None = rule.limit.value(breaker.scope, now_ns or self.now_ns)
        return measured

    def category(self, breaker: Breaker) -> str:
        """Where the cause of its trips lies: :mod:`riskmon.core.limits` has the words."""
        rule = self.rules.get(breaker.limit)
        return CATEGORIES.get(breaker.limit, "removed") if rule is None else rule.limit.category

    def recovers(self, breaker: Breaker) -> Recovers:
        """Who ends it when it has tripped."""
        known = breaker.limit in self.rules or breaker.limit in PSEUDO
        by_itself = known and self.params(breaker).recover != "operator"
        return "by itself" if by_itself and breaker.state != "frozen" else "by an operator"

    def is_floor(self, breaker: Breaker) -> bool:
        """Whether the bound is a minimum."""
        rule = self.rules.get(breaker.limit)
        return rule is not None and rule.floor


def _enlist(
    lists: dict[str, list[tuple[Rule, Breaker]]], key: str, rule: Rule, breaker: Breaker
) -> None:
    enlisted = lists.setdefault(key, [])
    if all(listed is not breaker for _, listed in enlisted):
        enlisted.append((rule, breaker))
