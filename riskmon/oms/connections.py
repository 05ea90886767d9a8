"""A bound on the connections to the OMS.

Each connection takes a file descriptor, and no secret is needed to open one. When there is no place
for a new one, the connection closes that has carried no verified webhook for longest. So those that
have no secret keep no webhook out.
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
_BACKLOG = 512  # that wait in the kernel; one that it drops is tried again after a second
_LINGER_SECONDS = 1.0  # for what is left of a refused body


class Connections:
    """The open connections, at most ``most``.

    By default ``most`` is 128, or a quarter of the limit on open files if that is less. One closes
    after ``idle_seconds`` without a verified webhook.
    """

    def __init__(self, most: int | None = None, idle_seconds: float = 10.0) -> None:
        self._most, self._idle_seconds = most or _most_of_open_files(), idle_seconds
        self._open: dict[asyncio.BaseProtocol, asyncio.Transport] = {}
        self._idle: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}  # the next to close first

    def __len__(self) -> int:
        return len(self._open)

    async def listen(self, runner: web.AppRunner, host: str, port: int) -> asyncio.Server:
        """Accept connections for ``runner``, which is set up. Raises OSError for the address."""
        server = runner.server
        if server is None:
            raise RuntimeError("the runner is not set up")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, port), family=family)
        # asyncio accepts as many in one step as may wait. A few leave the requests of those before
        # the time to be read, while the kernel lets more wait.
        listener = await asyncio.get_running_loop().create_server(
            lambda: _Connection(server, self), sock=sock, backlog=max(1, self._most // 16)
        )
        sock.listen(_BACKLOG)
        return listener

    @contextmanager
    def working(self, connection: asyncio.BaseProtocol) -> Iterator[None]:
        """Keep ``connection`` open while its webhook is worked on."""
        if (timer := self._idle.pop(connection, None)) is not None:
            timer.cancel()
        try:
            yield
        finally:
            if connection in self._open:
                self._wait(connection)

    def enter(self, connection: asyncio.BaseProtocol, transport: asyncio.BaseTransport) -> None:
        """Give ``connection`` a place; close the one that waits longest, which may be itself."""
        self._open[connection] = cast(asyncio.Transport, transport)
        self._wait(connection)
        if len(self._open) > self._most:
            self._close(next(iter(self._idle)))

    def leave(self, connection: asyncio.BaseProtocol) -> None:
        """Free the place of a connection that has closed."""
        self._open.pop(connection, None)
        if (timer := self._idle.pop(connection, None)) is not None:
            timer.cancel()

    def _wait(self, connection: asyncio.BaseProtocol) -> None:
        loop = asyncio.get_running_loop()
        self._idle[connection] = loop.call_later(self._idle_seconds, self._close, connection)

    def _close(self, connection: asyncio.BaseProtocol) -> None:
        self._open[connection].abort()
        self.leave(connection)


class _Connection(web.RequestHandler):
    """A connection that has a place in ``connections``."""

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
