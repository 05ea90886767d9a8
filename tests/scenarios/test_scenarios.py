"""Every table in tests/scenarios holds, and a table that does not hold fails with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.table import ScenarioError, configuration, play

SCENARIOS = Path(__file__).parent
TABLES = sorted(SCENARIOS.glob("*.txt"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_scenario(path: Path) -> None:
    """Exactly the consequences in the table follow."""
    play(path)


def test_every_configuration_has_its_table() -> None:
    """Every configuration has a table that uses it."""
    assert {*(SCENARIOS / "config").glob("*.toml")} == {configuration(path) for path in TABLES}


FREEZE = [
    "2026-03-02 09:00:00 | edge 340 strategy=mm1 | level strategy:mm1 allow",
    "            09:00:01 | edge 150 strategy=mm1 | edge strategy:mm1: closed -> frozen",
    "                     |                       | warning edge strategy:mm1",
]


@pytest.mark.parametrize(
    ("line", "wrong", "says"),
    [
        (1, "level strategy:mm1 halt", "got 'allow'"),
        (1, "edge strategy:mm1: closed -> open", "expected"),
        (1, "value edge strategy:mm1 341", "got 340"),
        (1, "allowed", "expected answer"),
        (1, "incidents 1", "got 0"),
        (1, "nonsense 1", "nonsense"),
        (2, "", "edge strategy:mm1: closed -> frozen"),
        (
            2,
            "warning edge strategy:mm1; edge strategy:mm1: closed -> frozen",
            "every other gate as before, got ['strategy:mm1 halt']",
        ),
    ],
)
def test_a_wrong_expectation_fails(tmp_path: Path, line: int, wrong: str, says: str) -> None:
    """A table with a wrong expectation fails with its file, its line and the actual value."""
    (tmp_path / "config").mkdir()
    config = "[limits.edge]\nmin = 200\n"
    (tmp_path / "config" / "story.toml").write_text(config, encoding="utf-8")
    lines = FREEZE[:1] if line == 1 else FREEZE[:2]
    cells = lines[-1].rsplit("|", 1)
    path = tmp_path / "story.txt"
    path.write_text("\n".join([*lines[:-1], f"{cells[0]}| {wrong}"]), encoding="utf-8")
    with pytest.raises(ScenarioError, match=rf"story\.txt:{line}: ") as failed:
        play(path)
    assert says in str(failed.value)
