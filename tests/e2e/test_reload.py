"""A reload changes what it may, refuses what is wrong whole, and names what needs a restart."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.support.sidecar import QUICK_LATENCY, Make, Sidecar
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

TIGHTER = QUICK_LATENCY.replace("max = 0.2", "max = 0.15")
SUCCESS = "riskmon_config_last_reload_successful"


def bound(sidecar: Sidecar) -> Any:
    """The bound in force over a venue."""
    limits = sidecar.state()["limits"]
    return next(row["bound"] for row in limits if row["scope"] == "venue:kraken")


@pytest.fixture
def sidecar(make: Make) -> Sidecar:
    started = make(QUICK_LATENCY).start()
    started.events({"type": "heartbeat", "venue": "kraken"})
    assert bound(started) == 0.2
    return started


def reload(sidecar: Sidecar) -> tuple[int, Any]:
    status, body = sidecar.request("POST", "/-/reload", operator=True)
    return status, json.loads(body)


def test_a_reload_changes_a_bound_live(sidecar: Sidecar) -> None:
    """The new bound applies to the next samples; state is kept."""
    assert sidecar.metric(SUCCESS) == 1
    sidecar.configure(TIGHTER)
    assert reload(sidecar) == (200, {"needs_restart": []})
    assert bound(sidecar) == 0.15
    sidecar.events(*[{"type": "latency", "venue": "kraken", "seconds": 0.18}] * 2)
    assert sidecar.breaker("latency_p99", "venue:kraken")["state"] == "open"
    sidecar.configure(QUICK_LATENCY)
    assert reload(sidecar)[0] == 200
    assert sidecar.breaker("latency_p99", "venue:kraken")["state"] == "open"


def test_sighup_reloads(sidecar: Sidecar) -> None:
    """The signal does what the call does; a bad file is named in the log."""
    sidecar.configure(TIGHTER)
    sidecar.send(signal.SIGHUP)
    eventually(lambda: bound(sidecar) == 0.15, "the new bound")
    sidecar.configure("[limits.latency_p99]\nmax = -1")
    sidecar.send(signal.SIGHUP)
    eventually(lambda: sidecar.metric(SUCCESS) == 0, "the refusal")
    assert bound(sidecar) == 0.15
    assert sidecar.logs("limits.latency_p99.max")


def test_a_bad_file_keeps_the_old_one(sidecar: Sidecar) -> None:
    """Every fault is named, nothing changes, and a metric shows it until a good reload."""
    sidecar.configure("[limits.latency_p99]\nmax = -1\nwindw = 5\n")
    status, refusal = reload(sidecar)
    assert status == 400
    assert [fault["path"] for fault in refusal["faults"]] == [
        "limits.latency_p99.max",
        "limits.latency_p99.windw",
    ]
    assert bound(sidecar) == 0.2
    assert sidecar.metric(SUCCESS) == 0
    sidecar.config.write_text("this is = no toml = at all")
    assert len(reload(sidecar)[1]["faults"]) == 1
    sidecar.configure(TIGHTER)
    assert reload(sidecar)[0] == 200
    assert sidecar.metric(SUCCESS) == 1
    assert bound(sidecar) == 0.15


def test_a_token_file_that_others_can_read_keeps_the_old_rules(sidecar: Sidecar) -> None:
    """It is a fault of the reload, as at a start, and nothing of the file is taken."""
    sidecar.configure(TIGHTER)
    (sidecar.state_dir / "operator.token").chmod(0o644)
    status, refusal = reload(sidecar)
    assert (status, [fault["path"] for fault in refusal["faults"]]) == (400, ["operator.token"])
    assert "can be read by other users" in refusal["faults"][0]["message"]
    assert bound(sidecar) == 0.2
    (sidecar.state_dir / "operator.token").chmod(0o600)
    assert reload(sidecar)[0] == 200
    assert bound(sidecar) == 0.15


def test_what_needs_a_restart_is_named_and_kept(sidecar: Sidecar) -> None:
    """The rest of the file is taken all the same."""
    sidecar.configure(TIGHTER, top="lease = 0.25\nmax_scopes = 99")
    assert reload(sidecar) == (200, {"needs_restart": ["lease", "max_scopes"]})
    assert bound(sidecar) == 0.15
    answer = sidecar.events({"type": "heartbeat", "venue": "kraken"})
    assert answer["lease"] == 0.5


def test_another_reference_needs_a_restart_and_then_a_rebase(sidecar: Sidecar) -> None:
    """A reload keeps the reference and takes the other keys of its table; a start holds."""
    venues = 'venues = ["kraken"]\n'
    sidecar.configure(f"{QUICK_LATENCY}[portfolio]\n{venues}")
    assert reload(sidecar) == (200, {"needs_restart": []})
    sidecar.events({"type": "balances", "venue": "kraken", "assets": {"USDT": {"free": 1_000}}})
    sidecar.configure(f'{QUICK_LATENCY}[portfolio]\nreference = "EUR"\npegs = {{ USDT = 0.5 }}')
    assert reload(sidecar) == (200, {"needs_restart": ["portfolio.reference"]})
    assert sidecar.state()["portfolio"]["reference"] == "USDT"
    sidecar.configure(
        f'{QUICK_LATENCY}[portfolio]\n{venues}reference = "EUR"\npegs = {{ USDT = 0.5 }}'
    )
    sidecar.end(signal.SIGTERM)
    sidecar.start()
    assert sidecar.state()["level"] == "halt"
    seen = sidecar.state()["generation"]
    assert sidecar.operate("reset", generation=seen)[0] == 409
    status, answer = sidecar.operate("reset", generation=seen, rebase=True)
    assert (status, answer["level"]) == (200, "allow")
    assert sidecar.state()["portfolio"]["initial_capital"] == 500


def test_a_removed_limits_open_breaker_lives_until_reset(sidecar: Sidecar) -> None:
    """Taking a limit out of the file must not open the gate that it shut."""
    sidecar.events(*[{"type": "latency", "venue": "kraken", "seconds": 0.9}] * 2)
    sidecar.configure("[limits.latency_p99]\nenabled = false")
    assert reload(sidecar)[0] == 200
    assert sidecar.breaker("latency_p99", "venue:kraken")["state"] == "open"
    assert sidecar.state()["gate"]["levels"]["venue:kraken"] == "halt"
    generation = sidecar.state()["generation"]
    assert sidecar.operate("reset", "venue:kraken", generation=generation)[0] == 200
    assert sidecar.breaker("latency_p99", "venue:kraken") == {}
    assert sidecar.state()["gate"]["levels"]["venue:kraken"] == "allow"


def test_a_file_that_came_later_is_read_and_named(make: Make) -> None:
    """After a start on defaults a reload reads the current ./riskmon.toml and logs its path."""
    sidecar = make()
    later = sidecar.config.read_text()
    sidecar.config.unlink()
    places = {
        "RISKMON_STATE_DIR": str(sidecar.state_dir),
        "RISKMON_GATE": str(sidecar.gate_path),
        "RISKMON_ACCOUNT": "test",
        "RISKMON_HTTP__LISTEN": "127.0.0.1:0",
    }
    sidecar.start(config=False, variables=places)
    sidecar.events({"type": "heartbeat", "venue": "kraken"})
    assert "configuration none (defaults)" in sidecar.output()
    assert reload(sidecar)[0] == 200
    assert sidecar.logs("reloaded; configuration none (defaults)")
    sidecar.config.write_text(later + TIGHTER)
    assert reload(sidecar) == (200, {"needs_restart": ["http.unix"]})
    assert bound(sidecar) == 0.15
    assert sidecar.logs("reloaded; configuration riskmon.toml")
