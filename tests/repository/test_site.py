"""The site that `make docs` builds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import DOCS, ROOT

pytestmark = pytest.mark.slow

# Runs mkdocs in a process in which every connection fails.
OFFLINE = """
import socket, sys

def refuse(*_):
    raise OSError("the build asks the network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
sys.exit(cli())
"""
# What a browser would load by itself: scripts, styles, fonts, images.
LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(https?:)?//"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preconnect|preload|icon))[^>]*\bhref=["']?(https?:)?//"""
    r"""|(?:url\(|@import )["']?(https?:)?//""",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site strictly, without a network."""
    target = tmp_path_factory.mktemp("site")
    run = subprocess.run(
        [sys.executable, "-c", OFFLINE, "build", "--strict", "--site-dir", str(target)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return target


def test_every_page_is_in_the_site(site: Path) -> None:
    """Each page of docs/ is built, and the generator beside them is not copied."""
    built = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    written = {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md")}
    assert built == written | {Path("404")}
    assert not list(site.rglob("*.py"))


def test_no_page_loads_from_elsewhere(site: Path) -> None:
    """A browser that shows a page loads nothing from another host."""
    assert LOADED.search('<script src="https://example.org/a.js">')
    assert LOADED.search('<link href="//example.org/a.css" rel="stylesheet">')
    assert LOADED.search('@import "https://example.org/a.css"')
    foreign = [
        f"{path.relative_to(site)}: {found[0]}"
        for path in [*site.rglob("*.html"), *site.rglob("*.css")]
        if (found := LOADED.search(path.read_text(encoding="utf-8")))
    ]
    assert foreign == []
