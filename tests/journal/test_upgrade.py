"""The journal of an earlier version is copied, then becomes one of this version."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest

from riskmon.core.version import STATE_VERSION
from riskmon.journal import Commit, Journal, JournalError
from tests.journal.test_journal import entry, numbers, reopened, write


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A state directory of version 1 with one entry."""
    state_dir = tmp_path / "state"
    write(state_dir, Commit(entries=[entry(1)]))
    with closing(apsw.Connection(str(state_dir / "journal.db"))) as db:
        db.execute("PRAGMA user_version = 1")
    return state_dir


def version(journal: Path) -> int:
    """The state version of a journal."""
    with closing(apsw.Connection(str(journal), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        row = db.execute("PRAGMA user_version").fetchone()
        assert row is not None
        return int(str(row[0]))


def copies(state_dir: Path) -> list[Path]:
    """The copies beside a journal."""
    return sorted(state_dir.glob("journal.db.version-*"))


def test_a_journal_becomes_one_of_this_version_with_its_first_snapshot(earlier: Path) -> None:
    """Until a snapshot is written the earlier version can still start."""
    write(earlier, Commit(entries=[entry(2)]))
    assert version(earlier / "journal.db") == 1
    write(earlier, Commit(entries=[entry(3)], snapshot=b"state"))
    assert version(earlier / "journal.db") == STATE_VERSION
    assert numbers(earlier) == [1, 2, 3]


def test_the_version_of_what_is_recovered_is_known(earlier: Path) -> None:
    """The start replays what an earlier version wrote otherwise than what this one wrote."""
    assert reopened(earlier)[0].version == 1
    write(earlier, Commit(snapshot=b"state"))
    assert reopened(earlier)[0].version == STATE_VERSION


def test_the_copy_holds_the_journal_as_it_was(earlier: Path) -> None:
    """It is of the earlier version, for its owner alone, and no later start replaces it."""
    write(earlier, Commit(entries=[entry(2)], snapshot=b"state"))
    (copy,) = copies(earlier)
    assert (version(copy), copy.stat().st_mode & 0o777) == (1, 0o600)
    assert copy.name.endswith("-entry-1")
    write(earlier, Commit(entries=[entry(3)]))
    assert copies(earlier) == [copy]


def test_a_start_that_is_repeated_makes_one_copy(earlier: Path) -> None:
    """A supervisor that restarts a sidecar which cannot start does not fill the disk."""
    for _ in range(3):
        write(earlier)
    assert len(copies(earlier)) == 1


def test_without_room_for_a_copy_nothing_is_changed(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what is needed and what is free."""
    before = (earlier / "journal.db").read_bytes()
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=10, f_frsize=4_096))
    with pytest.raises(JournalError, match=r"no space left for .* 40960 are free"):
        Journal.open(earlier)
    assert (earlier / "journal.db").read_bytes() == before
    assert copies(earlier) == []
