"""What operators send: freeze, unfreeze, trip, reset, disable, enable, and a reload."""

from __future__ import annotations

import logging
from math import isfinite
from typing import Annotated, Literal, get_args

import msgspec
from aiohttp import web

from riskmon.core.decisions import OperateAnswer
from riskmon.core.events import Operate
from riskmon.web.access import Caller
from riskmon.web.body import read_json
from riskmon.web.edge import Edge, Endpoint
from riskmon.web.problems import Problem, answer

_log = logging.getLogger("riskmon.web")

Action = Literal["freeze", "unfreeze", "trip", "reset", "disable", "enable"]
ACTIONS: tuple[Action, ...] = get_args(Action)
_LOOSENING = ("unfreeze", "reset")
_MAX_SECONDS = 366 * 86_400.0
_MAX_SCOPE = 128
_MAX_REASON = 1_000


# A generation is counted up from 0 and kept in 64 bits.
_Generation = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Call(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, rename={"seconds": "for"}):
    """The body of an operator's call."""

    scope: str
    reason: str
    limit: str | None = None
    generation: _Generation | None = None
    force: bool = False
    preview: bool = False
    rebase: bool = False
    seconds: float | None = None


_CALL = msgspec.json.Decoder(_Call)


def operation(action: Action) -> Endpoint:
    """``POST /v1/<action>``."""

    async def operate(edge: Edge, request: web.BaseRequest, caller: Caller) -> web.Response:
        call = await read_json(request, edge.caps, _CALL)
        _refuse_bad(call, action)
        order = Operate(
            action=action,
            scope=call.scope,
            reason=call.reason.strip(),
            by=caller.name,
            peer=caller.peer,
            limit=call.limit,
            generation=call.generation,
            force=call.force,
            preview=call.preview,
            rebase=call.rebase,
            for_seconds=3600.0 if call.seconds is None else call.seconds,
        )
        done = await edge.port.operate(order)
        _log.info(
            "%s of %s by %s: %s %s", action, order.scope, caller.name, done.status, done.detail
        )
        return _told(order, done)

    return operate


def _refuse_bad(call: _Call, action: Action) -> None:
    reason = call.reason.strip()
    if not reason:
        raise _bad("reason", "say why: the audit trail keeps it")
    if len(reason) > _MAX_REASON or not reason.isprintable():
        raise _bad("reason", f"one line of at most {_MAX_REASON} printable characters")
    for name, value in (("scope", call.scope), ("limit", call.limit)):
        if value is not None and not (0 < len(value) <= _MAX_SCOPE and value.isprintable()):
            raise _bad(name, f"1 to {_MAX_SCOPE} printable characters")
    if call.generation is None and action in _LOOSENING:
        raise _bad("generation", "send the generation that you have seen in /v1/state")
    if call.seconds is not None and not (
        isfinite(call.seconds) and 0 < call.seconds <= _MAX_SECONDS
    ):
        raise _bad("for", "seconds above 0 and at most 366 days")


def _bad(field: str, what: str) -> Problem:
    return Problem("malformed", f"{field}: {what}", field=field)


def _told(order: Operate, done: OperateAnswer) -> web.Response:
    if done.status == 404:
        raise Problem("not_found", done.detail, near=done.near)
    if done.status == 409:
        raise Problem(
            "conflict",
            done.detail,
            scope=order.scope,
            level=done.level,
            generation=done.generation,
            breakers=done.breakers,
            would_trip=done.would_trip,
        )
    return answer(
        {
            "scope": order.scope,
            "level": done.level,
            "generation": done.generation,
            "detail": done.detail,
            "preview": order.preview,
            "breakers": done.breakers,
            "would_trip": done.would_trip,
        }
    )


async def reload(edge: Edge, _request: web.BaseRequest, caller: Caller) -> web.Response:
    """``POST /-/reload``: the configuration anew; with any fault the old one stays."""
    done = await edge.port.reload()
    _log.info("reload by %s: %d faults", caller.name, len(done.faults))
    if done.faults:
        raise Problem(
            "bad_configuration",
            f"{len(done.faults)} faults: the configuration in force stays as it was",
            faults=[
                {"path": fault.path, "message": fault.message, "hint": fault.hint}
                for fault in done.faults
            ],
        )
    return answer({"needs_restart": list(done.needs_restart)})
