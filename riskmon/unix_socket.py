"""Addresses of Unix sockets: a path may be longer than the 107 bytes that an address holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ADDRESS_BYTES = 107


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """The address by which ``path`` can be bound or connected to while the context is open.

    A path that is too long is addressed by a descriptor of its directory. Raises OSError when the
    directory cannot be opened, and for a file name that is too long by itself.
    """
    if len(os.fsencode(path)) <= ADDRESS_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
