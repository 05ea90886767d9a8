"""All breakers of an account: how each changes its state, and the level that they leave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from riskmon.core.config import EngineConfig
from riskmon.core.limits.policy import Recovery
from tests.core.reference import samples
from tests.core.reference.incidents import Incident
from tests.core.reference.life import ALLOW, Breaker, Change, Judged
from tests.core.reference.samples import Heard, to_ns

HOUR_NS = 3_600 * 10**9
LOOK_NS = 10**9  # how often a tripped window is looked at that closes as soon as it is clear

Said = tuple[Any, ...]  # a decision: what it is, of which breaker, and what it says


class Table:
    """The breakers, their incidents, and what has happened until now."""

    def __init__(self, config: EngineConfig, *, now_ns: int, epoch_wall_ns: int) -> None:
        self.config = config
        self.now_ns = now_ns
        self.epoch_wall_ns = epoch_wall_ns  # the date at engine time 0
        self.started_ns = now_ns
        self.heard: list[Heard] = []
        self.first_ns: dict[str, int] = {}  # scope -> its first event
        self.frozen_first: set[str] = set()  # scopes that an operator froze before any event
        self.breakers: dict[tuple[str, str], Breaker] = {}
        self.incidents: list[Incident] = []
        self.generation = 0
        self.said: list[Said] = []  # in the present instant
        self.back_in_force: list[Breaker] = []  # closed again: to be judged in this instant
        # Overrides name scopes before any event does.
        self.configured = {one for limit in config.limits for one in limit.params.overrides}
        for scope in ("account", *sorted(self.configured)):
            self.make(scope)

    def make(self, scope: str) -> None:
        for limit in self.config.limits:
            if limit.params.per == scope.partition(":")[0]:
                key = (limit.name, scope)
                if key not in self.breakers:
                    self.breakers[key] = Breaker(limit.name, scope, limit, self.now_ns)

    def pseudo(self, name: str, scope: str) -> Breaker:
        return self.breakers.setdefault((name, scope), Breaker(name, scope, None, self.now_ns))

    def over(self, scope: str) -> list[Breaker]:
        return [breaker for breaker in self.breakers.values() if breaker.scope == scope]

    def value(self, breaker: Breaker) -> float | str | None:
        if breaker.limit is None:
            return None
        seen = samples.Seen(breaker.scope, self.heard, breaker.forgot, self.now_ns, self.started_ns)
        edge_age_ns = to_ns(self.config.portfolio.max_age.edge)
        return samples.value_of(breaker.limit, seen, edge_age_ns)

    def halt(self, breaker: Breaker, *, halted: bool) -> None:
        if breaker.halted != halted:
            breaker.halted = halted
            self.generation += 1
            breaker.generation = self.generation
            self.said.append(("unknown", breaker.name, breaker.scope, halted))

    def warn(self, breaker: Breaker, near: bool) -> None:
        if near and breaker.policy.on_breach == "shadow":
            return  # it only counts
        if breaker.warned != near:
            breaker.warned = near
            self.said.append(("warning", breaker.name, breaker.scope, near))

    def change(self, breaker: Breaker, after: str, cause: str, until_ns: int | None) -> str:
        before = breaker.state
        self.generation += 1
        breaker.generation = self.generation
        breaker.life.append(
            Change(
                self.now_ns, before, after, cause, self.generation, until_ns, len(breaker.judged)
            )
        )
        self.said.append(("transition", breaker.name, breaker.scope, before, after))
        return before

    def shut(self, breaker: Breaker, after: str, cause: str) -> None:
        self.change(breaker, after, cause, None)
        if after == "open":
            if breaker.look_ns is None:
                breaker.look_ns = self.now_ns + LOOK_NS
            last = breaker.life[-1]
            breaker.life[-1] = Change(
                last.now_ns,
                last.before,
                last.after,
                last.cause,
                last.generation,
                self.wait_until(breaker),
                last.judged,
            )
            if breaker.is_standing and not breaker.unknown:
                # Its value may be clear already: nothing will say so again.
                clear = breaker.is_clear(breaker.value)
                breaker.judged.append(Judged(self.now_ns, past=not clear, clear=clear))
        self.end_incident(breaker)
        kind = "freeze" if after == "frozen" else "trip"
        breaker.incident = Incident(
            breaker.name,
            breaker.scope,
            kind,
            self.now_ns,
            to_ns(self.config.lease),
            self.config.targets,
        )
        self.incidents.append(breaker.incident)
        self.sweep(breaker.incident)

    def wait_until(self, breaker: Breaker) -> int | None:
        recover = breaker.recover
        if isinstance(recover, Recovery):
            assert recover.jitter == 0, "the jitter is the engine's own"
            seconds = recover.after
            for _ in range(breaker.trips_in_row - 1):
                seconds = min(recover.max, seconds * recover.multiplier)
            return self.now_ns + to_ns(min(recover.max, seconds))
        if recover == "period":
            return max(self._midnight_ns(), self.now_ns + HOUR_NS)
        return None

    def _midnight_ns(self) -> int:
        """The next one, UTC, in engine time."""
        wall_ns = self.epoch_wall_ns + self.now_ns
        now = datetime.fromtimestamp(wall_ns // 10**9, UTC)
        midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
        return round(midnight.timestamp()) * 10**9 - self.epoch_wall_ns

    def loosen(self, breaker: Breaker, after: str, cause: str) -> None:
        before = self.change(breaker, after, cause, None)
        if before != "disabled" and breaker.kind in samples.SAMPLED:
            breaker.forgot = len(self.heard)
            self.warn(breaker, near=False)
        if after == "closed":
            self.end_incident(breaker)
            if breaker.is_standing:
                self.back_in_force.append(breaker)

    def end_incident(self, breaker: Breaker) -> None:
        incident = breaker.incident
        if incident is not None:
            if not incident.is_confirmed():
                self.said.append(("withdraw", incident.limit, incident.scope))
            incident.ended = True
            breaker.incident = None

    def sweep(self, incident: Incident) -> None:
        due_ns = incident.sweep_due_ns()
        if due_ns is not None and due_ns <= self.now_ns:
            wanted = incident.wanted()
            incident.sweeps_ns.append(self.now_ns)
            number = len(incident.sweeps_ns)
            self.said.append(("sweep", incident.limit, incident.scope, number, wanted))

    def levels(self) -> dict[str, int]:
        """The permission of each scope: the least that any of its breakers leaves, and of the
        account's."""
        account = min((breaker.level for breaker in self.over("account")), default=ALLOW)
        return {
            scope: min([account, *(breaker.level for breaker in self.over(scope))])
            for scope in self.scopes()
        }

    def scopes(self) -> set[str]:
        return {"account", *self.configured, *self.first_ns, *self.frozen_first}
