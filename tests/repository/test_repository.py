"""What may stand in a file of the repository."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "riskmon"
# In two parts each, so that this file does not name them either.
REGISTRIES = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "npmjs" + ".",
    "yarnpkg" + ".com",
    "deb." + "debian.org",
    "security." + "debian.org",
    "archive." + "ubuntu.com",
    "ports." + "ubuntu.com",
    "crates" + ".io",
    "proxy." + "golang.org",
    "ruby" + "gems.org",
]
FORBIDDEN = re.compile(
    "|".join(map(re.escape, REGISTRIES)) + r"|https?://\S+\.(?:whl|deb|tgz|tar\.gz)\b",
    re.IGNORECASE,
)


def test_modules_have_docstrings() -> None:
    """Every module says first what it is for."""
    silent = [
        str(path.relative_to(ROOT))
        for path in sorted(PACKAGE.rglob("*.py"))
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def committed() -> list[Path]:
    """Give every committed file of this checkout."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip(
            "not a git checkout, or git is missing: nothing tells which files are committed"
        )
    run = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    paths = [ROOT / name for name in run.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_file_names_a_registry() -> None:
    """Where packages come from is each machine's own setting, never the repository's."""
    named = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in committed()
        if (found := FORBIDDEN.search(path.read_text(encoding="utf-8", errors="replace")))
    ]
    assert named == []


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-dev.txt", "requirements-nodeps.txt"]
)
def test_requirements_are_exact(name: str) -> None:
    """Every line of a list is one package at one version: no address, hash, option or range."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#") and line != "-r requirements.txt"]
    assert pins
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin)] == []


def test_every_dependency_is_pinned() -> None:
    """What pyproject.toml asks for stands in the exact lists."""

    def normal(requirement: str) -> str:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        return re.sub(r"[-_.]+", "-", name).lower()

    def pinned(file: str) -> set[str]:
        return {normal(line) for line in (ROOT / file).read_text(encoding="utf-8").splitlines()}

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {normal(d) for d in project["project"]["dependencies"]} <= pinned("requirements.txt")
    groups = project["dependency-groups"]
    assert {normal(d) for d in groups["dev"]} <= pinned("requirements-dev.txt")
