"""The changes that ``/v1/stream`` sends: decisions, the portfolio's figures, and the shutdown.

A decision is published when it is durable. The portfolio is polled a few times a second while there
are readers, and is sent to a reader when its figures differ from the last ones sent to it. A burst
of events is therefore sent as its last state, at no cost to the engine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from msgspec.structs import asdict, replace

from riskmon.core.decisions import Decision, Notice, Transition, UnknownLimit, Warned
from riskmon.core.engine import Engine
from riskmon.core.view import Withheld, withhold
from riskmon.port import Change, NotReady, PortfolioNow, Shutdown

READER_CHANGES = 1_000  # the queue of one reader; a reader that falls further behind is removed
POLL_SECONDS = 0.25
DRAIN_SECONDS = 0.25  # the time for readers to take the shutdown event


@dataclass(eq=False, slots=True)
class _Reader:
    portfolio: PortfolioNow | None = None  # the last one sent to it
    withheld: str | None = None  # the reason of the withheld lease in the last state sent to it
    queue: asyncio.Queue[Change] = field(default_factory=lambda: asyncio.Queue(READER_CHANGES))


class Feed:
    """Queues every change for every reader. Use it on one event loop only.

    ``engine`` returns the engine, or raises :class:`NotReady`; ``withheld`` returns the reason why
    the lease is not renewed.
    """

    def __init__(
        self,
        engine: Callable[[], Engine],
        *,
        withheld: Callable[[], Withheld | None] = lambda: None,
        poll_seconds: float = POLL_SECONDS,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        self._engine, self._withheld = engine, withheld
        self._poll_seconds, self._drain_seconds = poll_seconds, drain_seconds
        self._readers: set[_Reader] = set()
        self._poll_task: asyncio.Task[None] | None = None
        self._no_readers = asyncio.Event()
        self._ended = False

    async def subscribe(self) -> AsyncGenerator[Change]:
        """Yield the state and the portfolio, then each change.

        Ends after the shutdown event, or when the reader falls ``READER_CHANGES`` behind.
        """
        if self._ended:
            return
        reader = _Reader()
        self._add(reader)
        try:
            while reader in self._readers:
                change = await reader.queue.get()
                yield change
                if isinstance(change, Shutdown):
                    return
        finally:
            self._remove(reader)

    def publish(self, decision: Decision) -> None:
        """Queue a durable decision for every reader, if it is of a kind that the stream sends."""
        if isinstance(decision, Transition | Warned | UnknownLimit | Notice):
            for reader in list(self._readers):
                self._put(reader, decision)

    async def end(self, *, clean: bool, reason: str) -> None:
        """Send the last portfolio and the shutdown event; return when all readers have left."""
        self._ended = True
        self._poll(list(self._readers))
        last = Shutdown(at_ns=time.time_ns(), clean=clean, reason=reason)
        for reader in list(self._readers):
            self._put(reader, last)
        if self._readers:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._drain_seconds):
                    await self._no_readers.wait()
        if self._poll_task is not None:
            self._poll_task.cancel()

    # -- readers ----------------------------------------------------------------------------------

    def _add(self, reader: _Reader) -> None:
        self._readers.add(reader)
        self._no_readers.clear()
        self._poll([reader])
        if self._poll_task is None:
            self._poll_task = asyncio.get_running_loop().create_task(self._poll_forever())

    def _remove(self, reader: _Reader) -> None:
        self._readers.discard(reader)
        if not self._readers:
            self._no_readers.set()
            if self._poll_task is not None:
                self._poll_task.cancel()
                self._poll_task = None

    def _put(self, reader: _Reader, change: Change) -> None:
        try:
            reader.queue.put_nowait(change)
        except asyncio.QueueFull:
            self._readers.discard(reader)

    # -- polling the engine -----------------------------------------------------------------------

    async def _poll_forever(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            self._poll(list(self._readers))

    def _poll(self, readers: list[_Reader]) -> None:
        if not readers:
            return
        try:
            engine = self._engine()
        except NotReady:  # the journal is being replayed; a later poll sends the state
            return
        portfolio = PortfolioNow(at_ns=engine.state.wall_ns, **asdict(engine.figures()))
        withheld = self._withheld()
        reason = None if withheld is None else withheld.reason
        for reader in readers:
            last = reader.portfolio
            if last is None or reader.withheld != reason:
                reader.withheld = reason
                self._put(reader, withhold(engine.view(), withheld))
            if last is None or replace(last, at_ns=portfolio.at_ns) != portfolio:
                reader.portfolio = portfolio
                self._put(reader, portfolio)
