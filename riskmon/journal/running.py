"""The journal of a running sidecar: one thread writes, others read."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple, TypeVar

import msgspec

from riskmon.core.decisions import Record
from riskmon.journal.commit import Commit, Delivery, Entry, Rows, rows_of
from riskmon.journal.file import JOURNAL_NAME, JournalError, explained, open_reader, take
from riskmon.journal.mark import Marks, mark_paths
from riskmon.journal.pruning import Prune
from riskmon.journal.reading import entries_since, newest_snapshot
from riskmon.journal.reserve import Reserve
from riskmon.journal.writer import Writer

_GROUP_MAX = 1_024  # commits in one transaction

_log = logging.getLogger("riskmon.journal")
_decode_record = msgspec.json.Decoder(Record).decode


class Recovered(NamedTuple):
    """What a start finds: the newest sound snapshot and, read as one goes, the entries after it.

    ``unclean``: the last run did not end in order. ``last_now_ns`` and ``last_seq`` are those of
    the newest entry (0 without one). ``undelivered``: pending deliveries, oldest first. ``lost``:
    the loss that this start accepts, empty for none; the first commit must hold the freeze.
    ``storage_failed``: a write of an earlier run failed, so that a trip may be lost;
    :meth:`Journal.clear_storage_failure` once what holds the account is durable.
    """

    snapshot: bytes | None
    entries: Iterator[Entry]
    unclean: bool
    last_now_ns: int
    last_seq: int
    undelivered: list[Delivery]
    lost: str = ""
    storage_failed: bool = False


Done = Callable[[BaseException | None], None]
T = TypeVar("T")


class _FileCheck(NamedTuple):
    done: Done


class _Clear(NamedTuple):
    """Withdraw the note of a failed write."""


_Job = tuple[Rows, Done] | Prune | _FileCheck | _Clear | None  # None: end the thread


class Journal:
    """The journal of one running sidecar: see :meth:`open`."""

    def __init__(self, path: Path, lock: int, writer: Writer) -> None:
        self._path, self._lock, self._writer = path, lock, writer
        self._reader = open_reader(path)
        self._reading = threading.Lock()
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._failure: JournalError | None = None
        self._submitting = threading.Lock()  # nothing may follow the end in the queue
        self._closed = False
        self._is_pruning = False
        self._file_checks: list[Done] = []
        # A daemon: when the main thread dies the process must end, for a supervisor to restart it.
        self._thread = threading.Thread(target=self._run, name="riskmon-journal", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        state_dir: Path,
        *,
        gate: Path | None = None,
        lock: int | None = None,
        accept_loss: bool = False,
    ) -> Journal:
        """Take ``state_dir`` for this process (made if absent, 0700) and open or make its journal.

        Its marks are in ``state_dir`` and, if it is given, beside the file ``gate``. ``lock`` is
        what :func:`take` returned, if it was called before; it is closed in any case. From here
        until :meth:`close` with ``clean`` the state counts as unclean. Raises
        :class:`JournalError` when the directory cannot be written or another sidecar holds it, or
        the file is foreign or of a newer riskmon; :class:`JournalLost` when it is damaged or ends
        before a mark, unless ``accept_loss`` lets it begin with what can be read.
        """
        path = state_dir / JOURNAL_NAME
        lock = take(state_dir) if lock is None else lock
        try:
            with explained(path), ExitStack() as opened:
                marks = Marks(mark_paths(state_dir, gate))
                opened.callback(marks.close)
                reserve = Reserve(state_dir)
                opened.callback(reserve.close)
                journal = cls(path, lock, Writer(path, marks, reserve, accept_loss=accept_loss))
                opened.pop_all()
                return journal
        except BaseException:
            os.close(lock)
            raise

    def recover(self) -> Recovered:
        """What the last run left. Call it before the first :meth:`submit`.

        Raises :class:`JournalError`, also out of ``entries``, when something needed is damaged.
        """
        with self._reading, explained(self._path):
            snapshot_seq, snapshot = newest_snapshot(self._reader, self._path)
            last = self._reader.execute(
                "SELECT seq, now_ns FROM inputs ORDER BY seq DESC LIMIT 1"
            ).fetchone()
            undelivered = [
                Delivery(*row)
                for row in self._reader.execute(
                    "SELECT id, incident, sweep, target, scope, body, created_ns, status, attempts"
                    " FROM outbox WHERE status = 'pending' ORDER BY created_ns, rowid"
                )
            ]
        return Recovered(
            snapshot=snapshot,
            entries=entries_since(self._path, snapshot_seq),
            unclean=self._writer.was_unclean,
            last_now_ns=last[1] if last else 0,
            last_seq=last[0] if last else 0,
            undelivered=undelivered,
            lost=self._writer.lost,
            storage_failed=self._writer.storage_failed,
        )

    def submit(self, commit: Commit, done: Done) -> None:
        """Hand over a commit; never blocks, from any thread.

        ``done`` is called on the writer thread: with None when the commit is on the disk, or with
        the :class:`JournalError` that ended the journal. Raises :class:`Unencodable`, and hands
        nothing over, for a commit that no journal could hold.
        """
        rows = rows_of(commit)
        with self._submitting:
            if self._closed:
                raise JournalError(f"{self._path} is closed: nothing more can be written")
            self._jobs.put((rows, done))

    def clear_storage_failure(self) -> None:
        """Withdraw the note behind :attr:`Recovered.storage_failed`, once the hold is durable."""
        with self._submitting:
            if not self._closed:
                self._jobs.put(_Clear())

    def prune(self, keep_days: float, max_bytes: int) -> None:
        """Begin to drop what is old, between commits, and hold the size from then on.

        Entries go when they are older than ``keep_days`` before the newest one and than both
        snapshots, and, oldest first, while the journal and its log hold more than ``max_bytes``;
        what the newest snapshot needs stays. Transitions and finished deliveries go by age, and
        where no entry can go; the audit trail stays. Returns at once.
        """
        self._jobs.put(Prune(keep_days, max_bytes))

    @property
    def out_of_room(self) -> str:
        """Why the last room on the disk is in use, so that the sidecar must end; "" while not."""
        return self._writer.out_of_room

    def check_files(self, done: Done) -> None:
        """Check that the journal's files are where they were made, and make lost marks anew.

        ``done`` is called as for :meth:`submit`; a journal that is gone has failed.
        """
        with self._submitting:
            if not self._closed:
                self._jobs.put(_FileCheck(done))

    def audit(
        self, limit: int, before: int | None = None, *, refusals: bool = True
    ) -> list[Record]:
        """The newest ``limit`` records, newest first; with ``before`` (UTC ns), older ones only.

        Without ``refusals`` those of that kind are left out.

        A page is longer than ``limit`` where records share its last instant, so that its last
        ``at_ns`` is the ``before`` of the next page and none is lost. Reads the disk: call it
        outside of the event loop.
        """
        with self._reading, explained(self._path):
            rows = self._reader.execute(
                "WITH shown AS (SELECT rowid AS number, at_ns, record FROM audit"
                " WHERE at_ns < ?1 AND (?4 OR kind <> 'refusal'))"
                " SELECT record FROM shown WHERE at_ns >= coalesce("
                "(SELECT at_ns FROM shown ORDER BY at_ns DESC LIMIT 1 OFFSET ?2), ?3)"
                " ORDER BY at_ns DESC, number DESC",
                (
                    2**63 - 1 if before is None else before,
                    max(limit, 1) - 1,
                    -(2**63),
                    refusals,
                ),
            )
            return [_decode_record(row[0]) for row in rows]

    def close(self, clean: bool) -> None:
        """Write what was submitted, mark an orderly end if ``clean``, and release the directory.

        Raises the :class:`JournalError` of a write that failed when ``clean`` was asked for.
        """
        with self._submitting:
            if self._closed:
                return
            self._closed = True
            if clean:
                self._jobs.put((rows_of(Commit(clean=True)), lambda _: None))
            self._jobs.put(None)
        self._thread.join()
        with self._reading:
            self._reader.close()
        self._writer.close(failed=self._failure is not None)
        os.close(self._lock)
        if clean and self._failure is not None:
            raise self._failure

    # -- on the writer thread --------------------------------------------------------------------

    def _run(self) -> None:
        open_ended = True
        while open_ended:
            group, open_ended = self._next_group()
            while group:
                group = self._commit(group)
                if group:
                    self._guarded(self._maintain)
            if self._file_checks:
                self._guarded(self._writer.check_files)
                waiting, self._file_checks = self._file_checks, []
                self._answer(waiting)
            self._guarded(self._maintain)

    def _next_group(self) -> tuple[list[tuple[Rows, Done]], bool]:
        """All commits that wait, at most ``_GROUP_MAX``, and whether more may come."""
        group: list[tuple[Rows, Done]] = []
        wait = not self._is_pruning
        while len(group) < _GROUP_MAX:
            try:
                job = self._jobs.get(block=wait)
            except Empty:
                break
            wait = False
            if job is None:
                return group, False
            if isinstance(job, Prune):
                self._guarded(partial(self._writer.prune, job))
            elif isinstance(job, _FileCheck):
                self._file_checks.append(job.done)
            elif isinstance(job, _Clear):
                self._guarded(self._writer.clear_failure)
            else:
                group.append(job)
        return group, True

    def _commit(self, group: list[tuple[Rows, Done]]) -> list[tuple[Rows, Done]]:
        """Make one transaction of the first of these, and answer them; the rest."""
        written = self._guarded(lambda: self._writer.write([commit for commit, _ in group]))
        count = len(group) if written is None else written
        self._answer([done for _, done in group[:count]])
        return group[count:]

    def _answer(self, receivers: list[Done]) -> None:
        for done in receivers:
            try:
                done(self._failure)
            except Exception:  # one receiver's fault must not silence the others
                _log.exception("a receiver of a commit failed")

    def _maintain(self) -> None:
        self._is_pruning = self._writer.maintain()

    def _guarded(self, work: Callable[[], T]) -> T | None:
        """What ``work`` returns; its failure ends the journal, and after one nothing is tried."""
        if self._failure is not None:
            return None
        try:
            with explained(self._path):
                return work()
        except BaseException as fault:  # no reason at all may leave a sender without an answer
            self._is_pruning = False
            self._end(fault)
            return None

    def _end(self, fault: BaseException) -> None:
        if isinstance(fault, JournalError):
            self._failure = fault
        else:
            self._failure = JournalError(f"internal fault in writing {self._path}: {fault!r}")
        _log.critical("the journal ends: %s", self._failure)
        # Files that are gone have no cause: what they held is missing at the next start anyway.
        if fault.__cause__ is not None or not isinstance(fault, JournalError):
            if self._writer.note_failure():
                _log.critical("a trip may not be written: the next start holds the account")
            else:
                _log.critical(
                    "a trip may not be written, and neither is that in a mark: freeze the account "
                    "after the next start"
                )
