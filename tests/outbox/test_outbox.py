"""The outbox delivers cancels to real HTTP servers with any behaviour."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.client_reqrep import ConnectionKey
from standardwebhooks import Webhook, WebhookVerificationError

from riskmon.core.decisions import Sweep
from riskmon.core.events import CancelAnswered, CancelSent
from riskmon.delivery import Delivery, Status
from riskmon.outbox.queue import WAITING_MAX, Outbox, Schedule, TargetStats
from riskmon.outbox.target import CancelTarget
from riskmon.outbox.webhook import ATTEMPTS_MAX, RESULTS, Result, classify, payload
from riskmon.settings.faults import validated
from tests.support.ports import free_port
from tests.support.waiting import eventually_async

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
DONE = b'{"status":"done","canceled":12,"open_orders":0}'
QUICK = Schedule(steps_seconds=(0.01,), steady_seconds=0.01, last_seconds=3_600)
NEVER = Schedule(steps_seconds=(3_600,))  # with it, any second attempt is made without a wait

SWEEP = Sweep(
    incident="inc_1",
    sweep=1,
    generation=7,
    scope="venue:kraken",
    limit="latency_p99",
    reason="P99 0.243 s over 0.2 s (1000 samples)",
    at_ns=1_767_323_045_678_999_999,
    cancels="all",
    flatten=False,
    targets=("oms",),
)

# A self-signed certificate for 127.0.0.1.
CERTIFICATE = """\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIMIksoLKXfklSeLTUoM235jnTyxMwleQthsepguuBdH/oAoGCCqGSM49
AwEHoUQDQgAEjnW+mq0DkJBjri1mf3Ivmgzsb/mYcVLp66dyYVbzB5fVBW4xvZQQ
XCAPNpeZ06ZRPvh4gjkfq5oWSzjc3xNq+Q==
-----END EC PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBnDCCAUGgAwIBAgIULjSlYJuN9jOIgwACp9fG7Cg6BtgwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTAxNDUzMVoYDzIxMjYxMDI4
MDE0NTMxWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASOdb6arQOQkGOuLWZ/ci+aDOxv+ZhxUunrp3JhVvMHl9UFbjG9lBBc
IA82l5nTplE++HiCOR+rmhZLONzfE2r5o28wbTAdBgNVHQ4EFgQUtiw4ffM2LGj4
INJmlHieGpj3wswwHwYDVR0jBBgwFoAUtiw4ffM2LGj4INJmlHieGpj3wswwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARhwR/AAABgglsb2NhbGhvc3QwCgYIKoZI
zj0EAwIDSQAwRgIhAJfzBpKf90SoBH/PWNmgmMdCZNLVnbTVnxvCwJtD94+NAiEA
l1ETQOhyCY10+W41hK1kIQ1ZLGg1lyurIrMoSqqAXTU=
-----END CERTIFICATE-----
"""

Answer = tuple[int, bytes]
Handler = Callable[[int], Awaitable[Answer]]
Serve = Callable[..., Awaitable["Receiver"]]
Make = Callable[..., "Bench"]


@dataclass
class Receiver:
    """A cancel target; `answer` is called with the number of the request, from 1."""

    answer: Handler
    url: str = ""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        """Record the request, then answer as scripted."""
        self.requests.append((dict(request.headers), await request.read()))
        status, body = await self.answer(len(self.requests))
        headers = {"Location": "/elsewhere"} if 300 <= status < 400 else {}
        return web.Response(status=status, body=body, headers=headers)

    @property
    def ids(self) -> list[str]:
        """The webhook-id of each request."""
        return [headers["webhook-id"] for headers, _ in self.requests]


@dataclass
class Bench:
    """An outbox and everything that it reported."""

    outbox: Outbox
    reports: list[CancelSent | CancelAnswered]
    settled: list[tuple[str, Status, int]]
    results: list[tuple[str, str]]
    seconds: list[tuple[str, float]]

    @property
    def answered(self) -> list[CancelAnswered]:
        """The reported answers."""
        return [report for report in self.reports if isinstance(report, CancelAnswered)]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start receivers on free ports."""
    runners: list[web.AppRunner] = []

    async def start(answer: Handler, port: int = 0, tls: ssl.SSLContext | None = None) -> Receiver:
        receiver = Receiver(answer)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", receiver.handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        scheme = "https" if tls else "http"
        receiver.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}/cancel"
        return receiver

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Create outboxes that are closed at the end."""
    benches: list[Bench] = []

    def build(*targets: CancelTarget, schedule: Schedule = QUICK) -> Bench:
        reports: list[CancelSent | CancelAnswered] = []
        settled: list[tuple[str, Status, int]] = []
        results: list[tuple[str, str]] = []
        seconds: list[tuple[str, float]] = []
        outbox = Outbox(
            targets,
            reports.append,
            settle=lambda *end: settled.append(end),
            observe=SimpleNamespace(
                delivery=lambda *result: results.append(result),
                delivered=lambda *took: seconds.append(took),
            ),
            schedule=schedule,
        )
        benches.append(Bench(outbox, reports, settled, results, seconds))
        return benches[-1]

    yield build
    for bench in benches:
        await bench.outbox.close()


def target(url: str, name: str = "oms", **more: Any) -> CancelTarget:
    """Return a target at this address."""
    return CancelTarget(name=name, url=url, secret=more.pop("secrets", (SECRET,)), **more)


def delivery(sweep: int = 1, to: str = "oms", incident: str = "inc_1", at_ns: int = 5) -> Delivery:
    """Return a cancel as the journal stores it."""
    made = msgspec.structs.replace(SWEEP, incident=incident, sweep=sweep)
    body = payload(made, "main", "all")
    return Delivery(f"{incident}_{sweep}_{to}", incident, sweep, to, made.scope, body, at_ns)


def always(status: int = 200, body: bytes = DONE) -> Handler:
    """Give the same answer to every request."""

    async def answer(_: int) -> Answer:
        return status, body

    return answer


def failing(times: int, status: int = 500) -> Handler:
    """Fail `times` times, then answer with "done"."""

    async def answer(number: int) -> Answer:
        return (status, b"") if number <= times else (200, DONE)

    return answer


async def hang(_: int) -> Answer:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


def tried(bench: Bench, times: int) -> bool:
    """Whether this number of attempts has ended."""
    return len(bench.results) == times


async def raw_server(
    serve_one: Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]],
) -> asyncio.Server:
    """Run a TCP server that ends each connection when `serve_one` returns, counted from 1."""
    count = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        try:
            await serve_one(reader, writer, count)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


async def read_request(reader: asyncio.StreamReader) -> None:
    """Read one complete request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = head.partition("content-length: ")[2].partition("\r\n")[0]
    await reader.readexactly(int(length))


def url_of(server: asyncio.Server) -> str:
    """Return its address."""
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


# -- what is sent -------------------------------------------------------------------------------


def test_payload_is_the_documented_body() -> None:
    """The body has the documented fields in their order; milliseconds are truncated."""
    assert payload(SWEEP, "main", "spot") == (
        b'{"type":"cancel_orders","account":"main","incident":"inc_1","generation":7,"sweep":1,'
        b'"markets":"spot","cancels":"all","flatten":false,"scope":"venue:kraken",'
        b'"limit":"latency_p99","reason":"P99 0.243 s over 0.2 s (1000 samples)",'
        b'"at":"2026-01-02T03:04:05.678Z","recovers":"by an operator"}'
    )


async def test_a_cancel_is_signed_sent_and_reported(serve: Serve, make: Make) -> None:
    """A cancel is one request that the library verifies, and is reported."""
    receiver = await serve(always())
    bench = make(target(receiver.url))
    bench.outbox.send(delivery())
    assert await bench.outbox.drain(5)
    [(headers, body)] = receiver.requests
    assert Webhook(SECRET).verify(body, headers) == msgspec.json.decode(delivery().body)
    assert body == delivery().body
    assert headers["webhook-id"] == "inc_1_1_oms"
    assert headers["Content-Type"] == "application/json"
    assert bench.reports == [
        CancelSent(incident="inc_1", sweep=1, target="oms"),
        CancelAnswered(
            incident="inc_1", sweep=1, target="oms", done=True, canceled=12, open_orders=0
        ),
    ]
    assert bench.settled == [("inc_1_1_oms", "delivered", 1)]
    assert bench.results == [("oms", "delivered")]
    assert [name for name, _ in bench.seconds] == ["oms"]


async def test_every_secret_signs(serve: Serve, make: Make) -> None:
    """While a secret is rotated in, receivers with either secret verify the same request."""
    receiver = await serve(always())
    bench = make(target(receiver.url, secrets=(SECRET, NEW_SECRET)))
    bench.outbox.send(delivery())
    assert await bench.outbox.drain(5)
    [(headers, body)] = receiver.requests
    assert Webhook(SECRET).verify(body, headers)
    assert Webhook(NEW_SECRET).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_b3RoZXIgc2VjcmV0").verify(body, headers)


@pytest.mark.parametrize(
    ("secrets", "message"),
    [
        ((), "must hold at least 1 value"),
        ((SECRET, "whsec_"), "must be `whsec_` and 24 to 64 bytes in base64"),
        (("whsec_abcde",), "must be `whsec_`"),
    ],
)
def test_a_target_without_a_usable_secret_is_refused(
    secrets: tuple[str, ...], message: str
) -> None:
    """A target without a valid secret is refused, without quoting the secret."""
    table = {"name": "oms", "url": "http://127.0.0.1/", "secret": secrets}
    _, found = validated(CancelTarget, table)
    assert [fault.message.startswith(message) for fault in found] == [True]
    assert "abcde" not in str(found)


def test_a_target_hides_its_secrets() -> None:
    """The representation of a target contains no secret."""
    assert SECRET not in repr(target("http://127.0.0.1/"))


# -- what comes back ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "done"),
    [
        (200, DONE, True),
        (202, b'{"open_orders":0,"status":"done","more":[1]}', True),
        (200, b'{"status":"done","open_orders":1}', False),
        (200, b'{"status":"done","open_orders":null}', False),
        (200, b'{"status":"done","open_orders":false}', False),
        (200, b'{"status":"done","open_orders":-1}', False),
        (200, b'{"status":"done","canceled":1e30,"open_orders":0}', False),
        (200, b'{"status":"done","canceled":12}', False),
        (200, b'{"status":"partial","open_orders":0}', False),
        (200, b'{"open_orders":0}', False),
        (200, b"[]", False),
        (200, b"OK", False),
        (200, b'{"status":"\xff","open_orders":0}', False),
        (200, b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}", False),
        (200, DONE + b" " * (64 * 1024), False),
        (204, b"", False),
    ],
)
async def test_only_a_complete_valid_answer_is_done(
    serve: Serve, make: Make, status: int, body: bytes, done: bool
) -> None:
    """Every 2xx is delivered; done requires status and open_orders, in JSON up to 64 KiB."""
    receiver = await serve(always(status, body))
    bench = make(target(receiver.url))
    bench.outbox.send(delivery())
    assert await bench.outbox.drain(5)
    assert [answered.done for answered in bench.answered] == [done]
    assert bench.settled == [("inc_1_1_oms", "delivered", 1)]


async def test_delivery_confirms_where_the_target_is_configured_so(
    serve: Serve, make: Make
) -> None:
    """With confirm = "delivery" any 2xx is done."""
    receiver = await serve(always(204, b""))
    bench = make(target(receiver.url, confirm="delivery"))
    bench.outbox.send(delivery())
    assert await bench.outbox.drain(5)
    assert [answered.done for answered in bench.answered] == [True]


async def test_an_answer_that_breaks_off_is_delivered(make: Make) -> None:
    """A 2xx counts once its head is read; with an incomplete body it is not done."""

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + DONE)
        await writer.drain()

    async with await raw_server(half) as server:
        bench = make(target(url_of(server)), schedule=NEVER)
        bench.outbox.send(delivery())
        assert await bench.outbox.drain(5)
    assert [answered.done for answered in bench.answered] == [False]


KEY = ConnectionKey("oms", 443, True, True, None, None, None)
REQUEST: Any = SimpleNamespace(real_url="http://oms/")


@pytest.mark.parametrize(
    ("outcome", "result"),
    [
        *((status, "http_1xx") for status in (100, 101, 199)),
        *((status, "delivered") for status in (200, 201, 202, 204, 299)),
        *((status, "http_3xx") for status in (300, 301, 302, 303, 304, 307, 308, 399)),
        *((status, "http_4xx") for status in (400, 401, 404, 408, 409, 410, 422, 429, 499)),
        *((status, "http_5xx") for status in (500, 501, 502, 503, 504, 599)),
        *((status, "invalid_answer") for status in (0, 99, 600, 999)),
        (aiohttp.ServerTimeoutError(), "timeout"),
        (aiohttp.SocketTimeoutError(), "timeout"),
        (TimeoutError(), "timeout"),
        (aiohttp.ConnectionTimeoutError(), "connect_timeout"),
        (aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "no")), "connect_error"),
        (aiohttp.ClientConnectorError(KEY, OSError(113, "no route")), "connect_error"),
        (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "unknown")), "dns"),
        (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "no")), "tls"),
        (aiohttp.ClientConnectorCertificateError(KEY, ssl.CertificateError("no")), "tls"),
        (ssl.SSLError(1, "no"), "tls"),
        (aiohttp.ServerDisconnectedError(), "disconnected"),
        (aiohttp.ClientOSError(104, "reset"), "disconnected"),
        (aiohttp.ClientConnectionResetError("closing"), "disconnected"),
        (ConnectionResetError(), "disconnected"),
        (BrokenPipeError(), "disconnected"),
        (aiohttp.ClientResponseError(REQUEST, ()), "invalid_answer"),
        (aiohttp.ClientPayloadError(), "invalid_answer"),
        (aiohttp.InvalidURL("x"), "error"),
        (RuntimeError(), "error"),
    ],
)
def test_every_outcome_has_one_result(outcome: int | BaseException, result: Result) -> None:
    """Each class of status and failure has a result, so that the metric's label is bounded."""
    assert classify(outcome) == result


def test_results_are_all_that_can_be_counted() -> None:
    """RESULTS, with which metrics are initialized, contains every result."""
    assert get_args(Result) == RESULTS
    assert {classify(status) for status in range(1_000)} < set(RESULTS)


# -- when it is tried again ---------------------------------------------------------------------


def test_the_schedule_is_the_documented_one() -> None:
    """0.1, 0.25, 0.5, 1, 2, 5 s, then 5 s for 5 minutes, then 15 s."""
    schedule = Schedule()
    waits = [schedule.wait_seconds(failures, 0.0, 0.0) for failures in range(1, 9)]
    assert waits == [0.1, 0.25, 0.5, 1, 2, 5, 5, 5]
    assert schedule.wait_seconds(60, 299.9, 0.0) == 5
    assert schedule.wait_seconds(61, 300.0, 0.0) == 15
    assert schedule.wait_seconds(1_000_000, 1e9, 0.0) == 15


@pytest.mark.parametrize(("spread", "factor"), [(-1, 0.8), (-0.5, 0.9), (0, 1), (1, 1.2)])
def test_waits_are_spread_by_a_fifth(spread: float, factor: float) -> None:
    """The jitter changes each wait by at most 20 % in either direction."""
    schedule = Schedule()
    for failures in range(1, 8):
        plain = schedule.wait_seconds(failures, 0.0, 0.0)
        assert schedule.wait_seconds(failures, 0.0, spread) == pytest.approx(plain * factor)
    assert schedule.wait_seconds(99, 300.0, spread) == pytest.approx(15 * factor)


async def test_five_minutes_count_from_the_last_step(serve: Serve, make: Make) -> None:
    """Each failure is counted, and the steady time is measured from the last step."""
    asked: list[tuple[int, float]] = []

    class Noted(Schedule):
        def wait_seconds(self, failures: int, steady_for_seconds: float, spread: float) -> float:
            asked.append((failures, steady_for_seconds))
            return 0.02

    receiver = await serve(failing(6))
    bench = make(target(receiver.url), schedule=Noted(steps_seconds=(1.0, 1.0)))
    bench.outbox.send(delivery())
    assert await bench.outbox.drain(5)
    assert [failures for failures, _ in asked] == [1, 2, 3, 4, 5, 6]
    steady = [seconds for _, seconds in asked]
    assert max(steady[:3]) < steady[3] < steady[4] < steady[5]


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 409, 410, 429, 500, 503])
async def test_every_other_status_is_retried(serve: Serve, make: Make, status: int) -> None:
    """After any status but 2xx the same id is sent again to the same address, without a limit."""
    receiver = await serve(failing(9, status))
    bench = make(target(receiver.url))
    bench.outbox.send(delivery())
    assert await bench.outbox.drain(5)
    assert receiver.ids == ["inc_1_1_oms"] * 10
    result = f"http_{status // 100}xx"
    assert bench.results == [("oms", result)] * 9 + [("oms", "delivered")]
    assert bench.settled == [("inc_1_1_oms", "delivered", 10)]
    assert [type(report) for report in bench.reports] == [CancelSent, CancelAnswered]


async def test_refused_connections_are_retried(serve: Serve, make: Make) -> None:
    """Refused connections are retried until a receiver listens."""
    port = free_port()
    bench = make(target(f"http://127.0.0.1:{port}/cancel"))
    bench.outbox.send(delivery())
    await eventually_async(lambda: len(bench.results) >= 3)
    receiver = await serve(always(), port=port)
    assert await bench.outbox.drain(5)
    assert receiver.ids == ["inc_1_1_oms"]
    assert bench.results[:3] == [("oms", "connect_error")] * 3


@pytest.mark.slow
async def test_a_receiver_that_does_not_answer_is_retried(serve: Serve, make: Make) -> None:
    """A receiver that does not answer costs one attempt, not the delivery."""

    async def silent_once(number: int) -> Answer:
        return await hang(number) if number == 1 else (200, DONE)

    receiver = await serve(silent_once)
    bench = make(target(receiver.url))
    bench.outbox.send(delivery())
    assert await bench.outbox.drain(10)
    assert bench.results == [("oms", "timeout"), ("oms", "delivered")]


async def test_a_connection_that_is_not_made_is_given_up(make: Make) -> None:
    """A host that drops packets ends an attempt by the shorter connect timeout."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        bench = make(target(f"http://127.0.0.1:{full.getsockname()[1]}/"), schedule=NEVER)
        bench.outbox.send(delivery())
        await eventually_async(lambda: bench.results)
        for filler in fillers:
            filler.close()
    assert bench.results == [("oms", "connect_timeout")]


async def test_an_unknown_certificate_is_refused(serve: Serve, make: Make, tmp_path: Path) -> None:
    """The certificate is verified: an unknown one gets no request."""
    (tmp_path / "tls.pem").write_text(CERTIFICATE)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "tls.pem")
    receiver = await serve(always(), tls=tls)
    bench = make(target(receiver.url), schedule=NEVER)
    bench.outbox.send(delivery())
    await eventually_async(lambda: bench.results)
    assert bench.results == [("oms", "tls")]
    assert receiver.requests == []


async def test_an_answer_that_is_not_http_is_retried(make: Make) -> None:
    """Another protocol on the receiver's port is a failed attempt."""

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await read_request(reader)
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        await writer.drain()

    async with await raw_server(babble) as server:
        bench = make(target(url_of(server)))
        bench.outbox.send(delivery())
        await eventually_async(lambda: len(bench.results) >= 2)
    assert bench.results[:2] == [("oms", "invalid_answer")] * 2


# -- connections --------------------------------------------------------------------------------


async def test_a_stale_connection_costs_no_wait(make: Make) -> None:
    """When the receiver closes a kept connection, the request is sent over a new one at once."""
    requests: list[int] = []

    async def close_on_second(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        await read_request(reader)
        requests.append(connection)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(DONE), DONE))
        await read_request(reader)
        requests.append(connection)

    async with await raw_server(close_on_second) as server:
        bench = make(target(url_of(server)), schedule=NEVER)
        for sweep in (1, 2):
            bench.outbox.send(delivery(sweep))
            assert await bench.outbox.drain(5)
    assert requests == [1, 1, 2]
    assert bench.results == [("oms", "delivered")] * 2


async def test_a_new_connection_that_is_closed_is_a_failure(make: Make) -> None:
    """A receiver that closes every connection is retried only after the wait."""
    connections: list[int] = []

    async def hang_up(
        reader: asyncio.StreamReader, _: asyncio.StreamWriter, connection: int
    ) -> None:
        await read_request(reader)
        connections.append(connection)

    async with await raw_server(hang_up) as server:
        bench = make(target(url_of(server)), schedule=NEVER)
        bench.outbox.send(delivery())
        await eventually_async(lambda: bench.results)
    assert connections == [1]
    assert bench.results == [("oms", "disconnected")]


async def test_attempts_at_once_are_bounded(serve: Serve, make: Make) -> None:
    """With any number of incidents a slow target uses a bounded number of sockets."""
    release, most, now = asyncio.Event(), 0, 0

    async def slow(_: int) -> Answer:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await release.wait()
        now -= 1
        return 200, DONE

    receiver = await serve(slow)
    bench = make(target(receiver.url))
    for number in range(ATTEMPTS_MAX + 20):
        bench.outbox.send(delivery(incident=f"inc_{number}"))
    await eventually_async(lambda: now == ATTEMPTS_MAX)
    release.set()
    assert await bench.outbox.drain(5)
    assert most == ATTEMPTS_MAX
    assert len(set(receiver.ids)) == ATTEMPTS_MAX + 20


async def test_the_last_addresses_are_used_without_a_name_service(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last addresses of a name are used when its lookup fails or hangs later."""
    look_up, release = socket.getaddrinfo, threading.Event()
    behaviour = ["found", "failed", "hung"]

    def name_service(host: Any, *rest: Any) -> Any:
        if host != "oms.example":
            return look_up(host, *rest)
        now = behaviour.pop(0)
        if now == "hung":
            release.wait(10)
        if now == "found":
            return look_up("127.0.0.1", *rest)
        raise socket.gaierror(socket.EAI_AGAIN, "name service is down")

    async def close_each(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int
    ) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

    monkeypatch.setattr(socket, "getaddrinfo", name_service)
    async with await raw_server(close_each) as server:
        bench = make(target(url_of(server).replace("127.0.0.1", "oms.example")), schedule=NEVER)
        for sweep in (1, 2, 3):
            bench.outbox.send(delivery(sweep))
            assert await bench.outbox.drain(5)
    release.set()
    assert bench.results == [("oms", "delivered")] * 3
    assert behaviour == []


async def test_an_unknown_name_is_retried(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that cannot be resolved is a failed attempt."""

    def unknown(*_: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    bench = make(target("http://oms.example/"))
    bench.outbox.send(delivery())
    await eventually_async(lambda: len(bench.results) >= 2)
    assert bench.results[:2] == [("oms", "dns")] * 2


# -- many deliveries ----------------------------------------------------------------------------


async def test_a_dead_target_delays_no_other(serve: Serve, make: Make) -> None:
    """While one target hangs, another gets its cancel."""
    dead, alive = await serve(hang), await serve(always())
    bench = make(target(dead.url, "dead"), target(alive.url, "alive"))
    bench.outbox.send(delivery(to="dead", at_ns=7))
    bench.outbox.send(delivery(to="alive", at_ns=7))
    await eventually_async(lambda: bench.settled and dead.requests)
    assert bench.settled == [("inc_1_1_alive", "delivered", 1)]
    assert bench.outbox.stats() == {"dead": TargetStats(1, 7), "alive": TargetStats(0, None)}


async def test_one_id_is_sent_once(serve: Serve, make: Make) -> None:
    """Sending a delivery again, pending or ended, has no effect."""
    receiver = await serve(always())
    bench = make(target(receiver.url))
    bench.outbox.send(delivery())
    bench.outbox.send(delivery())
    assert await bench.outbox.drain(5)
    bench.outbox.send(delivery())
    assert await bench.outbox.drain(5)
    assert receiver.ids == ["inc_1_1_oms"]
    assert len(bench.settled) == 1


async def test_the_oldest_sweep_is_withdrawn(serve: Serve, make: Make) -> None:
    """For one incident a target has a bounded number of pending sweeps, the newest ones."""
    receiver = await serve(always(503))
    bench = make(target(receiver.url), schedule=NEVER)
    for sweep in range(1, WAITING_MAX + 3):
        bench.outbox.send(delivery(sweep, at_ns=sweep))
        await eventually_async(partial(tried, bench, sweep))
    bench.outbox.send(delivery(1, incident="inc_2", at_ns=99))
    await eventually_async(lambda: len(bench.settled) == 2)
    assert bench.settled == [("inc_1_1_oms", "withdrawn", 1), ("inc_1_2_oms", "withdrawn", 1)]
    assert bench.outbox.stats() == {"oms": TargetStats(WAITING_MAX + 1, 3)}


async def test_a_slow_receiver_answers_an_earlier_sweep(serve: Serve, make: Make) -> None:
    """A newer sweep does not end an older one, whose late answer still counts."""
    release = asyncio.Event()

    async def slow(number: int) -> Answer:
        if number == 1:
            return 503, b""
        await release.wait()
        return 200, DONE

    receiver = await serve(slow)
    bench = make(target(receiver.url))
    bench.outbox.send(delivery(1))
    bench.outbox.send(delivery(2))
    await eventually_async(lambda: len(receiver.requests) == 3)
    release.set()
    assert await bench.outbox.drain(5)
    assert {(one.sweep, one.done) for one in bench.answered} == {(1, True), (2, True)}


async def test_withdrawing_ends_the_waits(serve: Serve, make: Make) -> None:
    """A withdrawal ends a wait for the next attempt at once, for its incident only."""
    receiver = await serve(always(503))
    bench = make(target(receiver.url), schedule=NEVER)
    for incident in ("inc_1", "inc_2"):
        bench.outbox.send(delivery(incident=incident))
    await eventually_async(lambda: len(bench.results) == 2)
    bench.outbox.withdraw("inc_1")
    await eventually_async(lambda: bench.settled)
    assert bench.settled == [("inc_1_1_oms", "withdrawn", 1)]
    assert bench.outbox.stats()["oms"].pending == 1
    assert len(receiver.requests) == 2


async def test_an_attempt_in_progress_may_succeed(serve: Serve, make: Make) -> None:
    """An attempt in progress that succeeds after the withdrawal is reported."""
    release = asyncio.Event()

    async def slow(_: int) -> Answer:
        await release.wait()
        return 200, DONE

    receiver = await serve(slow)
    bench = make(target(receiver.url))
    bench.outbox.send(delivery())
    await eventually_async(lambda: receiver.requests)
    bench.outbox.withdraw("inc_1")
    release.set()
    assert await bench.outbox.drain(5)
    assert bench.settled == [("inc_1_1_oms", "delivered", 1)]
    assert len(bench.answered) == 1


async def test_withdrawn_before_the_first_attempt_is_never_sent(serve: Serve, make: Make) -> None:
    """A delivery that is withdrawn in the same step of the event loop is not sent."""
    receiver = await serve(always())
    bench = make(target(receiver.url))
    bench.outbox.send(delivery())
    bench.outbox.withdraw("inc_1")
    assert await bench.outbox.drain(5)
    assert bench.settled == [("inc_1_1_oms", "withdrawn", 0)]
    assert (receiver.requests, bench.reports) == ([], [])


async def test_pending_deliveries_are_sent_by_the_next_start(serve: Serve, make: Make) -> None:
    """Closing reports no outcome; the next outbox sends the same id and continues the count."""
    receiver = await serve(failing(1))
    first = make(target(receiver.url), schedule=NEVER)
    first.outbox.send(delivery())
    await eventually_async(lambda: first.results)
    await first.outbox.close()
    assert first.settled == []
    second = make(target(receiver.url))
    second.outbox.send(msgspec.structs.replace(delivery(), attempts=1))
    assert await second.outbox.drain(5)
    assert receiver.ids == ["inc_1_1_oms"] * 2
    assert second.settled == [("inc_1_1_oms", "delivered", 2)]


async def test_the_delivery_of_a_removed_target_stays_pending(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A delivery for a target that is not configured stays pending, and is logged."""
    bench = make()
    with caplog.at_level(logging.ERROR, "riskmon.outbox"):
        bench.outbox.send(delivery(to="old"))
    assert "inc_1_1_old is pending for target old, which is not configured" in caplog.text
    assert (bench.settled, bench.outbox.stats()) == ([], {})


async def test_drain_returns_whether_all_is_delivered(serve: Serve, make: Make) -> None:
    """Draining ends at the timeout and returns whether anything is pending."""
    receiver = await serve(hang)
    bench = make(target(receiver.url))
    assert await bench.outbox.drain(0.01)
    bench.outbox.send(delivery())
    assert not await bench.outbox.drain(0.01)


# -- drills -------------------------------------------------------------------------------------


async def test_a_drill_asks_every_target_once(serve: Serve, make: Make) -> None:
    """A drill is signed, has a new id each time, and is not retried; a failure is returned."""
    good, bad = await serve(always(200, b"")), await serve(always(503))
    bench = make(
        target(good.url, "good", markets="perp"),
        target(bad.url, "bad"),
        target(f"http://127.0.0.1:{free_port()}/", "off"),
    )
    drills = {drill.target: drill for drill in await bench.outbox.drill("main")}
    await bench.outbox.drill("main")
    assert {name: drill.ok for name, drill in drills.items()} == {
        "good": True,
        "bad": False,
        "off": False,
    }
    assert (drills["good"].seconds or 0) > 0
    assert (drills["bad"].seconds, drills["bad"].detail) == (None, "HTTP 503")
    assert drills["off"].detail.startswith("ClientConnectorError: Cannot connect")
    assert Counter(good.ids + bad.ids).most_common(1)[0][1] == 1
    assert len(good.requests) == len(bad.requests) == 2
    headers, body = good.requests[0]
    told = Webhook(SECRET).verify(body, headers)
    assert list(told) == list(msgspec.json.decode(delivery().body))
    assert (told["type"], told["account"], told["markets"]) == ("drill", "main", "perp")
    assert (bench.reports, bench.settled, bench.results) == ([], [], [])


async def test_a_drill_ends_in_time(serve: Serve, make: Make) -> None:
    """A target that does not answer ends a drill at its timeout."""
    receiver = await serve(hang)
    bench = make(target(receiver.url))
    [drill] = await bench.outbox.drill("main", timeout_seconds=0.05)
    assert (drill.ok, drill.seconds) == (False, None)
