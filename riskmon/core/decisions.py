"""Everything that may leave the engine.

A step answers its callers (:class:`CheckAnswer`, :class:`OperateAnswer`) and returns decisions:
changes, records to write, orders to cancel. The levels of the gate are not among them: they are
state (``Engine.levels``), so that no lost message can leave a gate open.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

StateName = Literal["closed", "half_open", "open", "frozen", "disabled"]
HaltReason = Literal["breach", "unknown", "operator", "start", "stop", "storage"]
Recovers = Literal["by itself", "by an operator"]
NoticeAbout = Literal["unpriced", "peg", "flow", "transfer", "difference"]
DifferenceKind = Literal["fill", "position", "order", "balance", "flow"]
RecordKind = Literal["trip", "freeze", "operation", "refusal", "start", "stop", "reload"]
CancelScope = Literal["all", "entries"]  # of the resting orders
CancelState = Literal["pending", "sent", "delivered", "confirmed"]

HALT, REDUCE_ONLY, PROBE, ALLOW = range(4)
LevelName = Literal["halt", "reduce_only", "probe", "allow"]
LEVEL_NAMES: tuple[LevelName, ...] = ("halt", "reduce_only", "probe", "allow")


class _Decision(Struct, tag_field="type", kw_only=True, frozen=True):
    pass


class Transition(_Decision, tag="transition", frozen=True):
    """A change of a breaker's state."""

    limit: str
    scope: str
    before: StateName
    after: StateName
    generation: int
    reason: str
    at_ns: int  # UTC ns since 1970, as all times here
    incident: str | None = None
    value: float | None = None
    bound: float | None = None
    by: str | None = None  # the operator, when one caused it
    category: str = ""  # where the cause lies
    recovers: Recovers = "by an operator"


class Warned(_Decision, tag="warning", frozen=True):
    """A limit's utilization rose above its warning ratio, or (``active`` false) fell below it."""

    limit: str
    scope: str
    active: bool
    utilization: float
    at_ns: int
    value: float | None = None
    bound: float | None = None


class UnknownLimit(_Decision, tag="unknown", frozen=True):
    """A limit that must be provable was unknown for the grace, or (``halted`` false) is known."""

    limit: str
    scope: str
    halted: bool
    reason: str
    generation: int
    at_ns: int


class Record(_Decision, tag="record", frozen=True):
    """A line of the audit trail. One with the ``id`` of an earlier line replaces it.

    ``kind``: ``trip`` or ``freeze`` (an incident, from its cause to its end), ``operation`` (an
    operator's call that reached the engine, refused ones too), ``refusal`` (one refused before it,
    without a scope), ``start``, ``stop`` or ``reload``.
    """

    id: str
    kind: RecordKind
    at_ns: int
    scope: str = "account"
    limit: str | None = None
    generation: int = 0
    reason: str = ""
    value: float | None = None
    bound: float | None = None
    by: str | None = None
    peer: str | None = None  # of an operation: the address or uid that it came from
    # Of an operation: "done" or why it was refused; of an incident: removed targets that had not
    # confirmed its cancel.
    outcome: str | None = None
    action: str | None = None
    sweeps: int = 0
    canceled: int | None = None
    confirmed_at_ns: int | None = None
    ended_at_ns: int | None = None
    ended_by: str | None = None
    category: str | None = None  # of an incident: where its cause lies
    recovers: Recovers | None = None  # … and who ends it


class Sweep(_Decision, tag="sweep", frozen=True):
    """Cancel the resting orders in ``scope``, at every target in ``targets``."""

    incident: str
    sweep: int
    generation: int
    scope: str
    limit: str
    reason: str
    at_ns: int
    cancels: CancelScope
    flatten: bool
    targets: tuple[str, ...]
    recovers: Recovers = "by an operator"  # who ends the incident


class Withdraw(_Decision, tag="withdraw", frozen=True):
    """Drop the undelivered cancels of an incident."""

    incident: str


class Notice(_Decision, tag="notice", frozen=True):
    """Something in the book that an operator should see: what is left out, lapsed or differs."""

    about: NoticeAbout
    text: str
    at_ns: int


Decision = Transition | Warned | UnknownLimit | Record | Sweep | Withdraw | Notice


class Violation(Struct, frozen=True, kw_only=True):
    """Why an order is refused: the limit, its scope, its value and its bound."""

    limit: str
    scope: str
    value: float | None = None
    bound: float | None = None
    utilization: float | None = None


class CheckAnswer(Struct, frozen=True, kw_only=True):
    """Whether an order may be sent. ``level`` is the lowest of its scopes."""

    allowed: bool
    level: LevelName
    reasons: list[Violation] = field(default_factory=list)


class AddressedBreaker(Struct, frozen=True, kw_only=True):
    """A breaker that an operator's call addressed, after the call."""

    limit: str
    scope: str
    state: StateName
    generation: int
    reason: str
    incident: str | None


class OperateAnswer(Struct, frozen=True, kw_only=True):
    """The result of an operator's call. ``status`` is the HTTP status of the answer."""

    status: Literal[200, 400, 404, 409]
    detail: str = ""
    generation: int = 0
    level: LevelName = "halt"  # of the addressed scope, after the call
    breakers: list[AddressedBreaker] = field(default_factory=list)
    near: list[str] = field(default_factory=list)  # names like the unknown one
    would_trip: list[Violation] = field(default_factory=list)


Answer = CheckAnswer | OperateAnswer


class Outcome(Struct, kw_only=True):
    """The result of one step."""

    decisions: list[Decision] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    duplicates: int = 0
