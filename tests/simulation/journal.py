"""The production journal with its writer's work on the thread of the simulation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property
from typing import Protocol

from riskmon.journal import Commit, Entry, Journal, Recovered, entries
from riskmon.journal.commit import Rows

Done = Callable[[BaseException | None], None]


class Watcher(Protocol):
    """The simulation's view of a journal."""

    def submitted(self, commit: Commit) -> None:
        """A commit is handed over."""

    def durable(self, commits: list[Commit]) -> None:
        """The disk has these commits."""

    def acknowledged(self, commit: Commit) -> None:
        """The sequencer is about to be notified that this commit is durable."""

    def recovered(self, found: list[Entry], lost: str) -> None:
        """A start reads these entries; ``lost`` is the loss that it accepts."""

    def failed(self) -> None:
        """A write failed: nothing is written from here on."""

    def write_seconds(self) -> float:
        """How long the disk lets a commit wait before it is written, …"""

    def answer_seconds(self) -> float:
        """… and how long its answer takes."""


class _Inline:
    """Replaces the writer thread at the end: its join does the remaining work."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def join(self) -> None:
        self._work()


class SimulatedJournal(Journal):
    """A journal that writes when the watcher's disk permits, in the same order, by its own code."""

    watcher: Watcher  # set on a subclass: the sidecar opens the journal by its class
    _answered_at = 0.0
    _working: asyncio.TimerHandle | None = None

    @cached_property
    def _waiting(self) -> dict[Done, Commit]:
        """The commits that are not durable, by their callbacks."""
        return {}

    def _run(self) -> None:
        """End the thread immediately."""

    def recover(self) -> Recovered:
        recovered = super().recover()
        self.watcher.recovered(list(entries(self._path)), recovered.lost)
        return recovered

    def submit(self, commit: Commit, done: Done) -> None:
        self.watcher.submitted(commit)
        delayed = self._delayed(commit, done)
        self._waiting[delayed] = commit
        super().submit(commit, delayed)
        self._wake()

    def prune(self, keep_days: float, max_bytes: int) -> None:
        super().prune(keep_days, max_bytes)
        self._wake()

    def check_files(self, done: Done) -> None:
        super().check_files(done)
        self._wake()

    def close(self, clean: bool) -> None:
        self._thread = _Inline(super()._run)  # type: ignore[assignment]
        super().close(clean)

    def _end(self, fault: BaseException) -> None:
        super()._end(fault)
        self.watcher.failed()

    def _delayed(self, commit: Commit, done: Done) -> Done:
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

    def _wake(self) -> None:
        if self._working is None:
            loop = asyncio.get_running_loop()
            self._working = loop.call_later(self.watcher.write_seconds(), self._work)

    def _work(self) -> None:
        """Do the thread's work until its queue is empty."""
        self._working = None
        if not self._closed:
            self._jobs.put(None)
            super()._run()
            if self._is_pruning:
                self._wake()

    def _commit(self, group: list[tuple[Rows, Done]]) -> list[tuple[Rows, Done]]:
        rest = super()._commit(group)
        written = [done for _, done in group[: len(group) - len(rest)]]
        commits = [self._waiting.pop(done) for done in written if done in self._waiting]
        if self._failure is None:
            self.watcher.durable(commits)
        return rest
