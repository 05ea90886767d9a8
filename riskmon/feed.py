"""What the readers of ``/v1/stream`` follow: decisions, the portfolio's figures, and the end.

A decision goes out when it is durable. The portfolio is looked at a few times a second while
someone reads, and goes out when its figures differ from the last that the reader got: so a burst
comes as its last state, and the engine is not asked anything for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from msgspec.structs import asdict, replace

from riskmon.core.decisions import Decision, Transition, UnknownLimit, Warned
from riskmon.core.engine import Engine
from riskmon.core.view import Withheld, withhold
from riskmon.web import Change, NotReady, PortfolioNow, Shutdown

READER_CHANGES = 1_000  # that a slow reader may fall behind
LOOK_SECONDS = 0.25
LEAVE_SECONDS = 0.25  # for the last event to be taken


@dataclass(eq=False, slots=True)
class _Reader:
    portfolio: PortfolioNow | None = None  # the last that it got
    withheld: str | None = None  # why the lease was, in the last state that it got
    queue: asyncio.Queue[Change] = field(default_factory=lambda: asyncio.Queue(READER_CHANGES))


class Feed:
    """Tells each reader what changes; use it on one event loop only.

    ``engine`` gives the engine, or raises :class:`NotReady`; ``withheld`` gives why the lease is
    not renewed.
    """

    def __init__(
        self,
        engine: Callable[[], Engine],
        *,
        withheld: Callable[[], Withheld | None] = lambda: None,
        look_seconds: float = LOOK_SECONDS,
        leave_seconds: float = LEAVE_SECONDS,
    ) -> None:
        self._engine, self._withheld = engine, withheld
        self._look_seconds, self._leave_seconds = look_seconds, leave_seconds
        self._readers: set[_Reader] = set()
        self._look_task: asyncio.Task[None] | None = None
        self._nobody = asyncio.Event()
        self._ended = False

    async def subscribe(self) -> AsyncIterator[Change]:
        """The state and the portfolio, then each change; who falls too far behind is let go."""
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

    def tell(self, decision: Decision) -> None:
        """A decision that is durable."""
        if isinstance(decision, Transition | Warned | UnknownLimit):
            for reader in list(self._readers):
                self._put(reader, decision)

    async def end(self, *, clean: bool, reason: str) -> None:
        """Tell the last portfolio and that this is the end; returns when it is taken."""
        self._ended = True
        self._look(list(self._readers))
        last = Shutdown(at_ns=time.time_ns(), clean=clean, reason=reason)
        for reader in list(self._readers):
            self._put(reader, last)
        if self._readers:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._leave_seconds):
                    await self._nobody.wait()
        if self._look_task is not None:
            self._look_task.cancel()

    # -- readers ----------------------------------------------------------------------------------

    def _add(self, reader: _Reader) -> None:
        self._readers.add(reader)
        self._nobody.clear()
        self._look([reader])
        if self._look_task is None:
            self._look_task = asyncio.get_running_loop().create_task(self._look_often())

    def _remove(self, reader: _Reader) -> None:
        self._readers.discard(reader)
        if not self._readers:
            self._nobody.set()
            if self._look_task is not None:
                self._look_task.cancel()
                self._look_task = None

    def _put(self, reader: _Reader, change: Change) -> None:
        try:
            reader.queue.put_nowait(change)
        except asyncio.QueueFull:
            self._readers.discard(reader)

    # -- looking at the engine --------------------------------------------------------------------

    async def _look_often(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            self._look(list(self._readers))

    def _look(self, readers: list[_Reader]) -> None:
        if not readers:
            return
        try:
            engine = self._engine()
        except NotReady:  # the journal is being replayed: the state comes after it
            return
        portfolio = PortfolioNow(at_ns=engine.state.wall_ns, **asdict(engine.figures()))
        why = self._withheld()
        reason = None if why is None else why.reason
        for reader in readers:
            last = reader.portfolio
            if last is None or reader.withheld != reason:
                reader.withheld = reason
                self._put(reader, withhold(engine.view(), why))
            if last is None or replace(last, at_ns=portfolio.at_ns) != portfolio:
                reader.portfolio = portfolio
                self._put(reader, portfolio)
