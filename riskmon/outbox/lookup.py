"""Looking up a target's name so that a bad name service stops no cancel."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult


class Resolver(AbstractResolver):
    """Looks up the name of one target, in a thread that is its alone.

    The loop's own threads are shared: a few lookups that hang would stop those of all targets.
    When the name service fails or is slow, the last known addresses serve: a cancel must not wait
    for it.
    """

    _PATIENCE_SECONDS = 0.1

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="riskmon-lookup")
        self._lookup: asyncio.Future[list[ResolveResult]] | None = None
        self._known: list[ResolveResult] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        lookup = self._lookup
        if lookup is None or lookup.done():
            lookup = self._lookup = asyncio.get_running_loop().run_in_executor(
                self._thread, _look_up, host, port, family
            )
            lookup.add_done_callback(self._note)
        # Only waited for, never cancelled: one that outlasts its asker still serves the next.
        await asyncio.wait({lookup}, timeout=self._PATIENCE_SECONDS if self._known else None)
        return self._known or lookup.result()

    def _note(self, lookup: asyncio.Future[list[ResolveResult]]) -> None:
        if not lookup.cancelled() and lookup.exception() is None:
            self._known = lookup.result()

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


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
