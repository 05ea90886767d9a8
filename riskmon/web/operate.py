"""The endpoints for operators: freeze, unfreeze, trip, reset, disable, enable, and reload."""

from __future__ import annotations

import logging
from typing import get_args

import msgspec
from aiohttp import web

from riskmon.core.breakers.transitions import LOOSENS
from riskmon.core.calls import Action, OperateBody, operator_call
from riskmon.core.decisions import OperateAnswer
from riskmon.core.events import Operate
from riskmon.core.fields import BadEvents
from riskmon.document import operated
from riskmon.web.access import Caller
from riskmon.web.body import read_json
from riskmon.web.context import Context, Endpoint
from riskmon.web.problems import Problem, answer, bad_events

_log = logging.getLogger("riskmon.web")

ACTIONS: tuple[Action, ...] = get_args(Action)
_OPERATE = msgspec.json.Decoder(OperateBody)


def operation(action: Action) -> Endpoint:
    """Return the endpoint of ``POST /v1/<action>``."""

    async def operate(context: Context, request: web.BaseRequest, caller: Caller) -> web.Response:
        body = await read_json(request, context.caps, _OPERATE)
        if body.generation is None and action in LOOSENS:
            detail = "generation: is required: send the one seen in /v1/state"
            raise Problem("malformed", detail, field="generation")
        try:
            call = operator_call(action, body, by=caller.name, peer=caller.peer)
        except BadEvents as fault:
            raise bad_events(fault) from None
        done = await context.port.operate(call)
        _log.info(
            "%s of %s by %s: %s %s", action, call.scope, caller.name, done.status, done.detail
        )
        return _response(call, done)

    return operate


def _response(call: Operate, done: OperateAnswer) -> web.Response:
    if done.status == 400:
        raise Problem("malformed", done.detail, field="scope")
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
    return answer(operated(call, done))


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
