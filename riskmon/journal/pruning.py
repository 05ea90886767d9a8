"""The deletion of old rows, in slices that are short enough not to delay a commit."""

from __future__ import annotations

from typing import NamedTuple

import apsw

from riskmon.journal.file import number

_SLICE_ROWS = 2_048
_SLICE_ROWS_OTHER = 256
_SLICE_BYTES = 1_000_000
_SLICE_PAGES = 256
_SPARE_BYTES_MAX = 100_000_000  # kept free for writes until the next check; less in a small journal
REFUSALS_MAX = 10_000  # records of refused calls that are kept
_DAY_NS = 86_400 * 10**9


class Prune(NamedTuple):
    """The days of entries to keep, and the maximum size of the journal with its log."""

    keep_days: float
    max_bytes: int


class Size(NamedTuple):
    """The bytes of the database in use, and those of its free pages."""

    used: int
    free: int


def size_of(db: apsw.Connection) -> Size:
    """Return the size of the database within the open transaction."""
    page = number(db, "PRAGMA page_size")
    free = number(db, "PRAGMA freelist_count") * page
    return Size(number(db, "PRAGMA page_count") * page - free, free)


def drop_excess(db: apsw.Connection, rule: Prune, log_bytes: int) -> bool:
    """Delete a slice of the oldest rows above the maximum size. Return whether more are above it.

    The log counts towards the size, but for a quarter of ``max_bytes`` at most: while a long
    reader prevents its reuse, deleting more entries would only lengthen it.
    """
    log_bytes = min(log_bytes, rule.max_bytes >> 2)
    allowed = rule.max_bytes - min(rule.max_bytes // 8, _SPARE_BYTES_MAX) - log_bytes
    excess = size_of(db).used - allowed
    dropped = False
    if excess > 0:
        dropped = _drop_oldest(db, excess, rule)
    size = size_of(db)
    given_back = False
    if size.used + size.free + log_bytes > rule.max_bytes and size.free:
        # The pages that this moves are written to the log, which counts towards the size.
        given_back = _give_back(db, min(_SLICE_PAGES, (rule.max_bytes >> 16) + 1))
    return (dropped and size.used > allowed) or given_back


def drop_aged(db: apsw.Connection, rule: Prune, _log_bytes: int) -> bool:
    """Delete a slice of the rows older than the days to keep. Return whether there may be more.

    The age is measured from the newest entry, so that setting the clock forward prunes nothing.
    """
    newest_ns = number(db, "SELECT wall_ns FROM inputs ORDER BY seq DESC LIMIT 1")
    horizon_ns = newest_ns - int(rule.keep_days * _DAY_NS)
    last = _last_aged(db, horizon_ns)
    dropped = bool(last) and _drop_entries(db, last)
    dropped = _drop_finished(db, horizon_ns) or dropped
    dropped = _drop_refusals(db, horizon_ns) or dropped
    return _give_back(db, _SLICE_PAGES) or dropped


def _drop_oldest(db: apsw.Connection, excess: int, rule: Prune) -> bool:
    """Delete entries that no start needs, or, if there are none, old transitions and deliveries."""
    last = _last_in_excess(db, excess)
    if last:
        return _drop_entries(db, last)
    needed = "SELECT sum(length(events)) FROM inputs WHERE seq > (SELECT max(seq) FROM snapshots)"
    if number(db, needed) > rule.max_bytes >> 2:
        return False  # they can be deleted after the next snapshot
    return _drop_finished(db, 2**63 - 1)


def _last_in_excess(db: apsw.Connection, excess: int) -> int:
    """The last seq of the oldest entries that amount to the excess or to a slice; 0 for none."""
    newest = number(db, "SELECT max(seq) FROM snapshots")
    # The last entry is never deleted: the next start continues from its time.
    needless_seq = min(newest, number(db, "SELECT max(seq) FROM inputs") - 1)
    dropped = last = 0
    for seq, size in db.execute(
        "SELECT seq, length(events) FROM inputs WHERE seq <= ? ORDER BY seq LIMIT ?",
        (needless_seq, _SLICE_ROWS),
    ):
        if dropped >= min(excess, _SLICE_BYTES):
            break
        dropped, last = dropped + size, seq
    return last


def _last_aged(db: apsw.Connection, horizon_ns: int) -> int:
    """The last seq of a slice of the old entries that no snapshot needs; 0 for none."""
    seqs = [row[0] for row in db.execute("SELECT seq FROM snapshots ORDER BY seq DESC")]
    older_seq = seqs[1] if len(seqs) > 1 else 0
    needless_seq = min(older_seq, number(db, "SELECT max(seq) FROM inputs") - 1)
    dropped = last = 0
    for seq, wall_ns, size in db.execute(
        "SELECT seq, wall_ns, length(events) FROM inputs WHERE seq <= ? ORDER BY seq LIMIT ?",
        (needless_seq, _SLICE_ROWS),
    ):
        if wall_ns >= horizon_ns or dropped >= _SLICE_BYTES:
            break
        dropped, last = dropped + size, seq
    return last


def _drop_entries(db: apsw.Connection, last_seq: int) -> bool:
    db.execute("DELETE FROM inputs WHERE seq <= ?", (last_seq,))
    db.execute("UPDATE meta SET value = ? WHERE key = 'pruned_seq'", (last_seq,))
    return True


def _drop_finished(db: apsw.Connection, horizon_ns: int) -> bool:
    """Delete a slice of the transitions and finished deliveries before an instant.

    Return whether there were any.
    """
    before = db.total_changes()
    for table, column, rest in (
        ("transitions", "at_ns", ""),
        ("outbox", "created_ns", " AND status <> 'pending'"),
    ):
        db.execute(
            f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table}"  # noqa: S608
            f" WHERE {column} < ?{rest} ORDER BY {column} LIMIT {_SLICE_ROWS_OTHER})",
            (horizon_ns,),
        )
    return db.total_changes() > before


def _drop_refusals(db: apsw.Connection, horizon_ns: int) -> bool:
    """Delete a slice of the old or surplus audit records of refused calls.

    Return whether there were any. Such records are bounded because any sender can cause them.
    Their ids begin with the time, in digits.
    """
    before = db.total_changes()
    db.execute(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id >= 'refused_' AND id < ?"
        " ORDER BY id LIMIT ?)",
        (f"refused_{max(horizon_ns, 0):020d}", _SLICE_ROWS_OTHER),
    )
    db.execute(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id >= 'refused_' AND"
        " id < 'refused`' ORDER BY id DESC LIMIT ? OFFSET ?)",
        (_SLICE_ROWS_OTHER, REFUSALS_MAX),
    )
    return db.total_changes() > before


def _give_back(db: apsw.Connection, pages: int) -> bool:
    return bool(list(db.execute(f"PRAGMA incremental_vacuum({pages})")))
