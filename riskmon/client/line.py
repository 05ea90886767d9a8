"""The line to the sidecar: one POST and its answer, over TCP or a Unix socket."""

from __future__ import annotations

from typing import NamedTuple

import aiohttp
import msgspec

_RETRY_AFTER_MAX_SECONDS = 30.0


class Problem(msgspec.Struct, frozen=True):
    """A refusal in problem+json: the event at fault, counted from 0, where one is."""

    type: str = ""
    index: int | None = None
    field: str | None = None
    detail: str | None = None
    title: str | None = None


class Answer(NamedTuple):
    """What the sidecar said to one request."""

    status: int
    body: bytes
    retry_after_seconds: float

    @property
    def problem(self) -> Problem:
        try:
            return msgspec.json.decode(self.body, type=Problem)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return Problem(detail=self.body[:200].decode(errors="replace"))

    @property
    def blames_an_event(self) -> bool:
        """Whether the same batch would be refused again, because of an event in it."""
        if self.status in (400, 413):
            return True
        # Scopes do not become fewer: waiting would only hold up all that is queued behind.
        return self.status == 429 and self.problem.type.endswith(":too_many_scopes")

    def __str__(self) -> str:
        problem = self.problem
        return f"{self.status} {problem.detail or problem.title or ''}".rstrip()


class Line:
    """Posts JSON to `url`, which is `http://…`, `https://…` or `unix:///path/to.sock`."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self._socket = url.removeprefix("unix:").removeprefix("//") if _is_unix(url) else None
        self._base = "http://localhost" if self._socket else url.rstrip("/")
        self._token = token
        self._session: aiohttp.ClientSession | None = None

    async def post(self, path: str, body: bytes, max_seconds: float) -> Answer:
        """One request, never repeated here; ConnectionError when no answer came in time."""
        if self._session is None:
            self._session = self._new_session()
        timeout = aiohttp.ClientTimeout(total=max_seconds)
        try:
            async with self._session.post(
                self._base + path, data=body, timeout=timeout, allow_redirects=False
            ) as response:
                retry_after = _seconds(response.headers.get("Retry-After", ""))
                return Answer(response.status, await response.read(), retry_after)
        except TimeoutError:
            raise ConnectionError(f"no answer from {self.url} in {max_seconds:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            cause = str(error) or type(error).__name__
            raise ConnectionError(f"{self.url} cannot be reached: {cause}") from error

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _new_session(self) -> aiohttp.ClientSession:
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        connector = aiohttp.UnixConnector(self._socket) if self._socket else None
        return aiohttp.ClientSession(headers=headers, connector=connector)


def _is_unix(url: str) -> bool:
    return url.startswith("unix:")


def _seconds(retry_after: str) -> float:
    try:
        return min(max(float(retry_after), 0.0), _RETRY_AFTER_MAX_SECONDS)
    except ValueError:  # absent, or a date: the usual pause will do
        return 0.0
