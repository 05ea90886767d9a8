"""The bodies of ``POST /v1/check`` and of the operator's calls, and what they become.

The HTTP server decodes them from JSON, and :class:`riskmon.Engine` takes them as dicts.
:func:`checked_order` and :func:`operator_call` check what a decoder cannot; a fault is a
:class:`riskmon.core.fields.BadEvents` with the field that breaks its rule.
"""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Literal

import msgspec

from riskmon.core.events import Check, Leg, Operate, OrderType, Side
from riskmon.core.fields import (
    BadEvents,
    Id,
    Number,
    check_covered,
    check_name,
    divisor,
    identifier,
    not_negative,
)

Action = Literal["freeze", "unfreeze", "trip", "reset", "disable", "enable", "permit"]

_MAX_SECONDS = 366 * 86_400.0
_MAX_SCOPE = 128
_MAX_REASON = 1_000


class CheckBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of a check; amounts are numbers or decimal strings, null is the same as absent."""

    venue: str
    symbol: str
    side: Side
    quantity: Number | None = None
    price: Number | None = None
    id: Id | None = None
    strategy: str | None = None
    reduce_only: bool | None = None
    simulate: bool | None = None
    slippage: Number | None = None
    close_position: bool | None = None
    leg: Leg | None = None


class TypedCheckBody(CheckBody, rename={"order_type": "type"}):
    """The body of a check with its ``type``. In a dict of an event ``type`` is its tag."""

    order_type: OrderType | None = None


def checked_order(body: CheckBody, order_type: OrderType | None = None) -> Check:
    """Return the order of a check; raise ``BadEvents`` for a name, id or amount."""
    check_name(body.venue, "venue")
    check_covered(body.symbol, "symbol")
    check_name(body.strategy, "strategy")
    quantity, price = body.quantity, body.price
    if quantity is None and not body.close_position:
        raise BadEvents("quantity is required, except with close_position", field="quantity")
    market = order_type == "market" or (body.close_position and price is None)
    if price is None and not market:
        raise BadEvents('price is required, except with type "market"', field="price")
    return Check(
        venue=body.venue,
        symbol=body.symbol,
        side=body.side,
        quantity=None if quantity is None else divisor(quantity, "quantity"),
        price=None if price is None else divisor(price, "price"),
        id=None if body.id is None else identifier(body.id, "id"),
        strategy=body.strategy,
        reduce_only=bool(body.reduce_only),
        simulate=bool(body.simulate),
        order_type="market" if market else "limit",
        slippage=_slippage(body.slippage),
        close_position=bool(body.close_position),
        leg=body.leg,
    )


def _slippage(given: Number | None) -> float | None:
    if given is None:
        return None
    slippage = not_negative(given, "slippage")
    if slippage >= 1:
        raise BadEvents("slippage must be a ratio below 1: 0.01 is 1 %", field="slippage")
    return slippage


# A generation counts from 0 and is stored in 64 bits.
_Generation = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class OperateBody(
    msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename={"seconds": "for"}
):
    """The body of an operator's call."""

    scope: str
    reason: str
    limit: str | None = None
    generation: _Generation | None = None
    force: bool = False
    preview: bool = False
    rebase: bool = False
    seconds: float | None = None
    symbol: str | None = None  # of a permit, as all that follows
    side: Side | None = None
    quantity: Number | None = None
    leg: Leg | None = None


_SECONDS = {"permit": 60.0}  # of the calls that end, 3600 of the others


def operator_call(action: Action, body: OperateBody, *, by: str, peer: str | None) -> Operate:
    """Return an operator's call; raise ``BadEvents`` for a field. ``by`` names the operator."""
    reason = body.reason.strip()
    if not reason:
        raise _invalid("reason", "must not be empty: the audit trail contains it")
    if len(reason) > _MAX_REASON or not reason.isprintable():
        raise _invalid("reason", f"must be one line of at most {_MAX_REASON} printable characters")
    for name, value in (("scope", body.scope), ("limit", body.limit)):
        if value is not None and not (0 < len(value) <= _MAX_SCOPE and value.isprintable()):
            raise _invalid(name, f"must be 1 to {_MAX_SCOPE} printable characters")
    if body.seconds is not None and not (
        isfinite(body.seconds) and 0 < body.seconds <= _MAX_SECONDS
    ):
        raise _invalid("for", "must be above 0 seconds and at most 366 days")
    _check_permit(action, body)
    quantity = None if body.quantity is None else divisor(body.quantity, "quantity")
    return Operate(
        action=action,
        scope=body.scope,
        reason=reason,
        by=by,
        peer=peer,
        limit=body.limit,
        generation=body.generation,
        force=body.force,
        preview=body.preview,
        rebase=body.rebase,
        for_seconds=_SECONDS.get(action, 3600.0) if body.seconds is None else body.seconds,
        registers=True,
        symbol=body.symbol,
        side=body.side,
        quantity=quantity,
        leg=body.leg,
    )


def _check_permit(action: Action, body: OperateBody) -> None:
    others: dict[str, str | bool | None]
    if action == "permit":
        if body.symbol is None:
            raise _invalid("symbol", "is required: a permit is for an order in one symbol")
        check_covered(body.symbol, "symbol")
        others = {"limit": body.limit, "force": body.force, "rebase": body.rebase}
    else:
        others = {
            "symbol": body.symbol,
            "side": body.side,
            "quantity": body.quantity is not None,
            "leg": body.leg,
        }
    for name, value in others.items():
        if value:
            raise _invalid(name, f"does not go with {action}")


def _invalid(field: str, rule: str) -> BadEvents:
    return BadEvents(f"{field}: {rule}", field=field)
