"""The production journal, whose writer's work is done on the simulation's one thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from riskmon.journal import Commit, Entry, Journal, Recovered, entries


class Watcher(Protocol):
    """What the simulation sees of a journal."""

    def submitted(self, commit: Commit) -> None:
        """A commit is handed over."""

    def durable(self, commits: list[Commit]) -> None:
        """The disk has these commits."""

    def acknowledged(self, commit: Commit) -> None:
        """The loop is about to see that this commit is durable."""

    def recovered(self, found: list[Entry]) -> None:
        """A start reads these entries."""

    def write_seconds(self) -> float:
        """How long the disk lets a commit wait before it is written, …"""

    def answer_seconds(self) -> float:
        """… and how long its answer takes."""


class _Inline:
    """Stands in for the writer thread at the end: joining it does what it would have done."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def join(self) -> None:
        self._work()


class SimulatedJournal(Journal):
    """Writes when the watcher's disk lets it, in the same order and by the same code."""

    watcher: Watcher  # set on a subclass: the sidecar opens the journal by its class

    def _run(self) -> None:
        """The thread ends at once."""

    def recover(self) -> Recovered:
        recovered = super().recover()
        self.watcher.recovered(list(entries(self._path)))
        return recovered

    def submit(self, commit: Commit, done: Callable[[BaseException | None], None]) -> None:
        self.watcher.submitted(commit)
        super().submit(commit, self._delayed(commit, done))
        self._wake()

    def prune(self, keep_days: float, max_bytes: int) -> None:
        super().prune(keep_days, max_bytes)
        self._wake()

    def close(self, clean: bool) -> None:
        self._thread = _Inline(super()._run)  # type: ignore[assignment]
        super().close(clean)

    def _delayed(
        self, commit: Commit, done: Callable[[BaseException | None], None]
    ) -> Callable[[BaseException | None], None]:
        def answer(error: BaseException | None) -> None:
            if error is None:
                self.watcher.acknowledged(commit)
            done(error)

        def delayed(error: BaseException | None) -> None:
            loop = asyncio.get_event_loop_policy().get_event_loop()
            at = max(loop.time() + self.watcher.answer_seconds(), self._answered_at)
            self._answered_at = at + 1e-6
            loop.call_at(at, answer, error)

        return delayed

    _answered_at = 0.0
    _working: asyncio.TimerHandle | None = None

    def _wake(self) -> None:
        if self._working is None:
            loop = asyncio.get_running_loop()
            self._working = loop.call_later(self.watcher.write_seconds(), self._work)

    def _work(self) -> None:
        self._working = None
        if self._closed or self._jobs.empty() and self._prune is None:
            return
        group, _ = self._next_group()
        if group:
            self._commit(group)
        self._guarded(self._maintain)
        if not self._jobs.empty() or self._prune is not None:
            self._wake()

    def _write(self, group: list[tuple[Commit, Callable[[BaseException | None], None]]]) -> None:
        super()._write(group)
        self.watcher.durable([commit for commit, _ in group])
