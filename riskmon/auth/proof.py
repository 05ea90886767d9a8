"""Requests and answers that are signed with a token, which is never sent: for TCP without TLS.

``POST /-/challenge`` returns a nonce for one request within 10 s. The request identifies its token
by ``Riskmon-Key`` and carries ``Riskmon-Signature``, an HMAC-SHA256 over its direction, the nonce,
the method, the path with its query, and the SHA-256 of the body in ``Riskmon-Digest``. The answer
is signed over its own direction, the same nonce, the status and the SHA-256 of its body. The key of
the HMAC is the SHA-256 of the token, which is the value in the sidecar's configuration.

Bots import this module, so it imports only the standard library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest
from hmac import digest as hmac_digest
from typing import TypeGuard

CHALLENGE_PATH = "/-/challenge"
NONCE_SECONDS = 10

KEY = "Riskmon-Key"
NONCE = "Riskmon-Nonce"  # in a request its own nonce, in an answer the nonce of the next request
DIGEST = "Riskmon-Digest"
SIGNATURE = "Riskmon-Signature"

_NONCE = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")


class Unsigned(ConnectionError):
    """An answer is not signed with the token; its content is not used."""

    def __init__(self, url: str, status: int) -> None:
        super().__init__(
            f"the answer of {url} (status {status}) is not signed with the token: another program "
            "answers there, or the sidecar does not have this token"
        )


def key_of(token: str) -> bytes:
    """Return the key of a token, 32 bytes."""
    return sha256(token.encode()).digest()


def key_id(key: bytes) -> str:
    """Return the public identifier of a key, which does not reveal it."""
    return sha256(key).hexdigest()[:16]


def body_digest(body: bytes) -> str:
    """Return the value of ``Riskmon-Digest`` for a body."""
    return sha256(body).hexdigest()


def nonce_in(body: bytes) -> str | None:
    """Return the nonce in the answer to a challenge, None without one."""
    try:
        nonce = json.loads(body)["nonce"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return nonce if is_nonce(nonce) else None


def is_nonce(nonce: object) -> TypeGuard[str]:
    """Whether the value has the form of a nonce and can be sent in a header."""
    return isinstance(nonce, str) and _NONCE.match(nonce) is not None


def request_headers(key: bytes, nonce: str, method: str, path: str, body: bytes) -> dict[str, str]:
    """Return the headers that sign a request; ``path`` includes the query, as it is sent."""
    digest = body_digest(body)
    signature = _signature(key, "request", nonce, method, path, digest)
    return {KEY: key_id(key), NONCE: nonce, DIGEST: digest, SIGNATURE: signature}


def signs_request(key: bytes, headers: Mapping[str, str], method: str, path: str) -> bool:
    """Whether the headers sign a request with ``key``.

    The caller compares ``Riskmon-Digest`` with the body.
    """
    nonce, digest = headers.get(NONCE, ""), headers.get(DIGEST, "")
    expected = _signature(key, "request", nonce, method, path, digest)
    return is_nonce(nonce) and _same(expected, headers.get(SIGNATURE, ""))


def answer_signature(key: bytes, nonce: str, status: int, body: bytes) -> str:
    """Return the ``Riskmon-Signature`` of an answer."""
    return _signature(key, "response", nonce, str(status), body_digest(body))


def signs_answer(key: bytes, signature: str, nonce: str, status: int, body: bytes) -> bool:
    """Whether the signature is that of the answer to the request with this nonce."""
    return _same(answer_signature(key, nonce, status, body), signature)


def _signature(key: bytes, direction: str, *parts: str) -> str:
    # A header or a request line cannot contain a line feed, so the parts are unambiguous.
    text = "\n".join((f"riskmon {direction} 1", *parts))
    return hmac_digest(key, text.encode("utf-8", "surrogateescape"), "sha256").hex()


def _same(expected: str, given: str) -> bool:
    return compare_digest(expected.encode(), given.encode("utf-8", "surrogateescape"))
