"""The listeners: caps on connections, heads and idle time, the Unix socket, TLS, shutdown."""

from __future__ import annotations

import asyncio
import errno
import shutil
import socket
import ssl
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from riskmon.web import Caps, make_app, serve
from tests.support.memory_port import OPEN, MemoryPort, site
from tests.support.waiting import eventually_async

STREAM = b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
GET = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="silent"),
        pytest.param(b"GET /-/hea", id="half a line"),
        pytest.param(b"GET /-/healthy HTTP/1.1\r\nHost: local", id="half a head"),
    ],
)
async def test_half_requests_are_closed(sent: bytes) -> None:
    """A connection whose head does not arrive in time is closed without an answer."""
    async with site(caps=Caps(head_seconds=0.1)) as s:
        assert await s.raw(sent) == b""


async def test_idle_connections_are_closed() -> None:
    """A connection is kept between requests until the idle time is over."""
    async with site(caps=Caps(idle_seconds=0.1)) as s:
        got = await s.raw(GET + GET)
    assert got.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", id="line"),
        pytest.param(GET[:-2] + b"A: " + b"a" * 10_000 + b"\r\n\r\n", id="field"),
        pytest.param(GET[:-2] + b"A: a\r\n" * 100 + b"\r\n", id="fields"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", id="TLS"),
        pytest.param(GET[:-2] + b"Host: evil.example\r\n\r\n", id="two hosts"),
    ],
)
async def test_invalid_http_is_a_400_problem(sent: bytes) -> None:
    """Heads over the caps and bytes that are not HTTP are refused; the connection closes."""
    async with site() as s:
        got = await s.raw(sent)
        healthy = await s.ask("GET", "/-/healthy")
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"400"
    assert b"application/problem+json" in head
    assert b'"status":400' in body
    assert b"Traceback" not in body
    assert healthy.status == 200


async def test_connections_of_one_peer_are_capped() -> None:
    """At the cap, with streams open, a connection is refused; after one closes it is accepted."""
    async with site(caps=Caps(peer_connections=2, spare_connections=0)) as s:
        held = [await asyncio.open_connection("127.0.0.1", s.tcp) for _ in range(2)]
        for reader, writer in held:
            writer.write(STREAM)
            await reader.readuntil(b"retry: 2000")
        refused = await s.raw(b"")
        held[0][1].close()
        await held[0][1].wait_closed()
        closing = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        await eventually_async(lambda: s.running.connections == 1)
        admitted = await s.raw(closing)
        held[1][1].close()
    assert admitted.startswith(b"HTTP/1.1 200 ")
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1" in refused
    assert b"too_many_connections" in refused


async def test_connections_of_a_listener_are_capped(tmp_path: Path) -> None:
    """Each listener has its own cap on connections."""
    path = tmp_path / "main.sock"
    async with site(caps=Caps(connections=1, spare_connections=0), unix=path) as s:
        reader, writer = await asyncio.open_connection("127.0.0.1", s.tcp)
        writer.write(STREAM)
        await reader.readuntil(b"retry: 2000")
        assert (await s.raw(b"")).startswith(b"HTTP/1.1 503 ")
        assert (await s.ask("GET", "/-/healthy", over_unix=True)).status == 200
        writer.close()


async def test_peer_that_does_not_read_its_answer_is_cut_off() -> None:
    """A connection whose peer does not read its answer is aborted."""
    async with site(caps=Caps(write_seconds=0.1)) as s:
        _, writer = await asyncio.open_connection("127.0.0.1", s.tcp, limit=1024)
        assert isinstance(writer.transport, asyncio.Transport)
        writer.transport.pause_reading()
        head = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

        async def ask_on() -> None:
            while True:
                writer.write(head * 1000)
                await writer.drain()

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(ask_on(), 10)
        writer.close()


async def test_port_in_use_is_an_oserror() -> None:
    """A second server on a port raises OSError and leaves no socket open."""
    async with site() as s:
        app = make_app(MemoryPort(), OPEN)
        with pytest.raises(OSError, match=str(s.tcp)) as refused:
            await serve(app, port=s.tcp)
    assert refused.value.errno == errno.EADDRINUSE


async def test_unix_socket_has_its_mode_and_is_removed_at_the_end(tmp_path: Path) -> None:
    """The socket has mode 0600 or `unix_mode`; its file is removed with the server."""
    path = tmp_path / "main.sock"
    async with site(unix=path) as s:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        got = await s.ask("GET", "/-/healthy", over_unix=True)
    assert got.status == 200
    assert not path.exists()


async def test_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    """The socket file of a killed sidecar is replaced."""
    path = tmp_path / "main.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with site(unix=path) as s:
        assert (await s.ask("GET", "/-/healthy", over_unix=True)).status == 200


async def test_unix_socket_of_a_living_process_is_kept(tmp_path: Path) -> None:
    """The socket of a running sidecar is not replaced."""
    path = tmp_path / "main.sock"
    async with site(unix=path) as s:
        with pytest.raises(OSError, match="another process") as refused:
            await serve(make_app(MemoryPort(), OPEN), port=0, unix=path)
        assert refused.value.errno == errno.EADDRINUSE
        assert (await s.ask("GET", "/-/healthy", over_unix=True)).status == 200


async def test_file_in_place_of_the_socket_is_kept(tmp_path: Path) -> None:
    """A file that is not a socket is not removed."""
    path = tmp_path / "main.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match=r"main\.sock"):
        await serve(make_app(MemoryPort(), OPEN), port=0, unix=path)
    assert path.read_text() == "precious"


async def test_successors_socket_survives_the_close(tmp_path: Path) -> None:
    """A server removes its own socket file only, not one that replaced it."""
    path = tmp_path / "main.sock"
    async with site(unix=path):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.exists()


async def test_unix_alone(tmp_path: Path) -> None:
    """Without a host there is no TCP listener."""
    path = tmp_path / "main.sock"
    running = await serve(make_app(MemoryPort(), OPEN), host=None, unix=path)
    try:
        assert running.port is None
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(GET)
        assert b" 200 " in await reader.readline()
        writer.close()
    finally:
        await running.close()


async def test_close_frees_the_port_and_the_connections() -> None:
    """After the close no connection is open and the port can be bound again."""
    app = make_app(MemoryPort(), OPEN)
    running = await serve(app, port=0)
    assert running.port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(GET)
    await reader.readuntil(b"healthy.\n")
    await running.close()
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    again = await serve(app, port=running.port)
    await again.close()


async def test_request_in_progress_is_answered_before_the_end() -> None:
    """A batch that is being processed is acknowledged while the server closes."""
    port = MemoryPort()
    handed, may_go = asyncio.Event(), asyncio.Event()
    ingest = port.ingest

    async def slowly(events: list[object]) -> object:
        handed.set()
        await may_go.wait()
        return await ingest(events)  # type: ignore[arg-type]

    port.ingest = slowly  # type: ignore[method-assign, assignment]
    running = await serve(make_app(port, OPEN), port=0)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    body = b'{"type":"heartbeat"}'
    writer.write(
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    await handed.wait()
    closing = asyncio.create_task(running.close())
    await asyncio.sleep(0)
    may_go.set()
    async with asyncio.timeout(5):
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        await closing
    writer.close()


async def test_tls(tmp_path: Path) -> None:
    """With a certificate the server uses TLS; a handshake that hangs loses its slot."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is missing: nothing makes a certificate for this test")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    caps = Caps(connections=2, spare_connections=0)
    running = await serve(make_app(MemoryPort(), OPEN, caps=caps), port=0, ssl_context=context)
    trusting = ssl.create_default_context(cafile=str(certificate))
    try:
        assert running.port is not None
        silent = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(2)]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", running.port, ssl=trusting, server_hostname="localhost"
        )
        writer.write(GET)
        assert b" 200 " in await reader.readline()
        writer.close()
        with suppress(ConnectionError):  # the older of the two is closed
            assert await silent[0][0].read() == b""
        for _, hanging in silent:
            hanging.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(GET)
        assert b"HTTP/" not in await reader.read()
        writer.close()
    finally:
        await running.close()


async def test_no_descriptor_is_left() -> None:
    """A hundred connections and their server leave no descriptor open."""

    def opened() -> int:
        return len([*Path("/proc/self/fd").iterdir()])

    before = opened()
    async with site() as s:
        for _ in range(100):
            assert await s.raw(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    await eventually_async(lambda: opened() <= before)
