"""A value that cannot be determined, with the reason."""

from __future__ import annotations

from math import ceil
from typing import final

from msgspec import Struct

AGE = "{age}"


@final
class Unknown(Struct, frozen=True, gc=False):
    """Takes the place of a value. ``reason`` states what is missing, then the cure.

    ``last_ns`` is when a value that is too old was reported, in engine time: ``reason`` holds
    ``AGE`` where its age belongs.
    """

    reason: str
    last_ns: int | None = None

    def text(self, now_ns: int) -> str:
        """The reason, with the age at ``now_ns``."""
        if self.last_ns is None:
            return self.reason
        return self.reason.replace(AGE, f"{ceil((now_ns - self.last_ns) / 1e9)}", 1)
