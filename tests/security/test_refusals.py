"""Refused calls of operators: the audit trail has their senders, and a flood is only counted."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from riskmon.auth.tokens import token_hash
from riskmon.core.decisions import Record
from riskmon.journal import Commit, Journal
from riskmon.journal.pruning import REFUSALS_MAX
from riskmon.port import Refusal
from tests.support.memory_port import BOT, EXPIRED, GUARDED, OPERATOR, site
from tests.support.sidecar import Make, Sidecar
from tests.support.waiting import eventually

FREEZE = {"scope": "account", "reason": "a test"}
TOKENS = f"""
tokens = [{{ name = "bot-1", role = "ingest", hash = "{token_hash("a-bot")}" }}]
"""


async def test_refused_calls_leave_the_edge_with_their_sender() -> None:
    """A 401 or 403 of an operator's call records the action, the peer and the token's name."""
    async with site(GUARDED) as s:
        await s.ask("POST", "/v1/freeze", json=FREEZE)
        await s.ask("POST", "/v1/reset", token=EXPIRED, json=FREEZE)
        await s.ask("POST", "/-/reload", token=BOT)
        await s.ask(
            "POST", "/v1/freeze", token=OPERATOR, json=FREEZE, headers={"Host": "evil.example"}
        )
        await s.ask("GET", "/v1/state")  # not a call of an operator
        refused = s.port.refusals
    assert [(one.reason, one.action, one.caller, one.peer) for one in refused] == [
        ("unauthorized", "freeze", "", "127.0.0.1"),
        ("unauthorized", "reset", "old", "127.0.0.1"),
        ("forbidden", "reload", "bot-1", "127.0.0.1"),
        ("forbidden", "freeze", "", "127.0.0.1"),
    ]
    assert isinstance(refused[0], Refusal)


def refused(sidecar: Sidecar) -> list[dict[str, Any]]:
    """Return the records of refused calls, oldest first."""
    trail = json.loads(sidecar.request("GET", "/v1/incidents?limit=1000", operator=True)[1])
    return [
        record
        for record in reversed(trail["incidents"])
        if record["kind"] == "refusal" or record["outcome"] not in (None, "done")
    ]


@pytest.mark.slow
def test_refusals_are_in_the_trail_after_a_kill(make: Make) -> None:
    """Each reason is in the trail, with peer and name, and in the metric; also after a kill."""
    sidecar = make(TOKENS).start()
    for reason in ("unauthorized", "forbidden", "conflict", "not_found"):
        assert metric(sidecar, reason) == 0
    call(sidecar, "/v1/freeze", None)
    call(sidecar, "/v1/freeze", "a-bot")
    assert sidecar.operate("trip", scope="venue:nowhere")[0] == 404
    assert sidecar.operate("freeze")[0] == 200
    assert sidecar.operate("unfreeze", generation=0)[0] == 409
    assert sidecar.operate("unfreeze", generation=0, preview=True)[0] == 409
    eventually(lambda: len(refused(sidecar)) == 4, "four refusals")
    sidecar.end(signal.SIGKILL)
    sidecar.start()
    shown = [(r["kind"], r["action"], r["by"], r["peer"]) for r in refused(sidecar)]
    assert shown == [
        ("refusal", "freeze", None, "127.0.0.1"),
        ("refusal", "freeze", "bot-1", "127.0.0.1"),
        ("operation", "trip", "operator", "127.0.0.1"),
        ("operation", "unfreeze", "operator", "127.0.0.1"),
    ]


@pytest.mark.slow
def test_flood_of_refusals_is_counted(make: Make) -> None:
    """Of hundreds of refused calls ten per second are recorded, and the rest are counted."""
    sidecar = make(TOKENS).start()
    began = time.monotonic()
    sent = 0
    while time.monotonic() - began < 2:
        call(sidecar, "/v1/freeze", "a-bot")
        sidecar.operate("reset", generation=0, scope="venue:nowhere")
        sent += 2
    total = metric(sidecar, "forbidden") + metric(sidecar, "not_found")
    assert total == sent > 60
    time.sleep(1.2)  # the last count follows within a second
    records = refused(sidecar)
    left_out = [int(r["outcome"].split()[0]) for r in records if "left out" in r["outcome"]]
    single = [r for r in records if "left out" not in r["outcome"]]
    assert len(single) + sum(left_out) == sent
    seconds = Counter(r["at"][:19] for r in single)
    assert max(seconds.values()) <= 20  # two of the sidecar's seconds overlap one of the clock's
    assert len(single) <= 40


def metric(sidecar: Sidecar, reason: str) -> int:
    """Return the number of calls refused for a reason."""
    page = sidecar.request("GET", "/metrics", operator=True)[1].decode()
    name = f'riskmon_operations_refused_total{{account="test",reason="{reason}"}} '
    (line,) = [line for line in page.splitlines() if line.startswith(name)]
    return int(float(line.removeprefix(name)))


def call(sidecar: Sidecar, path: str, token: str | None) -> None:
    """Make an operator's call without permission."""
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=10)
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request("POST", path, json.dumps(FREEZE), headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (401, 403)
    finally:
        connection.close()


def test_refusals_are_pruned_and_operations_are_not(tmp_path: Path) -> None:
    """The newest records of refused calls are kept; other records are not pruned."""
    journal = Journal.open(tmp_path)
    try:
        journal.recover()
        kept = Record(id="op_1", kind="operation", at_ns=1)
        many = [
            Record(id=f"refused_{n:020d}_{n}", kind="refusal", at_ns=n)
            for n in range(2, REFUSALS_MAX + 602)
        ]
        journal.submit(Commit(decisions=[kept, *many]), lambda _: None)
        journal.prune(30, 10**9)
        newest = eventually(
            lambda: found if len(found := journal.audit(20_000)) == REFUSALS_MAX + 1 else None,
            "pruning",
        )
        without = journal.audit(10, refusals=False)
    finally:
        journal.close(clean=True)
    assert without == [kept]
    assert newest[0].id == many[-1].id
    assert newest[-1].id == kept.id
