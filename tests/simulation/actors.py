"""Bots and operators: they outlive the sidecar and repeat what was not acknowledged."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from random import Random

from riskmon.core import events as ev
from riskmon.port import NotDurable, NotReady, QueueFull
from tests.simulation.process import Process
from tests.simulation.truth import Truth

VENUES = ("kraken", "mexc")
SYMBOLS = tuple(f"S{number}/USDT" for number in range(6))
SCOPES = ("account", *(f"venue:{venue}" for venue in VENUES), "symbol:S0/USDT", "strategy:mm0")
FILLS_PER_SYMBOL = 48  # each a power of two, so that a sum identifies its terms
GIVES_UP_SECONDS = 2.0
REFUSALS = (NotDurable, NotReady, QueueFull, TimeoutError)


@dataclass
class Bot:
    """One bot at one venue."""

    number: int
    random: Random
    outstanding: deque[ev.Fill] = field(default_factory=deque)
    fills: int = 0
    calm: bool = False  # reports nothing that trips

    @property
    def venue(self) -> str:
        """The venue that it trades at."""
        return VENUES[self.number % len(VENUES)]

    async def report(self, process: Process, truth: Truth) -> None:
        """Send one batch, with every fill that is not acknowledged yet."""
        batch = self._samples()
        for _ in range(self.random.randrange(3)):
            self._fill()
        fills = list(self.outstanding)[:20]
        batch.extend(fills)
        self.random.shuffle(batch)
        await asyncio.wait_for(process.ingest(batch), GIVES_UP_SECONDS)
        for fill in fills:
            truth.acknowledged_fill(fill)
            self.outstanding.remove(fill)

    def _fill(self) -> None:
        number = self.fills
        self.fills += 1
        if number < FILLS_PER_SYMBOL * 3:
            self.outstanding.append(
                ev.Fill(
                    id=f"b{self.number}-{number}",
                    venue=self.venue,
                    symbol=SYMBOLS[3 * (self.number % 2) + number % 3],
                    side="buy",
                    quantity=2.0 ** (number // 3),
                    price=1e-9,
                    strategy=f"mm{self.number}",
                )
            )

    def _samples(self) -> list[ev.Reported]:
        random, venue = self.random, self.venue
        batch: list[ev.Reported] = [
            ev.Heartbeat(venue=venue, symbol="S0/USDT", strategy=f"mm{self.number}")
        ]
        bad = not self.calm and random.random() < 0.06
        for _ in range(random.randrange(1, 6)):
            seconds = 0.9 if bad else random.uniform(0.001, 0.1)
            batch.append(ev.Latency(venue=venue, seconds=seconds, operation="order"))
        if not self.calm and random.random() < 0.05:
            batch += [ev.Error(venue=venue, operation="order")] * 5
        if random.random() < 0.02:  # applied in pieces
            many = random.choice((600, 1500, 4000))
            batch += [ev.Latency(venue=venue, seconds=0.01)] * many
        return batch

    async def ask(self, process: Process) -> str | None:
        """Check an order; return its scope if it is allowed."""
        order = ev.Check(venue=self.venue, symbol="S0/USDT", side="buy", quantity=1.0, price=1.0)
        answer = await asyncio.wait_for(process.check(order), GIVES_UP_SECONDS)
        return f"venue:{self.venue}" if answer.allowed else None


@dataclass
class Operator:
    """An operator who freezes scopes, and ends freezes and trips."""

    random: Random
    calls: int = 0

    async def freeze(self, process: Process, truth: Truth, scope: str) -> str:
        """Freeze a scope; return the answer as text."""
        self.calls += 1
        reason = f"call {self.calls}"
        call = ev.Operate(action="freeze", scope=scope, reason=reason, registers=True)
        began = truth.loosened.get(scope, 0)
        answer = await asyncio.wait_for(process.operate(call), GIVES_UP_SECONDS)
        if answer.status == 200:
            truth.acknowledged_freeze(scope, reason, began)
        return f"{answer.status} {answer.detail}"

    async def loosen(self, process: Process, truth: Truth, scope: str) -> str:
        """Unfreeze and reset a scope, as far as that is allowed; return the answers as text."""
        self.calls += 1
        told = []
        if scope == "account":
            truth.unheld = None
        truth.frozen.discard(scope)  # from here on it may be in force, or not
        truth.loosened[scope] = truth.loosened.get(scope, 0) + 1
        for action in ("unfreeze", "reset"):
            call = ev.Operate(
                action=action,
                scope=scope,
                reason=f"call {self.calls}",
                generation=(await process.view()).generation,
                force=self.random.random() < 0.1,
            )
            answer = await asyncio.wait_for(process.operate(call), GIVES_UP_SECONDS)
            told.append(f"{action} {answer.status}")
        return ", ".join(told)
