"""The client for asyncio: it reports events in the background and guards orders.

A report is queued. One task sends the queue in batches, one request at a time, and repeats each
batch until the sidecar has accepted it: delivery is at least once, and the ids of facts make
repetitions duplicates. `guard(order=True)` reads the gate file if one is given, else the leases of
the last answers. Such a lease counts from the *sending* of its request, so that a slow answer never
extends the time for which a bot may trade.
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
from typing import Self, TypedDict

import msgspec

from riskmon.client.permit import (
    CheckRequest,
    Dropped,
    LeaseGrant,
    Leases,
    Leg,
    OrderType,
    TradingHalted,
    Verdict,
    level_name,
)
from riskmon.client.reports import Amount, Report, ReportQueue, Reports, Side
from riskmon.client.transport import Reply, Transport
from riskmon.gate import ACCOUNT, Gate, Level
from riskmon.system.clock import boot_ns

DEFAULT_URL = "http://127.0.0.1:9788"
_log = logging.getLogger("riskmon.client")
_BATCH_MAX = 1_000
_BATCH_BYTES_MAX = 1_000_000  # the sidecar accepts 1 MiB
_SEND_MAX_SECONDS = 10.0
_CALL_MAX_SECONDS = 1.0  # for a check or a registration, which the bot waits for
_PAUSE_MAX_SECONDS = 2.0
_WARNINGS_MAX = 10  # that are logged of one answer
_CANCELS_MAX = 10
_CANCEL_SECONDS = 0.1  # after which a task is cancelled again
# A body that is cancelled earlier belongs to a bot that stops; later, to a timeout of the bot.
_CANCELLED_IS_ERROR_SECONDS = 1.0


@contextmanager
def timed(
    reports: Reports, venue: str, operation: str | None, strategy: str | None
) -> Iterator[None]:
    """Report the duration of the body as a latency, or its exception as an error."""
    started = time.perf_counter()
    try:
        yield
    except TradingHalted:  # of a guard in the body: no request was sent
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


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of `Client`."""

    token: str | None
    verify: bool
    gate: Gate | str | os.PathLike[str] | None
    owner: str | int | None
    queue_max: int


class Client(Reports):
    """A bot's connection to the sidecar, for asyncio; use it on one event loop.

    `url` is `http://…`, `https://…` or `unix:///path/to.sock`. `gate` is an opened Gate or the
    argument of Gate.open, with `owner` if the sidecar runs as another user; without it, the leases
    in the sidecar's answers decide. With `verify`, over `http://`, the token is not sent: it signs
    each request, and an answer that it does not sign is discarded.
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
        super().__init__(ReportQueue(queue_max), self._start_sending)
        self._transport = Transport(url, token, verify=verify)
        self._gate = Gate.open(gate, owner=owner) if isinstance(gate, str | os.PathLike) else gate
        self._leases = Leases()
        self._registered: set[tuple[str, str]] = set()
        self._sender: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._failure = ""  # the last failure to reach the sidecar; empty after a success
        self._warnings: tuple[Dropped, ...] = ()  # the last that were logged

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def flush(self, max_seconds: float = 2.0) -> bool:
        """Wait until the sidecar has accepted all events so far; return False on a timeout."""
        if len(self._queue):
            self._start_sending(was_empty=False)
        try:
            async with asyncio.timeout(max_seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def aclose(self, max_seconds: float = 2.0) -> None:
        """Send the queue for at most `max_seconds` and close; log an error if events remain."""
        self._closed = True
        if not await self.flush(max_seconds):
            _log.error(
                "closed before the sidecar had accepted every event: %s",
                self._failure or f"not sent within {max_seconds:g} s",
            )
        # aiohttp can lose a cancel that coincides with a timeout.
        for _ in range(_CANCELS_MAX):
            if self._sender is None or self._sender.done():
                break
            self._sender.cancel()
            await asyncio.wait([self._sender], timeout=_CANCEL_SECONDS)
        await self._transport.aclose()

    def allows(
        self, *, venue: str | None = None, symbol: str | None = None, strategy: str | None = None
    ) -> bool:
        """Return whether an order may be sent now.

        Without a gate file, this is False after the end of the last answer's lease, until `guard`
        or a reported event renews it.
        """
        names = {"venue": venue, "symbol": symbol, "strategy": strategy}
        return self._lowest({k: v for k, v in names.items() if v is not None})[0] is Level.ALLOW

    async def check(
        self,
        *,
        venue: str,
        symbol: str,
        side: Side,
        quantity: Amount | None = None,
        price: Amount | None = None,
        id: str | None = None,
        strategy: str | None = None,
        reduce_only: bool = False,
        simulate: bool = False,
        type: OrderType | None = None,
        slippage: Amount | None = None,
        close_position: bool = False,
        leg: Leg | None = None,
    ) -> Verdict:
        """Check whether this order may be sent; an allowed order is reserved unless `simulate`.

        An order of `type="market"` requires no price, one with `close_position` no quantity.
        Raises ConnectionError if the sidecar does not answer, ValueError if it refuses the request.
        Send no order in either case.
        """
        request = CheckRequest(
            *(venue, symbol, side, quantity, price, id, strategy, reduce_only, simulate),
            *(type, slippage, close_position, leg),
        )
        return await self._check(request)

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
        """Report the duration of the body as a latency, or its exception as an error.

        With `order=True`, raises TradingHalted before the body if the gate is shut. With symbol,
        side, quantity and price, the order is checked at every level; an allowed order passes.
        """
        if order:
            await self._require_permit(
                CheckRequest(venue, symbol, side, quantity, price, None, strategy, reduce_only)
            )
        with timed(self, venue, operation, strategy):
            yield

    async def _require_permit(self, order: CheckRequest) -> None:
        level, scope = self._lowest(order.scopes)
        if level is Level.HALT and self._must_register(order.scopes):
            await self._register(order.scopes)
            level, scope = self._lowest(order.scopes)
        missing, name = order.missing, level_name(level)
        if level is Level.ALLOW and missing:
            return
        if missing and level is Level.HALT:
            fault = self._gate.fault if self._gate is not None else None
            raise TradingHalted(name, scope, hint="; ".join(filter(None, (fault, self._failure))))
        if missing:
            hint = f"at this level guard requires {', '.join(missing)}"
            raise TradingHalted(name, scope, hint=hint)
        try:
            verdict = await self._check(order)
        except (ConnectionError, ValueError) as error:
            raise TradingHalted(name, scope, hint=str(error)) from error
        if not verdict.allowed:
            raise TradingHalted(verdict.level, scope, verdict.reasons)

    def _lowest(self, names: Mapping[str, str]) -> tuple[Level, str]:
        """Return the lowest level and its scope: the account if its level is not above."""
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
        return self._gate is None and self._leases.has_lapsed(names)

    async def _register(self, scopes: Mapping[str, str]) -> None:
        """Send a heartbeat that names the scopes; the answer grants their levels and a lease."""
        body = msgspec.json.encode({"type": "heartbeat", **scopes})
        sent_ns = boot_ns()
        try:
            reply = await self._transport.post("/v1/events", body, _CALL_MAX_SECONDS)
        except OSError as error:
            self._set_failure(error)
            return
        if reply.status == 200:
            self._registered.update(scopes.items())
            self._renew(reply, sent_ns)
        else:
            self._set_failure(reply)

    async def _check(self, order: CheckRequest) -> Verdict:
        reply = await self._transport.post("/v1/check", order.body(), _CALL_MAX_SECONDS)
        if reply.status == 400:
            raise ValueError(f"the sidecar refused the check: {reply}")
        if reply.status != 200:
            raise ConnectionError(f"the sidecar could not check the order: {reply}")
        try:
            return msgspec.json.decode(reply.body, type=Verdict)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConnectionError(f"the sidecar's answer cannot be parsed: {error}") from error

    def _start_sending(self, *, was_empty: bool) -> None:
        del was_empty  # setting the event twice costs little
        self._idle.clear()
        self._ready.set()
        if self._sender is None:
            # Without a running loop, the next event or flush starts the sender.
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
            now_ns = boot_ns()
            body = b"[" + b",".join(report.wire(now_ns) for report in batch) + b"]"
            wait_seconds = 0.0
            try:
                reply = await self._transport.post("/v1/events", body, _SEND_MAX_SECONDS)
            except OSError as error:
                self._set_failure(error)
            else:
                if reply.status == 200:
                    return self._renew(reply, now_ns)
                if reply.is_final:
                    return await self._deliver_without_invalid(batch, reply)
                self._set_failure(reply)
                wait_seconds = reply.retry_after_seconds
            pause_seconds = min(0.05 * 2 ** min(attempt, 10), _PAUSE_MAX_SECONDS)
            await asyncio.sleep(max(wait_seconds, pause_seconds * random.uniform(0.8, 1.2)))

    async def _deliver_without_invalid(self, batch: list[Report], reply: Reply) -> None:
        """Remove the invalid event that the refusal names, or halve the batch to find it."""
        problem = reply.problem
        index = 0 if len(batch) == 1 else problem.index
        if index is not None and 0 <= index < len(batch):
            self._queue.reject(batch.pop(index), problem.field, str(reply))
            parts = [batch]
        else:
            parts = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        for part in filter(None, parts):
            await self._deliver(part)

    def _renew(self, reply: Reply, sent_ns: int) -> None:
        self._failure = ""
        try:
            grant = msgspec.json.decode(reply.body, type=LeaseGrant)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            _log.error("the sidecar accepted the events, but its answer has no lease: %s", error)
            return
        self._leases.renew(grant, sent_ns)
        if grant.warnings and grant.warnings != self._warnings:
            self._warnings = grant.warnings
            for one in grant.warnings[:_WARNINGS_MAX]:
                _log.warning("the sidecar dropped %s of a report: %s", one.field, one.what)

    def _set_failure(self, cause: object) -> None:
        """Record a failure; log it when it is new or differs from the last one."""
        failure = str(cause) or type(cause).__name__
        if failure != self._failure:
            self._failure = failure
            _log.warning(
                "events cannot be delivered to %s (%d more queued): %s",
                self._transport.url,
                len(self._queue),
                failure,
            )
