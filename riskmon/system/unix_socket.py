"""Unix sockets: addresses for paths longer than 107 bytes, and the user of the peer."""

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
    """Yield an address to which a socket can be bound or connected for ``path``.

    A path that is too long is addressed through a descriptor of its directory, which is open until
    the end of the block. Raises OSError when the directory cannot be opened, and when binding or
    connecting for a file name that alone is too long.
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
    """Return the user of the peer of a connected Unix socket. Raises OSError."""
    packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(packed)[1])
