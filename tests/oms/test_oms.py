"""The reference OMS over real sockets, with venues that the tests can inspect."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from riskmon.oms import Adapter, Receiver
from riskmon.oms.connections import Connections

MOST = 32  # connections
OLD, NEW, FOREIGN = (
    "whsec_" + base64.b64encode(letter * 24).decode() for letter in (b"o", b"n", b"f")
)


class Venue:
    """Resting orders by symbol; cancels raise `fault`, and `stuck` orders are not cancelled."""

    def __init__(self, **orders: int) -> None:
        self.orders = {symbol.replace("_", "/"): count for symbol, count in orders.items()}
        self.fault: Exception | None = None
        self.stuck = 0
        self.cancels = 0
        self.go, self.asked = asyncio.Event(), asyncio.Event()
        self.go.set()

    @property
    def adapter(self) -> Adapter:
        return Adapter(self._cancel_all, self._open_orders)

    async def _cancel_all(self, symbol: str | None) -> int:
        self.cancels += 1
        self.asked.set()
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        hit = [name for name in self.orders if symbol in (None, name)]
        canceled = sum(self.orders[name] for name in hit)
        self.orders.update(dict.fromkeys(hit, self.stuck))
        return canceled - self.stuck * len(hit)

    async def _open_orders(self, symbol: str | None) -> int:
        return sum(count for name, count in self.orders.items() if symbol in (None, name))


class Oms:
    """A served receiver, and a client that signs."""

    def __init__(self, url: str, session: aiohttp.ClientSession, logged: list[str]) -> None:
        self.url, self.session, self.logged = url, session, logged
        self.port, self.places = 0, Connections(MOST, idle_seconds=0.3)
        self.kraken, self.mexc = Venue(BTC_USDT=3, ETH_USDT=2), Venue(BTC_USDT=4)

    async def post(
        self,
        scope: str = "account",
        *,
        id: str = "msg_1",
        secret: str = NEW,
        age: timedelta = timedelta(0),
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        type: str = "cancel_orders",
    ) -> tuple[int, dict[str, Any]]:
        if body is None:
            body = json.dumps({"type": type, "scope": scope, "flatten": False}).encode()
        at = datetime.now(UTC) - age
        signed = {
            "webhook-id": id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(secret).sign(id, at, body.decode(errors="replace")),
        } | (headers or {})
        async with self.session.post(self.url, data=body, headers=signed) as response:
            return response.status, await response.json()


@pytest.fixture
async def oms() -> AsyncIterator[Oms]:
    logged: list[str] = []
    async with aiohttp.ClientSession() as session:
        served = Oms("", session, logged)
        adapters = {"kraken": served.kraken.adapter, "mexc": served.mexc.adapter}
        receiver = Receiver(
            adapters, [OLD, NEW], lambda event, **_: logged.append(event), served.places
        )
        runner = web.AppRunner(receiver.app(), shutdown_timeout=0.1)
        await runner.setup()
        listener = await receiver.connections.listen(runner, "127.0.0.1", 0)
        served.port = listener.sockets[0].getsockname()[1]
        served.url = f"http://127.0.0.1:{served.port}/cancel"
        yield served
        listener.close()
        await runner.cleanup()


@pytest.mark.parametrize(
    ("scope", "canceled", "kraken", "mexc"),
    [
        ("account", 9, {"BTC/USDT": 0, "ETH/USDT": 0}, {"BTC/USDT": 0}),
        ("venue:kraken", 5, {"BTC/USDT": 0, "ETH/USDT": 0}, {"BTC/USDT": 4}),
        ("symbol:BTC/USDT", 7, {"BTC/USDT": 0, "ETH/USDT": 2}, {"BTC/USDT": 0}),
        ("strategy:mm1", 9, {"BTC/USDT": 0, "ETH/USDT": 0}, {"BTC/USDT": 0}),
    ],
)
async def test_orders_in_scope_are_cancelled(
    oms: Oms, scope: str, canceled: int, kraken: dict[str, int], mexc: dict[str, int]
) -> None:
    """Each kind of scope cancels at least its orders, and counts the ones that are left."""
    answer = {"status": "done", "canceled": canceled, "open_orders": 0}
    assert await oms.post(scope) == (200, answer)
    assert (oms.kraken.orders, oms.mexc.orders) == (kraken, mexc)


@pytest.mark.parametrize("secret", [OLD, NEW])
async def test_two_secrets_hold_while_one_is_rotated_in(oms: Oms, secret: str) -> None:
    """A message signed with either secret is accepted."""
    assert (await oms.post(secret=secret))[0] == 200


@pytest.mark.parametrize(
    "change",
    [
        {"secret": FOREIGN},
        {"age": timedelta(minutes=5, seconds=2)},
        {"age": timedelta(minutes=-6)},
        {"headers": {"webhook-id": "msg_2"}},
        {"headers": {"webhook-id": "x" * 300}},
        {"headers": {"webhook-timestamp": "yesterday"}},
        {"headers": {"webhook-signature": ""}},
        {"headers": {"webhook-signature": "v1,§"}},
        {"headers": {"webhook-signature": "v1"}},
        {"headers": {"webhook-signature": "v1,abc"}},
        {"body": b"\xff"},
    ],
    ids=str,
)
async def test_an_unverified_message_cancels_nothing(oms: Oms, change: dict[str, Any]) -> None:
    """A foreign secret, an old or early time and invalid headers are a 401 with a reason."""
    status, body = await oms.post(**change)
    assert (status, oms.kraken.cancels) == (401, 0)
    assert body["error"].startswith(("not verified: ", "webhook-id"))
    assert oms.logged == ["refused"]


async def test_a_changed_body_is_not_verified(oms: Oms) -> None:
    """A changed body does not match the signature."""
    at = datetime.now(UTC)
    signature = Webhook(NEW).sign("msg_1", at, '{"type":"drill"}')
    status, _ = await oms.post(headers={"webhook-signature": signature})
    assert (status, oms.kraken.cancels) == (401, 0)


async def test_a_known_id_gives_the_stored_answer(oms: Oms) -> None:
    """A repeated message cancels nothing and gets the stored answer."""
    first = await oms.post("venue:kraken", id="msg_1")
    oms.kraken.orders["BTC/USDT"] = 8
    assert await oms.post("venue:kraken", id="msg_1") == first
    assert (oms.kraken.cancels, oms.kraken.orders["BTC/USDT"]) == (1, 8)
    assert (await oms.post("venue:kraken", id="msg_2"))[1]["canceled"] == 8


async def test_a_repetition_waits_for_the_cancel_in_progress(oms: Oms) -> None:
    """A repetition during the cancel waits for its outcome and does not cancel twice."""
    oms.kraken.go.clear()
    first = asyncio.create_task(oms.post("venue:kraken"))
    second = asyncio.create_task(oms.post("venue:kraken"))
    async with asyncio.timeout(5):
        while "repeated" not in oms.logged:  # noqa: ASYNC110 - the log is a plain list
            await asyncio.sleep(0.001)
    oms.kraken.go.set()
    assert (
        await first
        == await second
        == (
            200,
            {"status": "done", "canceled": 5, "open_orders": 0},
        )
    )
    assert oms.kraken.cancels == 1


async def test_a_drill_is_acknowledged_and_cancels_nothing(oms: Oms) -> None:
    """A drill is acknowledged and cancels nothing."""
    assert await oms.post(type="drill") == (200, {"status": "drill", "canceled": 0})
    assert (oms.kraken.cancels, oms.mexc.cancels) == (0, 0)


async def test_a_failing_venue_is_named_tried_again_and_hides_no_other(oms: Oms) -> None:
    """A 502 names the failed venue and the fault; others are cancelled; nothing is stored."""
    oms.kraken.fault = RuntimeError("maintenance")
    status, body = await oms.post("account")
    assert status == 502
    assert body == {
        "status": "failed",
        "canceled": 4,
        "open_orders": 0,
        "errors": {"kraken": "RuntimeError: maintenance"},
    }
    oms.kraken.fault = None
    answer = {"status": "done", "canceled": 5, "open_orders": 0}
    assert await oms.post("account") == (200, answer)


async def test_an_order_that_still_rests_is_not_done(oms: Oms) -> None:
    """Orders that are left are counted in a 503, and the next attempt cancels again."""
    oms.mexc.stuck = 1
    answer = {"status": "incomplete", "canceled": 3, "open_orders": 1}
    assert await oms.post("venue:mexc") == (503, answer)
    oms.mexc.stuck = 0
    answer = {"status": "done", "canceled": 1, "open_orders": 0}
    assert await oms.post("venue:mexc") == (200, answer)


async def test_an_unknown_venue_is_a_failure(oms: Oms) -> None:
    """A venue without an adapter is never "done", because its orders may be resting."""
    status, body = await oms.post("venue:okx")
    assert (status, body["status"]) == (502, "failed")
    assert "no venue 'okx'; it has: kraken, mexc" in body["errors"]["okx"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"scope":"account"}',
        b'{"type":"refund","scope":"account"}',
        b'{"type":"cancel_orders","scope":"planet:mars"}',
        b'{"type":"cancel_orders","scope":"venue:"}',
    ],
)
async def test_a_signed_body_that_makes_no_sense_is_a_400(oms: Oms, body: bytes) -> None:
    """An invalid body is refused with a reason and cancels nothing."""
    status, answer = await oms.post(body=body)
    assert (status, oms.kraken.cancels) == (400, 0)
    assert answer["error"]


@pytest.mark.parametrize("secret", ["", "secret", "whsec_", "whsec_!"])
def test_an_invalid_secret_is_refused(secret: str) -> None:
    """An OMS with an invalid secret does not start."""
    with pytest.raises(ValueError, match="secret"):
        Receiver({}, [secret] if secret else [], lambda *_, **__: None)


@asynccontextmanager
async def attackers(oms: Oms, sent: bytes) -> AsyncIterator[None]:
    """Open three times the maximum number of connections; each sends the same and waits."""
    loop = asyncio.get_running_loop()
    with ExitStack() as opened:
        for _ in range(3 * MOST):
            sock = opened.enter_context(socket.socket())
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", oms.port))
            await loop.sock_sendall(sock, sent)
        yield


HEAD = b"POST /cancel HTTP/1.1\r\nHost: oms\r\n"


@pytest.mark.parametrize(
    "sent", [b"", HEAD, HEAD + b"Content-Length: 9\r\n\r\n{"], ids=["silent", "head", "body"]
)
async def test_connections_without_a_secret_do_not_block_webhooks(
    oms: Oms, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The longest idle connections are closed, and a cancel is processed."""
    async with attackers(oms, sent):
        for number in range(5):
            assert (await asyncio.wait_for(oms.post(id=f"msg_{number}"), 2))[0] == 200
        assert 0 < len(oms.places) <= MOST
    assert not caplog.records  # an attack does not fill the log


async def test_a_verified_webhook_keeps_its_connection(oms: Oms) -> None:
    """A cancel in progress is answered, whatever the number of new connections."""
    oms.kraken.go.clear()
    answer = asyncio.create_task(oms.post())
    await asyncio.wait_for(oms.kraken.asked.wait(), 2)
    async with attackers(oms, b""):
        oms.kraken.go.set()
        assert (await asyncio.wait_for(answer, 2))[0] == 200


async def test_a_silent_connection_closes_after_a_while(oms: Oms) -> None:
    """A connection without data, or with part of a head, is closed after a while."""
    for sent in (b"", HEAD):
        reader, writer = await asyncio.open_connection("127.0.0.1", oms.port)
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 3) == b""
        writer.close()
