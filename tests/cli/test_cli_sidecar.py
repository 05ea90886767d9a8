"""The commands against a running sidecar, and the faults that prevent its start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from riskmon.cli import run
from tests.support.files import private
from tests.support.ports import free_port
from tests.support.programs import environment
from tests.support.sidecar import Sidecar
from tests.support.waiting import PATIENCE_SECONDS, eventually
from tests.support.webhooks import SECRET

pytestmark = pytest.mark.slow

Told = Callable[..., tuple[int, Any, str]]
Start = Callable[..., Sidecar]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the configuration of this machine."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RISKMON_")]:
        monkeypatch.delenv(name)


def configured(tmp_path: Path, more: str = "", *, unix: str = "") -> Sidecar:
    """Write the configuration that the commands find in this directory; it names the port."""
    http = f'listen = "127.0.0.1:{free_port()}"\n{unix}'
    return Sidecar(tmp_path, more, http=http, account="cli")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start sidecars and wait until each is ready; kill what still runs at the end."""
    with ExitStack() as stack:

        def start(more: str = "", *, unix: str = "") -> Sidecar:
            return stack.enter_context(configured(tmp_path, more, unix=unix)).start_ready()

        yield start


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any, str]]:
    """Run a command with --json; return its exit code, its answer and its stderr."""

    def tell(*arguments: str) -> tuple[int, Any, str]:
        code = run([*arguments, "--json"])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, json.loads(out) if out else None, err

    return tell


def breakers(state: Any, scope: str) -> dict[str, str]:
    """Return the states of a scope's breakers by limit."""
    return {b["limit"]: b["state"] for b in state["breakers"] if b["scope"] == scope}


# -- operating ------------------------------------------------------------------------------------


def test_freeze_and_unfreeze(start: Start, told: Told) -> None:
    """A freeze halts the account until an unfreeze with the seen generation."""
    start()
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


def test_trip_reset_disable_and_enable(start: Start, told: Told) -> None:
    """Each command has its effect on one breaker."""
    sidecar = start()
    venue = ("venue:kraken", "--reason", "x", "--limit", "latency_p99")
    code, _, err = told("trip", *venue)
    assert code == 1
    assert "no scope 'venue:kraken'" in err
    sidecar.events({"type": "latency", "venue": "kraken", "operation": "add", "seconds": 0.1})
    for action, after in (
        (("trip", *venue), "open"),
        (("reset", *venue), "closed"),
        (("disable", *venue, "--for", "60"), "disabled"),
        (("enable", *venue), "closed"),
    ):
        assert told(*action)[0] == 0
        assert breakers(told("status")[1], "venue:kraken")["latency_p99"] == after


def test_an_open_breaker_cannot_be_disabled(start: Start, told: Told) -> None:
    """Disabling an open breaker is refused; a second freeze is not."""
    start()
    assert told("freeze", "--reason", "x")[0] == 0
    assert told("freeze", "--reason", "again")[0] == 0
    assert told("disable", "--reason", "x", "--limit", "manual")[0] == 1
    assert told("status")[1]["level"] == "halt"


def test_over_a_unix_socket(start: Start, told: Told) -> None:
    """The commands work over the Unix socket."""
    start(unix=f'unix = "{Path.cwd() / "sock"}"')
    assert told("freeze", "--reason", "x", "--url", f"unix://{Path.cwd() / 'sock'}")[0] == 0
    assert told("status")[1]["level"] == "halt"


def test_drill_and_freeze_with_the_reference_oms(start: Start, told: Told) -> None:
    """A drill's time is measured; after a confirmed cancel --force is not needed."""
    private("secret", SECRET)
    options = ("--listen", "127.0.0.1:0", "--secret-file", "secret")
    oms = subprocess.Popen(
        [sys.executable, "-m", "riskmon", "oms", *options],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with oms:
        try:
            assert oms.stdout is not None
            url = json.loads(oms.stdout.readline())["url"]
            start(f'[[cancel]]\nname = "oms"\nurl = "{url}"\nsecret_file = "secret"')
            code, drills, _ = told("drill")
            assert (code, drills[0]["ok"]) == (0, True)
            assert drills[0]["seconds"] > 0
            assert told("status")[1]["level"] == "allow"
            assert told("freeze", "--reason", "drill")[0] == 0
            eventually(lambda: told("unfreeze", "--reason", "over")[0] == 0)
        finally:
            oms.terminate()
    assert oms.returncode == 0


def test_an_unconfirmed_cancel_keeps_a_freeze(start: Start, told: Told) -> None:
    """A freeze whose cancel is not confirmed ends only with --force."""
    start(
        f'[[cancel]]\nname = "oms"\nurl = "http://127.0.0.1:{free_port()}/c"\nsecret = "{SECRET}"'
    )
    assert told("freeze", "--reason", "drill")[0] == 0
    code, refusal, err = told("unfreeze", "--reason", "over")
    assert (code, refusal["status"]) == (1, 409)
    assert "confirm" in err
    assert told("unfreeze", "--reason", "over", "--force")[0] == 0
    assert told("status")[1]["level"] == "allow"


def test_a_limit_that_would_trip_again_is_not_reset(start: Start, told: Told) -> None:
    """The violation is printed with its value; --rebase makes the present equity the capital."""
    sidecar = start('[portfolio]\ninitial_capital = 1000\nvenues = ["kraken"]')
    sidecar.events({"type": "balances", "venue": "kraken", "assets": {"USDT": {"free": 900}}})
    assert breakers(told("status")[1], "account")["portfolio_loss"] == "open"
    code, refusal, _ = told("reset", "--reason", "over")
    assert (code, refusal["status"]) == (1, 409)
    again = [(w["limit"], w["value"], w["bound"]) for w in refusal["would_trip"]]
    assert again == [("portfolio_loss", pytest.approx(0.1), 0.05)]
    assert told("reset", "--reason", "over", "--rebase")[0] == 0
    assert told("status")[1]["level"] == "allow"


def test_near_names_of_a_scope_and_a_limit(start: Start, told: Told) -> None:
    """The refusal of an unknown name lists similar names."""
    sidecar = start()
    sidecar.events({"type": "latency", "venue": "kraken", "operation": "add", "seconds": 0.1})
    code, _, err = told("trip", "venue:krakn", "--reason", "x")
    assert code == 1
    assert "no scope 'venue:krakn'; near: venue:kraken" in err
    code, frozen, _ = told("freeze", "venue:krakn", "--reason", "x")
    assert (code, frozen["level"]) == (0, "halt")
    assert "registered; known are venue:kraken" in frozen["detail"]
    assert told("freeze", "krakn", "--reason", "x")[0] == 1
    arguments = ("venue:kraken", "--limit", "latency_p9", "--reason", "x")
    assert "; near: latency_p99" in told("reset", *arguments)[2]


def test_incidents_survive_a_restart(start: Start, told: Told) -> None:
    """The audit trail contains caller, reason and refusals, also after a restart."""
    first = start()
    told("freeze", "--reason", "first drill")
    told("unfreeze", "--reason", "too early", "--generation", "0")
    assert first.end(signal.SIGTERM) == 0
    assert "stopped in order" in first.output()
    assert told("status")[0] == 3
    start()
    code, answer, _ = told("incidents")
    assert code == 0
    trail = [(r["kind"], r["action"], r["reason"]) for r in answer["incidents"]]
    assert ("operation", "freeze", "first drill") in trail
    assert ("operation", "unfreeze", "too early") in trail
    assert told("status")[1]["level"] == "halt"
    assert [r["id"] for r in told("incidents", "--count", "1")[1]["incidents"]] == [
        answer["incidents"][0]["id"]
    ]


def test_tables_of_a_real_sidecar(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """The tables contain the breaker, its reason, and that there is no cancel target."""
    start()
    assert run(["freeze", "--reason", "for [people]"]) == 0
    assert run(["status"]) == 0
    assert run(["incidents"]) == 0
    shown = capsys.readouterr().out
    assert "halt, generation 1" in shown
    assert "account manual: no target" in shown
    assert shown.count("for [people]") == 4


def test_without_the_operators_token_nothing_is_changed(start: Start, told: Told) -> None:
    """Another token is refused and the gate does not change.

    Over the Unix socket the sidecar refuses it; elsewhere its answer proves nothing.
    """
    sidecar = start()
    private("other", "x" * 43)
    freeze = ("freeze", "--reason", "x", "--token-file", "other")
    assert told(*freeze)[0] == 1
    assert told(*freeze, "--url", sidecar.url)[0] == 3
    assert told("status")[1]["level"] == "allow"


def test_backup_of_a_running_sidecar(
    start: Start, told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backup of a running sidecar can be restored after its stop; it contains the freeze."""
    sidecar = start()
    told("freeze", "--reason", "drill")
    assert run(["backup", "copy.db"]) == 0
    assert run(["restore", "copy.db"]) == 2
    capsys.readouterr()
    told("unfreeze", "--reason", "over")
    assert sidecar.end(signal.SIGTERM) == 0
    assert run(["restore", "copy.db"]) == 0
    capsys.readouterr()
    start()
    assert told("status")[1]["level"] == "halt"


# -- what keeps it from starting ------------------------------------------------------------------


def refused(config: Path) -> str:
    """Return what `riskmon run` says when it does not start: one line, with exit code 2."""
    command = [sys.executable, "-m", "riskmon", "run", "--config", str(config)]
    ran = subprocess.run(
        command,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ran.returncode == 2, ran.stdout
    assert ran.stdout.startswith("riskmon: ")
    assert ran.stdout.count("\n") == 1
    return ran.stdout


def test_a_port_in_use(tmp_path: Path) -> None:
    """The line names the address and the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        sidecar = Sidecar(tmp_path, http=f'listen = "127.0.0.1:{port}"')
        message = f"cannot listen on 127.0.0.1:{port}: the address is in use"
        assert message in refused(sidecar.config)


@pytest.mark.parametrize("place", ["state", "gate"])
def test_unusable_paths(place: str, tmp_path: Path) -> None:
    """A state directory that is a file and a gate that is a directory are refused."""
    sidecar = configured(tmp_path)
    at = {"state": sidecar.state_dir, "gate": sidecar.gate_path}[place]
    at.touch() if place == "state" else at.mkdir()
    assert str(at) in refused(sidecar.config)


def test_a_second_sidecar_leaves_the_first_alone(start: Start, told: Told) -> None:
    """A second sidecar on the same state does not start; the first one is not affected."""
    sidecar = start()
    assert "in use by another riskmon" in refused(sidecar.config)
    assert told("status")[1]["level"] == "allow"
