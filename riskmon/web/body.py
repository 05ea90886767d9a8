"""A request's body: its media type, its size and its time, before anything looks inside."""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypeVar

import msgspec
from aiohttp import HttpVersion11, StreamReader, hdrs, web

from riskmon.auth import proof
from riskmon.web.caps import Caps
from riskmon.web.problems import Problem, bad_json

JSON = "application/json"
NDJSON = "application/x-ndjson"

T = TypeVar("T")


def media_type(request: web.BaseRequest, *accepted: str) -> str:
    """The one of ``accepted`` that the body is in; 415 if it is none, or is not UTF-8."""
    given = request.headers.get(hdrs.CONTENT_TYPE, "")
    if given in accepted:
        return given
    kind, _, parameters = given.partition(";")
    kind = kind.strip().lower()
    charset = parameters.replace(" ", "").replace('"', "").lower()
    if kind in accepted and charset in ("", "charset=utf-8"):
        return kind
    wanted = " or ".join(accepted)
    raise Problem(
        "media_type",
        f"Content-Type is {given or 'missing'}: send {wanted}",
        headers={"Accept-Post": ", ".join(accepted)},
    )


async def read_body(request: web.BaseRequest, caps: Caps, bytes_max: int) -> bytes:
    """The whole body; 408 when it does not arrive in time, 413 when it is too large.

    One that does not have the digest that was signed with it is a 401.
    """
    body = await _received(request, caps, bytes_max)
    signed = request.headers.get(proof.DIGEST)
    if signed is not None and signed != proof.body_digest(body):
        raise Problem("unauthorized", f"the body is not the one of {proof.DIGEST}")
    return body


async def _received(request: web.BaseRequest, caps: Caps, bytes_max: int) -> bytes:
    encoding = request.headers.get(hdrs.CONTENT_ENCODING)
    if encoding is not None and encoding.lower() != "identity":
        raise Problem(
            "media_type",
            f"Content-Encoding {encoding} is not taken: send the body as it is",
            headers={"Accept-Encoding": "identity"},
        )
    content = request.content
    try:
        if content.is_eof():  # as nearly always: it came with the head
            body = content.read_nowait()
            if len(body) > bytes_max:
                raise _too_large(bytes_max)
            return body
        await _invite(request, bytes_max)
        async with asyncio.timeout(caps.body_seconds):
            return await _collect(content, bytes_max)
    except TimeoutError:
        fault = Problem("timeout", f"the body did not arrive within {caps.body_seconds:g} s")
    except web.RequestPayloadError as broken:
        fault = Problem("malformed", f"the body's framing is broken: {broken}")
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


async def _invite(request: web.BaseRequest, bytes_max: int) -> None:
    """Refuse by the announced length, and tell a client that waits for it to go on."""
    if int(request.headers.get(hdrs.CONTENT_LENGTH, 0)) > bytes_max:
        raise _too_large(bytes_max)
    expected = request.headers.get(hdrs.EXPECT)
    if expected is None or request.version < HttpVersion11:
        return
    if expected.lower() != "100-continue":
        raise Problem("expectation", f"Expect: {expected} is not known")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun


def _too_large(bytes_max: int) -> Problem:
    problem = Problem("too_large", f"a body here has at most {bytes_max} bytes")
    problem.closes = True
    return problem


async def read_json(request: web.BaseRequest, caps: Caps, decoder: msgspec.json.Decoder[T]) -> T:
    """The JSON object of a call; 400 with the field or the offset of what does not fit.

    A call is small, so that a key that stands in it twice is found and refused: of two scopes
    neither counts. A body past ``caps.call_bytes`` is a 413.
    """
    media_type(request, JSON)
    body = await read_body(request, caps, caps.call_bytes)
    try:
        content = decoder.decode(body)
        json.loads(body, object_pairs_hook=_refuse_twice)
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
        raise bad_json(fault, body) from None
    return content


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise Problem("malformed", f"{key} stands in the object twice", field=key)
        seen.add(key)
