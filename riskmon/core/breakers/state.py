"""Everything that is kept of the breakers of an account: a part of each snapshot."""

from __future__ import annotations

from msgspec import Struct, field

from riskmon.core.breakers.transitions import TRANSITIONS, Cause
from riskmon.core.clock import Instant
from riskmon.core.decisions import StateName
from riskmon.core.scopes import Scope


class BreakerState(Struct):
    """What is kept of a breaker. ``*_ns`` is engine time unless its name says wall."""

    limit: str
    scope: Scope
    state: StateName = "closed"
    generation: int = 0
    since_ns: int = 0
    since_wall_ns: int = 0
    reason: str = ""
    incident: str | None = None  # of the latest trip or freeze, until it ends
    bound: float | None = None
    value: float | None = None  # of a state limit, as last evaluated
    past: int = 0  # evaluations past the bound, in a row
    past_since_ns: int | None = None  # since when it is past the bound, and known
    past_before_ns: int = 0  # how long it was past the bound before its last unknown moment
    waiting: bool = False  # past the bound in enough evaluations, and not long enough yet
    warned: bool = False
    blocking: bool = False  # past its bound, and holds its scope at reduce_only
    halted: bool = False  # its value is unknown, and has been for the grace
    unknown: str | None = None
    unknown_since_ns: int | None = None
    clear_since_ns: int | None = None
    until_ns: int | None = None  # end of the wait, or of the time out of service
    trips_in_row: int = 0
    good: int = 0  # good probes
    permits_ns: list[int] = field(default_factory=list)  # when permits were given
    breaches_total: int = 0
    trips_total: int = 0
    last_trip_wall_ns: int | None = None

    def move(self, cause: Cause, generation: int, instant: Instant) -> None:
        """Apply a ``cause`` that ``TRANSITIONS`` holds for the present state."""
        self.state = TRANSITIONS[self.state, cause]
        self.generation = generation
        self.since_ns, self.since_wall_ns = instant
        self.end_row()
        self.good = 0
        self.blocking = False
        self.until_ns = self.clear_since_ns = None
        self.permits_ns.clear()

    def end_row(self) -> None:
        """The value is not past its bound any more."""
        self.past = self.past_before_ns = 0
        self.past_since_ns = None
        self.waiting = False

    def past_ns(self, now_ns: int) -> int:
        """How long the value has been past its bound, without unknown moments."""
        known_ns = 0 if self.past_since_ns is None else now_ns - self.past_since_ns
        return self.past_before_ns + known_ns

    def pause_row(self, now_ns: int) -> None:
        """Stop counting how long the value is past its bound: it was known up to ``now_ns``."""
        self.past_before_ns = self.past_ns(now_ns)
        self.past_since_ns = None


class OnProbation(Struct):
    """Until when (engine time) a success holds the size limits at ``ratio``."""

    ratio: float
    until_ns: int


class BoundsState(Struct):
    """Between which two dates the bounds stay as they are, and the probations that last."""

    from_wall_ns: int = 0
    until_wall_ns: int = 0
    probations: dict[str, OnProbation] = field(default_factory=dict)  # "limit|scope"


class BoardState(Struct):
    """Everything that is kept of all breakers."""

    epoch: str = "0"
    incidents_made: int = 0
    operations_made: int = 0
    generation: int = 0
    scopes: dict[Scope, int] = field(
        default_factory=dict
    )  # -> time of its first event, 0: none yet
    breakers: dict[str, dict[Scope, BreakerState]] = field(default_factory=dict)  # by limit
    freeze_total: dict[str, int] = field(
        default_factory=lambda: {"edge_collapse": 0, "manual": 0, "limit_violation": 0}
    )
    bounds: BoundsState = field(default_factory=BoundsState)

    def next_generation(self) -> int:
        """The number of the account's next change."""
        self.generation += 1
        return self.generation

    def next_incident_id(self) -> str:
        """An id that no incident had."""
        self.incidents_made += 1
        return f"inc_{self.epoch}_{self.incidents_made}"

    def next_operation_id(self) -> str:
        """An id that no operator's call had."""
        self.operations_made += 1
        return f"op_{self.epoch}_{self.operations_made}"
