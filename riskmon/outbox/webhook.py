"""One signed webhook to one target: what is sent, and what became of it.

Nothing here retries or decides: an attempt ends as one of ``RESULTS``.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple, get_args

import aiohttp
import msgspec
from aiohttp.connector import Connection
from msgspec import Struct
from standardwebhooks import Webhook

from riskmon.clock import rfc3339
from riskmon.core.decisions import Sweep
from riskmon.outbox.bounded import BoundedSocket, allow
from riskmon.outbox.lookup import Resolver
from riskmon.outbox.spare import SpareDescriptors
from riskmon.outbox.target import CancelTarget

CONNECT_SECONDS = 0.5  # name, connection and TLS together
WHOLE_SECONDS = 2.0
ANSWER_MAX_BYTES = 64 * 1024
FRAMES_MAX_BYTES = 8 * 1024  # that chunks and TLS add to it
ATTEMPTS_MAX = 100  # at once, for each target: a process has only so many sockets

Result = Literal[
    "delivered",
    "http_1xx",
    "http_3xx",
    "http_4xx",
    "http_5xx",
    "timeout",
    "connect_timeout",
    "connect_error",
    "dns",
    "tls",
    "disconnected",
    "invalid_answer",
    "error",
]
RESULTS: tuple[Result, ...] = get_args(Result)


def payload(
    sweep: Sweep,
    account: str,
    markets: str,
    kind: Literal["cancel_orders", "drill"] = "cancel_orders",
) -> bytes:
    """The body of a webhook, JSON."""
    return msgspec.json.encode(
        {
            "type": kind,
            "account": account,
            "incident": sweep.incident,
            "generation": sweep.generation,
            "sweep": sweep.sweep,
            "markets": markets,
            "cancels": sweep.cancels,
            "flatten": sweep.flatten,
            "scope": sweep.scope,
            "limit": sweep.limit,
            "reason": sweep.reason,
            "at": rfc3339(sweep.at_ns),
        }
    )


# In this order: a class stands before those that it derives from.
_ERRORS: tuple[tuple[type[BaseException], Result], ...] = (
    (aiohttp.ConnectionTimeoutError, "connect_timeout"),
    (TimeoutError, "timeout"),
    (aiohttp.ClientConnectorDNSError, "dns"),
    (aiohttp.ClientSSLError, "tls"),
    (ssl.SSLError, "tls"),
    (aiohttp.ClientConnectorError, "connect_error"),
    (aiohttp.ServerDisconnectedError, "disconnected"),
    (aiohttp.ClientOSError, "disconnected"),
    (ConnectionError, "disconnected"),
    (aiohttp.ClientResponseError, "invalid_answer"),
    (aiohttp.ClientPayloadError, "invalid_answer"),
)
_STATUSES: dict[int, Result] = {
    1: "http_1xx",
    2: "delivered",
    3: "http_3xx",
    4: "http_4xx",
    5: "http_5xx",
}


def classify(outcome: int | BaseException) -> Result:
    """What an attempt came to: by its HTTP status, or by what it failed with."""
    if isinstance(outcome, int):
        return _STATUSES.get(outcome // 100, "invalid_answer")
    if isinstance(outcome, OSError) and outcome.errno == errno.EMSGSIZE:
        return "invalid_answer"  # a BoundedSocket ended it
    return next((result for kind, result in _ERRORS if isinstance(outcome, kind)), "error")


_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]


class Answer(Struct):
    """A receiver's body; what it does not say is not so."""

    status: str = ""
    canceled: _Count | None = None
    open_orders: _Count | None = None


_decode_answer = msgspec.json.Decoder(Answer).decode


def read_answer(body: bytes) -> Answer:
    """What a body says; anything that is not such an answer says nothing."""
    try:
        return _decode_answer(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Answer()


class Attempt(NamedTuple):
    """How one attempt ended; ``body`` is that of a 2xx, as far as it could be read."""

    result: Result
    detail: str
    body: bytes = b""


class _Response(aiohttp.ClientResponse):
    """An answer whose body may come once its head is there."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        response = await super().start(connection)
        if connection.transport is not None:
            allow(connection.transport, ANSWER_MAX_BYTES + FRAMES_MAX_BYTES)
        return response


async def _mark_reused(_session: Any, context: SimpleNamespace, _params: Any) -> None:
    context.trace_request_ctx.reused = True


class Sender:
    """The connections to one target, and a single attempt over them."""

    def __init__(self, target: CancelTarget) -> None:
        self.target = target
        self.slots = asyncio.Semaphore(ATTEMPTS_MAX)
        self._signers = [Webhook(secret) for secret in target.secret]
        self._ahead: dict[str, dict[str, str]] = {}  # headers that were signed ahead, by delivery
        self._spare = SpareDescriptors()
        self._resolver = Resolver(self._spare)
        self._kept = self._session(force_close=False)
        self._fresh = self._session(force_close=True)

    def _session(self, *, force_close: bool) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_mark_reused)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver,
                socket_factory=self._socket,
                use_dns_cache=False,  # the resolver remembers, and for longer
                limit=0,  # `slots` bounds it, outside of the timeouts
                force_close=force_close,
            ),
            response_class=_Response,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # nobody asked for it, and 64 KiB must stay 64 KiB
            skip_auto_headers=("Accept-Encoding",),
            headers={"Content-Type": "application/json", "User-Agent": "riskmon"},
            trace_configs=[trace],
        )

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, proto, _, _ = address
        return self._spare.socket(
            lambda: BoundedSocket(family, kind, proto, closed=self._spare.fill)
        )

    async def attempt(self, delivery_id: str, body: bytes, whole_seconds: float) -> Attempt:
        """Send once. Fails by its result, never by raising.

        The receiver may close a kept connection just as it is used. That says nothing about the
        receiver, so the same attempt goes on over a new connection.
        """
        attempt = Attempt("error", "")
        for session in (self._kept, self._fresh):
            use = SimpleNamespace(reused=False)
            try:
                return await self._post(session, delivery_id, body, whole_seconds, use)
            except Exception as error:  # a delivery outlives every fault
                attempt = Attempt(classify(error), f"{type(error).__name__}: {error}")
            if not (use.reused and attempt.result == "disconnected"):
                break
        return attempt

    async def _post(
        self,
        session: aiohttp.ClientSession,
        delivery_id: str,
        body: bytes,
        whole_seconds: float,
        use: SimpleNamespace,
    ) -> Attempt:
        async with session.post(
            self.target.url,
            data=body,
            headers=self._headers(delivery_id, body),
            timeout=aiohttp.ClientTimeout(total=whole_seconds, connect=CONNECT_SECONDS),
            allow_redirects=False,
            trace_request_ctx=use,
        ) as response:
            result = classify(response.status)
            answer = await _read(response) if result == "delivered" else b""
            return Attempt(result, f"HTTP {response.status}", answer)

    def sign_ahead(self, delivery_id: str, body: bytes) -> None:
        """Sign an attempt that will follow at once, while there is time to."""
        self._ahead.clear()  # one that did not follow at once is of no use any more
        self._ahead[delivery_id] = self._signed(delivery_id, body)

    def _headers(self, delivery_id: str, body: bytes) -> dict[str, str]:
        ahead = self._ahead.pop(delivery_id, None)
        if ahead is not None and ahead["webhook-timestamp"] == str(int(time.time())):
            return ahead
        return self._signed(delivery_id, body)

    def _signed(self, delivery_id: str, body: bytes) -> dict[str, str]:
        now = int(time.time())
        at, text = datetime.fromtimestamp(now, UTC), body.decode()
        return {
            "webhook-id": delivery_id,
            "webhook-timestamp": str(now),
            "webhook-signature": " ".join(s.sign(delivery_id, at, text) for s in self._signers),
        }

    async def close(self) -> None:
        await self._kept.close()
        await self._fresh.close()
        await self._resolver.close()
        self._spare.close()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, or nothing when it is too long or breaks off: the 2xx is in all the same."""
    body = b""
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > ANSWER_MAX_BYTES:
                return b""
        return body
    return b""
