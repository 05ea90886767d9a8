"""The endpoints for bots: events and checks of orders."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from riskmon.core.calls import TypedCheckBody, checked_order
from riskmon.core.fields import BadEvents
from riskmon.core.parsing import Parsing
from riskmon.web.access import Caller
from riskmon.web.body import JSON, NDJSON, media_type, read_body, read_json
from riskmon.web.context import Context
from riskmon.web.problems import answer, bad_events

_LARGE_BYTES = 65_536


async def events(context: Context, request: web.BaseRequest, _caller: Caller) -> web.Response:
    """Answer ``POST /v1/events``: accept a batch as a whole, or refuse it as a whole."""
    is_json = media_type(request, JSON, NDJSON) == JSON
    body = await read_body(request, context.caps, context.caps.body_bytes)
    now_ns = context.clock_ns()
    try:
        parsing = Parsing(body, now_ns, lines=not is_json)
        if len(body) <= _LARGE_BYTES:
            batch = parsing.finish()
        else:
            async with context.parsing_large:
                for _ in parsing:
                    # The other callbacks of the event loop run here. A thread would hold the
                    # interpreter's lock for longer than a piece takes.
                    await asyncio.sleep(0)
                batch = parsing.events
    except BadEvents as fault:
        raise bad_events(fault) from None
    accepted = await context.port.ingest(batch)
    if members := parsing.members.dropped:
        context.port.rejected("member", members)
        accepted = msgspec.structs.replace(accepted, warnings=tuple(parsing.members.warnings))
    return answer(accepted)


_CHECK = msgspec.json.Decoder(TypedCheckBody)


async def check(context: Context, request: web.BaseRequest, _caller: Caller) -> web.Response:
    """Answer ``POST /v1/check``: whether an order may be sent."""
    body = await read_json(request, context.caps, _CHECK)
    try:
        order = checked_order(body, body.order_type)
    except BadEvents as fault:
        raise bad_events(fault) from None
    return answer(await context.port.check(order))
