"""`riskmon.Engine`: the engine in-process, as docs/reference/engine.md describes it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from riskmon import BadEvents, Engine, Outcome, SettingsError
from riskmon.core.decisions import Decision
from tests.support.documents import DOCS, blocks, rows, ticked

SECOND = 10**9
START = 1_767_322_800 * SECOND
LOSS = """
[portfolio]
initial_capital = 10000
venues = ["kraken"]
[limits.portfolio_loss]
max = 0.05
"""
OMS = """
[[cancel]]
name = "oms"
url = "http://127.0.0.1:9789/cancel"
secret = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"
"""


def step(engine: Engine, second: float, *events: dict[str, Any]) -> Outcome:
    now_ns = START + round(second * SECOND)
    return engine.step(events, now_ns=now_ns, wall_ns=now_ns)


def balance(free: object) -> dict[str, Any]:
    return {"type": "balances", "venue": "kraken", "assets": {"USDT": {"free": free}}}


def operate(action: str, **more: object) -> dict[str, Any]:
    return {"type": "operate", "action": action, "scope": "account", "reason": "a test", **more}


CHECK = {
    "type": "check",
    "venue": "kraken",
    "symbol": "BTC/USDT",
    "side": "buy",
    "quantity": "0.1",
    "price": 60_000,
}


def test_the_tutorial(tmp_path: Path) -> None:
    """The tutorial's tests pass with its configuration, and one fails with a loose bound."""
    page = DOCS / "tutorial-limits.md"
    (config,) = blocks("toml", page)
    test, _ = blocks("python", page)
    (tmp_path / "test_limits.py").write_text(test, encoding="utf-8")
    for text, code in ((config, 0), (config.replace("0.05", "0.5"), 1)):
        (tmp_path / "riskmon.toml").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_limits.py"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == code, run.stdout


def test_time_passes_as_in_the_tutorial() -> None:
    """A tick at each deadline halts a strategy whose heartbeats have stopped."""
    _, block = blocks("python", DOCS / "tutorial-limits.md")
    names: dict[str, Any] = {}
    exec(compile(block, "tutorial-limits.md", "exec"), names)
    engine = Engine.from_toml("[limits.heartbeat]\nmax = 10\n")
    step(engine, 0, {"type": "heartbeat", "strategy": "mm1"})
    names["advance"](engine, START + 9 * SECOND)
    assert engine.level("strategy:mm1") == "allow"
    names["advance"](engine, START + 11 * SECOND)
    assert engine.level("strategy:mm1") == "halt"


def test_the_example_of_the_reference() -> None:
    """The reference's function finds the minute of a loss."""
    (block,) = blocks("python", DOCS / "reference" / "engine.md")
    names: dict[str, Any] = {}
    exec(compile(block, "engine.md", "exec"), names)
    text = "[limits.volatility]\nmax = 0.01\nwindow = 3\nmin_samples = 2\n"
    assert names["first_loss"](text, [100.0, 100.0, 100.0]) is None
    with pytest.raises(SystemExit, match="1 fault in the text"):
        names["first_loss"]("x = 1", [])
    with pytest.raises(SystemExit, match="event 0, price"):
        names["first_loss"](text, [-1.0])


def test_faults_of_a_configuration_are_those_of_check_config() -> None:
    """Every fault at once, each with its key path and a hint."""
    with pytest.raises(SettingsError) as failed:
        Engine.from_toml('[limits.portfolio_los]\nmax = 1\n[portfolio]\ndust = "x"\n')
    assert str(failed.value) == (
        "2 faults in the text\n"
        "  limits.portfolio_los: unknown kind of limit\n"
        "    did you mean `portfolio_loss`? (a name of your own needs a `kind`)\n"
        "  portfolio.dust: must be a number"
    )


def test_no_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable or a .env of the machine that runs a test does not change its result."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("RISKMON_LIMITS__PORTFOLIO_LOSS__MAX=0.9\n")
    monkeypatch.setenv("RISKMON_LIMITS__PORTFOLIO_LOSS__MAX", "0.8")
    (limit,) = (
        one for one in Engine.from_toml(LOSS).state()["limits"] if one["limit"] == "portfolio_loss"
    )
    assert limit["bound"] == 0.05


def test_decisions_are_dicts_as_the_stream_sends_them() -> None:
    """A trip gives a warning, a sweep, an incident and a transition with times in RFC 3339."""
    engine = Engine.from_toml(LOSS + OMS)
    assert step(engine, 0, balance(10_000)) == Outcome(decisions=[], answers=[])
    outcome = step(engine, 60, balance("9000.0"))
    assert {one["type"] for one in outcome.decisions} == {
        *("warning", "sweep", "record", "transition")
    }
    (transition,) = (one for one in outcome.decisions if one["type"] == "transition")
    assert (transition["limit"], transition["scope"]) == ("portfolio_loss", "account")
    assert (transition["before"], transition["after"]) == ("closed", "open")
    assert (transition["value"], transition["change"]) == (pytest.approx(0.1), "trigger")
    assert transition["at"] == "2026-01-02T03:01:00.000Z"
    assert json.loads(json.dumps(outcome.decisions)) == outcome.decisions


def test_every_type_of_decision_is_documented() -> None:
    """The reference lists each type that a decision can have."""
    listed = {ticked(row[0])[0] for row in rows(DOCS / "reference" / "engine.md", "type")}
    types = {str(kind.__struct_config__.tag) for kind in Decision.__args__}
    assert types <= listed


def test_checks_and_operations_are_answered_in_order() -> None:
    """Each check and each operation of a batch has its answer at its place."""
    engine = Engine.from_toml(LOSS)
    step(engine, 0, balance(10_000))
    answers = step(engine, 1, CHECK, operate("freeze"), CHECK, operate("unfreeze")).answers
    assert [one.get("allowed") for one in answers] == [True, None, False, None]
    assert answers[1]["status"] == 200
    assert answers[2]["level"] == "halt"
    assert answers[2]["reasons"][0]["limit"] == "manual"
    assert (answers[3]["status"], answers[3]["level"]) == (409, "halt")
    assert "changed since generation 0" in answers[3]["detail"]


def test_a_call_without_generation_has_that_before_the_step() -> None:
    """What changed within the step itself was not seen, so that loosening it is refused."""
    engine = Engine.from_toml(LOSS)
    step(engine, 0, balance(10_000))
    refused = step(engine, 1, operate("freeze"), operate("unfreeze")).answers[1]
    assert (refused["status"], engine.level("account")) == (409, "halt")
    assert step(engine, 2, operate("unfreeze", generation=0)).answers[0]["status"] == 409
    assert step(engine, 3, operate("unfreeze")).answers[0]["status"] == 200
    assert engine.level("account") == "allow"


def test_a_permit_lets_one_order_pass_a_freeze() -> None:
    """A permit is for one reduce-only order of the whole position, and for 60 s."""
    engine = Engine.from_toml("[portfolio]\ninitial_capital = 10000\n")
    fill = {"type": "fill", "id": "f1", "venue": "kraken", "symbol": "BTC/USDT", "side": "buy"}
    step(engine, 0, {**fill, "quantity": 0.1, "price": 60_000}, operate("freeze"))
    order = {**CHECK, "side": "sell", "reduce_only": True}
    assert not step(engine, 1, order).answers[0]["allowed"]
    permit = {"type": "permit", "scope": "account", "symbol": "BTC/USDT", "reason": "close it"}
    assert step(engine, 2, permit).answers[0]["status"] == 200
    answers = step(engine, 3, {**order, "id": "o1"}, {**order, "id": "o2"}).answers
    assert [one["allowed"] for one in answers] == [True, False]
    assert step(engine, 4, permit).answers[0]["status"] == 200
    assert not step(engine, 65, {**order, "id": "o3"}).answers[0]["allowed"]


def test_a_cancel_is_confirmed_by_its_target() -> None:
    """With a cancel target a reset waits for the confirmation of the last sweep."""
    engine = Engine.from_toml(LOSS + OMS)
    step(engine, 0, balance(10_000))
    trip = step(engine, 60, balance(9_000)).decisions
    step(engine, 61, {"type": "tick"})
    (first,) = (one for one in trip if one["type"] == "sweep")
    reset = operate("reset", rebase=True)
    assert step(engine, 62, reset).answers[0]["status"] == 409
    done = {"type": "cancel_answered", "target": "oms", "done": True, "sweep": first["sweep"] + 1}
    answers = step(engine, 63, {**done, "incident": first["incident"]}).answers
    assert answers == []
    assert step(engine, 64, reset).answers[0]["status"] == 200


def test_the_state_is_that_of_the_http_api() -> None:
    """The state is plain JSON, with the account's figures and the levels of its scopes."""
    engine = Engine.from_toml(LOSS)
    step(engine, 0, balance(10_000), {"type": "heartbeat", "strategy": "mm1"})
    state = engine.state()
    assert json.loads(json.dumps(state)) == state
    assert state["portfolio"]["equity"] == 10_000.0
    assert state["gate"]["levels"] == {
        "account": "allow",
        "venue:kraken": "allow",
        "strategy:mm1": "allow",
    }
    assert state["at"] == "2026-01-02T03:00:00.000Z"


def test_a_scope_that_nothing_named_is_at_halt() -> None:
    """The level of a scope is that of the gate, where an unknown scope has no record."""
    engine = Engine.from_toml(LOSS)
    step(engine, 0, balance(10_000))
    assert engine.level("venue:kraken") == "allow"
    assert engine.level("venue:mexc") == "halt"


def test_a_snapshot_restores_the_whole_engine() -> None:
    """An engine that is restored gives the same state and the same decisions."""
    engine = Engine.from_toml(LOSS)
    step(engine, 0, balance(10_000))
    again = Engine.restore(engine.snapshot())
    assert again.state() == engine.state()
    assert again.next_deadline_ns == engine.next_deadline_ns
    assert step(again, 60, balance(9_000)) == step(engine, 60, balance(9_000))


def test_a_reload_replaces_the_configuration() -> None:
    """A reload applies new bounds at once, and one with a fault changes nothing."""
    engine = Engine.from_toml(LOSS)
    step(engine, 0, balance(10_000))
    step(engine, 60, balance(9_600))
    with pytest.raises(SettingsError):
        engine.reload("[limits", now_ns=START, wall_ns=START)
    assert engine.level("account") == "allow"
    now_ns = START + 61 * SECOND
    engine.reload(LOSS.replace("0.05", "0.03"), now_ns=now_ns, wall_ns=now_ns)
    assert engine.level("account") == "halt"


def test_decimals_and_datetimes_are_taken() -> None:
    """A Decimal is an amount without a detour over a float, and a datetime is an `at`."""
    engine = Engine.from_toml(LOSS)
    at = datetime.fromtimestamp(START // SECOND, UTC)
    step(engine, 1, {**balance(Decimal("10000.5")), "at": at})
    assert engine.state()["portfolio"]["equity"] == 10_000.5


@pytest.mark.parametrize(
    ("event", "field", "says"),
    [
        ({"type": "price", "symbol": "BTC/USDT", "price": float("nan")}, "price", "not-a-number"),
        ({"type": "price", "symbol": "BTC/USDT", "price": 0}, "price", "above 0"),
        ({"type": "price", "symbol": "BTC/USDT"}, "price", "missing"),
        ({"type": "price", "symbol": "BTC/USDT", "price": {1}}, None, "neither text"),
        ({"type": "price", "symbol": "BTC/USDT", "price": 1, "x": 1}, "x", "unknown field"),
        ({"type": "nonsense"}, "type", "nonsense"),
        ({**CHECK, "quantity": 0}, "quantity", "above 0"),
        ({**CHECK, "x": 0}, "x", "unknown field"),
        (operate("nonsense"), "action", "nonsense"),
        (operate("freeze", reason=" "), "reason", "must not be empty"),
        (operate("disable", **{"for": 0}), "for", "above 0 seconds"),
        ("tick", None, "an event is a dict"),
    ],
)
def test_a_batch_is_taken_whole_or_not_at_all(event: Any, field: str | None, says: str) -> None:
    """A fault names its event and its field, and nothing of the batch is applied."""
    engine = Engine.from_toml(LOSS)
    step(engine, 0, balance(10_000))
    before = engine.snapshot()
    with pytest.raises(BadEvents, match=says) as failed:
        step(engine, 60, balance(9_000), event)
    assert (failed.value.index, failed.value.field) == (1, field)
    assert engine.snapshot() == before


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ({**CHECK, "side": "long"}, "event 1, side: side must be buy or sell, not 'long'"),
        ({**CHECK, "leg": "x"}, "event 1, leg: leg must be long or short, not 'x'"),
        ({**CHECK, "order_type": "x"}, "order_type must be limit or market, not 'x'"),
        (operate("x"), "action must be freeze, unfreeze, trip, reset, disable or enable, not 'x'"),
        ({"type": "x"}, "event 1, type: type must be a type of event, such as fill, not 'x'"),
        (
            {"type": "order", "venue": "kraken", "id": 1, "symbol": "BTC/USDT", "status": "x"},
            "status must be open, closed, canceled, expired or rejected, not 'x'",
        ),
        (
            {"type": "price", "symbol": "BTC/USDT", "price": 0},
            "event 1, price: price must be above",
        ),
    ],
)
def test_a_fault_names_its_place_and_what_is_accepted(event: Any, says: str) -> None:
    """The text of a fault alone suffices to correct the event."""
    engine = Engine.from_toml(LOSS)
    with pytest.raises(BadEvents, match=re.escape(says)):
        step(engine, 0, balance(10_000), event)


def test_a_member_that_cannot_be_read_is_dropped_with_a_warning() -> None:
    """A warning names the event and the member; the rest of the report counts."""
    engine = Engine.from_toml(LOSS)
    report = balance(10_000)
    report["assets"]["a b"] = {"free": 1}
    outcome = step(engine, 0, {"type": "tick"}, report)
    (warning,) = outcome.warnings
    assert (warning["index"], warning["field"]) == (1, "assets.a b")
    assert engine.state()["portfolio"]["equity"] == 10_000.0


def test_null_is_absent() -> None:
    """What a client sends as null is as if it were not there, in checks and operations too."""
    engine = Engine.from_toml(LOSS)
    step(engine, 0, {**balance(10_000), "source": None})
    outcome = step(
        engine, 1, {**CHECK, "strategy": None, "reduce_only": None}, operate("freeze", limit=None)
    )
    assert [one.get("allowed") for one in outcome.answers] == [True, None]


def test_too_many_scopes_are_refused() -> None:
    """A batch that names more than `max_scopes` is refused whole."""
    engine = Engine.from_toml("max_scopes = 16\n")
    with pytest.raises(BadEvents, match="raise max_scopes"):
        step(engine, 0, *({"type": "heartbeat", "strategy": f"s{n}"} for n in range(17)))
    assert engine.level("strategy:s0") == "halt"
