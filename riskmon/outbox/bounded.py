"""A socket that receives a bounded answer to each request, in small pieces.

The client library reads interim answers (1xx), and bytes after an answer, without a limit, and up
to 256 KiB in one step of the event loop: 15,000 interim answers, which take 60 ms. This socket
reads at most 2 KiB in a step, so that other callbacks run in between, and fails when the peer sends
too much: the head of the answer, including interim answers, has one limit, the body another.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

HEAD_MAX_BYTES = 8 * 1024
PIECE_BYTES = 2 * 1024


class BoundedSocket(socket.socket):
    """A socket that fails with EMSGSIZE when an answer exceeds its limit.

    The limit of each request is that of a head, and :meth:`allow` raises it. A request begins when
    data is sent. ``closed`` is called when the descriptor has been closed.
    """

    def __init__(
        self, family: int, type: int, proto: int, *, closed: Callable[[], None] | None = None
    ) -> None:
        super().__init__(family, type, proto)
        self._closed_callback = closed
        self._left = HEAD_MAX_BYTES
        _by_number[self.fileno()] = self

    def allow(self, more_bytes: int) -> None:
        """Raise the limit of the current request by ``more_bytes``."""
        self._left += more_bytes

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data = super().recv(min(size, PIECE_BYTES), flags)
        self._count(len(data))
        return data

    def recv_into(self, buffer: WriteableBuffer, size: int = 0, flags: int = 0, /) -> int:
        room = size or memoryview(buffer).nbytes
        received = super().recv_into(buffer, min(room, PIECE_BYTES), flags)
        self._count(received)
        return received

    def close(self) -> None:
        super().close()
        if self._closed_callback is not None:
            self._closed_callback()

    def _count(self, received: int) -> None:
        self._left -= received
        if self._left < 0:
            raise OSError(errno.EMSGSIZE, "the answer is too long")

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        self._left = HEAD_MAX_BYTES
        return super().send(data, flags)

    def sendmsg(self, buffers: Iterable[ReadableBuffer], *rest: object) -> int:
        self._left = HEAD_MAX_BYTES
        return super().sendmsg(buffers, *rest)  # type: ignore[arg-type]  # passed on unchanged


_by_number: WeakValueDictionary[int, BoundedSocket] = WeakValueDictionary()


def allow(transport: asyncio.BaseTransport, more_bytes: int) -> None:
    """Raise the limit of the current request over ``transport``, unless it is closed."""
    bounded = _by_number.get(transport.get_extra_info("socket").fileno())
    if bounded is not None:
        bounded.allow(more_bytes)
