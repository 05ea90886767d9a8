"""The endpoints for reading: the state, the audit trail, metrics, health and the status page."""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files

from aiohttp import web
from msgspec.structs import asdict
from multidict import CIMultiDict

from riskmon import document
from riskmon.core.events import datetime_ns
from riskmon.web.access import Caller
from riskmon.web.context import Context
from riskmon.web.problems import SAFE, Problem, answer

_PAGE_MAX = 1_000
_PAGE_DEFAULT = 100
_MAX_NS = 2**63 - 1


async def state(context: Context, _request: web.BaseRequest, _caller: Caller) -> web.Response:
    """Answer ``GET /v1/state``."""
    return answer(document.state(await context.port.view()))


async def incidents(context: Context, request: web.BaseRequest, _caller: Caller) -> web.Response:
    """Answer ``GET /v1/incidents?limit=&before=&refusals=`` with a page, newest first.

    ``next`` is ``before`` of the next page. ``refusals=false`` omits the calls that were refused
    for a missing right, of which there may be many.
    """
    query = request.query
    if unknown := set(query) - {"limit", "before", "refusals"}:
        raise Problem("malformed", f"unknown parameter {min(unknown)}", field=min(unknown))
    limit = _page_size(query.get("limit"))
    refusals = query.get("refusals", "true")
    if refusals not in ("true", "false"):
        raise Problem("malformed", "refusals must be true or false", field="refusals")
    records = await context.port.audit(limit, _before(query.get("before")), refusals == "true")
    more = str(records[-1].at_ns) if len(records) >= limit else None
    return answer(
        {"incidents": [document.with_rfc3339(asdict(record)) for record in records], "next": more}
    )


def _page_size(text: str | None) -> int:
    if text is None:
        return _PAGE_DEFAULT
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= _PAGE_MAX:
        raise Problem("malformed", f"limit must be a number from 1 to {_PAGE_MAX}", field="limit")
    return int(text)


def _before(text: str | None) -> int | None:
    if text is None:
        return None
    at_ns = _instant_ns(text)
    if at_ns is None or not 0 <= at_ns <= _MAX_NS:
        raise Problem(
            "malformed",
            "before must be a time such as 2026-01-02T03:04:05Z, or `next` of a page",
            field="before",
        )
    return at_ns


def _instant_ns(text: str) -> int | None:
    """Return UTC ns, given as a number or as a time with its zone; None for other texts."""
    if re.fullmatch(r"[0-9]{1,19}", text):
        return int(text)
    try:
        at = datetime.fromisoformat(text)
        return None if at.tzinfo is None else datetime_ns(at)
    except (ValueError, OverflowError):
        return None


async def metrics(context: Context, request: web.BaseRequest, _caller: Caller) -> web.Response:
    """Answer ``GET /metrics`` in the format that the Accept header selects."""
    page, content_type = await context.port.metrics(request.headers.get("Accept", ""))
    return web.Response(body=page, headers={**SAFE, "Content-Type": content_type})


async def healthy(_context: Context, _request: web.BaseRequest, _caller: Caller) -> web.Response:
    """Answer ``GET /-/healthy``: the event loop runs."""
    return web.Response(text="riskmon is healthy.\n", headers=SAFE)


async def ready(context: Context, _request: web.BaseRequest, _caller: Caller) -> web.Response:
    """Answer ``GET /-/ready``: the journal is replayed and can be written."""
    reason = context.port.ready()
    if reason is not None:
        raise Problem("not_ready", reason, headers={"Retry-After": "1"})
    return web.Response(text="riskmon is ready.\n", headers=SAFE)


async def page(_context: Context, _request: web.BaseRequest, _caller: Caller) -> web.Response:
    """Answer ``GET /`` with the status page. It has no data: its script reads ``/v1/state``."""
    body, headers = _page()
    return web.Response(body=body, headers=headers)


@cache
def _page() -> tuple[bytes, CIMultiDict[str]]:
    body = files("riskmon.web").joinpath("page.html").read_bytes()
    policy = (
        "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; style-src {_hashes(body, b'style')}; "
        f"script-src {_hashes(body, b'script')}"
    )
    headers = CIMultiDict(SAFE)
    headers["Content-Type"] = "text/html; charset=utf-8"
    headers["Content-Security-Policy"] = policy
    headers["Referrer-Policy"] = "no-referrer"
    return body, headers


def _hashes(body: bytes, tag: bytes) -> str:
    """Return the hashes of the page's inline blocks, the only scripts and styles that may apply."""
    blocks = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), body, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(block).digest()).decode()}'" for block in blocks)
