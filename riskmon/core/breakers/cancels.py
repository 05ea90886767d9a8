"""Incidents and their cancels: sweep, wait until nothing is reported to rest, sweep again.

Sweep 1 goes when an incident begins. Sweep 2 always goes, one lease after sweep 1 was sent, for
the orders that a bot placed while its lease still ran; so only an answer to sweep 2 or a
later one confirms. While unconfirmed, sweeps repeat every 5 s, after a minute every 15 s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from msgspec import Struct, field
from msgspec.structs import replace

from riskmon.core import events as ev
from riskmon.core.clock import Clock
from riskmon.core.config import EngineConfig
from riskmon.core.decisions import CancelScope, CancelState, Decision, Record, Sweep, Withdraw
from riskmon.core.scopes import ACCOUNT, venue_scope
from riskmon.core.timers import Timer, Timers, timer_key

REPEAT_NS = 5 * 10**9
REPEAT_LATER_NS = 15 * 10**9
LATER_AFTER_NS = 60 * 10**9
FINAL_SWEEP = 2  # the first one that can confirm


class TargetState(Struct):
    """How far one target is. ``delivered`` is the latest sweep it took."""

    state: CancelState = "pending"
    delivered: int = 0
    delivered_wall_ns: int = 0


class Incident(Struct):
    """A trip or freeze whose end has not come, or whose cancel is not confirmed."""

    record: Record
    cancels: CancelScope
    flatten: bool
    began_ns: int
    sweep: int = 0
    sent_ns: int | None = None  # when sweep 1 was first sent
    next_ns: int = 0
    targets: dict[str, TargetState] = field(default_factory=dict)
    quiet: dict[str, bool] = field(default_factory=dict)  # venues that reported no resting order

    @property
    def confirmed(self) -> bool:
        """Whether every target reported that nothing rests."""
        return all(target.state == "confirmed" for target in self.targets.values())


class Cancels:
    """All open incidents of the account."""

    def __init__(
        self,
        incidents: dict[str, Incident],
        config: EngineConfig,
        timers: Timers,
        clock: Clock,
        emit: Callable[[Decision], None],
    ) -> None:
        self.incidents = incidents
        self._begun = len(incidents)
        # By scope, with their order among all: a venue's report concerns few of them.
        self._of_scope: dict[str, dict[str, int]] = {}
        for order, incident in enumerate(incidents.values()):
            self._of_scope.setdefault(incident.record.scope, {})[incident.record.id] = order
        self.config = config
        self.timers = timers
        self._clock = clock
        self.emit = emit
        self.lease_ns = int(config.lease * 1e9)

    def begin(self, record: Record, *, cancels: CancelScope, flatten: bool) -> None:
        """Open an incident and send its first sweep."""
        targets = {name: TargetState() for name in self.config.targets}
        incident = Incident(record, cancels, flatten, self._clock.instant.now_ns, targets=targets)
        self.incidents[record.id] = incident
        self._begun += 1
        self._of_scope.setdefault(record.scope, {})[record.id] = self._begun
        if targets:
            self._sweep(incident)
        else:
            self.emit(record)

    def _sweep(self, incident: Incident) -> None:
        incident.sweep += 1
        wanted = [
            name
            for name, target in incident.targets.items()
            if incident.sweep <= FINAL_SWEEP or target.state != "confirmed"
        ]
        for name in wanted:
            incident.targets[name].state = "pending"
        record = incident.record
        self.emit(
            Sweep(
                incident=record.id,
                sweep=incident.sweep,
                generation=record.generation,
                scope=record.scope,
                limit=record.limit or "",
                reason=record.reason,
                at_ns=record.at_ns,
                cancels=incident.cancels,
                flatten=incident.flatten,
                targets=tuple(wanted),
                recovers=record.recovers or "by an operator",
            )
        )
        self._update(incident, sweeps=incident.sweep)
        self._plan(incident)

    def _plan(self, incident: Incident) -> None:
        now_ns = self._clock.instant.now_ns
        if incident.sweep < FINAL_SWEEP:
            wait_ns = self.lease_ns
        elif now_ns - incident.began_ns < LATER_AFTER_NS:
            wait_ns = REPEAT_NS
        else:
            wait_ns = REPEAT_LATER_NS
        incident.next_ns = now_ns + wait_ns
        self.timers.arm(timer_key(Timer.SWEEP, incident.record.id), incident.next_ns)

    def _update(self, incident: Incident, **changes: object) -> None:
        incident.record = replace(incident.record, **changes)
        self.emit(incident.record)

    def on_timer(self, incident_id: str) -> None:
        """The next sweep is due, unless all is confirmed."""
        incident = self.incidents.get(incident_id)
        if incident is None or not incident.targets:
            return
        if self._clock.instant.now_ns < incident.next_ns:
            self.timers.arm(timer_key(Timer.SWEEP, incident_id), incident.next_ns)
        elif incident.sweep < FINAL_SWEEP or not incident.confirmed:
            self._sweep(incident)

    def on_sent(self, event: ev.CancelSent) -> None:
        """The first attempt of a sweep began: the second sweep counts from here."""
        incident = self.incidents.get(event.incident)
        target = incident.targets.get(event.target) if incident else None
        if incident is None or target is None:
            return
        if target.state == "pending":
            target.state = "sent"
        if incident.sent_ns is None:
            incident.sent_ns = self._clock.instant.now_ns
            if incident.sweep == 1:
                self._plan(incident)

    def on_answered(self, event: ev.CancelAnswered) -> bool:
        """A target took a sweep; whether that confirms the whole incident."""
        incident = self.incidents.get(event.incident)
        target = incident.targets.get(event.target) if incident else None
        if incident is None or target is None or event.sweep < target.delivered:
            return False
        target.delivered = event.sweep
        target.delivered_wall_ns = self._clock.instant.wall_ns
        if target.state == "confirmed":
            return False
        target.state = "delivered"
        if event.canceled is not None:
            self._update(incident, canceled=(incident.record.canceled or 0) + event.canceled)
        if event.done and event.sweep >= FINAL_SWEEP:
            target.state = "confirmed"
        return self._close_confirmed(incident)

    def on_open_orders(self, event: ev.OpenOrders, venues: Collection[str]) -> list[str]:
        """A venue reports no resting orders: the incidents that this confirms.

        ``venues`` are all that the account trades at; an incident of the account needs each one's
        report.
        """
        if event.count:
            for incident in self._concerned(event.venue):
                incident.quiet.pop(event.venue, None)
            return []
        taken_wall_ns = self._clock.instant.wall_ns
        if event.at is not None:
            taken_wall_ns = ev.datetime_ns(event.at)
        confirmed = []
        for incident in self._concerned(event.venue):
            if not self._settles(incident, event.venue, taken_wall_ns, venues):
                continue
            for target in incident.targets.values():
                target.state = "confirmed"
            if self._close_confirmed(incident):
                confirmed.append(incident.record.id)
        return confirmed

    def _settles(
        self, incident: Incident, venue: str, taken_wall_ns: int, venues: Collection[str]
    ) -> bool:
        """Whether a report of a venue that nothing rests, taken then, confirms an incident."""
        scope = incident.record.scope
        if incident.confirmed or scope not in (ACCOUNT, venue_scope(venue)):
            return False
        if any(
            target.delivered < FINAL_SWEEP or target.delivered_wall_ns > taken_wall_ns
            for target in incident.targets.values()
        ):
            return False
        incident.quiet[venue] = True
        if scope != ACCOUNT:
            return True
        return len(incident.quiet) >= len(venues) and all(name in incident.quiet for name in venues)

    def _close_confirmed(self, incident: Incident) -> bool:
        if not incident.confirmed or incident.record.confirmed_at_ns is not None:
            return False
        self._update(incident, confirmed_at_ns=self._clock.instant.wall_ns)
        self._drop_if_over(incident)
        return True

    def retarget(self) -> list[str]:
        """Drop the targets that left the configuration; the incidents that this confirms.

        Where one was unconfirmed, the targets that are new get the next sweep: it may have been
        renamed. An incident that has no target left is confirmed.
        """
        names = self.config.targets
        confirmed = []
        for incident in list(self.incidents.values()):
            gone = {name: one for name, one in incident.targets.items() if name not in names}
            for name in gone:
                del incident.targets[name]
            waited = [name for name, one in gone.items() if one.state != "confirmed"]
            if waited:
                for name in names:
                    incident.targets.setdefault(name, TargetState())
                self._update(incident, outcome=_unconfirmed_by(waited))
                if incident.confirmed:
                    confirmed.append(incident.record.id)
                    if incident.targets:
                        self._close_confirmed(incident)
        return confirmed

    def is_confirmed(self, incident_id: str | None) -> bool:
        """Whether nothing of an incident's cancel is outstanding."""
        incident = self.incidents.get(incident_id or "")
        return incident is None or incident.confirmed

    def end(self, incident_id: str, by: str) -> None:
        """Withdraw what is undelivered and close the record: the breaker closed."""
        incident = self.incidents.get(incident_id)
        if incident is None:
            return
        if not incident.confirmed or incident.record.outcome is not None:
            self.emit(Withdraw(incident=incident_id))
        self._update(incident, ended_at_ns=self._clock.instant.wall_ns, ended_by=by)
        self._drop(incident)

    def _drop_if_over(self, incident: Incident) -> None:
        if incident.record.ended_at_ns is not None:
            self._drop(incident)

    def _drop(self, incident: Incident) -> None:
        record = incident.record
        del self.incidents[record.id]
        del self._of_scope[record.scope][record.id]

    def _concerned(self, venue: str) -> list[Incident]:
        """The incidents to which a report of a venue's resting orders applies."""
        found: dict[str, int] = {}
        for scope in (ACCOUNT, venue_scope(venue)):
            found.update(self._of_scope.get(scope, {}))
        return [self.incidents[name] for name in sorted(found, key=lambda name: found[name])]


def _unconfirmed_by(targets: list[str]) -> str:
    return f"not confirmed by {', '.join(targets)}: no cancel target any more"
