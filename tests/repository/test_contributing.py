"""The diffs of CONTRIBUTING.md apply, and do what they show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import ROOT, read

SECTIONS = re.findall(
    r"^### an? (\w+)\n(?:(?!^### ).)*?^```diff\n(.*?)^```$",
    read(ROOT / "CONTRIBUTING.md"),
    re.DOTALL | re.MULTILINE,
)


def run(*command: str, cwd: Path, text: str = "") -> str:
    """Run a program that must succeed, and return its output."""
    done = subprocess.run(
        command,
        cwd=cwd,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(cwd), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of what is committed, with the tools that tests need."""
    files = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    for name in filter(None, files):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".tools").symlink_to(ROOT / ".tools")
    return tmp_path


def test_every_way_to_extend_has_a_diff() -> None:
    """A limit, an event, a metric, an alert, an endpoint and a command are shown."""
    names = [name for name, _ in SECTIONS]
    assert names == ["limit", "event", "metric", "alert", "endpoint", "command"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "diff"), SECTIONS, ids=[name for name, _ in SECTIONS])
def test_the_diff_applies_and_its_tests_pass(name: str, diff: str, checkout: Path) -> None:
    """Applied to this checkout, the diff passes the tests that it touches and is documented."""
    run("git", "apply", "-", cwd=checkout, text=diff)
    changed = re.findall(r"^\+\+\+ b/(\S+)", diff, re.MULTILINE)
    tests = [path for path in changed if path.startswith("tests/")]
    assert tests, name
    run(sys.executable, "-m", "ruff", "check", "--quiet", *python(changed), cwd=checkout)
    run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=checkout)
    written = run(sys.executable, "-m", "docs.generate", cwd=checkout)
    assert written.startswith("docs/reference/"), name


def python(paths: list[str]) -> list[str]:
    """Return those that are Python."""
    return [path for path in paths if path.endswith(".py")]
