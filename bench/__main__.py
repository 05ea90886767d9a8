"""`python -m bench [NAME…]`: every benchmark, or those that are named; a line for each figure.

With `--against COMMIT` their figures are compared with those of another commit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence

from bench import batches, engine, gate, journal, rest, trip
from bench.compare import compare, table, worst
from bench.figures import line, parsed

BENCHES = {
    "trip": trip,
    "engine": engine,
    "batches": batches,
    "gate": gate,
    "journal": journal,
    "rest": rest,
}


def main(arguments: Sequence[str]) -> int:
    """Run and print; 1 for a ratio over `--worst`, 2 for bad usage."""
    options = _options(arguments)
    names = options.names or list(BENCHES)
    if options.against is not None:
        return _compare(options, names)
    for name in names:
        for what, figure in BENCHES[name].run():
            text = line(what, figure)
            if options.json:
                for one in parsed([text]):
                    print(json.dumps(one._asdict(), ensure_ascii=False), flush=True)
            else:
                print(text, flush=True)
    return 0


def _compare(options: argparse.Namespace, names: list[str]) -> int:
    compared = compare(options.against, names, options.rounds)
    if options.json:
        lines: Iterator[str] = (json.dumps(r._asdict(), ensure_ascii=False) for r in compared)
    else:
        lines = table(compared)
    for text in lines:
        print(text)
    last = worst(compared)
    if last is not None:
        print(f"the highest ratio of a cost: {last.ratio:.2f}, {last.name}", file=sys.stderr)
    failed = last is not None and options.worst is not None and (last.ratio or 0) > options.worst
    return 1 if failed else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments; exits with 2 for a name that is none."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--against", metavar="COMMIT", help="compare with the figures of a commit")
    parser.add_argument("--rounds", type=int, default=5, help="of a comparison (default 5)")
    worst_help = "exit 1 when a figure is more than so many times that of COMMIT"
    parser.add_argument("--worst", type=float, metavar="RATIO", help=worst_help)
    parser.add_argument("--json", action="store_true", help="print one object a line")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in BENCHES]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHES)}")
    if options.rounds < 1:
        parser.error("--rounds must be 1 or above")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
