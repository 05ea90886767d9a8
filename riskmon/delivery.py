"""A cancel on its way to one target: the outbox makes and sends it, the journal keeps it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Status = Literal["pending", "delivered", "withdrawn"]


class Delivery(Struct, frozen=True):
    """One sweep's cancel for one target. ``id`` is the webhook-id, ``created_ns`` UTC ns."""

    id: str
    incident: str
    sweep: int
    target: str
    scope: str
    body: bytes
    created_ns: int
    status: Status = "pending"
    attempts: int = 0
