"""The endpoint ``GET /v1/stream``: the state, then each change, as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from riskmon import document
from riskmon.core.view import View
from riskmon.port import Change
from riskmon.web.access import Caller
from riskmon.web.context import Context, connection_of
from riskmon.web.problems import SAFE, Problem

_HEADERS: CIMultiDict[str] = CIMultiDict(
    {**SAFE, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
)


async def stream(context: Context, request: web.BaseRequest, _caller: Caller) -> web.StreamResponse:
    """Send changes until the reader disconnects or falls behind, or the server stops."""
    if request.method == "HEAD":
        return web.Response(headers=_HEADERS)
    key = connection_of(request).peer.key
    _require_below(len(context.streams), context.caps.streams, "")
    of_peer = sum(other == key for other in context.streams.values())
    _require_below(of_peer, context.caps.peer_streams, f" from {key}")
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    context.streams[ended] = key
    try:
        async with aclosing(context.port.subscribe()) as changes:
            return await _send(context, request, changes, ended)
    finally:
        del context.streams[ended]


def _require_below(count: int, most: int, whose: str) -> None:
    if count >= most:
        raise Problem(
            "too_many_connections",
            f"{count} streams{whose} are already open",
            headers={"Retry-After": "5"},
        )


async def _send(
    context: Context,
    request: web.BaseRequest,
    changes: AsyncIterator[Change],
    ended: asyncio.Future[None],
) -> web.StreamResponse:
    response = web.StreamResponse(headers=_HEADERS)
    connection_of(request).ended = ended
    await response.prepare(request)
    await _write(context, request, response, b"retry: 2000\n\n")
    # A task, because a timeout that cancels a step of the iterator would end the iterator.
    step = asyncio.ensure_future(_next(changes))
    try:
        while True:
            waited: set[asyncio.Future[Change | None] | asyncio.Future[None]] = {step, ended}
            await asyncio.wait(
                waited,
                timeout=context.caps.stream_pause_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if ended.done():
                break
            if not step.done():
                await _write(context, request, response, b": keep-alive\n\n")
                continue
            change = step.result()
            if change is None:
                break
            await _write(context, request, response, encoded(change))
            step = asyncio.ensure_future(_next(changes))
    finally:
        step.cancel()
        await asyncio.wait({step})
    response.force_close()
    return response


async def _next(changes: AsyncIterator[Change]) -> Change | None:
    return await anext(changes, None)


async def _write(
    context: Context, request: web.BaseRequest, response: web.StreamResponse, data: bytes
) -> None:
    """Write, or abort the connection of a reader that does not read: its changes use memory."""
    try:
        async with asyncio.timeout(context.caps.write_seconds):
            await response.write(data)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the stream's reader fell behind") from None


def encoded(change: Change) -> bytes:
    """Return a change as a server-sent event; its id is the generation if it has one."""
    if isinstance(change, View):
        fields = {"type": "state", **document.state(change)}
    else:
        fields = document.decision(change)
    generation = fields.get("generation")
    event_id = b"" if generation is None else b"id: %d\n" % generation
    data = msgspec.json.encode(fields)
    return b"event: %b\n%bdata: %b\n\n" % (fields["type"].encode(), event_id, data)
