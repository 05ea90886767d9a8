"""The loop: shut the gate first, then write, then answer; open nothing before it is written.

One turn takes what has come in, steps the engine, and tightens the gate at once. Inputs, decisions
and cancels then go to the journal's writer thread as one commit. Only when that is on the disk is
the gate loosened and the senders answered. A cancel does not wait for a slow disk: its first
attempt starts when the commit returns, or 20 ms after the breach without it.

The thread that renews the lease is the thread that runs the engine, so a hang of this thread lets
the lease lapse. :meth:`Sequencer.withheld` decides whether the lease is renewed, and gives the
reason when it is not: an order that is checked meanwhile is refused, and every view of the engine
shows halt.

A turn takes requests until it has done ``PIECE_WORK``, a few milliseconds of the engine's work. A
request that is more work than that is applied in pieces, and other callbacks of the event loop run
between them: connections are served and the lease is renewed, but at most for one lease from the
start of the turn. Nothing else enters the engine before the request is applied; readers of the
engine wait for that (:meth:`Sequencer.at_rest`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import cast

from riskmon.core import events as ev
from riskmon.core.admission import TooManyScopes
from riskmon.core.checks import checked_scopes
from riskmon.core.decisions import Answer, CheckAnswer, Decision, Outcome, Sweep, Withdraw
from riskmon.core.engine import Engine
from riskmon.core.view import Withheld
from riskmon.delivery import Status
from riskmon.gate_writer import GateWriter
from riskmon.journal import Commit, Entry, Journal, JournalError, Unencodable, encoded
from riskmon.metrics import Recorder
from riskmon.outbox.queue import Outbox
from riskmon.outbox.target import CancelTarget
from riskmon.port import Accepted, NotDurable, QueueFull, Unwritable
from riskmon.sequencer.grants import Grants, after_failure, without_room
from riskmon.sequencer.turn import Request, Snapshots, Turn
from riskmon.system.clock import Clock, boot_ns

PIECE_WORK = 256  # units of the engine's work in one piece: 1 to 4 ms
OBSERVED_AT_ONCE = 1_024  # events that are counted in one piece
QUEUE_EVENTS = 200_000  # accepted and not durable yet
RENEWALS_PER_LEASE = 20
CANCEL_WAIT_SECONDS = 0.02  # a cancel waits so long for its commit
CANCELS_FIRST_SECONDS = 0.001  # a delay of answers and log lines, which take as long as a cancel
LAST_CANCELS_SECONDS = 2.0  # for the cancels under way, when the disk has failed
TURN_SHARE = 32  # a turn takes no further request after this fraction of the journal's bytes


class Sequencer:
    """Runs an engine. Use it on one event loop only.

    ``on_failure`` is called once, with the error, when nothing more can be written; the gate is
    already shut. ``publish`` gets every decision once it is durable.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        gate: GateWriter,
        clock: Clock,
        recorder: Recorder,
        *,
        targets: Sequence[CancelTarget],
        last_seq: int,
        lease_seconds: float,
        journal_bytes: int = 2_000_000_000,
        on_failure: Callable[[BaseException], None],
        publish: Callable[[Decision], None],
    ) -> None:
        self.engine, self.journal = engine, journal
        self.clock, self.recorder = clock, recorder
        self._on_failure, self._publish = on_failure, publish
        self.outbox = Outbox(targets, self._report, settle=self._settle, observe=recorder)
        self._loop = asyncio.get_running_loop()
        self._grants = Grants(gate, lease_seconds)
        self._seq = last_seq
        self._calls: deque[Request] = deque()  # of operators; taken before all others
        self._inbox: deque[Request] = deque()
        self._queued_events = 0
        self._turns: deque[Turn] = deque()  # submitted and not durable
        self._turn: Turn | None = None  # being applied, in pieces
        self._pieces: Iterator[None] = iter(())
        self._rest = asyncio.Event()  # set while no request is partly applied
        self._rest.set()
        self._unanswered: deque[Turn] = deque()  # durable, their senders not answered yet
        self._outcomes: list[tuple[str, Status, int]] = []
        self._turn_due: asyncio.Handle | None = None
        self._renewal: asyncio.TimerHandle | None = None
        self._durable_version = -1  # of the engine's levels
        self._cancel_arrived_ns: dict[str, int] = {}  # incident -> arrival of its cause
        self._journal_bytes = journal_bytes
        self._snapshots = Snapshots(journal_bytes)
        self._checks: set[asyncio.Future[Outcome]] = set()  # waiting for an answer
        self._opened = self._stopping = self._stopped = False
        self.failed: BaseException | None = None

    # -- what comes in ----------------------------------------------------------------------------

    async def ingest(self, events: Sequence[ev.Event]) -> Accepted:
        """Apply a batch; return when it is durable. Raises as :class:`riskmon.port.Port` does."""
        outcome = await self._take(events)
        return Accepted(
            accepted=len(events) - outcome.duplicates,
            duplicates=outcome.duplicates,
            generation=self.engine.generation,
            lease=self._grants.ns / 1e9,
            levels=self._grants.encoded() if self.withheld() is None else self._grants.halted(),
        )

    async def ask(self, call: ev.Check | ev.Operate) -> Answer:
        """Check an order, or execute an operator's call; without a lease an order is refused."""
        if not isinstance(call, ev.Check):
            done = await self._take([call], self._calls)
            return done.answers[0]
        if (why := self.withheld()) is not None:
            raise NotDurable(why.detail)
        waiter = self._take([call])
        self._checks.add(waiter)
        waiter.add_done_callback(self._checks.discard)
        outcome = await waiter
        return outcome.answers[0]

    async def step(self, events: Sequence[ev.Event]) -> Outcome:
        """Apply events of the sidecar itself; return when they are durable."""
        return await self._take(events, self._inbox)

    def _take(
        self, events: Sequence[ev.Event], queue: deque[Request] | None = None
    ) -> asyncio.Future[Outcome]:
        """Queue a request; without a ``queue`` it is bounded by ``QUEUE_EVENTS``."""
        if self.failed is not None or self._stopped:
            raise NotDurable("nothing can be written: the sidecar is stopping")
        if queue is None and self._queued_events + len(events) > QUEUE_EVENTS:
            raise QueueFull(f"{self._queued_events} events wait to be written: slow down")
        try:
            data = encoded(events)  # before the engine is stepped, so that a fault has no effect
        except Unencodable as fault:
            raise Unwritable(str(fault)) from None
        waiter: asyncio.Future[Outcome] = self._loop.create_future()
        self._put(Request(events, boot_ns(), waiter, encoded=data), queue)
        return waiter

    def _put(self, request: Request, queue: deque[Request] | None = None) -> None:
        (self._inbox if queue is None else queue).append(request)
        self._queued_events += len(request.events)
        self._schedule_turn()

    def _schedule_turn(self) -> None:
        if self._turn_due is None and not self._stopped:
            self._turn_due = self._loop.call_soon(self._run_turn)

    async def at_rest(self) -> Engine:
        """The engine, once no request is partly applied."""
        while not self._rest.is_set():
            await self._rest.wait()
        return self.engine

    @property
    def is_at_rest(self) -> bool:
        """Whether no request is partly applied."""
        return self._rest.is_set()

    def _report(self, event: ev.CancelSent | ev.CancelAnswered) -> None:
        if isinstance(event, ev.CancelSent):
            arrived_ns = self._cancel_arrived_ns.pop(event.incident, None)
            if arrived_ns is not None:
                self.recorder.breach_to_cancel((boot_ns() - arrived_ns) / 1e9)
            # The attempt is sent in the next few steps of the event loop; a turn would delay it.
            self._loop.call_later(CANCELS_FIRST_SECONDS, self._put, Request([event], boot_ns()))
        else:
            self._put(Request([event], boot_ns()))

    def _settle(self, delivery_id: str, status: Status, attempts: int) -> None:
        self._outcomes.append((delivery_id, status, attempts))
        self._schedule_turn()

    # -- one turn ---------------------------------------------------------------------------------

    def _run_turn(self) -> None:
        """Run a turn, or its next piece."""
        self._turn_due = None
        if self.failed is not None or self._stopped:
            return
        try:
            if self._turn is None:
                self._turn = Turn([], Commit(), began_ns := boot_ns(), began_ns)
                self._pieces = self._applied(self._turn)
            if self._advance():
                self._turn = None
        except BaseException as error:  # a broken invariant
            self.end_with(error)
            raise
        if self._calls or self._inbox or self._turn is not None:
            self._schedule_turn()

    def _advance(self) -> bool:
        """Run the next piece of the turn; whether it was the last."""
        for _ in self._pieces:
            self._rest.clear()
            return False
        self._rest.set()
        return True

    def _applied(self, turn: Turn) -> Iterator[None]:
        """Apply a turn, in pieces."""
        wall_ns, now_ns = time.time_ns(), self.clock.now_ns()
        work = PIECE_WORK
        room = self._journal_bytes // TURN_SHARE
        while work > 0 and room > 0 and (request := self._next(turn, now_ns)) is not None:
            turn.requests.append(request)
            room -= len(request.encoded)
            step = self.engine.begin(request.events, now_ns=now_ns, wall_ns=wall_ns)
            try:
                while (outcome := step.advance(work)) is None:
                    yield
                    work = PIECE_WORK
            except TooManyScopes as refusal:
                self._refuse(turn, refusal)
                continue
            finally:
                work -= step.work
            request.outcome = outcome
            self._seq += 1
            turn.commit.entries.append(
                Entry(self._seq, now_ns, wall_ns, request.events, request.encoded)
            )
            turn.commit.decisions.extend(outcome.decisions)
            turn.events += len(request.events)
            turn.arrived_ns = min(turn.arrived_ns, request.arrived_ns)
            yield from self._observed(request.events)
        self._tighten(turn)
        self._prepare_cancels(turn)
        self._write(turn)
        self.recorder.cycle((boot_ns() - turn.began_ns) / 1e9, wall_ns)

    def _next(self, turn: Turn, now_ns: int) -> Request | None:
        """The next request of a turn; a tick when only a timer is due."""
        if queue := self._calls or self._inbox:
            return queue.popleft()
        if not turn.requests and self.engine.next_deadline_ns <= now_ns:
            self._queued_events += 1
            return Request([ev.Tick()], boot_ns())
        return None

    def _refuse(self, turn: Turn, refusal: TooManyScopes) -> None:
        """Refuse the last request of a turn, which names more scopes than there is room for."""
        request = turn.requests.pop()
        self._queued_events -= len(request.events)
        request.refuse(refusal)

    def _observed(self, events: Sequence[ev.Event]) -> Iterator[None]:
        """Count a request's events, in pieces."""
        for begin in range(0, len(events), OBSERVED_AT_ONCE):
            if begin:
                yield
            self.recorder.observe(events[begin : begin + OBSERVED_AT_ONCE])

    def _tighten(self, turn: Turn) -> None:
        """Lower the levels of the gate now; higher ones wait for the commit."""
        engine = self.engine
        last = self._turns[-1].version if self._turns else self._durable_version
        turn.version = engine.levels_version
        if turn.version != last:
            turn.levels = dict(engine.levels)
            self._grants.tighten(turn.levels, engine.generation)

    def _prepare_cancels(self, turn: Turn) -> None:
        decisions = turn.commit.decisions
        turn.sweeps = [decision for decision in decisions if isinstance(decision, Sweep)]
        turn.commit.withdraw = [d.incident for d in decisions if isinstance(d, Withdraw)]
        if not turn.sweeps:
            return
        now_ns, account = boot_ns(), self.engine.config.account
        for sweep in turn.sweeps:
            turn.commit.deliveries.extend(self.outbox.deliveries(sweep, account))
            if sweep.sweep == 1:
                self._cancel_arrived_ns[sweep.incident] = turn.arrived_ns
                self.recorder.breach_to_gate((now_ns - turn.arrived_ns) / 1e9)
        self._loop.call_later(CANCEL_WAIT_SECONDS, self._send, turn)

    def _send(self, turn: Turn) -> None:
        """Start the cancels of a turn; the outbox ignores those that it has already."""
        if not self._stopped:
            for delivery in turn.commit.deliveries:
                if not self._is_withdrawn(delivery.incident):
                    self.outbox.send(delivery)

    def _is_withdrawn(self, incident: str) -> bool:
        return any(incident in turn.commit.withdraw for turn in self._turns)

    # -- durable ----------------------------------------------------------------------------------

    def _write(self, turn: Turn) -> None:
        turn.commit.outcomes, self._outcomes = self._outcomes, []
        self._answer_checks(turn)
        if not turn.commit.entries and not turn.commit.outcomes:
            return
        now_ns = boot_ns()
        if self._snapshots.is_due(turn, now_ns):
            turn.commit.snapshot = self.engine.snapshot()
            self._snapshots.took(len(turn.commit.snapshot), now_ns)
        turn.submitted_ns = boot_ns()
        self._turns.append(turn)

        def done(error: BaseException | None) -> None:  # on the writer thread
            self._loop.call_soon_threadsafe(self._written, turn, error)

        self.journal.submit(turn.commit, done)
        for delivery in turn.commit.deliveries:
            self.outbox.prepare(delivery)  # while the disk works

    def _answer_checks(self, turn: Turn) -> None:
        """A check is answered before it is durable, unless a loosening is still being written."""
        if turn.version != self._durable_version or self.withheld() is not None:
            return
        for request in turn.requests:
            if request.check is not None:
                request.answer()

    def _written(self, turn: Turn, error: BaseException | None) -> None:
        if error is not None:
            self.end_with(error)
            return
        self._turns.popleft()
        self._queued_events -= turn.events
        self.recorder.commit((boot_ns() - turn.submitted_ns) / 1e9)
        self._send(turn)
        for incident in turn.commit.withdraw:
            self.outbox.withdraw(incident)
        self._loosen(turn)
        self._unanswered.append(turn)
        if turn.sweeps:
            self._loop.call_later(CANCELS_FIRST_SECONDS, self._answer_durable)
        elif len(self._unanswered) == 1:
            self._answer_durable()

    def _answer_durable(self) -> None:
        """Answer the senders of durable turns and publish their decisions, in order."""
        if (why := self.withheld()) is not None:
            self._refuse_checks(why.detail)
        while self._unanswered:
            turn = self._unanswered.popleft()
            self._refuse_shut(turn)
            for request in turn.requests:
                request.answer()
            for decision in turn.commit.decisions:
                self._publish(decision)

    def _refuse_shut(self, turn: Turn) -> None:
        """Refuse the orders of a turn whose scopes a later turn shut while they waited."""
        for request in turn.requests:
            order = request.check
            if order is None or order.simulate or not request.is_waiting:
                continue
            answer = cast("CheckAnswer", cast("Outcome", request.outcome).answers[0])
            if answer.allowed and not self._grants.grants(answer, checked_scopes(order)):
                request.refuse(NotDurable("shut while the check waited: ask again"))

    def _loosen(self, turn: Turn) -> None:
        """Raise the levels that a durable turn raised, unless a later turn lowered them."""
        self._durable_version = turn.version
        if turn.levels is not None:
            later = (later.levels for later in self._turns if later.levels is not None)
            self._grants.loosen(turn.levels, later)
            self._renew()

    # -- the lease --------------------------------------------------------------------------------

    def open(self) -> None:
        """Start to renew the lease; to be called once the start is durable."""
        self._opened = True
        self._keep_lease()

    def withheld(self) -> Withheld | None:
        """Why the lease is not renewed; None while it is."""
        if self.failed is not None:
            return after_failure(self.failed)
        if self._stopping:
            return Withheld(reason="stop", detail="the sidecar is stopping")
        if self.journal.out_of_room:
            return without_room(self.journal.out_of_room)
        if not self._opened:
            return Withheld(reason="start", detail="the start is not written yet")
        if (stalled := self.stalled_seconds()) * 1e9 > self._grants.ns:
            detail = f"the disk has not answered for {stalled:.1f} s"
            return Withheld(reason="storage", detail=detail)
        if self._turn is not None and boot_ns() - self._turn.began_ns > self._grants.ns:
            return Withheld(reason="storage", detail="a batch is being applied and is not written")
        return None

    def _keep_lease(self) -> None:
        if self._stopped or self.failed is not None:
            return
        if self.journal.out_of_room:
            self._end_for_room()
            return
        self._renewal = self._loop.call_later(
            self._grants.ns / 1e9 / RENEWALS_PER_LEASE, self._keep_lease
        )
        if self._turn is None and self.engine.next_deadline_ns <= self.clock.now_ns():
            self._run_turn()
        self._renew()

    def _renew(self) -> None:
        if (why := self.withheld()) is not None:
            self._refuse_checks(why.detail)
            return
        self._grants.renew(self.engine.generation)
        self.recorder.last_cycle_ns = time.time_ns()

    def _refuse_checks(self, detail: str) -> None:
        """Refuse the orders that wait: permission would outlive the lease."""
        for waiter in list(self._checks):
            if not waiter.done():
                waiter.set_exception(NotDurable(detail))

    def stalled_seconds(self) -> float:
        """How long the oldest commit has taken so far."""
        return (boot_ns() - self._turns[0].submitted_ns) / 1e9 if self._turns else 0.0

    # -- the end ----------------------------------------------------------------------------------

    def _end_for_room(self) -> None:
        """Shut the gate and end in order: decisions until then still fit on the disk."""
        detail = without_room(self.journal.out_of_room).detail
        self._grants.shut()
        self._refuse_checks(detail)
        self._on_failure(JournalError(detail))

    def end_with(self, error: BaseException) -> None:
        """Shut the gate and end: nothing more can be written, or the engine is broken."""
        if self.failed is not None or self._stopped:
            return
        self.failed = error
        self._grants.shut()
        self._answer_durable()
        turns = [*self._turns, *([self._turn] if self._turn is not None else [])]
        waiting = [request for turn in turns for request in turn.requests]
        self._rest.set()
        for request in (*waiting, *self._calls, *self._inbox):
            request.refuse(NotDurable(after_failure(error).detail))
        for turn in self._turns:  # a cancel that cannot be written can still be sent
            self._send(turn)
        self._on_failure(error)

    async def stop(self, *, cancel: bool) -> None:
        """Shut the gate, write what came in, and with ``cancel`` send the last cancels."""
        self._stopping = True
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None
        self._grants.shut()
        with suppress(NotDurable):
            await self.step([ev.Stop(cancel=cancel)])
            if cancel:
                await self._send_last()
                await self.step([ev.Tick()])  # commits are in order: all before it is durable
        if self.failed is not None:
            if cancel:
                self._cancel_unwritten()
            await self.outbox.drain(LAST_CANCELS_SECONDS)
        self._stopped = True
        await self.outbox.close()

    def _cancel_unwritten(self) -> None:
        """Send the cancel of a stop that cannot be written: there may be no next start."""
        account = self.engine.config.account
        with suppress(Exception):  # a broken engine may fail again
            outcome = self.engine.step(
                [ev.Stop(cancel=True)], now_ns=self.clock.now_ns(), wall_ns=time.time_ns()
            )
            for sweep in outcome.decisions:
                if isinstance(sweep, Sweep):
                    for delivery in self.outbox.deliveries(sweep, account):
                        self.outbox.send(delivery)

    async def _send_last(self) -> None:
        """Wait for both sweeps of the stop's cancel, for a few seconds at most."""
        deadline = self._loop.time() + self._grants.ns / 1e9 + 5
        while self._loop.time() < deadline and self.engine.awaits_cancels:
            await asyncio.sleep(0.01)
            self._schedule_turn()

    def last_commit(self) -> Commit:
        """The last commit of an orderly end: the state as it is."""
        return Commit(outcomes=self._outcomes, snapshot=self.engine.snapshot())
