"""Production code keeps its promises under simulated faults; broken copies of it do not."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.seed import simulate
from tests.simulation.truth import Violation

pytestmark = pytest.mark.slow

SEEDS = 200
SEEDS_TO_FIND_A_MUTANT = 50


@pytest.mark.parametrize("seed", range(SEEDS), ids=lambda seed: f"seed-{seed}")
def test_invariants_hold(seed: int) -> None:
    """No fault of this seed breaks an invariant; `python -m tests.simulation SEED` shows it."""
    simulate(seed)


@pytest.mark.parametrize("name", MUTANTS)
def test_broken_pieces_are_found(name: str) -> None:
    """A production piece that is broken on purpose breaks an invariant within some seeds."""
    with MUTANTS[name](), pytest.raises(Violation):
        _simulate_all(range(SEEDS_TO_FIND_A_MUTANT))


def _simulate_all(seeds: range) -> None:
    for seed in seeds:
        simulate(seed)


def test_a_seed_decides_everything() -> None:
    """The same seed gives the same story, to the nanosecond; another seed gives another."""
    stories: list[list[str]] = [[], [], []]
    for seed, story in zip((3, 3, 4), stories, strict=True):
        simulate(seed, story.append)
    assert stories[0] == stories[1]
    assert stories[0] != stories[2]
