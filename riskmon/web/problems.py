"""Refusals as RFC 9457 problem documents: one table of kinds, one exception, one body."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec
from aiohttp import web
from multidict import CIMultiDict, istr

from riskmon.core.fields import BadEvents


class Kind(NamedTuple):
    """The status of a kind of refusal and its title, which never varies."""

    status: int
    title: str


KINDS = {
    "malformed": Kind(400, "The request cannot be taken as it is"),
    "bad_configuration": Kind(400, "The configuration has faults"),
    "unauthorized": Kind(401, "A valid token is needed"),
    "forbidden": Kind(403, "Not allowed"),
    "not_found": Kind(404, "There is no such thing"),
    "method": Kind(405, "The method does not fit the path"),
    "timeout": Kind(408, "The request did not arrive in time"),
    "conflict": Kind(409, "The state does not allow it"),
    "too_large": Kind(413, "The body is too large"),
    "media_type": Kind(415, "The body's media type is not taken here"),
    "expectation": Kind(417, "The expectation cannot be met"),
    "queue_full": Kind(429, "Too much has come in"),
    "too_many_scopes": Kind(429, "Too many scopes"),
    "internal": Kind(500, "An internal failure"),
    "not_durable": Kind(503, "Nothing can be written"),
    "not_ready": Kind(503, "Not ready"),
    "too_many_connections": Kind(503, "Too many connections"),
}
_TYPE = istr("Content-Type")


class Problem(Exception):
    """A request is refused. ``more`` are further members of the document, without the Nones."""

    def __init__(
        self, kind: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        # A header can hold bytes that are no UTF-8, which aiohttp turns into lone surrogates.
        self.kind, self.detail = kind, detail.encode(errors="backslashreplace").decode()
        self.status, self.title = KINDS[kind]
        self.headers = headers or {}
        self.more = {key: value for key, value in more.items() if value is not None}
        self.closes = False
        self.caller = ""  # the name of a known caller that is refused

    def body(self) -> bytes:
        """The document, in JSON."""
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
        """The answer that says so."""
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


def answer(content: Any) -> web.Response:
    """200 with ``content`` in JSON."""
    return web.Response(body=_encode(content), headers=_JSON)


def bad_events(fault: BadEvents) -> Problem:
    """The refusal of a batch, with the place of its first fault."""
    return Problem(
        "malformed",
        fault.detail,
        index=fault.index,
        field=fault.field,
        offset=fault.offset,
        line=fault.line,
    )


_PLACE = re.compile(r" - at `\$\.?([^`]*)`\Z")
_NAMED = re.compile(r"field `([^`]+)`")
_BYTE = re.compile(r"\(byte (\d+)\)")


def bad_json(fault: msgspec.MsgspecError | UnicodeDecodeError, body: bytes) -> Problem:
    """The refusal of a body that is not JSON (``offset``) or does not fit (``field``)."""
    text = str(fault)
    if isinstance(fault, msgspec.ValidationError):
        place, named = _PLACE.search(text), _NAMED.search(text)
        field = (place and place[1]) or (named and named[1]) or None
        return Problem("malformed", text[: place.start()] if place else text, field=field)
    if isinstance(fault, UnicodeDecodeError):
        return Problem("malformed", "not UTF-8", offset=fault.start)
    found = _BYTE.search(text)
    return Problem("malformed", f"not JSON: {text}", offset=int(found[1]) if found else len(body))
