"""A state directory that an earlier version wrote starts, and keeps what it held."""

from __future__ import annotations

import json
import re
import shutil
import signal
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import msgspec
import pytest

from riskmon import cli
from riskmon.core.decisions import Transition
from riskmon.core.version import STATE_VERSION
from riskmon.gate import Level
from tests.fixtures.make_state import TOP, kept
from tests.support.disks import Disk
from tests.support.sidecar import Sidecar
from tests.support.waiting import eventually
from tests.support.webhooks import Webhooks

pytestmark = pytest.mark.slow

FIXTURES = Path(__file__).parent.parent / "fixtures"
STATES = sorted(FIXTURES.glob("state-*"))
FULL = FIXTURES / "state-0.1.0-full"


class Upgraded(NamedTuple):
    """A sidecar on a copy of an earlier version's state, and what that state holds."""

    sidecar: Sidecar
    oms: Webhooks
    expected: dict[str, Any]


def sidecar_on(state: Path, directory: Path, config: str = "") -> Sidecar:
    """A sidecar, not started, on a copy of a state directory and with its configuration."""
    sidecar = Sidecar(directory, (state / "riskmon.toml").read_text() + config, top=TOP)
    sidecar.state_dir.mkdir(mode=0o700)
    for name in ("journal.db", "mark"):  # the first version had no mark
        if (state / name).exists():
            shutil.copyfile(state / name, sidecar.state_dir / name)
    return sidecar


@pytest.fixture(params=STATES, ids=lambda path: path.name)
def upgraded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Upgraded]:
    """Start on each state, with a receiver that is up."""
    expected = json.loads((request.param / "expected.json").read_text())
    with Webhooks() as oms, sidecar_on(request.param, tmp_path, oms.target()) as sidecar:
        yield Upgraded(sidecar.start(), oms, expected)


def lost(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """The paths of what is in ``old`` and is not, or is different, in ``new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            yield from lost(value, new.get(key), f"{where}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for at, value in enumerate(old):
            yield from lost(value, new[at], f"{where}[{at}]")
    elif old != (pytest.approx(new) if isinstance(new, float) else new):
        yield f"{where}: {old!r} is {new!r}"


def test_there_are_states() -> None:
    """The states of 0.1.0 are there: without them the tests below would not run."""
    assert {"state-0.1.0", "state-0.1.0-with-marks", "state-0.1.0-full"} <= {
        path.name for path in STATES
    }


def test_an_earlier_state_starts_with_all_that_it_held(upgraded: Upgraded) -> None:
    """Breakers, bounds, freezes, incidents, capital, units, holdings and levels are as before."""
    sidecar, _, expected = upgraded
    found = kept(sidecar, expected["current"])
    assert found.pop("unconfirmed") is not None  # the receiver is up: they are being confirmed
    assert found.pop("generation") >= expected["generation"]  # time passed for a disabled one
    for key, value in found.items():
        assert list(lost(expected[key], value, key)) == []
    assert sidecar.level(venue="kraken") == Level.HALT
    assert sidecar.level(symbol="BTC/USDT") == Level.HALT


def test_undelivered_cancels_of_an_earlier_state_are_delivered(upgraded: Upgraded) -> None:
    """Of each incident a cancel that was pending arrives, under the webhook id that it had.

    Once one of an incident is confirmed, its other sweeps are withdrawn.
    """
    _, oms, expected = upgraded
    incidents = {identity.rsplit("_", 2)[0] for identity in expected["undelivered"]}
    assert set(expected["unconfirmed"]) <= incidents

    def missing() -> set[str]:
        arrived = [body for body in oms.bodies if body["id"] in expected["undelivered"]]
        return incidents - {body["incident"] for body in arrived}

    eventually(lambda: not missing(), f"the cancels of {incidents}")


def test_ids_and_generations_go_on_after_an_upgrade(upgraded: Upgraded) -> None:
    """A freeze after the upgrade gets the next generation and an incident id of its own."""
    sidecar, _, expected = upgraded
    before = sidecar.state()["generation"]
    status, answer = sidecar.operate("freeze", "symbol:BTC/USDT", limit="position")
    assert status == 200, answer
    assert answer["generation"] == before + 1
    known = {record["id"] for record in expected["incidents"]}
    assert {b["incident"] for b in answer["breakers"]}.isdisjoint(known)


def test_an_earlier_state_starts_again_and_again(upgraded: Upgraded) -> None:
    """The state is taken over for good: a second start, after a kill, holds the same."""
    sidecar, _, expected = upgraded
    sidecar.end(signal.SIGKILL)
    sidecar.start()
    found = kept(sidecar, expected["current"])
    for key in ("breakers", "portfolio", "incidents"):
        assert list(lost(expected[key], found[key], key)) == []


# -- the copy from before the upgrade ------------------------------------------------------------


def test_an_earlier_state_is_backed_up_before_it_is_changed(tmp_path: Path) -> None:
    """One copy, 0600, whole, named in one line; a later start makes none; it can be restored."""
    expected = json.loads((FULL / "expected.json").read_text())
    with sidecar_on(FULL, tmp_path) as sidecar:
        sidecar.start()
        (copy,) = copies(sidecar)
        assert re.fullmatch(r"journal\.db\.version-1-\d{8}T\d{6}Z-entry-\d+", copy.name)
        assert copy.stat().st_mode & 0o777 == 0o600
        with closing(apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert db.execute("PRAGMA user_version").fetchone() == (1,)
            pending = "SELECT id FROM outbox WHERE status = 'pending' ORDER BY id"
            assert [row[0] for row in db.execute(pending)] == expected["undelivered"]
        assert sidecar.output().count(copy.name) == 1
        assert f"has state version 1, and this riskmon writes {STATE_VERSION}" in sidecar.output()

        sidecar.end(signal.SIGKILL)
        sidecar.start()
        assert copies(sidecar) == [copy]
        assert copy.name not in sidecar.output()

        sidecar.end(signal.SIGTERM)
        assert cli.run(["restore", str(copy), "--config", str(sidecar.config)]) == 0
        sidecar.start()
        assert kept(sidecar, expected["current"])["breakers"] == expected["breakers"]


def test_a_state_that_cannot_be_backed_up_is_left_alone(tmp_path: Path) -> None:
    """Without room for the copy a start ends with 2 and says how much it needs."""
    # Room for the journal and the reserve, and not for a copy.
    with Disk.in_memory(tmp_path / "state", "2304k") as disk:
        sidecar = Sidecar(tmp_path, (FULL / "riskmon.toml").read_text(), top=TOP)
        sidecar.state_dir = disk.seen
        for name in ("journal.db", "mark"):
            shutil.copyfile(FULL / name, sidecar.state_dir / name)
        with sidecar:
            assert sidecar.launch(prefix=disk.prefix).wait() == 2
        assert "the copy of the state from before the upgrade" in sidecar.output()
        assert "bytes are needed" in sidecar.output()
        assert copies(sidecar) == []
        for name in ("journal.db", "mark"):
            assert (sidecar.state_dir / name).read_bytes() == (FULL / name).read_bytes()


def copies(sidecar: Sidecar) -> list[Path]:
    """The copies from before an upgrade in a state directory."""
    return sorted(sidecar.state_dir.glob("journal.db.version-*"))


# -- states that cannot be read ------------------------------------------------------------------


def of_a_newer_journal(db: apsw.Connection) -> None:
    """Mark the journal as one of a later version."""
    db.execute("PRAGMA user_version = 99")


def with_snapshot(change: Callable[[dict[str, Any]], object]) -> Callable[[apsw.Connection], None]:
    """Change the newest snapshot, and give it the checksum of what it then is."""

    def apply(db: apsw.Connection) -> None:
        newest: Any = db.execute("SELECT seq, data FROM snapshots ORDER BY seq DESC").fetchone()
        seq, data = newest
        plain = msgspec.msgpack.decode(data)
        changed = change(plain)
        data = changed if isinstance(changed, bytes) else msgspec.msgpack.encode(plain)
        query = "UPDATE snapshots SET crc = ?, data = ? WHERE seq = ?"
        db.execute(query, (zlib.crc32(data), data, seq))

    return apply


def with_unknown_event(db: apsw.Connection) -> None:
    """Change the last entry into an event of a type that is not known, with its checksum."""
    query = "SELECT seq, now_ns, wall_ns FROM inputs ORDER BY seq DESC LIMIT 1"
    last: Any = db.execute(query).fetchone()
    seq, now_ns, wall_ns = last
    body = msgspec.msgpack.encode([{"type": "margin_call", "venue": "kraken"}])
    crc = zlib.crc32(body, zlib.crc32(struct.pack("<qqq", seq, now_ns, wall_ns)))
    sealed = struct.pack("<BL", 0xC1, crc) + body
    db.execute("UPDATE inputs SET events = ? WHERE seq = ?", (sealed, seq))


UNREADABLE: dict[str, tuple[Callable[[apsw.Connection], None], str]] = {
    "newer journal": (of_a_newer_journal, "newer riskmon (state version 99, this one reads up to"),
    "newer snapshot": (
        with_snapshot(lambda plain: plain.update(version=99)),
        "state version 99",
    ),
    "unknown field": (
        with_snapshot(lambda plain: plain["state"].update(margins={})),
        "unknown field `margins`",
    ),
    "other type": (
        with_snapshot(lambda plain: plain["state"].update(timers="none")),
        ".timers`",
    ),
    "unknown kind of limit": (
        with_snapshot(lambda plain: plain["config"]["limits"][0].update(kind="margin")),
        "is of the unknown kind `margin`",
    ),
    "garbage": (with_snapshot(lambda plain: b"garbage"), "cannot be read by this riskmon"),
    "unknown event": (with_unknown_event, "margin_call"),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_an_unreadable_state_is_refused_and_left_as_it_is(
    tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A start, `check-state` and `restore` end with 2 and a sentence; no row is changed."""
    damage, named = UNREADABLE[what]
    with sidecar_on(FULL, tmp_path) as sidecar:
        journal = sidecar.state_dir / "journal.db"
        with closing(apsw.Connection(str(journal))) as db:
            damage(db)
        contents = dumped(journal)
        assert sidecar.launch().wait() == 2
        output = sidecar.output()
        assert named in output
        assert "run the version that wrote it, or restore a backup that this version" in output
        assert "Traceback" not in output
        assert dumped(journal) == contents
        copy = shutil.copyfile(journal, tmp_path / "copy")
        commands = [["check-state"], ["restore", str(copy)]]
        # A restore verifies the snapshot; the start after it reads the entries.
        for command in commands[: 1 if what == "unknown event" else 2]:
            assert cli.run([*command, "--config", str(sidecar.config)]) == 2
            assert named in capsys.readouterr().err
        assert dumped(journal) == contents


def test_no_loss_is_accepted_of_a_state_that_is_only_unreadable(tmp_path: Path) -> None:
    """`--accept-loss` drops no entry that another version can read."""
    with sidecar_on(FULL, tmp_path) as sidecar:
        journal = sidecar.state_dir / "journal.db"
        with closing(apsw.Connection(str(journal))) as db:
            with_unknown_event(db)
        contents = dumped(journal)
        assert sidecar.launch(options=("--accept-loss",)).wait() == 2
        assert "margin_call" in sidecar.output()
        assert dumped(journal) == contents


def dumped(journal: Path) -> list[Any]:
    """The version and the rows of a journal, without what a start notes in `meta`."""
    with closing(apsw.Connection(str(journal), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        tables = ("inputs", "snapshots", "audit", "transitions", "outbox")
        rows = [list(db.execute(f"SELECT * FROM {table} ORDER BY rowid")) for table in tables]
        return [db.execute("PRAGMA user_version").fetchone(), *rows]


def test_a_breaker_that_a_replay_leaves_closed_is_held_by_a_freeze(tmp_path: Path) -> None:
    """What an earlier version decided after its last snapshot holds, however it is replayed."""
    trip = Transition(
        limit="drawdown", scope="account", before="closed", after="open", generation=10,
        reason="down by 0.6", at_ns=time.time_ns(),
    )  # fmt: skip
    with sidecar_on(FULL, tmp_path) as sidecar:
        with closing(apsw.Connection(str(sidecar.state_dir / "journal.db"))) as db:
            row = (trip.at_ns, msgspec.json.encode(trip).decode())
            db.execute("INSERT INTO transitions VALUES (?, ?)", row)
        sidecar.start()
        manual = sidecar.breaker("manual", "account")
        assert manual["state"] == "frozen"
        assert "drawdown over account was open, and is closed after the upgrade" in manual["reason"]
        assert sidecar.level() == Level.HALT
        sidecar.end(signal.SIGKILL)
        generation = sidecar.start().state()["generation"]
        assert generation == manual["generation"]  # frozen once
