"""One signed webhook to one target: its body, its headers, one attempt and the attempt's result.

This module does not retry: an attempt ends with one of ``RESULTS``.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Annotated, Literal, NamedTuple, get_args

import aiohttp
import msgspec
from aiohttp.connector import Connection
from msgspec import Struct
from standardwebhooks import Webhook

from riskmon.core.decisions import Sweep
from riskmon.outbox.bounded import BoundedSocket, allow
from riskmon.outbox.lookup import Resolver
from riskmon.outbox.spare import SpareDescriptors
from riskmon.outbox.target import CancelTarget
from riskmon.system.clock import rfc3339

CONNECT_SECONDS = 0.5  # for lookup, connection and TLS together
WHOLE_SECONDS = 2.0
ANSWER_MAX_BYTES = 64 * 1024
FRAMES_MAX_BYTES = 8 * 1024  # added to the answer by chunks and TLS
ATTEMPTS_MAX = 100  # concurrent attempts of one target, which bounds the number of sockets

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
    """Return the body of a webhook, in JSON."""
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
            "recovers": sweep.recovers,
        }
    )


# A class stands before its base classes.
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
    """Return the result of an attempt by its HTTP status or its exception."""
    if isinstance(outcome, int):
        return _STATUSES.get(outcome // 100, "invalid_answer")
    if isinstance(outcome, OSError) and outcome.errno == errno.EMSGSIZE:
        return "invalid_answer"  # raised by BoundedSocket
    return next((result for kind, result in _ERRORS if isinstance(outcome, kind)), "error")


_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]


class CancelAnswer(Struct):
    """The body of a receiver's answer; absent fields are unknown."""

    status: str = ""
    canceled: _Count | None = None
    open_orders: _Count | None = None


_decode_answer = msgspec.json.Decoder(CancelAnswer).decode


def read_answer(body: bytes) -> CancelAnswer:
    """Decode the body of an answer; return an empty answer for a body of another form."""
    try:
        return _decode_answer(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return CancelAnswer()


class Attempt(NamedTuple):
    """The end of one attempt; ``body`` is that of a 2xx, empty if it could not be read."""

    result: Result
    detail: str
    body: bytes = b""


class _Response(aiohttp.ClientResponse):
    """A response that raises the limit of its :class:`BoundedSocket` after the head."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        response = await super().start(connection)
        if connection.transport is not None:
            allow(connection.transport, ANSWER_MAX_BYTES + FRAMES_MAX_BYTES)
        return response


@dataclass
class _Use:
    """Whether a request used a connection that was kept from an earlier one."""

    reused: bool = False


async def _mark_reused(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    use: _Use = context.trace_request_ctx
    use.reused = True


class Sender:
    """The connections to one target, over which it makes single attempts."""

    def __init__(self, target: CancelTarget) -> None:
        self.target = target
        self.slots = asyncio.Semaphore(ATTEMPTS_MAX)
        self._signers = [Webhook(secret) for secret in target.secret]
        self._signed_ahead: tuple[str, dict[str, str]] | None = None  # id and headers
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
                use_dns_cache=False,  # the resolver keeps the last addresses, without an expiry
                limit=0,  # `slots` is the limit; waiting for it is not part of the timeouts
                force_close=force_close,
            ),
            response_class=_Response,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a compressed answer could exceed ANSWER_MAX_BYTES
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
        """Send once. A failure is returned as a result and never raised.

        The receiver may close a kept connection at the moment of its use. This is not a fault of
        the receiver, so the attempt continues over a new connection.
        """
        attempt = Attempt("error", "")
        for session in (self._kept, self._fresh):
            use = _Use()
            try:
                return await self._post(session, delivery_id, body, whole_seconds, use)
            except Exception as error:  # a delivery continues after any fault
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
        use: _Use,
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
        """Sign the headers of an attempt that follows within the same second."""
        self._signed_ahead = delivery_id, self._signed(delivery_id, body)

    def _headers(self, delivery_id: str, body: bytes) -> dict[str, str]:
        if self._signed_ahead is not None and self._signed_ahead[0] == delivery_id:
            headers, self._signed_ahead = self._signed_ahead[1], None
            if headers["webhook-timestamp"] == str(int(time.time())):
                return headers
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
    """Read the body; empty when it is too long or incomplete, because the 2xx counts anyway."""
    body = b""
    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > ANSWER_MAX_BYTES:
                return b""
        return body
    return b""
