"""README.md and docs/: their form, their links, and the names that they mention."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from riskmon.cli import commands
from riskmon.gate import Gate
from riskmon.metrics.table import TABLE
from tests.support.documents import (
    PAGES,
    README,
    ROOT,
    RUNBOOK,
    WITH_COMMANDS,
    anchors,
    links,
    name_of,
    prose,
    read,
    ticked,
    typed,
)

# What a path in backticks begins with, when it is one of the repository.
FOLDERS = ("riskmon/", "tests/", "docs/", "alerts/", "dashboards/", "compose/", "bench/")


def test_readme_is_short() -> None:
    """README stays a page that can be read at once, in the order that a newcomer needs."""
    text = read(README)
    assert len(text.splitlines()) <= 150
    assert re.findall("^## (.*)$", text, re.MULTILINE) == [
        "Two commands",
        "Beside your own bot",
        "What stops whom",
        "What it does not promise",
        "Performance",
        "Links",
    ]


@pytest.mark.parametrize("page", [*PAGES, RUNBOOK], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link into the repository leads to a file, and to a heading in it where it names one."""
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_named_files_exist(page: Path) -> None:
    """Every path of the repository that stands in backticks is there."""
    named = [text.partition("::")[0] for text in ticked(prose(read(page)))]
    paths = [text for text in named if text.startswith(FOLDERS) and " " not in text]
    assert [path for path in paths if not next(ROOT.glob(path), None)] == []


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_named_commands_exist(page: Path) -> None:
    """Every `riskmon x --option` is a command that takes the option."""
    for words in typed(page):
        if words[0] != "riskmon" or not re.fullmatch("[a-z-]+", words[1]):
            continue
        command = commands.get_command(click.Context(commands), words[1])
        assert command is not None, words
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words[2:] if word.startswith("--")} <= options, words


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_named_targets_exist(page: Path) -> None:
    """Every `make x` is a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    lines = [words for words in typed(page) if words[0] == "make"]
    named = {word for line in lines for word in line[1:] if re.fullmatch("[a-z-]+", word)}
    assert named - targets == set()


@pytest.mark.parametrize("page", [*PAGES, RUNBOOK], ids=name_of)
def test_named_metrics_exist(page: Path) -> None:
    """Every metric that is named is exported."""
    known = {row.name for row in TABLE}
    assert set(re.findall(r"`(riskmon_[a-z_]+)", read(page))) - known == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_methods_exist(page: Path) -> None:
    """`risk.x(` and `Gate.x(` are methods of the client and the gate."""
    from riskmon import Client

    text = read(page)
    assert set(re.findall(r"\brisk\.(\w+)\(", text)) <= set(dir(Client))
    assert set(re.findall(r"\bGate\.(\w+)\(", text)) <= set(dir(Gate))
