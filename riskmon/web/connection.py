"""One connection: its peer, what it is doing, and the end of those that take too long."""

from __future__ import annotations

import asyncio
import logging
import socket
from ipaddress import IPv6Address
from typing import Any, cast

from aiohttp import StreamReader, web

from riskmon.auth.peers import is_loopback
from riskmon.system.unix_socket import peer_uid
from riskmon.web.access import Peer
from riskmon.web.caps import Caps
from riskmon.web.problems import Problem
from riskmon.web.room import Room

_log = logging.getLogger("riskmon.web")
_SMALL_BYTES = 32_768  # half of what a transport buffers before it makes writers wait


class Connection(web.RequestHandler):
    """A connection from its acceptance on, before any TLS handshake."""

    __slots__ = (
        *("_answered", "_attaching", "_begun", "_body", "_caps", "_dropped", "_room"),
        *("ended", "peer", "since", "spare"),
    )

    def __init__(
        self, server: web.Server, caps: Caps, room: Room[Connection], peer: Peer, **options: Any
    ) -> None:
        super().__init__(server, **options)
        self._caps, self._room = caps, room
        self.peer = peer
        self.spare = False  # in a place beyond the caps
        self.ended: asyncio.Future[None] | None = None  # of a stream on this connection
        self.since = self._loop.time()  # its last change
        self._answered = 0  # requests
        self._begun = False  # a further request, of which the head is not whole
        self._body: StreamReader | None = None  # of the last request
        self._attaching: asyncio.Task[None] | None = None
        self._dropped = False

    # -- what it is doing -------------------------------------------------------------------------

    @property
    def awaits_head(self) -> bool:
        """Whether the first head, or one that has begun, has not arrived whole."""
        return self._request_count == self._answered and (self._begun or not self._answered)

    @property
    def is_silent(self) -> bool:
        """Whether no whole request has arrived since the last answer, or since the beginning."""
        if self._request_count == self._answered + 1:
            return self._body is not None and not self._body.is_eof()
        return self.awaits_head

    @property
    def is_idle(self) -> bool:
        """Whether it is between two requests."""
        return self._request_count == self._answered and not self.awaits_head

    def _change(self) -> None:
        self.since = self._loop.time()
        self._room.renew(self)

    # -- from acceptance to the end ---------------------------------------------------------------

    async def attach(self, sock: socket.socket, tls: dict[str, Any]) -> None:
        """Serve ``sock``, after the handshake of ``tls`` if there is one."""
        if self._dropped:
            sock.close()
            return
        self._attaching = asyncio.current_task()
        try:
            await self._loop.connect_accepted_socket(lambda: self, sock, **tls)
        except (OSError, asyncio.CancelledError):  # no handshake, or dropped: asyncio closes it
            self._room.remove(self)
        finally:
            self._attaching = None

    def drop(self) -> None:
        """Close it at once, and send nothing more."""
        self._dropped = True
        if self.transport is not None:
            self.transport.abort()
        elif self._attaching is not None:
            self._attaching.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._dropped:
            cast(asyncio.Transport, transport).abort()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._room.remove(self)
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._dropped:
            return
        was_idle = self.is_idle and (self._body is None or self._body.is_eof())
        super().data_received(data)
        if self._messages:
            self._body = self._messages[-1][1]
        if was_idle and data:
            self._begun = self.is_idle
            self._change()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """As aiohttp does it, for ``write_seconds`` at most; then the connection is aborted."""
        try:
            if self._fits(resp):
                return await super().finish_response(request, resp, start_time)
            async with asyncio.timeout(self._caps.write_seconds):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()
            return resp, True
        finally:
            self._answered += 1
            self._begun = False
            self._change()

    def _fits(self, resp: web.StreamResponse) -> bool:
        """Whether the answer goes out without waiting: nearly all do, and need no timer."""
        return (
            self.transport is not None
            and self.transport.get_write_buffer_size() == 0
            and (resp.content_length or 0) <= _SMALL_BYTES
        )

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no request: bytes that are not HTTP, heads past the bounds."""
        if isinstance(exc, ConnectionError):
            raise exc  # the peer has gone
        if status != 400:
            _log.error("a request failed outside of its endpoint", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        kind = "malformed" if status == 400 else "internal"
        problem = Problem(kind, (message or "this is not a request").partition("\n")[0][:300])
        problem.closes = True
        return problem.response()


def peer_of(sock: socket.socket) -> Peer:
    """The peer of an accepted socket. Raises OSError when it is gone."""
    if sock.family == socket.AF_UNIX:
        uid = _uid(sock)
        return Peer(key=f"uid:{uid}", name=f"uid:{uid}", unix=True, uid=uid)
    address = str(sock.getpeername()[0])
    loopback = is_loopback(address) and is_loopback(str(sock.getsockname()[0]))
    return Peer(key=_network(address), name=address, loopback=loopback)


def _uid(sock: socket.socket) -> int | None:
    try:
        return peer_uid(sock)
    except OSError:
        return None


def _network(address: str) -> str:
    """The part of an address that one host cannot choose: of IPv6, the first half."""
    if ":" not in address:
        return address
    packed = IPv6Address(address.partition("%")[0]).packed
    return packed[:8].hex() if packed[:12] != bytes(10) + b"\xff\xff" else address
