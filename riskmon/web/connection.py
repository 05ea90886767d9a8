"""One connection: its peer, its state, and the deadlines for its requests and answers."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from ipaddress import IPv6Address
from typing import TypedDict, cast

from aiohttp import StreamReader, web

from riskmon.auth.peers import is_loopback
from riskmon.system.unix_socket import peer_uid
from riskmon.web.access import Peer
from riskmon.web.caps import Caps
from riskmon.web.problems import Problem
from riskmon.web.slots import Slots

_log = logging.getLogger("riskmon.web")
_SMALL_BYTES = 32_768  # half of what a transport buffers before writers have to wait


class Tls(TypedDict, total=False):
    """The TLS arguments of a listener's connections; empty without TLS."""

    ssl: ssl.SSLContext
    ssl_handshake_timeout: float


class Connection(web.RequestHandler):
    """A connection from its acceptance, which is before the TLS handshake."""

    __slots__ = (
        *("_answered", "_attaching", "_begun", "_body", "_caps", "_dropped", "_slots"),
        *("ended", "peer", "since", "spare"),
    )

    def __init__(
        self,
        server: web.Server,
        caps: Caps,
        slots: Slots[Connection],
        peer: Peer,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=caps.idle_seconds,
            lingering_time=caps.linger_seconds,
            max_line_size=caps.header_bytes,
            max_field_size=caps.header_bytes,
            max_headers=caps.headers,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # None: no access log
            logger=_log,
        )
        self._caps, self._slots = caps, slots
        self.peer = peer
        self.spare = False  # in a spare slot
        self.ended: asyncio.Future[None] | None = None  # set at the end of a stream's connection
        self.since = self._loop.time()  # of its last change of state
        self._answered = 0  # requests
        self._begun = False  # a part of the head of a further request has arrived
        self._body: StreamReader | None = None  # of the last request
        self._attaching: asyncio.Task[None] | None = None
        self._dropped = False

    # -- its state --------------------------------------------------------------------------------

    @property
    def awaits_head(self) -> bool:
        """Whether it waits for the rest of a head, or for the first one."""
        return self._request_count == self._answered and (self._begun or not self._answered)

    @property
    def is_silent(self) -> bool:
        """Whether no whole request has arrived since its acceptance or its last answer."""
        if self._request_count == self._answered + 1:
            return self._body is not None and not self._body.is_eof()
        return self.awaits_head

    @property
    def is_idle(self) -> bool:
        """Whether it is between two requests."""
        return self._request_count == self._answered and not self.awaits_head

    def _set_changed(self) -> None:
        self.since = self._loop.time()
        self._slots.move_to_end(self)

    # -- from its acceptance to its end -----------------------------------------------------------

    async def attach(self, sock: socket.socket, tls: Tls) -> None:
        """Serve ``sock``, after the TLS handshake if there is one."""
        if self._dropped:
            sock.close()
            return
        self._attaching = asyncio.current_task()
        try:
            await self._loop.connect_accepted_socket(lambda: self, sock, **tls)
        except (OSError, asyncio.CancelledError):  # handshake failed or dropped: asyncio closes it
            self._slots.remove(self)
        finally:
            self._attaching = None

    def drop(self) -> None:
        """Close it at once and discard what is not sent."""
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
        self._slots.remove(self)
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
            self._set_changed()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer as aiohttp does; abort the connection after ``write_seconds``."""
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
            self._set_changed()

    def _fits(self, resp: web.StreamResponse) -> bool:
        """Return whether the answer fits in the buffer: most do, and they need no timer."""
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
        """Return the answer to invalid HTTP and to heads over the caps."""
        if isinstance(exc, ConnectionError):
            raise exc  # the peer has disconnected
        if status != 400:
            _log.error("a request failed outside its endpoint", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer is already sent")
        kind = "malformed" if status == 400 else "internal"
        problem = Problem(kind, (message or "not an HTTP request").partition("\n")[0][:300])
        problem.closes = True
        return problem.response()


def peer_of(sock: socket.socket) -> Peer:
    """Return the peer of an accepted socket. Raises OSError if it has disconnected."""
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
    """Return the part of an address that a host cannot choose: of IPv6, the first half."""
    if ":" not in address:
        return address
    packed = IPv6Address(address.partition("%")[0]).packed
    return packed[:8].hex() if packed[:12] != bytes(10) + b"\xff\xff" else address
