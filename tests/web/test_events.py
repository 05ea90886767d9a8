"""``POST /v1/events`` and ``/v1/check``: accepted bodies, and the exact answer to each fault."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from riskmon.core.admission import TooManyScopes
from riskmon.core.events import Balances, Check, Fill, Heartbeat, Latency
from riskmon.port import NotDurable, NotReady, QueueFull
from riskmon.web import Caps
from riskmon.web.access import Caller
from riskmon.web.context import Context
from riskmon.web.ingest import events
from tests.support.memory_port import MemoryPort, site

JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
LATENCY = b'{"type":"latency","venue":"kraken","seconds":0.183}'
TITLE = "The request is malformed"


def malformed(detail: str, **place: Any) -> dict[str, Any]:
    """Return the problem document of a refused body."""
    return {
        "type": "urn:riskmon:problem:malformed",
        "title": TITLE,
        "status": 400,
        "detail": detail,
        **place,
    }


async def test_object_is_a_batch_of_one() -> None:
    """A single object is accepted; the answer has exactly the promised members."""
    async with site() as s:
        got = await s.ask("POST", "/v1/events", headers=JSON, body=LATENCY)
    assert (got.status, got.headers["Content-Type"]) == (200, "application/json")
    assert got.body == (
        b'{"accepted":1,"duplicates":0,"generation":7,"lease":0.5,'
        b'"levels":{"account":"allow","venue:kraken":"halt"}}'
    )
    assert s.port.batches == [[Latency(venue="kraken", seconds=0.183)]]


async def test_array_keeps_its_order() -> None:
    """The events of an array reach the engine as one batch in their order."""
    body = (
        b'[{"type":"balances","venue":"kraken","assets":{"USDT":{"free":"900.5"}}},'
        b'{"type":"fill","id":"T1","venue":"kraken","symbol":"BTC/USDT","side":"buy",'
        b'"quantity":0.1,"price":65000.0,"fee":2.6,"strategy":"mm1"}]'
    )
    async with site() as s:
        got = await s.ask("POST", "/v1/events", headers=JSON, body=body)
    assert got.json["accepted"] == 2
    (batch,) = s.port.batches
    assert [type(event) for event in batch] == [Balances, Fill]
    assert isinstance(batch[0], Balances)
    assert batch[0].assets["USDT"].free == 900.5


async def test_ndjson_passes_over_empty_lines() -> None:
    """One object per line is a batch, with or without a final newline; empty lines are skipped."""
    body = LATENCY + b'\n\n{"type":"heartbeat","venue":"mexc"}\r\n'
    async with site() as s:
        got = await s.ask("POST", "/v1/events", headers=NDJSON, body=body)
    assert got.json["accepted"] == 2
    assert s.port.batches == [
        [Latency(venue="kraken", seconds=0.183), Heartbeat(venue="mexc")],
    ]


FAULTS = [
    pytest.param(JSON, b"", {"offset": 0}, "not JSON", id="empty"),
    pytest.param(JSON, b'{"type":"latency",}', {"offset": 18}, "not JSON", id="comma"),
    pytest.param(JSON, b'[{"type":"heart', {"offset": 15}, "not JSON", id="truncated"),
    pytest.param(JSON, LATENCY + b"x", {"offset": len(LATENCY) + 1}, "not JSON", id="trailing"),
    pytest.param(
        JSON, b'{"type":"latency","venue":"\xff","seconds":1}', {"offset": 27}, "UTF-8", id="utf-8"
    ),
    pytest.param(JSON, b"3", {"index": 0}, "object", id="not-an-object"),
    pytest.param(JSON, b'{"venue":"kraken"}', {"index": 0, "field": "type"}, "type", id="no-type"),
    pytest.param(
        JSON, b'[{"type":"quake"}]', {"index": 0, "field": "type"}, "quake", id="unknown-type"
    ),
    pytest.param(
        JSON,
        b"[" + LATENCY + b',{"type":"latency","venue":"kraken"}]',
        {"index": 1, "field": "seconds"},
        "seconds",
        id="missing-field",
    ),
    pytest.param(
        JSON,
        b'[{"type":"latency","venue":"kraken","seconds":1,"extra":1}]',
        {"index": 0, "field": "extra"},
        "extra",
        id="unknown-field",
    ),
    pytest.param(
        JSON,
        b'{"type":"latency","venue":7,"seconds":1}',
        {"index": 0, "field": "venue"},
        "str",
        id="wrong-type",
    ),
    pytest.param(
        JSON,
        b'{"type":"latency","venue":"a b","seconds":1}',
        {"index": 0, "field": "venue"},
        "1 to 47 bytes",
        id="bad-name",
    ),
    pytest.param(
        JSON,
        b'{"type":"latency","venue":"kraken","seconds":-1}',
        {"index": 0, "field": "seconds"},
        "0 or above",
        id="negative",
    ),
    pytest.param(
        JSON,
        b'{"type":"latency","venue":"kraken","seconds":"NaN"}',
        {"index": 0, "field": "seconds"},
        "number",
        id="nan",
    ),
    pytest.param(
        JSON,
        b'{"type":"price","symbol":"BTC/USDT","price":1e16}',
        {"index": 0, "field": "price"},
        "1e15",
        id="magnitude",
    ),
    pytest.param(
        JSON,
        b'{"type":"balances","venue":"kraken","assets":[]}',
        {"index": 0, "field": "assets"},
        "object",
        id="members",
    ),
    pytest.param(
        JSON,
        b'{"type":"latency","venue":"kraken","seconds":1,"at":"2026-01-02T04:00:00Z"}',
        {"index": 0, "field": "at"},
        "5 s ahead",
        id="ahead",
    ),
    pytest.param(
        JSON,
        b'{"type":"latency","venue":"kraken","seconds":1,"at":"2025-12-01T00:00:00Z"}',
        {"index": 0, "field": "at"},
        "7 days",
        id="old",
    ),
    pytest.param(NDJSON, LATENCY + b"\n{oops\n", {"line": 2}, "line 2", id="ndjson-syntax"),
    pytest.param(
        NDJSON,
        LATENCY + b'\n\n{"type":"latency","venue":"kraken"}\n',
        {"index": 1, "field": "seconds"},
        "seconds",
        id="ndjson-field",
    ),
    pytest.param(NDJSON, b"[" + LATENCY + b"]\n", {"index": 0}, "object", id="ndjson-array"),
]


@pytest.mark.parametrize(("headers", "body", "place", "told"), FAULTS)
async def test_an_invalid_batch_is_refused_with_the_place_of_the_fault(
    headers: dict[str, str], body: bytes, place: dict[str, Any], told: str
) -> None:
    """An invalid batch is a 400 with the place of its first fault; no event of it is accepted."""
    async with site() as s:
        got = await s.ask("POST", "/v1/events", headers=headers, body=body)
    assert (got.status, got.headers["Content-Type"]) == (400, "application/problem+json")
    problem = got.json
    assert told in problem["detail"]
    assert problem == malformed(problem["detail"], **place)
    assert s.port.untouched
    assert s.port.rejections == ["malformed"]


async def test_a_bad_member_is_a_warning() -> None:
    """The answer names what was dropped, and it is counted; the other members are accepted."""
    body = (
        b'[{"type":"heartbeat"},{"type":"balances","venue":"kraken",'
        b'"assets":{"BTC":{"free":"x"},"USDT":{"free":1},"a b":{"free":1}}}]'
    )
    async with site() as s:
        got = await s.ask("POST", "/v1/events", headers=JSON, body=body)
    assert got.status == 200
    assert [(one["index"], one["field"]) for one in got.json["warnings"]] == [
        (1, "assets.BTC.free"),
        (1, "assets.a b"),
    ]
    assert "decimal string" in got.json["warnings"][0]["what"]
    ((_, balances),) = s.port.batches
    assert isinstance(balances, Balances)
    assert list(balances.assets) == ["USDT"]
    assert s.port.rejections == ["member", "member"]


async def test_an_answer_without_warnings_has_no_key_for_them() -> None:
    """Most answers are as short as before."""
    async with site() as s:
        got = await s.ask("POST", "/v1/events", headers=JSON, body=LATENCY)
    assert set(got.json) == {"accepted", "duplicates", "generation", "lease", "levels"}


async def test_deep_nesting_is_refused() -> None:
    """A body of a hundred thousand brackets is refused like any other invalid one."""
    async with site() as s:
        deep = b'{"type":"heartbeat","venue":' + b"[" * 100_000
        got = await s.ask("POST", "/v1/events", headers=JSON, body=deep)
        again = await s.ask("POST", "/v1/events", headers=JSON, body=LATENCY)
    assert (got.status, again.status) == (400, 200)


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""],
)
async def test_other_media_types_are_415(content_type: str) -> None:
    """A body that is neither JSON nor NDJSON in UTF-8 is refused by its media type, unread."""
    async with site() as s:
        got = await s.ask(
            "POST", "/v1/events", headers={"Content-Type": content_type}, body=LATENCY
        )
    assert got.status == 415
    assert got.json["type"] == "urn:riskmon:problem:media_type"
    assert "application/json or application/x-ndjson" in got.json["detail"]
    assert s.port.untouched
    assert s.port.rejections == ["media_type"]


async def test_charset_utf_8_is_taken() -> None:
    """The charset UTF-8 may be named."""
    async with site() as s:
        headers = {"Content-Type": 'Application/JSON; charset="UTF-8"'}
        got = await s.ask("POST", "/v1/events", headers=headers, body=LATENCY)
    assert got.status == 200


async def test_compressed_body_is_415() -> None:
    """A compressed body is refused before it is decompressed."""
    bomb = gzip.compress(b" " * 50_000_000)
    async with site() as s:
        headers = {**JSON, "Content-Encoding": "gzip"}
        got = await s.ask("POST", "/v1/events", headers=headers, body=bomb)
    assert (got.status, s.port.untouched) == (415, True)
    assert "gzip" in got.json["detail"]


async def test_body_of_exactly_the_cap_is_accepted() -> None:
    """A body of 1 MiB is accepted; the cap counts the bytes of the body."""
    body = LATENCY + b" " * (1_048_576 - len(LATENCY))
    async with site() as s:
        got = await s.ask("POST", "/v1/events", headers=JSON, body=body)
    assert (got.status, len(s.port.batches)) == (200, 1)


async def test_announced_length_over_the_bound_is_413() -> None:
    """A Content-Length over 1 MiB is refused before the body is read; the connection closes."""
    head = (
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1048577\r\n\r\n{"
    )
    async with site(caps=Caps(linger_seconds=0.05)) as s:
        got = await s.raw(head)
    assert got.startswith(b"HTTP/1.1 413 ")
    assert b'"status":413' in got
    assert s.port.untouched
    assert s.port.rejections == ["too_large"]


async def test_chunked_body_over_the_bound_is_413() -> None:
    """A body without a Content-Length is counted as it arrives."""

    async def endless() -> Any:
        for _ in range(40):
            yield b" " * 65_536

    async with (
        site(caps=Caps(linger_seconds=0.05)) as s,
        s.session.post(s.url("/v1/events"), headers=JSON, data=endless()) as response,
    ):
        assert response.status == 413
        assert (await response.json(content_type=None))["title"] == "The body is too large"
    assert s.port.untouched


async def test_chunked_body_is_accepted() -> None:
    """A body in chunks is accepted like any other."""

    async def chunks() -> Any:
        yield LATENCY[:10]
        await asyncio.sleep(0)
        yield LATENCY[10:]

    async with (
        site() as s,
        s.session.post(s.url("/v1/events"), headers=JSON, data=chunks()) as response,
    ):
        assert response.status == 200
    assert len(s.port.batches) == 1


async def test_broken_chunks_are_400() -> None:
    """With an invalid chunk size, the chunks before it are not accepted as a batch."""
    head = (
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    async with site(caps=Caps(linger_seconds=0.05, body_seconds=0.1)) as s:
        at_once = await s.raw(head + b"zz\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", s.tcp)
        writer.write(head)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"2\r\n{}\r\nzz\r\n")
        later = await reader.read()
        writer.close()
    assert at_once.split(b" ")[1] == b"400"
    # After the head, the parser reports its error when the body times out.
    assert later.split(b" ")[1] in (b"400", b"408")
    assert s.port.untouched


async def test_slow_body_is_408() -> None:
    """A body that does not arrive in time is refused, and the connection closes."""
    head = (
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n" + LATENCY[:20]
    )
    async with site(caps=Caps(body_seconds=0.05, linger_seconds=0.05)) as s:
        got = await s.raw(head)
    assert got.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in got
    assert b"within 0.05 s" in got
    assert s.port.untouched
    assert s.port.rejections == ["timeout"]


async def test_expect_100_continue() -> None:
    """`Expect: 100-continue` is answered before the body arrives; the batch is accepted."""
    head = (
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(LATENCY)
    )
    async with site() as s:
        reader, writer = await asyncio.open_connection("127.0.0.1", s.tcp)
        writer.write(head)
        first = await reader.readuntil(b"\r\n\r\n")
        writer.write(LATENCY)
        rest = await reader.read()
        writer.close()
    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert rest.startswith(b"HTTP/1.1 200 ")
    assert len(s.port.batches) == 1


@pytest.mark.parametrize(
    ("failure", "answer"),
    [
        (QueueFull("10000 events wait"), (429, "queue_full", "1")),
        (TooManyScopes("1024 scopes are registered"), (429, "too_many_scopes", "60")),
        (NotDurable("the disk is full"), (503, "not_durable", "1")),
        (NotReady("the journal is being replayed"), (503, "not_ready", "1")),
    ],
)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/events", LATENCY),
        (
            "/v1/check",
            b'{"venue":"kraken","symbol":"BTC/USDT","side":"buy","quantity":1,"price":1}',
        ),
    ],
)
async def test_a_temporary_refusal_has_retry_after(
    path: str, body: bytes, failure: Exception, answer: tuple[int, str, str]
) -> None:
    """A full queue, too many scopes and an unwritable disk are answered with Retry-After."""
    async with site() as s:
        s.port.failure = failure
        got = await s.ask("POST", path, headers=JSON, body=body)
    status, kind, retry_after = answer
    assert (got.status, got.headers["Retry-After"]) == (status, retry_after)
    assert got.json["type"] == f"urn:riskmon:problem:{kind}"
    assert got.json["detail"] == str(failure)
    assert s.port.rejections == ([kind] if path == "/v1/events" else [])


async def test_failure_shows_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception is a 500 without details of the code; the log has the traceback."""
    async with site() as s:
        s.port.failure = RuntimeError("secret cause")
        got = await s.ask("POST", "/v1/events", headers=JSON, body=LATENCY)
    assert got.status == 500
    assert got.json["type"] == "urn:riskmon:problem:internal"
    assert b"secret cause" not in got.body
    assert "secret cause" in caplog.text


async def test_large_batch_is_parsed_whole() -> None:
    """A batch of 10,000 events is accepted whole; a fault in its last event is found."""
    good = b"[" + b",".join([LATENCY] * 10_000) + b"]"
    bad = good[:-1] + b',{"type":"latency","venue":"kraken","seconds":-1}]'
    async with site() as s:
        taken = await s.ask("POST", "/v1/events", headers=JSON, body=good)
        refused = await s.ask("POST", "/v1/events", headers=JSON, body=bad)
    assert taken.json["accepted"] == 10_000
    assert (refused.status, refused.json["index"]) == (400, 10_000)
    assert len(s.port.batches) == 1


async def test_check_answers_with_its_reasons() -> None:
    """Decimal strings in an order arrive as numbers; the answer contains each reason."""
    body = (
        b'{"venue":"kraken","symbol":"BTC/USDT","side":"sell","quantity":"0.10","price":"65000",'
        b'"id":"o-1","strategy":"mm1","reduce_only":true,"simulate":true}'
    )
    async with site() as s:
        got = await s.ask("POST", "/v1/check", headers=JSON, body=body)
    assert got.status == 200
    assert got.json == {
        "allowed": False,
        "level": "reduce_only",
        "reasons": [
            {
                "limit": "position",
                "scope": "symbol:BTC/USDT",
                "value": 3,
                "bound": 2,
                "utilization": 1.5,
            }
        ],
    }
    assert s.port.checks == [
        Check(
            venue="kraken",
            symbol="BTC/USDT",
            side="sell",
            quantity=0.1,
            price=65_000.0,
            id="o-1",
            strategy="mm1",
            reduce_only=True,
            simulate=True,
        )
    ]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ('"venue":"a b"', "venue"),
        ('"symbol":""', "symbol"),
        ('"side":"long"', "side"),
        ('"quantity":0', "quantity"),
        ('"quantity":-1', "quantity"),
        ('"quantity":"inf"', "quantity"),
        ('"price":0', "price"),
        ('"price":null', "price"),
        ('"strategy":"§"', "strategy"),
        ('"id":""', "id"),
        ('"simulate":1', "simulate"),
        ('"leverage":3', "leverage"),
    ],
)
async def test_invalid_check_names_its_field(change: str, field: str) -> None:
    """An invalid order is refused with the field at fault; a duplicate key is one."""
    order = '{"venue":"kraken","symbol":"BTC/USDT","side":"buy","quantity":1,"price":1,'
    async with site() as s:
        got = await s.ask("POST", "/v1/check", headers=JSON, body=(order + change + "}").encode())
    assert (got.status, got.json["field"]) == (400, field)
    assert s.port.untouched


async def test_large_bodies_are_parsed_one_after_the_other() -> None:
    """With several at once, a turn of the event loop parses one piece of one of them."""
    loop = asyncio.get_running_loop()
    body = b"[" + b",".join([LATENCY] * 15_000) + b"]"
    context = Context(port=MemoryPort(), caps=Caps(), clock_ns=lambda: 1_767_323_045_678_000_000)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def post(count_of: int) -> int:
        nonlocal turns
        requests = []
        for _ in range(count_of):
            content = StreamReader(BaseProtocol(loop), 2**21)
            content.feed_data(body)
            content.feed_eof()
            requests.append(
                make_mocked_request("POST", "/v1/events", headers=JSON, payload=content)
            )
        turns = 0
        await asyncio.gather(*(events(context, request, Caller("", 0, "")) for request in requests))
        return turns

    counting = asyncio.create_task(count())
    alone = await post(1)
    assert alone > 20
    assert await post(4) > 3.5 * alone
    counting.cancel()
