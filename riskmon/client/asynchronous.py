"""The client for asyncio: it reports in the background and asks before orders.

A report only joins a queue. One task sends what is queued in batches, a request at a time, and
keeps each batch until the sidecar has it: at least once, so ids make facts count once. An order
goes through `guard(order=True)`, which looks at the gate file when one is given and at the lease
of the last answers otherwise. That lease counts from when its request was *sent*: whatever the
network did to the answer, a bot never trades longer than the sidecar meant it to.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Self

import msgspec

from riskmon.client.permit import Leases, Order, Taken, TradingHalted, Verdict, level_name
from riskmon.client.reports import Amount, Report, ReportQueue, Reports, Side, boottime_ns
from riskmon.client.transport import Reply, Transport
from riskmon.gate import ACCOUNT, Gate, Level

DEFAULT_URL = "http://127.0.0.1:9788"
_log = logging.getLogger("riskmon.client")
_BATCH_MAX = 1_000
_BATCH_BYTES_MAX = 1_000_000  # the sidecar takes 1 MiB
_SEND_MAX_SECONDS = 10.0
_ASK_MAX_SECONDS = 1.0
_PAUSE_MAX_SECONDS = 2.0
_CANCELS_MAX = 10
_CANCEL_SECONDS = 0.1  # after which a task is cancelled again
# A body cancelled sooner is a bot that stops; later, it is a timeout around the guard.
_CANCELLED_IS_ERROR_SECONDS = 1.0


@contextmanager
def timed(
    reports: Reports, venue: str, operation: str | None, strategy: str | None
) -> Iterator[None]:
    """Report how long the body took, or how it failed."""
    started = time.perf_counter()
    try:
        yield
    except TradingHalted:  # a guard inside: no request was made
        raise
    except (Exception, asyncio.CancelledError) as error:
        seconds = time.perf_counter() - started
        cancelled = isinstance(error, asyncio.CancelledError)
        if not cancelled or seconds >= _CANCELLED_IS_ERROR_SECONDS:
            reports.error(
                venue=venue,
                operation=operation,
                seconds=seconds,
                message=f"{type(error).__name__}: {error}",
                strategy=strategy,
            )
        raise
    seconds = time.perf_counter() - started
    reports.latency(venue=venue, operation=operation, seconds=seconds, strategy=strategy)


class Client(Reports):
    """A bot's line to the sidecar, for asyncio; use it from one event loop.

    `url` is `http://…`, `https://…` or `unix:///path/to.sock`. `gate` is an opened Gate or what
    Gate.open takes, with `owner` when the sidecar runs as another user; without one, orders go
    by the lease in the sidecar's answers. With `verify`, over `http://`, the token is not sent: it
    signs each request, and answers that it does not sign count as none.
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
        super().__init__(ReportQueue(queue_max), self._wake)
        self._line = Transport(url, token, verify=verify)
        self._gate = Gate.open(gate, owner=owner) if isinstance(gate, str | os.PathLike) else gate
        self._leases = Leases()
        self._registered: set[tuple[str, str]] = set()
        self._sender: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._trouble = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def flush(self, max_seconds: float = 2.0) -> bool:
        """Wait until the sidecar has everything reported so far; False when the time is over."""
        if len(self._queue):
            self._wake(was_empty=False)
        try:
            async with asyncio.timeout(max_seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def aclose(self, max_seconds: float = 2.0) -> None:
        """Send what is queued, for at most `max_seconds`, and close; logs what was left."""
        self._closed = True
        if not await self.flush(max_seconds):
            _log.error("closed before the sidecar had every event (%s)", self._trouble or "slow")
        # The HTTP library can lose a cancel that coincides with a timeout.
        for _ in range(_CANCELS_MAX):
            if self._sender is None or self._sender.done():
                break
            self._sender.cancel()
            await asyncio.wait([self._sender], timeout=_CANCEL_SECONDS)
        await self._line.aclose()

    def allows(
        self, *, venue: str | None = None, symbol: str | None = None, strategy: str | None = None
    ) -> bool:
        """Whether an order may go out now. Without a gate file, False once the last answer's
        lease is over: `guard` then renews it, or any event reported does."""
        names = {"venue": venue, "symbol": symbol, "strategy": strategy}
        return self._lowest({k: v for k, v in names.items() if v is not None})[0] is Level.ALLOW

    async def check(
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
        """Ask whether this order may go out; an allowed one is reserved unless `simulate`.

        Raises ConnectionError when the sidecar does not answer, ValueError when it refuses the
        question. Send no order in either case.
        """
        order = Order(venue, symbol, side, quantity, price, id, strategy, reduce_only, simulate)
        return await self._ask(order)

    @asynccontextmanager
    async def guard(
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
    ) -> AsyncIterator[None]:
        """Time the body: its end is reported as a latency, an exception as an error.

        With `order=True` raises TradingHalted, before the body, when the gate is shut. Give
        symbol, side, quantity and price too: with them a permit is asked for at level probe, and
        at level reduce_only when `reduce_only` is set.
        """
        if order:
            await self._permit(
                Order(venue, symbol, side, quantity, price, None, strategy, reduce_only)
            )
        with timed(self, venue, operation, strategy):
            yield

    async def _permit(self, order: Order) -> None:
        level, scope = self._lowest(order.scopes)
        if level is Level.HALT and self._must_register(order.scopes):
            await self._register(order.scopes)
            level, scope = self._lowest(order.scopes)
        if level is Level.ALLOW:
            return
        name = level_name(level)
        if level is Level.HALT or (level is Level.REDUCE_ONLY and not order.reduce_only):
            fault = self._gate.fault if self._gate is not None else None
            raise TradingHalted(name, scope, hint="; ".join(filter(None, (fault, self._trouble))))
        if missing := order.missing:
            hint = f"to ask for a permit, guard needs {', '.join(missing)}"
            raise TradingHalted(name, scope, hint=hint)
        try:
            verdict = await self._ask(order)
        except (ConnectionError, ValueError) as error:
            raise TradingHalted(name, scope, hint=str(error)) from error
        if not verdict.allowed:
            raise TradingHalted(verdict.level, scope, verdict.reasons)

    def _lowest(self, names: Mapping[str, str]) -> tuple[Level, str]:
        """The lowest level, and the scope that has it: the account where it is to blame."""
        gate = self._gate
        if gate is None:
            return self._leases.lowest(names)
        level = gate.level(**names)
        if level is Level.ALLOW:
            return level, ACCOUNT
        account = gate.level()
        if account <= level:
            return account, ACCOUNT
        each = ((gate.level(**{kind: name}), f"{kind}:{name}") for kind, name in names.items())
        return level, min(each)[1]

    def _must_register(self, names: Mapping[str, str]) -> bool:
        if not self._registered.issuperset(names.items()):
            return True
        return self._gate is None and self._leases.lapsed(names)

    async def _register(self, scopes: Mapping[str, str]) -> None:
        """Name the scopes to the sidecar in a heartbeat: it gives them a level, and us a lease."""
        body = msgspec.json.encode({"type": "heartbeat", **scopes})
        sent_ns = boottime_ns()
        try:
            answer = await self._line.post("/v1/events", body, _ASK_MAX_SECONDS)
        except OSError as error:
            self._troubled(error)
            return
        if answer.status == 200:
            self._registered.update(scopes.items())
            self._renew(answer, sent_ns)
        else:
            self._troubled(answer)

    async def _ask(self, order: Order) -> Verdict:
        answer = await self._line.post("/v1/check", order.body(), _ASK_MAX_SECONDS)
        if answer.status == 400:
            raise ValueError(f"the sidecar refused the check: {answer}")
        if answer.status != 200:
            raise ConnectionError(f"the sidecar could not check: {answer}")
        try:
            return msgspec.json.decode(answer.body, type=Verdict)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConnectionError(f"the sidecar's answer cannot be read: {error}") from error

    def _wake(self, *, was_empty: bool) -> None:
        del was_empty  # setting an event twice is cheaper than being wrong
        self._idle.clear()
        self._ready.set()
        if self._sender is None:
            # Reported before the loop runs: the next event, or flush, starts the sender.
            with suppress(RuntimeError):
                self._sender = asyncio.get_running_loop().create_task(self._send_forever())

    async def _send_forever(self) -> None:
        while True:
            if batch := self._queue.take(_BATCH_MAX, _BATCH_BYTES_MAX):
                await self._deliver(batch)
                continue
            self._idle.set()
            self._ready.clear()
            await self._ready.wait()

    async def _deliver(self, batch: list[Report]) -> None:
        for attempt in itertools.count():
            now_ns = boottime_ns()
            body = b"[" + b",".join(report.wire(now_ns) for report in batch) + b"]"
            wait_seconds = 0.0
            try:
                answer = await self._line.post("/v1/events", body, _SEND_MAX_SECONDS)
            except OSError as error:
                self._troubled(error)
            else:
                if answer.status == 200:
                    return self._renew(answer, now_ns)
                if answer.blames_an_event:
                    return await self._without_fault(batch, answer)
                self._troubled(answer)
                wait_seconds = answer.retry_after_seconds
            pause_seconds = min(0.05 * 2 ** min(attempt, 10), _PAUSE_MAX_SECONDS)
            await asyncio.sleep(max(wait_seconds, pause_seconds * random.uniform(0.8, 1.2)))

    async def _without_fault(self, batch: list[Report], answer: Reply) -> None:
        """A batch is refused whole: drop the event at fault, or halve until it stands alone."""
        problem = answer.problem
        index = 0 if len(batch) == 1 else problem.index
        if index is not None and 0 <= index < len(batch):
            self._queue.reject(batch.pop(index), problem.field, str(answer))
            parts = [batch]
        else:
            parts = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        for part in filter(None, parts):
            await self._deliver(part)

    def _renew(self, answer: Reply, sent_ns: int) -> None:
        self._trouble = ""
        try:
            self._leases.take(msgspec.json.decode(answer.body, type=Taken), sent_ns)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            _log.error("the sidecar took the events, but its answer gives no lease: %s", error)

    def _troubled(self, cause: object) -> None:
        """Log a trouble when it begins or changes, not with each attempt."""
        trouble = str(cause) or type(cause).__name__
        if trouble != self._trouble:
            self._trouble = trouble
            _log.warning(
                "events wait (%d more queued): %s: %s", len(self._queue), self._line.url, trouble
            )
