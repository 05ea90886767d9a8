"""The client for bots without asyncio: a Client on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any, Self, TypeVar, Unpack

from riskmon.client.asynchronous import DEFAULT_URL, Client, ClientOptions, timed
from riskmon.client.permit import CheckFields, CheckRequest, GuardFields, Verdict
from riskmon.client.reports import Reports

_T = TypeVar("_T")


class SyncClient(Reports):
    """`Client` for threads: every thread may report, check and guard. Close it at the end.

    It takes the arguments of `Client`. Reports never wait. `check` waits for the sidecar, and so
    does `guard(order=True)` with a whole order or when the gate is not open, for at most two
    seconds. Create it after a
    fork: the child process does not have its thread.
    """

    def __init__(self, url: str = DEFAULT_URL, **options: Unpack[ClientOptions]) -> None:
        self._client = Client(url, **options)
        super().__init__(self._client._queue, self._start_sending)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="riskmon-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def flush(self, max_seconds: float = 2.0) -> bool:
        """Wait until the sidecar has accepted all events so far; return False on a timeout."""
        return self._wait_for(self._client.flush(max_seconds))

    def close(self, max_seconds: float = 2.0) -> None:
        """Send the queue for at most `max_seconds` and close; a second call does nothing."""
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
        """Return whether an order may be sent now; see `Client.allows`."""
        return self._client.allows(venue=venue, symbol=symbol, strategy=strategy)

    def check(self, **order: Unpack[CheckFields]) -> Verdict:
        """Check an order; the arguments, the answer and the errors are those of `Client.check`."""
        return self._wait_for(self._client.check(**order))

    @contextmanager
    def guard(
        self,
        *,
        venue: str,
        operation: str | None = None,
        order: bool = False,
        **fields: Unpack[GuardFields],
    ) -> Iterator[None]:
        """Report the duration of the body or its exception; see `Client.guard`."""
        request = CheckRequest(venue, **fields)
        # Without a whole order to check, an open gate needs no call to the other thread.
        if order and not (request.missing and self._client.allows(**request.scopes)):
            self._wait_for(self._client._require_permit(request))
        with timed(self, venue, operation, request.strategy):
            yield

    def _start_sending(self, *, was_empty: bool) -> None:
        # A call to the other thread costs a system call; one is enough until the queue is empty.
        if was_empty:
            self._loop.call_soon_threadsafe(lambda: self._client._start_sending(was_empty=True))

    def _wait_for(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
