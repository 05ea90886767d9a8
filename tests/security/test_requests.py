"""Single requests: Host headers, duplicate keys, and addresses of the Unix socket."""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path

import pytest

from riskmon.system.unix_socket import ADDRESS_BYTES, address_of
from riskmon.web import make_app, serve
from tests.support.memory_port import OPEN, OPERATOR, MemoryPort, site
from tests.support.sidecar import Sidecar


@pytest.mark.parametrize(
    ("host", "accepted"),
    [
        ("10.1.2.3", True),
        ("10.1.2.3:9788", True),
        ("0.0.0.0:1", True),
        ("[fd00::1]", True),
        ("[fd00::1]:9788", True),
        ("[::ffff:10.1.2.3]:80", True),
        ("fd00::1", False),
        ("[10.1.2.3]", False),
        ("10.1.2", False),
        ("10.1.2.3.evil.example", False),
        ("0x7f000001", False),
        ("2130706433", False),
        ("evil.example:9788", False),
    ],
)
async def test_address_is_accepted_as_host(host: str, accepted: bool) -> None:
    """A Host that is an IP literal is accepted with any port; an unknown name is refused."""
    async with site() as s:
        got = await s.ask("GET", "/-/ready", headers={"Host": host})
    assert got.status == (200 if accepted else 403)


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/v1/freeze", b'{"scope":"venue:a","reason":"x","scope":"account"}', "scope"),
        ("/v1/freeze", b'{"scope":"venue:a","reason":"x","sc\\u006fpe":"account"}', "scope"),
        ("/v1/unfreeze", b'{"scope":"a","reason":"x","generation":9,"generation":1}', "generation"),
        (
            "/v1/check",
            b'{"venue":"k","symbol":"B/U","side":"buy","quantity":1,"quantity":2,"price":1}',
            "quantity",
        ),
    ],
)
async def test_a_duplicate_key_is_refused(path: str, body: bytes, key: str) -> None:
    """A call with a duplicate key is a 400 that names the key."""
    async with site() as s:
        got = await s.ask(
            "POST", path, token=OPERATOR, body=body, headers={"Content-Type": "application/json"}
        )
    assert (got.status, got.json["field"]) == (400, key)
    assert s.port.untouched


async def test_calls_are_small() -> None:
    """A call over 64 KiB is refused by its length, before it is parsed."""
    body = b'{"scope":"account","reason":"x"' + b" " * 65_536 + b"}"
    async with site() as s:
        got = await s.ask(
            "POST",
            "/v1/freeze",
            token=OPERATOR,
            body=body,
            headers={"Content-Type": "application/json"},
        )
    assert got.status == 413
    assert s.port.untouched


async def test_long_unix_path(tmp_path: Path) -> None:
    """A path longer than a socket address can be bound, connected to, replaced and removed."""
    directory = tmp_path / ("d" * 60) / ("e" * 60)
    directory.mkdir(parents=True)
    path = directory / "riskmon.sock"
    assert len(str(path)) > ADDRESS_BYTES
    for _ in range(2):
        running = await serve(make_app(MemoryPort(), OPEN), host=None, unix=path)
        with pytest.raises(OSError, match="another process listens on the socket") as refused:
            await serve(make_app(MemoryPort(), OPEN), host=None, unix=path)
        assert (refused.value.errno, refused.value.filename) == (errno.EADDRINUSE, str(path))
        with address_of(path) as short, socket.socket(socket.AF_UNIX) as client:
            client.connect(short)
        await running.close()
        assert not path.exists()
        with socket.socket(socket.AF_UNIX) as left, address_of(path) as short:
            left.bind(short)  # as a killed process leaves it
    path.unlink()


@pytest.mark.slow
def test_occupied_unix_path_is_named(tmp_path: Path) -> None:
    """A start whose Unix socket is in use names the path, not the TCP address; exit 2."""
    with Sidecar(tmp_path) as sidecar, socket.socket(socket.AF_UNIX) as holder:
        holder.bind(f"{tmp_path}/sock")
        holder.listen()
        assert sidecar.launch().wait() == 2
        assert f"cannot listen on the Unix socket {tmp_path}/sock" in sidecar.output()
        assert "another process listens on the socket" in sidecar.output()


@pytest.mark.slow
def test_file_in_place_of_the_unix_socket_is_kept(tmp_path: Path) -> None:
    """A file that is not a socket is not removed; the start names it and exits 2."""
    (tmp_path / "sock").write_text("precious")
    with Sidecar(tmp_path) as sidecar:
        assert sidecar.launch().wait() == 2
        assert f"{tmp_path}/sock (the path is a file that is not a socket)" in sidecar.output()
    assert (tmp_path / "sock").read_text() == "precious"


async def test_header_that_is_no_utf8_is_refused() -> None:
    """Invalid UTF-8 in a header is quoted in a refusal with 400 or 415, and is not a 500."""
    running = await serve(make_app(MemoryPort(), OPEN), port=0)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(
        b"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/\xc7\r\n"
        b"Content-Length: 2\r\n\r\n[]"
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 415 ")
    writer.close()
    await writer.wait_closed()
    await running.close()
