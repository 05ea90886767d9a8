"""The journal of a running sidecar: one thread writes, other threads read."""

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

from riskmon.core.decisions import Record, Transition
from riskmon.core.version import STATE_VERSION
from riskmon.delivery import Delivery
from riskmon.journal.commit import Commit, Entry, Rows, rows_of
from riskmon.journal.file import (
    JOURNAL_NAME,
    JournalError,
    journal_version,
    open_reader,
    take,
    translated_errors,
)
from riskmon.journal.mark import Marks, mark_paths
from riskmon.journal.pruning import Prune
from riskmon.journal.reading import entries_since, newest_snapshot
from riskmon.journal.reserve import Reserve
from riskmon.journal.writer import Writer

_GROUP_MAX = 1_024  # commits in one transaction

_log = logging.getLogger("riskmon.journal")
_decode_record = msgspec.json.Decoder(Record).decode
_decode_transition = msgspec.json.Decoder(Transition).decode


class Recovered(NamedTuple):
    """The state that the last run left: the newest valid snapshot and the entries after it.

    ``entries`` is an iterator that reads them on demand. ``unclean``: the last run had no orderly
    end. ``last_now_ns`` and ``last_seq`` are those of the newest entry (0 without one).
    ``undelivered``: pending deliveries, oldest first. ``lost``: the loss that this start accepts,
    empty for none; the first commit must contain the freeze. ``storage_failed``: a write of an
    earlier run failed, so that a trip may be lost; call :meth:`Journal.clear_storage_failure` once
    the breaker that halts the account is durable. ``version``: the state version of the journal.
    """

    snapshot: bytes | None
    entries: Iterator[Entry]
    unclean: bool
    last_now_ns: int
    last_seq: int
    undelivered: list[Delivery]
    lost: str = ""
    storage_failed: bool = False
    version: int = STATE_VERSION


Done = Callable[[BaseException | None], None]
T = TypeVar("T")


class _CheckFiles(NamedTuple):
    done: Done


class _ClearFailure(NamedTuple):
    """Clear the flag of a failed write in the marks."""


_Job = tuple[Rows, Done] | Prune | _CheckFiles | _ClearFailure | None  # None ends the thread


class Journal:
    """The journal of one running sidecar: see :meth:`open`."""

    def __init__(self, path: Path, lock: int, writer: Writer) -> None:
        self._path, self._lock, self._writer = path, lock, writer
        self._reader = open_reader(path)
        self._reading = threading.Lock()
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._failure: JournalError | None = None
        self._submitting = threading.Lock()  # no job may follow the final None in the queue
        self._closed = False
        self._is_pruning = False
        self._file_checks: list[Done] = []
        # A daemon thread: when the main thread dies the process must end, so that a supervisor
        # restarts it.
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
        """Lock ``state_dir`` (created with 0700 if absent) and open or create its journal.

        Its marks are in ``state_dir`` and, if it is given, beside the file ``gate``. ``lock`` is
        the result of :func:`take`, if it was called before; the journal closes it in any case. The
        state counts as unclean until :meth:`close` with ``clean``. Raises :class:`JournalError`
        when the directory cannot be written or another sidecar has locked it, or when the file is
        not a journal or of a newer riskmon; :class:`JournalLost` when the journal is damaged or
        ends before a mark, unless ``accept_loss`` is set.
        """
        path = state_dir / JOURNAL_NAME
        lock = take(state_dir) if lock is None else lock
        try:
            with translated_errors(path), ExitStack() as opened:
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
        """Read the state that the last run left. To be called before the first :meth:`submit`.

        Raises :class:`JournalError`, also during the iteration over ``entries``, for damage.
        """
        with self._reading, translated_errors(self._path):
            version = journal_version(self._reader)
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
            version=version,
        )

    def last_transitions(self) -> list[Transition]:
        """Read the last recorded transition of each breaker. Reads the whole table."""
        query = "SELECT transition FROM transitions ORDER BY rowid"
        last: dict[tuple[str, str], Transition] = {}
        with self._reading, translated_errors(self._path):
            for (text,) in self._reader.execute(query):
                transition = _decode_transition(text)
                last[transition.limit, transition.scope] = transition
        return list(last.values())

    def submit(self, commit: Commit, done: Done) -> None:
        """Queue a commit for the writer thread. Never blocks; may be called from any thread.

        ``done`` is called on the writer thread: with None when the commit is on the disk, or with
        the :class:`JournalError` that ended the journal. Raises :class:`Unencodable`, and queues
        nothing, for a commit that cannot be encoded.
        """
        rows = rows_of(commit)
        with self._submitting:
            if self._closed:
                raise JournalError(f"{self._path} is closed: nothing more can be written")
            self._jobs.put((rows, done))

    def clear_storage_failure(self) -> None:
        """Clear the flag behind :attr:`Recovered.storage_failed`, once the halt is durable."""
        with self._submitting:
            if not self._closed:
                self._jobs.put(_ClearFailure())

    def prune(self, keep_days: float, max_bytes: int) -> None:
        """Delete old rows between commits, and bound the size from now on. Returns at once.

        Entries are deleted when they are older than ``keep_days`` before the newest entry and
        older than both snapshots, and, oldest first, while the journal and its log are larger than
        ``max_bytes``; the entries that the newest snapshot needs are kept. Transitions and
        finished deliveries are deleted by age, and when no entry can be deleted. The audit trail
        is kept.
        """
        self._jobs.put(Prune(keep_days, max_bytes))

    @property
    def out_of_room(self) -> str:
        """The reason why the reserve was released and the sidecar must end; empty before that."""
        return self._writer.out_of_room

    def check_files(self, done: Done) -> None:
        """Check that the journal's files are in place, and recreate missing marks.

        ``done`` is called as for :meth:`submit`; removed or replaced files end the journal.
        """
        with self._submitting:
            if not self._closed:
                self._jobs.put(_CheckFiles(done))

    def audit(
        self, limit: int, before: int | None = None, *, refusals: bool = True
    ) -> list[Record]:
        """Return the newest ``limit`` records, newest first.

        With ``before`` (UTC ns) only older records are returned; without ``refusals`` no records
        of that kind. A page is longer than ``limit`` when several records have the time of its
        last one, so that its last ``at_ns`` is the ``before`` of the next page and no record is
        skipped. Reads the disk: not to be called on the event loop.
        """
        with self._reading, translated_errors(self._path):
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
        """Write the queued commits, mark an orderly end if ``clean``, and unlock the directory.

        With ``clean``, raises the :class:`JournalError` of a write that failed.
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
                    self._run_or_fail(self._maintain)
            if self._file_checks:
                self._run_or_fail(self._writer.check_files)
                waiting, self._file_checks = self._file_checks, []
                self._answer(waiting)
            self._run_or_fail(self._maintain)

    def _next_group(self) -> tuple[list[tuple[Rows, Done]], bool]:
        """Return all waiting commits, at most ``_GROUP_MAX``, and whether more may follow."""
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
                self._run_or_fail(partial(self._writer.prune, job))
            elif isinstance(job, _CheckFiles):
                self._file_checks.append(job.done)
            elif isinstance(job, _ClearFailure):
                self._run_or_fail(self._writer.clear_failure)
            else:
                group.append(job)
        return group, True

    def _commit(self, group: list[tuple[Rows, Done]]) -> list[tuple[Rows, Done]]:
        """Write the first of these commits in one transaction and answer them. Return the rest."""
        written = self._run_or_fail(lambda: self._writer.write([commit for commit, _ in group]))
        count = len(group) if written is None else written
        self._answer([done for _, done in group[:count]])
        return group[count:]

    def _answer(self, receivers: list[Done]) -> None:
        for done in receivers:
            try:
                done(self._failure)
            except Exception:  # the other receivers must still be called
                _log.exception("the callback of a commit raised an exception")

    def _maintain(self) -> None:
        self._is_pruning = self._writer.maintain()

    def _run_or_fail(self, work: Callable[[], T]) -> T | None:
        """Return the result of ``work``. Its failure ends the journal.

        After a failure, return None without calling ``work``.
        """
        if self._failure is not None:
            return None
        try:
            with translated_errors(self._path):
                return work()
        except BaseException as fault:  # whatever is raised, the senders must be answered
            self._is_pruning = False
            self._end(fault)
            return None

    def _end(self, fault: BaseException) -> None:
        if isinstance(fault, JournalError):
            self._failure = fault
        else:
            self._failure = JournalError(f"internal fault in writing {self._path}: {fault!r}")
        _log.critical("the journal has failed: %s", self._failure)
        # A fault without a cause is that of removed files. The next start finds them missing, so
        # the flag of a failed write is not needed.
        if fault.__cause__ is not None or not isinstance(fault, JournalError):
            if self._writer.note_failure():
                _log.critical("a trip may be missing on disk: the next start halts the account")
            else:
                _log.critical(
                    "a trip may be missing on disk, and no mark could be written: freeze the "
                    "account after the next start"
                )
