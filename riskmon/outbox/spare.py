"""Reserved file descriptors, for a cancel when the process has no other left."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress

NUMBER = 6  # for each target
LENT = 4  # released for a lookup, which opens a few files and sockets
_NONE_LEFT = (errno.EMFILE, errno.ENFILE)


class SpareDescriptors:
    """A reserve of up to ``NUMBER`` descriptors of /dev/null."""

    def __init__(self) -> None:
        self._held: list[int] = []
        self.fill()

    def fill(self) -> None:
        """Open the missing descriptors; retry those that cannot be opened at the next call."""
        with suppress(OSError):
            while len(self._held) < NUMBER:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def socket(self, make: Callable[[], socket.socket]) -> socket.socket:
        """Return ``make()``; when there is no free descriptor, release one of the reserve first."""
        try:
            return make()
        except OSError as error:
            if error.errno not in _NONE_LEFT or not self._release(1):
                raise
            return make()

    def lend(self) -> None:
        """Release ``LENT`` descriptors when no other is free."""
        try:
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            self._release(LENT)

    def _release(self, number: int) -> int:
        released = 0
        while self._held and released < number:
            os.close(self._held.pop())
            released += 1
        return released

    def close(self) -> None:
        """Close all descriptors."""
        self._release(NUMBER)
