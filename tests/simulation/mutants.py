"""Faults in production code, one at a time: the simulation must find each of them.

Each mutant replaces a public function or method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from riskmon.core.book.seen import Seen
from riskmon.core.decisions import LEVEL_NAMES
from riskmon.journal import Journal, Recovered, opening
from riskmon.journal.mark import FoundMark, MarkFile, Marks
from riskmon.journal.reading import End
from riskmon.journal.reserve import Reserve
from riskmon.sequencer import Sequencer
from riskmon.sequencer.grants import Grants, Levels
from riskmon.sequencer.turn import Snapshots, Turn

Mutant = Callable[[], Any]  # a context manager


@contextmanager
def loosen_before_commit() -> Iterator[None]:
    """The next renewal grants the engine's levels, written or not."""
    tighten = Grants.tighten

    def broken(grants: Grants, levels: Levels, generation: int) -> None:
        tighten(grants, levels, generation)
        grants.loosen(levels, ())

    with patch.object(Grants, "tighten", broken):
        yield


@contextmanager
def tighten_after_commit() -> Iterator[None]:
    """A freeze takes effect when it is durable."""
    tighten = Grants.tighten

    def broken(grants: Grants, levels: Levels, generation: int) -> None:
        granted = msgspec.json.decode(grants.encoded(), type=dict[str, str])
        higher = {scope: LEVEL_NAMES.index(name) for scope, name in granted.items()}
        tighten(grants, {s: max(n, higher.get(s, n)) for s, n in levels.items()}, 0)

    with patch.object(Grants, "tighten", broken):
        yield


@contextmanager
def renew_while_commit_hangs() -> Iterator[None]:
    """The lease is renewed although a commit is overdue."""
    with patch.object(Sequencer, "stalled_seconds", lambda _: 0.0):
        yield


@contextmanager
def acknowledge_before_commit() -> Iterator[None]:
    """Senders are answered when the engine has their events."""
    is_due = Snapshots.is_due

    # The sequencer calls it for each turn, immediately before it submits the commit.
    def broken(snapshots: Snapshots, turn: Turn, now_ns: int) -> bool:
        for request in turn.requests:
            request.answer()
        return is_due(snapshots, turn, now_ns)

    with patch.object(Snapshots, "is_due", broken):
        yield


@contextmanager
def forget_cancels_at_start() -> Iterator[None]:
    """A start treats every end as orderly, with no cancel left to send."""
    recover = Journal.recover

    def broken(journal: Journal) -> Recovered:
        return recover(journal)._replace(unclean=False, undelivered=[])

    with patch.object(Journal, "recover", broken):
        yield


@contextmanager
def count_duplicates() -> Iterator[None]:
    """A duplicate of a fill counts again."""
    with patch.object(Seen, "is_new", lambda *_: True):
        yield


@contextmanager
def ignore_marks() -> Iterator[None]:
    """A start accepts a journal that ends before its marks."""
    examine = opening.examine

    def broken(path: Path, found: list[FoundMark], *, thorough: bool) -> End | None:
        return examine(path, (), thorough=thorough)

    with (
        patch("riskmon.journal.opening.compare", lambda *_: []),
        patch("riskmon.journal.opening.examine", broken),
    ):
        yield


@contextmanager
def never_advance_marks() -> Iterator[None]:
    """The marks do not advance with acknowledged commits."""
    with patch.object(Marks, "advance", lambda *_: None):
        yield


@contextmanager
def leave_marks_unsynced() -> Iterator[None]:
    """After an accepted loss and a loss of power the old mark is in force again."""
    with patch.object(MarkFile, "sync", lambda _: None):
        yield


@contextmanager
def accept_loss_unfrozen() -> Iterator[None]:
    """A start that accepts a loss does not freeze the account."""
    recover = Journal.recover

    def broken(journal: Journal) -> Recovered:
        return recover(journal)._replace(lost="")

    with patch.object(Journal, "recover", broken):
        yield


@contextmanager
def forget_failed_writes() -> Iterator[None]:
    """A failed write leaves no note for the next start."""
    with patch.object(Marks, "note_storage_failure", lambda _: False):
        yield


@contextmanager
def leave_notes_unsynced() -> Iterator[None]:
    """After an end for a failed write and a loss of power its note is lost."""
    with patch.object(Marks, "sync", lambda _: None):
        yield


@contextmanager
def leave_log_unsynced() -> Iterator[None]:
    """The marks of a start count entries that a loss of power removes from the log."""
    with patch("riskmon.journal.opening.sync_file", lambda _: None):
        yield


@contextmanager
def keep_reserve() -> Iterator[None]:
    """The reserve is not released, so that a full disk has no room for the last commits."""
    with patch.object(Reserve, "release", lambda *_: False):
        yield


MUTANTS: dict[str, Mutant] = {
    mutant.__name__: mutant
    for mutant in (
        loosen_before_commit,
        tighten_after_commit,
        renew_while_commit_hangs,
        acknowledge_before_commit,
        forget_cancels_at_start,
        count_duplicates,
        ignore_marks,
        never_advance_marks,
        leave_marks_unsynced,
        accept_loss_unfrozen,
        forget_failed_writes,
        leave_notes_unsynced,
        leave_log_unsynced,
        keep_reserve,
    )
}
