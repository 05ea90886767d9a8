"""Properties of the engine after every step of random stories."""

from __future__ import annotations

from itertools import pairwise
from math import isfinite
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskmon.core import events as ev
from riskmon.core.decisions import Transition
from tests.core import (
    FEW,
    MANY,
    OMS,
    World,
    error,
    exact,
    latency,
    latency_limit,
    limit,
    plain,
)
from tests.core.play import STEPS, play, story_world


def numbers(value: Any) -> list[float]:
    """Yield every number in plain data."""
    if isinstance(value, dict):
        return [n for inner in value.values() for n in numbers(inner)]
    if isinstance(value, list):
        return [n for inner in value for n in numbers(inner)]
    return [value] if isinstance(value, float) else []


def check_levels(world: World) -> None:
    """Assert that no scope is above the level of an open or frozen breaker that covers it."""
    shut = {b.scope for b in world.view.breakers if b.state in ("open", "frozen")}
    for scope, level in world.engine.levels.items():
        assert level == 0 or not shut & {scope, "account"}


def reported_done(world: World) -> set[str]:
    """Return the incidents whose cancel is confirmed, from the events alone."""
    events = [event for batch, _ in world.log for event in batch]
    return {
        event.incident
        for event in events
        if isinstance(event, ev.CancelAnswered) and event.done and event.sweep >= 2
    }


def check_transition(world: World, change: Transition, what: Any) -> None:
    by_operator = what[0] == "operate"
    if change.before == "frozen":
        assert (by_operator, what[1]) == (True, "unfreeze")
    loosens = change.before in ("open", "frozen") and change.after in ("half_open", "closed")
    forced = by_operator and what[3]
    if loosens and not forced and not _quiet(world):
        incident = next(
            t.incident
            for t in reversed(world.transitions)
            if (t.limit, t.scope) == (change.limit, change.scope) and t.after == change.before
        )
        assert incident in reported_done(world)


def _quiet(world: World) -> bool:
    """Whether a venue ever reported that no order rests, which confirms too."""
    events = [event for batch, _ in world.log for event in batch]
    return any(isinstance(event, ev.OpenOrders) and event.count == 0 for event in events)


def check_reserved(world: World) -> None:
    """Assert that each order is kept under its venue and id, and counts for no less than 0."""
    for key, one in world.engine.state.orders.reserved.items():
        assert key == f"{one.venue}|{one.id}"
        assert one.left >= 0


def check_story(steps: list[Any]) -> None:
    world = story_world()
    for number, what in enumerate(steps):
        told, generation = len(world.transitions), world.engine.generation
        play(world, number, what)
        assert world.engine.generation >= generation
        check_levels(world)
        check_reserved(world)
        for change in world.transitions[told:]:
            check_transition(world, change, what)
        assert all(isfinite(n) for n in numbers(msgspec.to_builtins(world.view)))
        assert all(0 <= (b.utilization or 0) <= 10 for b in world.view.breakers)
    generations = [change.generation for change in world.transitions]
    assert all(before < after for before, after in pairwise(generations))


@FEW
@given(STEPS)
def test_every_story(steps: list[Any]) -> None:
    """Levels stay below open breakers, generations grow, freezes hold, numbers are finite."""
    check_story(steps)


@pytest.mark.slow
@MANY
@given(STEPS)
def test_every_story_long(steps: list[Any]) -> None:
    """As above, with many more examples."""
    check_story(steps)


SAMPLES = st.lists(
    st.one_of(
        st.builds(
            latency,
            st.sampled_from((0.1, 0.17, 0.3)),
            st.sampled_from(("a", "b")),
            st.sampled_from((None, "add", "probe")),
        ),
        st.builds(error, st.sampled_from(("a", "b")), st.sampled_from((None, "add", "probe"))),
        st.builds(
            lambda bps, strategy: ev.Edge(bps=bps, strategy=strategy),
            st.sampled_from((50.0, 110.0, 300.0)),
            st.sampled_from((None, "mm")),
        ),
    ),
    max_size=60,
)


def check_splitting(samples: list[ev.Event], cuts: list[int]) -> None:
    worlds = [_sampling() for _ in range(3)]
    worlds[0].step(*samples)
    worlds[1].each(samples)
    edges = [0, *sorted(cut % (len(samples) + 1) for cut in cuts), len(samples)]
    for begin, end in pairwise(edges):
        worlds[2].step(*samples[begin:end])
    assert len({plain(world.engine) for world in worlds}) == 1
    assert worlds[0].decisions == worlds[1].decisions == worlds[2].decisions


def _sampling() -> World:
    world = World(
        latency_limit(window=5, breaches=2),
        latency_limit(name="add", operation="add", recover=exact(5.0, probes=1)),
        limit("error_streak", max=2, recover=exact(5.0, probes=2)),
        limit("error_rate", window=4, min_samples=2, recover=exact(5.0, probes=1)),
        limit("edge", min=100.0, breaches=2),
        limit("edge", "account_edge", min=100.0, per="account", on_breach="block"),
        targets=OMS,
    )
    world.step(error("a"), error("a"), latency(0.3, "b", "add"))
    world.confirm()
    world.wait(10)  # so that some are half open
    return world


@FEW
@given(SAMPLES, st.lists(st.integers(0, 100), max_size=4))
def test_splitting_a_batch_changes_nothing(samples: list[ev.Event], cuts: list[int]) -> None:
    """Latencies and errors of one instant have the same effect in one batch, several, or alone."""
    check_splitting(samples, cuts)


@pytest.mark.slow
@MANY
@given(SAMPLES, st.lists(st.integers(0, 100), max_size=4))
def test_splitting_a_batch_changes_nothing_long(samples: list[ev.Event], cuts: list[int]) -> None:
    """As above, with many more examples."""
    check_splitting(samples, cuts)
