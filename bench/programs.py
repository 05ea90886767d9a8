"""The processes of the benchmarks: a fast receiver of webhooks, a bare relay, a sidecar."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
from aiohttp import web

ROOT = Path(__file__).parent.parent
SECRET = "whsec_YmVuY2htYXJrcy1zaWduLXdpdGgtdGhpcy1zZWNyZXQ="  # noqa: S105 - of a benchmark
_ANSWER = b'{"status":"done","canceled":1,"open_orders":0}'
_DONE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(_ANSWER),
    _ANSWER,
)


def boot_ns() -> int:
    """Return CLOCK_BOOTTIME, which is the same for all processes of the machine."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class _Receiving(asyncio.Protocol):
    """A minimal HTTP server: answers a complete request and prints the time of its arrival."""

    def __init__(self) -> None:
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if not found or length is None or len(body) < int(length[1]):
            return
        received_ns = boot_ns()
        self._data = b""
        self._transport.write(_DONE)
        print(received_ns, flush=True)


async def _receive() -> None:
    server = await asyncio.get_running_loop().create_server(_Receiving, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _relay(url: str) -> None:
    """Forward each request with aiohttp: the minimum for any sidecar that uses this library."""
    async with aiohttp.ClientSession() as session:

        async def handle(request: web.BaseRequest) -> web.Response:
            body = await request.read()
            async with session.post(url, data=body) as response:
                await response.read()
            return web.Response(body=b"{}")

        server = web.Server(handle)
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        print(listener.sockets[0].getsockname()[1], flush=True)
        await listener.serve_forever()


async def _serve(kind: str) -> None:
    """Answer POST /v1/events by aiohttp's low-level server, or by its Application."""

    async def handle(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(body=b"{}")

    @web.middleware
    async def authorize(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        return await handler(request)

    loop = asyncio.get_running_loop()
    if kind == "server":
        listener = await loop.create_server(web.Server(handle, access_log=None), "127.0.0.1", 0)
    else:
        app = web.Application(middlewares=[authorize])
        app.router.add_post("/v1/events", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        assert runner.server is not None
        listener = await loop.create_server(runner.server, "127.0.0.1", 0)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()


class Program:
    """A process of this module, whose first line of output is its port."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.programs", *arguments],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        self.pid = self._process.pid
        self.port = self.line()

    def line(self) -> int:
        """Read the number in the next line of output."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def program(*arguments: str) -> Iterator[Program]:
    """Run `receive`, `relay URL` or `serve server|application` until the end of the block."""
    started = Program(*arguments)
    try:
        yield started
    finally:
        started.close()


class Sidecar:
    """A sidecar whose state is on the disk of /var/tmp, because /tmp may be in memory."""

    def __init__(self, directory: Path, config: str) -> None:
        self.directory = directory
        file = directory / "riskmon.toml"
        file.write_text(
            f'account = "bench"\nstate_dir = "{directory}/state"\n'
            f'gate = "{directory}/bench.gate"\n{config}'
        )
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RISKMON_")}
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "riskmon", "run", "--config", str(file)],
                stderr=log,
                cwd=directory,
                env={**environment, "PYTHONPATH": str(ROOT)},
            )
        self.port = self._announced()

    def _announced(self) -> int:
        for _ in range(1_000):
            log = (self.directory / "log").read_text()
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", log):
                return int(found[1])
            assert self.process.poll() is None, log
            time.sleep(0.02)
        self.process.kill()
        raise TimeoutError("the sidecar did not start")

    @property
    def token(self) -> str:
        """The operator's token."""
        return (self.directory / "state" / "operator.token").read_text().strip()


@contextmanager
def sidecar(config: str) -> Iterator[Sidecar]:
    """Run a sidecar on a free port until the end of the block."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        started = Sidecar(Path(directory), config)
        try:
            yield started
        finally:
            started.process.terminate()
            started.process.wait()


class Connection:
    """A persistent connection that sends encoded requests and reads complete answers."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, request: bytes) -> bytes:
        """Send a request and return the body of its 200 answer. Raises RuntimeError for others."""
        self.send(request)
        return self.answer()

    def send(self, request: bytes) -> None:
        """Send a request."""
        self._sock.sendall(request)

    def answer(self) -> bytes:
        """Return the body of the next answer, a 200. Raises RuntimeError for others."""
        data = b""
        while True:
            data += self._sock.recv(65_536)
            head, found, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            if found and length and len(body) >= int(length[1]):
                break
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{head!r} {body!r}")
        return body

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()


def post(path: str, body: bytes, token: str = "") -> bytes:
    """Return an encoded request."""
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{bearer}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _main(name: str, *arguments: str) -> None:
    if name == "relay":
        await _relay(*arguments)
    elif name == "serve":
        await _serve(*arguments)
    else:
        await _receive()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_main(*sys.argv[1:]))
