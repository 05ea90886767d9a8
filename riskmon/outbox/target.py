"""A cancel target, as ``[[cancel]]`` configures it."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from annotated_types import MinLen

from riskmon.core.constraints import TABLE, UsedOnce, must

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}\Z")


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # Reading the attribute `port` raises ValueError for an invalid port.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_webhook_secret(secret: str) -> bool:
    prefix, _, encoded = secret.partition("_")
    try:
        return prefix == "whsec" and 24 <= len(b64decode(encoded, validate=True)) <= 64
    except ValueError:
        return False


_Secret = Annotated[
    str,
    must(
        _is_webhook_secret,
        "must be `whsec_` and 24 to 64 bytes in base64\n"
        'make one with `echo "whsec_$(openssl rand -base64 32)"`',
    ),
]


@dataclass(frozen=True, kw_only=True)
class CancelTarget:
    """A receiver of cancels. Each of ``secret`` signs, so that a new one can be rotated in."""

    __pydantic_config__: ClassVar[dict[str, bool | str]] = TABLE

    # in metrics and logs
    name: Annotated[str, must(_NAME.match, "must be 1 to 40 of A-Z a-z 0-9 _ . -"), UsedOnce()]
    # where the webhook is sent
    url: Annotated[str, must(_is_url, "must be an http:// or https:// address")]
    # `whsec_…`; or `secret_file`, a file with one on each line
    secret: Annotated[tuple[_Secret, ...], MinLen(1)] = field(repr=False)
    markets: Literal["spot", "perp", "all"] = "all"  # which orders to cancel: passed on
    confirm: Literal["answer", "delivery"] = "answer"  # what confirms a cancel
