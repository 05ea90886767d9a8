"""The walls of the house: what may import what, and what may stand in a file."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "riskmon"
EDGES = ("web", "sources", "outbox", "metrics")
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


def modules(*names: str) -> list[Path]:
    """Give the files of riskmon's modules of these names, each a file or a package."""
    found = [*PACKAGE.rglob("*.py")]
    return sorted(
        path for path in found if path.relative_to(PACKAGE).with_suffix("").parts[0] in names
    )


def imports(path: Path, root: Path = ROOT) -> Iterator[str]:
    """Give every name that a module imports anywhere in it, written out in full."""
    package = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, node.module) if node.module else base
            yield from (".".join((*module, alias.name)) for alias in node.names)


def is_standard(name: str) -> bool:
    """Whether a name belongs to the standard library."""
    return name.split(".", maxsplit=1)[0] in sys.stdlib_module_names


def belongs(name: str, module: str) -> bool:
    """Whether a full name is this module or something in it."""
    return name == module or name.startswith(module + ".")


def offences(paths: list[Path], allowed: Callable[[str], bool]) -> list[str]:
    """Give `file imports name` for each import that is not allowed."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in imports(path)
        if not allowed(name)
    ]


def test_imports_are_read_in_every_form(tmp_path: Path) -> None:
    """The walls' own reader sees absolute, relative, renamed and nested imports."""
    module = tmp_path / "riskmon" / "core" / "engine.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        "import os.path\nimport aiohttp as a\nfrom riskmon import web\nfrom .. import gate\n"
        "from . import window\nfrom ..web.pages import page as p\n"
        "def late():\n    from .limits import loss\n"
    )
    assert set(imports(module, tmp_path)) == {
        "os.path",
        "aiohttp",
        "riskmon.web",
        "riskmon.gate",
        "riskmon.core.window",
        "riskmon.web.pages.page",
        "riskmon.core.limits.loss",
    }


def test_core_imports_only_itself_msgspec_and_annotated_types() -> None:
    """The engine reaches no clock, file or socket through another part of riskmon."""

    def allowed(name: str) -> bool:
        known = ("msgspec", "annotated_types", "riskmon.core")
        return is_standard(name) or any(belongs(name, module) for module in known)

    assert offences(modules("core"), allowed) == []


def test_gate_imports_only_the_standard_library() -> None:
    """A bot that reads the gate needs nothing installed besides."""
    assert offences(modules("gate"), is_standard) == []


@pytest.mark.parametrize("edge", EDGES)
def test_edges_do_not_import_each_other(edge: str) -> None:
    """What is at the edge meets other edges in the sidecar only."""
    others = [f"riskmon.{other}" for other in EDGES if other != edge]

    def allowed(name: str) -> bool:
        return not any(belongs(name, other) for other in others)

    assert offences(modules(edge), allowed) == []


def test_gate_loads_no_third_party_module() -> None:
    """`from riskmon import Gate` stays as light in a bot as its source says."""
    if not (PACKAGE / "gate.py").exists():
        pytest.skip("riskmon/gate.py does not exist yet")
    script = (
        "import sys; before = set(sys.modules); import riskmon; riskmon.Gate;"
        "print(*sorted(set(sys.modules) - before))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = run.stdout.split()
    assert "riskmon.gate" in loaded
    assert [n for n in loaded if not is_standard(n) and not belongs(n, "riskmon")] == []


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
