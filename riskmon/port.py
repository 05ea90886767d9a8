"""What the sidecar offers to the HTTP edge: calls, results, and the exceptions that they raise.

The sequencer and the sidecar raise and return these; the edge turns them into answers. So neither
imports the other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec
from msgspec import Struct

from riskmon.core.decisions import (
    CheckAnswer,
    OperateAnswer,
    Record,
    Transition,
    UnknownLimit,
    Warned,
)
from riskmon.core.events import Check, Operate, Reported
from riskmon.core.view import FiguresView, View


class QueueFull(Exception):
    """More has come in than can be taken now; the sender may try again."""


class NotDurable(Exception):
    """Nothing can be written, so nothing may be acknowledged."""


class Unwritable(Exception):
    """The request holds a value that the journal has no encoding for; it had no effect."""


class NotReady(Exception):
    """The journal has not been replayed yet, or the sidecar is stopping."""


class Accepted(Struct, frozen=True, kw_only=True):
    """A batch that is durable. The sender may trade for ``lease`` seconds from its sending.

    ``levels`` is the level's name by scope; a caller that keeps its encoding hands it over raw.
    """

    accepted: int
    duplicates: int
    generation: int
    lease: float
    levels: dict[str, str] | msgspec.Raw


class Fault(Protocol):
    """A fault of the configuration: its key path, what is wrong, and what to do."""

    @property
    def path(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def hint(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Reloaded:
    """What became of a reload: with any fault the old configuration stays in force."""

    faults: Sequence[Fault] = ()
    needs_restart: Sequence[str] = ()  # key paths that changed and wait for a restart


class Refusal(Struct, frozen=True, kw_only=True):
    """An operator's call that the edge refuses, before its body is read."""

    reason: Literal["unauthorized", "forbidden"]
    action: str  # "freeze", …, "reload"
    detail: str
    caller: str  # the name of the token or peer; "" when it is not known
    peer: str  # its address or uid


class PortfolioNow(FiguresView, tag_field="type", tag="portfolio", frozen=True, kw_only=True):
    """The account's figures at one instant."""

    at_ns: int  # UTC ns since 1970


class Shutdown(Struct, tag_field="type", tag="shutdown", frozen=True, kw_only=True):
    """The sidecar ends, and the gate is shut. ``clean``: in order, not after a failure."""

    at_ns: int  # UTC ns since 1970
    clean: bool
    reason: str


Change = View | PortfolioNow | Transition | Warned | UnknownLimit | Shutdown


class Port(Protocol):
    """What lies behind the edge. The edge calls it on its own event loop only."""

    def ingest(self, events: list[Reported]) -> Awaitable[Accepted]:
        """Take a checked batch whole; returns when it is durable.

        Raises ``QueueFull``, ``TooManyScopes``, ``NotDurable`` or ``NotReady``.
        """
        ...

    def check(self, order: Check) -> Awaitable[CheckAnswer]:
        """May this order be sent? Raises as :meth:`ingest` does."""
        ...

    def operate(self, call: Operate) -> Awaitable[OperateAnswer]:
        """Carry out an operator's call. Raises as :meth:`ingest` does."""
        ...

    def view(self) -> Awaitable[View]:
        """The engine after a whole batch; ``NotReady`` before there is one."""
        ...

    def audit(self, limit: int, before: int | None, refusals: bool) -> Awaitable[list[Record]]:
        """At most ``limit`` records of the audit trail, newest first; ``before`` as asked.

        ``refusals``: with those of calls that were refused for want of a right.
        """
        ...

    def metrics(self, accept: str) -> Awaitable[tuple[bytes, str]]:
        """The metrics' page and its media type, for an ``Accept`` header ("" without one)."""
        ...

    def ready(self) -> str | None:
        """None when ready, else why not."""
        ...

    def reload(self) -> Awaitable[Reloaded]:
        """Read the configuration anew."""
        ...

    def subscribe(self) -> AsyncIterator[Change]:
        """The state and the portfolio as they are, then each change; ``Shutdown`` is the last."""
        ...

    def rejected(self, reason: str) -> None:
        """Count a refused batch of events."""
        ...

    def refused(self, refusal: Refusal) -> None:
        """Enter a refused call in the audit trail."""
        ...

    def accept_paused(self) -> None:
        """Count a pause of accepting connections, because no descriptor was left."""
        ...
