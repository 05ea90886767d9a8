"""Slots for connections: the caps on open connections, and which one closes at a cap.

At a cap, a new connection closes another one: the oldest silent one, which has not sent a whole
request (or is in its TLS handshake), else the oldest idle one, which is between two requests. A
connection with a request in progress is never closed.

If none can be closed, the new connection gets a spare slot. A spare connection serves requests with
an operator's right and a few short ones. A silent connection that was accepted a moment ago is
closed only if there is no spare slot either, because its request may be about to arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from riskmon.web.access import Peer


class Closable(Protocol):
    """The part of a connection that the slots use."""

    peer: Peer
    spare: bool
    since: float  # its last change, on the clock of the event loop

    @property
    def is_silent(self) -> bool:
        """Whether no whole request has arrived since its acceptance or its last answer."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether it is between two requests."""
        ...

    def drop(self) -> None:
        """Close it at once."""
        ...


_YOUNG_SECONDS = 0.25  # after acceptance

C = TypeVar("C", bound=Closable)


class Slots(Generic[C]):
    """The connections of one kind of listener, in the order of their last change of state.

    At most ``most`` in all, ``each`` for one peer, and ``spare`` beyond both. ``clock`` is that of
    the event loop.
    """

    def __init__(self, most: int, each: int, spare: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._most, self._each, self._most_spare = most, each, spare
        self._open: dict[C, None] = {}
        self._peers: dict[str, dict[C, None]] = {}
        self._spare: dict[C, None] = {}

    def __len__(self) -> int:
        return len(self._open) + len(self._spare)

    def __iter__(self) -> Iterator[C]:
        yield from self._open
        yield from self._spare

    def add(self, connection: C) -> bool:
        """Add a connection, in place of another one at a cap; return False if none can close."""
        full = self._full(connection.peer.key)
        if full is None or self._drop_oldest(full):
            return self._add_regular(connection)
        if len(self._spare) < self._most_spare or self._drop_oldest(self._spare):
            return self._add_spare(connection)
        if self._drop_oldest(full, young=True):
            return self._add_regular(connection)
        return self._drop_oldest(self._spare, young=True) and self._add_spare(connection)

    def _add_regular(self, connection: C) -> bool:
        self._open[connection] = None
        self._peers.setdefault(connection.peer.key, {})[connection] = None
        return True

    def _add_spare(self, connection: C) -> bool:
        connection.spare = True
        self._spare[connection] = None
        return True

    def _full(self, key: str) -> Iterable[C] | None:
        """Return the connections under the cap that this peer has reached; None without one."""
        of_peer = self._peers.get(key, {})
        if len(of_peer) >= self._each:
            return of_peer
        return self._open if len(self._open) >= self._most else None

    def _drop_oldest(self, among: Iterable[C], *, young: bool = False) -> bool:
        """Close the oldest silent or idle one, a young silent one only if ``young``.

        Returns whether one was closed.
        """
        before = self._clock() - _YOUNG_SECONDS
        oldest = next((one for one in among if one.is_silent), None)
        if oldest is not None and oldest.since > before and not young:
            oldest = None
        if oldest is None:
            oldest = next((one for one in among if one.is_idle), None)
        if oldest is None:
            return False
        self.remove(oldest)
        oldest.drop()
        return True

    def close_unused(self, number: int) -> None:
        """Close at most ``number`` connections that are silent or idle."""
        for _ in range(number):
            if not self._drop_oldest(self):
                return

    def move_to_end(self, connection: C) -> None:
        """Make it the most recent one, after a change of its state."""
        for ordered in (self._open, self._peers.get(connection.peer.key, {}), self._spare):
            if connection in ordered:
                del ordered[connection]
                ordered[connection] = None

    def remove(self, connection: C) -> None:
        """Remove it if it has a slot."""
        self._spare.pop(connection, None)
        if connection not in self._open:
            return
        del self._open[connection]
        of_peer = self._peers[connection.peer.key]
        del of_peer[connection]
        if not of_peer:
            del self._peers[connection.peer.key]
