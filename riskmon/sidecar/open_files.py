"""The limit on open files, and the caps on connections that fit it."""

from __future__ import annotations

import resource
from dataclasses import dataclass

from riskmon.web import Caps

FILES_MAX = 65_536  # a higher limit has no use
OWN_FILES = 40  # used by the sidecar: journal, gate, log, listeners, event loop, lookups
FILES_PER_TARGET = 8  # the connections of a cancel target, and the descriptors reserved for them
CONNECTIONS_MIN = 8


@dataclass(frozen=True)
class TooFewFiles(Exception):
    """The limit on open files is too low for any connection."""

    limit: int
    needed: int

    def __str__(self) -> str:
        return (
            f"the limit on open files is {self.limit}: raise it to {self.needed} or more "
            "(ulimit -n, or LimitNOFILE= of the service)"
        )


def raise_limit() -> int:
    """Raise the soft limit on open files to the hard one, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        return target
    return FILES_MAX if soft == resource.RLIM_INFINITY else soft


def connection_caps(connections: int, targets: int, limit: int) -> Caps:
    """Return the caps on connections that fit ``limit``, with at most ``connections`` over TCP.

    Raises :class:`TooFewFiles`.
    """
    own = OWN_FILES + FILES_PER_TARGET * targets
    room = limit - own
    if room < CONNECTIONS_MIN:
        raise TooFewFiles(limit, own + CONNECTIONS_MIN)
    most = Caps(connections=connections)
    unix = min(most.unix_connections, room // 4)
    spare = min(most.spare_connections, room // 8)
    unix_spare = min(most.unix_spare_connections, room // 8)
    tcp = min(connections, room - unix - spare - unix_spare)
    return Caps(
        connections=tcp,
        peer_connections=min(most.peer_connections, tcp),
        spare_connections=spare,
        unix_connections=unix,
        unix_peer_connections=min(most.unix_peer_connections, unix),
        unix_spare_connections=unix_spare,
    )
