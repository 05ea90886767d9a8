"""Nonces for signed requests, each for one use."""

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
_RANDOM_BYTES, _TAG_BYTES = 18, 16  # 42 bytes with the end: no padding in base64


class Challenges:
    """Nonces, each for one request within 10 s.

    One that is issued is not stored, so that any number takes no memory: it carries its end and a
    tag of a key that lives as long as this process. Only used ones are stored, until they end, and
    only the holder of a token can use one.
    """

    def __init__(self, clock_ns: Callable[[], int] = boot_ns) -> None:
        self._clock_ns = clock_ns
        self._key = secrets.token_bytes(32)
        self._used: set[bytes] = set()
        self._ends: deque[tuple[int, bytes]] = deque()  # in the order of use

    def issue(self) -> str:
        """A new nonce."""
        content = (self._clock_ns() + _VALID_NS).to_bytes(8) + secrets.token_bytes(_RANDOM_BYTES)
        return base64.urlsafe_b64encode(content + self._tag(content)).decode()

    def use(self, nonce: str) -> None:
        """Use a nonce up. Raises :class:`Problem` for one that ended, was used or is not ours."""
        now_ns = self._clock_ns()
        while self._ends and self._ends[0][0] <= now_ns:
            self._used.discard(self._ends.popleft()[1])
        try:
            content = base64.urlsafe_b64decode(nonce)
        except ValueError:
            content = b""
        content, tag = content[:-_TAG_BYTES], content[-_TAG_BYTES:]
        end_ns, random = int.from_bytes(content[:8]), content[8:]
        if not hmac.compare_digest(tag, self._tag(content)) or end_ns <= now_ns:
            raise unauthorized(f"the nonce has ended: POST {CHALLENGE_PATH} gives another")
        if random in self._used:
            raise unauthorized("the nonce was used: each is for one request")
        if len(self._used) >= _USED_MAX:
            raise Problem("queue_full", "too many signed requests", headers={"Retry-After": "1"})
        self._used.add(random)
        # It cannot end later than one that is issued now.
        self._ends.append((now_ns + _VALID_NS, random))

    def _tag(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")[:_TAG_BYTES]
