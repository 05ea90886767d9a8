"""Refusals as RFC 9457 problem documents: one table of kinds, one exception, one body."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec
from aiohttp import web
from multidict import CIMultiDict, istr

from riskmon.core.fields import BadEvents, misfit


class Kind(NamedTuple):
    """The status and the fixed title of a kind of refusal."""

    status: int
    title: str


KINDS = {
    "malformed": Kind(400, "The request is malformed"),
    "bad_configuration": Kind(400, "The configuration has faults"),
    "unauthorized": Kind(401, "A valid token is required"),
    "forbidden": Kind(403, "Not allowed"),
    "not_found": Kind(404, "Not found"),
    "method": Kind(405, "The path does not support the method"),
    "timeout": Kind(408, "The request did not arrive in time"),
    "conflict": Kind(409, "The state does not allow it"),
    "too_large": Kind(413, "The body is too large"),
    "media_type": Kind(415, "The body's media type is not supported"),
    "expectation": Kind(417, "The expectation cannot be met"),
    "queue_full": Kind(429, "The queue is full"),
    "too_many_scopes": Kind(429, "Too many scopes"),
    "internal": Kind(500, "Internal failure"),
    "not_durable": Kind(503, "The journal cannot be written"),
    "not_ready": Kind(503, "Not ready"),
    "too_many_connections": Kind(503, "Too many connections"),
}
_TYPE = istr("Content-Type")


class Problem(Exception):
    """A request is refused. ``more`` are further members of the document; None is omitted."""

    def __init__(
        self, kind: str, detail: str, *, headers: dict[str, str] | None = None, **more: object
    ) -> None:
        super().__init__(detail)
        # A header can contain invalid UTF-8, which aiohttp decodes to lone surrogates.
        self.kind, self.detail = kind, detail.encode(errors="backslashreplace").decode()
        self.status, self.title = KINDS[kind]
        self.headers = headers or {}
        self.more = {key: value for key, value in more.items() if value is not None}
        self.closes = False
        self.caller = ""  # the name of the refused caller, if known

    def body(self) -> bytes:
        """Return the document in JSON."""
        return msgspec.json.encode(
            {
                "type": f"urn:riskmon:problem:{self.kind}",
                "title": self.title,
                "status": self.status,
                "detail": self.detail,
                **self.more,
            }
        )

    def response(self) -> web.Response:
        """Return the answer to the request."""
        headers = CIMultiDict(SAFE)
        headers[_TYPE] = "application/problem+json"
        headers.update(self.headers)
        response = web.Response(status=self.status, body=self.body(), headers=headers)
        if self.closes:
            response.force_close()
        return response


SAFE: CIMultiDict[str] = CIMultiDict(
    {
        "Server": "riskmon",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
)
_JSON: CIMultiDict[str] = CIMultiDict({**SAFE, "Content-Type": "application/json"})
_encode = msgspec.json.Encoder().encode


def answer(content: object) -> web.Response:
    """Return a 200 with ``content`` in JSON."""
    return web.Response(body=_encode(content), headers=_JSON)


def bad_events(fault: BadEvents) -> Problem:
    """Return the refusal of a batch, with the place of its first fault."""
    return Problem(
        "malformed",
        fault.detail,
        index=fault.index,
        field=fault.field,
        offset=fault.offset,
        line=fault.line,
    )


_BYTE = re.compile(r"\(byte (\d+)\)")


def bad_json(fault: msgspec.MsgspecError | UnicodeDecodeError, body: bytes) -> Problem:
    """Return the refusal of a body that is not JSON (``offset``) or is invalid (``field``)."""
    text = str(fault)
    if isinstance(fault, msgspec.ValidationError):
        misfitting = misfit(text)
        return Problem("malformed", misfitting.detail, field=misfitting.field)
    if isinstance(fault, UnicodeDecodeError):
        return Problem("malformed", "not UTF-8", offset=fault.start)
    found = _BYTE.search(text)
    return Problem("malformed", f"not JSON: {text}", offset=int(found[1]) if found else len(body))
