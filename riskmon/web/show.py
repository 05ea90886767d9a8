"""What anyone may look at: the state, the audit trail, metrics, health and the status page."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from riskmon.core.events import datetime_ns
from riskmon.core.view import BreakerView, View
from riskmon.system.clock import rfc3339
from riskmon.web.access import Caller
from riskmon.web.edge import Edge
from riskmon.web.problems import SAFE, Problem, answer

_PAGE_MAX = 1_000
_PAGE_DEFAULT = 100
_MAX_NS = 2**63 - 1


def shown(item: msgspec.Struct | Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a struct or a mapping; each time `x_ns` becomes `x` in RFC 3339."""
    if isinstance(item, msgspec.Struct):
        pairs = [(name, getattr(item, name)) for name in item.__struct_fields__]
    else:
        pairs = list(item.items())
    return {
        name.removesuffix("_ns"): rfc3339(value)
        if name.endswith("_ns") and value is not None
        else value
        for name, value in pairs
    }


_BREAKER = (
    *("limit", "kind", "scope", "state", "generation", "reason", "incident", "on_breach"),
    *("category", "recovers", "trips_total"),
)
_LIMIT = (
    *("limit", "kind", "scope", "value", "bound", "utilization", "warning_ratio", "warning"),
    *("unknown", "on_breach", "breaches_total"),
)


def _breaker(breaker: BreakerView) -> dict[str, Any]:
    row = {name: getattr(breaker, name) for name in _BREAKER}
    for name in ("since", "last_trip", "until"):
        ns = getattr(breaker, name + "_ns")
        row[name] = None if ns is None else rfc3339(ns)
    return row


def _limit(breaker: BreakerView) -> dict[str, Any]:
    return {name: getattr(breaker, name) for name in _LIMIT}


def document(view: View) -> dict[str, Any]:
    """The body of ``GET /v1/state``."""
    return {
        "account": view.account,
        "generation": view.generation,
        "at": rfc3339(view.at_ns),
        "level": view.level,
        "breakers": [_breaker(b) for b in view.breakers],
        "limits": [_limit(b) for b in view.breakers],
        "latency": view.latency,
        "portfolio": view.portfolio,
        "gate": {"levels": view.levels, "withheld": view.withheld},
        "cancel": [shown(c) for c in view.cancel],
        "unknown": view.unknown,
    }


async def state(edge: Edge, _request: web.BaseRequest, _caller: Caller) -> web.Response:
    """``GET /v1/state``."""
    return answer(document(await edge.port.view()))


async def incidents(edge: Edge, request: web.BaseRequest, _caller: Caller) -> web.Response:
    """``GET /v1/incidents?limit=&before=&refusals=``: newest first.

    ``next`` is the next ``before``; ``refusals=false`` leaves out what a flood of calls without a
    right makes.
    """
    asked = request.query
    if strange := set(asked) - {"limit", "before", "refusals"}:
        raise Problem("malformed", f"{min(strange)} is not a parameter here", field=min(strange))
    limit = _page_size(asked.get("limit"))
    refusals = asked.get("refusals", "true")
    if refusals not in ("true", "false"):
        raise Problem("malformed", "refusals is true or false", field="refusals")
    records = await edge.port.audit(limit, _before(asked.get("before")), refusals == "true")
    more = str(records[-1].at_ns) if len(records) >= limit else None
    return answer({"incidents": [shown(record) for record in records], "next": more})


def _page_size(text: str | None) -> int:
    if text is None:
        return _PAGE_DEFAULT
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= _PAGE_MAX:
        raise Problem("malformed", f"limit is a number from 1 to {_PAGE_MAX}", field="limit")
    return int(text)


def _before(text: str | None) -> int | None:
    if text is None:
        return None
    at_ns = _instant_ns(text)
    if at_ns is None or not 0 <= at_ns <= _MAX_NS:
        raise Problem(
            "malformed",
            "before is a time as 2026-01-02T03:04:05Z from 1970 to 2262, or a page's `next`",
            field="before",
        )
    return at_ns


def _instant_ns(text: str) -> int | None:
    """UTC ns of a number of them or of a time with its zone; None for neither."""
    if re.fullmatch(r"[0-9]{1,19}", text):
        return int(text)
    try:
        at = datetime.fromisoformat(text)
        return None if at.tzinfo is None else datetime_ns(at)
    except (ValueError, OverflowError):
        return None


async def metrics(edge: Edge, request: web.BaseRequest, _caller: Caller) -> web.Response:
    """``GET /metrics``, in the format that Accept asks for."""
    page, content_type = await edge.port.metrics(request.headers.get("Accept", ""))
    return web.Response(body=page, headers={**SAFE, "Content-Type": content_type})


async def healthy(_edge: Edge, _request: web.BaseRequest, _caller: Caller) -> web.Response:
    """``GET /-/healthy``: the loop turns."""
    return web.Response(text="riskmon is healthy.\n", headers=SAFE)


async def ready(edge: Edge, _request: web.BaseRequest, _caller: Caller) -> web.Response:
    """``GET /-/ready``: it has caught up, and can write."""
    why = edge.port.ready()
    if why is not None:
        raise Problem("not_ready", why, headers={"Retry-After": "1"})
    return web.Response(text="riskmon is ready.\n", headers=SAFE)


async def page(_edge: Edge, _request: web.BaseRequest, _caller: Caller) -> web.Response:
    """``GET /``: the status page, which holds no data: it fetches them as any reader."""
    body, headers = _page()
    return web.Response(body=body, headers=headers)


@cache
def _page() -> tuple[bytes, CIMultiDict[str]]:
    body = files("riskmon.web").joinpath("page.html").read_bytes()
    policy = (
        "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; style-src {_allowed(body, b'style')}; "
        f"script-src {_allowed(body, b'script')}"
    )
    headers = CIMultiDict(SAFE)
    headers["Content-Type"] = "text/html; charset=utf-8"
    headers["Content-Security-Policy"] = policy
    headers["Referrer-Policy"] = "no-referrer"
    return body, headers


def _allowed(body: bytes, tag: bytes) -> str:
    """The hashes of the page's inline blocks: nothing else may run or style it."""
    blocks = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), body, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(block).digest()).decode()}'" for block in blocks)
