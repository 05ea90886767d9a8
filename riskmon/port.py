"""What the sidecar offers to the HTTP edge: calls, their results, and the exceptions they raise.

The sequencer and the sidecar return and raise these, and the edge translates them into responses.
Neither imports the other.
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
    """The queue of events is full; the sender may try again."""


class NotDurable(Exception):
    """Nothing can be made durable, so nothing is acknowledged."""


class Unwritable(Exception):
    """The request has a value that the journal cannot encode; it had no effect."""


class NotReady(Exception):
    """The journal has not been replayed yet, or the sidecar is stopping."""


class Accepted(Struct, frozen=True, kw_only=True):
    """A durable batch. The sender may trade for ``lease`` seconds from when it sent the batch.

    ``levels`` is the name of the level by scope; it may be encoded already.
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
    """The result of a reload; with any fault the old configuration stays in force."""

    faults: Sequence[Fault] = ()
    needs_restart: Sequence[str] = ()  # key paths that changed and need a restart


class Refusal(Struct, frozen=True, kw_only=True):
    """An operator's call that the edge refuses before it reads the body."""

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
    """The sidecar as the edge sees it. To be called on the event loop of the edge only."""

    def ingest(self, events: list[Reported]) -> Awaitable[Accepted]:
        """Apply a validated batch; return when it is durable.

        Raises ``QueueFull``, ``TooManyScopes``, ``NotDurable`` or ``NotReady``.
        """
        ...

    def check(self, order: Check) -> Awaitable[CheckAnswer]:
        """Whether an order may be sent. Raises as :meth:`ingest` does."""
        ...

    def operate(self, call: Operate) -> Awaitable[OperateAnswer]:
        """Execute an operator's call. Raises as :meth:`ingest` does."""
        ...

    def view(self) -> Awaitable[View]:
        """The engine after a complete batch. Raises ``NotReady``."""
        ...

    def audit(self, limit: int, before: int | None, refusals: bool) -> Awaitable[list[Record]]:
        """At most ``limit`` records of the audit trail, newest first, before ``before`` (UTC ns).

        ``refusals`` includes the calls that were refused for lack of a right.
        """
        ...

    def metrics(self, accept: str) -> Awaitable[tuple[bytes, str]]:
        """The metrics' page and its media type, for an ``Accept`` header ("" without one)."""
        ...

    def ready(self) -> str | None:
        """None when ready, else the reason."""
        ...

    def reload(self) -> Awaitable[Reloaded]:
        """Read the configuration again."""
        ...

    def subscribe(self) -> AsyncIterator[Change]:
        """The state and the portfolio, then each change; ``Shutdown`` is the last."""
        ...

    def rejected(self, reason: str) -> None:
        """Count a refused batch of events."""
        ...

    def refused(self, refusal: Refusal) -> None:
        """Add a refused call to the audit trail."""
        ...

    def accept_paused(self) -> None:
        """Count a pause in accepting connections for lack of descriptors."""
        ...
