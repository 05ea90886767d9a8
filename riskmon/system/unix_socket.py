"""Unix sockets: addresses for paths beyond the 107 bytes of an address, and the peer's user."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ADDRESS_BYTES = 107
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """The address by which ``path`` can be bound or connected to while the context is open.

    A path that is too long is addressed by a descriptor of its directory. Raises OSError when the
    directory cannot be opened, and for a file name that alone is too long.
    """
    if len(os.fsencode(path)) <= ADDRESS_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def peer_uid(sock: socket.socket) -> int:
    """The user at the other end of a connected Unix socket. Raises OSError."""
    packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(packed)[1])
