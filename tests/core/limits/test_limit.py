"""What every limit promises: it gets what it reads, and bounds that move are evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from riskmon.core import events as ev
from riskmon.core.config import EngineConfig, LimitConfig
from riskmon.core.engine import Engine
from riskmon.core.limits import LIMITS
from riskmon.core.limits.limit import Evaluation, Sample, SampleLimit
from riskmon.core.limits.policy import Ceiling, Floor
from riskmon.core.limits.schedule import CeilingSlot
from tests.core import World, latency, limit
from tests.core.breakers.test_bounds import hours


@dataclass(frozen=True, kw_only=True)
class CountParams(Ceiling):
    """``max`` samples."""

    max: float = 3
    per: Literal["venue", "strategy"] = "venue"


class CountLimit(SampleLimit):
    """The number of latencies: the smallest sample limit, without a way to add a run at once."""

    kind = "count"
    category = "venue"
    Params = CountParams
    reason = "{value:g} latencies"
    reads = (ev.Latency,)
    Measure = int
    measure: int

    def forget(self) -> None:
        """Start anew."""
        self.measure = 0

    def observe(self, event: Sample, now_ns: int) -> Evaluation:
        """Count a latency."""
        self.measure += 1
        return self.evaluate(now_ns)

    def value(self, now_ns: int) -> float:
        """The number."""
        return float(self.measure)

    def probe(self, event: Sample) -> bool:
        """Every latency is good."""
        return True


def engine_with(kind: str, **params: Any) -> Engine:
    """An engine with one limit."""
    one = LimitConfig(name=kind, kind=kind, params=LIMITS[kind].Params(**params))
    return Engine(EngineConfig(limits=(one,)))


def test_a_sample_limit_needs_no_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that reads latencies, and says nothing of runs, gets each of a batch."""
    monkeypatch.setitem(LIMITS, "count", CountLimit)
    world = World(limit("count"))
    world.step(*(latency(0.1) for _ in range(10)))
    assert world.breaker("count").reason == "4 latencies"
    assert world.transitions[0].value == 4.0


@pytest.mark.parametrize("reads", [(ev.Fill,), (ev.OpenOrders,)])
def test_a_limit_that_reads_what_is_not_delivered_is_refused(
    reads: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine cannot be made with a limit that would never be fed."""
    monkeypatch.setitem(LIMITS, "count", CountLimit)
    monkeypatch.setattr(CountLimit, "reads", reads)
    with pytest.raises(TypeError, match=r"CountLimit reads \w+ per strategy, which no event"):
        engine_with("count", per="strategy")


def test_a_schedule_lowers_the_bound_of_a_losing_streak() -> None:
    """A streak that is past the bound of the night trips when the night begins."""
    night = CeilingSlot(from_="22:00", to="03:00", max=2.0)
    world = World(limit("loss_streak", max=5, schedule=(night,)))
    world.step(*(ev.Pnl(amount=-1.0, id=str(n), strategy="mm") for n in range(3)))
    assert world.state("loss_streak", "strategy:mm") == "closed"
    hours(world, "22:00")
    assert world.breaker("loss_streak", "strategy:mm").reason == "3 losing closes in a row"


def test_a_bound_that_rises_trips_nothing() -> None:
    """A streak within the new bound stays where it is."""
    night = CeilingSlot(from_="22:00", to="03:00", max=9.0)
    world = World(limit("loss_streak", max=5, schedule=(night,)))
    world.step(*(ev.Pnl(amount=-1.0, id=str(n), strategy="mm") for n in range(4)))
    hours(world, "22:00")
    assert world.state("loss_streak", "strategy:mm") == "closed"


@pytest.mark.parametrize("kind", LIMITS)
def test_a_floor_is_a_minimum_in_all_respects(kind: str) -> None:
    """The key of the bound, what is past it, and its utilization agree on the side."""
    measures = LIMITS[kind]
    assert measures.floor is issubclass(measures.Params, Floor)
    assert measures.is_past(0.5, 1.0) is measures.floor
    assert measures.is_past(1.5, 1.0) is not measures.floor
