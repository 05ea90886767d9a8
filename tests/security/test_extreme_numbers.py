"""Numbers out of range: each is a 400 that names its field, and has no effect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.sidecar import Make, Sidecar
from tests.support.webhooks import Webhooks

pytestmark = pytest.mark.slow

INTEGERS = ("9223372036854775808", "18446744073709551615", "18446744073709551616", "-1", "9" * 400)
NUMBERS = (*INTEGERS, "1e400", "-1e400", "1e308", "-0.5", "9" * 5_000)
ACTIONS = ("freeze", "unfreeze", "trip", "reset", "disable", "enable")


def refused(sidecar: Sidecar, path: str, body: str, *, operator: bool = False) -> str | None:
    """Return the field in the refusal of this body."""
    status, answer = sidecar.request("POST", path, body.encode(), operator=operator)
    assert status == 400, (path, body, answer)
    field: str | None = json.loads(answer).get("field")
    return field


def calls(action: str) -> list[tuple[str, str]]:
    """Yield bodies of an operator's call with a number out of range, and its field."""
    # Both need a generation, but a repeated one would be refused for that reason.
    start = '{"scope":"account","reason":"a test",'
    return [
        (f'{start}"preview":{preview},{rest}"{field}":{number}}}', field)
        for preview in ("false", "true")
        for field, rest in (("generation", ""), ("for", '"generation":1,'))
        for number in NUMBERS
    ]


def shown(sidecar: Sidecar) -> dict[str, Any]:
    """Return the state without the values that change by themselves."""
    return {name: value for name, value in sidecar.state().items() if name != "at"}


def test_operators_numbers_are_bounded(make: Make, oms: Webhooks) -> None:
    """Every action with every extreme has no effect and no cancel, and the sidecar continues."""
    sidecar = make(oms.target()).start()
    sidecar.events({"type": "heartbeat", "venue": "kraken"})
    before, trail = shown(sidecar), len(sidecar.incidents())
    for action in ACTIONS:
        for body, field in calls(action):
            assert refused(sidecar, f"/v1/{action}", body, operator=True) == field
    assert shown(sidecar) == before
    assert len(sidecar.incidents()) == trail
    assert oms.bodies == []
    # The largest valid number is accepted, and a freeze works.
    assert sidecar.operate("freeze", generation=2**63 - 1)[0] == 200


CHECK = '{"venue":"k","symbol":"A/B","side":"buy",'
REPORTED = [
    ("/v1/events", '[{"type":"latency","venue":"k","seconds":%s}]', "seconds"),
    ("/v1/events", '[{"type":"price","symbol":"A/B","price":%s}]', "price"),
    ("/v1/events", '[{"type":"open_orders","venue":"k","count":%s}]', "count"),
    ("/v1/events", '[{"type":"heartbeat","at":%s}]', "at"),
    ("/v1/check", CHECK + '"price":1,"quantity":%s}', "quantity"),
    ("/v1/check", CHECK + '"quantity":1,"price":%s}', "price"),
]


def test_reported_numbers_are_bounded(make: Make) -> None:
    """Each numeric field of an event or a check is bounded."""
    sidecar = make().start()
    before = shown(sidecar)
    for path, template, field in REPORTED:
        for number in NUMBERS:
            assert refused(sidecar, path, template % number) == field
    # An integer is an id by its decimal text, of at most 128 characters.
    for number in ("9" * 400, "9" * 5_000, "1e400", "-0.5"):
        assert refused(sidecar, "/v1/events", f'{{"type":"pnl","amount":1,"id":{number}}}') == "id"
    assert shown(sidecar) == before
    sidecar.events({"type": "pnl", "amount": 1, "id": 10**127})


def test_parameters_are_bounded(make: Make) -> None:
    """`limit` and `before` of the audit trail, and times beyond 64 bits, are bounded."""
    sidecar = make().start()
    for name, values in {
        "limit": (*INTEGERS, "0", "1001", "1e3"),
        "before": (
            *("9223372036854775808", "9" * 400, "-1", "1e400", "0001-01-01T00:00:00%2B23:59"),
            *("9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z", "2263-01-01T00:00:00Z"),
        ),
    }.items():
        for value in values:
            status, body = sidecar.request("GET", f"/v1/incidents?{name}={value}")
            assert (status, json.loads(body)["field"]) == (400, name), value
    assert sidecar.request("GET", "/v1/incidents?before=2262-01-01T00:00:00Z")[0] == 200
