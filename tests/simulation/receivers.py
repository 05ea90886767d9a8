"""Receivers of cancels, and the sender that replaces the network between them and the outbox."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import msgspec

from riskmon.outbox.target import CancelTarget
from riskmon.outbox.webhook import Attempt, classify

Mood = Literal["prompt", "slow", "down", "late", "refusing", "lying", "forgetful"]
MOODS: tuple[Mood, ...] = ("prompt", "slow", "down", "late", "refusing", "lying", "forgetful")
DONE = msgspec.json.encode({"status": "done", "canceled": 1, "open_orders": 0})
LIE = b'{"status":"done","open_orders":"none"}'


@dataclass
class Receiver:
    """An OMS. ``taken_at`` is when a webhook-id first arrived whole, in simulated seconds."""

    random: Random
    mood: Mood = "prompt"
    taken_at: dict[str, float] = field(default_factory=dict)
    attempted_at: dict[str, float] = field(default_factory=dict)  # incident -> latest attempt

    async def post(self, delivery_id: str, incident: str) -> Attempt:
        """Make one attempt, with the delays and failures of a network."""
        loop, random = asyncio.get_running_loop(), self.random
        self.attempted_at[incident] = loop.time()
        mood = self.mood
        if mood == "down":
            raise ConnectionRefusedError("simulated")
        await asyncio.sleep(random.uniform(0.0005, 0.01))
        if mood == "slow":
            await asyncio.sleep(random.uniform(0.1, 1.5))
        if mood == "refusing":
            return Attempt(classify(503), "HTTP 503")
        self.taken_at.setdefault(delivery_id, loop.time())
        if mood == "late":
            await asyncio.sleep(random.uniform(1.0, 10.0))
        if mood == "forgetful":  # it cancels, and its answer is lost
            raise ConnectionResetError("simulated")
        return Attempt("delivered", "HTTP 200", LIE if mood == "lying" else DONE)


class SimulatedSender:
    """Stands in for `riskmon.outbox.webhook.Sender`: the same slots and results, no sockets."""

    receivers: dict[str, Receiver]  # set on a subclass: the outbox makes its senders itself

    def __init__(self, target: CancelTarget) -> None:
        self.target = target
        self.slots = asyncio.Semaphore(100)

    async def attempt(self, delivery_id: str, body: bytes, whole_seconds: float) -> Attempt:
        incident = msgspec.json.decode(body)["incident"]
        try:
            async with asyncio.timeout(whole_seconds):
                return await self.receivers[self.target.name].post(delivery_id, incident)
        except Exception as error:  # as the production sender: fails by its result
            return Attempt(classify(error), f"{type(error).__name__}: {error}")

    def sign_ahead(self, delivery_id: str, body: bytes) -> None:
        """Do nothing: simulated deliveries are not signed."""

    async def close(self) -> None:
        """Do nothing: no connection is open."""
