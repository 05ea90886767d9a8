"""Looking up a target's name so that a bad name service stops no cancel."""

from __future__ import annotations

import asyncio
import errno
import socket
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult

from riskmon.outbox.spare import SpareDescriptors
from riskmon.system.daemon import in_daemon

LOOKUP_SECONDS = 0.4  # of the 0.5 s that name, connection and TLS have together


class Resolver(AbstractResolver):
    """Looks up the name of one target, in a thread of its own, one at a time.

    The loop's own threads are shared: a few lookups that hang would stop those of all targets.
    When the name service fails or is slow, the last known addresses serve: a cancel must not wait
    for it.
    """

    _PATIENCE_SECONDS = 0.1

    def __init__(self, spare: SpareDescriptors) -> None:
        self._spare = spare
        self._lookup: asyncio.Future[list[ResolveResult]] | None = None
        self._known: list[ResolveResult] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses, after ``LOOKUP_SECONDS`` at most. Raises OSError."""
        lookup = self._lookup
        if lookup is None or lookup.done():
            self._spare.lend()
            lookup = in_daemon("riskmon-lookup", partial(_look_up, host, port, family))
            lookup.add_done_callback(self._note)
            self._lookup = lookup
        # Only waited for, never cancelled: one that outlasts this call still serves the next.
        patience_seconds = self._PATIENCE_SECONDS if self._known else LOOKUP_SECONDS
        await asyncio.wait({lookup}, timeout=patience_seconds)
        if self._known:
            return self._known
        if not lookup.done():
            raise OSError(errno.ETIMEDOUT, f"no address of {host} after {LOOKUP_SECONDS} s")
        return lookup.result()

    def _note(self, lookup: asyncio.Future[list[ResolveResult]]) -> None:
        self._spare.fill()
        if not lookup.cancelled() and lookup.exception() is None:
            self._known = lookup.result()

    async def close(self) -> None:
        """Nothing to do: a lookup under way ends by itself, or with the process."""


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
