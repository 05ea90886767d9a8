"""The listeners: TCP and a Unix socket, with bounds on what any peer may hold open."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from riskmon.system.unix_socket import address_of
from riskmon.web.app import App
from riskmon.web.caps import Caps
from riskmon.web.connection import Connection, peer_of
from riskmon.web.problems import Problem
from riskmon.web.room import Room

_log = logging.getLogger("riskmon.web")
_BACKLOG = 512  # a connection that the kernel drops is tried again after a second
_ACCEPTS = 16  # in one turn of the event loop, so that the lease is renewed between
_PAUSE_SECONDS = 1.0  # without accepting, when there is no descriptor
_SEND_BYTES = 65_536  # of answers that a connection does not read, in the kernel
_QUIET_SECONDS = 60.0  # between two lines of one kind: a flood must not fill the log too


class _Server(web.Server):
    """Makes connections, and closes those whose head takes too long."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.app, self.caps = app, app.edge.caps
        caps, clock = self.caps, asyncio.get_running_loop().time
        self.tcp = Room[Connection](
            caps.connections, caps.peer_connections, caps.spare_connections, clock
        )
        self.unix = Room[Connection](
            caps.unix_connections,
            caps.unix_peer_connections,
            caps.unix_spare_connections,
            clock,
        )
        # One that gives way keeps its descriptor until the next turn.
        self.accepts = max(1, min(_ACCEPTS, (caps.connections + caps.unix_connections) // 8))
        self._options = _options(caps)
        self._quiet_until: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweep_every = caps.head_seconds / 10
        self._sweeping = asyncio.get_running_loop().call_later(self._sweep_every, self._sweep)

    @property
    def connected(self) -> int:
        """How many connections are open."""
        return len(self.tcp) + len(self.unix)

    def take(self, sock: socket.socket, tls: dict[str, Any]) -> None:
        """Serve an accepted socket, or refuse it when no connection can close for it."""
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        room = self.unix if sock.family == socket.AF_UNIX else self.tcp
        try:
            peer = peer_of(sock)
        except OSError:  # it has gone already
            sock.close()
            return
        connection = Connection(self, self.caps, room, peer, loop=loop, **self._options)
        if not room.admit(connection):
            self.warn("room", f"too many connections: those of {peer.name} are refused for now")
            if not tls:
                with suppress(OSError):
                    sock.send(_FULL)
            sock.close()
            return
        task = loop.create_task(connection.attach(sock, tls))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def pause(self, error: OSError) -> None:
        """Count a pause of accepting, and free what descriptors silent connections hold."""
        self.app.edge.port.accept_paused()
        self.warn(
            "accept",
            f"cannot accept connections ({error.strerror}): accepting pauses for "
            f"{_PAUSE_SECONDS:g} s; raise the limit on open files (ulimit -n)",
        )
        self.tcp.shrink(_ACCEPTS)
        self.unix.shrink(_ACCEPTS)

    def warn(self, kind: str, line: str) -> None:
        """Log a line, unless one of this kind was logged a moment ago."""
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until.get(kind, 0.0):
            self._quiet_until[kind] = now + _QUIET_SECONDS
            _log.warning("%s", line)

    def _sweep(self) -> None:
        """Close the connections whose head has not arrived in time."""
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(self._sweep_every, self._sweep)
        before = loop.time() - self.caps.head_seconds
        for room in (self.tcp, self.unix):
            for late in [one for one in room if one.since < before and one.awaits_head]:
                room.remove(late)
                late.drop()

    async def close(self) -> None:
        """Let requests under way finish, and close the rest."""
        self._sweeping.cancel()
        for one in [*self.tcp, *self.unix]:
            if one.awaits_head:
                one.drop()
        self.pre_shutdown()
        await self.shutdown(self.caps.close_seconds)


class _Listener:
    """A listening socket, of which a bounded number of connections is accepted at a time."""

    def __init__(self, sock: socket.socket, server: _Server, tls: dict[str, Any]) -> None:
        self.sock, self._server, self._tls = sock, server, tls
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        sock.listen(_BACKLOG)
        self._resume()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self.sock, self._accept)

    def _accept(self) -> None:
        for _ in range(self._server.accepts):
            try:
                sock, _address = self.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor, or no memory, for the moment
                self._loop.remove_reader(self.sock)
                self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)
                self._server.pause(error)
                return
            self._server.take(sock, self._tls)

    def close(self) -> None:
        """Stop listening."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self.sock)
        self.sock.close()


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


class Running:
    """A server that listens. ``port`` is the TCP port that it got."""

    def __init__(self, server: _Server, listeners: list[_Listener], unix: Path | None) -> None:
        self._server, self._listeners = server, listeners
        self._unix = None if unix is None else (unix, unix.stat().st_ino)
        tcp = [one.sock for one in listeners if one.sock.family != socket.AF_UNIX]
        self.port: int | None = tcp[0].getsockname()[1] if tcp else None

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
        self._server.app.edge.end_streams()
        await self._server.close()


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
    tls: dict[str, Any] = {}
    if ssl_context is not None:
        tls = {"ssl": ssl_context, "ssl_handshake_timeout": app.edge.caps.head_seconds}
    sockets: list[socket.socket] = []
    try:
        if host is not None:
            sockets.extend(await _tcp(host.strip("[]"), port))
        if unix is not None:
            sockets.append(_bound(unix, unix_mode, unix_group))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    server = _Server(app)
    listeners = [
        _Listener(sock, server, {} if sock.family == socket.AF_UNIX else tls) for sock in sockets
    ]
    return Running(server, listeners, unix)


async def _tcp(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of ``host``."""
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, kind, proto, _name, where in dict.fromkeys(found):
            sock = socket.socket(family, kind, proto)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind(where)
            except OSError as error:
                raise OSError(error.errno, f"{error.strerror}: {host}:{port}") from None
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


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
