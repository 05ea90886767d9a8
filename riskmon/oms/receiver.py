"""What happens to one webhook: verify, cancel what its scope names, answer, remember.

A scope names what must not trade on, and the receiver cancels at least that:

    account       every order at every venue
    venue:X       every order at X
    symbol:S      every order in S, at every venue
    strategy:T    every order at every venue: exchanges do not know which strategy an order
                  belongs to, and an order too many cancelled is placed again, while one too few
                  rests on in a halted market

Only an answer with nothing left resting is "done" and remembered by its webhook-id. Anything else
is a 5xx, which the sender tries again soon.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from aiohttp import web
from msgspec.structs import asdict
from standardwebhooks import Webhook, WebhookVerificationError

from riskmon.oms.connections import Connections

_ANSWERS_MAX = 10_000
_BODY_MAX_BYTES = 64 * 1024
_BODY_MAX_SECONDS = 5.0
_ID_MAX = 256
_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")

Log = Callable[..., None]


class Adapter(NamedTuple):
    """One venue: both take a symbol, or None for all, and give a number of orders."""

    cancel_all: Callable[[str | None], Awaitable[int]]
    open_orders: Callable[[str | None], Awaitable[int]]


class Message(msgspec.Struct, frozen=True):
    """The webhook's body, as far as a cancel depends on it; the rest is logged only."""

    type: str
    scope: str = "account"
    incident: str = ""
    sweep: int = 0
    limit: str = ""
    reason: str = ""


class _Answer(NamedTuple):
    status: int
    body: dict[str, Any]


class Unverified(Exception):
    """The request is not signed with any of the secrets, or too old."""


class Receiver:
    """An aiohttp application's worth of OMS: `POST /cancel` and `GET /-/healthy`.

    `adapters` by venue name; `secrets` as `whsec_…`, several while one is rotated in. `log` is
    called with an event's name and its fields. `connections` bounds those that are open. Raises
    ValueError for a secret that is none.
    """

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        secrets: Sequence[str],
        log: Log,
        connections: Connections | None = None,
    ) -> None:
        if not secrets:
            raise ValueError("the OMS needs at least one secret: without it anybody could cancel")
        self._adapters = adapters
        self._webhooks = [_webhook(secret) for secret in secrets]
        self._log = log
        self._answers: OrderedDict[str, asyncio.Task[_Answer]] = OrderedDict()
        self.connections = Connections() if connections is None else connections

    def app(self) -> web.Application:
        """The routes, to be served."""
        app = web.Application(client_max_size=_BODY_MAX_BYTES)
        app.router.add_post("/cancel", self._receive)
        app.router.add_get("/-/healthy", _healthy)
        return app

    async def _receive(self, request: web.Request) -> web.Response:
        received_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        try:
            async with asyncio.timeout(_BODY_MAX_SECONDS):
                body = await request.read()
        except TimeoutError:
            return web.json_response({"error": "the body did not arrive in time"}, status=408)
        except ConnectionError:  # the sender has gone
            return web.json_response({"error": "the body did not arrive"}, status=400)
        try:
            self._verify(body, request.headers)
            message = msgspec.json.decode(body, type=Message)
            self._require_known(message)
        except Unverified as error:
            self._log("refused", error=str(error))
            return web.json_response({"error": str(error)}, status=401)
        except (msgspec.MsgspecError, ValueError) as error:
            self._log("refused", error=str(error))
            return web.json_response({"error": str(error)}, status=400)
        webhook_id = request.headers["webhook-id"]
        self._log("received", id=webhook_id, received_ns=received_ns, **asdict(message))
        with self.connections.working(request.protocol):
            answer = await self._answer_once(webhook_id, message)
        return web.json_response(answer.body, status=answer.status)

    def _verify(self, body: bytes, headers: Mapping[str, str]) -> None:
        # By name, so that of a header sent twice the same one is verified and used.
        signed = {name: headers.get(name, "") for name in _HEADERS}
        if len(signed["webhook-id"]) > _ID_MAX:
            raise Unverified(f"webhook-id has more than {_ID_MAX} characters")
        fault = ""
        for webhook in self._webhooks:
            try:
                webhook.verify(body, signed, json_parse=False)
            except WebhookVerificationError as error:
                fault = str(error)
            except ValueError:  # what the library meets first in bad base64, UTF-8 or a lone comma
                fault = "webhook-signature or body is malformed"
            else:
                return
        raise Unverified(f"not verified: {fault}")

    def _require_known(self, message: Message) -> None:
        if message.type not in ("cancel_orders", "drill"):
            raise ValueError(f"type is {message.type!r}: this OMS knows cancel_orders and drill")
        kind, _, name = message.scope.partition(":")
        if message.scope != "account" and not (kind in ("venue", "symbol", "strategy") and name):
            raise ValueError(f"scope is {message.scope!r}: it names nothing that can be cancelled")

    async def _answer_once(self, webhook_id: str, message: Message) -> _Answer:
        """The stored answer, or the one that is being worked on: a sender whose patience ended
        asks again while the exchange is still cancelling."""
        task = self._answers.get(webhook_id)
        if task is None:
            task = asyncio.create_task(self._answer(webhook_id, message))
            self._answers[webhook_id] = task
            task.add_done_callback(lambda done: self._forget_unless_done(webhook_id, done))
            while len(self._answers) > _ANSWERS_MAX:
                self._answers.popitem(last=False)
        else:
            self._log("repeated", id=webhook_id)
        return await asyncio.shield(task)

    def _forget_unless_done(self, webhook_id: str, task: asyncio.Task[_Answer]) -> None:
        if task.cancelled() or task.exception() is not None or task.result().status != 200:
            self._answers.pop(webhook_id, None)

    async def _answer(self, webhook_id: str, message: Message) -> _Answer:
        if message.type == "drill":
            answer = _Answer(200, {"status": "drill", "canceled": 0})
        else:
            answer = await self._cancel(message.scope)
        self._log("answered", id=webhook_id, sweep=message.sweep, code=answer.status, **answer.body)
        return answer

    async def _cancel(self, scope: str) -> _Answer:
        venues, symbol = self._in_scope(scope)
        results = await asyncio.gather(
            *(self._cancel_venue(venue, symbol) for venue in venues), return_exceptions=True
        )
        counts = [result for result in results if not isinstance(result, BaseException)]
        body = {
            "canceled": sum(canceled for canceled, _ in counts),
            "open_orders": sum(resting for _, resting in counts),
        }
        errors = {
            venue: f"{type(result).__name__}: {result}"
            for venue, result in zip(venues, results, strict=True)
            if isinstance(result, BaseException)
        }
        if errors:
            return _Answer(502, {"status": "failed", **body, "errors": errors})
        if body["open_orders"]:
            return _Answer(503, {"status": "incomplete", **body})
        return _Answer(200, {"status": "done", **body})

    def _in_scope(self, scope: str) -> tuple[list[str], str | None]:
        kind, _, name = scope.partition(":")
        if kind == "venue":
            return [name], None
        return list(self._adapters), name if kind == "symbol" else None

    async def _cancel_venue(self, venue: str, symbol: str | None) -> tuple[int, int]:
        adapter = self._adapters.get(venue)
        if adapter is None:
            known = ", ".join(self._adapters) or "none"
            raise LookupError(f"this OMS has no venue {venue!r}; it has: {known}")
        canceled = await adapter.cancel_all(symbol)
        return canceled, await adapter.open_orders(symbol)


def _webhook(secret: str) -> Webhook:
    if not secret.startswith("whsec_"):
        raise ValueError("a secret starts with whsec_, followed by base64")
    try:
        return Webhook(secret)
    except Exception as error:
        raise ValueError(f"a secret is whsec_ and base64: {error}") from error


async def _healthy(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")
