"""Dropping what is old, a little at a time, so that no commit waits long for it."""

from __future__ import annotations

from typing import NamedTuple

import apsw

from riskmon.journal.file import number

_SLICE_ROWS = 256
_SLICE_BYTES = 1_000_000
_SLICE_PAGES = 256
_DAY_NS = 86_400 * 10**9


class Prune(NamedTuple):
    """How many days of entries to keep, and how many bytes at most."""

    keep_days: float
    max_bytes: int


def prune_slice(db: apsw.Connection, rule: Prune) -> bool:
    """Drop a little of what ``rule`` lets go and give its pages back; whether to go on."""
    # Age is counted from the newest entry, so that a clock set forward prunes nothing by itself.
    newest_ns = number(db, "SELECT wall_ns FROM inputs ORDER BY seq DESC LIMIT 1")
    horizon_ns = newest_ns - int(rule.keep_days * _DAY_NS)
    before = db.total_changes()
    last = _last_to_drop(db, horizon_ns, rule.max_bytes)
    if last:
        db.execute("DELETE FROM inputs WHERE seq <= ?", (last,))
        db.execute("UPDATE meta SET value = ? WHERE key = 'pruned_seq'", (last,))
    for table, column, rest in (
        ("transitions", "at_ns", ""),
        ("outbox", "created_ns", " AND status <> 'pending'"),
    ):
        db.execute(
            f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table}"  # noqa: S608
            f" WHERE {column} < ?{rest} LIMIT {_SLICE_ROWS})",
            (horizon_ns,),
        )
    dropped = db.total_changes() > before
    given_back = len(list(db.execute(f"PRAGMA incremental_vacuum({_SLICE_PAGES})")))
    return dropped or given_back > 0


def _last_to_drop(db: apsw.Connection, horizon_ns: int, max_bytes: int) -> int:
    """The last seq of the entries that one slice drops; 0 for none."""
    seqs = [row[0] for row in db.execute("SELECT seq FROM snapshots ORDER BY seq DESC")]
    last_seq = number(db, "SELECT max(seq) FROM inputs")
    # The very last entry stays: it holds the time at which the next start goes on.
    needless_seq = min(seqs[0], last_seq - 1) if seqs else 0
    older_seq = seqs[1] if len(seqs) > 1 else 0
    pages = number(db, "PRAGMA page_count") - number(db, "PRAGMA freelist_count")
    excess = pages * number(db, "PRAGMA page_size") - max_bytes
    dropped = last = 0
    for seq, wall_ns, size in db.execute(
        "SELECT seq, wall_ns, length(events) FROM inputs WHERE seq <= ? ORDER BY seq LIMIT ?",
        (needless_seq, _SLICE_ROWS),
    ):
        aged = wall_ns < horizon_ns and seq <= older_seq
        if dropped >= _SLICE_BYTES or (dropped >= excess and not aged):
            break
        dropped, last = dropped + size, seq
    return last
