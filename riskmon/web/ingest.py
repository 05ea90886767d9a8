"""What bots send: events, and the question whether an order may go."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from riskmon.core.events import Check, Side
from riskmon.core.fields import BadEvents, Number, check_id, check_name, divisor, positive
from riskmon.core.parsing import Parsing
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
        parsing = Parsing(body, now_ns, lines=not is_json)
        if len(body) <= _LARGE_BYTES:
            batch = parsing.finish()
        else:
            async with edge.parsing_large:
                for _ in parsing:
                    # The other callbacks of the event loop run here. A thread would hold the
                    # interpreter's lock for longer than a piece takes.
                    await asyncio.sleep(0)
                batch = parsing.events
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
    check_name(order.strategy, "strategy")
    check_id(order.id, "id")
    return Check(
        venue=order.venue,
        symbol=order.symbol,
        side=order.side,
        quantity=positive(order.quantity, "quantity"),
        price=divisor(order.price, "price"),
        id=order.id,
        strategy=order.strategy,
        reduce_only=order.reduce_only,
        simulate=order.simulate,
    )
