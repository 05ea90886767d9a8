"""docs/reference says all that there is, and nothing that there is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from docs.generate import BLOCKS, pages, rendered
from riskmon.cli import BAD_USAGE, DONE, INTERNAL, INTERRUPTED, REFUSED, UNREACHABLE
from riskmon.core.limits import LIMITS
from riskmon.document import ChangeKind
from riskmon.outbox.target import CancelTarget
from riskmon.settings.model import FileSettings
from riskmon.settings.schema import keys_of, paths
from tests.support.documents import DOCS, blocks, name_of, read, rows, ticked

REFERENCE = DOCS / "reference"


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_the_generated_tables_are_those_of_the_code(page: Path) -> None:
    """Every command, option, path, event, limit, metric, alert and key is in its table."""
    assert rendered(read(page)) == read(page), (
        f"{name_of(page)} is out of date: run `make docs`, or `python -m docs.generate`"
    )


def test_every_generated_table_is_shown_once() -> None:
    """No table of the generator is missing in the reference."""
    shown = re.findall(r"<!-- generated: ([a-z-]+) -->", "".join(map(read, pages())))
    assert sorted(shown) == sorted(BLOCKS)


def test_an_outdated_table_is_rendered_anew() -> None:
    """A row that no longer is in the code goes, and text outside of the block stays."""
    page = "before\n<!-- generated: levels -->\n| old |\n<!-- end -->\nafter\n"
    new = rendered(page)
    assert "old" not in new
    assert "`reduce_only`" in new
    assert (new.splitlines()[0], new.splitlines()[-1]) == ("before", "after")


def test_every_exit_code_is_documented() -> None:
    """The codes that the commands end with are those of the table."""
    named = [int(row[0]) for row in rows(REFERENCE / "commands.md", "exit code")]
    assert named == [DONE, REFUSED, BAD_USAGE, UNREACHABLE, INTERNAL, INTERRUPTED]


def test_every_change_of_a_transition_is_documented() -> None:
    """The words for what a transition is are those of the table."""
    named = [ticked(row[0])[0] for row in rows(REFERENCE / "stream.md", "change")]
    assert sorted(named) == sorted(get_args(ChangeKind))


def test_the_example_of_the_configuration_names_every_key() -> None:
    """It shows every key that there is outside of the limits, commented out or not."""
    (text,) = blocks("toml", REFERENCE / "configuration.md")
    words = set(re.findall(r"\w+", re.sub(r"#(?! \w+ =).*", "", text)))
    ours = {path[-1] for path in paths(FileSettings)} | {*keys_of(CancelTarget)} - {"secret"}
    assert ours - words == set()


def test_kinds_that_are_explained_exist() -> None:
    """A kind that has a paragraph of its own below the table is one."""
    text = read(REFERENCE / "limits.md").partition("## Keys of every limit")[0]
    named = [name for line in re.findall(r"^- (.*?):", text, re.MULTILINE) for name in ticked(line)]
    assert named
    assert set(named) <= set(LIMITS)


@pytest.mark.parametrize("name", ["configuration", "limits"])
def test_every_key_has_a_meaning(name: str) -> None:
    """No key of the configuration or of a limit is listed without saying what it does."""
    text = read(REFERENCE / f"{name}.md")
    assert [line for line in text.splitlines() if re.search(r"\| +\|$", line)] == []
