"""What may import what: the arrows between riskmon's packages, and no cycle of modules.

Every import counts: those inside functions, and those for types only (``TYPE_CHECKING``).
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.support.documents import DOCS, rows, ticked

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "riskmon"

Graph = Mapping[str, set[str]]  # module -> what it imports, in full names

# For each part of riskmon the parts that it imports, no more and no less.
ARROWS: dict[str, set[str]] = {
    "riskmon": {"client", "core", "engine", "gate", "settings"},  # the public names
    "__main__": {"cli"},
    "auth": {"core"},
    "cli": {
        *("auth", "core", "demo", "journal", "oms", "outbox"),
        *("settings", "sidecar", "system"),
    },
    "client": {"auth", "gate", "system"},
    "core": set(),
    "delivery": set(),
    "demo": {"client", "core", "gate", "log", "riskmon", "system"},
    "document": {"core", "system"},
    "engine": {"core", "document", "settings"},
    "gate": set(),
    "gate_writer": {"gate", "system"},
    "journal": {"core", "delivery", "system"},
    "log": {"system"},
    "metrics": {"core", "riskmon"},
    "oms": {"log", "system"},
    "outbox": {"core", "delivery", "system"},
    "port": {"core"},
    "sequencer": {
        *("core", "delivery", "gate_writer", "journal", "metrics", "outbox", "port", "system"),
    },
    "settings": {"auth", "core", "gate", "log", "outbox", "system"},
    "sidecar": {
        *("auth", "core", "gate_writer", "journal", "log", "metrics", "outbox", "port"),
        *("sequencer", "settings", "system", "web"),
    },
    "system": set(),
    "web": {"auth", "core", "document", "port", "system"},
}
EDGES = {"client", "journal", "metrics", "oms", "outbox", "web"}  # of these none imports another

# The layers of core, lowest first: none reaches one above it, by whatever way.
LAYERS = (
    ("book",),
    ("limits",),
    ("breakers",),
    ("engine", "reports", "state", "checks", "operate", "view"),
)

# Where imports stand inside functions, and why; all others stand at the top of a module.
LATE = {
    "riskmon": "a bot's `import riskmon` stays light (PEP 562)",
    "riskmon.cli": "each command loads only what it needs",
    "riskmon.demo": "the exchange and the bot of the demo need none of its scenario",
}


# -- reading imports ------------------------------------------------------------------------------


def modules(root: Path = ROOT) -> dict[str, Path]:
    """The modules of riskmon by full name; a package's is its ``__init__``."""
    found = {}
    for path in sorted((root / "riskmon").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, root: Path = ROOT) -> Iterator[tuple[str, ...]]:
    """Every import in a module: the names that may be meant, the most precise first."""
    package = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name,) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, node.module) if node.module else base)
            yield from ((f"{module}.{alias.name}", module) for alias in node.names)


def late(path: Path) -> bool:
    """Whether a module has an import inside a function."""
    functions = (
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return any(
        isinstance(inner, ast.Import | ast.ImportFrom) for f in functions for inner in ast.walk(f)
    )


def foreign(path: Path) -> set[str]:
    """The packages outside of riskmon and of the standard library that a module imports."""
    tops = {names[-1].partition(".")[0] for names in imports(path)}
    return tops - {"riskmon"} - set(sys.stdlib_module_names)


@cache
def graph(root: Path = ROOT) -> Graph:
    """What each module imports of riskmon.

    An import of a module from outside of its package runs the package's ``__init__`` too.
    """
    known = modules(root)
    found: dict[str, set[str]] = {}
    for module, path in known.items():
        targets = [
            next(name for name in names if name in known)
            for names in imports(path, root)
            if any(name in known for name in names)
        ]
        found[module] = {
            name for target in targets for name in (target, *_packages_entered(module, target))
        }
    return found


def _packages_entered(module: str, target: str) -> Iterator[str]:
    parts = target.split(".")
    for length in range(1, len(parts)):
        package = ".".join(parts[:length])
        if not f"{module}.".startswith(f"{package}."):
            yield package


def cycles(arrows: Graph) -> list[set[str]]:
    """The largest sets of modules of which each reaches each other, by name."""
    reached = {module: _reachable(arrows, module) for module in arrows}
    found: list[set[str]] = []
    for module in sorted(arrows):
        if module in reached[module] and not any(module in cycle for cycle in found):
            found.append({other for other in reached[module] if module in reached[other]})
    return found


def _reachable(arrows: Graph, module: str) -> set[str]:
    reached: set[str] = set()
    waiting = [*arrows[module]]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(arrows[name])
    return reached


def part(module: str) -> str:
    """The part of riskmon that a module belongs to: the first name below the root."""
    return module.split(".")[1] if "." in module else module


def test_the_documentation_lists_these_imports() -> None:
    """The table of packages in docs/ has each part with what it imports of riskmon."""
    table = rows(DOCS / "explanation" / "architecture.md", "package")
    listed = {ticked(row[0])[0]: set(ticked(row[2])) for row in table}
    parts = ARROWS.keys() - {"riskmon", "__main__"}
    assert listed == {part: ARROWS[part] - {"riskmon"} for part in parts}


def test_imports_are_read_in_every_form(tmp_path: Path) -> None:
    """Absolute, relative, renamed, nested and type-only imports are arrows, packages included."""
    files = {
        "riskmon/__init__.py": "",
        "riskmon/gate.py": "import os.path, aiohttp as a\n",
        "riskmon/web/__init__.py": "",
        "riskmon/web/page.py": "from ..core.engine import Engine as E\n",
        "riskmon/core/__init__.py": "from riskmon import web\n",
        "riskmon/core/window.py": "import riskmon.gate as g\n",
        "riskmon/core/engine.py": "from typing import TYPE_CHECKING\nfrom . import window\n"
        "if TYPE_CHECKING:\n    from riskmon.web.page import Page\n"
        "def late():\n    from .. import gate\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert graph(tmp_path) == {
        "riskmon": set(),
        "riskmon.gate": set(),
        "riskmon.web": set(),
        "riskmon.web.page": {"riskmon.core", "riskmon.core.engine"},
        "riskmon.core": {"riskmon.web"},
        "riskmon.core.window": {"riskmon.gate"},
        "riskmon.core.engine": {
            *("riskmon.core.window", "riskmon.gate", "riskmon.web", "riskmon.web.page")
        },
    }
    assert cycles(graph(tmp_path)) == [{"riskmon.core.engine", "riskmon.web.page"}]


# -- cycles and arrows ----------------------------------------------------------------------------


def test_no_import_cycle() -> None:
    """No module reaches itself by its imports."""
    assert cycles(graph()) == []


@pytest.mark.parametrize("name", sorted(ARROWS))
def test_arrows(name: str) -> None:
    """A part of riskmon exists and imports exactly the parts that the table gives it."""
    arrows = graph()
    own = [module for module in arrows if part(module) == name]
    assert own
    assert {part(target) for module in own for target in arrows[module]} - {name} == ARROWS[name]


def test_every_part_has_its_arrows() -> None:
    """A new part of riskmon needs a row in the table."""
    assert {part(module) for module in modules()} == set(ARROWS)


@pytest.mark.parametrize("edge", sorted(EDGES))
def test_edges_do_not_import_each_other(edge: str) -> None:
    """What meets the outside, or a bot, is put together by the sidecar and the commands only."""
    assert not ARROWS[edge] & EDGES


def test_sidecar_is_below_the_commands_only() -> None:
    """Only commands import the sidecar, and only ``python -m riskmon`` the commands."""
    importers = {name for name, targets in ARROWS.items() if "sidecar" in targets}
    assert importers <= {"cli", "demo"}
    assert {name for name, targets in ARROWS.items() if "cli" in targets} == {"__main__"}


def test_core_imports_only_itself() -> None:
    """The engine reaches no clock, file or socket through a library or a part of riskmon."""
    assert ARROWS["core"] == set()
    own = [path for module, path in modules().items() if part(module) == "core"]
    assert own
    assert {name for path in own for name in foreign(path)} <= {"annotated_types", "msgspec"}


def test_gate_imports_only_the_standard_library() -> None:
    """A bot that reads the gate needs nothing installed besides."""
    assert ARROWS["gate"] == set()
    assert foreign(modules()["riskmon.gate"]) == set()


def test_gate_loads_no_third_party_module() -> None:
    """`from riskmon import Gate` stays as light in a bot as its source says."""
    script = (
        "import sys; before = set(sys.modules); import riskmon; riskmon.Gate;"
        "print(*sorted(set(sys.modules) - before))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name for name in run.stdout.split() if name.partition(".")[0] == "riskmon"}
    others = {name.partition(".")[0] for name in run.stdout.split()} - {"riskmon"}
    assert loaded == {"riskmon", "riskmon.gate"}
    assert others <= set(sys.stdlib_module_names)


def test_late_imports_have_a_reason() -> None:
    """Imports inside functions stand only where the table gives the reason."""
    parts = {part(module) for module, path in modules().items() if late(path)}
    assert {f"riskmon.{name}" if name != "riskmon" else name for name in parts} <= set(LATE)


# -- inside core ----------------------------------------------------------------------------------


def of_core(*names: str) -> set[str]:
    """The modules of core that have one of these names, or are in a package that has."""
    found = {module for module in modules() if part(module) == "core"}
    return {m for m in found if m.count(".") > 1 and m.split(".")[2] in names}


@pytest.mark.parametrize("at", range(len(LAYERS)))
def test_layers_of_core_import_downwards(at: int) -> None:
    """book, limits, breakers, and what runs them: no layer depends on one above it."""
    arrows, above = graph(), of_core(*(name for names in LAYERS[at + 1 :] for name in names))
    for name in LAYERS[at]:
        own = of_core(name)
        assert own
        assert {m: sorted(found) for m in own if (found := _reachable(arrows, m) & above)} == {}
