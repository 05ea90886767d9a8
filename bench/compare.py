"""Compare the figures of this checkout with those of another commit.

Both are run in turn on the same machine with the same interpreter, each benchmark in a process of
its own, so that what else the machine does affects both. A figure's median of the rounds counts;
on a busy machine the ratio of the best rounds shows whether the code or the machine is slower.
Figures are matched by their names; those without a partner in order, if both sides have equally
many of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.figures import Figure, parsed

ROOT = Path(__file__).parent.parent


class Row(NamedTuple):
    """A figure before and now; None where one side has no such figure."""

    name: str
    unit: str
    before: float | None
    now: float | None
    ratio: float | None  # above 1: worse than before
    is_cost: bool
    ratio_of_best: float | None = None  # of each side's best round


def compare(commit: str, names: Sequence[str], rounds: int) -> list[Row]:
    """Run the benchmarks ``names`` at ``commit`` and here, ``rounds`` times each."""
    before: list[list[Figure]] = []
    now: list[list[Figure]] = []
    with checkout(commit) as directory:
        for number in range(rounds):
            sides = [(directory, before), (ROOT, now)]
            if number % 2:
                sides.reverse()  # neither is always the first
            for where, figures in sides:
                figures.append([one for name in names for one in run_at(where, name)])
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    best = {row.name: row.ratio for row in rows(_bests(before), _bests(now))}
    medians = rows(_medians(before), _medians(now))
    return [row._replace(ratio_of_best=best[row.name]) for row in medians]


def rows(before: Sequence[Figure], now: Sequence[Figure]) -> list[Row]:
    """Match the figures of two runs, in the order of the second; then those it does not have."""
    old = {one.name: one for one in before}
    added = [one for one in now if one.name not in old]
    removed = [one for one in before if one.name not in {other.name for other in now}]
    if len(added) == len(removed):
        old |= {new.name: one for new, one in zip(added, removed, strict=True)}
        removed = []
    return [
        *(_row(old.get(one.name), one) for one in now),
        *(Row(one.name, one.unit, one.value, None, None, one.is_cost) for one in removed),
    ]


def _row(before: Figure | None, now: Figure) -> Row:
    ratio = None
    if before is not None and before.unit == now.unit and before.value > 0 and now.value > 0:
        ratio = now.value / before.value if now.smaller_is_better else before.value / now.value
    return Row(now.name, now.unit, before and before.value, now.value, ratio, now.is_cost)


def table(compared: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a table: figure, before, now, ratio."""
    yield f"{'':75} {'before':>12} {'now':>12}  ratio  of best"
    for row in compared:
        ratio = f"{_ratio(row.ratio)}  {_ratio(row.ratio_of_best)}"
        note = "" if row.is_cost else "  (no cost of riskmon's)"
        values = f"{_value(row.before, row.unit)} {_value(row.now, row.unit)}"
        yield f"{row.name:75} {values} {ratio}{note}"


def worst(compared: Sequence[Row]) -> Row | None:
    """Return the row with the highest ratio among the costs; None without one."""
    costs = [row for row in compared if row.is_cost and row.ratio is not None]
    return max(costs, key=lambda row: row.ratio or 0.0, default=None)


def _ratio(ratio: float | None) -> str:
    return "     –" if ratio is None else f"{ratio:6.2f}"


def _value(value: float | None, unit: str) -> str:
    return f"{'–' if value is None else f'{value:,.2f} {unit}':>12}"


def _medians(runs: Sequence[Sequence[Figure]]) -> list[Figure]:
    return [
        one[0]._replace(value=median(each.value for each in one)) for one in _by_name(runs).values()
    ]


def _bests(runs: Sequence[Sequence[Figure]]) -> list[Figure]:
    return [
        (min if one[0].smaller_is_better else max)(one, key=lambda each: each.value)
        for one in _by_name(runs).values()
    ]


def _by_name(runs: Sequence[Sequence[Figure]]) -> dict[str, list[Figure]]:
    values: dict[str, list[Figure]] = {}
    for figures in runs:
        for one in figures:
            values.setdefault(one.name, []).append(one)
    return values


def run_at(directory: Path, name: str) -> list[Figure]:
    """Run one benchmark of a checkout; its figures."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", name],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return parsed(done.stdout.splitlines())


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """Check a commit out into a directory that is removed at the end."""
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory(prefix="riskmon-bench-") as parent:
        directory = Path(parent) / "checkout"
        subprocess.run([*git, "add", "--quiet", "--detach", str(directory), commit], check=True)
        try:
            yield directory
        finally:
            subprocess.run([*git, "remove", "--force", str(directory)], check=True)
