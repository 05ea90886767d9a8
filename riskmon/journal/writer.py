"""The writes of the journal, without the thread that runs them: one transaction, then the marks.

The writer also bounds the size of the journal: between transactions it copies the log back into the
database and deletes old rows, in proportion to the rows that are written.

A transaction that fails for lack of disk space is repeated in the space of the :class:`Reserve`. A
transaction that cannot be written sets a flag in the marks, so that the next start halts the
account.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import apsw

from riskmon.journal.commit import Rows, insert
from riskmon.journal.file import JournalError, log_of, number
from riskmon.journal.mark import Mark, Marks
from riskmon.journal.opening import open_writer
from riskmon.journal.pruning import Prune, drop_aged, drop_excess
from riskmon.journal.reserve import Reserve, is_no_space

_PAGE_BYTES = 4_096
_CHECKPOINT_PAGES_MIN, _CHECKPOINT_PAGES_MAX = 16, 1_000
_LOG_BYTES_MAX = 64_000_000  # a longer log, which a long reader causes, is truncated to this

Drop = Callable[[apsw.Connection, Prune, int], bool]


class Writer:
    """The writer of one journal, for one thread at a time.

    All methods are to be called inside :func:`translated_errors`.
    """

    def __init__(
        self, path: Path, marks: Marks, reserve: Reserve, *, accept_loss: bool = False
    ) -> None:
        self._path, self._marks, self._reserve = path, marks, reserve
        self.storage_failed = marks.storage_failed
        self._db, self._mark, self.lost = open_writer(path, marks, accept_loss=accept_loss)
        self._marked = not self.lost
        self._has_written = False  # whether this run has written an entry
        self._last_seq = self._mark.last_seq
        self.was_unclean = number(self._db, "SELECT value FROM meta WHERE key = 'clean'") == 0
        self._log_pages = 0
        self._unchecked_bytes = 0  # written since the size was last read
        self._rule: Prune | None = None
        self._checkpoint_pages = _CHECKPOINT_PAGES_MAX
        self._transaction_bytes = 2**63
        self._is_aging = self._is_oversized = False
        self._log_bytes = _LOG_BYTES_MAX
        self._db.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES_MAX}")
        # Without the hook SQLite would run checkpoints inside of commits and delay their senders.
        self._db.set_wal_hook(self._note_log)
        self._db.execute("UPDATE meta SET value = 0 WHERE key = 'clean'")
        places = (path.parent, path, log_of(path))
        self._places = [(place, _device_and_inode(place)) for place in places]

    @property
    def out_of_room(self) -> str:
        """The reason why the reserve was released; empty before that."""
        return self._reserve.spent

    def write(self, commits: Sequence[Rows]) -> int:
        """Make the first of these commits durable and update the marks.

        Return how many were written, at least one.
        """
        try:
            count = self._insert(commits)
        except apsw.Error as fault:
            if not is_no_space(fault):
                raise
            count = self._insert_into_reserve(commits, str(fault))
        self._advance(commits[:count])
        return count

    def _insert(self, commits: Sequence[Rows]) -> int:
        """Write the first of these commits in one transaction. Return how many."""
        count = size = 0
        last_seq = self._last_seq
        self._db.execute("BEGIN IMMEDIATE")
        try:
            while count < len(commits) and size < self._transaction_bytes:
                last_seq = insert(self._db, commits[count], last_seq)
                size, count = size + commits[count].size, count + 1
            self._db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._last_seq = last_seq
        self._unchecked_bytes += size
        return count

    def _insert_into_reserve(self, commits: Sequence[Rows], why: str) -> int:
        """As :meth:`_insert`, in the space of the reserve, without snapshots.

        If that fails too, only the first commit is written.
        """
        small = [each._replace(snapshot=None) for each in commits]
        if self._reserve.release(why):
            try:
                return self._insert(small)
            except apsw.Error as fault:
                if not is_no_space(fault):
                    raise
        return self._insert(small[:1])

    def _roll_back(self) -> None:
        with suppress(apsw.Error):  # a failed COMMIT may have rolled back already
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def note_failure(self) -> bool:
        """Set the flag of a failed write in the marks. Return whether one of them has it."""
        return self._marks.note_storage_failure()

    def clear_failure(self) -> None:
        """Clear the flag of an earlier run, once the breaker that halts the account is durable."""
        self._marks.clear_storage_failure()

    def maintain(self) -> bool:
        """Do one slice of checkpointing and pruning. Return whether more remains.

        Does nothing on a full disk, where the remaining space is for commits.
        """
        if self._reserve.spent:
            return False
        try:
            return self._maintain()
        except apsw.Error as fault:
            if not is_no_space(fault):
                raise
            self._reserve.release(str(fault))
            return False

    def _maintain(self) -> bool:
        if self._log_pages >= self._checkpoint_pages:
            self._checkpoint()
        rule = self._rule
        if rule is None:
            return False
        if self._is_oversized or self._unchecked_bytes >= rule.max_bytes >> 6:
            self._unchecked_bytes = 0
            was_over, self._is_oversized = self._is_oversized, self._transact(drop_excess, rule)
            if was_over and not self._is_oversized:
                self._checkpoint()  # the file of the database shrinks only at a checkpoint
        if self._is_aging and not self._is_oversized:
            self._is_aging = self._transact(drop_aged, rule)
        return self._is_oversized or self._is_aging

    def _checkpoint(self) -> None:
        self._log_pages = 0
        self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def prune(self, rule: Prune) -> None:
        """Apply this rule from now on, starting with the rows that are too old for it."""
        pages = int(rule.max_bytes / 16 / _PAGE_BYTES)
        self._checkpoint_pages = max(_CHECKPOINT_PAGES_MIN, min(pages, _CHECKPOINT_PAGES_MAX))
        self._transaction_bytes = max(rule.max_bytes >> 5, _PAGE_BYTES)
        self._log_bytes = min(rule.max_bytes >> 3, _LOG_BYTES_MAX)
        self._db.execute(f"PRAGMA journal_size_limit = {self._log_bytes}")
        self._rule, self._is_aging, self._is_oversized = rule, True, True

    def check_files(self) -> None:
        """Recreate missing marks.

        Raises :class:`JournalError` when a file of the journal was removed or replaced.
        """
        for place, opened in self._places:
            if _device_and_inode(place) != opened:
                raise JournalError(
                    f"{place} was removed, renamed or replaced while riskmon was writing: later "
                    "entries are lost; put it back, or run `riskmon check-state`"
                )
        if self._marked:
            self._marks.recreate_missing()

    def close(self, *, failed: bool) -> None:
        """Close the journal and its marks."""
        if failed:
            # The pages of a failed sync must not be copied from the log into the database.
            self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            # The marks are synced here and not when the flag is set: a sync can hang, and the
            # senders and the gate have priority.
            self._marks.sync()
        self._db.close()
        self._marks.close()
        self._reserve.close()

    def _advance(self, commits: Sequence[Rows]) -> None:
        last = next((each.inputs[-1] for each in reversed(commits) if each.inputs), None)
        if self._marked and last is not None:
            self._marks.advance(last.seq, last.wall_ns)
        elif not self._marked:  # the first commit after an accepted loss
            at = (last.seq, last.wall_ns) if last else (self._mark.last_seq, self._mark.wall_ns)
            self._marks.start(Mark(self._mark.identity, self._mark.state_dir, *at))
            self._marked = True
        if last is not None and not self._has_written:
            self._marks.recreate_missing()
            self._has_written = True

    def _transact(self, drop: Drop, rule: Prune) -> bool:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            log_bytes = max(self._log_bytes, log_of(self._path).stat().st_size)
            more = drop(self._db, rule, log_bytes)
            self._db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        return more

    def _note_log(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK


def _device_and_inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino
