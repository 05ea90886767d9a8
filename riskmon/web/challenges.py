"""Nonces for signed requests; each is valid for one request."""

from __future__ import annotations

import base64
import hmac
import secrets
from collections import deque
from collections.abc import Callable

from riskmon.auth.proof import CHALLENGE_PATH, NONCE_SECONDS
from riskmon.system.clock import boot_ns
from riskmon.web.access import unauthorized
from riskmon.web.problems import Problem

_VALID_NS = NONCE_SECONDS * 1_000_000_000
_USED_MAX = 65_536
_RANDOM_BYTES, _TAG_BYTES = 18, 16  # with the expiry 42 bytes, which need no padding in base64


class Challenges:
    """Issues nonces and verifies that each is used once, within 10 s.

    An issued nonce is not stored, so that no number of them takes memory: it contains its expiry
    and a tag by a key of this process. Used nonces are stored until they expire; only the holder of
    a token can use one.
    """

    def __init__(self, clock_ns: Callable[[], int] = boot_ns) -> None:
        self._clock_ns = clock_ns
        self._key = secrets.token_bytes(32)
        self._used: set[bytes] = set()
        self._expiries: deque[tuple[int, bytes]] = deque()  # in the order of use

    def issue(self) -> str:
        """Return a new nonce."""
        content = (self._clock_ns() + _VALID_NS).to_bytes(8) + secrets.token_bytes(_RANDOM_BYTES)
        return base64.urlsafe_b64encode(content + self._tag(content)).decode()

    def use(self, nonce: str) -> None:
        """Use a nonce. Raises :class:`Problem` if it has expired, was used or was not issued."""
        now_ns = self._clock_ns()
        while self._expiries and self._expiries[0][0] <= now_ns:
            self._used.discard(self._expiries.popleft()[1])
        try:
            content = base64.urlsafe_b64decode(nonce)
        except ValueError:
            content = b""
        content, tag = content[:-_TAG_BYTES], content[-_TAG_BYTES:]
        expiry_ns, random = int.from_bytes(content[:8]), content[8:]
        if not hmac.compare_digest(tag, self._tag(content)) or expiry_ns <= now_ns:
            raise unauthorized(f"the nonce has expired: POST {CHALLENGE_PATH} returns a new one")
        if random in self._used:
            raise unauthorized("the nonce was already used: each is valid for one request")
        if len(self._used) >= _USED_MAX:
            raise Problem("queue_full", "too many signed requests", headers={"Retry-After": "1"})
        self._used.add(random)
        # It cannot expire later than one that is issued now.
        self._expiries.append((now_ns + _VALID_NS, random))

    def _tag(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")[:_TAG_BYTES]
