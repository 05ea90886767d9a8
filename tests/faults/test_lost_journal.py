"""A damaged, shortened or removed journal is never started like an empty one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from riskmon.core.events import Event, Operate
from riskmon.journal import Commit, Entry, Journal, JournalError, JournalLost, backup, restore
from riskmon.journal.mark import mark_paths
from tests.journal.test_journal import commit
from tests.support import ROOT

ENTRIES = 60
WAL_HEADER_BYTES, FRAME_BYTES = 32, 24 + 4_096

# Writes entries, the last of them a freeze, and dies without closing anything.
KILLED = """
import os, sys, threading
from pathlib import Path
from riskmon.core.events import Latency, Operate
from riskmon.journal import Commit, Entry, Journal

state_dir, gate, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
journal = Journal.open(state_dir, gate=gate)
for n in range(1, count + 1):
    event = Latency(venue="kraken", seconds=0.1)
    if n == count:
        event = Operate(action="freeze", scope="account", reason="a test")
    written = threading.Event()
    snapshot = b"state after %d" % n if n == count // 2 else None
    entry = Entry(n, n, n * 10**9, [event])
    journal.submit(Commit(entries=[entry], snapshot=snapshot), lambda fault: written.set())
    written.wait()
os.kill(os.getpid(), 9)
"""


class State:
    """A state directory and a gate's directory, and copies of both as a kill left them."""

    def __init__(self, directory: Path) -> None:
        self.dir, self.gates = directory / "state", directory / "gates"
        self.gate = self.gates / "main.gate"
        self.kept = directory / "kept"
        self.gates.mkdir(parents=True)
        self.db, self.wal = self.dir / "journal.db", self.dir / "journal.db-wal"
        self.state_mark, self.gate_mark = mark_paths(self.dir, self.gate)

    def killed(self, count: int = ENTRIES) -> None:
        """Write entries, die, and copy the files that are left."""
        arguments = [str(self.dir), str(self.gate), str(count)]
        run = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, check=False)
        assert run.returncode == -signal.SIGKILL
        for part in (self.dir, self.gates):
            shutil.copytree(part, self.kept / part.name)

    def again(self) -> None:
        """Restore the files as the kill left them."""
        for part in (self.dir, self.gates):
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(self.kept / part.name, part)

    def start(self, *, accept_loss: bool = False) -> list[Event] | None:
        """Return the events that a start replays, None when it is refused."""
        try:
            journal = Journal.open(self.dir, gate=self.gate, accept_loss=accept_loss)
        except JournalError:
            return None
        try:
            found = journal.recover()
            assert found.snapshot in (None, b"state after %d" % (ENTRIES // 2))
            return [event for entry in found.entries for event in entry.events]
        except JournalError:
            return None
        finally:
            journal.close(clean=False)

    def holds(self) -> bool:
        """Whether a start is refused or replays the freeze."""
        events = self.start()
        return events is None or any(isinstance(event, Operate) for event in events)

    def refusal(self) -> str:
        """Return the reason for which a start is refused."""
        with pytest.raises(JournalError) as refused:
            Journal.open(self.dir, gate=self.gate).close(clean=False)
        return str(refused.value)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> State:
    """The state after a kill, created once; each test restores it."""
    state = State(tmp_path_factory.mktemp("lost"))
    state.killed()
    return state


@pytest.fixture
def state(written: State) -> State:
    written.again()
    return written


def flip(path: Path, at: int, bit: int = 0x01) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ bit]))


def zero(path: Path) -> None:
    """Replace the content of a file by zeros."""
    path.write_bytes(bytes(path.stat().st_size))


def test_an_undamaged_journal_starts_after_a_kill(state: State) -> None:
    """Without damage the journal starts after a kill."""
    events = state.start()
    assert events is not None
    assert len(events) == ENTRIES // 2
    assert isinstance(events[-1], Operate)


def test_a_flipped_bit_anywhere_in_the_log(state: State) -> None:
    """A flipped bit in a header or a page of the log: refused, or the freeze is replayed."""
    size = state.wal.stat().st_size
    frames = range(WAL_HEADER_BYTES, size, FRAME_BYTES)
    places = [*range(WAL_HEADER_BYTES), *(at + n for at in frames[:3] for n in range(24))]
    places += random.Random(8).sample(range(size), 150)
    refused = 0
    for at in places:
        state.again()
        flip(state.wal, at)
        assert state.holds(), f"bit at {at} of {size}"
        state.again()
        flip(state.wal, at)
        refused += state.start() is None
    assert refused > len(places) // 2


def test_a_log_of_any_length(state: State) -> None:
    """A log that is removed, empty, or cut in the header, in a frame or between frames."""
    size = state.wal.stat().st_size
    lengths = [0, 1, 31, 32, 33, WAL_HEADER_BYTES + FRAME_BYTES - 1, size - 1]
    lengths += [WAL_HEADER_BYTES + FRAME_BYTES * n for n in range(1, size // FRAME_BYTES, 7)]
    for length in lengths:
        state.again()
        os.truncate(state.wal, length)
        assert state.start() is None, length
    state.again()
    state.wal.unlink()
    assert state.start() is None


def remove(*paths: Path) -> None:
    """Remove files."""
    for path in paths:
        path.unlink()


def empty(directory: Path, *, keep: str = "") -> None:
    """Remove all files in a directory except one."""
    remove(*(path for path in directory.iterdir() if path.name != keep))


Damage = Callable[[State], None]
REMOVED: dict[str, list[Damage]] = {
    "database of 0 bytes": [lambda s: os.truncate(s.db, 0)],
    "database of 0 bytes, log removed": [lambda s: os.truncate(s.db, 0), lambda s: remove(s.wal)],
    "database removed, log left": [lambda s: remove(s.db)],
    "database and log removed": [lambda s: remove(s.db, s.wal)],
    "database truncated to its header": [lambda s: os.truncate(s.db, 4_096)],
    "header alone": [lambda s: os.truncate(s.db, 4_096), lambda s: remove(s.wal)],
    "database cut in half": [lambda s: os.truncate(s.db, s.db.stat().st_size // 2)],
    "database of zeros": [lambda s: zero(s.db)],
    "all but the mark removed": [lambda s: empty(s.dir, keep="mark")],
    "state directory removed": [lambda s: shutil.rmtree(s.dir)],
    "state directory emptied": [lambda s: empty(s.dir)],
    "state directory replaced": [lambda s: shutil.rmtree(s.dir), lambda s: s.dir.mkdir(mode=0o700)],
}


@pytest.mark.parametrize("marks", ["both marks", "no state mark", "no gate mark", "no mark"])
@pytest.mark.parametrize("damage", REMOVED)
def test_missing_files(state: State, damage: str, marks: str) -> None:
    """With a mark left the start is refused, without marks as long as any file is left."""
    for step in REMOVED[damage]:
        step(state)
    if marks in ("no state mark", "no mark"):
        state.state_mark.unlink(missing_ok=True)
    if marks in ("no gate mark", "no mark"):
        state.gate_mark.unlink()
    left = state.wal.exists() or (state.db.exists() and state.db.stat().st_size > 0)
    if not left and not state.state_mark.exists() and not state.gate_mark.exists():
        assert state.start() == []  # like a first start
    elif damage == "header alone" and marks == "no mark":
        assert state.start() in (None, [])
    else:
        assert state.start() is None


def test_the_refusal_changes_nothing(state: State) -> None:
    """A refusal changes no file, so that the damage can be examined."""
    state.wal.write_bytes(state.wal.read_bytes()[: 40 * FRAME_BYTES])
    before = {path.name: path.read_bytes() for path in state.dir.iterdir()}
    gates = {path.name: path.read_bytes() for path in state.gates.iterdir()}
    state.refusal()
    after = {path.name: path.read_bytes() for path in state.dir.iterdir()}
    for files in (before, after):
        files.pop("journal.db-shm", None)  # an index, which SQLite recreates
        files.pop("lock")
    assert after == before
    assert {path.name: path.read_bytes() for path in state.gates.iterdir()} == gates


def test_the_refusal_names_the_missing_entries_and_both_remedies(state: State) -> None:
    """The message names the entries, the time of the last, the files, and both remedies."""
    os.truncate(state.wal, 0)
    state.db.unlink()
    shutil.copy(state.kept / "state" / "journal.db", state.db)
    line = state.refusal()
    assert "journal.db" in line
    assert f"to {ENTRIES}, the last of 1970-01-01T00:01:00.000Z" in line
    assert "`riskmon restore FILE`" in line
    assert "`riskmon run --accept-loss`" in line
    assert "\n" not in line


def test_a_gap_after_the_snapshot(state: State) -> None:
    """A gap between the entries stops the replay."""
    state.start()
    with apsw.Connection(str(state.db)) as db:
        db.execute("DELETE FROM inputs WHERE seq = ?", (ENTRIES - 5,))
    db.close()
    journal = Journal.open(state.dir, gate=state.gate)
    try:
        with pytest.raises(JournalLost, match=rf"entries {ENTRIES - 5} to {ENTRIES - 5} of .*miss"):
            list(journal.recover().entries)
    finally:
        journal.close(clean=False)


def test_a_flipped_bit_in_an_entry_of_the_database(state: State) -> None:
    """A flipped bit in the database, which has no checksums, is detected by that of the entry."""
    state.start()  # this copies the log into the database
    body = state.db.read_bytes()
    with closing(apsw.Connection(str(state.db))) as db:
        ((entry,),) = db.execute("SELECT events FROM inputs WHERE seq = ?", (ENTRIES - 5,))
    assert body.count(entry) == 1
    begin = body.index(entry)
    for bit in range(0, len(entry) * 8, 11):
        damaged = bytearray(body)
        damaged[begin + bit // 8] ^= 1 << bit % 8
        state.db.write_bytes(damaged)
        assert state.start() is None, bit
    state.db.write_bytes(body)
    assert state.start() is not None


def test_a_gap_directly_after_the_snapshot(state: State) -> None:
    """The first entry after the snapshot must exist too."""
    state.start()
    with apsw.Connection(str(state.db)) as db:
        db.execute("DELETE FROM inputs WHERE seq = ?", (ENTRIES // 2 + 1,))
    db.close()
    assert state.start() is None


# -- marks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["state_mark", "gate_mark"])
def test_one_missing_mark_is_recreated(state: State, lost: str) -> None:
    """A reboot removes the mark beside the gate: the start continues and recreates it."""
    path: Path = getattr(state, lost)
    path.unlink()
    assert state.start() is not None
    other = state.gate_mark if lost == "state_mark" else state.state_mark
    other.unlink()
    with apsw.Connection(str(state.db)) as db:
        db.execute("DELETE FROM inputs WHERE seq > ?", (ENTRIES - 5,))
    db.close()
    assert state.start() is None


@pytest.mark.parametrize("damaged", ["state_mark", "gate_mark"])
def test_a_damaged_mark_counts_as_missing(state: State, damaged: str) -> None:
    """One damaged mark does not prevent the start of a complete journal; two do."""
    path: Path = getattr(state, damaged)
    path.write_bytes(b"\xa5" * path.stat().st_size)
    assert state.start() is not None
    for mark in (state.state_mark, state.gate_mark):
        mark.write_bytes(b"\xa5" * 100)
    assert "without a mark it is unknown whether" in state.refusal()


def test_both_marks_missing_is_refused(state: State) -> None:
    """A journal that had marks and has none may have been shortened."""
    state.state_mark.unlink()
    state.gate_mark.unlink()
    assert "without a mark it is unknown whether" in state.refusal()


def test_an_older_copy_of_the_journal_is_refused(state: State) -> None:
    """An older copy of the files lacks later entries."""
    state.start()
    shutil.copytree(state.dir, state.kept.parent / "older", dirs_exist_ok=True)
    journal = Journal.open(state.dir, gate=state.gate)
    assert commit(journal, Commit(entries=[Entry(ENTRIES + 1, 99, 99, [])])) is None
    journal.close(clean=True)
    shutil.rmtree(state.dir)
    shutil.copytree(state.kept.parent / "older", state.dir)
    assert f"lacks entry {ENTRIES + 1} of " in state.refusal()


def test_another_journal_is_refused(state: State, tmp_path: Path) -> None:
    """The mark beside the gate identifies its journal, whatever the length of another one."""
    other = State(tmp_path)
    other.killed(ENTRIES + 40)
    shutil.rmtree(state.dir)
    shutil.copytree(other.dir, state.dir)
    assert "but of another journal" in state.refusal()


def test_an_empty_state_dir_beside_a_known_gate_is_refused(state: State, tmp_path: Path) -> None:
    """A mistyped `state_dir` does not start an empty journal: the message names the other one."""
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(JournalLost, match="set that state_dir") as refused:
        Journal.open(elsewhere, gate=state.gate)
    assert str(state.dir) in str(refused.value)
    assert not (elsewhere / "journal.db").exists()


def test_a_moved_state_dir_starts(state: State, tmp_path: Path) -> None:
    """The same journal under another path starts."""
    moved = tmp_path / "moved"
    state.dir.rename(moved)
    journal = Journal.open(moved, gate=state.gate)
    assert len(list(journal.recover().entries)) == ENTRIES // 2
    journal.close(clean=True)
    journal = Journal.open(moved, gate=state.gate)
    journal.close(clean=True)


def test_a_journal_of_0_1_0_without_marks_is_accepted_once(state: State) -> None:
    """A journal without marks gets an identity once; from then on its marks are required."""
    state.start()
    for mark in (state.state_mark, state.gate_mark):
        mark.unlink()
    with apsw.Connection(str(state.db)) as db:
        db.execute("DELETE FROM meta WHERE key LIKE 'identity%'")
    db.close()
    assert state.start() is not None
    assert state.state_mark.exists()
    journal = Journal.open(state.dir, gate=state.gate)
    assert commit(journal, Commit(entries=[Entry(ENTRIES + 1, 99, 99, [])])) is None
    journal.close(clean=True)
    assert state.gate_mark.exists()
    for mark in (state.state_mark, state.gate_mark):
        mark.unlink()
    assert state.start() is None


def test_a_first_start_that_is_killed_does_not_block_the_next(tmp_path: Path) -> None:
    """A first start that was killed at any step does not block the next start."""
    state = State(tmp_path)
    for damage in ("marks alone", "header", "tables without identity"):
        shutil.rmtree(state.dir, ignore_errors=True)
        journal = Journal.open(state.dir, gate=state.gate)
        journal.close(clean=True)
        if damage == "marks alone":
            state.db.unlink()
        elif damage == "header":
            os.truncate(state.db, 0)
        else:
            with apsw.Connection(str(state.db)) as db:
                db.execute("DELETE FROM meta WHERE key LIKE 'identity%'")
            db.close()
        assert state.start() == [], damage


# -- the two ways on ----------------------------------------------------------------------------


def test_restore_writes_both_marks(state: State, tmp_path: Path) -> None:
    """The restored state starts, and a copy of the replaced one no longer does."""
    backup(state.dir, tmp_path / "copy")
    shutil.rmtree(state.dir)
    assert state.start() is None
    state.dir.mkdir(mode=0o700, exist_ok=True)
    restore(tmp_path / "copy", state.dir, state.gate, decode_snapshot=bytes)
    events = state.start()
    assert events is not None
    assert isinstance(events[-1], Operate)
    shutil.rmtree(state.dir)
    shutil.copytree(state.kept / "state", state.dir)
    assert "but of another journal" in state.refusal()


LOSSES: dict[str, Damage] = {
    "log truncated": lambda s: os.truncate(s.wal, 20 * FRAME_BYTES),
    "log's header flipped": lambda s: flip(s.wal, 3),
    "database of zeros": lambda s: zero(s.db),
    "database of 0 bytes": lambda s: os.truncate(s.db, 0),
    "database removed": lambda s: remove(s.db),
    "everything removed": lambda s: shutil.rmtree(s.dir),
    "marks removed": lambda s: remove(s.state_mark, s.gate_mark),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_accept_loss_keeps_the_old_files(state: State, loss: str) -> None:
    """It starts with the readable entries, keeps the old files, and reports the loss."""
    LOSSES[loss](state)
    left = {
        path.read_bytes() for path in (state.db, state.wal) if path.exists() and path.stat().st_size
    }
    assert state.refusal()
    journal = Journal.open(state.dir, gate=state.gate, accept_loss=True)
    found = journal.recover()
    assert found.lost
    assert found.unclean
    seqs = [entry.seq for entry in found.entries]
    assert seqs == list(range(found.last_seq - len(seqs) + 1, found.last_seq + 1))
    freeze = Operate(action="freeze", scope="account", reason=found.lost)
    last = found.last_seq + 1
    assert commit(journal, Commit(entries=[Entry(last, last, last, [freeze])])) is None
    journal.close(clean=True)
    kept = {path.read_bytes() for path in state.dir.iterdir() if ".old-" in path.name}
    assert left <= kept
    events = state.start()
    assert events is not None
    assert events[-1] == freeze


def test_accept_loss_applies_only_with_its_first_commit(state: State) -> None:
    """A kill before the freeze is written: the next start is refused as before."""
    os.truncate(state.wal, 20 * FRAME_BYTES)
    script = (
        "import os, sys; from pathlib import Path; from riskmon.journal import Journal\n"
        "Journal.open(Path(sys.argv[1]), gate=Path(sys.argv[2]), accept_loss=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    arguments = [str(state.dir), str(state.gate)]
    run = subprocess.run([sys.executable, "-c", script, *arguments], cwd=ROOT, check=False)
    assert run.returncode == -signal.SIGKILL
    assert state.refusal()


def test_accept_loss_replays_the_entries_before_the_damage(state: State) -> None:
    """Entries before the damage are replayed, those after it are not."""
    state.start()
    with apsw.Connection(str(state.db)) as db:
        db.execute("UPDATE inputs SET events = x'91c1' WHERE seq = ?", (ENTRIES - 3,))
    db.close()
    journal = Journal.open(state.dir, gate=state.gate, accept_loss=True)
    found = journal.recover()
    journal.close(clean=False)
    assert found.last_seq == ENTRIES - 4
    assert f"entries {ENTRIES - 3} to {ENTRIES}" in found.lost


def test_accept_loss_without_a_loss_changes_nothing(state: State) -> None:
    """With a complete journal the option has no effect, so it may stay in a unit file."""
    journal = Journal.open(state.dir, gate=state.gate, accept_loss=True)
    found = journal.recover()
    assert found.lost == ""
    assert len(list(found.entries)) == ENTRIES // 2
    journal.close(clean=True)
    assert not [path for path in state.dir.iterdir() if ".old-" in path.name]
