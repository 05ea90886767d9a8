"""The client for bots without asyncio: the same client, on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any, Self, TypeVar

from riskmon.client.asynchronous import DEFAULT_URL, Client, timed
from riskmon.client.permit import Order, Verdict
from riskmon.client.reports import Amount, Reports, Side
from riskmon.gate import Gate

_T = TypeVar("_T")


class SyncClient(Reports):
    """`Client` for threads: any of them may report, ask and guard. Close it at the end.

    Reports never wait. `check`, and `guard(order=True)` when the gate is not open, wait for the
    sidecar, two seconds at most. Create it after a fork: its thread stays with the parent.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        verify: bool = False,
        gate: Gate | str | os.PathLike[str] | None = None,
        owner: str | int | None = None,
        queue_max: int = 100_000,
    ) -> None:
        self._client = Client(
            url, token=token, verify=verify, gate=gate, owner=owner, queue_max=queue_max
        )
        super().__init__(self._client._queue, self._wake)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="riskmon-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def flush(self, max_seconds: float = 2.0) -> bool:
        """Wait until the sidecar has everything reported so far; False when the time is over."""
        return self._wait_for(self._client.flush(max_seconds))

    def close(self, max_seconds: float = 2.0) -> None:
        """Send what is queued, for at most `max_seconds`, and close; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._wait_for(self._client.aclose(max_seconds))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def allows(
        self, *, venue: str | None = None, symbol: str | None = None, strategy: str | None = None
    ) -> bool:
        """As `Client.allows`."""
        return self._client.allows(venue=venue, symbol=symbol, strategy=strategy)

    def check(
        self,
        *,
        venue: str,
        symbol: str,
        side: Side,
        quantity: Amount,
        price: Amount,
        id: str | None = None,
        strategy: str | None = None,
        reduce_only: bool = False,
        simulate: bool = False,
    ) -> Verdict:
        """As `Client.check`, with the same errors."""
        order = Order(venue, symbol, side, quantity, price, id, strategy, reduce_only, simulate)
        return self._wait_for(self._client._ask(order))

    @contextmanager
    def guard(
        self,
        *,
        venue: str,
        operation: str | None = None,
        order: bool = False,
        symbol: str | None = None,
        strategy: str | None = None,
        side: Side | None = None,
        quantity: Amount | None = None,
        price: Amount | None = None,
        reduce_only: bool = False,
    ) -> Iterator[None]:
        """As `Client.guard`."""
        if order and not self.allows(venue=venue, symbol=symbol, strategy=strategy):
            asked = Order(venue, symbol, side, quantity, price, None, strategy, reduce_only)
            self._wait_for(self._client._permit(asked))
        with timed(self, venue, operation, strategy):
            yield

    def _wake(self, *, was_empty: bool) -> None:
        # Crossing to the other thread costs a system call; once is enough until it has looked.
        if was_empty:
            self._loop.call_soon_threadsafe(lambda: self._client._wake(was_empty=True))

    def _wait_for(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
