"""What every endpoint is given: the port, the bounds, the clock and the open streams."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

from aiohttp import web

from riskmon.port import Port
from riskmon.web.access import Caller, Peer
from riskmon.web.caps import Caps
from riskmon.web.challenges import Challenges


@dataclass(frozen=True, kw_only=True)
class Edge:
    """``clock_ns`` gives UTC ns since 1970; ``streams`` are ended by setting their futures.

    Each stands with the key of its peer.
    """

    port: Port
    caps: Caps
    clock_ns: Callable[[], int]
    challenges: Challenges = field(default_factory=Challenges)
    streams: dict[asyncio.Future[None], str] = field(default_factory=dict)
    # Held while a large body is parsed, so that a turn of the event loop parses one piece in all.
    parsing_large: asyncio.Lock = field(default_factory=asyncio.Lock)

    def end_streams(self) -> None:
        """End every open stream; their readers connect anew."""
        for ended in self.streams:
            if not ended.done():
                ended.set_result(None)


class Connection(Protocol):
    """What an endpoint needs of the connection that its request came over."""

    peer: Peer
    spare: bool  # in a place for requests with an operator's right
    ended: asyncio.Future[None] | None  # set when the peer goes


def connection_of(request: web.BaseRequest) -> Connection:
    """The connection of a request."""
    return cast(Connection, request.protocol)


# An endpoint: it gets the caller and answers, or raises Problem.
Endpoint = Callable[[Edge, web.BaseRequest, Caller], Awaitable[web.StreamResponse]]
