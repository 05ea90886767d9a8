"""The cancels of one trip or freeze, from the list of what its targets said.

Sweep 1 goes at once, sweep 2 always, one lease after sweep 1 was sent; then every 5 s, after a
minute every 15 s, until each target said that all is done (of sweep 2 or a later one: earlier,
orders could still come), or the venue reported no resting order after they had all taken that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from riskmon.core import events as ev

SECOND_NS = 10**9
LAST_ORDERS_SWEEP = 2  # the first that goes when no lease can run any more


@dataclass
class Incident:
    """``told`` is everything that came since it began and may concern it, in order."""

    limit: str
    scope: str
    kind: str  # trip | freeze
    began_ns: int
    lease_ns: int
    targets: tuple[str, ...]
    name: str = ""  # the engine's, as soon as it is known
    sweeps_ns: list[int] = field(default_factory=list)
    told: list[tuple[int, ev.CancelSent | ev.CancelAnswered | ev.OpenOrders]] = field(
        default_factory=list
    )
    venues: tuple[str, ...] = ()  # where the account trades, at the latest report
    was_confirmed: bool = False  # a word once given holds
    ended: bool = False

    def sweep_due_ns(self) -> int | None:
        """When the next sweep is due; None when none is."""
        if not self.targets or self.ended:
            return None
        number = len(self.sweeps_ns)
        if number == 0:
            return self.began_ns
        if number < LAST_ORDERS_SWEEP:
            sent = [at_ns for at_ns, what in self.told if isinstance(what, ev.CancelSent)]
            return (sent[0] if sent else self.sweeps_ns[0]) + self.lease_ns
        if self.is_confirmed():
            return None
        last_ns = self.sweeps_ns[-1]
        later = last_ns - self.began_ns >= 60 * SECOND_NS
        return last_ns + (15 if later else 5) * SECOND_NS

    def wanted(self) -> tuple[str, ...]:
        """Whom the next sweep goes to: all, then those that have not said that it is done."""
        if len(self.sweeps_ns) < LAST_ORDERS_SWEEP:
            return self.targets
        return tuple(target for target in self.targets if not self._is_done(target))

    def is_confirmed(self) -> bool:
        """Whether nothing can rest any more."""
        if all(self._is_done(target) for target in self.targets) or self._is_quiet():
            self.was_confirmed = True
        return self.was_confirmed

    def _answers(self, target: str) -> list[tuple[int, ev.CancelAnswered]]:
        """The answers of a target. One to an earlier sweep than it took last says nothing."""
        found: list[tuple[int, ev.CancelAnswered]] = []
        for number, (_, what) in enumerate(self.told):
            if not isinstance(what, ev.CancelAnswered) or what.target != target:
                continue
            if not found or what.sweep >= found[-1][1].sweep:
                found.append((number, what))
        return found

    def _is_done(self, target: str) -> bool:
        return any(
            answer.done and answer.sweep >= LAST_ORDERS_SWEEP for _, answer in self._answers(target)
        )

    def _is_quiet(self) -> bool:
        """Whether, since every target took the last orders' sweep, no venue has orders resting."""
        taken = []
        for target in self.targets:
            numbers = [
                number
                for number, answer in self._answers(target)
                if answer.sweep >= LAST_ORDERS_SWEEP
            ]
            if not numbers:
                return False
            taken.append(numbers[0])
        counts = {
            what.venue: what.count
            for _, what in self.told[max(taken, default=0) :]
            if isinstance(what, ev.OpenOrders)
        }
        concerned = self.venues if self.scope == "account" else (self.scope.partition(":")[2],)
        if self.scope != "account" and not self.scope.startswith("venue:"):
            return False
        return bool(counts) and all(counts.get(venue) == 0 for venue in concerned)
