"""The commands against a running sidecar, and the faults that prevent its start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from riskmon.cli import run
from tests.support.files import private

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
SECRET = "whsec_" + "A" * 32
SECONDS_MAX = 30.0


def free_port() -> int:
    """Return a port that is free."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@dataclass
class Running:
    """A sidecar of the configuration in the working directory."""

    process: subprocess.Popen[str]
    url: str

    def send(self, *events: dict[str, Any]) -> None:
        """Send events; return when they are durable."""
        request = urllib.request.Request(
            f"{self.url}/v1/events",
            json.dumps(events).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=SECONDS_MAX) as answer:
            assert answer.status == 200

    def stop(self) -> str:
        """Stop it with SIGTERM; return its log."""
        self.process.send_signal(signal.SIGTERM)
        log, _ = self.process.communicate(timeout=SECONDS_MAX)
        assert self.process.returncode == 0, log
        return log


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own configuration out of the tests."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RISKMON_")]:
        monkeypatch.delenv(name)


def configured(port: int, more: str = "") -> Path:
    """Write a configuration with all its paths in the working directory."""
    here = Path.cwd()
    file = here / "riskmon.toml"
    file.write_text(
        f'account = "cli"\nstate_dir = "{here / "state"}"\ngate = "{here / "gate"}"\n'
        f'[http]\nlisten = "127.0.0.1:{port}"\n{more}'
    )
    return file


def spawned(config: Path) -> subprocess.Popen[str]:
    """Start `riskmon run` with this configuration."""
    return subprocess.Popen(
        [sys.executable, "-m", "riskmon", "run", "--config", str(config)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def sidecar() -> Iterator[Callable[..., Running]]:
    """Start a sidecar and wait until it is ready; the ones still running are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(more: str = "") -> Running:
        port = free_port()
        running = Running(spawned(configured(port, more)), f"http://127.0.0.1:{port}")
        started.append(running.process)
        wait_for(lambda: running.process.poll() is not None or is_ready(running.url))
        assert running.process.poll() is None, running.process.communicate()
        return running

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_for(is_so: Callable[[], bool]) -> None:
    """Return when the condition is true."""
    until = time.monotonic() + SECONDS_MAX
    while not is_so():
        assert time.monotonic() < until, "it never came to be so"
        time.sleep(0.02)


def is_ready(url: str) -> bool:
    """Return whether the sidecar answers that it is ready."""
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any, str]]:
    """Run a command with --json; return its exit code, its answer and its stderr."""

    def tell(*arguments: str) -> tuple[int, Any, str]:
        code = run([*arguments, "--json"])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, json.loads(out) if out else None, err

    return tell


Told = Callable[..., tuple[int, Any, str]]
Start = Callable[..., Running]


def breakers(state: Any, scope: str) -> dict[str, str]:
    """Return the states of a scope's breakers by limit."""
    return {b["limit"]: b["state"] for b in state["breakers"] if b["scope"] == scope}


# -- operating ------------------------------------------------------------------------------------


def test_freeze_and_unfreeze(sidecar: Start, told: Told) -> None:
    """A freeze halts the account until an unfreeze with the seen generation."""
    sidecar()
    code, state, _ = told("status")
    assert (code, state["level"]) == (0, "allow")
    assert told("freeze", "--reason", "drill")[0] == 0
    _, state, _ = told("status")
    assert state["level"] == "halt"
    assert breakers(state, "account")["manual"] == "frozen"

    code, refusal, err = told("unfreeze", "--reason", "over", "--generation", "0")
    assert (code, refusal["status"]) == (1, 409)
    assert "manual over account changed since generation 0" in err
    assert told("unfreeze", "--reason", "over", "--preview")[0] == 0
    assert told("status")[1]["level"] == "halt"
    assert told("unfreeze", "--reason", "over")[0] == 0
    assert told("status")[1]["level"] == "allow"


def test_trip_reset_disable_and_enable(sidecar: Start, told: Told) -> None:
    """Each command has its effect on one breaker."""
    running = sidecar()
    venue = ("venue:kraken", "--reason", "x", "--limit", "latency_p99")
    code, _, err = told("trip", *venue)
    assert code == 1
    assert "no scope 'venue:kraken'" in err
    running.send({"type": "latency", "venue": "kraken", "operation": "add", "seconds": 0.1})
    for action, after in (
        (("trip", *venue), "open"),
        (("reset", *venue), "closed"),
        (("disable", *venue, "--for", "60"), "disabled"),
        (("enable", *venue), "closed"),
    ):
        assert told(*action)[0] == 0
        assert breakers(told("status")[1], "venue:kraken")["latency_p99"] == after


def test_an_open_breaker_cannot_be_disabled(sidecar: Start, told: Told) -> None:
    """Disabling an open breaker is refused; a second freeze is not."""
    sidecar()
    assert told("freeze", "--reason", "x")[0] == 0
    assert told("freeze", "--reason", "again")[0] == 0
    assert told("disable", "--reason", "x", "--limit", "manual")[0] == 1
    assert told("status")[1]["level"] == "halt"


def test_over_a_unix_socket(sidecar: Start, told: Told) -> None:
    """The commands work over the Unix socket."""
    sidecar(f'unix = "{Path.cwd() / "sock"}"')
    assert told("freeze", "--reason", "x", "--url", f"unix://{Path.cwd() / 'sock'}")[0] == 0
    assert told("status")[1]["level"] == "halt"


def test_drill_and_freeze_with_the_reference_oms(sidecar: Start, told: Told) -> None:
    """A drill's time is measured; after a confirmed cancel --force is not needed."""
    private("secret", SECRET)
    options = ("--listen", "127.0.0.1:0", "--secret-file", "secret")
    oms = subprocess.Popen(
        [sys.executable, "-m", "riskmon", "oms", *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with oms:
        try:
            assert oms.stdout is not None
            url = json.loads(oms.stdout.readline())["url"]
            sidecar(f'[[cancel]]\nname = "oms"\nurl = "{url}"\nsecret_file = "secret"')
            code, drills, _ = told("drill")
            assert (code, drills[0]["ok"]) == (0, True)
            assert drills[0]["seconds"] > 0
            assert told("status")[1]["level"] == "allow"
            assert told("freeze", "--reason", "drill")[0] == 0
            wait_for(lambda: told("unfreeze", "--reason", "over")[0] == 0)
        finally:
            oms.terminate()
    assert oms.returncode == 0


def test_an_unconfirmed_cancel_keeps_a_freeze(sidecar: Start, told: Told) -> None:
    """A freeze whose cancel is not confirmed ends only with --force."""
    sidecar(
        f'[[cancel]]\nname = "oms"\nurl = "http://127.0.0.1:{free_port()}/c"\nsecret = "{SECRET}"'
    )
    assert told("freeze", "--reason", "drill")[0] == 0
    code, refusal, err = told("unfreeze", "--reason", "over")
    assert (code, refusal["status"]) == (1, 409)
    assert "confirm" in err
    assert told("unfreeze", "--reason", "over", "--force")[0] == 0
    assert told("status")[1]["level"] == "allow"


def test_a_limit_that_would_trip_again_is_not_reset(sidecar: Start, told: Told) -> None:
    """The violation is printed with its value; --rebase makes the present equity the capital."""
    running = sidecar('[portfolio]\ninitial_capital = 1000\nvenues = ["kraken"]')
    running.send({"type": "balances", "venue": "kraken", "assets": {"USDT": {"free": 900}}})
    assert breakers(told("status")[1], "account")["portfolio_loss"] == "open"
    code, refusal, _ = told("reset", "--reason", "over")
    assert (code, refusal["status"]) == (1, 409)
    again = [(w["limit"], w["value"], w["bound"]) for w in refusal["would_trip"]]
    assert again == [("portfolio_loss", pytest.approx(0.1), 0.05)]
    assert told("reset", "--reason", "over", "--rebase")[0] == 0
    assert told("status")[1]["level"] == "allow"


def test_near_names_of_a_scope_and_a_limit(sidecar: Start, told: Told) -> None:
    """The refusal of an unknown name lists similar names."""
    running = sidecar()
    running.send({"type": "latency", "venue": "kraken", "operation": "add", "seconds": 0.1})
    code, _, err = told("freeze", "venue:krakn", "--reason", "x")
    assert code == 1
    assert "no scope 'venue:krakn'; near: venue:kraken" in err
    arguments = ("venue:kraken", "--limit", "latency_p9", "--reason", "x")
    assert "; near: latency_p99" in told("reset", *arguments)[2]


def test_incidents_survive_a_restart(sidecar: Start, told: Told) -> None:
    """The audit trail contains caller, reason and refusals, also after a restart."""
    first = sidecar()
    told("freeze", "--reason", "first drill")
    told("unfreeze", "--reason", "too early", "--generation", "0")
    assert "stopped in order" in first.stop()
    assert told("status")[0] == 3
    sidecar()
    code, answer, _ = told("incidents")
    assert code == 0
    trail = [(r["kind"], r["action"], r["reason"]) for r in answer["incidents"]]
    assert ("operation", "freeze", "first drill") in trail
    assert ("operation", "unfreeze", "too early") in trail
    assert told("status")[1]["level"] == "halt"
    assert [r["id"] for r in told("incidents", "--count", "1")[1]["incidents"]] == [
        answer["incidents"][0]["id"]
    ]


def test_tables_of_a_real_sidecar(sidecar: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """The tables contain the breaker, its reason, and that there is no cancel target."""
    sidecar()
    assert run(["freeze", "--reason", "for [people]"]) == 0
    assert run(["status"]) == 0
    assert run(["incidents"]) == 0
    shown = capsys.readouterr().out
    assert "halt, generation 1" in shown
    assert "account manual: no target" in shown
    assert shown.count("for [people]") == 4


def test_without_the_operators_token_nothing_is_changed(sidecar: Start, told: Told) -> None:
    """Another token is refused and the gate does not change.

    Over the Unix socket the sidecar refuses it; elsewhere its answer proves nothing.
    """
    running = sidecar()
    private("other", "x" * 43)
    freeze = ("freeze", "--reason", "x", "--token-file", "other")
    assert told(*freeze)[0] == 1
    assert told(*freeze, "--url", running.url)[0] == 3
    assert told("status")[1]["level"] == "allow"


def test_backup_of_a_running_sidecar(
    sidecar: Start, told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backup of a running sidecar can be restored after its stop; it contains the freeze."""
    running = sidecar()
    told("freeze", "--reason", "drill")
    assert run(["backup", "copy.db"]) == 0
    assert run(["restore", "copy.db"]) == 2
    capsys.readouterr()
    told("unfreeze", "--reason", "over")
    running.stop()
    assert run(["restore", "copy.db"]) == 0
    capsys.readouterr()
    sidecar()
    assert told("status")[1]["level"] == "halt"


# -- faults that prevent a start ------------------------------------------------------------------


def refused(config: Path) -> str:
    """Return the one line that `riskmon run` prints when it does not start; it exits with 2."""
    process = spawned(config)
    try:
        log, _ = process.communicate(timeout=SECONDS_MAX)
    finally:
        process.kill()
    assert process.returncode == 2, log
    assert log.startswith("riskmon: ")
    assert log.count("\n") == 1
    return log


def test_a_port_in_use() -> None:
    """The line names the address and the remedy."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}: the address is in use" in refused(
            configured(port)
        )


@pytest.mark.parametrize("place", ["state", "gate"])
def test_unusable_paths(place: str) -> None:
    """A state directory that is a file and a gate that is a directory are refused."""
    config = configured(free_port())
    Path("state").touch() if place == "state" else Path("gate").mkdir()
    assert str(Path.cwd() / place) in refused(config)


def test_a_second_sidecar_leaves_the_first_alone(sidecar: Start, told: Told) -> None:
    """A second sidecar on the same state does not start; the first one is not affected."""
    sidecar()
    assert "in use by another riskmon" in refused(Path("riskmon.toml"))
    assert told("status")[1]["level"] == "allow"
