"""The listeners on TCP and on a Unix socket, with caps on each peer's connections."""

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

from aiohttp import web

from riskmon.system.unix_socket import address_of
from riskmon.web.app import App
from riskmon.web.connection import Connection, Tls, peer_of
from riskmon.web.problems import Problem
from riskmon.web.slots import Slots

_log = logging.getLogger("riskmon.web")
_BACKLOG = 512  # beyond it the kernel drops connections, which their peers retry after a second
_ACCEPTS = 16  # in one turn of the event loop, so that the lease is renewed in between
_PAUSE_SECONDS = 1.0  # without accepting, when no descriptor is free
_SEND_BYTES = 65_536  # the kernel's buffer for answers that a peer does not read
_QUIET_SECONDS = 60.0  # between two warnings of one kind: a flood must not fill the log


class _Server(web.Server):
    """Creates connections, and closes those whose head does not arrive in time.

    It is aiohttp's low-level server, because the caps need their own connection class, and because
    an Application with a router and one middleware uses 1.2 times the processor time for a
    request (`make bench ARGS=rest`).
    """

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.app, self.caps = app, app.context.caps
        caps, clock = self.caps, asyncio.get_running_loop().time
        self.tcp = Slots[Connection](
            caps.connections, caps.peer_connections, caps.spare_connections, clock
        )
        self.unix = Slots[Connection](
            caps.unix_connections,
            caps.unix_peer_connections,
            caps.unix_spare_connections,
            clock,
        )
        # A closed connection keeps its descriptor until the next turn of the event loop.
        self.accepts = max(1, min(_ACCEPTS, (caps.connections + caps.unix_connections) // 8))
        self._quiet_until: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweep_every = caps.head_seconds / 10
        self._sweeping = asyncio.get_running_loop().call_later(self._sweep_every, self._sweep)

    @property
    def connected(self) -> int:
        """The number of open connections."""
        return len(self.tcp) + len(self.unix)

    def serve(self, sock: socket.socket, tls: Tls) -> None:
        """Serve an accepted socket, or refuse it if no connection can close for it."""
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        slots = self.unix if sock.family == socket.AF_UNIX else self.tcp
        try:
            peer = peer_of(sock)
        except OSError:  # the peer has disconnected
            sock.close()
            return
        connection = Connection(self, self.caps, slots, peer, loop)
        if not slots.add(connection):
            self.warn("caps", f"too many connections: refusing new ones of {peer.name}")
            if not tls:
                with suppress(OSError):
                    sock.send(_FULL)
            sock.close()
            return
        task = loop.create_task(connection.attach(sock, tls))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def pause(self, error: OSError) -> None:
        """Count a pause in accepting, and close unused connections to free their descriptors."""
        self.app.context.port.accept_paused()
        self.warn(
            "accept",
            f"cannot accept connections ({error.strerror}): retrying in {_PAUSE_SECONDS:g} s; "
            "raise the limit on open files (ulimit -n)",
        )
        self.tcp.close_unused(_ACCEPTS)
        self.unix.close_unused(_ACCEPTS)

    def warn(self, kind: str, line: str) -> None:
        """Log a warning, unless one of this kind was logged in the last minute."""
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until.get(kind, 0.0):
            self._quiet_until[kind] = now + _QUIET_SECONDS
            _log.warning("%s", line)

    def _sweep(self) -> None:
        """Close the connections whose head has not arrived in time."""
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(self._sweep_every, self._sweep)
        before = loop.time() - self.caps.head_seconds
        for slots in (self.tcp, self.unix):
            for late in [c for c in slots if c.since < before and c.awaits_head]:
                slots.remove(late)
                late.drop()

    async def close(self) -> None:
        """Wait for requests in progress, for at most ``close_seconds``, and close the rest."""
        self._sweeping.cancel()
        for connection in [*self.tcp, *self.unix]:
            if connection.awaits_head:
                connection.drop()
        self.pre_shutdown()
        await self.shutdown(self.caps.close_seconds)


class _Listener:
    """A listening socket; it accepts a bounded number of connections in a turn of the loop."""

    def __init__(self, sock: socket.socket, server: _Server, tls: Tls) -> None:
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
            except OSError as error:  # no free descriptor or no memory
                self._loop.remove_reader(self.sock)
                self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)
                self._server.pause(error)
                return
            self._server.serve(sock, self._tls)

    def close(self) -> None:
        """Stop listening."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self.sock)
        self.sock.close()


def _refusal() -> bytes:
    body = Problem("too_many_connections", "close or reuse connections, or retry later").body()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
        f"Retry-After: 1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_FULL = _refusal()


class Running:
    """A server with its listeners. ``port`` is the TCP port on which it listens."""

    def __init__(self, server: _Server, listeners: list[_Listener], unix: Path | None) -> None:
        self._server, self._listeners = server, listeners
        self._unix = None if unix is None else (unix, unix.stat().st_ino)
        sockets = (listener.sock for listener in listeners)
        tcp = [sock for sock in sockets if sock.family != socket.AF_UNIX]
        self.port: int | None = tcp[0].getsockname()[1] if tcp else None

    @property
    def connections(self) -> int:
        """The number of open connections on all listeners."""
        return self._server.connected

    async def close(self) -> None:
        """Stop listening, end streams, wait for requests in progress, and close the rest."""
        for listener in self._listeners:
            listener.close()
        if self._unix is not None:
            path, inode = self._unix
            if path.exists() and path.stat().st_ino == inode:
                path.unlink()
        self._server.app.context.end_streams()
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

    ``unix_mode`` and ``unix_group`` are the permissions of the socket's file. Raises OSError if an
    address is in use or cannot be bound.
    """
    tls = Tls()
    if ssl_context is not None:
        tls = Tls(ssl=ssl_context, ssl_handshake_timeout=app.context.caps.head_seconds)
    sockets: list[socket.socket] = []
    try:
        if host is not None:
            sockets.extend(await _bind_tcp(host.strip("[]"), port))
        if unix is not None:
            sockets.append(_bind_unix(unix, unix_mode, unix_group))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    server = _Server(app)
    listeners = [
        _Listener(sock, server, Tls() if sock.family == socket.AF_UNIX else tls) for sock in sockets
    ]
    return Running(server, listeners, unix)


async def _bind_tcp(host: str, port: int) -> list[socket.socket]:
    """Return a bound socket for each address of ``host``."""
    addresses = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, kind, proto, _name, address in dict.fromkeys(addresses):
            sock = socket.socket(family, kind, proto)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind(address)
            except OSError as error:
                raise OSError(error.errno, f"{error.strerror}: {host}:{port}") from None
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind_unix(path: Path, mode: int, group: int | None) -> socket.socket:
    """Return a socket bound to ``path``; other users cannot connect before its mode is set."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address_of(path) as short:
            _clear_stale(path, short)
            os.fchmod(sock.fileno(), 0)  # bind creates the file with this mode
            sock.bind(short)
            if group is not None:
                os.chown(short, -1, group)
            Path(short).chmod(mode)
    except OSError as failure:
        sock.close()
        raise OSError(failure.errno, failure.strerror or str(failure), str(path)) from None
    return sock


def _clear_stale(path: Path, short: str) -> None:
    """Remove a socket that no process listens on; raise EADDRINUSE for any other file."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EADDRINUSE, "the path is a file that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(short)
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # its backlog is full
            pass
    raise OSError(errno.EADDRINUSE, "another process listens on the socket")
