"""The marks: a torn, damaged or lost file loses at most its newest write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from riskmon.journal.mark import Mark, Marks, mark_paths

IDENTITY = bytes(range(16))


def mark(last_seq: int) -> Mark:
    """Return a mark at one entry, whose time follows from its number."""
    return Mark(IDENTITY, "/var/lib/riskmon", last_seq, last_seq * 1_000)


def paths(tmp_path: Path) -> tuple[Path, ...]:
    """The paths of both marks, in separate directories."""
    (tmp_path / "state").mkdir()
    (tmp_path / "gates").mkdir()
    return mark_paths(tmp_path / "state", tmp_path / "gates" / "main.gate")


def written(where: tuple[Path, ...], last_seq: int) -> None:
    """Write marks from 0 to ``last_seq`` in steps of one, and close them."""
    marks = Marks(where)
    marks.start(mark(0))
    for seq in range(1, last_seq + 1):
        marks.advance(seq, seq * 1_000)
    marks.close()


def read(where: tuple[Path, ...]) -> list[Mark | None]:
    """Return the marks that the next start reads."""
    marks = Marks(where)
    marks.close()
    return [found.mark for found in marks.found]


def storage_failed(where: tuple[Path, ...]) -> bool:
    """Whether the next start finds the flag of a failed write."""
    marks = Marks(where)
    marks.close()
    return marks.storage_failed


def test_both_files_hold_the_last_entry(tmp_path: Path) -> None:
    """The newest write is read from both files, which only their owner can read."""
    where = paths(tmp_path)
    assert [path.name for path in where] == ["mark", ".main.gate.mark"]
    assert read(where) == [None, None]
    written(where, 7)
    assert read(where) == [mark(7), mark(7)]
    assert {path.stat().st_mode & 0o777 for path in where} == {0o600}


@pytest.mark.parametrize("last_seq", [6, 7])
def test_a_torn_write_leaves_the_one_before(tmp_path: Path, last_seq: int) -> None:
    """With any damaged byte in the newest slot, the other slot is read."""
    where = paths(tmp_path)
    written(where, last_seq)
    whole = where[0].read_bytes()
    begins = [at for at in (0, 8_192) if any(whole[at : at + 8_192])]
    read_back = []
    for begin in begins:
        length = len(whole[begin : begin + 8_192].rstrip(b"\0"))
        for at in range(begin, begin + length):
            damaged = bytearray(whole)
            damaged[at] ^= 0x10
            where[0].write_bytes(damaged)
            read_back.append(read(where)[0])
    assert set(read_back) == {mark(last_seq), mark(last_seq - 1)}


def test_damage_of_both_slots_is_named(tmp_path: Path) -> None:
    """A file without a valid slot, of another size, or a link has no mark, with the reason."""
    where = paths(tmp_path)
    written(where, 3)
    where[0].write_bytes(bytes(where[0].stat().st_size))
    where[1].write_bytes(where[1].read_bytes()[:-1])
    marks = Marks(where)
    assert [found.mark for found in marks.found] == [None, None]
    assert "checksum" in marks.found[0].fault
    assert "20479 bytes" in marks.found[1].fault
    where[1].unlink()
    where[1].symlink_to(where[0])
    marks.close()
    marks = Marks(where)
    assert "cannot be opened" in marks.found[1].fault
    marks.close()


def test_a_file_that_others_can_write_is_no_mark(tmp_path: Path) -> None:
    """A file that another user can write is not used."""
    where = paths(tmp_path)
    written(where, 3)
    where[0].chmod(0o622)
    assert read(where) == [None, mark(3)]


def test_a_lost_file_is_recreated_at_its_path(tmp_path: Path) -> None:
    """A removed, replaced or truncated file is recreated with the newest entry."""
    where = paths(tmp_path)
    marks = Marks(where)
    marks.start(mark(0))
    marks.advance(5, 5_000)
    before = [path.stat().st_ino for path in where]
    marks.recreate_missing()
    assert [path.stat().st_ino for path in where] == before
    where[0].unlink()
    where[1].with_name("other").write_text("")
    where[1].with_name("other").rename(where[1])
    marks.recreate_missing()
    assert read(where) == [mark(5), mark(5)]
    os.truncate(where[0], 100)
    marks.advance(6, 6_000)
    marks.recreate_missing()
    assert read(where) == [mark(6), mark(6)]
    marks.close()


def test_the_gates_directory_may_be_created_later(tmp_path: Path) -> None:
    """A start writes one mark, and the other once its directory exists."""
    where = paths(tmp_path)
    where[1].parent.rmdir()
    marks = Marks(where)
    marks.start(mark(3))
    assert read(where) == [mark(3), None]
    where[1].parent.mkdir()
    marks.advance(4, 4_000)
    marks.recreate_missing()
    marks.close()
    assert read(where) == [mark(4), mark(4)]


def test_a_storage_failure_is_found_by_the_next_start(tmp_path: Path) -> None:
    """Either file alone has the flag, and so has a recreated one, until it is cleared."""
    where = paths(tmp_path)
    marks = Marks(where)
    marks.start(mark(0))
    assert not marks.storage_failed
    assert marks.note_storage_failure()
    marks.close()
    for lost in where:
        lost.unlink()
        marks = Marks(where)
        assert marks.storage_failed
        marks.start(mark(1))
        marks.close()
    marks = Marks(where)
    assert marks.storage_failed
    marks.start(mark(1))
    marks.clear_storage_failure()
    marks.close()
    assert not storage_failed(where)


def test_a_damaged_flag_counts_as_failed(tmp_path: Path) -> None:
    """A damaged flag counts as set."""
    where = paths(tmp_path)
    written(where, 1)
    with where[1].open("r+b") as file:
        file.seek(16_384)
        file.write(b"\x01")
    assert storage_failed(where)


def test_writing_marks_takes_no_new_room(tmp_path: Path) -> None:
    """All blocks are allocated at the start: marks and flag can be written to a full disk."""
    where = paths(tmp_path)
    marks = Marks(where)
    marks.start(mark(0))
    before = [path.stat().st_blocks for path in where]
    for seq in range(1, 1_000):
        marks.advance(seq, seq)
    marks.note_storage_failure()
    marks.close()
    assert [path.stat().st_blocks for path in where] == before
    assert min(before) * 512 >= where[0].stat().st_size
