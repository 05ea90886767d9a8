"""``GET /v1/stream``: the state, then each change of it, as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, nullcontext
from typing import Any, Literal

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from riskmon.core.breakers.transitions import SHUT
from riskmon.core.decisions import Transition
from riskmon.core.view import View
from riskmon.port import Change
from riskmon.web.access import Caller
from riskmon.web.edge import Edge, connection_of
from riskmon.web.problems import SAFE, Problem
from riskmon.web.show import document, shown

_HEADERS: CIMultiDict[str] = CIMultiDict(
    {**SAFE, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
)

ChangeKind = Literal["trigger", "reset", "recovery", "probe", "disable", "enable"]


async def stream(edge: Edge, request: web.BaseRequest, _caller: Caller) -> web.StreamResponse:
    """Send changes until the reader goes, falls behind, or the server stops."""
    if request.method == "HEAD":
        return web.Response(headers=_HEADERS)
    key = connection_of(request).peer.key
    _refuse_crowd(len(edge.streams), edge.caps.streams, "")
    of_peer = sum(other == key for other in edge.streams.values())
    _refuse_crowd(of_peer, edge.caps.peer_streams, f" from {key}")
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    edge.streams[ended] = key
    try:
        changes = edge.port.subscribe()
        closing: Any = aclosing(changes) if hasattr(changes, "aclose") else nullcontext()
        async with closing:
            return await _send(edge, request, changes, ended)
    finally:
        del edge.streams[ended]


def _refuse_crowd(count: int, most: int, whose: str) -> None:
    if count >= most:
        raise Problem(
            "too_many_connections",
            f"{count} streams{whose} are open already",
            headers={"Retry-After": "5"},
        )


async def _send(
    edge: Edge,
    request: web.BaseRequest,
    changes: AsyncIterator[Change],
    ended: asyncio.Future[None],
) -> web.StreamResponse:
    response = web.StreamResponse(headers=_HEADERS)
    connection_of(request).ended = ended
    await response.prepare(request)
    await _write(edge, request, response, b"retry: 2000\n\n")
    # A task, because a timeout that cancelled the iterator's step would end the iterator.
    step = asyncio.ensure_future(_next(changes))
    try:
        while True:
            waited: set[asyncio.Future[Any]] = {step, ended}
            await asyncio.wait(
                waited,
                timeout=edge.caps.stream_pause_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if ended.done():
                break
            if not step.done():
                await _write(edge, request, response, b": still here\n\n")
                continue
            change = step.result()
            if change is None:
                break
            await _write(edge, request, response, encoded(change))
            step = asyncio.ensure_future(_next(changes))
    finally:
        step.cancel()
        await asyncio.wait({step})
    response.force_close()
    return response


async def _next(changes: AsyncIterator[Change]) -> Change | None:
    return await anext(changes, None)


async def _write(
    edge: Edge, request: web.BaseRequest, response: web.StreamResponse, data: bytes
) -> None:
    """Write, or cut off a reader who does not read: it must not keep changes in memory."""
    try:
        async with asyncio.timeout(edge.caps.write_seconds):
            await response.write(data)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the stream's reader fell behind") from None


def encoded(change: Change) -> bytes:
    """One event; its id is the generation where there is one."""
    if isinstance(change, View):
        name, fields = "state", document(change)
    else:
        name, fields = str(change.__struct_config__.tag), shown(change)
    if isinstance(change, Transition):
        fields["change"] = _kind(change)
    generation = fields.get("generation")
    place = b"" if generation is None else b"id: %d\n" % generation
    data = msgspec.json.encode({"type": name, **fields})
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), place, data)


def _kind(change: Transition) -> ChangeKind:
    """What a transition is, for a reader who has no table of the breakers' states."""
    if change.after in SHUT:
        return "trigger"
    if change.after == "half_open":
        return "probe"
    if change.after == "disabled":
        return "disable"
    if change.before == "disabled":
        return "enable"
    return "recovery" if change.by is None else "reset"
