"""Room for connections: how many may be open, and which one closes when another needs its place.

Silent connections close first: those that have not sent a whole request, a TLS handshake under way
included. Then come idle ones, which are between two requests. Of each kind the oldest closes. One
with a request in progress is never closed for want of room.

When none can close, a newcomer gets a spare place, which serves requests with an operator's right
and nothing else of any length. A silent connection that was accepted a moment ago closes only when
there is no spare place either: its request may be on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from riskmon.web.access import Peer


class Held(Protocol):
    """What a room needs of a connection."""

    peer: Peer
    spare: bool
    since: float  # its last change, on the clock of the event loop

    @property
    def is_silent(self) -> bool:
        """Whether no whole request has arrived since the last answer, or since the beginning."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether it is between two requests."""
        ...

    def drop(self) -> None:
        """Close it at once."""
        ...


_YOUNG_SECONDS = 0.25  # after acceptance

C = TypeVar("C", bound=Held)


class Room(Generic[C]):
    """The connections of one kind of listener, in the order of their last change.

    ``most`` in all, ``each`` for one peer, and ``spare`` beyond both. ``clock`` is that of the
    event loop.
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

    def admit(self, connection: C) -> bool:
        """Give it a place, which another may lose; False when there is none."""
        crowd = self._crowd(connection.peer.key)
        if crowd is None or self._drop_oldest(crowd):
            return self._place(connection)
        if len(self._spare) < self._most_spare or self._drop_oldest(self._spare):
            return self._place_spare(connection)
        if self._drop_oldest(crowd, young=True):
            return self._place(connection)
        return self._drop_oldest(self._spare, young=True) and self._place_spare(connection)

    def _place(self, connection: C) -> bool:
        self._open[connection] = None
        self._peers.setdefault(connection.peer.key, {})[connection] = None
        return True

    def _place_spare(self, connection: C) -> bool:
        connection.spare = True
        self._spare[connection] = None
        return True

    def _crowd(self, key: str) -> Iterable[C] | None:
        """Those of which one must close before a connection of this peer opens."""
        own = self._peers.get(key, {})
        if len(own) >= self._each:
            return own
        return self._open if len(self._open) >= self._most else None

    def _drop_oldest(self, crowd: Iterable[C], *, young: bool = False) -> bool:
        """Close one of ``crowd``, a young silent one only if ``young``; whether one could close."""
        before = self._clock() - _YOUNG_SECONDS
        oldest = next((one for one in crowd if one.is_silent), None)
        if oldest is not None and oldest.since > before and not young:
            oldest = None
        if oldest is None:
            oldest = next((one for one in crowd if one.is_idle), None)
        if oldest is None:
            return False
        self.remove(oldest)
        oldest.drop()
        return True

    def shrink(self, number: int) -> None:
        """Close at most ``number`` connections that are silent or idle."""
        for _ in range(number):
            if not self._drop_oldest(self):
                return

    def renew(self, connection: C) -> None:
        """Make it the youngest: what it does has changed."""
        for held in (self._open, self._peers.get(connection.peer.key, {}), self._spare):
            if connection in held:
                del held[connection]
                held[connection] = None

    def remove(self, connection: C) -> None:
        """Remove it, if it is here."""
        self._spare.pop(connection, None)
        if connection not in self._open:
            return
        del self._open[connection]
        own = self._peers[connection.peer.key]
        del own[connection]
        if not own:
            del self._peers[connection.peer.key]
