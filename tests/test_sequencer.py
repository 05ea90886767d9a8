"""Nothing opens a gate before it is on the disk: the sequencer over a disk that can be held."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from riskmon.core import events as ev
from riskmon.core.admission import TooManyScopes
from riskmon.core.decisions import CheckAnswer, OperateAnswer
from riskmon.core.engine import Engine
from riskmon.gate import Gate, Level
from riskmon.gate_writer import GateWriter
from riskmon.journal import Commit, Journal, JournalError, Unencodable
from riskmon.metrics import Recorder
from riskmon.port import NotDurable, QueueFull, Unwritable
from riskmon.sequencer import Sequencer
from riskmon.sequencer import sequencer as sequencer_module
from riskmon.system.clock import Clock, boot_ns

Done = Callable[[BaseException | None], None]


class Disk:
    """A journal that makes each commit durable on demand."""

    out_of_room = ""

    def __init__(self) -> None:
        self._waiting: deque[Done] = deque()

    def submit(self, _: Commit, done: Done) -> None:
        self._waiting.append(done)

    @property
    def waits(self) -> bool:
        """Whether a commit is not durable yet."""
        return bool(self._waiting)

    async def complete(self, fault: BaseException | None = None) -> None:
        """Make the oldest commit durable, or let it fail, and run the sequencer."""
        self._waiting.popleft()(fault)
        await turns()


async def turns() -> None:
    """Run the event loop for a few steps."""
    for _ in range(5):
        await asyncio.sleep(0)


class Running:
    """A sequencer over a slow disk, and a reader of its gate."""

    def __init__(self, path: Path, lease_seconds: float = 60) -> None:
        self.disk, self.failed = Disk(), list[BaseException]()
        self.file = GateWriter.create(path, max_scopes=50, longest_lease_ns=60 * 10**9, epoch=1)
        self.gate = Gate.open(path)
        self.sequencer = Sequencer(
            Engine(),
            cast("Journal", self.disk),
            self.file,
            Clock(0),
            Recorder(),
            targets=[],
            last_seq=0,
            lease_seconds=lease_seconds,
            on_failure=self.failed.append,
            publish=lambda _: None,
        )

    async def start(self) -> None:
        """Begin, and open the gate."""
        await self.take(self.sequencer.step([ev.Start(epoch="e")]))
        await self.disk.complete()
        self.sequencer.open()

    async def take(self, call: Any) -> asyncio.Task[Any]:
        """Begin a call that waits for the disk."""
        task: asyncio.Task[Any] = asyncio.ensure_future(call)
        await turns()
        return task


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[[], Running]]:
    made: list[Running] = []

    def make() -> Running:
        made.append(Running(tmp_path / "gate"))
        return made[-1]

    yield make
    for one in made:
        one.gate.close()
        one.file.close()


def operate(action: Any, generation: int | None = None) -> ev.Operate:
    """An operator's call over the account."""
    return ev.Operate(action=action, scope="account", reason="a test", generation=generation)


ORDER = ev.Check(venue="a", symbol="BTC/USDT", side="buy", quantity=1, price=1)


async def test_a_full_queue_refuses_no_operator(running: Callable[[], Running]) -> None:
    """With no room left for events, a freeze is taken, before what waits, and the end too."""
    now = running()
    await now.start()
    beats = [ev.Heartbeat(venue="a")] * (sequencer_module.QUEUE_EVENTS // 4)
    batches = [asyncio.ensure_future(now.sequencer.ingest(beats)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await now.sequencer.ingest([ev.Heartbeat(venue="a")])
    freeze = asyncio.ensure_future(now.sequencer.ask(operate("freeze")))
    stop = asyncio.ensure_future(now.sequencer.step([ev.Stop(cancel=False)]))
    while not freeze.done():
        await asyncio.sleep(0)
        while now.disk.waits:
            await now.disk.complete()
    assert isinstance(answer := await freeze, OperateAnswer)
    assert answer.generation == 1
    assert sum(batch.done() for batch in batches) < 4
    for task in (*batches, stop):
        task.cancel()


async def test_a_commit_opens_only_what_it_holds(running: Callable[[], Running]) -> None:
    """A scope that a later batch names stays shut until that batch is durable too."""
    now = running()
    await now.start()
    first = await now.take(now.sequencer.ingest([ev.Heartbeat(venue="a")]))
    second = await now.take(now.sequencer.ingest([ev.Heartbeat(venue="b")]))
    assert not now.gate.allows(venue="a")
    await now.disk.complete()
    assert now.gate.allows(venue="a")
    assert now.gate.level(venue="b") is Level.HALT
    told = json.loads(bytes(first.result().levels))
    assert (told["venue:a"], told["venue:b"]) == ("allow", "halt")
    assert not second.done()
    await now.disk.complete()
    assert now.gate.allows(venue="b")
    assert second.done()


async def test_it_shuts_before_it_writes_and_opens_after(running: Callable[[], Running]) -> None:
    """A freeze takes effect immediately; an unfreeze only when it is durable."""
    now = running()
    await now.start()
    frozen = await now.take(now.sequencer.ask(operate("freeze")))
    assert now.gate.level() is Level.HALT
    assert not frozen.done()
    await now.take(now.sequencer.ask(operate("unfreeze", generation=1)))
    assert now.gate.level() is Level.HALT
    await now.disk.complete()
    assert cast("OperateAnswer", frozen.result()).status == 200
    assert now.gate.level() is Level.HALT
    await now.disk.complete()
    assert now.gate.level() is Level.ALLOW


async def test_a_shut_between_two_openings_holds(running: Callable[[], Running]) -> None:
    """A durable opening does not open what a later, unwritten freeze shut and reopened."""
    now = running()
    await now.start()
    for call in (operate("freeze"), operate("unfreeze", 1), operate("freeze")):
        await now.take(now.sequencer.ask(call))
    await now.take(now.sequencer.ask(operate("unfreeze", generation=3)))
    await now.disk.complete()
    await now.disk.complete()
    assert now.gate.level() is Level.HALT  # the second freeze is written next
    await now.disk.complete()
    assert now.gate.level() is Level.HALT
    await now.disk.complete()
    assert now.gate.level() is Level.ALLOW


async def test_a_failed_commit_shuts_and_answers_everyone(running: Callable[[], Running]) -> None:
    """Waiting and later callers get an error that nothing is written."""
    now = running()
    await now.start()
    waiting = [await now.take(now.sequencer.ingest([ev.Heartbeat(venue=v)])) for v in "ab"]
    await now.disk.complete(OSError("the disk is gone"))
    assert [str(error) for error in now.failed] == ["the disk is gone"]
    assert now.gate.level() is Level.HALT
    for call in waiting:
        with pytest.raises(NotDurable, match="the disk is gone"):
            call.result()
    with pytest.raises(NotDurable):
        await now.sequencer.ingest([ev.Heartbeat()])


async def test_a_check_that_waits_is_refused_with_the_lease(tmp_path: Path) -> None:
    """A commit older than a lease: the check behind it, and each later one, is never allowed."""
    now = Running(tmp_path / "gate", lease_seconds=0.1)
    try:
        await now.start()
        assert now.sequencer.withheld() is None
        await now.take(now.sequencer.ingest([ev.Heartbeat(venue="a")]))
        waiting = await now.take(now.sequencer.ask(ORDER))
        assert not waiting.done()
        await asyncio.wait([waiting], timeout=5)
        with pytest.raises(NotDurable, match="the disk has not answered"):
            waiting.result()
        with pytest.raises(NotDurable, match="the disk has not answered"):
            await now.sequencer.ask(ORDER)
        withheld = now.sequencer.withheld()
        assert withheld is not None
        assert withheld.reason == "storage"
        await now.disk.complete()
        await now.disk.complete()
        assert now.sequencer.withheld() is None
        assert cast("CheckAnswer", await now.sequencer.ask(ORDER)).allowed
    finally:
        now.gate.close()
        now.file.close()


async def test_a_check_that_waits_is_refused_when_its_scope_is_shut(
    running: Callable[[], Running],
) -> None:
    """A freeze that comes while a check waits for its commit: the check is not allowed."""
    now = running()
    await now.start()
    await now.take(
        now.sequencer.ingest([ev.Heartbeat(venue="b")])
    )  # what it opens delays the check
    checks = [await now.take(now.sequencer.ask(ORDER)) for _ in range(2)]
    await now.disk.complete()
    await now.disk.complete()
    assert cast("CheckAnswer", checks[0].result()).allowed
    await now.take(now.sequencer.ask(operate("freeze")))
    assert now.gate.level() is Level.HALT
    await now.disk.complete()
    with pytest.raises(NotDurable, match="shut while the check waited"):
        checks[1].result()


async def test_before_it_opens_and_after_it_stops_the_lease_is_withheld(
    running: Callable[[], Running],
) -> None:
    """A start that is not written, a stop and a failure each have their reason."""
    now = running()

    def reason() -> str | None:
        withheld = now.sequencer.withheld()
        return None if withheld is None else withheld.reason

    assert reason() == "start"
    await now.start()
    assert reason() is None
    stopping = await now.take(now.sequencer.stop(cancel=False))
    assert reason() == "stop"
    await now.disk.complete(JournalError("the disk is gone"))
    await stopping
    assert reason() == "storage"


async def test_nothing_enters_between_the_pieces_of_a_batch(
    running: Callable[[], Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later requests and reads wait for the whole batch; the lease is renewed for one lease."""
    monkeypatch.setattr(sequencer_module, "PIECE_WORK", 1)
    now = running()
    await now.start()
    batch = [ev.Error(venue="a", operation=str(n)) for n in range(500)]
    first = await now.take(now.sequencer.ingest(batch))
    second = await now.take(now.sequencer.ingest([ev.Heartbeat(venue="b")]))
    read = await now.take(now.sequencer.at_rest())
    assert "venue:a" in now.sequencer.engine.levels  # it is applied in part
    assert not now.sequencer.is_at_rest
    assert not read.done()
    assert now.sequencer.withheld() is None
    with monkeypatch.context() as later:
        later.setattr(sequencer_module, "boot_ns", lambda: boot_ns() + 61 * 10**9)
        assert now.sequencer.withheld() is not None
    while not now.sequencer.is_at_rest:
        assert "venue:b" not in now.sequencer.engine.levels
        await asyncio.sleep(0)
    await turns()
    assert read.done()
    assert not first.done()  # it is applied and not durable
    for _ in range(2):
        await now.disk.complete()
    assert (first.result().accepted, second.result().accepted) == (500, 1)
    assert now.sequencer.engine.levels["venue:a"] == 0


async def test_a_refused_batch_changes_nothing(
    running: Callable[[], Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that names too much is refused before any of it is applied, also in pieces."""
    monkeypatch.setattr(sequencer_module, "PIECE_WORK", 1)
    now = running()
    await now.start()
    before = now.sequencer.engine.snapshot()
    batch = [ev.Heartbeat(venue=f"v{n}") for n in range(5_000)]
    with pytest.raises(TooManyScopes):
        await now.sequencer.ingest(batch)
    assert now.sequencer.engine.snapshot() == before


async def test_a_value_that_cannot_be_written_is_refused_before_it_acts(
    running: Callable[[], Running],
) -> None:
    """A freeze with a number over 64 bits shuts nothing, and ends nothing."""
    now = running()
    await now.start()
    with pytest.raises(Unwritable, match="cannot be written"):
        await now.sequencer.ask(operate("freeze", generation=2**64))
    assert now.gate.level() is Level.ALLOW
    assert now.sequencer.engine.generation == 0
    assert now.failed == []
    frozen = await now.take(now.sequencer.ask(operate("freeze")))
    await now.disk.complete()
    assert cast("OperateAnswer", frozen.result()).status == 200


async def test_a_fault_of_encoding_is_not_a_fault_of_the_disk(
    running: Callable[[], Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decision that cannot be encoded is a broken invariant: shut, and reported as such."""
    now = running()
    await now.start()

    def submit(_: Commit, done: Done) -> None:
        raise Unencodable("a decision cannot be written: Integer value out of range")

    monkeypatch.setattr(now.disk, "submit", submit)
    waiting = asyncio.ensure_future(now.sequencer.ingest([ev.Heartbeat(venue="a")]))
    with pytest.raises(
        NotDurable, match="riskmon has failed and is stopping: a decision cannot be"
    ):
        await waiting
    assert now.gate.level() is Level.HALT
    assert [type(error) for error in now.failed] == [Unencodable]
    withheld = now.sequencer.withheld()
    assert withheld is not None
    assert withheld.reason == "stop"


async def test_a_failure_after_the_end_touches_nothing(running: Callable[[], Running]) -> None:
    """A fault that is found after an orderly stop leaves the gate alone, which is closed then."""
    one = running()
    await one.start()
    stop = await one.take(one.sequencer.stop(cancel=False))
    await one.disk.complete()
    await stop
    one.file.close()
    one.sequencer.end_with(OSError("the disk failed at the very end"))
    assert one.failed == []
    assert one.sequencer.failed is None
