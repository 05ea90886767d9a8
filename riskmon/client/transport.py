"""The transport to the sidecar: one POST and its reply, over TCP or a Unix socket."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec

from riskmon.auth import proof
from riskmon.system.clock import boot_ns
from riskmon.system.unix_socket import address_of

_NONCES_MAX = 8
_NONCE_KEPT_NS = (proof.NONCE_SECONDS - 2) * 1_000_000_000  # leaves 2 s for the request
_RETRY_AFTER_MAX_SECONDS = 30.0


class ProblemDocument(msgspec.Struct, frozen=True):
    """A refusal in problem+json; `index` is the invalid event's, counted from 0."""

    type: str = ""
    index: int | None = None
    field: str | None = None
    detail: str | None = None
    title: str | None = None


class Reply(NamedTuple):
    """The sidecar's answer to one request."""

    status: int
    body: bytes
    retry_after_seconds: float

    @property
    def problem(self) -> ProblemDocument:
        try:
            return msgspec.json.decode(self.body, type=ProblemDocument)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return ProblemDocument(detail=self.body[:200].decode(errors="replace"))

    @property
    def is_final(self) -> bool:
        """Whether a repetition of the same batch would be refused too, because of one event."""
        if self.status in (400, 413):
            return True
        # The number of scopes does not fall: waiting would only delay the rest of the queue.
        return self.status == 429 and self.problem.type.endswith(":too_many_scopes")

    def __str__(self) -> str:
        problem = self.problem
        return f"{self.status} {problem.detail or problem.title or ''}".rstrip()


class Transport:
    """Posts JSON to `url`, which is `http://…`, `https://…` or `unix:///path/to.sock`.

    With `verify`, over `http://`, the token signs each request and is not sent; an answer that it
    does not sign raises :class:`proof.Unsigned`. ValueError for `verify` without a token.
    """

    def __init__(self, url: str, token: str | None, *, verify: bool = False) -> None:
        if verify and token is None:
            raise ValueError("verify needs a token: it signs the requests and the answers")
        self.url = url
        self._socket = url.removeprefix("unix:").removeprefix("//") if _is_unix(url) else None
        self._base = "http://localhost" if self._socket else url.rstrip("/")
        self._token = token
        self._key = (
            proof.key_of(token) if verify and token and url.lower().startswith("http:") else None
        )
        self._nonces: deque[tuple[str, int]] = deque(maxlen=_NONCES_MAX)
        self._session: aiohttp.ClientSession | None = None
        self._open = ExitStack()

    async def post(self, path: str, body: bytes, max_seconds: float) -> Reply:
        """Send one request and return its reply; ConnectionError without one in `max_seconds`."""
        try:
            if self._session is None:
                self._session = self._new_session()
            async with asyncio.timeout(max_seconds):
                if self._key is None:
                    return (await self._send(path, body, {}))[0]
                return await self._send_signed(self._key, path, body)
        except TimeoutError:
            raise ConnectionError(f"no answer from {self.url} in {max_seconds:g} s") from None
        except proof.Unsigned:
            self._nonces.clear()
            raise
        except (aiohttp.ClientError, OSError) as error:
            cause = str(error) or type(error).__name__
            raise ConnectionError(f"{self.url} cannot be reached: {cause}") from error

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
        self._open.close()

    async def _send(
        self, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[Reply, Mapping[str, str]]:
        assert self._session is not None  # noqa: S101 - `post` makes it
        async with self._session.post(
            self._base + path, data=body, headers=headers, allow_redirects=False
        ) as response:
            retry_after = _seconds(response.headers.get("Retry-After", ""))
            reply = Reply(response.status, await response.read(), retry_after)
            return reply, response.headers

    async def _send_signed(self, key: bytes, path: str, body: bytes) -> Reply:
        nonce = self._kept_nonce() or await self._new_nonce()
        sent_ns = boot_ns()
        signed = proof.request_headers(key, nonce, "POST", path, body)
        reply, headers = await self._send(path, body, signed)
        if not proof.signs_answer(
            key, headers.get(proof.SIGNATURE, ""), nonce, reply.status, reply.body
        ):
            raise proof.Unsigned(self.url, reply.status)
        if proof.is_nonce(following := headers.get(proof.NONCE)):
            self._nonces.append((following, sent_ns))
        return reply

    def _kept_nonce(self) -> str | None:
        """Return a valid nonce from an earlier answer; None without one."""
        while self._nonces:
            nonce, got_ns = self._nonces.pop()
            if boot_ns() - got_ns < _NONCE_KEPT_NS:
                return nonce
        return None

    async def _new_nonce(self) -> str:
        reply, _ = await self._send(proof.CHALLENGE_PATH, b"", {})
        nonce = proof.nonce_in(reply.body) if reply.status == 200 else None
        if nonce is None:
            raise proof.Unsigned(self.url, reply.status)
        return nonce

    def _new_session(self) -> aiohttp.ClientSession:
        headers = {"Content-Type": "application/json"}
        if self._token is not None and self._key is None:
            headers["Authorization"] = f"Bearer {self._token}"
        connector = None
        if self._socket:
            address = self._open.enter_context(address_of(Path(self._socket)))
            connector = aiohttp.UnixConnector(address)
        timeout = aiohttp.ClientTimeout(total=None)  # `post` sets its own
        return aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout)


def _is_unix(url: str) -> bool:
    return url.startswith("unix:")


def _seconds(retry_after: str) -> float:
    try:
        return min(max(float(retry_after), 0.0), _RETRY_AFTER_MAX_SECONDS)
    except ValueError:  # absent or a date: the usual pause applies
        return 0.0
