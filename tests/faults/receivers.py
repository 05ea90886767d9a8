"""Hostile receivers of the cancel webhook, in a separate process.

`python -m tests.faults.receivers` prints {kind: url} as JSON and serves until it is killed.
"""

from __future__ import annotations

import itertools
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.support import ROOT

DONE = b'{"status":"done","canceled":1,"open_orders":0}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(DONE), DONE)
BLOCK_BYTES = 256 * 1024


def _flood(sock: socket.socket, head: bytes, piece: bytes) -> None:
    """Send `head`, then `piece` without end, as fast as the peer reads."""
    block = piece * (BLOCK_BYTES // len(piece))
    sock.sendall(head + block)
    while True:
        sock.sendall(block)


def _drip(sock: socket.socket, data: Iterator[bytes], pause_seconds: float) -> None:
    for piece in data:
        sock.sendall(piece)
        time.sleep(pause_seconds)


def _reset(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _silent(sock: socket.socket) -> None:
    while sock.recv(65_536):
        pass


def _redirect(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 307 Again\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")


def _bomb(sock: socket.socket) -> None:
    packed = zlib.compress(bytes(50_000_000), wbits=31)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    sock.sendall(head + packed)


_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000000\r\n\r\n"
_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

KINDS: dict[str, Callable[[socket.socket], None]] = {
    "interim_flood": lambda sock: _flood(sock, b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "hints_flood": lambda sock: _flood(sock, b"", _HINTS),
    "hints_drip": lambda sock: _drip(sock, itertools.repeat(_HINTS), 0.05),
    "head_flood": lambda sock: _flood(sock, b"HTTP/1.1 200 OK\r\n", b"X-A: %b\r\n" % (b"a" * 100)),
    "line_flood": lambda sock: _flood(sock, b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
    "answers_flood": lambda sock: _flood(sock, OK, b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body_flood": lambda sock: _flood(sock, b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 1_000),
    "length_flood": lambda sock: _flood(sock, _LENGTH, b"a" * 1_000),
    "chunk_flood": lambda sock: _flood(sock, _CHUNKED, b"1\r\na\r\n"),
    "extension_flood": lambda sock: _flood(sock, _CHUNKED + b"1;", b"a"),
    "trailer_flood": lambda sock: _flood(sock, _CHUNKED + b"0\r\n", b"X-A: a\r\n"),
    "drip": lambda sock: _drip(sock, (bytes([byte]) for byte in OK), 1.0),
    "silent": _silent,
    "reset": _reset,
    "redirect": _redirect,
    "bomb": _bomb,
}


def _serve(kind: Callable[[socket.socket], None]) -> int:
    """Listen and run `kind` for each connection. Return the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def one(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            sock.recv(65_536)
            kind(sock)

    def accept() -> None:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=one, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def main() -> None:
    """Serve all kinds."""
    urls = {name: f"http://127.0.0.1:{_serve(kind)}/" for name, kind in KINDS.items()}
    print(json.dumps(urls), flush=True)
    threading.Event().wait()


@contextmanager
def hostile_receivers() -> Iterator[dict[str, str]]:
    """Yield the URL of each kind while the process runs."""
    command = [sys.executable, "-m", "tests.faults.receivers"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


if __name__ == "__main__":
    main()
