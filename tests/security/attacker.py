"""An attacker in a separate process, which keeps connections open and replaces closed ones.

``python -m tests.security.attacker MODE COUNT ADDRESSES TARGET``: TARGET is a port of 127.0.0.1 or
the path of a Unix socket. It prints a line when COUNT connections have been opened, and the total
number of connections when its input ends.
"""

from __future__ import annotations

import asyncio
import socket
import sys

HEAD = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
PAGE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
# The bytes that each mode sends first, and then repeatedly.
MODES = {
    "silent": (b"", b""),
    "drip": (b"GET /v1/state HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"a"),
    "body": (HEAD + b"Content-Length: 10000\r\n\r\n", b" "),
    "idle": (b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
    "unread": (PAGE * 2_000, b""),  # requests whose answers fill every buffer and are never read
}
OPENED: list[None] = []  # one for each connection


def connected(target: str, address: str) -> socket.socket:
    """Return a socket that is connecting, with a small buffer."""
    sock = socket.socket(socket.AF_INET if target.isdigit() else socket.AF_UNIX)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.setblocking(False)
    if target.isdigit():
        sock.bind((address, 0))
    return sock


async def hold(mode: str, address: str, target: str) -> None:
    """Keep one connection open, and open another as soon as it closes."""
    loop = asyncio.get_running_loop()
    first, further = MODES[mode]
    place = ("127.0.0.1", int(target)) if target.isdigit() else target
    while True:
        with connected(target, address) as sock:
            try:
                await loop.sock_connect(sock, place)
                OPENED.append(None)
                await loop.sock_sendall(sock, first)
                while mode == "unread":
                    await asyncio.sleep(0.1)
                    sock.send(b"")
                    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        break
                reading = asyncio.ensure_future(loop.sock_recv(sock, 1))
                while not (await asyncio.wait({reading}, timeout=0.2))[0]:
                    await loop.sock_sendall(sock, further)
                if mode == "idle" and reading.result():
                    while await loop.sock_recv(sock, 4_096):
                        pass
            except OSError:
                await asyncio.sleep(0.01)


async def main(mode: str, count: str, addresses: str, target: str) -> None:
    """Attack until the input ends."""
    number = int(count)
    tasks = [
        asyncio.create_task(hold(mode, f"127.0.0.{1 + n % int(addresses)}", target))
        for n in range(number)
    ]
    while len(OPENED) < number:  # noqa: ASYNC110 - the count is changed by other tasks
        await asyncio.sleep(0.01)
    print("held", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(len(OPENED), flush=True)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
