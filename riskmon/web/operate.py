"""The endpoints for operators: freeze, unfreeze, trip, reset, disable, enable, and reload."""

from __future__ import annotations

import logging
from math import isfinite
from typing import Annotated, Literal, get_args

import msgspec
from aiohttp import web

from riskmon.core.breakers.transitions import LOOSENS
from riskmon.core.decisions import OperateAnswer
from riskmon.core.events import Operate
from riskmon.web.access import Caller
from riskmon.web.body import read_json
from riskmon.web.context import Context, Endpoint
from riskmon.web.problems import Problem, answer

_log = logging.getLogger("riskmon.web")

Action = Literal["freeze", "unfreeze", "trip", "reset", "disable", "enable"]
ACTIONS: tuple[Action, ...] = get_args(Action)
_MAX_SECONDS = 366 * 86_400.0
_MAX_SCOPE = 128
_MAX_REASON = 1_000


# A generation counts from 0 and is stored in 64 bits.
_Generation = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _OperateBody(
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


_OPERATE = msgspec.json.Decoder(_OperateBody)


def operation(action: Action) -> Endpoint:
    """Return the endpoint of ``POST /v1/<action>``."""

    async def operate(context: Context, request: web.BaseRequest, caller: Caller) -> web.Response:
        body = await read_json(request, context.caps, _OPERATE)
        _validate(body, action)
        call = Operate(
            action=action,
            scope=body.scope,
            reason=body.reason.strip(),
            by=caller.name,
            peer=caller.peer,
            limit=body.limit,
            generation=body.generation,
            force=body.force,
            preview=body.preview,
            rebase=body.rebase,
            for_seconds=3600.0 if body.seconds is None else body.seconds,
        )
        done = await context.port.operate(call)
        _log.info(
            "%s of %s by %s: %s %s", action, call.scope, caller.name, done.status, done.detail
        )
        return _response(call, done)

    return operate


def _validate(body: _OperateBody, action: Action) -> None:
    reason = body.reason.strip()
    if not reason:
        raise _invalid("reason", "must not be empty: the audit trail contains it")
    if len(reason) > _MAX_REASON or not reason.isprintable():
        raise _invalid("reason", f"must be one line of at most {_MAX_REASON} printable characters")
    for name, value in (("scope", body.scope), ("limit", body.limit)):
        if value is not None and not (0 < len(value) <= _MAX_SCOPE and value.isprintable()):
            raise _invalid(name, f"must be 1 to {_MAX_SCOPE} printable characters")
    if body.generation is None and action in LOOSENS:
        raise _invalid("generation", "is required: send the one seen in /v1/state")
    if body.seconds is not None and not (
        isfinite(body.seconds) and 0 < body.seconds <= _MAX_SECONDS
    ):
        raise _invalid("for", "must be above 0 seconds and at most 366 days")


def _invalid(field: str, rule: str) -> Problem:
    return Problem("malformed", f"{field}: {rule}", field=field)


def _response(call: Operate, done: OperateAnswer) -> web.Response:
    if done.status == 404:
        raise Problem("not_found", done.detail, near=done.near)
    if done.status == 409:
        raise Problem(
            "conflict",
            done.detail,
            scope=call.scope,
            level=done.level,
            generation=done.generation,
            breakers=done.breakers,
            would_trip=done.would_trip,
        )
    return answer(
        {
            "scope": call.scope,
            "level": done.level,
            "generation": done.generation,
            "detail": done.detail,
            "preview": call.preview,
            "breakers": done.breakers,
            "would_trip": done.would_trip,
        }
    )


async def reload(context: Context, _request: web.BaseRequest, caller: Caller) -> web.Response:
    """Answer ``POST /-/reload``: reload the configuration; with a fault, keep the previous one."""
    done = await context.port.reload()
    _log.info("reload by %s: %d faults", caller.name, len(done.faults))
    if done.faults:
        raise Problem(
            "bad_configuration",
            f"{len(done.faults)} faults: the previous configuration stays in force",
            faults=[
                {"path": fault.path, "message": fault.message, "hint": fault.hint}
                for fault in done.faults
            ],
        )
    return answer({"needs_restart": list(done.needs_restart)})
