"""Damage to the files of a stopped sidecar."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.simulation.disk import Image

MARK_SECTORS = (0, 8192, 16_384)  # where the two slots of a mark begin, and its note of a failure
SECTOR_BYTES = 512


def damage(random: Random, state: Path, copy: Image | None) -> str:
    """Damage the journal; return a description. ``copy`` is an earlier copy of the directory."""
    ways: list[Callable[[Random, Path], str]] = [
        _cut_log, _cut_log, _flip_bit, _flip_bit, _remove_log, _empty_journal, _remove_journal,
        _remove_all,
    ]  # fmt: skip
    way = random.randrange(len(ways) + 1)
    if way == len(ways):
        if copy is None:
            return "no copy of the state directory exists"
        copy.restore()
        return "the state directory is put back from an earlier copy"
    return ways[way](random, state)


def _log(state: Path) -> Path:
    return state / "journal.db-wal"


def _cut_log(random: Random, state: Path) -> str:
    content = _log(state).read_bytes() if _log(state).exists() else b""
    _log(state).write_bytes(content[: random.randrange(len(content) + 1)])
    return f"the log of {len(content)} bytes is cut to {_log(state).stat().st_size}"


def _flip_bit(random: Random, state: Path) -> str:
    content = bytearray(_log(state).read_bytes() if _log(state).exists() else b"")
    if not content:
        return "there is no log to damage"
    # The beginning of the log matters most: its header and the first frames.
    at = random.randrange(min(len(content), random.choice((32, 4096, len(content)))))
    content[at] ^= 1 << random.randrange(8)
    _log(state).write_bytes(content)
    return f"a bit of the log flips at byte {at}"


def _remove_log(random: Random, state: Path) -> str:
    _log(state).unlink(missing_ok=True)
    return "the log is removed"


def _empty_journal(random: Random, state: Path) -> str:
    (state / "journal.db").write_bytes(b"")
    return "the journal has no bytes"


def _remove_journal(random: Random, state: Path) -> str:
    (state / "journal.db").unlink(missing_ok=True)
    return "the journal is removed, its log stays"


def _remove_all(random: Random, state: Path) -> str:
    for path in state.iterdir():
        path.unlink()
    return "the state directory is emptied"


def unsynced_mark(random: Random, mark: Path, versions: list[bytes]) -> None:
    """Leave in each part of a mark what some earlier write put there: none of them is synced."""
    if mark.exists() and versions:
        content = bytearray(mark.read_bytes())
        for begin in MARK_SECTORS:
            old = random.choice([*versions, bytes(content)])[begin : begin + SECTOR_BYTES]
            if old:
                content[begin : begin + SECTOR_BYTES] = old
        mark.write_bytes(content)
