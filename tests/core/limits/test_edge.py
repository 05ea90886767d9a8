"""The limit on the expected edge of a strategy or the account."""

from __future__ import annotations

from typing import Any

import pytest

from riskmon.core import events as ev
from riskmon.core.book.config import MaxAge, PortfolioConfig
from riskmon.core.config import LimitConfig
from riskmon.core.decisions import UnknownLimit, Warned
from tests.core import OMS, World, limit

MM = "strategy:mm"


def edge_limit(**params: Any) -> LimitConfig:
    """At least 200 basis points."""
    written = params.pop("written", False)
    return limit("edge", written=written, **{"min": 200.0, **params})


def edge(bps: float, strategy: str | None = "mm") -> ev.Edge:
    """A report of the edge of a strategy, or of the account."""
    return ev.Edge(bps=bps, strategy=strategy)


def sure(*limits: LimitConfig) -> World:
    """A world in which an edge is known for a minute."""
    portfolio = PortfolioConfig(max_age=MaxAge(edge=60.0))
    return World(*limits, portfolio=portfolio, targets=OMS)


def frozen(world: World) -> int:
    """Return the number of freezes by an edge."""
    return world.engine.state.board.freeze_total["edge_collapse"]


def test_an_edge_below_the_minimum_freezes() -> None:
    """At the bound nothing happens; below it the strategy freezes and its orders are cancelled."""
    world = sure(edge_limit())
    world.step(edge(200.0))
    assert world.state("edge", MM) == "closed"
    world.step(edge(150.0))
    assert (world.state("edge", MM), world.level(MM), world.level()) == ("frozen", "halt", "allow")
    (sweep,) = world.sweeps
    assert (sweep.scope, sweep.limit, sweep.reason) == (MM, "edge", "edge of 150 bps under 200 bps")
    record = world.record(world.incident)
    assert (record.kind, record.value, record.bound) == ("freeze", 150.0, 200.0)
    assert world.engine.state.board.freeze_total == {
        "edge_collapse": 1,
        "manual": 0,
        "limit_violation": 0,
    }


@pytest.mark.parametrize("collapsed", [199.0, 0.0, -199.0, -201.0, -10_000.0])
def test_an_edge_that_collapses_freezes(collapsed: float) -> None:
    """From far above its minimum to any edge under it, however far below 0."""
    world = sure(edge_limit())
    world.step(edge(1_000.0))
    world.step(edge(collapsed))
    assert world.state("edge", MM) == "frozen"


def test_it_freezes_once() -> None:
    """Repeated low edges are one incident and one freeze."""
    world = sure(edge_limit())
    world.each([edge(bps) for bps in (150.0, 140.0, 250.0, 130.0)])
    world.step(edge(120.0), edge(110.0))
    assert frozen(world) == 1
    assert len({sweep.incident for sweep in world.sweeps}) == 1
    assert len(world.transitions) == 1


def test_only_an_operator_ends_it() -> None:
    """A recovered edge does not end the freeze; an operator does, once the edge has recovered."""
    world = sure(edge_limit())
    world.step(edge(150.0))
    world.confirm()
    assert "would trip again" in world.operate("unfreeze", MM).detail
    world.step(edge(300.0))
    world.wait(30)
    assert world.state("edge", MM) == "frozen"
    assert world.operate("unfreeze", MM).status == 200
    assert world.level(MM) == "allow"
    world.step(edge(150.0))
    assert frozen(world) == 2


@pytest.mark.parametrize(
    ("on_breach", "state", "level"),
    [
        ("shadow", "closed", "allow"),
        ("warn", "closed", "allow"),
        ("block", "closed", "reduce_only"),
        ("reduce", "closed", "reduce_only"),
        ("trip", "open", "halt"),
    ],
)
def test_other_effects_of_a_low_edge(on_breach: Any, state: str, level: str) -> None:
    """A low edge has the effect of `on_breach`."""
    world = sure(edge_limit(on_breach=on_breach, recover="clear"))
    world.step(edge(150.0))
    assert (world.state("edge", MM), world.level(MM)) == (state, level)
    assert world.breaker("edge", MM).breaches_total == 1
    assert frozen(world) == 0
    world.step(edge(201.0))
    world.confirm()
    assert (world.state("edge", MM), world.level(MM)) == ("closed", "allow")


def test_each_edge_of_a_batch_counts() -> None:
    """Each edge of a batch is evaluated: a high one at the end does not hide a low one."""
    world = sure(edge_limit())
    world.step(edge(150.0), edge(300.0))
    assert world.state("edge", MM) == "frozen"
    rows = [sure(edge_limit(breaches=3)) for _ in range(2)]
    rows[0].step(edge(150.0), edge(150.0), edge(150.0))
    rows[1].each([edge(150.0)] * 3)
    assert [row.state("edge", MM) for row in rows] == ["frozen", "frozen"]


def test_breaches_in_a_row() -> None:
    """One edge within the bound resets the count."""
    world = sure(edge_limit(breaches=2))
    world.each([edge(150.0), edge(250.0), edge(150.0)])
    assert world.state("edge", MM) == "closed"
    world.step(edge(150.0))
    assert world.state("edge", MM) == "frozen"


def test_utilization_of_a_floor() -> None:
    """Bound over value; 10 when nothing is earned; the warning comes before the bound."""
    world = sure(edge_limit(on_breach="warn"))
    seen = []
    for bps in (400.0, 250.0, 200.0, 100.0, 10.0, 0.0, -50.0):
        world.step(edge(bps))
        seen.append(world.breaker("edge", MM).utilization)
    assert seen == [0.5, 0.8, 1.0, 2.0, 10.0, 10.0, 10.0]
    assert [d.active for d in world.decisions if isinstance(d, Warned)] == [True]


def test_each_strategy_has_its_own() -> None:
    """A low edge of one strategy does not stop another, nor does the account's."""
    world = sure(edge_limit())
    world.each([edge(150.0, "a"), edge(250.0, "b"), edge(1.0, None)])
    assert (world.state("edge", "strategy:a"), world.state("edge", "strategy:b")) == (
        "frozen",
        "closed",
    )


def test_the_account_may_have_one() -> None:
    """`per = "account"` measures the edge that names no strategy."""
    world = sure(edge_limit(per="account"))
    world.each([edge(150.0, "a"), edge(250.0, None)])
    assert world.state("edge", "account") == "closed"
    world.step(edge(150.0, None))
    assert (world.state("edge", "account"), world.level("strategy:a")) == ("frozen", "halt")


def test_overrides_by_strategy() -> None:
    """`overrides` gives one strategy another minimum."""
    world = sure(edge_limit(overrides={"strategy:b": 100.0}))
    world.each([edge(150.0, "a"), edge(150.0, "b")])
    assert (world.state("edge", "strategy:a"), world.state("edge", "strategy:b")) == (
        "frozen",
        "closed",
    )


def test_an_old_edge_is_unknown() -> None:
    """After `max_age.edge` the edge is unknown; after the grace the strategy halts."""
    world = sure(edge_limit(written=True))
    world.step(edge(250.0))
    world.wait(60)
    assert world.breaker("edge", MM).value == 250.0
    world.wait(0.1)
    assert world.breaker("edge", MM).value is None
    world.wait(29)
    assert world.level(MM) == "allow"
    world.wait(1)
    assert (world.level(MM), world.level(), world.state("edge", MM)) == ("halt", "allow", "closed")
    told = [d.reason for d in world.decisions if isinstance(d, UnknownLimit)]
    assert told == [f"the edge of {MM} is older than 60 s: report `edge` events"]
    assert not world.sweeps
    world.step(edge(250.0))
    assert world.level(MM) == "allow"


def test_an_edge_is_known_up_to_its_age() -> None:
    """An edge is known up to `max_age.edge`, to the nanosecond, whatever event comes then."""
    world = sure(edge_limit(written=True), edge_limit(name="second"))
    world.step(edge(250.0))
    world.wait(60)
    world.configure(edge_limit(written=True))
    assert world.breaker("edge", MM).value == 250.0


def test_a_floor_clears_above_its_ratio() -> None:
    """`clear` of a minimum: 200 bps at a ratio of 0.8 close above 250, for `hold` seconds."""
    world = sure(edge_limit(on_breach="trip", recover="clear", clear=0.8, hold=10.0))
    world.step(edge(150.0))
    world.confirm()
    world.step(edge(250.0))
    world.wait(20)
    assert world.state("edge", MM) == "open"
    world.step(edge(250.1))
    world.wait(9.999)
    assert world.state("edge", MM) == "open"
    world.wait(0.001)
    assert world.state("edge", MM) == "closed"


def test_an_edge_that_is_reported_in_time_stays_known() -> None:
    """Each report restarts the age."""
    world = sure(edge_limit(written=True))
    for _ in range(10):
        world.step(edge(250.0))
        world.wait(59)
    assert world.breaker("edge", MM).value == 250.0
    assert not [d for d in world.decisions if isinstance(d, UnknownLimit)]


def test_an_edge_that_never_came_is_unknown() -> None:
    """An edge that never came is unknown from the strategy's first event on."""
    world = sure(edge_limit(written=True))
    world.wait(300)
    world.step(ev.Heartbeat(strategy="mm"))
    world.wait(29)
    assert world.level(MM) == "allow"
    world.wait(1)
    assert world.level(MM) == "halt"
    world.step(edge(250.0))
    assert world.level(MM) == "allow"


def test_the_accounts_edge_does_not_count_for_a_strategy() -> None:
    """A strategy without a report is unknown, whatever the account's edge."""
    world = sure(edge_limit(written=True))
    world.step(edge(300.0, None), ev.Heartbeat(strategy="mm"))
    assert world.breaker("edge", MM).value is None
    world.wait(30)
    assert (world.level(MM), world.level()) == ("halt", "allow")


def test_unknown_may_be_ignored() -> None:
    """Neither `on_unknown = "ignore"` nor a default limit halts for an unknown edge."""
    world = sure(edge_limit(written=True, on_unknown="ignore"), limit("edge", "other", min=200.0))
    world.step(ev.Heartbeat(strategy="mm"))
    world.wait(600)
    assert world.level(MM) == "allow"


def test_a_reload_evaluates_the_known_edge() -> None:
    """A higher minimum freezes with the reload, and so does an added limit."""
    world = sure()
    world.step(edge(150.0))
    world.configure(edge_limit(min=100.0))
    assert world.state("edge", MM) == "closed"
    world.configure(edge_limit())
    assert world.state("edge", MM) == "frozen"
