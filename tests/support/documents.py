"""The documentation as text: its files, and what is in their blocks, tables and backticks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
RUNBOOK = ROOT / "alerts" / "runbook.md"
DOCS = ROOT / "docs"
PAGES = (README, *sorted(DOCS.rglob("*.md")))
WITH_COMMANDS = (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", RUNBOOK)


def name_of(page: Path) -> str:
    """Return a page's path in the repository."""
    return str(page.relative_to(ROOT))


def read(page: Path) -> str:
    """Return a page's text."""
    return page.read_text(encoding="utf-8")


def blocks(language: str, page: Path) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", read(page), re.DOTALL | re.MULTILINE)


def all_blocks(language: str) -> list[tuple[str, str]]:
    """Return (page, block) for each fenced block of a language, README's and those of docs/."""
    return [(name_of(page), block) for page in PAGES for block in blocks(language, page)]


def ticked(text: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`\n]+)`", text)


def prose(text: str) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def typed(page: Path) -> list[list[str]]:
    """Return the words of every command line: in backticks, and in blocks for a shell."""
    lines = [*ticked(prose(read(page))), *"\n".join(blocks("sh", page)).splitlines()]
    # Without comments, and without what is quoted: that is for another program.
    found = [re.sub("'[^']*'", "", line).partition("#")[0].split() for line in lines]
    return [words for words in found if len(words) > 1]


def rows(page: Path, first: str) -> list[list[str]]:
    """Return the rows of the table whose first column is headed `first`."""
    found: list[list[str]] = []
    inside = False
    for line in read(page).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first:
            inside = True
        elif inside and not set(cells[0]) <= {"-", " "}:
            found.append(cells)
    assert found, f"no table of {first} in {name_of(page)}"
    return found


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub and MkDocs give a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(read(page)), re.MULTILINE)
    plain = (re.sub(r"[^\w -]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links that lead into the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(read(page))):
        if "://" not in target:
            yield target
