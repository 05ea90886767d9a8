"""The pending deliveries and their retries. No other module retries."""

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
from riskmon.delivery import Delivery, Status
from riskmon.outbox.target import CancelTarget
from riskmon.outbox.webhook import WHOLE_SECONDS, Attempt, Sender, payload, read_answer

WAITING_MAX = 3  # deliveries of one incident to one target
CANCEL_SECONDS = 0.1  # after which a task is cancelled again
ENDED_MAX = 4_096  # ids of ended deliveries, to ignore a late second `send`

_log = logging.getLogger("riskmon.outbox")


@dataclass(frozen=True, slots=True)
class Schedule:
    """The waits between attempts, independent of the reason of the failure."""

    steps_seconds: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
    steady_seconds: float = 5.0
    steady_for_seconds: float = 300.0
    last_seconds: float = 15.0
    jitter: float = 0.2

    def wait_seconds(self, failures: int, steady_for_seconds: float, spread: float) -> float:
        """Return the wait after the failure with this number, counted from 1.

        ``steady_for_seconds`` is the time since the last of the steps; ``spread``, -1 to 1, is the
        position within the jitter.
        """
        if failures <= len(self.steps_seconds):
            wait = self.steps_seconds[failures - 1]
        elif steady_for_seconds < self.steady_for_seconds:
            wait = self.steady_seconds
        else:
            wait = self.last_seconds
        return wait * (1.0 + self.jitter * spread)


class Observer(Protocol):
    """A recorder of attempts and of the duration of deliveries."""

    def delivery(self, target: str, result: str) -> None:
        """Count an attempt that ended; ``result`` is one of ``RESULTS``."""

    def delivered(self, target: str, seconds: float) -> None:
        """Record the time from the first attempt of a delivery to its 2xx."""


class TargetStats(NamedTuple):
    """The pending deliveries of one target; ``oldest_pending_ns`` is UTC ns, None without any."""

    pending: int
    oldest_pending_ns: int | None


class Drill(NamedTuple):
    """The result of a drill; ``seconds`` from sending to the answer, None without a 2xx."""

    target: str
    ok: bool
    seconds: float | None
    detail: str


@dataclass(slots=True, eq=False)
class _Pending:
    delivery: Delivery
    sender: Sender
    sent_seconds: float  # on the clock of the event loop
    attempts: int = 0  # in this process
    withdrawn: asyncio.Event = field(default_factory=asyncio.Event)


class Outbox:
    """The sender of deliveries. To be created and used on the running event loop.

    ``report`` is called with :class:`CancelSent` when the first attempt of a delivery in this
    process begins, and with :class:`CancelAnswered` at a 2xx. ``settle`` is called once with (id,
    status, attempts), the outcome for the journal, when a delivery is delivered or withdrawn.
    Neither may raise.
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
        """Return a delivery for each target of the sweep, without sending it."""
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
        """Sign the first attempt in advance; :meth:`send` follows once the delivery is durable."""
        sender = self._senders.get(delivery.target)
        if sender is not None:
            sender.sign_ahead(delivery.id, delivery.body)

    def send(self, delivery: Delivery) -> None:
        """Begin the first attempt now. A second call with the same id has no effect.

        When more than ``WAITING_MAX`` sweeps of its incident wait for its target, the oldest is
        withdrawn. A delivery for a target that is not configured stays pending in the journal.
        """
        if delivery.id in self._pending or delivery.id in self._ended:
            return
        sender = self._senders.get(delivery.target)
        if sender is None:
            _log.error(
                "cancel %s is pending for target %s, which is not configured: "
                "add the target again and restart",
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
            oldest.withdrawn.set()
        task = asyncio.create_task(self._deliver(pending), name=f"cancel {delivery.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def withdraw(self, incident: str) -> None:
        """Withdraw the pending deliveries of an incident; an attempt in progress may succeed."""
        for pending in self._pending.values():
            if pending.delivery.incident == incident:
                pending.withdrawn.set()

    async def drain(self, timeout_seconds: float) -> bool:
        """Wait until nothing is pending. Return False at the timeout."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_seconds)
        return not self._pending

    async def close(self) -> None:
        """Stop all attempts. Pending deliveries stay pending in the journal for the next start."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            # The client library loses a cancellation that coincides with one of its timeouts.
            await asyncio.wait(self._tasks, timeout=CANCEL_SECONDS)
        for sender in self._senders.values():
            await sender.close()

    def stats(self) -> Mapping[str, TargetStats]:
        """Return the pending deliveries of each target."""
        waiting: dict[str, list[int]] = {name: [] for name in self._senders}
        for pending in self._pending.values():
            waiting[pending.delivery.target].append(pending.delivery.created_ns)
        return {name: TargetStats(len(at), min(at, default=None)) for name, at in waiting.items()}

    async def drill(self, account: str, timeout_seconds: float = WHOLE_SECONDS) -> list[Drill]:
        """Send one signed drill to every target in parallel; a drill cancels nothing."""
        sweep = Sweep(
            incident=f"drill_{uuid.uuid4().hex}",
            sweep=1,
            generation=0,
            scope="account",
            limit="drill",
            reason="A drill: cancel nothing",
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
                if pending.withdrawn.is_set():
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
                await asyncio.wait_for(pending.withdrawn.wait(), wait)
        self._end(pending, "withdrawn")

    async def _attempt(self, pending: _Pending) -> Attempt:
        one = pending.delivery
        if not pending.attempts:
            self._report(CancelSent(incident=one.incident, sweep=one.sweep, target=one.target))
        attempt = await pending.sender.attempt(one.id, one.body, WHOLE_SECONDS)
        pending.attempts += 1
        if self._observe:
            self._observe.delivery(one.target, attempt.result)
        if attempt.result != "delivered" and pending.attempts == 1:  # logged once
            _log.warning("cancel %s was not delivered (%s): retrying", one.id, attempt.detail)
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
