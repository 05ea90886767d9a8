"""Tokens: who may call, in which role, until when. Only a token's hash is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any, ClassVar, Literal

from riskmon.core.constraints import refuse

Role = Literal["read", "ingest", "operator"]

_HASH = re.compile(r"sha256:[0-9a-fA-F]{64}\Z")


def token_hash(token: str) -> str:
    """``sha256:…``: what the configuration holds of a token."""
    return "sha256:" + sha256(token.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Token:
    """One who may call. ``hash`` is that of the secret; ``expires`` ends its validity."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: str
    role: Role
    hash: str  # by token_hash()
    expires: datetime | date | None = None  # a date is its first instant, UTC

    def __post_init__(self) -> None:
        expires = self.expires
        refuse(
            (not self.name or not self.name.isprintable(), "name", "must be printable text"),
            (
                not _HASH.match(self.hash),
                "hash",
                "must be `sha256:` and 64 hexadecimal digits: `riskmon token` prints it",
            ),
            (
                isinstance(expires, datetime) and expires.tzinfo is None,
                "expires",
                "must carry a zone, as 2027-01-01T00:00:00Z does, or be a date",
            ),
        )

    @property
    def key(self) -> bytes:
        """The 32 bytes of the hash, which sign requests (:mod:`riskmon.auth.proof`)."""
        return bytes.fromhex(self.hash.partition(":")[2])

    @property
    def expires_ns(self) -> int | None:
        """UTC ns since 1970 from which it is refused."""
        if self.expires is None:
            return None
        if isinstance(self.expires, datetime):
            return int(self.expires.timestamp()) * 10**9
        first = datetime(self.expires.year, self.expires.month, self.expires.day, tzinfo=UTC)
        return int(first.timestamp()) * 10**9
