"""The gate lapses by itself however the sidecar ends, hangs or is ended."""

from __future__ import annotations

import signal

import pytest

from riskmon.gate import Gate, Level
from tests.support.sidecar import LEASE_SECONDS, Make, boot_ns
from tests.support.waiting import eventually
from tests.support.webhooks import Webhooks

pytestmark = pytest.mark.slow

LEASE_NS = int(LEASE_SECONDS * 1e9)


def test_a_killed_sidecar_leaves_at_most_a_lease(make: Make) -> None:
    """After SIGKILL nothing renews: what is left is a lease that ends within its length."""
    sidecar = make().start()
    sidecar.events({"type": "heartbeat", "venue": "kraken"})
    with Gate.open(sidecar.gate_path) as gate:
        assert gate.allows(venue="kraken")
        sidecar.end(signal.SIGKILL)
        ended_ns = boot_ns()
        eventually(lambda: not gate.allows(venue="kraken"), "the lapse")
        words = memoryview(sidecar.gate_path.read_bytes()).cast("Q")
    assert 0 < words[8] <= ended_ns + LEASE_NS  # record 1: never shut, only lapsed


def test_a_hung_sidecar_loses_its_gate(make: Make) -> None:
    """While the process is stopped the lease lapses; when it continues it is renewed."""
    sidecar = make().start()
    with Gate.open(sidecar.gate_path) as gate:
        assert gate.level() is Level.ALLOW
        sidecar.send(signal.SIGSTOP)
        eventually(lambda: gate.level() is Level.HALT, "the lapse")
        sidecar.send(signal.SIGCONT)
        eventually(lambda: gate.level() is Level.ALLOW, "the renewal")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_end_shuts_the_gate_at_once(make: Make, number: signal.Signals) -> None:
    """Exit 0, every lease word zero, and the trail shows a stop."""
    sidecar = make().start()
    sidecar.events({"type": "heartbeat", "venue": "kraken"})
    assert sidecar.end(number) == 0
    words = memoryview(sidecar.gate_path.read_bytes()).cast("Q")
    records = words[4]
    assert records == 3  # the header, the account, the venue
    assert [words[8 * record] & 0xFF for record in range(1, records)] == [0, 0]
    assert sidecar.level() is Level.HALT
    sidecar.start()
    kinds = [record["kind"] for record in sidecar.incidents()]
    assert kinds == ["start", "stop", "start"]
    assert sidecar.incidents("start")[0]["reason"] == ""  # not after a kill


def test_on_stop_cancel_sends_both_sweeps_before_the_end(make: Make, oms: Webhooks) -> None:
    """With `on_stop = "cancel"` an orderly end cancels everything, and waits for it."""
    sidecar = make(oms.target(), top='on_stop = "cancel"').start()
    assert sidecar.end(signal.SIGTERM) == 0
    assert oms.sweeps(limit="stop", scope="account") == [1, 2]
    sidecar.start()
    assert sidecar.state()["cancel"] == []
    assert sidecar.breaker("stop", "account")["state"] == "closed"
    assert sidecar.level() is Level.ALLOW


def test_by_default_a_stop_keeps_orders(make: Make, oms: Webhooks) -> None:
    """Without `on_stop` nothing is cancelled, neither at the end nor at the next start."""
    sidecar = make(oms.target()).start()
    assert sidecar.end(signal.SIGTERM) == 0
    sidecar.start()
    assert sidecar.level() is Level.ALLOW
    assert oms.bodies == []


@pytest.mark.parametrize("wish", ["cancel", "keep"])
def test_an_unclean_start_cancels_unless_told_to_keep(make: Make, oms: Webhooks, wish: str) -> None:
    """After SIGKILL orders may rest: the next start cancels all, or leaves them by choice."""
    sidecar = make(oms.target(), top=f'on_unclean_start = "{wish}"').start()
    sidecar.end(signal.SIGKILL)
    sidecar.start()
    assert sidecar.incidents("start")[0]["reason"] == "after a kill"
    eventually(lambda: sidecar.level() is Level.ALLOW, "the gate's opening")
    trips = [(t["limit"], t["scope"]) for t in sidecar.incidents("trip")]
    if wish == "cancel":
        assert trips == [("unclean_start", "account")]
        assert oms.sweeps(limit="unclean_start", scope="account") == [1, 2]
        assert sidecar.incidents("trip")[0]["confirmed_at"] is not None
    else:
        assert trips == []
        assert oms.bodies == []
