"""Every section of the tables beside this module holds.

A section begins with ``== what it shows``; ``toml:`` lines are its configuration, and its rows are
those of :mod:`tests.scenarios.table`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.scenarios.table import play

TABLES = sorted(Path(__file__).parent.glob("*.txt"))


class Section(NamedTuple):
    """One story: the table that it is in, what it shows, and its lines at their places."""

    table: Path
    shows: str
    text: str


def sections(table: Path) -> Iterator[Section]:
    """The sections of a table, each with the line numbers that it has there."""
    lines = table.read_text(encoding="utf-8").splitlines()
    begins = [at for at, line in enumerate(lines) if line.startswith("== ")]
    for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        text = "\n".join([*([""] * (begin + 1)), *lines[begin + 1 : end]])
        yield Section(table, lines[begin].removeprefix("== "), text)


STORIES = [one for table in TABLES for one in sections(table)]


@pytest.mark.parametrize("story", STORIES, ids=lambda one: f"{one.table.stem}: {one.shows}")
def test_a_story(story: Section, tmp_path: Path) -> None:
    """Exactly the consequences in the section follow."""
    (tmp_path / "config").mkdir()
    config = "\n".join(re.findall(r"^toml: (.*)$", story.text, re.MULTILINE))
    (tmp_path / "config" / f"{story.table.stem}.toml").write_text(config, encoding="utf-8")
    rows = re.sub(r"^toml: .*$", "", story.text, flags=re.MULTILINE)
    path = tmp_path / story.table.name
    path.write_text(rows, encoding="utf-8")
    play(path)


def test_stories_have_names_of_their_own() -> None:
    """A story can be selected by what it shows."""
    names = [one.shows for one in STORIES]
    assert len(names) == len(set(names)) > 0
