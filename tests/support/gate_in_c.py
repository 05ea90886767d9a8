"""The reader of the gate in C that docs shows, as a program."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT

PAGE = ROOT / "docs" / "reference" / "gate-file.md"
_MAIN = """
int main(int n, char **a) {
    return n != 5 || !putchar(48 + gate_allows(a[1], a[2], strtoul(a[3], NULL, 10), a[4]));
}
"""


def build(directory: Path) -> Path:
    """Compile its function: `asker DIRECTORY NAME OWNER SCOPE` prints 0 or 1."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: the example of a gate in C cannot be built")
    source, program = directory / "asker.c", directory / "asker"
    (block,) = re.findall(r"^```c\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    source.write_text(f"#include <stdio.h>\n#include <stdlib.h>\n{block}\n{_MAIN}")
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2"]
    built = subprocess.run(
        [compiler, *flags, "-o", program, source], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return program


def build_if_possible(directory: Path) -> Path | None:
    """As :func:`build`; None without a C compiler, where the reader in Python is tested alone."""
    return build(directory) if shutil.which("cc") else None


def asked(asker: Path, gate: Path, owner: int, scope: str = "account") -> bool:
    """Whether the gate allows an order, as this user reads it."""
    command = [str(asker), str(gate.parent), gate.name, str(owner), scope]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1"
