"""The journal of a running sidecar: one thread writes, others read."""

from __future__ import annotations

import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

import apsw
import msgspec

from riskmon.core.decisions import Record
from riskmon.core.events import Event
from riskmon.journal.commit import Commit, Delivery, Entry, insert
from riskmon.journal.file import (
    JOURNAL_NAME,
    JournalError,
    explained,
    number,
    open_reader,
    open_writer,
    take,
)
from riskmon.journal.pruning import Prune, prune_slice

_GROUP_MAX = 1_024  # commits in one transaction
_CHECKPOINT_PAGES = 1_000

_log = logging.getLogger("riskmon.journal")
_decode = msgspec.msgpack.Decoder(list[Event]).decode
_decode_record = msgspec.json.Decoder(Record).decode


class Recovered(NamedTuple):
    """What a start finds: the newest sound snapshot and, read as one goes, the entries after it.

    ``unclean``: the last run did not end in order. ``last_now_ns`` and ``last_seq`` are those of
    the newest entry (0 without one). ``undelivered``: pending deliveries, oldest first.
    """

    snapshot: bytes | None
    entries: Iterator[Entry]
    unclean: bool
    last_now_ns: int
    last_seq: int
    undelivered: list[Delivery]


Done = Callable[[BaseException | None], None]


_Job = tuple[Commit, Done] | Prune | None  # None: end the thread


class Journal:
    """The journal of one running sidecar: see :meth:`open`."""

    def __init__(self, path: Path, lock: int, writer: apsw.Connection) -> None:
        self._path, self._lock, self._writer = path, lock, writer
        self._reader = open_reader(path)
        self._reading = threading.Lock()
        self._unclean = number(writer, "SELECT value FROM meta WHERE key = 'clean'") == 0
        self._last_seq = number(writer, "SELECT max(seq) FROM inputs")
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._failure: JournalError | None = None
        self._submitting = threading.Lock()  # nothing may follow the end in the queue
        self._closed = False
        self._prune: Prune | None = None
        self._wal_pages = 0
        # Without the hook SQLite would checkpoint inside a commit, and its sender would wait.
        writer.set_wal_hook(self._note_wal)
        writer.execute("UPDATE meta SET value = 0 WHERE key = 'clean'")
        # A daemon: when the main thread dies the process must end, for a supervisor to restart it.
        self._thread = threading.Thread(target=self._run, name="riskmon-journal", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, state_dir: Path) -> Journal:
        """Take ``state_dir`` for this process (made if absent, 0700) and open or make its journal.

        From here until :meth:`close` with ``clean`` the state counts as unclean. Raises
        :class:`JournalError` when the directory cannot be written or another sidecar holds it, or
        the file is damaged, foreign or of a newer riskmon.
        """
        path = state_dir / JOURNAL_NAME
        lock = take(state_dir)
        try:
            with explained(path):
                return cls(path, lock, open_writer(path))
        except BaseException:
            os.close(lock)
            raise

    def recover(self) -> Recovered:
        """What the last run left. Call it before the first :meth:`submit`.

        Raises :class:`JournalError`, also out of ``entries``, when something needed is damaged.
        """
        with self._reading, explained(self._path):
            snapshot_seq, snapshot = _newest_snapshot(self._reader, self._path)
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
            entries=entries(self._path, after_seq=snapshot_seq),
            unclean=self._unclean,
            last_now_ns=last[1] if last else 0,
            last_seq=last[0] if last else 0,
            undelivered=undelivered,
        )

    def submit(self, commit: Commit, done: Done) -> None:
        """Hand over a commit; never blocks, from any thread.

        ``done`` is called on the writer thread: with None when the commit is on the disk, or with
        the :class:`JournalError` that ended the journal.
        """
        with self._submitting:
            if self._closed:
                raise JournalError(f"{self._path} is closed: nothing more can be written")
            self._jobs.put((commit, done))

    def prune(self, keep_days: float, max_bytes: int) -> None:
        """Begin to drop what is old, between commits: returns at once.

        Entries go when they are older than ``keep_days`` before the newest one and than both
        snapshots, and, oldest first, while the journal holds more than ``max_bytes``; what the
        newest snapshot needs stays. Transitions and finished deliveries go by age; the audit
        trail stays.
        """
        self._jobs.put(Prune(keep_days, max_bytes))

    def audit(self, limit: int, before: int | None = None) -> list[Record]:
        """The newest ``limit`` records, newest first; with ``before`` (UTC ns), older ones only.

        A page is longer than ``limit`` where records share its last instant, so that its last
        ``at_ns`` is the ``before`` of the next page and none is lost. Reads the disk: call it
        outside of the event loop.
        """
        with self._reading, explained(self._path):
            rows = self._reader.execute(
                "SELECT record FROM audit WHERE at_ns < ?1 AND at_ns >= coalesce((SELECT at_ns"
                " FROM audit WHERE at_ns < ?1 ORDER BY at_ns DESC LIMIT 1 OFFSET ?2), ?3)"
                " ORDER BY at_ns DESC, rowid DESC",
                (2**63 - 1 if before is None else before, max(limit, 1) - 1, -(2**63)),
            )
            return [_decode_record(row[0]) for row in rows]

    def close(self, clean: bool) -> None:
        """Write what was submitted, mark an orderly end if ``clean``, and let the directory go.

        Raises the :class:`JournalError` of a write that failed when ``clean`` was asked for.
        """
        with self._submitting:
            if self._closed:
                return
            self._closed = True
            if clean:
                self._jobs.put((Commit(clean=True), lambda _: None))
            self._jobs.put(None)
        self._thread.join()
        if self._failure is not None:
            # What a failed sync left must not be copied from the log into the database.
            self._writer.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        with self._reading:
            self._reader.close()
        self._writer.close()
        os.close(self._lock)
        if clean and self._failure is not None:
            raise self._failure

    # -- on the writer thread --------------------------------------------------------------------

    def _run(self) -> None:
        open_ended = True
        while open_ended:
            group, open_ended = self._next_group()
            if group:
                self._commit(group)
            self._guarded(self._maintain)

    def _next_group(self) -> tuple[list[tuple[Commit, Done]], bool]:
        """All commits that wait, at most ``_GROUP_MAX``, and whether more may come."""
        group: list[tuple[Commit, Done]] = []
        wait = self._prune is None
        while len(group) < _GROUP_MAX:
            try:
                job = self._jobs.get(block=wait)
            except Empty:
                break
            wait = False
            if job is None:
                return group, False
            if isinstance(job, Prune):
                self._prune = job
            else:
                group.append(job)
        return group, True

    def _commit(self, group: list[tuple[Commit, Done]]) -> None:
        self._guarded(lambda: self._write(group))
        for _, done in group:
            try:
                done(self._failure)
            except Exception:  # one receiver's fault must not silence the others
                _log.exception("a receiver of a commit failed")

    def _write(self, group: list[tuple[Commit, Done]]) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        for commit, _ in group:
            self._last_seq = insert(self._writer, commit, self._last_seq)
        self._writer.execute("COMMIT")

    def _maintain(self) -> None:
        if self._wal_pages >= _CHECKPOINT_PAGES:
            self._wal_pages = 0
            self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if self._prune is not None:
            self._writer.execute("BEGIN IMMEDIATE")
            more = prune_slice(self._writer, self._prune)
            self._writer.execute("COMMIT")
            self._prune = self._prune if more else None

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do ``work``; its failure ends the journal, and after one nothing more is tried."""
        if self._failure is not None:
            return
        try:
            with explained(self._path):
                work()
        except BaseException as fault:  # no reason at all may leave a sender without an answer
            self._prune = None
            self._failure = (
                fault if isinstance(fault, JournalError) else JournalError(f"{self._path}: {fault}")
            )
            _log.critical("the journal ends: %s", self._failure)

    def _note_wal(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK


def entries(path: Path, after_seq: int = 0) -> Iterator[Entry]:
    """The entries of a journal or backup after ``after_seq``, in order, read as one goes.

    Reads only, also while a sidecar writes; entries committed later are not seen. Raises
    :class:`JournalError`, later too when it comes upon a damaged entry.
    """
    with explained(path):
        return _read(path, open_reader(path), after_seq)


def _read(path: Path, db: apsw.Connection, after_seq: int) -> Iterator[Entry]:
    query = "SELECT seq, now_ns, wall_ns, events FROM inputs WHERE seq > ? ORDER BY seq"
    with explained(path), closing(db):
        for seq, now_ns, wall_ns, events in db.execute(query, (after_seq,)):
            yield Entry(seq, now_ns, wall_ns, _decode(events))


def _newest_snapshot(db: apsw.Connection, path: Path) -> tuple[int, bytes | None]:
    """The newest snapshot that is sound and whose later entries are all there, and its seq."""
    pruned_seq = number(db, "SELECT value FROM meta WHERE key = 'pruned_seq'")
    for seq, crc, data in db.execute("SELECT seq, crc, data FROM snapshots ORDER BY seq DESC"):
        if seq >= pruned_seq and zlib.crc32(data) == crc:
            return seq, data
        _log.warning("the snapshot at entry %d of %s cannot be used", seq, path)
    if pruned_seq:
        raise JournalError(
            f"{path} has no sound snapshot, and the entries up to {pruned_seq} are pruned: "
            "put a copy back with `riskmon restore FILE`"
        )
    return 0, None
