"""The lookup of a target's name, bounded in time, with the last addresses as a fallback."""

from __future__ import annotations

import asyncio
import errno
import socket
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult

from riskmon.outbox.spare import SpareDescriptors
from riskmon.system.daemon import in_daemon

LOOKUP_SECONDS = 0.4  # of the 0.5 s for lookup, connection and TLS together


class Resolver(AbstractResolver):
    """The resolver of one target, with one lookup at a time in a separate thread.

    The thread pool of the event loop is shared: a few lookups that block would block those of all
    targets. When the name service fails or is slow, the last addresses are used, so that a cancel
    does not wait for it.
    """

    _KNOWN_WAIT_SECONDS = 0.1  # for new addresses, while the last ones can be used

    def __init__(self, spare: SpareDescriptors) -> None:
        self._spare = spare
        self._lookup: asyncio.Future[list[ResolveResult]] | None = None
        self._last: list[ResolveResult] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses, after at most ``LOOKUP_SECONDS``. Raises OSError."""
        lookup = self._lookup
        if lookup is None or lookup.done():
            self._spare.lend()
            lookup = in_daemon("riskmon-lookup", partial(_look_up, host, port, family))
            lookup.add_done_callback(self._note)
            self._lookup = lookup
        # The lookup is not cancelled at the timeout: a later call uses its result.
        timeout_seconds = self._KNOWN_WAIT_SECONDS if self._last else LOOKUP_SECONDS
        await asyncio.wait({lookup}, timeout=timeout_seconds)
        if self._last:
            return self._last
        if not lookup.done():
            raise OSError(errno.ETIMEDOUT, f"no address of {host} after {LOOKUP_SECONDS} s")
        return lookup.result()

    def _note(self, lookup: asyncio.Future[list[ResolveResult]]) -> None:
        self._spare.fill()
        if not lookup.cancelled() and lookup.exception() is None:
            self._last = lookup.result()

    async def close(self) -> None:
        """Do nothing: a running lookup ends by itself or with the process."""


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=port,
            family=kind,
            proto=proto,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, proto, _, address in found
    ]
