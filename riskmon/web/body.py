"""A request's body: its media type, its size and its time, before anything looks inside."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from aiohttp import HttpVersion11, StreamReader, hdrs, web

from riskmon.web.port import Caps
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


async def read_body(request: web.BaseRequest, caps: Caps) -> bytes:
    """The whole body; 408 when it does not arrive in time, 413 when it is too large."""
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
            if len(body) > caps.body_bytes:
                raise _too_large(caps)
            return body
        await _invite(request, caps)
        async with asyncio.timeout(caps.body_seconds):
            return await _collect(content, caps)
    except TimeoutError:
        fault = Problem("timeout", f"the body did not arrive within {caps.body_seconds:g} s")
    except web.RequestPayloadError as broken:
        fault = Problem("malformed", f"the body's framing is broken: {broken}")
    fault.closes = True
    raise fault


async def _collect(content: StreamReader, caps: Caps) -> bytes:
    chunks: list[bytes] = []
    left = caps.body_bytes
    while chunk := await content.readany():
        left -= len(chunk)
        if left < 0:
            raise _too_large(caps)
        chunks.append(chunk)
    return b"".join(chunks)


async def _invite(request: web.BaseRequest, caps: Caps) -> None:
    """Refuse by the announced length, and tell a client that waits for it to go on."""
    if int(request.headers.get(hdrs.CONTENT_LENGTH, 0)) > caps.body_bytes:
        raise _too_large(caps)
    expected = request.headers.get(hdrs.EXPECT)
    if expected is None or request.version < HttpVersion11:
        return
    if expected.lower() != "100-continue":
        raise Problem("expectation", f"Expect: {expected} is not known")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun


def _too_large(caps: Caps) -> Problem:
    problem = Problem("too_large", f"a body has at most {caps.body_bytes} bytes: send it in parts")
    problem.closes = True
    return problem


async def read_json(request: web.BaseRequest, caps: Caps, decoder: msgspec.json.Decoder[T]) -> T:
    """The JSON object in the body; 400 with the field or the offset of what does not fit."""
    media_type(request, JSON)
    body = await read_body(request, caps)
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
        raise bad_json(fault, body) from None
