"""A restart forgets nothing, and trades only when it has caught up."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from riskmon.core.events import Latency
from riskmon.gate import Gate, Level
from riskmon.journal import Commit, Entry, Journal
from tests.support.sidecar import QUICK_LATENCY, SLOW_SAMPLES, Make, Sidecar
from tests.support.waiting import eventually
from tests.support.webhooks import Webhooks, accepted

pytestmark = pytest.mark.slow

PORTFOLIO = '\n[portfolio]\nreference = "USDT"\nvenues = ["kraken"]\n'
SHOWN = ("limit", "scope", "state", "generation", "reason", "incident", "trips_total", "since")


def breakers(sidecar: Sidecar) -> list[dict[str, Any]]:
    """All breakers but that of the start itself."""
    found = [b for b in sidecar.state()["breakers"] if b["limit"] != "unclean_start"]
    return [{name: breaker[name] for name in SHOWN} for breaker in found]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_goes_on_where_it_ended(
    make: Make, oms: Webhooks, number: signal.Signals
) -> None:
    """Breakers, freezes, balances, initial capital and undelivered cancels outlive the process."""
    sidecar = make(
        QUICK_LATENCY + PORTFOLIO + oms.target(), top='on_unclean_start = "keep"'
    ).start()
    assets = {"USDT": {"free": 1000.5, "locked": 0.25}}
    sidecar.events({"type": "balances", "venue": "kraken", "assets": assets})
    sidecar.events({"type": "heartbeat", "symbol": "BTC/USDT"})
    eventually(lambda: sidecar.state()["portfolio"]["initial_capital"], "the initial capital")
    oms.down()
    sidecar.operate("freeze", "symbol:BTC/USDT")
    sidecar.events(*SLOW_SAMPLES)
    before, portfolio = breakers(sidecar), sidecar.state()["portfolio"]
    generation = sidecar.state()["generation"]
    incidents = {record["id"] for record in sidecar.incidents() if record["kind"] != "operation"}
    sidecar.end(number)

    oms.up()
    sidecar.start()
    assert breakers(sidecar) == before
    states = {(b["limit"], b["scope"]): b["state"] for b in before}
    assert states["latency_p99", "venue:kraken"] == "open"
    assert states["manual", "symbol:BTC/USDT"] == "frozen"
    after = sidecar.state()
    assert after["generation"] == generation
    assert after["portfolio"]["balances"] == portfolio["balances"] != []
    assert after["portfolio"]["initial_capital"] == portfolio["initial_capital"] == 1000.75
    assert sidecar.level(venue="kraken") is Level.HALT
    assert sidecar.level(symbol="BTC/USDT") is Level.HALT
    assert sidecar.level() is Level.ALLOW
    assert incidents <= {record["id"] for record in sidecar.incidents()}
    tripped = {b["incident"] for b in before if b["incident"]}
    assert len(tripped) == 2
    first = {f"{incident}_1_oms" for incident in tripped}
    eventually(lambda: first <= {body["id"] for body in oms.bodies}, "the undelivered cancels")
    eventually(lambda: all(c["confirmed"] for c in sidecar.state()["cancel"]), "the confirmation")


def test_no_incident_id_comes_twice(make: Make, tmp_path: Path) -> None:
    """Not over restarts, and not when two starts go on from the same copy of the state."""
    sidecar = make(top='on_unclean_start = "keep"').start()
    seen = [sidecar.operate("trip")[1]["breakers"][0]["incident"]]
    generation = sidecar.state()["generation"]
    assert sidecar.operate("reset", generation=generation)[0] == 200
    sidecar.end(signal.SIGKILL)
    shutil.copytree(sidecar.state_dir, tmp_path / "copy")
    for _ in range(3):
        shutil.rmtree(sidecar.state_dir)
        shutil.copytree(tmp_path / "copy", sidecar.state_dir)
        sidecar.gate_mark.unlink()  # as on another machine
        sidecar.start()
        seen.append(sidecar.operate("trip")[1]["breakers"][0]["incident"])
        sidecar.end(signal.SIGKILL)
    assert len(set(seen)) == 4


def test_the_gate_is_shut_until_the_journal_is_replayed(make: Make) -> None:
    """During the replay it listens, is not ready, accepts nothing, and the gate is at halt."""
    sidecar = make()
    with_long_journal(sidecar.state_dir)
    sidecar.launch()
    eventually(lambda: listens(sidecar), "the listener")
    behind = 0
    while True:
        level = sidecar.level()
        status, said = over_unix(sidecar, "GET", "/-/ready")
        assert level is Level.HALT or status == 200
        if status == 200:
            break
        assert status == 503
        assert b"replayed" in said
        event = b'{"type":"heartbeat","venue":"late"}'
        assert over_unix(sidecar, "POST", "/v1/events", event)[0] in (503, 200)
        behind += 1
    assert behind > 0
    eventually(lambda: sidecar.level() is Level.ALLOW, "the gate's opening")


@pytest.mark.parametrize("clean", [True, False])
def test_an_end_in_the_middle_of_the_replay_is_in_order(make: Make, clean: bool) -> None:
    """The state is as it was: the next start is after a kill only if this one was."""
    sidecar = make()
    with_long_journal(sidecar.state_dir, clean=clean)
    sidecar.launch()
    eventually(lambda: listens(sidecar), "the listener")
    assert over_unix(sidecar, "GET", "/-/ready")[0] == 503
    sidecar.send(signal.SIGHUP)  # there is nothing to reload yet
    assert sidecar.end(signal.SIGTERM) == 0
    sidecar.start()
    reasons = {start["reason"] for start in sidecar.incidents("start")}
    assert ("after a kill" in reasons) is not clean


def with_long_journal(state_dir: Path, *, clean: bool = True) -> None:
    """A journal without a snapshot, which takes a while to replay."""
    journal = Journal.open(state_dir)
    now_ns = 10**18
    for first in range(1, 100_000, 1_000):
        entries = [
            Entry(seq, now_ns + seq, now_ns + seq, [Latency(venue="kraken", seconds=0.01)])
            for seq in range(first, first + 1_000)
        ]
        journal.submit(Commit(entries=entries), lambda fault: None)
    journal.close(clean=clean)


def listens(sidecar: Sidecar) -> bool:
    """Whether the Unix socket is taken: it has a name a moment before it listens."""
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(sidecar.directory / "sock")) == 0


def over_unix(sidecar: Sidecar, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Send a request over the Unix socket, whose path is known before the process logs anything."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(sidecar.directory / "sock"))
        connection = http.client.HTTPConnection("localhost")
        connection.sock = sock
        connection.request(method, path, body or None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_a_reader_follows_a_restarted_sidecar(make: Make) -> None:
    """A `Gate` opened once sees the next sidecar's file, with its scopes."""
    sidecar = make().start()
    sidecar.events({"type": "heartbeat", "venue": "kraken"})
    with Gate.open(sidecar.gate_path) as gate:
        watch = gate.watch(venue="kraken")
        assert watch()
        sidecar.end(signal.SIGTERM)
        assert not watch()
        sidecar.start()
        eventually(watch, "the new gate")
        assert sidecar.operate("freeze", "venue:kraken")[0] == 200
        assert not watch()
        assert gate.allows()


def test_a_state_with_more_scopes_than_allowed_does_not_start(make: Make) -> None:
    """A max_scopes below the number of stored scopes gives one line."""
    sidecar = make().start()
    sidecar.events(*({"type": "heartbeat", "venue": f"v{n}"} for n in range(99)))
    assert sidecar.end(signal.SIGTERM) == 0
    sidecar.configure("", top="max_scopes = 3")
    assert sidecar.launch().wait() == 2
    assert sidecar.output().splitlines() == [
        "riskmon: the state holds 100 scopes and max_scopes is 3: raise max_scopes"
    ]


def test_cancels_of_a_kept_state_are_not_sent_twice(make: Make, oms: Webhooks) -> None:
    """What a target took before an orderly end is not sent again after it."""
    sidecar = make(QUICK_LATENCY + oms.target(), top="lease = 0.1").start()
    oms.answer = accepted
    sidecar.events(*SLOW_SAMPLES)
    eventually(lambda: oms.sweeps() == [1, 2], "both sweeps")
    eventually(lambda: len(sidecar.state()["cancel"][0]["targets"]) == 1)
    eventually(
        lambda: sidecar.state()["cancel"][0]["targets"]["oms"] == "delivered", "the delivery"
    )
    assert sidecar.end(signal.SIGTERM) == 0
    sidecar.start()
    oms.answer = accepted
    ids = [body["id"] for body in oms.bodies]
    assert len(ids) == len(set(ids)) >= 2
    assert json.dumps(sidecar.state()["cancel"]).count("delivered") == 1
