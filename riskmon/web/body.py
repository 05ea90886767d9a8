"""Reading a request's body: its media type, its size, its time of arrival, and JSON."""

from __future__ import annotations

import asyncio
import json
from typing import TypeVar

import msgspec
from aiohttp import HttpVersion11, StreamReader, hdrs, web

from riskmon.auth import proof
from riskmon.web.caps import Caps
from riskmon.web.problems import Problem, bad_json

JSON = "application/json"
NDJSON = "application/x-ndjson"

T = TypeVar("T")


def media_type(request: web.BaseRequest, *accepted: str) -> str:
    """Return the body's media type; raise a 415 if it is not ``accepted`` or not UTF-8."""
    given = request.headers.get(hdrs.CONTENT_TYPE, "")
    if given in accepted:
        return given
    kind, _, parameters = given.partition(";")
    kind = kind.strip().lower()
    charset = parameters.replace(" ", "").replace('"', "").lower()
    if kind in accepted and charset in ("", "charset=utf-8"):
        return kind
    raise Problem(
        "media_type",
        f"Content-Type is {given or 'missing'}: send {' or '.join(accepted)}",
        headers={"Accept-Post": ", ".join(accepted)},
    )


async def read_body(request: web.BaseRequest, caps: Caps, bytes_max: int) -> bytes:
    """Return the whole body; raise a 408 if it is late, a 413 if it is too large.

    A body that does not match its signed digest is a 401.
    """
    body = await _receive(request, caps, bytes_max)
    signed = request.headers.get(proof.DIGEST)
    if signed is not None and signed != proof.body_digest(body):
        raise Problem("unauthorized", f"the body does not match {proof.DIGEST}")
    return body


async def _receive(request: web.BaseRequest, caps: Caps, bytes_max: int) -> bytes:
    encoding = request.headers.get(hdrs.CONTENT_ENCODING)
    if encoding is not None and encoding.lower() != "identity":
        raise Problem(
            "media_type",
            f"Content-Encoding {encoding} is not supported: send the body unencoded",
            headers={"Accept-Encoding": "identity"},
        )
    content = request.content
    try:
        if content.is_eof():  # the usual case: the body came with the head
            body = content.read_nowait()
            if len(body) > bytes_max:
                raise _too_large(bytes_max)
            return body
        await _continue(request, bytes_max)
        async with asyncio.timeout(caps.body_seconds):
            return await _collect(content, bytes_max)
    except TimeoutError:
        fault = Problem("timeout", f"the body did not arrive within {caps.body_seconds:g} s")
    except web.RequestPayloadError as broken:
        fault = Problem("malformed", f"the body's framing is invalid: {broken}")
    fault.closes = True
    raise fault


async def _collect(content: StreamReader, bytes_max: int) -> bytes:
    chunks: list[bytes] = []
    left = bytes_max
    while chunk := await content.readany():
        left -= len(chunk)
        if left < 0:
            raise _too_large(bytes_max)
        chunks.append(chunk)
    return b"".join(chunks)


async def _continue(request: web.BaseRequest, bytes_max: int) -> None:
    """Refuse a Content-Length over the cap; send 100 Continue if the client expects it."""
    if int(request.headers.get(hdrs.CONTENT_LENGTH, 0)) > bytes_max:
        raise _too_large(bytes_max)
    expected = request.headers.get(hdrs.EXPECT)
    if expected is None or request.version < HttpVersion11:
        return
    if expected.lower() != "100-continue":
        raise Problem("expectation", f"Expect: {expected} is not supported")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # this is not a part of the answer


def _too_large(bytes_max: int) -> Problem:
    problem = Problem("too_large", f"the body must have at most {bytes_max} bytes")
    problem.closes = True
    return problem


async def read_json(request: web.BaseRequest, caps: Caps, decoder: msgspec.json.Decoder[T]) -> T:
    """Return the decoded JSON object of a call; raise a 400 that names the field or the offset.

    A duplicate key is refused: of two scopes neither may be used silently. Calls are small, so that
    a second parse for this check costs little. A body over ``caps.call_bytes`` is a 413.
    """
    media_type(request, JSON)
    body = await read_body(request, caps, caps.call_bytes)
    try:
        content = decoder.decode(body)
        json.loads(body, object_pairs_hook=_refuse_duplicate_keys)
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
        raise bad_json(fault, body) from None
    return content


def _refuse_duplicate_keys(pairs: list[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise Problem("malformed", f"{key} is in the object twice", field=key)
        seen.add(key)
