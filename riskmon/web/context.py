"""The context of every endpoint: the port, the caps, the clock and the open streams."""

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
class Context:
    """The objects that all endpoints share. ``clock_ns`` returns UTC ns since 1970.

    ``streams`` maps the future that ends a stream to the key of the stream's peer.
    """

    port: Port
    caps: Caps
    clock_ns: Callable[[], int]
    challenges: Challenges = field(default_factory=Challenges)
    streams: dict[asyncio.Future[None], str] = field(default_factory=dict)
    # Held while a large body is parsed, so that a turn of the event loop parses one piece at most.
    parsing_large: asyncio.Lock = field(default_factory=asyncio.Lock)

    def end_streams(self) -> None:
        """End every open stream; the readers reconnect."""
        for ended in self.streams:
            if not ended.done():
                ended.set_result(None)


class RequestConnection(Protocol):
    """The part of a connection that endpoints use."""

    peer: Peer
    spare: bool  # in a slot for requests with an operator's right
    ended: asyncio.Future[None] | None  # set when the peer disconnects


def connection_of(request: web.BaseRequest) -> RequestConnection:
    """Return the connection of a request."""
    return cast(RequestConnection, request.protocol)


# An endpoint gets the context, the request and the caller; it returns the answer or raises Problem.
Endpoint = Callable[[Context, web.BaseRequest, Caller], Awaitable[web.StreamResponse]]
