"""The figures of a benchmark are read back as printed, and compared with those of a commit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import compare
from bench.__main__ import main
from bench.compare import Row, rows, worst
from bench.figures import Figure, line, parsed

PRINTED = [
    line("engine: a fill, 10,000 symbols", "1,234.5 µs (target 8), 143 × lookup"),
    line("engine: a fill, 10,000 symbols to 100", "1.04 × (target 1.3)"),
    line("rest: sidecar, of a core over 20 s", "1.15 % (target 2)"),
    line("journal: group commit", "102,656 commits/s, 12 to an fdatasync"),
    line("engine: " + "a long name " * 8 + "to 100", "2.00 ms"),
    "a line without a figure",
]


def test_figures_are_read_from_what_is_printed() -> None:
    """Name, value and unit; a number within a name is none of them."""
    assert parsed(PRINTED) == [
        Figure("engine: a fill, 10,000 symbols", 1234.5, "µs"),
        Figure("engine: a fill, 10,000 symbols to 100", 1.04, "×"),
        Figure("rest: sidecar, of a core over 20 s", 1.15, "%"),
        Figure("journal: group commit", 102_656.0, "commits/s"),
        Figure("engine: " + "a long name " * 8 + "to 100", 2.0, "ms"),
    ]


def test_figures_are_matched_by_name_then_in_order() -> None:
    """A renamed figure is matched when both sides have equally many without a partner."""
    before = [Figure("a", 2.0, "ms"), Figure("old name", 4.0, "ms")]
    now = [Figure("new name", 5.0, "ms"), Figure("a", 3.0, "ms")]
    assert rows(before, now) == [
        Row("new name", "ms", 4.0, 5.0, 1.25, True),
        Row("a", "ms", 2.0, 3.0, 1.5, True),
    ]
    assert rows(before, [*now, Figure("added", 1.0, "ms")]) == [
        Row("new name", "ms", None, 5.0, None, True),
        Row("a", "ms", 2.0, 3.0, 1.5, True),
        Row("added", "ms", None, 1.0, None, True),
        Row("old name", "ms", 4.0, None, None, True),
    ]


def test_the_worst_is_a_cost() -> None:
    """Of a rate less is worse; references and ratios of two figures do not count."""
    compared = rows(
        [
            Figure("rate", 100.0, "commits/s"),
            Figure("engine: dictionary lookup", 10.0, "ns"),
            Figure("growth", 1.0, "×"),
        ],
        [
            Figure("rate", 80.0, "commits/s"),
            Figure("engine: dictionary lookup", 90.0, "ns"),
            Figure("growth", 9.0, "×"),
        ],
    )
    found = worst(compared)
    assert found is not None
    assert (found.name, found.ratio) == ("rate", 1.25)


@pytest.mark.parametrize(("limit", "status"), [("1.3", 1), ("1.6", 0)])
def test_a_comparison_takes_medians_of_alternating_runs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    limit: str,
    status: int,
) -> None:
    """One run far off does not count, the sides take turns, and `--worst` sets the exit status."""
    ran: list[str] = []
    values = {"then": iter([2.0, 2.0, 90.0]), "now": iter([3.0, 80.0, 3.0])}

    @contextmanager
    def checkout(commit: str) -> Iterator[Path]:
        assert commit == "abc"
        yield Path("then")

    def run(directory: Path, name: str) -> list[Figure]:
        side = "then" if directory == Path("then") else "now"
        ran.append(side)
        return [Figure(f"{name}: it", next(values[side]), "ms")]

    monkeypatch.setattr(compare, "checkout", checkout)
    monkeypatch.setattr(compare, "run_at", run)
    arguments = ["--against", "abc", "--rounds", "3", "--worst", limit, "--json", "gate"]
    assert main(arguments) == status
    assert ran == ["then", "now", "now", "then", "then", "now"]
    row = json.loads(capsys.readouterr().out)
    assert (row["name"], row["before"], row["now"], row["ratio"]) == ("gate: it", 2.0, 3.0, 1.5)
    assert row["ratio_of_best"] == 1.5


def test_a_name_that_is_no_benchmark_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """It ends with 2 and names those that there are."""
    with pytest.raises(SystemExit) as ended:
        main(["motor"])
    assert ended.value.code == 2
    assert "no benchmark motor; there are: trip, engine" in capsys.readouterr().err
