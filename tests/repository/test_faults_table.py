"""The table of fault and abuse cases in docs/ and the tests that it names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support import ROOT

TABLE = ROOT / "docs" / "reference" / "faults.md"
FOLDERS = ("faults", "security")


def rows() -> list[list[str]]:
    """The cells of each row, without the heads of the tables."""
    lines = [line for line in TABLE.read_text("utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "case" and not set(row[0]) <= set("-: ")]


def names_in(path: Path) -> set[str]:
    """The names of the tests of one file, those of classes too."""
    tree = ast.parse(path.read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_each_case_names_a_test_that_exists() -> None:
    """Every row has a case, an outcome, and at least one test that exists."""
    missing = []
    for row in rows():
        assert len(row) == 3, f"not three cells: {row}"
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row[2])
        if not named:
            missing.append(f"no test for: {row[0]}")
        for file, name in named:
            path = ROOT / file
            if not path.is_file() or (name and name not in names_in(path)):
                missing.append(f"{file}::{name}")
    assert missing == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_file_of_faults_is_in_the_table(folder: str) -> None:
    """No test file of faults or attacks is left out of the table."""
    text = TABLE.read_text("utf-8")
    files = sorted((ROOT / "tests" / folder).glob("test_*.py"))
    assert files, f"tests/{folder} is empty"
    assert [path.name for path in files if path.name not in text] == []
