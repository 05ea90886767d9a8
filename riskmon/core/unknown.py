"""A value that cannot be determined, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import final

AGE = "{age}"


@final
@dataclass(frozen=True, slots=True)
class Unknown:
    """Takes the place of a value. ``reason`` states what is missing, then the cure.

    ``last_ns`` is when a value that is too old was reported, in engine time: ``reason`` holds
    ``AGE`` where its age belongs. It is no Struct: ``isinstance`` of a class with a metaclass takes
    twice as long, and nearly every value is checked.
    """

    reason: str
    last_ns: int | None = None

    def text(self, now_ns: int) -> str:
        """The reason, with the age at ``now_ns``."""
        if self.last_ns is None:
            return self.reason
        return self.reason.replace(AGE, f"{ceil((now_ns - self.last_ns) / 1e9)}", 1)
