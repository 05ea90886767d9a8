"""The check of a state directory: reads the journal, its marks and snapshots, and changes none."""

from __future__ import annotations

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
from riskmon.core.version import STATE_VERSION
from riskmon.journal.commit import Input, UnknownFormat, decoded
from riskmon.journal.file import (
    JOURNAL_NAME,
    LOCK_NAME,
    JournalError,
    JournalLost,
    journal_version,
    log_of,
    open_reader,
    translated_errors,
)
from riskmon.journal.mark import Marks, mark_paths
from riskmon.journal.opening import compare, examine, is_absent_or_empty
from riskmon.journal.reading import end_of, pruned_seq
from riskmon.system.clock import rfc3339
from riskmon.system.lock_file import LockHeld, lock

_FINDINGS_MAX = 100  # of one kind
_decode_record = msgspec.json.Decoder(Record).decode
_decode_transition = msgspec.json.Decoder(Transition).decode


class StateReport(Struct):
    """The result of a check.

    ``findings`` are faults, ``notes`` further information. ``running`` is the id of the process
    that uses the directory, empty for none.
    """

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    running: str = ""

    def add(self, fault: JournalError) -> None:
        """Add a fault, without the remedy that the message of a refused start contains."""
        self.findings.append(fault.what if isinstance(fault, JournalLost) else str(fault))


def check_state(
    state_dir: Path, gate: Path | None, decode_snapshot: Callable[[bytes], object]
) -> StateReport:
    """Verify the journal in ``state_dir``, its marks and its snapshots.

    A sidecar may be running there. ``decode_snapshot`` raises for bytes that are not a snapshot.
    """
    report, path = StateReport(), state_dir / JOURNAL_NAME
    with _locked(state_dir, report), _without_new_files(path, report):
        # The marks are read before the journal. A sidecar writes the journal first, so a mark that
        # is read here is never ahead of the journal.
        marks = Marks(mark_paths(state_dir, gate))
        marks.close()
        report.findings += [
            f"{one.path} {one.fault}" for one in marks.found if one.mark is None and not one.missing
        ]
        if marks.storage_failed:
            report.notes.append("a write failed: the next start halts the account")
        try:
            if is_absent_or_empty(path):
                examine(path, marks.found, thorough=False)
                report.notes.append(f"{path} has no entries yet")
                return report
            with translated_errors(path), closing(open_reader(path)) as db:
                _check(db, path, report, decode_snapshot)
                end = end_of(db)
                for note in compare(db, path, end, marks.found):
                    if note.level == logging.INFO or end.identity is None:
                        report.notes.append(note.text)
                report.notes += _version_notes(db, path)
                report.notes.append(
                    f"the last entry of {path} is {end.last_seq} of {rfc3339(end.wall_ns)}"
                )
        except JournalError as fault:
            report.add(fault)
    return report


def _check(
    db: apsw.Connection, path: Path, report: StateReport, decode_snapshot: Callable[[bytes], object]
) -> None:
    db.execute("BEGIN")  # one consistent state of the journal while a sidecar writes
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


def _version_notes(db: apsw.Connection, path: Path) -> list[str]:
    version = journal_version(db)
    if version >= STATE_VERSION:
        return []
    return [
        f"{path} has state version {version}: a start keeps a copy beside it, then writes version "
        f"{STATE_VERSION}"
    ]


def _entry_faults(db: apsw.Connection) -> Iterator[str]:
    """Yield a text for each gap and each damaged entry after the pruned ones."""
    expected_seq = pruned_seq(db) + 1
    query = "SELECT seq, now_ns, wall_ns, events FROM inputs ORDER BY seq"
    for seq, now_ns, wall_ns, events in db.execute(query):
        if seq != expected_seq:
            yield f"entries {expected_seq} to {seq - 1} are missing"
        try:
            decoded(Input(seq, now_ns, wall_ns, events))
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
            yield f"entry {seq} is damaged ({fault})"
        except UnknownFormat as fault:
            yield f"entry {seq} is undamaged and cannot be read by this riskmon ({fault})"
        expected_seq = seq + 1


def _record_faults(db: apsw.Connection) -> Iterator[str]:
    """Yield a text for each record of the audit trail that cannot be decoded."""
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
        return "does not match its checksum"
    try:
        decode(data)
    except Exception as fault:
        return f"is undamaged and cannot be read by this riskmon ({fault})"
    return ""


@contextmanager
def _locked(state_dir: Path, report: StateReport) -> Iterator[None]:
    """Prevent the start of a sidecar during the check, or report the one that is running."""
    try:
        file = os.open(state_dir / LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield  # no sidecar has run there yet, or the journal is not readable either
        return
    try:
        lock(file)
    except LockHeld as held:
        report.running = held.holder
    try:
        yield
    finally:
        os.close(file)


@contextmanager
def _without_new_files(path: Path, report: StateReport) -> Iterator[None]:
    """Remove the files that SQLite creates to read a journal that no sidecar has open."""
    extra = [log_of(path), path.with_name(f"{path.name}-shm")]
    existing = [one for one in extra if one.exists()]
    try:
        yield
    finally:
        for one in extra:
            if one not in existing and not report.running:
                with suppress(OSError):
                    one.unlink(missing_ok=True)
