"""A socket that takes a bounded answer to each request, in small pieces.

The client library reads interim answers (1xx), and bytes that come after an answer, without end,
and up to 256 KiB in one step of the event loop: 15,000 interim answers, which take 60 ms. Here a
step reads 2 KiB, so that whatever else is ready has its turn, and a receiver that sends more than
an answer may have is disconnected.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

PIECE_BYTES = 2 * 1024


class BoundedSocket(socket.socket):
    """Fails with EMSGSIZE when more than ``max_bytes`` come after what was sent last.

    ``closed`` is called when its descriptor is free again.
    """

    def __init__(
        self,
        family: int,
        type: int,
        proto: int,
        *,
        max_bytes: int,
        closed: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(family, type, proto)
        self._closed_callback = closed
        self._max_bytes = max_bytes
        self._received = 0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data = super().recv(min(size, PIECE_BYTES), flags)
        self._count(len(data))
        return data

    def recv_into(self, buffer: WriteableBuffer, size: int = 0, flags: int = 0, /) -> int:
        wanted = size or memoryview(buffer).nbytes
        received = super().recv_into(buffer, min(wanted, PIECE_BYTES), flags)
        self._count(received)
        return received

    def close(self) -> None:
        super().close()
        if self._closed_callback is not None:
            self._closed_callback()

    def _count(self, received: int) -> None:
        self._received += received
        if self._received > self._max_bytes:
            raise OSError(errno.EMSGSIZE, f"more than {self._max_bytes} bytes for one request")

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        self._received = 0
        return super().send(data, flags)

    def sendmsg(
        self,
        buffers: Iterable[ReadableBuffer],
        *rest: object,
    ) -> int:
        self._received = 0
        return super().sendmsg(buffers, *rest)  # type: ignore[arg-type]  # as they came
