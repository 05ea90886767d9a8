"""Production pieces that are broken on purpose: the simulation must find each of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from riskmon.core.engine import Engine
from riskmon.journal import Journal, Recovered
from riskmon.journal.mark import MarkFile, Marks
from riskmon.journal.reserve import Reserve
from riskmon.sequencer import Sequencer
from riskmon.sequencer.grants import Grants, Levels
from riskmon.sequencer.turn import Turn

Mutant = Callable[[], Any]  # a context manager


@contextmanager
def loosen_before_commit() -> Iterator[None]:
    """The next renewal grants what the engine says, written or not."""
    tighten = Grants.tighten

    def broken(lease: Grants, levels: Levels, generation: int) -> None:
        tighten(lease, levels, generation)
        lease._levels = dict(levels)

    with patch.object(Grants, "tighten", broken):
        yield


@contextmanager
def tighten_after_commit() -> Iterator[None]:
    """A freeze takes effect when it is durable."""
    tighten = Grants.tighten

    def broken(lease: Grants, levels: Levels, generation: int) -> None:
        tighten(lease, {**levels, **{s: max(levels[s], n) for s, n in lease._levels.items()}}, 0)

    with patch.object(Grants, "tighten", broken):
        yield


@contextmanager
def renew_while_commit_hangs() -> Iterator[None]:
    """The lease is renewed whatever the disk does."""
    renew = Sequencer._renew

    def broken(loop: Sequencer) -> None:
        turns, loop._turns = loop._turns, deque()
        renew(loop)
        loop._turns = turns

    with patch.object(Sequencer, "_renew", broken):
        yield


@contextmanager
def acknowledge_before_commit() -> Iterator[None]:
    """Senders are answered when the engine has their events."""
    write = Sequencer._write

    def broken(loop: Sequencer, turn: Turn) -> None:
        write(loop, turn)
        for request in turn.requests:
            request.answer()

    with patch.object(Sequencer, "_write", broken):
        yield


@contextmanager
def forget_cancels_at_start() -> Iterator[None]:
    """A start takes every end for an orderly one with nothing left to send."""
    recover = Journal.recover

    def broken(journal: Journal) -> Recovered:
        return recover(journal)._replace(unclean=False, undelivered=[])

    with patch.object(Journal, "recover", broken):
        yield


@contextmanager
def count_duplicates() -> Iterator[None]:
    """A fill that is reported again counts again."""
    with patch.object(Engine, "_is_new", lambda *_: True):
        yield


@contextmanager
def ignore_marks() -> Iterator[None]:
    """A start takes a journal that ends before its marks."""
    with (
        patch("riskmon.journal.opening.compare", lambda *_: []),
        patch("riskmon.journal.opening._refuse_unless_new", lambda *_, **__: None),
    ):
        yield


@contextmanager
def never_advance_marks() -> Iterator[None]:
    """Commits are acknowledged and the marks do not count them."""
    with patch.object(Marks, "advance", lambda *_: None):
        yield


@contextmanager
def leave_marks_unsynced() -> Iterator[None]:
    """After an accepted loss and a loss of power the old mark is back."""
    with patch.object(MarkFile, "sync", lambda _: None):
        yield


@contextmanager
def accept_loss_unfrozen() -> Iterator[None]:
    """A start that accepts a loss trades at once."""
    with patch("riskmon.sidecar.process._freeze_after", lambda _: ()):
        yield


@contextmanager
def forget_failed_writes() -> Iterator[None]:
    """A write that failed leaves no note for the next start."""
    with patch.object(Marks, "note_storage_failure", lambda _: False):
        yield


@contextmanager
def leave_notes_unsynced() -> Iterator[None]:
    """After an end for a failed write and a loss of power the note of it is gone."""
    with patch.object(Marks, "sync", lambda _: None):
        yield


@contextmanager
def leave_log_unsynced() -> Iterator[None]:
    """A start has its marks count entries that a loss of power takes from the log."""
    with patch("riskmon.journal.opening._sync", lambda _: None):
        yield


@contextmanager
def keep_reserve() -> Iterator[None]:
    """A full disk has no room for the last commits."""
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
