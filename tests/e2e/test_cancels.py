"""From a trip to a confirmed cancel, over real HTTP."""

from __future__ import annotations

import pytest

from riskmon.gate import Level
from tests.support.sidecar import QUICK_LATENCY, SLOW_SAMPLES, Make
from tests.support.waiting import eventually
from tests.support.webhooks import Webhooks, accepted, done

pytestmark = pytest.mark.slow

SHORT = "lease = 0.2"


def test_two_sweeps_then_confirmed(make: Make, oms: Webhooks) -> None:
    """A trip sends sweep 1 in its step and sweep 2 a lease later, whose answer confirms."""
    sidecar = make(QUICK_LATENCY + oms.target(), top=SHORT).start()
    answer = sidecar.events(*SLOW_SAMPLES)
    assert answer["levels"]["venue:kraken"] == "halt"
    assert answer["levels"]["account"] == "allow"
    eventually(lambda: oms.sweeps() == [1, 2], "both sweeps")
    first, second = oms.bodies
    assert (first["type"], first["scope"], first["limit"]) == (
        *("cancel_orders", "venue:kraken", "latency_p99"),
    )
    assert first["reason"] == "P99 0.900 s over 0.2 s (2 samples)"
    assert first["id"] == f"{first['incident']}_1_oms"
    assert second["id"] == f"{first['incident']}_2_oms"
    trip = eventually(
        lambda: next((t for t in sidecar.incidents("trip") if t["confirmed_at"]), None),
        "the confirmation",
    )
    assert (trip["id"], trip["sweeps"], trip["canceled"]) == (first["incident"], 2, 2)


def test_retried_until_the_receiver_is_back(make: Make, oms: Webhooks) -> None:
    """A receiver that was down gets both sweeps, each under its own stable id."""
    sidecar = make(QUICK_LATENCY + oms.target(), top=SHORT).start()
    oms.down()
    sidecar.events(*SLOW_SAMPLES)
    eventually(
        lambda: sidecar.metric(
            "riskmon_cancel_deliveries_total", target="oms", result="connect_error"
        ),
        "a failed attempt",
    )
    assert sidecar.metric("riskmon_cancel_unconfirmed", target="oms") == 1
    oms.up()
    eventually(lambda: {1, 2} <= set(oms.sweeps()), "both sweeps")
    eventually(lambda: sidecar.incidents("trip")[0]["confirmed_at"], "the confirmation")
    assert len({body["id"] for body in oms.bodies}) == len({b["sweep"] for b in oms.bodies})


def test_a_refusing_target_is_retried_with_the_same_id(make: Make, oms: Webhooks) -> None:
    """Whatever the status, the same webhook comes again until a 2xx."""
    refusals = iter([500, 404, 302])

    def answer(body: dict[str, object]) -> tuple[int, dict[str, object]]:
        return done(body) if (status := next(refusals, 200)) == 200 else (status, {})

    oms.answer = answer
    sidecar = make(QUICK_LATENCY + oms.target()).start()
    sidecar.events(*SLOW_SAMPLES)
    eventually(lambda: sidecar.incidents("trip")[0]["confirmed_at"], "the confirmation")
    assert len(oms.bodies) >= 4
    assert oms.sweeps().count(1) >= 2
    assert len({body["id"] for body in oms.bodies}) == 2


def test_targets_are_independent(make: Make, oms: Webhooks) -> None:
    """A target that is down neither delays the other nor lets the incident count as confirmed."""
    with Webhooks() as other:
        sidecar = make(QUICK_LATENCY + oms.target() + other.target("backup"), top=SHORT).start()
        other.down()
        sidecar.events(*SLOW_SAMPLES)
        cancel = eventually(
            lambda: next(
                (c for c in sidecar.state()["cancel"] if c["targets"]["oms"] == "confirmed"), None
            ),
            "the first target's confirmation",
        )
        assert not cancel["confirmed"]
        assert oms.sweeps() == [1, 2]
        other.up()
        eventually(lambda: sidecar.state()["cancel"][0]["confirmed"], "the other's confirmation")
        eventually(lambda: {1, 2} <= set(other.sweeps()), "both sweeps")
        assert oms.sweeps() == [1, 2]


def test_open_orders_confirm_what_the_target_does_not(make: Make, oms: Webhooks) -> None:
    """`open_orders` of 0, taken after delivery of sweep 2, confirms a venue's cancel."""
    oms.answer = accepted
    sidecar = make(QUICK_LATENCY + oms.target(), top=SHORT).start()
    sidecar.events(*SLOW_SAMPLES)
    sidecar.events({"type": "open_orders", "venue": "kraken", "count": 0})  # before the delivery
    eventually(lambda: oms.sweeps() == [1, 2], "both sweeps")
    eventually(
        lambda: sidecar.state()["cancel"][0]["targets"]["oms"] == "delivered", "the delivery"
    )
    sidecar.events({"type": "open_orders", "venue": "kraken", "count": 2})
    sidecar.events({"type": "open_orders", "venue": "other", "count": 0})
    assert not sidecar.state()["cancel"][0]["confirmed"]
    sidecar.events({"type": "open_orders", "venue": "kraken", "count": 0})
    assert sidecar.state()["cancel"][0]["confirmed"]


def test_delivery_confirms_where_the_target_is_configured_so(make: Make, oms: Webhooks) -> None:
    """With `confirm = "delivery"` a 2xx for sweep 2 is enough."""
    oms.answer = accepted
    sidecar = make(QUICK_LATENCY + oms.target(confirm="delivery"), top=SHORT).start()
    sidecar.events(*SLOW_SAMPLES)
    eventually(lambda: sidecar.incidents("trip")[0]["confirmed_at"], "the confirmation")
    assert oms.sweeps() == [1, 2]


def test_nothing_loosens_before_its_cancel_is_confirmed(make: Make, oms: Webhooks) -> None:
    """A reset while orders may rest is refused with 409; force overrides, and withdraws."""
    sidecar = make(QUICK_LATENCY + oms.target()).start()
    oms.down()
    sidecar.events(*SLOW_SAMPLES)
    generation = sidecar.state()["generation"]
    status, refusal = sidecar.operate("reset", "venue:kraken", generation=generation)
    assert status == 409
    assert "not confirmed" in refusal["detail"]
    assert sidecar.level(venue="kraken") is Level.HALT
    status, answer = sidecar.operate("reset", "venue:kraken", generation=generation, force=True)
    assert status == 200, answer
    assert answer["level"] == "allow"
    assert sidecar.breaker("latency_p99", "venue:kraken")["state"] == "closed"
    assert sidecar.level(venue="kraken") is Level.ALLOW
    assert sidecar.state()["cancel"] == []
    eventually(
        lambda: sidecar.metric("riskmon_cancel_pending", target="oms") == 0, "the withdrawal"
    )
    outcomes = [record["outcome"] for record in sidecar.incidents("operation")]
    assert outcomes == ["done", refusal["detail"]]


def test_a_breaker_waits_for_the_confirmation(make: Make, oms: Webhooks) -> None:
    """Its wait over, a breaker stays open while its cancel is unconfirmed, then probes."""
    oms.answer = accepted
    recovering = QUICK_LATENCY.replace(
        '"operator"', "{ after = 0.1, max = 0.2, jitter = 0, probes = 2 }"
    )
    sidecar = make(recovering + oms.target(), top=SHORT).start()
    sidecar.events(*SLOW_SAMPLES)
    eventually(lambda: oms.sweeps() == [1, 2], "both sweeps")  # a lease: twice the wait
    eventually(
        lambda: sidecar.state()["cancel"][0]["targets"]["oms"] == "delivered", "the delivery"
    )
    assert sidecar.breaker("latency_p99", "venue:kraken")["state"] == "open"
    sidecar.events({"type": "open_orders", "venue": "kraken", "count": 0})
    eventually(
        lambda: sidecar.breaker("latency_p99", "venue:kraken")["state"] == "half_open", "half-open"
    )
