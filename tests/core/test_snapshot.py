"""Snapshots: a restored engine continues as the original does, bit for bit."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings

from riskmon.core import events as ev
from riskmon.core.config import EngineConfig, dump, load
from riskmon.core.engine import Engine
from tests.core import FEW, MANY, World, latency, latency_limit, limit, plain, run
from tests.core.hash_seeds import same_output
from tests.core.play import STEPS, play, story_world


def rest(engine: Engine, world: World, cut: int) -> str:
    """Return the answers and decisions of an engine over the log from ``cut`` on, and its state."""
    said = [msgspec.json.encode(run(engine, *one)) for one in world.log[cut:]]
    return repr(said) + plain(engine) + repr(engine.levels) + repr(engine.view())


def check_cuts(steps: list[Any]) -> None:
    world = story_world()
    for number, what in enumerate(steps):
        play(world, number, what)
    whole = Engine(story_world().config)
    for cut in range(len(world.log) + 1):
        kept = whole.snapshot()
        following = rest(Engine.restore(kept), world, cut)
        assert following == rest(Engine.restore(kept), world, cut)
        if cut == 0:
            expected = rest(Engine(story_world().config), world, 0)
        assert following == expected, f"cut at {cut}: {world.log[cut:][:1]}"
        if cut < len(world.log):
            said = msgspec.json.encode(run(whole, *world.log[cut]))
            assert expected.startswith("[" + repr(said))
            expected = _without(expected, repr(said))


def _without(expected: str, said: str) -> str:
    return "[" + expected[1 + len(said) :].removeprefix(", ")


# A position in an asset without a price, which is no part of equity, has no grace.
UNPRICED = [
    ("wait", 400.0),
    ("position", "BTC/USDT", "mexc", 1e-08, 0.0),
    ("position", "BTC/USDT", "mexc", 1e-08, 0.0),
    ("wait", 400.0),
]


@settings(FEW, max_examples=8)
@example(UNPRICED)
@given(STEPS)
def test_snapshot_and_the_rest(steps: list[Any]) -> None:
    """At every cut the snapshot and the later events have the result of all events."""
    check_cuts(steps)


@pytest.mark.slow
@settings(MANY, max_examples=250)
@given(STEPS)
def test_snapshot_and_the_rest_long(steps: list[Any]) -> None:
    """As above, with many more examples."""
    check_cuts(steps)


def test_a_snapshot_of_a_snapshot() -> None:
    """A snapshot of a restored engine is the same bytes."""
    world = story_world()
    for number, what in enumerate(STORY):
        play(world, number, what)
    once = Engine.restore(world.engine.snapshot()).snapshot()
    assert Engine.restore(once).snapshot() == once


def test_the_configuration_is_part_of_a_snapshot() -> None:
    """The configuration in force is part of the snapshot."""
    world = story_world()
    restored = Engine.restore(world.engine.snapshot())
    assert restored.config == world.config
    assert load(dump(EngineConfig())) == EngineConfig()


def test_configuration_of_0_1_0_names_its_targets() -> None:
    """A configuration of 0.1.0, with a table for each cancel target, loads with their names."""
    old = dump(EngineConfig()) | {"targets": [{"name": "oms", "confirm": "delivery"}]}
    assert load(old).targets == ("oms",)


def test_a_limit_may_change_its_kind() -> None:
    """The samples of one kind are not read as those of another of the same name."""
    world = World(latency_limit(name="venue"))
    world.step(latency(0.1))
    world.configure(limit("error_streak", "venue"))
    restored = Engine.restore(world.engine.snapshot())
    assert plain(restored) == plain(world.engine)


def test_breakers_keep_their_order() -> None:
    """A restored engine orders violations and generations as the original does."""
    world = World(latency_limit())
    world.operate("freeze")  # the first breaker of its kind comes before the venue's others
    world.step(latency(1.0))
    world.operate("freeze", "venue:kraken")
    restored = Engine.restore(world.engine.snapshot())
    order = ev.Check(venue="kraken", symbol="BTC/USDT", side="buy", quantity=1.0, price=1.0)
    freeze = ev.Operate(action="freeze", scope="venue:kraken", reason="", limit="latency_p99")
    then: list[ev.Event] = [order, freeze]
    answers = run(world.engine, list(then), world.now_ns).answers
    assert run(restored, list(then), world.now_ns).answers == answers
    assert plain(restored) == plain(world.engine)


def test_a_view_changes_nothing() -> None:
    """A view at any time has no effect on later steps."""
    lookers = []
    for looks in (False, True):
        world = World(latency_limit(seconds=10.0, max=0.2, on_breach="warn"))
        world.step(latency(0.19))
        world.wait(60)
        assert not looks or world.view.latency == []
        world.step(latency(0.01))
        lookers.append((plain(world.engine), world.decisions))
    assert lookers[0] == lookers[1]


STORY = [
    ("price", "BTC/USDT", 100.0, None),
    ("price", "ETH/BTC", 0.03, "mexc"),
    ("balances", "kraken", 1_000.0, 3.0),
    ("balances", "mexc", 940.0, 0.5),
    ("wait", 31.0),
    ("latency", 0.5, "kraken"),
    ("latency", 0.5, "mexc"),
    ("error", "mexc", "add"),
    ("error", "mexc", "add"),
    ("fill", "BTC/USD:BTC", "kraken", True, 3.0, 90.0),
    ("fill", "ETH/BTC", "mexc", False, 0.5, 0.03),
    ("operate", "freeze", "account", False),
    ("wait", 6.0),
    ("answered", True),
    ("wait", 31.0),
    ("probe", 0.1, "kraken"),
    ("operate", "unfreeze", "account", True),
    ("operate", "reset", "venue:kraken", True),
    ("check", "BTC/USDT", "kraken", "buy", 0.5, 100.0, "a"),
    ("wait", 400.0),
]


def run_story() -> str:
    """Run a long story; return the state of the engine."""
    world = story_world()
    for number, what in enumerate(STORY):
        play(world, number, what)
    return rest(Engine(story_world().config), world, 0)


def test_hash_seeds_do_not_matter() -> None:
    """Two processes with different hash seeds have the same state, bit for bit."""
    assert "unfreeze" in same_output(__name__, "run_story")
