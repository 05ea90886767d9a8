"""The endpoints for bots: events and checks of orders."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from riskmon.core.events import (
    BadEvents,
    Check,
    Number,
    Parsing,
    Reported,
    Side,
    check_name,
    number,
    parse_json,
    parse_ndjson,
    parsing_json,
    parsing_ndjson,
)
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
        if len(body) <= _LARGE_BYTES:
            batch = parse_json(body, now_ns) if is_json else parse_ndjson(body, now_ns)
        else:
            parsing = parsing_json if is_json else parsing_ndjson
            async with context.parsing_large:
                batch = await _in_pieces(parsing(body, now_ns))
    except BadEvents as fault:
        raise bad_events(fault) from None
    return answer(await context.port.ingest(batch))


async def _in_pieces(parsing: Parsing) -> list[Reported]:
    """The events; other callbacks of the event loop run between the pieces of a large body.

    A thread would hold the interpreter's lock for longer than a piece takes.
    """
    while True:
        try:
            next(parsing)
        except StopIteration as end:
            events: list[Reported] = end.value
            return events
        await asyncio.sleep(0)


class _CheckBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of a check; amounts are numbers or decimal strings."""

    venue: str
    symbol: str
    side: Side
    quantity: Number
    price: Number
    id: str | None = None
    strategy: str | None = None
    reduce_only: bool = False
    simulate: bool = False


_CHECK = msgspec.json.Decoder(_CheckBody)


async def check(context: Context, request: web.BaseRequest, _caller: Caller) -> web.Response:
    """Answer ``POST /v1/check``: whether an order may be sent."""
    body = await read_json(request, context.caps, _CHECK)
    try:
        order = _validated(body)
    except BadEvents as fault:
        raise bad_events(fault) from None
    return answer(await context.port.check(order))


def _validated(body: _CheckBody) -> Check:
    check_name(body.venue, "venue")
    check_name(body.symbol, "symbol")
    if body.strategy is not None:
        check_name(body.strategy, "strategy")
    if body.id is not None and not (0 < len(body.id) <= 128 and body.id.isprintable()):
        raise BadEvents("id must be 1 to 128 printable characters", field="id")
    quantity = number(body.quantity, "quantity")
    if quantity <= 0:
        raise BadEvents(f"quantity must be above 0, not {quantity:g}", field="quantity")
    return Check(
        venue=body.venue,
        symbol=body.symbol,
        side=body.side,
        quantity=quantity,
        price=number(body.price, "price"),
        id=body.id,
        strategy=body.strategy,
        reduce_only=body.reduce_only,
        simulate=body.simulate,
    )
