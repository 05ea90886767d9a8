"""A sidecar that is started with descriptors 0 to 2 closed."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.sidecar import Make, Sidecar
from tests.support.waiting import eventually

CLOSED = [set(some) for count in (1, 2, 3) for some in itertools.combinations(range(3), count)]
STANDARD = {0: "<&-", 1: ">&-", 2: "2>&-"}


def without(closed: set[int]) -> tuple[str, ...]:
    """Return a prefix for a command that closes these descriptors."""
    redirections = " ".join(STANDARD[number] for number in closed)
    return ("bash", "-c", f'exec "$@" {redirections}', "bash")


def listens(sidecar: Sidecar) -> int | None:
    """Return the TCP port on which the process listens, from /proc."""
    assert sidecar.process is not None
    assert sidecar.process.poll() is None, sidecar.output()
    directory = Path(f"/proc/{sidecar.process.pid}")
    sockets = set()
    for entry in directory.glob("fd/*"):
        try:
            sockets.add(str(entry.readlink()))
        except OSError:
            continue
    for line in (directory / "net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
            return int(fields[1].partition(":")[2], 16)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("closed", CLOSED, ids=str)
def test_a_sidecar_runs_and_ends(make: Make, closed: set[int]) -> None:
    """Closed descriptors become /dev/null and are never files or sockets of the sidecar; exit 0."""
    sidecar = make('[log]\nlevel = "debug"').launch(prefix=without(closed))
    sidecar.port = eventually(lambda: listens(sidecar), "the listener")
    eventually(lambda: sidecar.request("GET", "/-/ready")[0] == 200, "a ready sidecar")
    assert sidecar.process is not None
    for number in closed:
        assert str(Path(f"/proc/{sidecar.process.pid}/fd/{number}").readlink()) == os.devnull
    assert sidecar.operate("freeze")[0] == 200  # writes lines to the log
    assert sidecar.end(signal.SIGTERM) == 0
    assert "Traceback" not in sidecar.output()


@pytest.mark.parametrize("closed", CLOSED, ids=str)
def test_a_faulty_start_exits_2(tmp_path: Path, closed: set[int]) -> None:
    """A faulty configuration exits 2, and prints the reason if a descriptor is open for it."""
    config = tmp_path / "riskmon.toml"
    config.write_text("lease = 0\n")
    run = subprocess.run(
        [*without(closed), sys.executable, "-m", "riskmon", "run", "--config", str(config)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 2
    assert bool(re.search(r"lease", run.stderr)) == (2 not in closed)
