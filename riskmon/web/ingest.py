"""What bots send: events, and the question whether an order may go."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from riskmon.core.events import (
    BadEvents,
    Check,
    Number,
    Reported,
    Side,
    check_name,
    number,
    parse_json,
    parse_ndjson,
)
from riskmon.web.access import Caller
from riskmon.web.body import JSON, NDJSON, media_type, read_body, read_json
from riskmon.web.edge import Edge
from riskmon.web.problems import answer, bad_events

# A larger body is read beside the loop: checking 1 MiB of events takes longer than a renewal of
# the lease may wait.
_LARGE_BYTES = 65_536


async def events(edge: Edge, request: web.BaseRequest, _caller: Caller) -> web.Response:
    """``POST /v1/events``: a batch, whole or not at all."""
    parse = parse_json if media_type(request, JSON, NDJSON) == JSON else parse_ndjson
    body = await read_body(request, edge.caps, edge.caps.body_bytes)
    now_ns = edge.clock_ns()
    try:
        batch: list[Reported] = (
            parse(body, now_ns)
            if len(body) <= _LARGE_BYTES
            else await asyncio.to_thread(parse, body, now_ns)
        )
    except BadEvents as fault:
        raise bad_events(fault) from None
    return answer(await edge.port.ingest(batch))


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
