"""`python -m tests.simulation SEED`: the story of a seed; `FIRST END`: a range of seeds."""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.seed import simulate
from tests.simulation.truth import Violation


def _found(seed: int) -> str:
    """What the seed breaks; empty when nothing."""
    try:
        simulate(seed)
    except Violation as violation:
        return str(violation)
    return ""


def main() -> int:
    """Run what the arguments name; 1 when an invariant is broken."""
    parser = argparse.ArgumentParser(prog="tests.simulation", description=__doc__)
    parser.add_argument("first", type=int, metavar="SEED")
    parser.add_argument("end", type=int, nargs="?", help="the first seed that is not run")
    parser.add_argument("--jobs", type=int, default=2, help="processes for a range (2)")
    asked = parser.parse_args()
    if asked.end is None:
        try:
            simulate(asked.first, print)
        except Violation as violation:
            print(violation)
            return 1
        return 0
    seeds = range(asked.first, asked.end)
    with ProcessPoolExecutor(asked.jobs) as pool:
        found = [text for text in pool.map(_found, seeds, chunksize=10) if text]
    print(*found, f"{len(seeds)} seeds, {len(found)} with a broken invariant", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
