"""The processing of a webhook: verify it, cancel the orders in its scope, answer, store the answer.

The receiver cancels at least the orders in the scope:

    account       all orders at all venues
    venue:X       all orders at X
    symbol:S      all orders in S, at all venues
    strategy:T    all orders at all venues: exchanges have no record of an order's strategy. An
                  order that is cancelled needlessly can be placed again; an order that is missed
                  rests in a halted market

The answer is "done", and stored by its webhook-id, only when no order is left resting. Any other
answer is a 5xx, after which the sender retries.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from aiohttp import web
from msgspec.structs import asdict
from standardwebhooks import Webhook, WebhookVerificationError

from riskmon.oms.connections import Connections

_OUTCOMES_MAX = 10_000
_BODY_MAX_BYTES = 64 * 1024
_BODY_MAX_SECONDS = 5.0
_ID_MAX = 256
_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")

Log = Callable[..., None]


class Adapter(NamedTuple):
    """The calls to one venue. Both take a symbol, or None for all, and return a count of orders."""

    cancel_all: Callable[[str | None], Awaitable[int]]
    open_orders: Callable[[str | None], Awaitable[int]]


class Message(msgspec.Struct, frozen=True):
    """The fields of the webhook's body that are used or logged."""

    type: str
    scope: str = "account"
    incident: str = ""
    sweep: int = 0
    limit: str = ""
    reason: str = ""


class _Outcome(NamedTuple):
    status: int
    body: dict[str, object]


class Unverified(Exception):
    """The request is not signed with any of the secrets, or is too old."""


class Receiver:
    """The routes of the OMS for aiohttp: `POST /cancel` and `GET /-/healthy`.

    `adapters` are the venues by name; `secrets` have the form `whsec_…`, several while one is
    rotated in. `log` is called with the name of an event and its fields. `connections` limits the
    open ones. Raises ValueError for an invalid secret.
    """

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        secrets: Sequence[str],
        log: Log,
        connections: Connections | None = None,
    ) -> None:
        if not secrets:
            raise ValueError("the OMS needs at least one secret, to verify the sender of a cancel")
        self._adapters = adapters
        self._webhooks = [_webhook(secret) for secret in secrets]
        self._log = log
        self._outcomes: OrderedDict[str, asyncio.Task[_Outcome]] = OrderedDict()
        self.connections = Connections() if connections is None else connections

    def app(self) -> web.Application:
        """Return the application with the routes."""
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
        except ConnectionError:  # the sender has disconnected
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
            outcome = await self._process_once(webhook_id, message)
        return web.json_response(outcome.body, status=outcome.status)

    def _verify(self, body: bytes, headers: Mapping[str, str]) -> None:
        # By name: of a header that is sent twice, the same value is verified and used.
        signed = {name: headers.get(name, "") for name in _HEADERS}
        if len(signed["webhook-id"]) > _ID_MAX:
            raise Unverified(f"webhook-id has more than {_ID_MAX} characters")
        fault = ""
        for webhook in self._webhooks:
            try:
                webhook.verify(body, signed, json_parse=False)
            except WebhookVerificationError as error:
                fault = str(error)
            except ValueError:  # raised by the library for bad base64, bad UTF-8 or a lone comma
                fault = "webhook-signature or body is malformed"
            else:
                return
        raise Unverified(f"not verified: {fault}")

    def _require_known(self, message: Message) -> None:
        if message.type not in ("cancel_orders", "drill"):
            raise ValueError(f"type is {message.type!r}: this OMS accepts cancel_orders and drill")
        kind, _, name = message.scope.partition(":")
        if message.scope != "account" and not (kind in ("venue", "symbol", "strategy") and name):
            raise ValueError(
                f"scope is {message.scope!r}: it must be account, or venue:, symbol: "
                "or strategy: with a name"
            )

    async def _process_once(self, webhook_id: str, message: Message) -> _Outcome:
        """Return the stored outcome of this id, or wait for the one in progress.

        A sender whose timeout has passed retries while the exchange is still cancelling.
        """
        task = self._outcomes.get(webhook_id)
        if task is None:
            task = asyncio.create_task(self._process(webhook_id, message))
            self._outcomes[webhook_id] = task
            task.add_done_callback(lambda done: self._forget_unless_done(webhook_id, done))
            while len(self._outcomes) > _OUTCOMES_MAX:
                self._outcomes.popitem(last=False)
        else:
            self._log("repeated", id=webhook_id)
        return await asyncio.shield(task)

    def _forget_unless_done(self, webhook_id: str, task: asyncio.Task[_Outcome]) -> None:
        if task.cancelled() or task.exception() is not None or task.result().status != 200:
            self._outcomes.pop(webhook_id, None)

    async def _process(self, webhook_id: str, message: Message) -> _Outcome:
        if message.type == "drill":
            outcome = _Outcome(200, {"status": "drill", "canceled": 0})
        else:
            outcome = await self._cancel(message.scope)
        code, body = outcome
        self._log("answered", id=webhook_id, sweep=message.sweep, code=code, **body)
        return outcome

    async def _cancel(self, scope: str) -> _Outcome:
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
            return _Outcome(502, {"status": "failed", **body, "errors": errors})
        if body["open_orders"]:
            return _Outcome(503, {"status": "incomplete", **body})
        return _Outcome(200, {"status": "done", **body})

    def _in_scope(self, scope: str) -> tuple[list[str], str | None]:
        kind, _, name = scope.partition(":")
        if kind == "venue":
            return [name], None
        return list(self._adapters), name if kind == "symbol" else None

    async def _cancel_venue(self, venue: str, symbol: str | None) -> tuple[int, int]:
        adapter = self._adapters.get(venue)
        if adapter is None:
            configured = ", ".join(self._adapters) or "none"
            raise LookupError(f"this OMS has no venue {venue!r}; it has: {configured}")
        canceled = await adapter.cancel_all(symbol)
        return canceled, await adapter.open_orders(symbol)


def _webhook(secret: str) -> Webhook:
    if not secret.startswith("whsec_"):
        raise ValueError("a secret must be whsec_ followed by base64")
    try:
        return Webhook(secret)
    except Exception as error:
        raise ValueError(f"a secret must be whsec_ followed by base64: {error}") from error


async def _healthy(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")
