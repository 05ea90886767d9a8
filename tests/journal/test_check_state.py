"""`check-state` reports every fault and changes nothing, also beside a running journal."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import apsw
import pytest

from riskmon.core.decisions import Record
from riskmon.core.engine import Engine
from riskmon.core.events import Latency
from riskmon.journal import Commit, Entry, Journal, StateReport, check_state
from tests.journal.test_journal import commit


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A state directory and a gate's path, with entries, records and two snapshots."""
    state, gate = tmp_path / "state", tmp_path / "gates" / "main.gate"
    gate.parent.mkdir()
    journal = Journal.open(state, gate=gate)
    for seq in range(1, 31):
        written = Commit(
            entries=[Entry(seq, seq, seq * 10**9, [Latency(venue="kraken", seconds=0.1)])],
            decisions=[Record(id=f"inc_{seq}", kind="trip", at_ns=seq)],
            snapshot=Engine().snapshot() if seq % 10 == 0 else None,
        )
        assert commit(journal, written) is None
    journal.close(clean=True)
    return state, gate


def check(places: tuple[Path, Path]) -> StateReport:
    """Return the report, and assert that no file was changed, created or removed."""
    before = contents(places)
    report = check_state(*places, Engine.restore)
    assert contents(places) == before
    return report


def contents(places: tuple[Path, Path]) -> dict[Path, bytes]:
    """Return all files of both directories, without SQLite's index, which is in memory."""
    files = [*places[0].iterdir(), *places[1].parent.iterdir()] if places[0].exists() else []
    return {path: path.read_bytes() for path in files if not path.name.endswith("-shm")}


def changed(state: Path, statement: str) -> None:
    """Change the journal by an SQL statement."""
    with apsw.Connection(str(state / "journal.db")) as db:
        db.execute(statement)
    db.close()


def test_a_sound_state_has_no_finding(places: tuple[Path, Path]) -> None:
    """The note names the last entry; before the first start it says that there is none."""
    report = check(places)
    assert (report.findings, report.running) == ([], "")
    assert report.notes == [
        f"the last entry of {places[0]}/journal.db is 30 of 1970-01-01T00:00:30.000Z"
    ]
    nowhere = (places[0].parent / "nowhere", places[1].with_name("other.gate"))
    report = check(nowhere)
    assert report.findings == []
    assert "has no entries yet" in report.notes[0]
    assert not nowhere[0].exists()


def test_beside_a_running_journal(places: tuple[Path, Path]) -> None:
    """The report has the process id, and no finding for entries that are being written."""
    journal = Journal.open(places[0], gate=places[1])
    assert commit(journal, Commit(entries=[Entry(31, 31, 31, [])])) is None
    report = check(places)
    assert commit(journal, Commit(entries=[Entry(32, 32, 32, [])])) is None
    journal.close(clean=True)
    assert (report.findings, report.running) == ([], str(os.getpid()))


def test_every_finding_is_named(places: tuple[Path, Path]) -> None:
    """One report has the findings in entries, records, snapshots and marks."""
    state, gate = places
    changed(state, "DELETE FROM inputs WHERE seq IN (4, 5)")
    changed(state, "UPDATE inputs SET events = x'91c1' WHERE seq = 9")
    changed(state, "UPDATE audit SET record = '{' WHERE id = 'inc_3'")
    changed(state, "UPDATE snapshots SET crc = crc + 1 WHERE seq = 20")
    changed(state, "DELETE FROM inputs WHERE seq = 30")
    gate.with_name(".main.gate.mark").write_bytes(b"")
    said = "\n".join(check(places).findings)
    for finding in (
        "entries 4 to 5 are missing",
        "entry 9 is damaged",
        "a record of the audit trail is damaged",
        "the snapshot at entry 20 does not match its checksum",
        "main.gate.mark has 0 bytes",
        "lacks entry 30 of 1970-01-01T00:00:30.000Z",
    ):
        assert finding in said


def test_a_damaged_or_lost_database(places: tuple[Path, Path]) -> None:
    """Damaged pages, a file that is not a database, and a missing one are reported."""
    path = places[0] / "journal.db"
    whole = path.read_bytes()
    path.write_bytes(whole[: 4_096 * 3] + b"\xa5" * 4_096 + whole[4_096 * 4 :])
    assert check(places).findings
    path.write_bytes(b"\xa5" * len(whole))
    assert "not a database" in check(places).findings[0]
    path.write_bytes(b"")
    assert "contained entries 1 to 30" in check(places).findings[0]
    shutil.rmtree(places[0])
    assert "contained entries 1 to 30" in check(places).findings[0]
