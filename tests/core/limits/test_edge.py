"""The limit on the expected edge: a strategy that no longer expects to earn what it must."""

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
    """What a strategy, or the account, expects to earn."""
    return ev.Edge(bps=bps, strategy=strategy)


def sure(*limits: LimitConfig) -> World:
    """A world in which an edge is known for a minute."""
    portfolio = PortfolioConfig(max_age=MaxAge(edge=60.0))
    return World(*limits, portfolio=portfolio, targets=OMS)


def frozen(world: World) -> int:
    """How often an edge that fell froze."""
    return world.engine.state.board.freeze_total["edge_collapse"]


def test_an_edge_below_the_minimum_freezes() -> None:
    """At the bound it holds; below it the strategy is frozen and its orders are cancelled."""
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


def test_it_freezes_once() -> None:
    """However often the edge is low: one incident, one freeze."""
    world = sure(edge_limit())
    world.each([edge(bps) for bps in (150.0, 140.0, 250.0, 130.0)])
    world.step(edge(120.0), edge(110.0))
    assert frozen(world) == 1
    assert len({sweep.incident for sweep in world.sweeps}) == 1
    assert len(world.transitions) == 1


def test_only_an_operator_ends_it() -> None:
    """An edge that comes back ends nothing; an operator does, once it is back."""
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
def test_what_else_a_low_edge_may_do(on_breach: Any, state: str, level: str) -> None:
    """`on_breach` says."""
    world = sure(edge_limit(on_breach=on_breach, recover="clear"))
    world.step(edge(150.0))
    assert (world.state("edge", MM), world.level(MM)) == (state, level)
    assert world.engine.state.board.breakers["edge"][MM].breaches_total == 1
    assert frozen(world) == 0
    world.step(edge(201.0))
    world.confirm()
    assert (world.state("edge", MM), world.level(MM)) == ("closed", "allow")


def test_each_edge_of_a_batch_counts() -> None:
    """A batch is as its events one by one: a high one at its end undoes nothing."""
    world = sure(edge_limit())
    world.step(edge(150.0), edge(300.0))
    assert world.state("edge", MM) == "frozen"
    rows = [sure(edge_limit(breaches=3)) for _ in range(2)]
    rows[0].step(edge(150.0), edge(150.0), edge(150.0))
    rows[1].each([edge(150.0)] * 3)
    assert [row.state("edge", MM) for row in rows] == ["frozen", "frozen"]


def test_breaches_in_a_row() -> None:
    """One edge within the bound begins the row anew."""
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
    """One that fades does not stop another; nor does the account's edge speak for them."""
    world = sure(edge_limit())
    world.each([edge(150.0, "a"), edge(250.0, "b"), edge(1.0, None)])
    assert (world.state("edge", "strategy:a"), world.state("edge", "strategy:b")) == (
        "frozen",
        "closed",
    )


def test_the_account_may_have_one() -> None:
    """`per = "account"`: the edge that names no strategy, over everything."""
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
    """After `max_age.edge` nothing is known; after the grace the strategy halts, and recovers."""
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
    """At `max_age.edge` it is known to the nanosecond, whatever wakes the engine then."""
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


def test_an_edge_that_is_told_in_time_stays_known() -> None:
    """Each report counts anew."""
    world = sure(edge_limit(written=True))
    for _ in range(10):
        world.step(edge(250.0))
        world.wait(59)
    assert world.breaker("edge", MM).value == 250.0
    assert not [d for d in world.decisions if isinstance(d, UnknownLimit)]


def test_an_edge_that_never_came_is_unknown() -> None:
    """From the strategy's first event on, and not before."""
    world = sure(edge_limit(written=True))
    world.wait(300)
    world.step(ev.Heartbeat(strategy="mm"))
    world.wait(29)
    assert world.level(MM) == "allow"
    world.wait(1)
    assert world.level(MM) == "halt"
    world.step(edge(250.0))
    assert world.level(MM) == "allow"


def test_the_accounts_edge_stands_for_no_strategy() -> None:
    """A strategy that reported none is unknown, whatever the account expects."""
    world = sure(edge_limit(written=True))
    world.step(edge(300.0, None), ev.Heartbeat(strategy="mm"))
    assert world.breaker("edge", MM).value is None
    world.wait(30)
    assert (world.level(MM), world.level()) == ("halt", "allow")


def test_unknown_may_be_ignored() -> None:
    """`on_unknown = "ignore"`, and a limit that nobody wrote, halt nothing."""
    world = sure(edge_limit(written=True, on_unknown="ignore"), limit("edge", "other", min=200.0))
    world.step(ev.Heartbeat(strategy="mm"))
    world.wait(600)
    assert world.level(MM) == "allow"


def test_a_reload_judges_the_edge_that_is_known() -> None:
    """A higher minimum freezes at once, and a limit that is added does so too."""
    world = sure()
    world.step(edge(150.0))
    world.configure(edge_limit(min=100.0))
    assert world.state("edge", MM) == "closed"
    world.configure(edge_limit())
    assert world.state("edge", MM) == "frozen"
