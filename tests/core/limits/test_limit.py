"""What every limit promises: it gets what it reads, and bounds that move are evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from riskmon.core import events as ev
from riskmon.core.breakers.rules import rule_of
from riskmon.core.config import EngineConfig, LimitConfig
from riskmon.core.engine import Engine
from riskmon.core.limits import LIMITS
from riskmon.core.limits.limit import Evaluation, Limit, Sample, SampleLimit
from riskmon.core.limits.policy import Ceiling
from riskmon.core.limits.schedule import CeilingSlot
from riskmon.core.scopes import scope_of
from tests.core import World, latency, latency_limit, limit
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


def measured(kind: str, key: str, bound: float) -> Limit:
    """A limit of a kind with one bound."""
    bounds: dict[str, Any] = {key: bound, **({"name": "x"} if kind == "metric" else {})}
    rule = rule_of(LimitConfig(name=kind, kind=kind, params=LIMITS[kind].Params(**bounds)))
    return rule.limit(scope_of(rule.params.per, "x"), bound, None)


BOUNDS = [
    (kind, key)
    for kind, one in LIMITS.items()
    for key in ("max", "min")
    if key in one.Params.__dataclass_fields__
]


@pytest.mark.parametrize(("kind", "key"), BOUNDS)
def test_the_key_of_a_bound_says_its_side(kind: str, key: str) -> None:
    """What is past the bound, what is clear of it, and the utilization agree on the side."""
    one = measured(kind, key, 2.0)
    low = key == "min"
    assert (one.is_past(1.0, 2.0), one.is_past(4.0, 2.0)) == (low, not low)
    assert (one.is_clear(1.0, 2.0, 1.0), one.is_clear(4.0, 2.0, 1.0)) == (not low, low)
    assert one.utilization(4.0, 2.0) == (0.5 if low else 2.0)


@pytest.mark.parametrize(
    ("kind", "key", "value", "past"),
    [
        ("position", "max", 0.1 + 0.1 + 0.1, False),  # 0.30000000000000004
        ("position", "max", 0.3 * (1 + 9e-10), False),
        ("position", "max", 0.3 * (1 + 2e-9), True),
        ("edge", "min", 0.3 * (1 - 9e-10), False),
        ("edge", "min", 0.3 * (1 - 2e-9), True),
        ("error_rate", "max", 0.3, True),
        ("error_rate", "max", 0.3 * (1 - 2e-16), False),
    ],
)
def test_a_comparison_has_a_tolerance_in_favour_of_the_bound(
    kind: str, key: str, value: float, past: bool
) -> None:
    """A billionth past the bound is within it; where a value reaches its bound, none is granted."""
    assert measured(kind, key, 0.3).is_past(value, 0.3) is past


@pytest.mark.parametrize(("seconds", "state"), [(0.2 + 1e-10, "closed"), (0.2 + 1e-9, "open")])
def test_a_sample_has_the_tolerance_too(seconds: float, state: str) -> None:
    """A latency a billionth above the bound is no slow sample of its window."""
    world = World(latency_limit())
    world.step(latency(seconds))
    assert world.state("latency_p99") == state
