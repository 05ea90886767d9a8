"""What every endpoint is given: the port, the bounds, the clock and the open streams."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from riskmon.web.access import Caller
from riskmon.web.challenges import Challenges
from riskmon.web.port import Caps, Port


@dataclass(frozen=True, kw_only=True)
class Edge:
    """``clock_ns`` gives UTC ns since 1970; ``streams`` are ended by setting their futures."""

    port: Port
    caps: Caps
    clock_ns: Callable[[], int]
    challenges: Challenges = field(default_factory=Challenges)
    streams: set[asyncio.Future[None]] = field(default_factory=set)

    def end_streams(self) -> None:
        """End every open stream; their readers connect anew."""
        for ended in self.streams:
            if not ended.done():
                ended.set_result(None)


# An endpoint: it gets the caller and answers, or raises Problem.
Endpoint = Callable[[Edge, web.BaseRequest, Caller], Awaitable[web.StreamResponse]]
