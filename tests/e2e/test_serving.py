"""What a running sidecar answers: events, checks, metrics and the stream, end to end."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from riskmon.gate import Level
from tests.support.sidecar import QUICK_LATENCY, SLOW_SAMPLES, Make, Sidecar
from tests.support.waiting import eventually
from tests.support.webhooks import Webhooks

pytestmark = pytest.mark.slow

PROBING = QUICK_LATENCY.replace('"operator"', "{ after = 0.05, max = 0.1, jitter = 0, probes = 2 }")
ORDER = {"venue": "kraken", "symbol": "BTC/USDT", "side": "buy", "quantity": 1, "price": 100}


def test_events_are_answered_with_levels_and_a_lease(make: Make) -> None:
    """A 200 has levels and lease for a remote bot; a duplicate is counted."""
    sidecar = make(top="lease = 0.75").start()
    fill = {"type": "fill", "id": "T1", **ORDER, "strategy": "mm1"}
    answer = sidecar.events(fill, {"type": "heartbeat", "venue": "mexc"})
    scopes = ("account", "symbol:BTC/USDT", "venue:kraken", "venue:mexc", "strategy:mm1")
    assert answer == {
        "accepted": 2,
        "duplicates": 0,
        "generation": 0,
        "lease": 0.75,
        "levels": dict.fromkeys(scopes, "allow"),
    }
    assert sidecar.events(fill)["duplicates"] == 1
    for kind, name in (scope.split(":") for scope in scopes[1:]):
        assert sidecar.level(**{kind: name}) is Level.ALLOW  # before it was answered
    assert sidecar.operate("freeze", "venue:mexc")[0] == 200
    answer = sidecar.events(fill)
    assert answer["levels"]["venue:mexc"] == "halt"
    assert answer["generation"] == 1


def test_what_is_left_out_is_named_with_its_quantity(make: Make) -> None:
    """An asset without a price is logged, and shown in the state and as a metric."""
    sidecar = make('[portfolio]\nvenues = ["kraken"]\nunknown_grace = 0.2').start()
    sidecar.events({"type": "balances", "venue": "kraken", "assets": {"USDT": {"free": 1_000}}})
    sidecar.events({"type": "balance", "venue": "kraken", "asset": "XYZ", "free": 250})
    assert sidecar.logs("250 XYZ are left out of equity")
    state = sidecar.state()
    assert state["portfolio"]["left_out"] == [{"asset": "XYZ", "quantity": 250}]
    assert state["portfolio"]["equity"] == 1_000
    assert [one["about"] for one in state["notices"]] == ["unpriced"]
    assert sidecar.metric("riskmon_assets_unpriced") == 1


NAMES = """
[portfolio]
venues = ["币安"]
[limits.position]
max = 1
overrides = { "symbol:币安人生/USDT" = 3, "symbol:$ANALOS/USDT" = 4 }
"""


def test_names_of_any_script(make: Make) -> None:
    """The configuration, the gate, the answers, the metrics and the operator's calls take them."""
    sidecar = make(NAMES).start()
    fill = {"type": "fill", "id": 1, **ORDER, "venue": "币安"}
    names = {"币安人生/USDT": 3.0, "$ANALOS/USDT": 4.0, "देवनागरी+&#@~*": 1.0}
    answer = sidecar.events(*({**fill, "symbol": name} for name in names))
    levels = {"account", "venue:币安", *(f"symbol:{name}" for name in names)}
    assert answer["levels"] == dict.fromkeys(levels, "allow")
    for name, bound in names.items():
        assert sidecar.level(venue="币安", symbol=name) is Level.ALLOW
        scope = f"symbol:{name}"
        assert sidecar.metric("riskmon_limit_bound", limit="position", scope=scope) == bound
        assert sidecar.metric("riskmon_position_quantity", venue="币安", symbol=name) == 1
    order = {**ORDER, "venue": "币安", "symbol": "币安人生/USDT"}
    assert sidecar.check(**order)["allowed"]
    assert sidecar.operate("freeze", "symbol:币安人生/USDT")[0] == 200
    assert sidecar.level(symbol="币安人生/USDT") is Level.HALT


BAD: list[tuple[bytes, dict[str, Any]]] = [
    (b'[{"type":"heartbeat"', {"offset": 20}),
    (b'[{"type":"latency","venue":"kraken"}]', {"index": 0, "field": "seconds"}),
    (b'[{"type":"latency","venue":"a b","seconds":1}]', {"index": 0, "field": "venue"}),
    (
        b'[{"type":"heartbeat","venue":"new"},{"type":"price","symbol":"S","price":"NaN"}]',
        {"index": 1, "field": "price"},
    ),
    (b'[{"type":"price","symbol":"S","price":1e16}]', {"index": 0, "field": "price"}),
    (b'[{"type":"fill","id":"1","venue":"k","symbol":"S"}]', {"index": 0}),
    (b'[{"type":"heartbeat","colour":"red"}]', {"index": 0, "field": "colour"}),
    (b'[{"type":"heartbeat","at":"2001-01-01T00:00:00Z"}]', {"index": 0, "field": "at"}),
    (b'[{"type":"heartbeat","at":"2999-01-01T00:00:00Z"}]', {"index": 0, "field": "at"}),
]


def test_a_bad_batch_changes_nothing(make: Make) -> None:
    """Each fault is a 400 with its place; the state is the same as before, to the last field."""
    sidecar = make().start()
    sidecar.events({"type": "latency", "venue": "kraken", "seconds": 0.01})

    def state() -> dict[str, Any]:
        return {key: value for key, value in sidecar.state().items() if key != "at"}

    before = state()
    for body, place in BAD:
        status, answer = sidecar.request("POST", "/v1/events", body)
        problem = json.loads(answer)
        assert status == 400, body
        assert place.items() <= problem.items(), (body, problem)
        assert state() == before, body
    assert sidecar.metric("riskmon_events_rejected_total", reason="malformed") == len(BAD)
    assert sidecar.metric("riskmon_events_total", type="heartbeat") == 0


def test_too_many_scopes(make: Make) -> None:
    """A batch beyond max_scopes is refused whole with 429; what is known goes on."""
    sidecar = make(top="max_scopes = 3").start()  # the account is one
    sidecar.events({"type": "heartbeat", "venue": "v1"})
    two = [{"type": "heartbeat", "venue": f"w{n}"} for n in range(2)]
    status, body = sidecar.request("POST", "/v1/events", two)
    assert status == 429, body
    assert "max_scopes" in json.loads(body)["detail"]
    assert list(sidecar.state()["gate"]["levels"]) == ["account", "venue:v1"]
    assert sidecar.events(two[0])["levels"]["venue:w0"] == "allow"
    assert sidecar.request("POST", "/v1/events", two[1])[0] == 429
    check = {**ORDER, "venue": "w0"}
    assert sidecar.request("POST", "/v1/check", check)[0] == 429  # its symbol is new
    assert sidecar.events({"type": "heartbeat", "venue": "v1"})["accepted"] == 1
    assert sidecar.operate("freeze", "asset:BTC")[0] == 200  # for which there is always room
    assert sidecar.state()["gate"]["levels"]["asset:BTC"] == "halt"


def test_probes_are_granted_one_by_one(make: Make, oms: Webhooks) -> None:
    """Half-open: level 2 at the gate, as many permits as probes, and good samples close it."""
    sidecar = make(PROBING + oms.target(), top="lease = 0.1").start()
    sidecar.events({"type": "price", "symbol": "BTC/USDT", "price": 100}, *SLOW_SAMPLES)
    refused = json.loads(sidecar.request("POST", "/v1/check", ORDER)[1])
    assert (refused["allowed"], refused["level"]) == (False, "halt")
    assert [(r["limit"], r["scope"]) for r in refused["reasons"]] == [
        ("latency_p99", "venue:kraken")
    ]
    eventually(lambda: sidecar.level(venue="kraken") is Level.PROBE, "half-open")
    answers = [json.loads(sidecar.request("POST", "/v1/check", ORDER)[1]) for _ in range(3)]
    assert [(a["allowed"], a["level"]) for a in answers] == [
        *((True, "probe"), (True, "probe"), (False, "probe")),
    ]
    assert [r["limit"] for r in answers[2]["reasons"]] == ["latency_p99"]
    good = {"type": "latency", "venue": "kraken", "seconds": 0.01}
    assert sidecar.events(good)["levels"]["venue:kraken"] == "probe"
    assert sidecar.events(good)["levels"]["venue:kraken"] == "allow"
    assert sidecar.metric("riskmon_orders_checked_total", result="allowed") == 2
    assert sidecar.metric("riskmon_orders_checked_total", result="refused") == 2


def test_the_metrics_after_a_trip(make: Make, oms: Webhooks) -> None:
    """Names and values that dashboards and alerts read, after one trip and one freeze."""
    sidecar = make(QUICK_LATENCY + oms.target(), top="lease = 0.1").start()
    trips = {"limit": "latency_p99", "scope": "venue:kraken"}
    sidecar.events({"type": "heartbeat", "venue": "kraken"})
    assert sidecar.metric("riskmon_breaker_trips_total", **trips) == 0
    assert sidecar.metric("riskmon_breaker_state", **trips, state="open") == 0
    assert sidecar.metric("riskmon_gate_level", scope="venue:kraken") == 3
    sidecar.events(*SLOW_SAMPLES)
    eventually(lambda: sidecar.incidents("trip")[0]["confirmed_at"], "the confirmation")
    sidecar.operate("freeze", "account")
    eventually(lambda: sidecar.metric("riskmon_breach_to_cancel_seconds_count") == 2, "its cancel")
    after: dict[tuple[Any, ...], float] = {
        ("riskmon_limit_value", *trips.items()): 0.9,
        ("riskmon_limit_bound", *trips.items()): 0.2,
        ("riskmon_limit_utilization_ratio", *trips.items()): 4.5,
        ("riskmon_limit_breaches_total", *trips.items()): 1,
        ("riskmon_breaker_trips_total", *trips.items()): 1,
        ("riskmon_breaker_state", *trips.items(), ("state", "open")): 1,
        ("riskmon_breaker_state", *trips.items(), ("state", "closed")): 0,
        ("riskmon_freeze_triggered_total", ("reason", "manual")): 1,
        ("riskmon_freeze_triggered_total", ("reason", "edge_collapse")): 0,
        ("riskmon_freeze_active", ("scope", "account")): 1,
        ("riskmon_gate_level", ("scope", "venue:kraken")): 0,
        ("riskmon_gate_level", ("scope", "account")): 0,
        ("riskmon_exchange_latency_seconds_count", ("venue", "kraken")): 2,
        ("riskmon_breach_to_gate_seconds_count",): 2,
        ("riskmon_events_total", ("type", "latency")): 2,
        ("riskmon_config_last_reload_successful",): 1,
    }
    found = {key: sidecar.metric(key[0], account="test", **dict(key[1:])) for key in after}
    assert found == after
    delivered = {"target": "oms", "result": "delivered"}
    assert (sidecar.metric("riskmon_cancel_deliveries_total", **delivered) or 0) >= 2


@pytest.mark.parametrize("held", ["open", "frozen"])
def test_the_stream_shows_each_change(make: Make, held: str) -> None:
    """A reader of `/v1/stream` sees the transition as it is made."""
    sidecar = make(QUICK_LATENCY).start()
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=20)
    connection.request("GET", "/v1/stream")
    stream = connection.getresponse()
    assert stream.headers["Content-Type"] == "text/event-stream"
    assert stream.readline() == b"retry: 2000\n"
    if held == "open":
        sidecar.events(*SLOW_SAMPLES)
    else:
        sidecar.operate("freeze", "account")
    change = next_change(stream)
    assert (change["before"], change["after"]) == ("closed", held)
    assert change["scope"] == ("venue:kraken" if held == "open" else "account")
    assert change["generation"] == 1
    connection.close()
    assert sidecar.state()["generation"] == 1


def next_change(stream: http.client.HTTPResponse) -> dict[str, Any]:
    """The data of the next transition."""
    while True:
        line = stream.readline()
        assert line, "the stream ended"
        if line.startswith(b"data: "):
            change: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
            if "before" in change:
                return change


def test_operating_needs_the_token_file(make: Make) -> None:
    """Without the operator's token a call is refused and nothing happens; the file is private."""
    sidecar: Sidecar = make().start()
    body = {"scope": "account", "reason": "a test"}
    assert sidecar.request("POST", "/v1/freeze", body)[0] == 401
    assert sidecar.state()["level"] == "allow"
    assert (sidecar.state_dir / "operator.token").stat().st_mode & 0o777 == 0o600
    assert sidecar.operate("freeze")[0] == 200
    assert sidecar.state()["level"] == "halt"
