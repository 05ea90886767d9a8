"""An instant that is applied in pieces equals the whole one, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.bodies import BODIES, everything, filled, holding
from riskmon.core import events as ev
from riskmon.core.admission import TooManyScopes
from riskmon.core.decisions import Outcome
from riskmon.core.engine import Engine
from riskmon.core.naming import members_of
from riskmon.core.parsing import parse_json
from tests.core import BEGIN_WALL_NS, FEW, MANY, plain, run
from tests.core.play import STEPS, play, story_world

HELD_NS = 10**12
FIXED_WORK = 20_000  # late events that a batch may have: EARLY_MAX, and those held back
REPORTED = ev.Reported.__args__
BUDGETS = st.integers(1, 300)


def in_pieces(engine: Engine, events: Sequence[ev.Event], at_ns: int, budget: int) -> Outcome:
    """Apply one instant in pieces of about ``budget`` units of work."""
    instant = engine.begin(events, now_ns=at_ns, wall_ns=BEGIN_WALL_NS + at_ns)
    while (outcome := instant.advance(budget)) is None:
        pass
    return outcome


def same(whole: Engine, sliced: Engine, events: list[ev.Event], at_ns: int, budget: int) -> None:
    """Apply a batch to both engines, to one of them in pieces, and compare them."""
    one = run(whole, events, at_ns)
    other = in_pieces(sliced, events, at_ns, budget)
    assert msgspec.json.encode(one) == msgspec.json.encode(other)
    assert plain(whole) == plain(sliced)
    assert whole.levels == sliced.levels
    assert whole.next_deadline_ns == sliced.next_deadline_ns


def check_story(steps: list[Any], budget: int) -> None:
    world = story_world()
    for number, what in enumerate(steps):
        play(world, number, what)
    whole, sliced = Engine(story_world().config), Engine(story_world().config)
    for events, at_ns in world.log:
        same(whole, sliced, events, at_ns, budget)
    reported = [event for events, _ in world.log for event in events if type(event) in REPORTED]
    same(whole, sliced, reported, world.now_ns + 10**9, budget)


@FEW
@given(STEPS, BUDGETS)
def test_pieces_of_any_size_are_one_step(steps: list[Any], budget: int) -> None:
    """Decisions, state, levels and timers do not depend on how an instant is cut."""
    check_story(steps, budget)


@pytest.mark.slow
@settings(MANY, max_examples=250)
@given(STEPS, BUDGETS)
def test_pieces_of_any_size_are_one_step_long(steps: list[Any], budget: int) -> None:
    """As above, with many more examples."""
    check_story(steps, budget)


@pytest.mark.parametrize("name", BODIES)
def test_a_large_batch_in_pieces(name: str) -> None:
    """Each kind of large batch has the same result whole and in pieces; work is linear."""
    events = part(name, 1_500)
    whole, sliced = held(200), held(200)
    try:
        whole.admit(events)
    except TooManyScopes:
        with pytest.raises(TooManyScopes):
            in_pieces(sliced, events, HELD_NS + 10**9, 7)
        assert plain(whole) == plain(sliced)
        return
    same(whole, sliced, events, HELD_NS + 10**9, 7)


@pytest.mark.parametrize("name", BODIES)
def test_work_is_in_proportion(name: str) -> None:
    """Four times the events are at most about four times the work, and no piece is large."""
    done = []
    for size in (1_000, 4_000):
        events = part(name, size)
        engine = held(200)
        instant = engine.begin(events, now_ns=HELD_NS + 1, wall_ns=BEGIN_WALL_NS + HELD_NS + 1)
        with suppress(TooManyScopes):
            most, before = 0, 0
            while instant.advance(1) is None:
                most, before = max(most, instant.work - before), instant.work
            assert most <= 256
        done.append(instant.work)
    rows = sum(map(members_of, events))
    assert done[1] <= 8 * rows + FIXED_WORK


def part(name: str, size: int) -> list[ev.Event]:
    """The first ``size`` events of a large body, or those with its first ``size`` members."""
    events: list[ev.Event] = []
    for event in parse_json(filled(islice(BODIES[name](), size)), BEGIN_WALL_NS):
        size -= members_of(event)
        events.append(event)
        if size <= 0:
            break
    return events


def held(symbols: int) -> Engine:
    """An engine with every kind of limit and positions priced through one asset."""
    engine = Engine(everything(max_scopes=2_048))
    for events in holding(symbols):
        run(engine, events, HELD_NS)
    return engine
