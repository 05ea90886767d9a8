"""``GET /v1/stream``: server-sent events."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from riskmon.core.decisions import Notice, StateName, Transition, Warned
from riskmon.port import Change, PortfolioNow, Shutdown
from riskmon.web import Caps
from tests.support.memory_port import GRAFANA, GUARDED, NOW_NS, OPEN, OPERATOR, VIEW, Site, site
from tests.support.waiting import eventually_async

TRIP = Transition(
    limit="latency_p99",
    scope="venue:kraken",
    before="closed",
    after="open",
    generation=8,
    reason="slow",
    at_ns=NOW_NS,
    category="venue",
    recovers="by itself",
)
WARNING = Warned(
    limit="portfolio_loss",
    scope="account",
    active=True,
    utilization=0.7,
    at_ns=NOW_NS,
    value=0.035,
    bound=0.05,
)
FIGURES: dict[str, Any] = {
    "reference": "USDT",
    "equity": 9650.0,
    "settled": True,
    "initial_capital": 10_000.0,
    "unit_value": 0.965,
    "pnl_realized": -50.0,
    "pnl_unrealized": None,
    "pnl_day": -350.0,
    "pnl_ratio": -0.035,
    "drawdown_ratio": 0.035,
    "exposure": 5_000.0,
    "exposure_worst": 7_000.0,
    "leverage": None,
    "unpriced": ["DUST"],
}


async def following(s: Site) -> aiohttp.ClientResponse:
    """Open a stream and wait until it is subscribed."""
    response = await s.session.get(s.url("/v1/stream"))
    assert await message(response) == ["retry: 2000"]
    await eventually_async(lambda: s.port.subscribers)
    return response


async def sent(change: Change) -> tuple[list[str], dict[str, Any]]:
    """Send a change; return the event's lines before its data, and the data."""
    async with site() as s:
        response = await following(s)
        (queue,) = s.port.subscribers
        queue.put_nowait(change)
        *lines, data = await message(response)
        response.close()
    decoded: dict[str, Any] = json.loads(data.removeprefix("data: "))
    return lines, decoded


async def message(response: aiohttp.ClientResponse) -> list[str]:
    """Return the lines of the next message."""
    async with asyncio.timeout(5):
        return (await response.content.readuntil(b"\n\n")).decode().splitlines()[:-1]


async def test_changes_are_sent_as_they_happen() -> None:
    """Each change is an event with its name, its generation and its data."""
    async with site() as s:
        response = await following(s)
        (queue,) = s.port.subscribers
        queue.put_nowait(TRIP)
        queue.put_nowait(WARNING)
        trip, warning = await message(response), await message(response)
        response.close()
    assert response.content_type == "text/event-stream"
    assert trip[:2] == ["event: transition", "id: 8"]
    assert json.loads(trip[2].removeprefix("data: ")) == {
        "type": "transition",
        "limit": "latency_p99",
        "scope": "venue:kraken",
        "before": "closed",
        "after": "open",
        "generation": 8,
        "reason": "slow",
        "at": "2026-01-02T03:04:05.678Z",
        "incident": None,
        "value": None,
        "bound": None,
        "by": None,
        "category": "venue",
        "recovers": "by itself",
        "change": "trigger",
    }
    assert warning[0] == "event: warning"
    assert json.loads(warning[1].removeprefix("data: ")) == {
        "type": "warning",
        "limit": "portfolio_loss",
        "scope": "account",
        "active": True,
        "utilization": 0.7,
        "at": "2026-01-02T03:04:05.678Z",
        "value": 0.035,
        "bound": 0.05,
    }


@pytest.mark.parametrize(
    ("before", "after", "by", "change"),
    [
        ("closed", "open", None, "trigger"),
        ("closed", "frozen", "boss", "trigger"),
        ("half_open", "open", None, "trigger"),
        ("open", "closed", "boss", "reset"),
        ("frozen", "closed", "boss", "reset"),
        ("half_open", "closed", "boss", "reset"),
        ("open", "closed", None, "recovery"),
        ("half_open", "closed", None, "recovery"),
        ("open", "half_open", None, "probe"),
        ("closed", "disabled", "boss", "disable"),
        ("disabled", "closed", "boss", "enable"),
        ("disabled", "closed", None, "enable"),
    ],
)
async def test_transition_has_its_kind(
    before: StateName, after: StateName, by: str | None, change: str
) -> None:
    """Each transition has its kind: trigger, probe, recovery, reset, disable or enable."""
    _, data = await sent(msgspec.structs.replace(TRIP, before=before, after=after, by=by))
    assert data["change"] == change


async def test_state_is_an_event() -> None:
    """The event has the document of /v1/state; its id is the generation."""
    lines, data = await sent(VIEW)
    async with site() as s:
        state = (await s.ask("GET", "/v1/state")).json
    assert lines == ["event: state", "id: 7"]
    assert data == {"type": "state", **state}


async def test_portfolio_is_an_event() -> None:
    """The event has the figures of the state's portfolio; an unknown figure is null."""
    lines, data = await sent(PortfolioNow(at_ns=NOW_NS, **FIGURES))
    assert lines == ["event: portfolio"]
    assert data == {"type": "portfolio", "at": "2026-01-02T03:04:05.678Z", **FIGURES}


async def test_notice_is_an_event() -> None:
    """What is left out is sent with its quantity when it happens."""
    lines, data = await sent(Notice(about="unpriced", text="250 XYZ are left out", at_ns=NOW_NS))
    assert lines == ["event: notice"]
    assert data == {
        "type": "notice",
        "about": "unpriced",
        "text": "250 XYZ are left out",
        "at": "2026-01-02T03:04:05.678Z",
    }


async def test_shutdown_is_an_event() -> None:
    """The event has the reason of the shutdown and whether it is clean."""
    lines, data = await sent(Shutdown(at_ns=NOW_NS, clean=True, reason="stopped in order"))
    assert lines == ["event: shutdown"]
    assert data == {
        "type": "shutdown",
        "at": "2026-01-02T03:04:05.678Z",
        "clean": True,
        "reason": "stopped in order",
    }


async def test_quiet_stream_stays_open() -> None:
    """Without changes a comment is sent; the next change still arrives."""
    async with site(caps=Caps(stream_pause_seconds=0.02)) as s:
        response = await following(s)
        assert await message(response) == [": keep-alive"]
        assert await message(response) == [": keep-alive"]
        (queue,) = s.port.subscribers
        queue.put_nowait(TRIP)
        lines = [": keep-alive"]
        while lines == [": keep-alive"]:
            lines = await message(response)
        response.close()
    assert lines[0] == "event: transition"


async def test_disconnected_reader_is_unsubscribed() -> None:
    """The subscription ends with the connection, before the next write."""
    async with site() as s:
        response = await following(s)
        response.close()
        await eventually_async(lambda: not s.port.subscribers)
        await eventually_async(lambda: not s.app.context.streams)


async def test_end_of_changes_ends_the_stream() -> None:
    """The end of the subscription closes the stream."""
    async with site() as s:
        response = await following(s)
        (queue,) = s.port.subscribers
        queue.put_nowait(None)
        async with asyncio.timeout(5):
            assert await response.read() == b""
        response.close()
    assert s.port.subscribers == set()


async def test_stop_ends_streams_at_once() -> None:
    """Closing the server does not wait for streams."""
    async with asyncio.timeout(5), site(caps=Caps(close_seconds=60)) as s:
        response = await following(s)
    response.close()
    assert s.port.subscribers == set()


async def test_new_rules_end_streams() -> None:
    """New rules end open streams."""
    async with site() as s:
        response = await following(s)
        s.app.grant(GUARDED)
        async with asyncio.timeout(5):
            assert await response.read() == b""
        response.close()
        again = await s.ask("GET", "/v1/stream")
    assert again.status == 401


async def test_streams_are_capped() -> None:
    """At the cap a stream is refused with Retry-After; after one ends it is accepted."""
    async with site(caps=Caps(streams=1)) as s:
        first = await following(s)
        refused = await s.ask("GET", "/v1/stream")
        first.close()
        await eventually_async(lambda: not s.app.context.streams)
        (await following(s)).close()
    assert (refused.status, refused.headers["Retry-After"]) == (503, "5")


async def test_streams_of_one_peer_are_capped(tmp_path: Path) -> None:
    """A peer at its cap is refused; another peer is not."""
    path = tmp_path / "main.sock"
    async with site(OPEN, caps=Caps(peer_streams=1), unix=path) as s:
        first = await following(s)
        refused = await s.ask("GET", "/v1/stream")
        assert s.unix_session is not None
        other = await s.unix_session.get(
            s.url("/v1/stream"), headers={"Authorization": f"Bearer {OPERATOR}"}
        )
        assert await message(other) == ["retry: 2000"]
        first.close()
        other.close()
    assert (refused.status, other.status) == (503, 200)


async def test_stream_takes_a_token_in_a_header() -> None:
    """A stream accepts a bearer token, which the status page sends."""
    async with site(GUARDED) as s:
        headers = {"Authorization": f"Bearer {GRAFANA}"}
        async with s.session.get(s.url("/v1/stream"), headers=headers) as response:
            assert response.status == 200


async def test_reader_that_does_not_read_is_cut_off() -> None:
    """The connection of a reader that does not read is aborted."""
    async with site(caps=Caps(write_seconds=0.1)) as s:
        _, writer = await asyncio.open_connection("127.0.0.1", s.tcp, limit=1024)
        assert isinstance(writer.transport, asyncio.Transport)
        writer.transport.pause_reading()
        writer.write(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await eventually_async(lambda: s.port.subscribers)
        (queue,) = s.port.subscribers
        big = Transition(
            limit="x",
            scope="account",
            before="closed",
            after="open",
            generation=1,
            reason="y" * 1_000_000,
            at_ns=NOW_NS,
        )
        for _ in range(20):
            queue.put_nowait(big)
        await eventually_async(lambda: not s.port.subscribers)
        writer.close()
