"""What waits for delivery, and when it is tried again: the one place that retries."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from riskmon.core.decisions import Sweep
from riskmon.core.events import CancelAnswered, CancelSent
from riskmon.journal import Delivery, Status
from riskmon.outbox.target import CancelTarget
from riskmon.outbox.webhook import WHOLE_SECONDS, Attempt, Sender, payload, read_answer

WAITING_MAX = 3  # deliveries of one incident to one target
CANCEL_SECONDS = 0.1  # after which a task is cancelled again
ENDED_MAX = 4_096  # ids remembered, so that a late second `send` of one is known

_log = logging.getLogger("riskmon.outbox")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Waits between attempts, in seconds, whatever the reason of the failure."""

    steps_seconds: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
    steady_seconds: float = 5.0
    steady_for_seconds: float = 300.0
    last_seconds: float = 15.0
    jitter: float = 0.2

    def wait_seconds(self, failures: int, steady_for_seconds: float, spread: float) -> float:
        """The wait after the failure with this number, counted from 1.

        ``steady_for_seconds`` is the time since the steps were used up; ``spread``, -1 to 1, moves
        the wait within the jitter.
        """
        if failures <= len(self.steps_seconds):
            wait = self.steps_seconds[failures - 1]
        elif steady_for_seconds < self.steady_for_seconds:
            wait = self.steady_seconds
        else:
            wait = self.last_seconds
        return wait * (1.0 + self.jitter * spread)


class Observer(Protocol):
    """Who counts attempts and the time that deliveries take."""

    def delivery(self, target: str, result: str) -> None:
        """One attempt ended; ``result`` is one of ``RESULTS``."""

    def delivered(self, target: str, seconds: float) -> None:
        """A target took a delivery this long after it was sent."""


class TargetStats(NamedTuple):
    """What waits for one target; ``oldest_pending_ns`` is UTC ns, None when nothing waits."""

    pending: int
    oldest_pending_ns: int | None


class Drill(NamedTuple):
    """What became of a drill: ``seconds`` from sending to the answer, None without a 2xx."""

    target: str
    ok: bool
    seconds: float | None
    detail: str


@dataclass(slots=True, eq=False)
class _Pending:
    delivery: Delivery
    sender: Sender
    sent_seconds: float  # on the loop's clock
    attempts: int = 0  # of this process
    unwanted: asyncio.Event = field(default_factory=asyncio.Event)


class Outbox:
    """Sends deliveries until they are taken. Build and use it on the running loop.

    ``report`` gets :class:`CancelSent` as the first attempt of a delivery in this process begins,
    and :class:`CancelAnswered` on a 2xx. ``settle`` gets (id, status, attempts) once, when a
    delivery ends as delivered or withdrawn: the journal's outcome. Neither may raise.
    """

    def __init__(
        self,
        targets: Sequence[CancelTarget],
        report: Callable[[CancelSent | CancelAnswered], None],
        *,
        settle: Callable[[str, Status, int], None] | None = None,
        observe: Observer | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        self._senders = {target.name: Sender(target) for target in targets}
        self._report, self._settle, self._observe = report, settle, observe
        self._schedule = schedule or Schedule()
        self._pending: dict[str, _Pending] = {}
        self._waiting: dict[tuple[str, str], list[_Pending]] = {}  # by incident and target
        self._ended: dict[str, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def deliveries(self, sweep: Sweep, account: str) -> list[Delivery]:
        """One for each of the sweep's targets; nothing is sent yet."""
        markets = {name: sender.target.markets for name, sender in self._senders.items()}
        return [
            Delivery(
                id=f"{sweep.incident}_{sweep.sweep}_{target}",
                incident=sweep.incident,
                sweep=sweep.sweep,
                target=target,
                scope=sweep.scope,
                body=payload(sweep, account, markets.get(target, "all")),
                created_ns=time.time_ns(),
            )
            for target in sweep.targets
        ]

    def prepare(self, delivery: Delivery) -> None:
        """Do now what the first attempt can be spared: :meth:`send` follows when it is durable."""
        sender = self._senders.get(delivery.target)
        if sender is not None:
            sender.sign_ahead(delivery.id, delivery.body)

    def send(self, delivery: Delivery) -> None:
        """Begin the first attempt now. The same id again changes nothing, even after its end.

        When more than ``WAITING_MAX`` sweeps of its incident wait for its target, the oldest is
        withdrawn. A target that is not configured leaves it pending in the journal.
        """
        if delivery.id in self._pending or delivery.id in self._ended:
            return
        sender = self._senders.get(delivery.target)
        if sender is None:
            _log.error(
                "cancel %s waits for target %s, which is not configured: add it again and restart",
                *(delivery.id, delivery.target),
            )
            return
        pending = _Pending(delivery, sender, asyncio.get_running_loop().time())
        self._pending[delivery.id] = pending
        waiting = self._waiting.setdefault((delivery.incident, delivery.target), [])
        waiting.append(pending)
        if len(waiting) > WAITING_MAX:
            oldest = min(waiting, key=lambda one: one.delivery.sweep)
            waiting.remove(oldest)
            oldest.unwanted.set()
        task = asyncio.create_task(self._deliver(pending), name=f"cancel {delivery.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def withdraw(self, incident: str) -> None:
        """End the attempts for an incident; one under way may finish, and count."""
        for pending in self._pending.values():
            if pending.delivery.incident == incident:
                pending.unwanted.set()

    async def drain(self, timeout_seconds: float) -> bool:
        """Wait until nothing is pending; False when that takes longer."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_seconds)
        return not self._pending

    async def close(self) -> None:
        """Stop all attempts. What is pending stays so in the journal, for the next start."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            # The client library loses a cancel that coincides with a timeout of its own.
            await asyncio.wait(self._tasks, timeout=CANCEL_SECONDS)
        for sender in self._senders.values():
            await sender.close()

    def stats(self) -> Mapping[str, TargetStats]:
        """What waits for each target now."""
        waiting: dict[str, list[int]] = {name: [] for name in self._senders}
        for pending in self._pending.values():
            waiting[pending.delivery.target].append(pending.delivery.created_ns)
        return {name: TargetStats(len(at), min(at, default=None)) for name, at in waiting.items()}

    async def drill(self, account: str, timeout_seconds: float = WHOLE_SECONDS) -> list[Drill]:
        """Send a signed drill to every target at once, and once; nothing is cancelled by it."""
        sweep = Sweep(
            incident=f"drill_{uuid.uuid4().hex}",
            sweep=1,
            generation=0,
            scope="account",
            limit="drill",
            reason="A drill: nothing is to be cancelled",
            at_ns=time.time_ns(),
            cancels="all",
            flatten=False,
            targets=tuple(self._senders),
        )
        drills = [_drill(one, sweep, account, timeout_seconds) for one in self._senders.values()]
        return await asyncio.gather(*drills)

    async def _deliver(self, pending: _Pending) -> None:
        clock = asyncio.get_running_loop().time
        steady_from = 0.0
        while True:
            async with pending.sender.slots:
                if pending.unwanted.is_set():
                    break
                attempt = await self._attempt(pending)
            if attempt.result == "delivered":
                self._answered(pending, attempt)
                return
            if pending.attempts <= len(self._schedule.steps_seconds) + 1:
                steady_from = clock()
            wait = self._schedule.wait_seconds(
                pending.attempts, clock() - steady_from, random.uniform(-1, 1)
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(pending.unwanted.wait(), wait)
        self._end(pending, "withdrawn")

    async def _attempt(self, pending: _Pending) -> Attempt:
        one = pending.delivery
        if not pending.attempts:
            self._report(CancelSent(incident=one.incident, sweep=one.sweep, target=one.target))
        attempt = await pending.sender.attempt(one.id, one.body, WHOLE_SECONDS)
        pending.attempts += 1
        if self._observe:
            self._observe.delivery(one.target, attempt.result)
        if attempt.result != "delivered" and pending.attempts == 1:  # the same news once
            _log.warning("cancel %s is not delivered yet: %s; retrying", one.id, attempt.detail)
        return attempt

    def _answered(self, pending: _Pending, attempt: Attempt) -> None:
        one, answer = pending.delivery, read_answer(attempt.body)
        seconds = asyncio.get_running_loop().time() - pending.sent_seconds
        _log.info("cancel %s delivered, attempt %d, %.4f s", one.id, pending.attempts, seconds)
        if self._observe:
            self._observe.delivered(one.target, seconds)
        done = answer.status == "done" and answer.open_orders == 0
        self._report(
            CancelAnswered(
                incident=one.incident,
                sweep=one.sweep,
                target=one.target,
                done=done or pending.sender.target.confirm == "delivery",
                canceled=answer.canceled,
                open_orders=answer.open_orders,
            )
        )
        self._end(pending, "delivered")

    def _end(self, pending: _Pending, status: Status) -> None:
        one = pending.delivery
        del self._pending[one.id]
        key = (one.incident, one.target)
        if left := [other for other in self._waiting.pop(key, []) if other is not pending]:
            self._waiting[key] = left
        self._ended[one.id] = None
        if len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]
        if self._settle:
            self._settle(one.id, status, one.attempts + pending.attempts)


async def _drill(sender: Sender, sweep: Sweep, account: str, timeout_seconds: float) -> Drill:
    name = sender.target.name
    body = payload(sweep, account, sender.target.markets, "drill")
    began = time.perf_counter()
    attempt = await sender.attempt(f"{sweep.incident}_{name}", body, timeout_seconds)
    seconds = time.perf_counter() - began
    ok = attempt.result == "delivered"
    return Drill(name, ok, seconds if ok else None, attempt.detail)
