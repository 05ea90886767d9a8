"""`python -m bench [NAME…]`: runs all or the named benchmarks and prints a line per figure."""

from __future__ import annotations

import sys

from bench import batches, engine, gate, journal, rest, trip

BENCHES = {
    "trip": trip,
    "engine": engine,
    "batches": batches,
    "gate": gate,
    "journal": journal,
    "rest": rest,
}


def main(names: list[str]) -> int:
    """Run the benchmarks. Return the exit code, 2 for an unknown name."""
    if unknown := [name for name in names if name not in BENCHES]:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHES)}")
        return 2
    for name in names or BENCHES:
        for what, figure in BENCHES[name].run():
            print(f"{what:75} {figure}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
