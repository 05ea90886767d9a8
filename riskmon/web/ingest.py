"""What bots send: events, and the question whether an order may go."""

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
from riskmon.web.edge import Edge
from riskmon.web.problems import answer, bad_events

_LARGE_BYTES = 65_536


async def events(edge: Edge, request: web.BaseRequest, _caller: Caller) -> web.Response:
    """``POST /v1/events``: a batch, whole or not at all."""
    is_json = media_type(request, JSON, NDJSON) == JSON
    body = await read_body(request, edge.caps, edge.caps.body_bytes)
    now_ns = edge.clock_ns()
    try:
        if len(body) <= _LARGE_BYTES:
            batch = parse_json(body, now_ns) if is_json else parse_ndjson(body, now_ns)
        else:
            parsing = parsing_json if is_json else parsing_ndjson
            async with edge.parsing_large:
                batch = await _in_pieces(parsing(body, now_ns))
    except BadEvents as fault:
        raise bad_events(fault) from None
    return answer(await edge.port.ingest(batch))


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


class _Order(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An order as it is asked about; amounts as numbers or decimal strings."""

    venue: str
    symbol: str
    side: Side
    quantity: Number
    price: Number
    id: str | None = None
    strategy: str | None = None
    reduce_only: bool = False
    simulate: bool = False


_ORDER = msgspec.json.Decoder(_Order)


async def check(edge: Edge, request: web.BaseRequest, _caller: Caller) -> web.Response:
    """``POST /v1/check``: may this order be sent?"""
    order = await read_json(request, edge.caps, _ORDER)
    try:
        question = _checked(order)
    except BadEvents as fault:
        raise bad_events(fault) from None
    return answer(await edge.port.check(question))


def _checked(order: _Order) -> Check:
    check_name(order.venue, "venue")
    check_name(order.symbol, "symbol")
    if order.strategy is not None:
        check_name(order.strategy, "strategy")
    if order.id is not None and not (0 < len(order.id) <= 128 and order.id.isprintable()):
        raise BadEvents("id must be 1 to 128 printable characters", field="id")
    quantity = number(order.quantity, "quantity")
    if quantity <= 0:
        raise BadEvents(f"quantity must be above 0, not {quantity:g}", field="quantity")
    return Check(
        venue=order.venue,
        symbol=order.symbol,
        side=order.side,
        quantity=quantity,
        price=number(order.price, "price"),
        id=order.id,
        strategy=order.strategy,
        reduce_only=order.reduce_only,
        simulate=order.simulate,
    )
