"""The verification of signed requests, and the signature of their answers."""

from __future__ import annotations

from typing import NamedTuple

from aiohttp import web

from riskmon.auth import proof
from riskmon.auth.tokens import Token
from riskmon.web.access import Authorizer, Caller, unauthorized
from riskmon.web.challenges import Challenges
from riskmon.web.context import Context
from riskmon.web.problems import answer


class Signer(NamedTuple):
    """The token that signed a request, its key, and the nonce for the signature of the answer."""

    token: Token
    key: bytes
    nonce: str


def verify(
    request: web.BaseRequest, authorizer: Authorizer, challenges: Challenges
) -> Signer | None:
    """Return the signer of a request; None if it is not signed. Raises :class:`Problem` (401).

    The signature is verified before the nonce is used, so that only a signer can use up nonces. The
    body is compared with its signed digest when it is read.
    """
    headers = request.headers
    if proof.SIGNATURE not in headers:
        return None
    known = authorizer.by_key_id(headers.get(proof.KEY, ""))
    if known is None or not proof.signs_request(
        known[0], headers, request.method, request.raw_path
    ):
        raise unauthorized("the request is not signed by a known token")
    key, token = known
    nonce = headers[proof.NONCE]
    challenges.use(nonce)
    return Signer(token, key, nonce)


def sign(
    request: web.BaseRequest,
    response: web.StreamResponse,
    signer: Signer | None,
    challenges: Challenges,
) -> web.StreamResponse:
    """Sign the answer to a signed request and add a nonce for the next one; return the answer."""
    if signer is not None and isinstance(response, web.Response):
        body = response.body if isinstance(response.body, bytes) else b""
        if request.method == "HEAD":
            body = b""
        response.headers[proof.SIGNATURE] = proof.answer_signature(
            signer.key, signer.nonce, response.status, body
        )
        response.headers[proof.NONCE] = challenges.issue()
    return response


async def challenge(context: Context, _request: web.BaseRequest, _caller: Caller) -> web.Response:
    """Answer ``POST /-/challenge`` with a nonce for one signed request."""
    return answer({"nonce": context.challenges.issue(), "seconds": proof.NONCE_SECONDS})
