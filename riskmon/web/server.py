"""The listeners: TCP and a Unix socket, with bounds on what any peer may hold open."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
import stat
import struct
from collections import Counter
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from riskmon.unix_socket import address_of
from riskmon.web.access import Peer, is_loopback
from riskmon.web.app import App
from riskmon.web.port import Caps
from riskmon.web.problems import Problem

_log = logging.getLogger("riskmon.web")
_BACKLOG = 512
_SMALL_BYTES = 32_768  # half of what a transport buffers before it makes writers wait


class _Connection(web.RequestHandler):
    """One connection: it knows its peer, is counted, and answers faults as problems."""

    __slots__ = ("_server", "ended", "peer")

    def __init__(self, server: _Server, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._server = server
        self.peer = Peer(key="")
        self.ended: asyncio.Future[None] | None = None  # of a stream on this connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # as that of every stream socket is
        peer = _peer(transport)
        if not self._server.let_in(peer):
            transport.write(_FULL)
            transport.close()
            return
        self.peer = peer
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.peer.key:
            self._server.let_out(self.peer)
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.peer.key:  # else it was turned away, and nobody reads it
            super().data_received(data)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """As aiohttp does it, but not for ever: a peer that does not read is cut off."""
        if self._fits(resp):
            return await super().finish_response(request, resp, start_time)
        try:
            async with asyncio.timeout(self._server.caps.write_seconds):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()
            return resp, True

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
        """What never reached the application: bytes that are not HTTP, heads past the bounds."""
        if status != 400:
            _log.error("a request failed outside of its endpoint", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        kind = "malformed" if status == 400 else "internal"
        problem = Problem(kind, (message or "this is not a request").partition("\n")[0][:300])
        problem.closes = True
        return problem.response()


class _Server(web.Server):
    """Makes connections and counts them."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.caps: Caps = app.edge.caps
        self._peers: Counter[str] = Counter()
        self._options = _options(self.caps)
        self._quiet_until = 0.0

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._options)

    @property
    def connected(self) -> int:
        """How many connections are counted."""
        return self._peers.total()

    def let_in(self, peer: Peer) -> bool:
        """Count a connection, unless it is one too many."""
        if (
            self.connected >= self.caps.connections
            or self._peers[peer.key] >= self.caps.peer_connections
        ):
            self._warn(peer)
            return False
        self._peers[peer.key] += 1
        return True

    def _warn(self, peer: Peer) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:  # once a minute: whoever floods must not fill the log too
            self._quiet_until = now + 60.0
            _log.warning("too many connections: those of %s are refused for now", peer.key)

    def let_out(self, peer: Peer) -> None:
        """Forget a connection."""
        self._peers[peer.key] -= 1
        if self._peers[peer.key] <= 0:
            del self._peers[peer.key]


def _options(caps: Caps) -> dict[str, Any]:
    return {
        "keepalive_timeout": caps.idle_seconds,
        "lingering_time": caps.linger_seconds,
        "max_line_size": caps.header_bytes,
        "max_field_size": caps.header_bytes,
        "max_headers": caps.headers,
        "auto_decompress": False,
        "access_log": None,
        "logger": _log,
    }


def _refusal() -> bytes:
    body = Problem("too_many_connections", "close some, or reuse them: try again later").body()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
        f"Retry-After: 1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_FULL = _refusal()


def _peer(transport: asyncio.Transport) -> Peer:
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        uid = _uid(sock)
        return Peer(key=f"uid:{uid}", name=f"uid:{uid}", unix=True, uid=uid)
    name = transport.get_extra_info("peername") or ("?",)
    address = str(name[0])
    own = transport.get_extra_info("sockname") or ("?",)
    loopback = is_loopback(address) and is_loopback(str(own[0]))
    return Peer(key=_network(address), name=address, loopback=loopback)


def _uid(sock: socket.socket) -> int | None:
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except (AttributeError, OSError):
        return None
    return int(struct.unpack("3i", packed)[1])


def _network(address: str) -> str:
    """What one host may change of its address by itself does not count: of IPv6, the last half."""
    if ":" not in address:
        return address
    packed = IPv6Address(address.partition("%")[0]).packed
    return packed[:8].hex() if packed[:12] != bytes(10) + b"\xff\xff" else address


class Running:
    """A server that listens. ``port`` is the TCP port that it got."""

    def __init__(
        self, app: App, server: _Server, listeners: list[asyncio.Server], unix: Path | None
    ) -> None:
        self._app, self._server = app, server
        self._listeners = listeners  # a reference to each, or the loop may close it
        self._unix = None if unix is None else (unix, unix.stat().st_ino)
        self.port: int | None = None
        for listener in listeners:
            for sock in listener.sockets:
                if sock.family != socket.AF_UNIX and self.port is None:
                    self.port = sock.getsockname()[1]

    @property
    def connections(self) -> int:
        """How many connections are open, on all listeners."""
        return self._server.connected

    async def close(self) -> None:
        """Stop listening, end streams, let requests under way finish, and close the rest."""
        for listener in self._listeners:
            listener.close()
        if self._unix is not None:
            path, inode = self._unix
            if path.exists() and path.stat().st_ino == inode:
                path.unlink()
        self._app.edge.end_streams()
        self._server.pre_shutdown()
        await self._server.shutdown(self._server.caps.close_seconds)


async def serve(
    app: App,
    *,
    host: str | None = "127.0.0.1",
    port: int = 9788,
    unix: Path | None = None,
    unix_mode: int = 0o600,
    unix_group: int | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> Running:
    """Listen on TCP (unless ``host`` is None) and on a Unix socket (if ``unix`` is a path).

    ``unix_mode`` and ``unix_group`` say who can connect to the socket. Raises OSError when an
    address is in use or cannot be had.
    """
    server = _Server(app)
    listeners: list[asyncio.Server] = []
    loop = asyncio.get_running_loop()
    try:
        if host is not None:
            tls: dict[str, Any] = {}
            if ssl_context is not None:
                tls = {
                    "ssl": ssl_context,
                    "ssl_handshake_timeout": app.edge.caps.handshake_seconds,
                }
            listeners.append(
                await loop.create_server(server, host.strip("[]"), port, backlog=_BACKLOG, **tls)
            )
        if unix is not None:
            sock = _bound(unix, unix_mode, unix_group)
            listeners.append(await loop.create_unix_server(server, sock=sock, backlog=_BACKLOG))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return Running(app, server, listeners, unix)


def _bound(path: Path, mode: int, group: int | None) -> socket.socket:
    """A socket at ``path``, to which no other user can connect before its mode is set."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address_of(path) as short:
            _clear_stale(path, short)
            os.fchmod(sock.fileno(), 0)  # bind gives the file this mode
            sock.bind(short)
            if group is not None:
                os.chown(short, -1, group)
            Path(short).chmod(mode)
    except OSError as failure:
        sock.close()
        raise OSError(failure.errno, failure.strerror or str(failure), str(path)) from None
    return sock


def _clear_stale(path: Path, short: str) -> None:
    """Remove the socket of a process that is gone; EADDRINUSE if it lives, or is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EADDRINUSE, "a file that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(short)
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # its backlog is full
            pass
    raise OSError(errno.EADDRINUSE, "another process listens there")
