"""Processes of other users of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import ROOT

# Without an entry in passwd, as in a container whose user is only a number.
OWNER, STRANGER = 54_321, 54_322

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run as other users")


# Modules are loaded before the user changes: it may lack access to this Python's files. The
# working directory is not a source of modules, as for the installed command.
_SCRIPT = f"""
import os, sys
sys.path[:0] = [{str(ROOT)!r}]
import concurrent.futures.thread, encodings.ascii, encodings.idna, encodings.latin_1
import dotenv.parser, riskmon.cli.tables, riskmon.oms.__main__, riskmon.settings, riskmon.sidecar
user = int(sys.argv.pop(1))
if user != os.geteuid():
    os.setgroups([]), os.setgid(user), os.setuid(user)
riskmon.cli.main()
"""


def riskmon(
    *arguments: str, cwd: Path, user: int | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `riskmon` with these arguments and only this environment until it ends."""
    return subprocess.run(
        [*program(user), *arguments],
        cwd=cwd,
        env={**(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def program(user: int | None = None) -> list[str]:
    """Return the prefix of a command line that runs `riskmon` as this user."""
    return [sys.executable, "-I", "-c", _SCRIPT, str(os.geteuid() if user is None else user)]


_CONNECT = """
import os, socket, sys
user, *groups = map(int, sys.argv[2:])
os.setgroups(groups), os.setgid(user), os.setuid(user)
socket.socket(socket.AF_UNIX).connect(sys.argv[1])
"""


def can_connect(path: Path, user: int, *groups: int) -> bool:
    """Whether a process of this user, with these further groups, can connect to a socket."""
    command = [sys.executable, "-I", "-c", _CONNECT, str(path), str(user), *map(str, groups)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0 or "PermissionError" in ran.stderr, ran.stderr
    return ran.returncode == 0


@contextmanager
def shared_directory(owner: int = OWNER) -> Iterator[Path]:
    """A directory of this owner (where root makes it) that every user can enter.

    pytest's own are only for the user who runs the tests.
    """
    with tempfile.TemporaryDirectory(prefix="riskmon-") as name:
        place = Path(name)
        place.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(place, owner, owner)
        yield place


# As above: the reader's modules are loaded before the user changes.
_GATE_SCRIPT = f"""
import os, sys
sys.path[:0] = [{str(ROOT)!r}]
from riskmon.gate import Gate, boot_word
boot_word()
gate, owner, user = sys.argv[1:]
os.setgroups([]), os.setgid(int(user)), os.setuid(int(user))
with Gate.open(gate, owner=owner or None) as opened:
    assert opened.allows() == opened.watch()()
    print(int(opened.allows()), opened.fault or "")
"""


def read_gate(gate: str | Path, *, user: int, owner: str = "") -> tuple[bool, str]:
    """Return whether a bot of this user may trade by the gate, and the fault of its file."""
    command = [sys.executable, "-I", "-c", _GATE_SCRIPT, str(gate), owner, str(user)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    allowed, _, fault = said.rstrip("\n").partition(" ")
    return allowed == "1", fault
