"""The promises of the sidecar to the outside, and the invariants that check them."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from riskmon.core import events as ev
from riskmon.core.breakers.rules import STORAGE
from riskmon.core.decisions import HALT, Transition
from riskmon.core.engine import Engine
from riskmon.gate import Gate
from riskmon.journal import Commit, Entry

encode = msgspec.msgpack.Encoder().encode
SHUT = ("open", "frozen")  # states of a breaker
LATE_SECONDS = 20.0  # the longest wait between two attempts, and its jitter


class Violation(AssertionError):
    """An invariant is broken."""


@dataclass
class Cancel:
    """An incident whose cancel was handed to the outbox or to the journal."""

    scope: str
    limit: str
    at: float
    shut_at: float  # since when no order can have been placed in its scope
    targets: set[str] = field(default_factory=set)
    durable: bool = False


@dataclass
class Truth:
    """The promises and observations that outlive a process."""

    lease_ns: int
    cancels_kept: bool  # a start after a kill cancels for the whole account
    lineage: list[bytes] = field(default_factory=list)  # entry n, encoded, at n - 1
    acknowledged_seq: int = 0
    durable_ids: set[str] = field(default_factory=set)  # facts and operations
    fills: dict[str, tuple[int, str, float]] = field(default_factory=dict)  # id -> seq, symbol, …
    acknowledged_fills: set[str] = field(default_factory=set)
    frozen: set[str] = field(default_factory=set)  # scopes without a later call to end the freeze
    loosened: dict[str, int] = field(default_factory=dict)  # scope -> calls to end a freeze
    cancels: dict[str, Cancel] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    unheld: tuple[int, bytes] | None = None  # the entry of a halt whose write failed
    open_ns: dict[str, int] = field(default_factory=dict)  # when a scope was last seen open

    # of the running process
    is_at_rest: bool = True  # no batch is applied in part
    engine: Engine | None = None
    bounds: list[dict[str, int]] = field(default_factory=list)  # durable, then what waits
    waiting_since_ns: list[int] = field(default_factory=list)
    unwritten: list[Commit] = field(default_factory=list)
    has_failed: bool = False  # a write of the journal
    begun: bool = False
    lapses_ns: int = 0  # the end of the last lease that may have been given
    checks: int = 0

    # -- what happens -----------------------------------------------------------------------------

    def submitted(self, commit: Commit, engine: Engine, now_ns: int) -> None:
        """A turn is handed to the journal."""
        self.engine = engine
        if not self.begun:
            self.begun, self.bounds, self.waiting_since_ns = True, [{}], []
            self.unwritten, self.has_failed = [], False
        for entry in commit.entries:
            self._enter(entry)
        self.bounds.append(dict(engine.levels))
        self.waiting_since_ns.append(now_ns)
        self.unwritten.append(commit)
        for one in commit.deliveries:
            body = msgspec.json.decode(one.body)
            opened_ns = self.open_ns.get("account", -self.lease_ns) + self.lease_ns
            shut_at = min(now_ns, opened_ns) / 1e9
            cancel = Cancel(one.scope, body["limit"], now_ns / 1e9, shut_at)
            self.cancels.setdefault(one.incident, cancel).targets.add(one.target)
        self.withdrawn.update(commit.withdraw)

    def _enter(self, entry: Entry) -> None:
        if entry.seq <= len(self.lineage):
            raise Violation(f"entry {entry.seq} is written a second time")
        if entry.seq > len(self.lineage) + 1:
            raise Violation(f"entry {entry.seq} follows entry {len(self.lineage)}")
        self.lineage.append(encode((entry.now_ns, entry.wall_ns, entry.events)))
        for event in entry.events:
            if isinstance(event, ev.Fill):
                known = (entry.seq, event.symbol, float(event.quantity))
                self.fills.setdefault(event.id, known)

    def durable(self, commit: Commit) -> None:
        """The disk has a commit, the oldest that waited."""
        self.bounds.pop(0)
        self.waiting_since_ns.pop(0)
        self.unwritten.pop(0)
        for one in commit.deliveries:
            self.cancels[one.incident].durable = True
        for entry in commit.entries:
            for event in entry.events:
                if isinstance(event, ev.Fill):
                    self.durable_ids.add(event.id)
                elif isinstance(event, ev.Operate):
                    self.durable_ids.add(event.reason)

    def acknowledged(self, commit: Commit) -> None:
        """The senders of a commit are about to be answered."""
        if commit.entries:
            self.acknowledged_seq = commit.entries[-1].seq

    def acknowledged_fill(self, fill: ev.Fill) -> None:
        """A fill is acknowledged to a bot."""
        if fill.id not in self.durable_ids:
            raise Violation(f"fill {fill.id} is acknowledged and not durable")
        self.acknowledged_fills.add(fill.id)

    def acknowledged_freeze(self, scope: str, reason: str, loosened: int) -> None:
        """A freeze is acknowledged to an operator; ``began`` counts earlier calls to end one."""
        if reason not in self.durable_ids:
            raise Violation(f"the freeze of {scope} is acknowledged and not durable")
        if self.loosened.get(scope, 0) == loosened:
            self.frozen.add(scope)

    def failed(self, *, has_room: bool) -> None:
        """A write of the journal failed; ``has_room`` on a sound disk, and a full one's reserve."""
        self.has_failed = True
        if has_room:
            raise Violation("a write fails beside a full reserve")

    def process_ended(self, now_ns: int) -> None:
        """The process has ended; its leases lapse."""
        self.engine = None
        if self.has_failed:
            for entry in [one.entries[-1] for one in self.unwritten if _shuts(one)][:1]:
                self.unheld = entry.seq, self.lineage[entry.seq - 1]
        self.unwritten, self.has_failed = [], False
        if not self.cancels_kept:  # as configured: what was not written is forgotten by a kill
            self.cancels = {id_: one for id_, one in self.cancels.items() if one.durable}
        self.lapses_ns = now_ns + self.lease_ns

    # -- what must hold ---------------------------------------------------------------------------

    def check_gate(self, gate: Gate, scopes: list[str], now_ns: int) -> None:
        """Check the levels that a reader sees against everything that bounds them."""
        self.checks += 1
        account = level_of(gate, "account")
        for scope in scopes:
            seen = account if scope == "account" else level_of(gate, scope)
            if seen == HALT:
                continue
            self.open_ns[scope] = now_ns
            for halted in self.frozen & {scope, "account"}:
                raise Violation(f"{scope} is at level {seen}, and {halted} is frozen")
            if self.engine is None:
                if now_ns >= self.lapses_ns:
                    raise Violation(f"{scope} is at level {seen} a lease after the end")
                continue
            engine = self.engine.levels.get(scope, HALT)
            if seen > engine and self.is_at_rest:
                raise Violation(f"{scope} is at level {seen}, the engine at {engine}")
            bound = min(levels.get(scope, HALT) for levels in self.bounds)
            if self.begun and seen > bound:
                raise Violation(f"{scope} is at level {seen}, what is durable allows {bound}")
            if self.waiting_since_ns and now_ns - self.waiting_since_ns[0] > 2 * self.lease_ns:
                raise Violation(f"{scope} is at level {seen} on a disk that hangs")

    def check_allowed(self, scope: str, now_ns: int) -> None:
        """Check an allowed answer: its gate is open, or opens with the next renewal."""
        if now_ns - self.open_ns.get(scope, -self.lease_ns) <= self.lease_ns:
            return
        hangs = self.waiting_since_ns and now_ns - self.waiting_since_ns[0] > self.lease_ns
        if hangs or any(levels.get(scope, HALT) == HALT for levels in self.bounds):
            raise Violation(f"a check over {scope} is allowed, and its gate is shut")

    def check_lineage(self, found: list[Entry], accepted: str) -> None:
        """Check that a start replays what was written, and at least what was acknowledged."""
        if [entry.seq for entry in found] != list(range(1, len(found) + 1)):
            raise Violation("the journal has a hole")
        for entry in found:
            written = self.lineage[entry.seq - 1] if entry.seq <= len(self.lineage) else b""
            if encode((entry.now_ns, entry.wall_ns, entry.events)) != written:
                raise Violation(f"entry {entry.seq} is not what was written")
        if len(found) < self.acknowledged_seq and not accepted:
            raise Violation(
                f"a silent start: the journal ends with {len(found)}, acknowledged is "
                f"{self.acknowledged_seq}"
            )

    def restarted(self, entries: int, accepted: str) -> None:
        """A start continues from this many entries; later ones are discarded."""
        del self.lineage[entries:]
        self.fills = {id_: fill for id_, fill in self.fills.items() if fill[0] <= entries}
        self.durable_ids.update(self.fills)
        self.acknowledged_seq = min(self.acknowledged_seq, entries)
        self.begun = False
        if accepted or (self.unheld and self.lineage[self.unheld[0] - 1 :][:1] == [self.unheld[1]]):
            self.unheld = None
        if accepted:
            self.acknowledged_fills &= self.fills.keys()
            self.frozen = {"account"}  # until an operator ends it
            if not self.cancels_kept:
                self.cancels.clear()

    def check_start(self, engine: Engine, was_killed: bool) -> None:
        """Check that a start after a kill cancels, and that positions are the sums of fills."""
        view = engine.view()
        limits = [one.limit for one in view.cancel]
        if was_killed and self.cancels_kept and "unclean_start" not in limits:
            raise Violation("a start after a kill cancels nothing")
        if self.unheld is not None:
            if not any(one.limit == STORAGE and one.state == "frozen" for one in view.breakers):
                raise Violation("a halt whose write failed is forgotten")
            self.unheld = None
            self.frozen.add("account")  # until an operator ends it
        missing = self.acknowledged_fills - self.fills.keys()
        if missing:
            raise Violation(f"acknowledged fills are missing: {sorted(missing)[:3]}")
        wanted: dict[str, float] = {}
        for _, symbol, quantity in self.fills.values():
            wanted[symbol] = wanted.get(symbol, 0.0) + quantity
        found = {one.symbol: one.quantity for one in view.portfolio.positions}
        if found != wanted:
            raise Violation(f"positions are {found}, the entries' fills add up to {wanted}")

    def owed(self, taken: dict[str, dict[str, float]]) -> list[str]:
        """Return the incidents that no target has received; later ones of the account count."""
        # A forced end of an incident of the account ends the earlier ones too.
        forced_at = max(
            (self.cancels[i].at for i in self.withdrawn if self._is_account(i)), default=-1
        )
        return [
            f"{incident} at {target} ({cancel.limit} over {cancel.scope})"
            for incident, cancel in self.cancels.items()
            if incident not in self.withdrawn and cancel.at > forced_at
            for target in cancel.targets
            if not any(
                id_.startswith(f"{incident}_") or self._covers(id_, at, cancel)
                for id_, at in taken[target].items()
            )
        ]

    def _is_account(self, incident: str) -> bool:
        return incident in self.cancels and self.cancels[incident].scope == "account"

    def _covers(self, delivery_id: str, taken_at: float, cancel: Cancel) -> bool:
        """Whether it cancelled the whole account after the last possible order."""
        other = self.cancels.get(delivery_id.rsplit("_", 2)[0])
        return other is not None and other.scope == "account" and taken_at >= cancel.shut_at


def _shuts(commit: Commit) -> bool:
    """Whether a commit shuts a scope that an operator or a later start may open."""
    shuts = any(isinstance(one, Transition) and one.after in SHUT for one in commit.decisions)
    return bool(commit.entries) and (shuts or bool(commit.deliveries))


def level_of(gate: Gate, scope: str) -> int:
    """The level that a reader of the gate finds for one scope."""
    kind, _, name = scope.partition(":")
    return int(gate.level(**{kind: name}) if name else gate.level())
