"""What is wrong with a state directory, found without starting and without changing anything."""

from __future__ import annotations

import fcntl
import logging
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import apsw
import msgspec
from msgspec import Struct, field

from riskmon.core.decisions import Record, Transition
from riskmon.journal.commit import Input, decoded
from riskmon.journal.file import (
    JOURNAL_NAME,
    LOCK_NAME,
    JournalError,
    JournalLost,
    explained,
    log_of,
    open_reader,
)
from riskmon.journal.mark import Marks, mark_paths
from riskmon.journal.opening import compare, examine, is_nothing
from riskmon.journal.reading import end_of, pruned_seq
from riskmon.system.clock import rfc3339

_FINDINGS_MAX = 100  # of one kind
_decode_record = msgspec.json.Decoder(Record).decode
_decode_transition = msgspec.json.Decoder(Transition).decode


class Report(Struct):
    """Every finding, what else is worth a line, and the process that runs there, empty for none."""

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    running: str = ""

    def add(self, fault: JournalError) -> None:
        """Add what is wrong, without the cure that a start names."""
        self.findings.append(fault.what if isinstance(fault, JournalLost) else str(fault))


def check_state(
    state_dir: Path, gate: Path | None, decode_snapshot: Callable[[bytes], object]
) -> Report:
    """Verify the journal in ``state_dir``, its marks and its snapshots, beside a sidecar or not.

    ``decode_snapshot`` raises for bytes that are no snapshot.
    """
    report, path = Report(), state_dir / JOURNAL_NAME
    with _held(state_dir, report), _no_traces(path, report):
        # Before the journal: a sidecar writes it first, so that no mark read is ahead of it.
        marks = Marks(mark_paths(state_dir, gate))
        marks.close()
        report.findings += [
            f"{one.path} {one.fault}" for one in marks.found if one.mark is None and not one.missing
        ]
        if marks.storage_failed:
            report.notes.append("a write had failed: the next start holds the account")
        try:
            if is_nothing(path):
                examine(path, marks.found, thorough=False)
                report.notes.append(f"{path} holds nothing yet")
                return report
            with explained(path), closing(open_reader(path)) as db:
                _check(db, path, report, decode_snapshot)
                end = end_of(db)
                for note in compare(db, path, end, marks.found):
                    if note.level == logging.INFO or end.identity is None:
                        report.notes.append(note.text)
                report.notes.append(
                    f"{path} goes to entry {end.last_seq} of {rfc3339(end.wall_ns)}"
                )
        except JournalError as fault:
            report.add(fault)
    return report


def _check(
    db: apsw.Connection, path: Path, report: Report, decode_snapshot: Callable[[bytes], object]
) -> None:
    db.execute("BEGIN")  # one state of the journal, however much a sidecar writes meanwhile
    found = [row[0] for row in db.execute(f"PRAGMA integrity_check({_FINDINGS_MAX})")]
    report.findings += [f"{path}: {one}" for one in found if one != "ok"]
    for check in (_entry_faults, _record_faults):
        try:
            for _, fault in zip(range(_FINDINGS_MAX), check(db), strict=False):
                report.findings.append(f"{path}: {fault}")
        except apsw.Error as error:
            report.findings.append(f"{path}: {error}")
    pruned = pruned_seq(db)
    snapshots = list(db.execute("SELECT seq, crc, data FROM snapshots ORDER BY seq DESC"))
    for seq, crc, data in snapshots:
        if why := _snapshot_fault(crc, data, decode_snapshot):
            report.findings.append(f"{path}: the snapshot at entry {seq} {why}")
    if pruned and not any(seq >= pruned for seq, _, _ in snapshots):
        report.findings.append(
            f"{path}: the entries up to {pruned} are pruned, and no snapshot contains them"
        )


def _entry_faults(db: apsw.Connection) -> Iterator[str]:
    """What is missing or damaged among the entries that were not pruned."""
    expected_seq = pruned_seq(db) + 1
    query = "SELECT seq, now_ns, wall_ns, events FROM inputs ORDER BY seq"
    for seq, now_ns, wall_ns, events in db.execute(query):
        if seq != expected_seq:
            yield f"entries {expected_seq} to {seq - 1} are missing"
        try:
            decoded(Input(seq, now_ns, wall_ns, events))
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
            yield f"entry {seq} is damaged ({fault})"
        expected_seq = seq + 1


def _record_faults(db: apsw.Connection) -> Iterator[str]:
    for decode, query in (
        (_decode_record, "SELECT record FROM audit"),
        (_decode_transition, "SELECT transition FROM transitions"),
    ):
        for (text,) in db.execute(query):
            try:
                decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError) as fault:
                yield f"a record of the audit trail is damaged ({fault})"


def _snapshot_fault(crc: int, data: bytes, decode: Callable[[bytes], object]) -> str:
    if zlib.crc32(data) != crc:
        return "has a wrong checksum"
    try:
        decode(data)
    except Exception as fault:
        return f"cannot be read ({fault})"
    return ""


@contextmanager
def _held(state_dir: Path, report: Report) -> Iterator[None]:
    """Keep a sidecar from starting there meanwhile, or say that one runs."""
    try:
        lock = os.open(state_dir / LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield  # no sidecar has ever run there, or the journal is not readable either
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        report.running = os.pread(lock, 20, 0).decode(errors="replace") or "unknown"
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def _no_traces(path: Path, report: Report) -> Iterator[None]:
    """Remove the files that SQLite makes to read a journal that no sidecar has open."""
    beside = [log_of(path), path.with_name(f"{path.name}-shm")]
    there = [one for one in beside if one.exists()]
    try:
        yield
    finally:
        for one in beside:
            if one not in there and not report.running:
                with suppress(OSError):
                    one.unlink(missing_ok=True)
