"""The order of the book's modules."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from riskmon.core import book

BOOK = Path(book.__file__).parent


def test_modules_are_listed_in_the_order_of_their_imports() -> None:
    """The package's docstring names every module after those that it imports."""
    bullets = re.findall(r"^\* (.*?):", book.__doc__ or "", re.MULTILINE | re.DOTALL)
    order = [name for bullet in bullets for name in re.findall(r"``(\w+)``", bullet)]
    modules = {path.stem: path for path in BOOK.glob("*.py") if path.stem != "__init__"}
    assert sorted(order) == sorted(modules)
    for place, name in enumerate(order):
        for node in ast.walk(ast.parse(modules[name].read_text())):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                package, _, imported = node.module.rpartition(".")
                assert package != book.__name__ or imported in order[:place], (name, imported)
