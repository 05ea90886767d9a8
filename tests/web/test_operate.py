"""Operators' calls and the reload."""

from __future__ import annotations

from typing import Any

import pytest

from riskmon.core.decisions import AddressedBreaker, OperateAnswer, Violation
from riskmon.core.events import Operate
from riskmon.port import NotDurable, Reloaded
from tests.support.memory_port import OPERATOR, ConfigFault, site

ACTIONS = ("freeze", "unfreeze", "trip", "reset", "disable", "enable")
BREAKER = AddressedBreaker(
    limit="manual",
    scope="account",
    state="frozen",
    generation=8,
    reason="maintenance",
    incident="inc_1",
)
SHOWN = {
    "limit": "manual",
    "scope": "account",
    "state": "frozen",
    "generation": 8,
    "reason": "maintenance",
    "incident": "inc_1",
}


@pytest.mark.parametrize("action", ACTIONS)
async def test_call_reaches_the_engine_whole(action: str) -> None:
    """Every member of the body arrives; the answer is the new state."""
    body = {
        "scope": "venue:kraken",
        "reason": " maintenance ",
        "limit": "latency_p99",
        "generation": 7,
        "force": True,
        "preview": True,
        "rebase": True,
        "for": 60,
    }
    async with site() as s:
        s.port.operated = OperateAnswer(
            status=200, detail="frozen", generation=8, level="halt", breakers=[BREAKER]
        )
        got = await s.ask("POST", f"/v1/{action}", token=OPERATOR, json=body)
    assert got.status == 200
    assert got.json == {
        "scope": "venue:kraken",
        "level": "halt",
        "generation": 8,
        "detail": "frozen",
        "preview": True,
        "breakers": [SHOWN],
        "would_trip": [],
    }
    assert s.port.operations == [
        Operate(
            action=action,  # type: ignore[arg-type]
            scope="venue:kraken",
            reason="maintenance",
            by="operator",
            peer="127.0.0.1",
            limit="latency_p99",
            generation=7,
            force=True,
            preview=True,
            rebase=True,
            for_seconds=60.0,
            registers=True,
        )
    ]


async def test_disable_lasts_an_hour_by_default() -> None:
    """Without `for` a breaker is disabled for 3600 seconds."""
    async with site() as s:
        await s.ask("POST", "/v1/disable", token=OPERATOR, json={"scope": "account", "reason": "x"})
    assert s.port.operations[0].for_seconds == 3600.0


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"reason": None}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": "  \t"}, "reason"),
        ({"reason": "two\nlines"}, "reason"),
        ({"reason": "x" * 1_001}, "reason"),
        ({"scope": ""}, "scope"),
        ({"scope": "x" * 129}, "scope"),
        ({"scope": 7}, "scope"),
        ({"limit": ""}, "limit"),
        ({"generation": "7"}, "generation"),
        ({"force": 1}, "force"),
        ({"for": 0}, "for"),
        ({"for": -5}, "for"),
        ({"for": 1e300}, "for"),
        ({"for_seconds": 60}, "for_seconds"),
        ({"by": "someone else"}, "by"),
    ],
)
async def test_bad_call_names_its_field(action: str, change: dict[str, Any], field: str) -> None:
    """An invalid call is refused with the field at fault, and does not reach the engine."""
    body = {"scope": "account", "reason": "why", "generation": 7, **change}
    async with site() as s:
        got = await s.ask("POST", f"/v1/{action}", token=OPERATOR, json=body)
    assert (got.status, got.json["field"]) == (400, field)
    assert s.port.untouched


@pytest.mark.parametrize("missing", ["scope", "reason"])
async def test_scope_and_reason_are_needed(missing: str) -> None:
    """A call without a scope or a reason is refused."""
    body = {"scope": "account", "reason": "why"}
    del body[missing]
    async with site() as s:
        got = await s.ask("POST", "/v1/freeze", token=OPERATOR, json=body)
    assert (got.status, got.json["field"]) == (400, missing)
    assert s.port.untouched


@pytest.mark.parametrize("action", ACTIONS)
async def test_loosening_needs_the_generation_seen(action: str) -> None:
    """Unfreeze and reset require a generation; the other actions do not."""
    async with site() as s:
        got = await s.ask(
            "POST", f"/v1/{action}", token=OPERATOR, json={"scope": "account", "reason": "why"}
        )
    if action in ("unfreeze", "reset"):
        assert (got.status, got.json["field"]) == (400, "generation")
        assert "/v1/state" in got.json["detail"]
    assert len(s.port.operations) == (action not in ("unfreeze", "reset"))


async def test_body_must_be_json() -> None:
    """An HTML form, which a page of another site can send, is refused."""
    async with site() as s:
        form = await s.ask(
            "POST",
            "/v1/freeze",
            token=OPERATOR,
            headers={"Content-Type": "text/plain"},
            body=b'{"scope":"account","reason":"x"}',
        )
        broken = await s.ask(
            "POST",
            "/v1/freeze",
            token=OPERATOR,
            headers={"Content-Type": "application/json"},
            body=b'{"scope":',
        )
    assert form.status == 415
    assert (broken.status, broken.json["offset"]) == (400, 9)
    assert s.port.untouched


async def test_unknown_scope_is_404_with_near_names() -> None:
    """The answer to an unknown name contains similar names."""
    async with site() as s:
        s.port.operated = OperateAnswer(
            status=404, detail="there is no scope venue:krakn", near=["venue:kraken"]
        )
        got = await s.ask(
            "POST", "/v1/freeze", token=OPERATOR, json={"scope": "venue:krakn", "reason": "x"}
        )
    assert got.status == 404
    assert got.json == {
        "type": "urn:riskmon:problem:not_found",
        "title": "Not found",
        "status": 404,
        "detail": "there is no scope venue:krakn",
        "near": ["venue:kraken"],
    }


async def test_an_invalid_scope_is_400_with_its_field() -> None:
    """The engine's refusal of a freeze is answered as a malformed body is."""
    async with site() as s:
        s.port.operated = OperateAnswer(status=400, detail="'mars' is no scope: write account")
        got = await s.ask(
            "POST", "/v1/freeze", token=OPERATOR, json={"scope": "mars", "reason": "x"}
        )
    assert (got.status, got.json["field"]) == (400, "scope")
    assert got.json["detail"] == "'mars' is no scope: write account"


async def test_conflict_has_the_state_and_the_violations() -> None:
    """A refused reset is answered with the state and the limits that would trip at once."""
    blame = Violation(
        limit="portfolio_loss", scope="account", value=0.06, bound=0.05, utilization=1.2
    )
    async with site() as s:
        s.port.operated = OperateAnswer(
            status=409,
            detail="it would trip again at once",
            generation=9,
            breakers=[BREAKER],
            would_trip=[blame],
        )
        got = await s.ask(
            "POST",
            "/v1/unfreeze",
            token=OPERATOR,
            json={"scope": "account", "reason": "x", "generation": 8},
        )
    assert got.status == 409
    problem = got.json
    assert problem["type"] == "urn:riskmon:problem:conflict"
    assert problem["generation"] == 9
    assert problem["breakers"] == [SHOWN]
    assert problem["would_trip"][0]["limit"] == "portfolio_loss"


async def test_operation_that_cannot_be_written_is_503() -> None:
    """A call that cannot be written to the journal is answered with 503."""
    async with site() as s:
        s.port.failure = NotDurable("the disk is full")
        got = await s.ask(
            "POST", "/v1/freeze", token=OPERATOR, json={"scope": "account", "reason": "x"}
        )
    assert (got.status, got.json["detail"]) == (503, "the disk is full")
    assert s.port.rejections == []


async def test_reload_names_keys_that_need_a_restart() -> None:
    """A valid file takes effect; keys that need a restart are listed."""
    async with site() as s:
        s.port.reloaded = Reloaded(needs_restart=("http.listen",))
        got = await s.ask("POST", "/-/reload", token=OPERATOR)
    assert (got.status, got.json) == (200, {"needs_restart": ["http.listen"]})


async def test_bad_reload_lists_every_fault() -> None:
    """An invalid file is a 400 with all faults."""
    fault = ConfigFault("limits.latency_p99.max", "must be above 0", "write 0.2")
    async with site() as s:
        s.port.reloaded = Reloaded(faults=(fault, fault))
        got = await s.ask("POST", "/-/reload", token=OPERATOR)
    assert got.status == 400
    assert got.json["type"] == "urn:riskmon:problem:bad_configuration"
    assert (
        got.json["faults"]
        == [
            {
                "path": "limits.latency_p99.max",
                "message": "must be above 0",
                "hint": "write 0.2",
            }
        ]
        * 2
    )
