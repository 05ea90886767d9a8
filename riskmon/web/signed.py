"""Requests signed by a token, and the signature of each answer."""

from __future__ import annotations

from typing import NamedTuple

from aiohttp import web

from riskmon.auth import proof
from riskmon.auth.tokens import Token
from riskmon.web.access import Caller, Door, unauthorized
from riskmon.web.challenges import Challenges
from riskmon.web.edge import Edge
from riskmon.web.problems import answer


class Proof(NamedTuple):
    """The token that signed a request, and the nonce that its answer is signed over."""

    token: Token
    key: bytes
    nonce: str


def prove(request: web.BaseRequest, door: Door, challenges: Challenges) -> Proof | None:
    """What signs the request; None when it is not signed. Raises :class:`Problem` (401).

    The signature is checked before the nonce is used up, so that only its signer can do that. The
    body is checked against its signed digest when it is read.
    """
    headers = request.headers
    if proof.SIGNATURE not in headers:
        return None
    known = door.by_key_id(headers.get(proof.KEY, ""))
    if known is None or not proof.signs_request(
        known[0], headers, request.method, request.raw_path
    ):
        raise unauthorized("the request is not signed by a token that is known here")
    key, token = known
    nonce = headers[proof.NONCE]
    challenges.use(nonce)
    return Proof(token, key, nonce)


def sign(
    request: web.BaseRequest,
    response: web.StreamResponse,
    proven: Proof | None,
    challenges: Challenges,
) -> web.StreamResponse:
    """The answer to a request, signed if that was; with a nonce for the next request."""
    if proven is not None and isinstance(response, web.Response):
        body = response.body if isinstance(response.body, bytes) else b""
        if request.method == "HEAD":
            body = b""
        response.headers[proof.SIGNATURE] = proof.answer_signature(
            proven.key, proven.nonce, response.status, body
        )
        response.headers[proof.NONCE] = challenges.issue()
    return response


async def challenge(edge: Edge, _request: web.BaseRequest, _caller: Caller) -> web.Response:
    """``POST /-/challenge``: a nonce for one signed request."""
    return answer({"nonce": edge.challenges.issue(), "seconds": proof.NONCE_SECONDS})
