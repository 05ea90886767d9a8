"""A limit on the number of connections to the OMS.

Each connection uses a file descriptor, and opening one requires no secret. When a new connection
exceeds the limit, the connection that has been without a verified webhook for the longest time is
closed. A client without a secret therefore cannot keep webhooks out.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from aiohttp import web

_MOST = 128
_BACKLOG = 512  # waiting in the kernel; a client retries a dropped connection after a second
_LINGER_SECONDS = 1.0  # for reading the rest of a refused body


class Connections:
    """The open connections, at most ``most``.

    By default ``most`` is 128, or a quarter of the limit on open files if that is less. A
    connection is closed after ``idle_seconds`` without a verified webhook.
    """

    def __init__(self, most: int | None = None, idle_seconds: float = 10.0) -> None:
        self._most, self._idle_seconds = most or _most_of_open_files(), idle_seconds
        self._open: dict[asyncio.BaseProtocol, asyncio.Transport] = {}
        self._idle: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._open)

    async def listen(self, runner: web.AppRunner, host: str, port: int) -> asyncio.Server:
        """Accept connections for ``runner``, which must be set up. Raises OSError."""
        server = runner.server
        if server is None:
            raise RuntimeError("the runner is not set up")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, port), family=family)
        # asyncio accepts up to `backlog` connections in one step of the event loop. With a small
        # number the requests of earlier connections are read in between; the kernel's own backlog,
        # set by the second listen(), stays large.
        listener = await asyncio.get_running_loop().create_server(
            lambda: _Connection(server, self), sock=sock, backlog=max(1, self._most // 16)
        )
        sock.listen(_BACKLOG)
        return listener

    @contextmanager
    def working(self, connection: asyncio.BaseProtocol) -> Iterator[None]:
        """Keep ``connection`` open while its webhook is processed."""
        if (timer := self._idle.pop(connection, None)) is not None:
            timer.cancel()
        try:
            yield
        finally:
            if connection in self._open:
                self._start_idle(connection)

    def enter(self, connection: asyncio.BaseProtocol, transport: asyncio.BaseTransport) -> None:
        """Add ``connection``; at the limit close the longest idle one, which may be this one."""
        self._open[connection] = cast(asyncio.Transport, transport)
        self._start_idle(connection)
        if len(self._open) > self._most:
            self._close(next(iter(self._idle)))

    def leave(self, connection: asyncio.BaseProtocol) -> None:
        """Remove a connection that was closed."""
        self._open.pop(connection, None)
        if (timer := self._idle.pop(connection, None)) is not None:
            timer.cancel()

    def _start_idle(self, connection: asyncio.BaseProtocol) -> None:
        loop = asyncio.get_running_loop()
        self._idle[connection] = loop.call_later(self._idle_seconds, self._close, connection)

    def _close(self, connection: asyncio.BaseProtocol) -> None:
        self._open[connection].abort()
        self.leave(connection)


class _Connection(web.RequestHandler):
    """A connection that is counted in ``connections``."""

    __slots__ = ("_connections",)

    def __init__(self, server: web.Server, connections: Connections) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            lingering_time=_LINGER_SECONDS,
        )
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.enter(self, transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.leave(self)
        super().connection_lost(exc)


def _most_of_open_files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(1, min(_MOST, soft // 4))
