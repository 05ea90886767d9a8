"""Tokens: who may call, in which role, until when. Only a token's hash is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Annotated, ClassVar, Literal

from riskmon.core.constraints import TABLE, UsedOnce, must

Role = Literal["read", "ingest", "operator"]

_HASH = re.compile(r"sha256:[0-9a-fA-F]{64}\Z")


def token_hash(token: str) -> str:
    """``sha256:…``: what the configuration holds of a token."""
    return "sha256:" + sha256(token.encode()).hexdigest()


def _is_printable(name: str) -> bool:
    return bool(name) and name.isprintable()


def _has_zone(expires: datetime | date | None) -> bool:
    return not isinstance(expires, datetime) or expires.tzinfo is not None


@dataclass(frozen=True, kw_only=True)
class Token:
    """The token of a caller. ``hash`` is its SHA-256; ``expires`` ends its validity."""

    __pydantic_config__: ClassVar[dict[str, bool | str]] = TABLE

    # names the caller in the audit trail
    name: Annotated[str, must(_is_printable, "must be printable text"), UsedOnce()]
    role: Role  # what it may do
    # the SHA-256 of the token
    hash: Annotated[
        str,
        must(_HASH.match, "must be `sha256:` and 64 hexadecimal digits\n`riskmon token` prints it"),
    ]
    expires: Annotated[
        datetime | date | None,
        must(_has_zone, "must carry a zone, as 2027-01-01T00:00:00Z does, or be a date"),
    ] = None  # a date is its first instant, UTC

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
