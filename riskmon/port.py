"""The interface between the HTTP server and the sidecar: calls, results and exceptions.

The sequencer and the sidecar return and raise these; the HTTP server turns them into answers. So
neither imports the other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec
from msgspec import Struct

from riskmon.core.decisions import (
    CheckAnswer,
    Notice,
    OperateAnswer,
    Record,
    Transition,
    UnknownLimit,
    Warned,
)
from riskmon.core.events import Check, Operate, Reported
from riskmon.core.members import Dropped
from riskmon.core.portfolio_view import FiguresView
from riskmon.core.view import View


class QueueFull(Exception):
    """The queue of events is full; the sender may repeat the request."""


class NotDurable(Exception):
    """The journal cannot be written, so that nothing may be acknowledged."""


class Unwritable(Exception):
    """The request contains a value that the journal cannot encode; it had no effect."""


class NotReady(Exception):
    """The journal has not been replayed yet, or the sidecar is stopping."""


class Accepted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a durable batch. Its sender may trade for ``lease`` seconds from the sending.

    ``levels`` is the level's name by scope, as a dict or encoded in JSON. ``warnings`` are the
    faults of members that were dropped, if there are any.
    """

    accepted: int
    duplicates: int
    generation: int
    lease: float
    levels: dict[str, str] | msgspec.Raw
    warnings: tuple[Dropped, ...] = ()


class ConfigFault(Protocol):
    """A fault of the configuration: its key path, the fault, and a hint."""

    @property
    def path(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def hint(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Reloaded:
    """The result of a reload; with a fault, the previous configuration stays in force."""

    faults: Sequence[ConfigFault] = ()
    needs_restart: Sequence[str] = ()  # changed key paths that take effect after a restart


class Refusal(Struct, frozen=True, kw_only=True):
    """An operator's call that is refused for a missing right, before its body is read."""

    reason: Literal["unauthorized", "forbidden"]
    action: str  # "freeze", …, "reload"
    detail: str
    caller: str  # the name of the token or peer; "" if unknown
    peer: str  # the peer's address or uid


class PortfolioNow(FiguresView, tag_field="type", tag="portfolio", frozen=True, kw_only=True):
    """The account's figures at one instant."""

    at_ns: int  # UTC ns since 1970


class Shutdown(Struct, tag_field="type", tag="shutdown", frozen=True, kw_only=True):
    """The sidecar stops and the gate is shut. ``clean`` is False after a failure."""

    at_ns: int  # UTC ns since 1970
    clean: bool
    reason: str


Change = View | PortfolioNow | Transition | Warned | UnknownLimit | Notice | Shutdown


class Port(Protocol):
    """The sidecar as the HTTP server calls it, on the server's event loop only."""

    def ingest(self, events: list[Reported]) -> Awaitable[Accepted]:
        """Process a parsed batch as a whole; return when it is durable.

        Raises ``QueueFull``, ``TooManyScopes``, ``NotDurable`` or ``NotReady``.
        """
        ...

    def check(self, order: Check) -> Awaitable[CheckAnswer]:
        """Return whether the order may be sent. Raises as :meth:`ingest` does."""
        ...

    def operate(self, call: Operate) -> Awaitable[OperateAnswer]:
        """Execute an operator's call. Raises as :meth:`ingest` does."""
        ...

    def view(self) -> Awaitable[View]:
        """Return the engine's view between two batches; raises ``NotReady`` before the start."""
        ...

    def audit(self, limit: int, before: int | None, refusals: bool) -> Awaitable[list[Record]]:
        """Return at most ``limit`` records of the audit trail, newest first.

        With ``before``, only records older than that time (UTC, ns since 1970). Calls that were
        refused for a missing right are included if ``refusals``.
        """
        ...

    def metrics(self, accept: str) -> Awaitable[tuple[bytes, str]]:
        """Return the metrics page and its media type, for an ``Accept`` header ("" if absent)."""
        ...

    def ready(self) -> str | None:
        """Return None if the sidecar is ready, else the reason."""
        ...

    def reload(self) -> Awaitable[Reloaded]:
        """Reload the configuration."""
        ...

    def subscribe(self) -> AsyncGenerator[Change]:
        """Yield the state and the portfolio, then each change; ``Shutdown`` is the last."""
        ...

    def rejected(self, reason: str, count: int = 1) -> None:
        """Count a refused batch of events, or with reason ``member`` dropped members."""
        ...

    def refused(self, refusal: Refusal) -> None:
        """Append a refused call to the audit trail."""
        ...

    def accept_paused(self) -> None:
        """Count a pause in accepting connections, caused by a lack of descriptors."""
        ...
