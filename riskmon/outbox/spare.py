"""Descriptors that are kept open ahead, for a cancel when the process has no other left."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress

NUMBER = 6  # for each target
LENT = 4  # to a lookup, which opens a few files and sockets
_NONE_LEFT = (errno.EMFILE, errno.ENFILE)


class SpareDescriptors:
    """Holds ``NUMBER`` descriptors of /dev/null, as far as there are any."""

    def __init__(self) -> None:
        self._held: list[int] = []
        self.fill()

    def fill(self) -> None:
        """Open those that are missing; what cannot be opened now is opened at the next call."""
        with suppress(OSError):
            while len(self._held) < NUMBER:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def socket(self, make: Callable[[], socket.socket]) -> socket.socket:
        """What ``make`` gives; in place of a spare descriptor when there is no other."""
        try:
            return make()
        except OSError as error:
            if error.errno not in _NONE_LEFT or not self._release(1):
                raise
            return make()

    def lend(self) -> None:
        """Leave some to code that opens files by itself, if there are no others."""
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
        """Give them all back."""
        self._release(NUMBER)
