"""The journal: acknowledged commits are present afterwards, complete and in order."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import apsw
import pytest

from riskmon.core.decisions import Decision, Record, Transition, Warned
from riskmon.core.events import (
    Configured,
    Event,
    Heartbeat,
    Latency,
    Operate,
    Start,
)
from riskmon.core.parsing import parse_json
from riskmon.delivery import Delivery
from riskmon.journal import (
    Commit,
    Entry,
    Journal,
    JournalError,
    Recovered,
    Unencodable,
    backup,
    entries,
    restore,
)
from riskmon.journal.file import translated_errors
from tests.support import ROOT
from tests.support.waiting import PATIENCE_SECONDS, eventually

DAY_NS = 86_400 * 10**9


def entry(seq: int, *, wall_ns: int | None = None, size: int = 0) -> Entry:
    """Return an entry whose times follow from its number."""
    event: Event = Start(epoch="x" * size) if size else Latency(venue="kraken", seconds=0.1)
    return Entry(seq, seq * 10, seq * 1_000 if wall_ns is None else wall_ns, [event])


def delivery(id_: str, incident: str = "inc_1") -> Delivery:
    """Return a pending cancel for one target."""
    return Delivery(id_, incident, 1, "oms", "account", b'{"type":"cancel_orders"}', 5)


def record(id_: str, at_ns: int, **more: str) -> Record:
    """Return a record of the audit trail."""
    return Record(id=id_, kind="trip", at_ns=at_ns, **more)  # type: ignore[arg-type]


def commit(journal: Journal, what: Commit) -> BaseException | None:
    """Submit and wait for the acknowledgement."""
    answers: SimpleQueue[BaseException | None] = SimpleQueue()
    journal.submit(what, answers.put)
    return answers.get(timeout=PATIENCE_SECONDS)


def write(state_dir: Path, *commits: Commit, clean: bool = True) -> None:
    """Run a journal that commits these and ends."""
    journal = Journal.open(state_dir)
    try:
        for each in commits:
            assert commit(journal, each) is None
    finally:
        journal.close(clean=clean)


def reopened(state_dir: Path) -> tuple[Recovered, list[int]]:
    """Return the recovered state of the next start, and the numbers of the entries to replay."""
    journal = Journal.open(state_dir)
    try:
        found = journal.recover()
        return found, [each.seq for each in found.entries]
    finally:
        journal.close(clean=True)


def numbers(state_dir: Path) -> list[int]:
    """Return the numbers of all entries in a journal's file."""
    return [each.seq for each in entries(state_dir / "journal.db")]


@contextmanager
def no_room(state_dir: Path) -> Iterator[None]:
    """Make the system refuse to grow the journal's log by more than a few pages."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (state_dir / "journal.db-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -- recovery -----------------------------------------------------------------------------------


def test_new_journal_is_empty_and_clean(tmp_path: Path) -> None:
    """A first start has nothing to recover and is not unclean."""
    found, seqs = reopened(tmp_path / "a" / "state")
    assert (found.snapshot, seqs, found.undelivered) == (None, [], [])
    assert (found.unclean, found.last_now_ns, found.last_seq) == (False, 0, 0)


def test_events_are_restored_equal(tmp_path: Path) -> None:
    """Every kind of value in an event is restored: times with zone, floats, tables, absences."""
    body = (
        b'[{"type":"fill","id":"T1","venue":"kraken","symbol":"BTC/USDT","side":"buy",'
        b'"quantity":"0.00000001","price":65000,"at":"2026-01-02T03:04:05.678901Z"},'
        b'{"type":"balances","venue":"mexc","assets":{"BTC":{"free":0.5,"locked":0.1}}}]'
    )
    events: list[Event] = [
        *parse_json(body, 1_767_323_045 * 10**9),
        Configured(config={"limits": {"edge": {"min": 1.5, "enabled": False, "per": None}}}),
        Heartbeat(strategy="mm1", final=True),
    ]
    write(tmp_path, Commit(entries=[Entry(1, 7, 8, events)]))
    assert list(entries(tmp_path / "journal.db")) == [Entry(1, 7, 8, events)]


def test_recovery_gives_newest_snapshot_and_what_follows_in_order(tmp_path: Path) -> None:
    """A start replays exactly the entries after the newest snapshot, oldest first."""
    write(
        tmp_path,
        Commit(entries=[entry(1), entry(2)], snapshot=b"two"),
        Commit(entries=[entry(3)], snapshot=b"three"),
        Commit(entries=[entry(4)]),
        Commit(entries=[entry(5), entry(6)]),
    )
    found, seqs = reopened(tmp_path)
    assert (found.snapshot, seqs) == (b"three", [4, 5, 6])
    assert (found.last_seq, found.last_now_ns) == (6, 60)


def test_a_snapshot_alone_covers_all_earlier_entries(tmp_path: Path) -> None:
    """A snapshot in a commit without entries covers the entries committed before."""
    write(tmp_path, Commit(entries=[entry(1), entry(2)]), Commit(snapshot=b"two"))
    write(tmp_path, Commit(snapshot=b"two again"), Commit(entries=[entry(3)]))
    found, seqs = reopened(tmp_path)
    assert (found.snapshot, seqs) == (b"two again", [3])


def test_damaged_snapshot_falls_back_to_the_one_before(tmp_path: Path) -> None:
    """Two snapshots are kept: if one is damaged, the replay is longer and no state is lost."""
    write(
        tmp_path,
        *(Commit(entries=[entry(n)], snapshot=f"after {n}".encode()) for n in (1, 2, 3)),
    )
    with apsw.Connection(str(tmp_path / "journal.db")) as db:
        kept = db.execute("SELECT seq FROM snapshots ORDER BY seq").fetchall()
        db.execute("UPDATE snapshots SET data = ? WHERE seq = 3", (b"after x",))
    db.close()
    found, seqs = reopened(tmp_path)
    assert kept == [(2,), (3,)]
    assert (found.snapshot, seqs) == (b"after 2", [3])


def test_no_valid_snapshot_and_pruned_entries_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A state that cannot be rebuilt is refused; the log has the reason for each snapshot."""
    journal = Journal.open(tmp_path)
    for n in range(1, 5):
        commit(journal, Commit(entries=[entry(n)], snapshot=b"s" if n % 2 == 0 else None))
    journal.prune(keep_days=30, max_bytes=0)
    eventually(lambda: numbers(tmp_path) == [4])
    journal.close(clean=True)
    with apsw.Connection(str(tmp_path / "journal.db")) as db:
        db.execute("UPDATE snapshots SET crc = crc + 1 WHERE seq = 4")
    db.close()
    journal = Journal.open(tmp_path)
    try:
        with pytest.raises(JournalError, match=r"no valid snapshot.*up to 3 are pruned.*restore"):
            journal.recover()
    finally:
        journal.close(clean=False)
    path = tmp_path / "journal.db"
    assert [one.message for one in caplog.records] == [
        f"skipping the snapshot at entry 4 of {path}: it is damaged",
        f"skipping the snapshot at entry 2 of {path}: entries after it are pruned",
    ]


def test_unclean_until_closed_in_order(tmp_path: Path) -> None:
    """The next start is clean only after a clean close or a commit with `clean`."""
    write(tmp_path, clean=False)
    assert reopened(tmp_path)[0].unclean
    assert not reopened(tmp_path)[0].unclean
    write(tmp_path, Commit(clean=True), clean=False)
    assert not reopened(tmp_path)[0].unclean


# -- durability ---------------------------------------------------------------------------------

ENDLESS = """
import itertools, os, sys, threading
from pathlib import Path
from riskmon.core.decisions import Record
from riskmon.core.events import Latency
from riskmon.delivery import Delivery
from riskmon.journal import Commit, Entry, Journal

journal = Journal.open(Path(sys.argv[1]))
room = threading.Semaphore(64)
for n in itertools.count(1):
    room.acquire()
    def done(fault, n=n):
        os.write(1, b"%d\\n" % n)
        room.release()
    journal.submit(Commit(
        entries=[Entry(n, n, n, [Latency(venue="kraken", seconds=0.1)])],
        decisions=[Record(id=f"inc_{n}", kind="trip", at_ns=n)],
        deliveries=[Delivery(f"d{n}", f"inc_{n}", 1, "oms", "account", b"{}", n)],
    ), done)
"""


def test_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    """After a kill -9 all acknowledged commits are present and complete."""
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(500)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
    acknowledged = max(int(line) for line in lines if line.endswith(b"\n"))
    found, seqs = reopened(tmp_path)
    assert acknowledged >= 500
    assert found.unclean
    assert len(seqs) >= acknowledged
    assert seqs == list(range(1, len(seqs) + 1))
    assert [each.id for each in found.undelivered] == [f"d{n}" for n in seqs]
    journal = Journal.open(tmp_path)
    assert [each.at_ns for each in journal.audit(10**6)] == seqs[::-1]
    journal.close(clean=True)


def test_failed_write_leaves_nothing_of_its_transaction(tmp_path: Path) -> None:
    """When the disk is full, no part of a commit is present, and its sender gets the error."""
    journal = Journal.open(tmp_path)
    assert commit(journal, Commit(entries=[entry(1)])) is None
    with no_room(tmp_path):
        fault = commit(
            journal,
            Commit(
                entries=[entry(2)],
                decisions=[record("inc_1", 1)],
                deliveries=[delivery("d1")],
                snapshot=b"s" * 1_000_000,
            ),
        )
    assert isinstance(fault, JournalError)
    assert "journal.db" in str(fault)
    journal.close(clean=False)
    found, seqs = reopened(tmp_path)
    assert (found.snapshot, seqs, found.undelivered) == (None, [1], [])


def test_failed_write_is_fatal_for_all_that_follow(tmp_path: Path) -> None:
    """After one failure nothing is acknowledged, even when there is space again."""
    journal = Journal.open(tmp_path)
    answers: SimpleQueue[BaseException | None] = SimpleQueue()
    with no_room(tmp_path):
        for n in range(1, 4):
            journal.submit(Commit(entries=[entry(n, size=100_000)]), answers.put)
        assert all(answers.get(timeout=PATIENCE_SECONDS) for _ in range(3))
    assert isinstance(commit(journal, Commit(entries=[entry(9)])), JournalError)
    journal.prune(keep_days=0, max_bytes=0)
    with pytest.raises(JournalError, match=r"journal\.db"):
        journal.close(clean=True)
    found, seqs = reopened(tmp_path)
    assert found.unclean
    assert seqs == []


def test_full_disk_is_named(tmp_path: Path) -> None:
    """The message for a full disk contains the remedy."""
    path = tmp_path / "journal.db"
    db = apsw.Connection(str(path))
    db.execute("PRAGMA max_page_count = 3")
    db.execute("CREATE TABLE t (x)")
    words = r"no space left to write .*journal\.db: free some"
    with pytest.raises(JournalError, match=words), translated_errors(path):
        db.execute("INSERT INTO t VALUES (zeroblob(100000))")
    db.close()


def test_backup_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    """A failed backup leaves neither a file under its name nor a temporary one."""
    write(tmp_path / "state", Commit(entries=[entry(1, size=1_000_000)]))
    (tmp_path / "out").mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(JournalError, match=r"cannot use .*out/copy"):
            backup(tmp_path / "state", tmp_path / "out" / "copy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_repeated_number_is_refused(tmp_path: Path) -> None:
    """A repeated sequence number, which would make a replay differ, ends the journal."""
    journal = Journal.open(tmp_path)
    assert commit(journal, Commit(entries=[entry(1)])) is None
    assert isinstance(commit(journal, Commit(entries=[entry(1)])), JournalError)
    journal.close(clean=False)
    assert reopened(tmp_path)[1] == [1]


# -- the writer thread --------------------------------------------------------------------------


def test_group_commit_takes_all_that_waits(tmp_path: Path) -> None:
    """Queued commits become durable in one transaction and are answered in order."""
    journal = Journal.open(tmp_path)
    go_on, busy = threading.Event(), threading.Event()
    seen: SimpleQueue[tuple[int, list[int]]] = SimpleQueue()

    def hold(_: BaseException | None) -> None:
        busy.set()
        go_on.wait(PATIENCE_SECONDS)

    journal.submit(Commit(), hold)
    assert busy.wait(PATIENCE_SECONDS)

    def look(n: int) -> Callable[[BaseException | None], None]:
        return lambda _: seen.put((n, numbers(tmp_path)))

    for n in range(1, 101):
        journal.submit(Commit(entries=[entry(n)]), look(n))
    go_on.set()
    answers = [seen.get(timeout=PATIENCE_SECONDS) for _ in range(100)]
    journal.close(clean=True)
    assert [n for n, _ in answers] == list(range(1, 101))
    assert all(there == list(range(1, 101)) for _, there in answers)


def test_many_threads_submit(tmp_path: Path) -> None:
    """Each sender gets its own acknowledgement, after which its entry is present."""
    journal = Journal.open(tmp_path)
    faults: SimpleQueue[BaseException | None] = SimpleQueue()

    def send(base: int) -> None:
        for n in range(50):
            faults.put(commit(journal, Commit(decisions=[record(f"r{base + n}", base + n)])))

    threads = [threading.Thread(target=send, args=(k * 1_000,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    records = journal.audit(1_000)
    journal.close(clean=True)
    assert [faults.get_nowait() for _ in range(200)] == [None] * 200
    assert len({each.id for each in records}) == 200


def test_a_callback_that_raises_does_not_stop_the_writer(tmp_path: Path) -> None:
    """A callback that raises an exception does not stop the writer."""
    journal = Journal.open(tmp_path)

    def broken(_: BaseException | None) -> None:
        raise RuntimeError("the loop is closed")

    journal.submit(Commit(entries=[entry(1)]), broken)
    assert commit(journal, Commit(entries=[entry(2)])) is None
    journal.close(clean=True)
    assert reopened(tmp_path)[1] == [1, 2]


def test_close_writes_what_was_submitted_and_then_refuses(tmp_path: Path) -> None:
    """An orderly end writes all commits that were submitted before."""
    journal = Journal.open(tmp_path)
    answers: SimpleQueue[BaseException | None] = SimpleQueue()
    for n in range(1, 51):
        journal.submit(Commit(entries=[entry(n)]), answers.put)
    journal.close(clean=True)
    journal.close(clean=True)
    assert [answers.get_nowait() for _ in range(50)] == [None] * 50
    with pytest.raises(JournalError, match="closed"):
        journal.submit(Commit(), answers.put)
    assert reopened(tmp_path)[1] == list(range(1, 51))


# -- opening ------------------------------------------------------------------------------------


def test_second_instance_is_refused(tmp_path: Path) -> None:
    """A second instance on the same state is refused, with the process id of the first."""
    journal = Journal.open(tmp_path)
    with pytest.raises(JournalError, match=rf"in use by another riskmon \(process {os.getpid()}\)"):
        Journal.open(tmp_path)
    assert commit(journal, Commit(entries=[entry(1)])) is None
    journal.close(clean=True)
    assert reopened(tmp_path)[1] == [1]


def test_second_process_is_refused(tmp_path: Path) -> None:
    """The lock works between processes."""
    journal = Journal.open(tmp_path)
    script = "import sys; from pathlib import Path; from riskmon.journal import Journal\n"
    script += "Journal.open(Path(sys.argv[1]))"
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    journal.close(clean=True)
    assert run.returncode == 1
    assert "JournalError" in run.stderr
    assert "in use by another riskmon" in run.stderr


def test_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    """Other users cannot read the files, whatever the umask."""
    before = os.umask(0)
    try:
        journal = Journal.open(tmp_path / "state")
        commit(journal, Commit(entries=[entry(1)]))
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "state").iterdir()}
        journal.close(clean=True)
        backup(tmp_path / "state", tmp_path / "copy")
    finally:
        os.umask(before)
    files = {"lock", "mark", "reserve", "journal.db", "journal.db-wal", "journal.db-shm"}
    assert set(modes) == files
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o600


def test_unwritable_directory_is_refused() -> None:
    """An unusable path is reported with the remedy, for root too."""
    with pytest.raises(JournalError, match=r"cannot write in state_dir /proc/riskmon.*another"):
        Journal.open(Path("/proc/riskmon"))


def test_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    """A state_dir that is a file is reported as such."""
    (tmp_path / "state").write_text("hello")
    with pytest.raises(JournalError, match="is not a directory"):
        Journal.open(tmp_path / "state")


def test_garbage_is_refused_and_not_changed(tmp_path: Path) -> None:
    """A file that is not a database is not overwritten and not used as an empty journal."""
    (tmp_path / "journal.db").write_bytes(b"garbage " * 1_000)
    with pytest.raises(JournalError, match=r"journal\.db is damaged.*riskmon restore"):
        Journal.open(tmp_path)
    assert (tmp_path / "journal.db").read_bytes() == b"garbage " * 1_000


def test_damaged_page_is_refused(tmp_path: Path) -> None:
    """Damage in a table that every start needs is found at the start."""
    write(tmp_path, Commit(decisions=[record(f"inc_{n}", n) for n in range(500)]))
    path = tmp_path / "journal.db"
    body = bytearray(path.read_bytes())
    body[4096 * 2 :] = b"\xa5" * (len(body) - 4096 * 2)
    path.write_bytes(body)
    with pytest.raises(JournalError, match="damaged"):
        Journal.open(tmp_path)


def test_damaged_entry_stops_the_replay(tmp_path: Path) -> None:
    """An entry that cannot be read ends the recovery with an error, never with a gap."""
    write(tmp_path, *(Commit(entries=[entry(n)]) for n in (1, 2, 3)))
    with apsw.Connection(str(tmp_path / "journal.db")) as db:
        db.execute("UPDATE inputs SET events = x'91c1' WHERE seq = 2")
    db.close()
    found = entries(tmp_path / "journal.db")
    assert next(found).seq == 1
    with pytest.raises(JournalError, match="damaged"):
        next(found)


def test_foreign_database_is_refused(tmp_path: Path) -> None:
    """The database of another program is not changed."""
    with apsw.Connection(str(tmp_path / "journal.db")) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(JournalError, match="another program"):
        Journal.open(tmp_path)


def test_newer_journal_is_refused(tmp_path: Path) -> None:
    """A journal of a newer riskmon is not changed."""
    write(tmp_path)
    with apsw.Connection(str(tmp_path / "journal.db")) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalError, match=r"newer riskmon \(state version 99"):
        Journal.open(tmp_path)


def test_a_refused_opening_unlocks_the_directory(tmp_path: Path) -> None:
    """After a refusal the directory is unlocked, so that the fault can be repaired."""
    (tmp_path / "journal.db").write_bytes(b"garbage " * 1_000)
    with pytest.raises(JournalError):
        Journal.open(tmp_path)
    (tmp_path / "journal.db").unlink()
    assert reopened(tmp_path)[1] == []


def test_empty_file_is_a_new_journal(tmp_path: Path) -> None:
    """A crash at the very beginning of the first start does not block the second."""
    (tmp_path / "journal.db").touch()
    write(tmp_path, Commit(entries=[entry(1)]))
    assert reopened(tmp_path)[1] == [1]


# -- the audit trail ----------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal in use."""
    opened = Journal.open(tmp_path / "state")
    yield opened
    opened.close(clean=True)


def test_record_with_a_known_id_replaces_it(journal: Journal) -> None:
    """An incident stays one record from start to end, at its position in the trail."""
    commit(journal, Commit(decisions=[record("inc_1", 1, reason="P99"), record("inc_2", 2)]))
    ended = Record(id="inc_1", kind="trip", at_ns=1, reason="P99", ended_at_ns=9, canceled=3)
    commit(journal, Commit(decisions=[ended]))
    assert journal.audit(10) == [record("inc_2", 2), ended]


def test_audit_is_paged_newest_first_without_loss(journal: Journal) -> None:
    """Paging with `before` returns each record once, also when several have the same time."""
    instants = [1, 2, 2, 2, 3, 4, 4, 5]
    decisions: list[Decision] = [record(f"r{n}", at) for n, at in enumerate(instants)]
    commit(journal, Commit(decisions=decisions))
    pages: list[list[Record]] = []
    before: int | None = None
    while page := journal.audit(2, before):
        pages.append(page)
        before = page[-1].at_ns
    assert [[each.id for each in page] for page in pages] == [
        ["r7", "r6", "r5"],
        ["r4", "r3", "r2", "r1"],
        ["r0"],
    ]


def test_transitions_are_kept_and_warnings_are_not(tmp_path: Path) -> None:
    """Transitions of breakers are stored, warnings are not."""
    change = Transition(
        limit="edge", scope="account", before="closed", after="frozen",
        generation=1, reason="edge 0.1 under 1", at_ns=5,
    )  # fmt: skip
    warned = Warned(limit="edge", scope="account", active=True, utilization=0.9, at_ns=4)
    write(tmp_path, Commit(decisions=[warned, change, change]))
    db = apsw.Connection(str(tmp_path / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    rows = db.execute("SELECT at_ns, transition ->> 'after' FROM transitions").fetchall()
    db.close()
    assert rows == [(5, "frozen"), (5, "frozen")]


# -- the outbox's rows --------------------------------------------------------------------------


def test_pending_deliveries_survive_a_restart(tmp_path: Path) -> None:
    """Pending deliveries are recovered with their body, id and attempts."""
    write(
        tmp_path,
        Commit(deliveries=[delivery("d1"), delivery("d2"), delivery("d3", "inc_2")]),
        Commit(outcomes=[("d1", "delivered", 1), ("d2", "pending", 4)]),
        clean=False,
    )
    found, _ = reopened(tmp_path)
    tried = Delivery("d2", "inc_1", 1, "oms", "account", delivery("d2").body, 5, "pending", 4)
    assert found.undelivered == [tried, delivery("d3", "inc_2")]


def test_withdrawn_deliveries_are_not_sent_again(tmp_path: Path) -> None:
    """A withdrawal applies only to the pending deliveries of the incident, permanently."""
    write(
        tmp_path,
        Commit(deliveries=[delivery("d1"), delivery("d2"), delivery("d3", "inc_2")]),
        Commit(withdraw=["inc_1"]),
        Commit(outcomes=[("d1", "pending", 2), ("d2", "delivered", 1)]),
    )
    found, _ = reopened(tmp_path)
    assert [each.id for each in found.undelivered] == ["d3"]


def test_a_stored_delivery_is_not_changed(tmp_path: Path) -> None:
    """Adding a delivered delivery again does not make it pending."""
    write(
        tmp_path,
        Commit(deliveries=[delivery("d1")], outcomes=[("d1", "delivered", 1)]),
        Commit(deliveries=[delivery("d1")]),
    )
    assert reopened(tmp_path)[0].undelivered == []


# -- pruning ------------------------------------------------------------------------------------


def test_pruning_by_age_keeps_two_snapshots_usable(tmp_path: Path) -> None:
    """Old entries are pruned up to the older snapshot; the entries that either needs are kept."""
    journal = Journal.open(tmp_path)
    for n in range(1, 7):
        snapshot = b"s%d" % n if n in {3, 5} else None
        commit(journal, Commit(entries=[entry(n, wall_ns=n * 1_000)], snapshot=snapshot))
    commit(journal, Commit(entries=[entry(7, wall_ns=40 * DAY_NS)]))
    journal.prune(keep_days=30, max_bytes=10**9)
    eventually(lambda: numbers(tmp_path)[0] > 1)
    journal.close(clean=True)
    found, seqs = reopened(tmp_path)
    assert numbers(tmp_path) == [4, 5, 6, 7]
    assert (found.snapshot, seqs) == (b"s5", [6, 7])


def test_young_entries_are_kept(tmp_path: Path) -> None:
    """Age is measured from the newest entry; entries within `keep_days` are kept."""
    journal = Journal.open(tmp_path)
    for n in range(1, 6):
        commit(journal, Commit(entries=[entry(n, wall_ns=n * DAY_NS)], snapshot=b"s"))
    journal.prune(keep_days=3, max_bytes=10**9)
    eventually(lambda: numbers(tmp_path) == [2, 3, 4, 5])
    journal.close(clean=True)
    assert numbers(tmp_path) == [2, 3, 4, 5]


def test_pruning_by_size_gives_the_disk_back(tmp_path: Path) -> None:
    """The oldest entries are deleted in slices until the rest fits, and the file shrinks."""
    journal = Journal.open(tmp_path)
    commit(journal, Commit(entries=[entry(n, size=20_000) for n in range(1, 301)]))
    commit(journal, Commit(entries=[entry(301)], snapshot=b"s"))
    journal.prune(keep_days=30, max_bytes=2_000_000)
    eventually(lambda: numbers(tmp_path)[0] > 200)
    eventually(lambda: (tmp_path / "journal.db").stat().st_size < 2_100_000)
    journal.close(clean=True)
    kept = numbers(tmp_path)
    assert kept == list(range(kept[0], 302))
    assert 40 < len(kept) < 100
    assert (tmp_path / "journal.db").stat().st_size < 2_100_000


def test_a_long_reader_costs_at_most_a_quarter_of_the_history(tmp_path: Path) -> None:
    """A log that a long reader keeps in use does not empty the journal."""
    journal = Journal.open(tmp_path)
    commit(journal, Commit(entries=[entry(1)]))
    reader = apsw.Connection(str(tmp_path / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN; SELECT count(*) FROM inputs")
    for n in range(2, 302):
        commit(journal, Commit(entries=[entry(n, size=20_000)]))
    commit(journal, Commit(entries=[entry(302)], snapshot=b"s"))
    journal.prune(keep_days=30, max_bytes=2_000_000)
    eventually(lambda: numbers(tmp_path)[0] > 200)
    journal.close(clean=True)
    assert 40 < len(numbers(tmp_path)) < 100
    reader.close()


def test_pruning_by_size_keeps_the_entries_that_the_newest_snapshot_needs(tmp_path: Path) -> None:
    """With any limit the state and the engine's time can be recovered."""
    journal = Journal.open(tmp_path)
    commit(journal, Commit(entries=[entry(1), entry(2)], snapshot=b"two"))
    commit(journal, Commit(entries=[entry(3), entry(4)]))
    journal.prune(keep_days=0, max_bytes=0)
    eventually(lambda: numbers(tmp_path) == [3, 4])
    commit(journal, Commit(snapshot=b"four"))
    journal.prune(keep_days=0, max_bytes=0)
    eventually(lambda: numbers(tmp_path) == [4])
    journal.close(clean=True)
    found, seqs = reopened(tmp_path)
    assert (found.snapshot, seqs) == (b"four", [])
    assert (found.last_seq, found.last_now_ns) == (4, 40)


def test_nothing_is_pruned_without_a_snapshot(tmp_path: Path) -> None:
    """Without a snapshot every entry is needed."""
    journal = Journal.open(tmp_path)
    commit(journal, Commit(entries=[entry(1), entry(2, wall_ns=90 * DAY_NS)]))
    journal.prune(keep_days=0, max_bytes=0)
    journal.close(clean=True)
    assert numbers(tmp_path) == [1, 2]


def test_finished_deliveries_go_by_age_and_records_stay(tmp_path: Path) -> None:
    """Pending deliveries and the audit trail are never pruned."""
    write(
        tmp_path,
        Commit(deliveries=[delivery("d1"), delivery("d2")], decisions=[record("inc_1", 1)]),
        Commit(outcomes=[("d1", "delivered", 1)]),
        Commit(entries=[entry(1, wall_ns=40 * DAY_NS)]),
    )
    journal = Journal.open(tmp_path)
    journal.prune(keep_days=30, max_bytes=10**9)
    journal.close(clean=True)
    db = apsw.Connection(str(tmp_path / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    rows = db.execute("SELECT id FROM outbox UNION ALL SELECT id FROM audit").fetchall()
    db.close()
    assert rows == [("d2",), ("inc_1",)]


def test_commits_go_on_while_pruning(tmp_path: Path) -> None:
    """Commits are written between the slices of pruning, without loss or long delay."""
    journal = Journal.open(tmp_path)
    commit(journal, Commit(entries=[entry(n, size=10_000) for n in range(1, 501)], snapshot=b"s"))
    journal.prune(keep_days=30, max_bytes=0)
    assert [commit(journal, Commit(entries=[entry(n)])) for n in range(501, 551)] == [None] * 50
    eventually(lambda: numbers(tmp_path)[0] >= 500)
    journal.close(clean=True)
    assert reopened(tmp_path)[1] == list(range(501, 551))


# -- backup and restore -------------------------------------------------------------------------


def test_backup_of_a_running_journal_and_back(tmp_path: Path) -> None:
    """An online backup contains all committed entries, and can be restored."""
    journal = Journal.open(tmp_path / "state")
    commit(journal, Commit(entries=[entry(1)], snapshot=b"one", deliveries=[delivery("d1")]))
    commit(journal, Commit(entries=[entry(2)]))
    backup(tmp_path / "state", tmp_path / "copy")
    commit(journal, Commit(entries=[entry(3)]))
    journal.close(clean=True)
    assert [each.seq for each in entries(tmp_path / "copy")] == [1, 2]

    kept = restore(tmp_path / "copy", tmp_path / "state", decode_snapshot=bytes)
    found, seqs = reopened(tmp_path / "state")
    assert (found.snapshot, seqs, [each.id for each in found.undelivered]) == (b"one", [2], ["d1"])
    assert found.unclean
    assert kept is not None
    assert [each.seq for each in entries(kept)] == [1, 2, 3]


def test_backup_is_one_file_and_leaves_no_other(tmp_path: Path) -> None:
    """A backup is a single file."""
    write(tmp_path / "state", Commit(entries=[entry(1)]))
    (tmp_path / "out").mkdir()
    backup(tmp_path / "state", tmp_path / "out" / "copy")
    assert list(entries(tmp_path / "out" / "copy")) == [entry(1)]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["copy"]


def test_backup_overwrites_only_with_overwrite(tmp_path: Path) -> None:
    """An existing backup is overwritten only with `overwrite`."""
    write(tmp_path / "state", Commit(entries=[entry(1)]))
    (tmp_path / "copy").write_text("precious")
    with pytest.raises(JournalError, match="exists"):
        backup(tmp_path / "state", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "precious"
    backup(tmp_path / "state", tmp_path / "copy", overwrite=True)
    assert list(entries(tmp_path / "copy")) == [entry(1)]


def test_backup_without_a_journal_or_a_place_is_refused(tmp_path: Path) -> None:
    """A missing journal or directory is reported."""
    with pytest.raises(JournalError, match="is not a file"):
        backup(tmp_path / "state", tmp_path / "copy")
    write(tmp_path / "state")
    with pytest.raises(JournalError, match=r"cannot use .*nowhere/copy"):
        backup(tmp_path / "state", tmp_path / "nowhere" / "copy")


def test_restore_refuses_while_a_sidecar_runs(tmp_path: Path) -> None:
    """The state is not replaced under a running sidecar."""
    write(tmp_path / "state", Commit(entries=[entry(1)]))
    backup(tmp_path / "state", tmp_path / "copy")
    journal = Journal.open(tmp_path / "state")
    with pytest.raises(JournalError, match="in use"):
        restore(tmp_path / "copy", tmp_path / "state", decode_snapshot=bytes)
    journal.close(clean=True)
    assert {path.name for path in (tmp_path / "state").iterdir()} == {
        *("lock", "mark", "reserve", "journal.db"),
    }


def test_restore_refuses_a_damaged_backup(tmp_path: Path) -> None:
    """A damaged backup is detected before anything is replaced."""
    write(tmp_path / "state", Commit(entries=[entry(n, size=2_000) for n in range(1, 50)]))
    backup(tmp_path / "state", tmp_path / "copy")
    body = bytearray((tmp_path / "copy").read_bytes())
    body[-40_000:-20_000] = os.urandom(20_000)
    (tmp_path / "copy").write_bytes(body)
    with pytest.raises(JournalError, match=r"copy is damaged \(.*\): the state is unchanged"):
        restore(tmp_path / "copy", tmp_path / "state", decode_snapshot=bytes)
    assert numbers(tmp_path / "state") == list(range(1, 50))


def test_restore_keeps_the_log_of_a_killed_sidecar(tmp_path: Path) -> None:
    """The log of a killed sidecar is moved with the old journal and not applied to the new one."""
    write(tmp_path / "state", Commit(entries=[entry(1)]))
    backup(tmp_path / "state", tmp_path / "copy")
    script = "import os, sys, threading; from pathlib import Path; from riskmon.journal import *\n"
    script += "Journal.open(Path(sys.argv[1])).submit(Commit(entries=[Entry(2, 2, 2, [])]),"
    script += " lambda fault: os._exit(9)); threading.Event().wait()"
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "state")],
        cwd=ROOT,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert run.returncode == 9
    kept = restore(tmp_path / "copy", tmp_path / "state", decode_snapshot=bytes)
    assert kept is not None
    assert numbers(tmp_path / "state") == [1]
    assert [each.seq for each in entries(kept)] == [1, 2]


def test_restore_into_an_empty_directory(tmp_path: Path) -> None:
    """A backup can be restored on a new machine."""
    write(tmp_path / "state", Commit(entries=[entry(1)]))
    backup(tmp_path / "state", tmp_path / "copy")
    assert restore(tmp_path / "copy", tmp_path / "new", decode_snapshot=bytes) is None
    assert reopened(tmp_path / "new")[1] == [1]


def test_only_the_commit_that_cannot_be_encoded_is_refused(tmp_path: Path) -> None:
    """A value that cannot be encoded is refused to its sender; the journal continues."""
    journal = Journal.open(tmp_path)
    done = threading.Event()
    strange = Operate(action="freeze", scope="account", reason="a test", generation=2**64)
    with pytest.raises(Unencodable, match="cannot be written"):
        journal.submit(Commit(entries=[Entry(1, 1, 1, [strange])]), lambda _: None)
    record = Record(id="r", kind="start", at_ns=1, value=object())  # type: ignore[arg-type]
    with pytest.raises(Unencodable, match="cannot be written"):
        journal.submit(Commit(decisions=[record]), lambda _: None)
    journal.submit(Commit(entries=[entry(1)]), lambda fault: done.set() if not fault else None)
    assert done.wait(5)
    journal.close(clean=True)
    assert [each.seq for each in entries(tmp_path / "journal.db")] == [1]
