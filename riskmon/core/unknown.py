"""A value that cannot be determined, with the reason."""

from __future__ import annotations

from typing import final

from msgspec import Struct


@final
class Unknown(Struct, frozen=True, gc=False):
    """Takes the place of a value. ``reason`` states what is missing, then the cure."""

    reason: str
