"""One simulation: it depends on its seed alone, and a broken invariant ends it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Literal

from riskmon.core.view import View
from riskmon.gate import Gate
from riskmon.journal import Commit, Entry, JournalError, JournalLost
from riskmon.sidecar.start import CannotStart
from tests.simulation.actors import REFUSALS, SCOPES, Bot, Operator
from tests.simulation.clock import VirtualClock, VirtualLoop
from tests.simulation.configuration import LEASE_SECONDS, configured
from tests.simulation.damage import damage, unsynced_mark
from tests.simulation.disk import Disk, Image, Killed
from tests.simulation.process import Process
from tests.simulation.receivers import MOODS, Receiver
from tests.simulation.truth import LATE_SECONDS, Truth, Violation

TROUBLE_SECONDS = 30.0  # in which faults happen
HEALTHY_SECONDS = 25.0  # after them
LIVES_MAX = 60

Actor = Callable[[], Coroutine[Any, Any, None]]
End = Literal["", "kill", "power"]


class Simulation:
    """The world of one seed. :meth:`run` returns its story, or raises :class:`Violation`."""

    def __init__(self, seed: int, directory: Path, tell: Callable[[str], None]) -> None:
        self.seed, self.random = seed, Random(seed)
        self._tell = tell
        self.state = directory / "state"
        self.clock, self.disk = VirtualClock(), Disk(Random(seed + 1), self.state)
        self.receivers = {name: Receiver(Random(seed + n)) for n, name in enumerate(("oms", "two"))}
        self.bots = [Bot(n, Random(seed * 10 + n)) for n in range(3)]
        self.operator = Operator(Random(seed + 7))
        self.settings = configured(directory, self.random, tuple(self.receivers))
        self.shm = self.settings.gate.parent
        self.truth = Truth(
            int(LEASE_SECONDS * 1e9), cancels_kept=self.settings.on_unclean_start == "cancel"
        )
        with self.clock.installed():
            self.gate = Gate.open(self.settings.gate)
        self.violation: Violation | None = None
        self.trouble_until = TROUBLE_SECONDS
        self.accepts_loss = False
        self.is_damaged = False  # since the latest start
        self.has_one_mark = False  # since the latest start: the other may lack what is needed
        self.mark_versions: list[bytes] = []  # since it was last synced
        self.mark_inode = 0
        self.was_killed = False  # the latest process that let anything trade
        self.copy: Image | None = None  # an earlier copy of the state directory
        self.disk.on_operation = self._on_operation
        self._begin_life()

    def _begin_life(self) -> None:
        self.process: Process | None = None
        self.served_ns = -1  # since when
        self.ended: End = ""
        self.image: Image | None = None
        self.operations_left = -1  # until a kill inside the disk's work
        self.pieces_left = -1  # until a kill inside a batch
        self.has_room = self.disk.has_room  # at all times: whenever the disk is full, the reserve
        self.ends_by: End = "kill"
        self.latency = (0.0002, 0.002)
        self.hangs_until = 0.0

    def token_hex(self, size: int) -> str:
        """An epoch that the seed decides."""
        return self.random.randbytes(size).hex()

    def tell(self, text: str) -> None:
        """Add a line to the story."""
        self._tell(f"{self.clock.seconds:9.4f}  {text.replace(str(self.state.parent), '…')}")

    # -- what the journal shows (:class:`tests.simulation.journal.Watcher`) ------------------------

    def submitted(self, commit: Commit) -> None:
        process = self.process
        assert process is not None
        if self._is_live and process.sequencer is not None:
            engine = process.sequencer.engine
            self._hold(lambda: self.truth.submitted(commit, engine, self.clock.ns))

    def durable(self, commits: list[Commit]) -> None:
        for commit in commits:
            if self._is_live and not commit.clean:
                self._hold(partial(self.truth.durable, commit))
        mark = self.state / "mark"
        if self._is_live and mark.exists():
            inode = mark.stat().st_ino
            known = self.mark_versions[-20:] if inode == self.mark_inode else []
            self.mark_versions, self.mark_inode = [*known, mark.read_bytes()], inode

    def acknowledged(self, commit: Commit) -> None:
        if self._is_live:
            self._hold(lambda: self.truth.acknowledged(commit))

    def failed(self) -> None:
        if self._is_live and self.state.exists():
            self.has_one_mark |= self.disk.hits_marks
            self._hold(lambda: self.truth.failed(has_room=self.has_room))

    def recovered(self, found: list[Entry], lost: str) -> None:
        def check() -> None:
            self.truth.check_lineage(found, lost)
            if lost:
                self.copy = None  # its entries are of another history
            self.truth.restarted(len(found), lost)

        self._hold(check)

    def fsync(self, handle: int) -> None:
        """A sync outside of SQLite; of a mark, it excludes its earlier versions."""
        self.disk.fsync(handle)
        mark = self.state / "mark"
        if self._is_live and mark.exists() and os.path.samestat(os.fstat(handle), mark.stat()):
            self.mark_versions = [mark.read_bytes()]

    def write_seconds(self) -> float:
        wait = self.random.uniform(*self.latency)
        return max(wait, self.hangs_until - self.clock.seconds)

    def answer_seconds(self) -> float:
        return self.write_seconds() if self.random.random() < 0.3 else 0.0

    # -- invariants --------------------------------------------------------------------------------

    @property
    def _is_live(self) -> bool:
        return not self.ended and self.violation is None

    def _hold(self, check: Callable[[], None]) -> None:
        """Run a check whose violation production code must not catch."""
        try:
            check()
        except Violation as violation:
            self.violation = self.violation or violation
            self._stop_loop()

    def each_turn(self) -> None:
        """Check the gate between any two rounds of the event loop."""
        if not self._is_live:
            return
        sequencer = self.process.sequencer if self.process is not None else None
        self.truth.is_at_rest = sequencer is None or sequencer.is_at_rest
        self._hold(lambda: self.truth.check_gate(self.gate, list(SCOPES), self.clock.ns))
        if self.pieces_left >= 0 and not self.truth.is_at_rest:
            self.pieces_left -= 1
            if self.pieces_left < 0:
                self.end(self.ends_by, "inside a batch")

    # -- ends --------------------------------------------------------------------------------------

    def _on_operation(self) -> None:
        if self.operations_left >= 0:
            self.operations_left -= 1
            if self.operations_left < 0 and self._is_live:
                self.end(self.ends_by, "inside the disk's work")
                raise Killed

    def end(self, how: End, where: str = "") -> None:
        """The process ends here; nothing that its objects do from now on has an effect."""
        if self.ended:
            return
        if not self.state.exists():
            how = "kill"  # a loss of power in addition would lose both marks
        self.tell(f"{how} {where}".rstrip())
        self.ended = how
        self.image = Image([self.state, self.shm])
        self.disk.dead = True
        self._stop_loop()

    def _stop_loop(self) -> None:
        with suppress(RuntimeError):
            asyncio.get_running_loop().stop()

    # -- lives -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run a time with faults and a healthy time after it. Raises :class:`Violation`."""
        lives = 0
        while not self._is_over():
            lives += 1
            if lives > LIVES_MAX:
                raise Violation("the sidecar does not stay up")
            self._live()
            if self.violation is not None:
                raise self.violation
            self._stay_down()
        self.tell(f"over after {lives} lives, {self.truth.checks} looks at the gate")

    def _is_over(self) -> bool:
        return self.clock.seconds >= self.trouble_until + HEALTHY_SECONDS

    def _live(self) -> None:
        self._begin_life()
        loop = VirtualLoop(self.clock, self.each_turn)
        loop.set_exception_handler(self._on_exception)
        asyncio.set_event_loop(loop)
        end_ns, status = 0, None
        try:
            status = loop.run_until_complete(self._life())
        except RuntimeError:  # the loop was stopped before its end
            if self._is_live:
                raise
        except Killed:  # inside the last work of an orderly end
            pass
        finally:
            end_ns = self.clock.ns
            self._discard(loop)
            self.clock.ns = end_ns
            asyncio.set_event_loop(None)
        if not self.ended:
            self.tell(f"the process ends with {status}")
        self._after(end_ns)

    def _on_exception(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if self._is_live and not isinstance(error, (*REFUSALS, Killed)):
            violation = Violation(f"{context.get('message')}: {error!r}")
            self.violation = self.violation or violation
            self._stop_loop()

    def _discard(self, loop: VirtualLoop) -> None:
        """Release the resources of the ended process, without any effect."""
        self.operations_left = -1
        while tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            with suppress(RuntimeError):  # stopped once more
                loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        loop.close()

    def _after(self, end_ns: int) -> None:
        # While the account halts no order is placed: the cancel of an earlier start is enough.
        has_traded = self.truth.open_ns.get("account", -1) >= self.served_ns >= 0
        self.was_killed |= has_traded and self.ended != ""
        self.truth.has_failed &= self.ended != "power"  # its note is synced at an orderly end
        self.truth.process_ended(end_ns)
        if self.image is not None:
            self.image.restore()
        self.disk.dead = False
        if self._is_healthy or self.random.random() < 0.6:
            self.disk.mode = "sound"
        if self.ended == "power":
            if self.has_one_mark:
                self.truth.unheld = None
            self._lose_power()
        elif not self._is_healthy:
            self._change_files()

    def _lose_power(self) -> None:
        self.has_one_mark = True
        self.disk.lose_power(self.state)
        unsynced_mark(self.random, self.state / "mark", self.mark_versions)
        for file in (*self.shm.iterdir(), *self.state.glob("*-shm")):
            file.unlink()
        self.clock.reboot()
        self.gate.close()
        self.gate = Gate.open(self.settings.gate)

    def _change_files(self) -> None:
        """Sometimes change the files while no process runs."""
        random = self.random
        is_whole = not (self.is_damaged or self.has_one_mark)
        if random.random() < 0.12 and is_whole and self.state.exists():
            self.is_damaged = True
            self.tell(damage(random, self.state, self.copy))
            for path in self.state.glob("*-shm"):
                path.unlink()
            self.disk.settle()
        elif random.random() < (0.5 if self.truth.unheld else 0.1) and is_whole:
            self.tell("power, while no process runs")
            self._lose_power()
        elif random.random() < 0.1 and is_whole:
            self.tell("a mark is removed")
            gate = self.settings.gate
            mark = random.choice((self.state / "mark", gate.with_name(f".{gate.name}.mark")))
            mark.unlink(missing_ok=True)
            self.is_damaged = True  # the other mark must stay
        elif random.random() < 0.2 and self.state.exists():
            self.copy = Image([self.state])

    def _stay_down(self) -> None:
        until = self.clock.ns + int(self.random.choice((0.0, 0.1, 1.0)) * 1e9)
        while True:
            self.truth.check_gate(self.gate, list(SCOPES), self.clock.ns)
            if self.clock.ns >= until:
                return
            self.clock.ns += int(0.05e9)

    async def _life(self) -> int:
        process = self.process = Process(self.settings, accept_loss=self.accepts_loss)
        actors: list[Actor] = [self._operate, self._watch, self._trouble]
        actors += [partial(self._bot, bot) for bot in self.bots]
        tasks = [asyncio.create_task(self._guarded(actor)) for actor in actors]
        try:
            return await process.run()
        except JournalLost as loss:
            self.tell(f"refuses to start: {loss}")
            if not self.is_damaged:
                self.violation = Violation(f"it refuses to start without a loss: {loss}")
            self.accepts_loss = True  # what the operator does next
            return 2
        except (CannotStart, JournalError) as refusal:
            self.tell(f"refuses to start: {refusal}")
            return 2
        finally:
            for task in tasks:
                task.cancel()

    async def _guarded(self, actor: Actor) -> None:
        """Run an actor; its violations end the simulation."""
        try:
            await actor()
        except Exception as error:
            if self._is_live:
                found = isinstance(error, Violation)
                self.violation = Violation(str(error) if found else f"an actor failed: {error!r}")
                self._stop_loop()

    # -- bots and operators ------------------------------------------------------------------------

    def _serving(self) -> Process | None:
        process = self.process
        return process if process is not None and process.is_serving and self._is_live else None

    @property
    def _is_healthy(self) -> bool:
        return self.clock.seconds >= self.trouble_until

    async def _bot(self, bot: Bot) -> None:
        while True:
            await asyncio.sleep(bot.random.expovariate(6))
            bot.calm = self._is_healthy
            if (process := self._serving()) is None:
                continue
            with suppress(*REFUSALS):
                if bot.random.random() < 0.2:
                    await self._check(bot, process)
                    continue
                await bot.report(process, self.truth)

    async def _check(self, bot: Bot, process: Process) -> None:
        scope = await bot.ask(process)
        if scope is not None and self._is_live:
            self._hold(lambda: self.truth.check_allowed(scope, self.clock.ns))

    async def _operate(self) -> None:
        random = self.operator.random
        while True:
            await asyncio.sleep(random.expovariate(0.7))
            if (process := self._serving()) is None:
                continue
            shut = sorted(self._shut_by_operator(process))
            with suppress(*REFUSALS):
                if self._is_healthy or (shut and random.random() < 0.6):
                    for scope in shut:
                        told = await self.operator.loosen(process, self.truth, scope)
                        self.tell(f"operator loosens {scope}: {told}")
                else:
                    scope = random.choice(SCOPES)
                    told = await self.operator.freeze(process, self.truth, scope)
                    self.tell(f"operator freezes {scope}: {told}")

    def _shut_by_operator(self, process: Process) -> set[str]:
        assert process.sequencer is not None
        return {
            one.scope
            for one in process.sequencer.engine.view().breakers
            if one.state in ("open", "frozen") and one.recovers == "by an operator"
        }

    async def _watch(self) -> None:
        """Check a start once, then its cancels each second; end a healthy time."""
        while (process := self._serving()) is None:  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.001)
        self.accepts_loss = self.is_damaged = self.has_one_mark = False
        self.tell(f"serving; level {(await process.view()).level}")
        assert process.sequencer is not None
        engine, was_killed = process.sequencer.engine, self.was_killed
        self._hold(lambda: self.truth.check_start(engine, was_killed))
        self.served_ns, self.was_killed = self.clock.ns, False
        began = self.clock.seconds
        while True:
            await asyncio.sleep(1.0)
            if self._serving() is not process:
                return
            view = await process.view()
            if self.clock.seconds - began > LATE_SECONDS:
                self._hold(partial(self._check_tries, view))
            if self._is_over():
                self._hold(partial(self._check_end, view))
                self.tell("healthy to the end")
                process.stop_in_order()
                return

    def _check_tries(self, view: View) -> None:
        for cancel in view.cancel:
            for target, state in cancel.targets.items():
                tried = self.receivers[target].attempted_at.get(cancel.incident, 0.0)
                quiet = self.clock.seconds - tried
                if state != "confirmed" and quiet > LATE_SECONDS:
                    raise Violation(f"the cancel of {cancel.incident} at {target} is not tried")

    def _check_end(self, view: View) -> None:
        """Check that after a healthy time everything is open, and every cancel has arrived."""
        if view.level != "allow":
            shut = [(b.limit, b.scope, b.state) for b in view.breakers if b.state != "closed"]
            raise Violation(f"the account is at {view.level} after a healthy while: {shut}")
        unconfirmed = [one.incident for one in view.cancel if not one.confirmed]
        if unconfirmed:
            raise Violation(f"cancels are unconfirmed after a healthy while: {unconfirmed}")
        owed = self.truth.owed({name: one.taken_at for name, one in self.receivers.items()})
        if owed:
            raise Violation(f"cancels never arrived: {owed}")

    # -- faults ------------------------------------------------------------------------------------

    async def _trouble(self) -> None:
        random = self.random
        while not self._is_healthy:
            await asyncio.sleep(random.expovariate(0.6))
            if self._is_healthy:
                break
            random.choice(self._faults())()
            for receiver in self.receivers.values():
                receiver.mood = "prompt" if random.random() < 0.3 else receiver.mood
        for receiver in self.receivers.values():
            receiver.mood = "prompt"
        self.disk.mode, self.latency, self.hangs_until = "sound", (0.0002, 0.002), 0.0

    def _faults(self) -> list[Callable[[], None]]:
        return [
            self._kill, self._kill, self._kill_in_disk, self._kill_in_disk, self._stop,
            self._kill_in_batch, self._slow_disk, self._hang_disk, self._fail_disk, self._set_clock,
            self._receiver, self._receiver, self._receiver, self._lose_gate, self._lose_state,
        ]  # fmt: skip

    def _kill(self) -> None:
        self.end(self.random.choice(("kill", "kill", "power")))

    def _kill_in_disk(self) -> None:
        self.ends_by = self.random.choice(("kill", "power"))
        self.operations_left = self.random.randrange(40)

    def _kill_in_batch(self) -> None:
        self.ends_by = self.random.choice(("kill", "power"))
        self.pieces_left = self.random.randrange(6)

    def _stop(self) -> None:
        if (process := self._serving()) is not None:
            self.tell("asked to stop")
            process.stop_in_order()

    def _slow_disk(self) -> None:
        longest = self.random.choice((0.002, 0.05, 0.3, 1.0))
        self.tell(f"the disk takes up to {longest} s")
        self.latency = (0.0002, longest)

    def _hang_disk(self) -> None:
        seconds = self.random.uniform(0.5, 5.0)
        self.tell(f"the disk hangs for {seconds:.1f} s")
        self.hangs_until = self.clock.seconds + seconds

    def _fail_disk(self) -> None:
        self.tell(self.disk.fail(self.random))
        self.has_room &= self.disk.has_room

    def _lose_gate(self) -> None:
        self.tell("the gate file is removed")
        self.settings.gate.unlink(missing_ok=True)

    def _lose_state(self) -> None:
        if self._serving() is not None and not self.is_damaged and self.random.random() < 0.3:
            self.tell("the state directory is removed")
            self.is_damaged = True
            shutil.rmtree(self.state)

    def _receiver(self) -> None:
        name = self.random.choice(sorted(self.receivers))
        self.receivers[name].mood = self.random.choice(MOODS)
        self.tell(f"receiver {name}: {self.receivers[name].mood}")

    def _set_clock(self) -> None:
        seconds = self.random.choice((-3600, -5, 5, 3600, 90_000))
        self.tell(f"the wall clock moves by {seconds} s")
        self.clock.wall_offset_ns += seconds * 10**9
