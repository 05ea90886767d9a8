"""The commands: their answers, their exit codes, and what they send to a sidecar."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from riskmon.auth import proof
from riskmon.cli import run
from riskmon.cli.tables import figure
from riskmon.journal import Commit, Journal
from tests.support import ROOT
from tests.support.files import private

SECRET = "whsec_" + "A" * 32
BREAKERS = [
    {
        "limit": "latency_p99",
        "scope": "venue:kraken",
        "state": "open",
        "generation": 6,
        "since": "2026-01-02T03:04:05.678Z",
        "reason": "P99 0.243 s over 0.2 s [1000 samples]",
    },
    {"limit": "manual", "scope": "account", "state": "frozen", "generation": 7, "reason": "drill"},
]
TOKENS = ("secret-token", "from-state")
STATE = {"account": "main", "generation": 7, "level": "halt", "breakers": BREAKERS}


class Sidecar(BaseHTTPRequestHandler):
    """Answers as a sidecar does and records the requests."""

    asked: ClassVar[list[tuple[str, str | None, Any]]] = []
    answers: ClassVar[dict[str, tuple[int, Any]]] = {}

    def do_GET(self) -> None:
        """Answer a GET."""
        self._answer(None)

    def do_POST(self) -> None:
        """Answer a POST."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == proof.CHALLENGE_PATH:
            self._send(200, b'{"nonce":"0123456789abcdef","seconds":10}', None)
        else:
            self._answer(json.loads(body))

    def _answer(self, body: Any) -> None:
        signer = self._signer()
        who = f"signed by {signer}" if signer else self.headers["Authorization"]
        self.asked.append((self.path, who, body))
        status, answer = self.answers[self.path]
        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self._send(status, text, signer)

    def _signer(self) -> str | None:
        """Return the token that signed the request."""
        headers = dict(self.headers.items())
        return next(
            (
                token
                for token in TOKENS
                if proof.signs_request(proof.key_of(token), headers, self.command, self.path)
            ),
            None,
        )

    def _send(self, status: int, text: bytes, signer: str | None) -> None:
        self.send_response(status)
        if signer:
            key, nonce = proof.key_of(signer), self.headers[proof.NONCE]
            signature = proof.answer_signature(key, nonce, status, text)
            self.send_header(proof.SIGNATURE, signature)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class UnixServer(HTTPServer):
    """An HTTP server on a Unix socket."""

    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        """Bind without a host name, which a socket's path does not have."""
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0


CHANGES = ("freeze", "unfreeze", "trip", "reset", "disable", "enable")


def serving(server: HTTPServer) -> Iterator[HTTPServer]:
    """Run the server until the test ends."""
    Sidecar.asked.clear()
    done = {"detail": "1 breaker", "generation": 8, "level": "halt", "breakers": BREAKERS[1:]}
    Sidecar.answers.clear()
    Sidecar.answers.update(
        {
            "/v1/state": (200, STATE),
            "/v1/incidents?limit=50": (200, {"incidents": [{"id": "inc_1", "kind": "trip"}]}),
            **{f"/v1/{action}": (200, done) for action in (*CHANGES, "permit")},
        }
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def program(
    *arguments: str, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m riskmon` with these arguments until it ends."""
    return subprocess.run(
        [sys.executable, "-m", "riskmon", *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "HOME": str(cwd), **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of a sidecar on a port of its own."""
    for server in serving(HTTPServer(("127.0.0.1", 0), Sidecar)):
        yield f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def closed_url() -> Iterator[str]:
    """The URL of a bound port on which no process listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file with the operator's token."""
    file = tmp_path / "given.token"
    private(file, "secret-token\n")
    return file


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own configuration out of the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("riskmon.settings.sources.FILES", (Path("riskmon.toml"),))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


# -- operating ------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["freeze", "trip", "enable", "disable"])
def test_a_change_sends_scope_reason_and_token(action: str, url: str, token_file: Path) -> None:
    """The command sends exactly its arguments, signed by the operator's token."""
    arguments = [action, "venue:kraken", "--reason", "slow", "--limit", "latency_p99"]
    assert run([*arguments, "--url", url, "--token-file", str(token_file)]) == 0
    body = {"scope": "venue:kraken", "reason": "slow", "limit": "latency_p99"}
    assert Sidecar.asked == [(f"/v1/{action}", "signed by secret-token", body)]


def test_disable_sends_its_duration(url: str, token_file: Path) -> None:
    """The duration in seconds is sent as `for`."""
    arguments = ["disable", "--reason", "maintenance", "--for", "60"]
    assert run([*arguments, "--url", url, "--token-file", str(token_file)]) == 0
    assert Sidecar.asked[0][2] == {"scope": "account", "reason": "maintenance", "for": 60}


def test_a_sidecar_on_a_unix_socket(tmp_path: Path, token_file: Path) -> None:
    """--url accepts the path of a socket."""
    path = tmp_path / "sock"
    for _ in serving(UnixServer(str(path), Sidecar)):  # type: ignore[arg-type]
        arguments = ["freeze", "--reason", "x", "--url", f"unix://{path}"]
        assert run([*arguments, "--token-file", str(token_file)]) == 0
    assert Sidecar.asked[0][:2] == ("/v1/freeze", "Bearer secret-token")


def test_unfreeze_shows_and_sends_the_current_generation(
    url: str, token_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --generation the state is read, shown and its generation sent."""
    arguments = ["unfreeze", "--reason", "over", "--url", url, "--token-file", str(token_file)]
    assert run(arguments) == 0
    assert [path for path, _, _ in Sidecar.asked] == ["/v1/state", "/v1/unfreeze"]
    assert Sidecar.asked[1][2] == {"scope": "account", "reason": "over", "generation": 7}
    shown = capsys.readouterr().out
    assert "generation 7:" in shown
    assert "manual" in shown
    assert "latency_p99" not in shown


def test_reset_shows_no_frozen_breaker(
    url: str, token_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reset lists what it addresses: open breakers, and not frozen ones, which it leaves."""
    is_open = {**BREAKERS[0], "limit": "portfolio_loss", "scope": "account"}
    Sidecar.answers["/v1/state"] = (200, {**STATE, "breakers": [is_open, BREAKERS[1]]})
    Sidecar.answers["/v1/reset"] = (200, {"detail": "done", "generation": 8, "level": "halt"})
    assert run(["reset", "--reason", "x", "--url", url, "--token-file", str(token_file)]) == 0
    shown = capsys.readouterr().out
    assert "portfolio_loss" in shown
    assert "manual" not in shown


def test_reset_sends_the_generation_that_is_given(url: str, token_file: Path) -> None:
    """With --generation the state is not read; 0 is a generation; flags are sent unchanged."""
    arguments = ["reset", "--reason", "x", "--generation", "0", "--force", "--rebase", "--preview"]
    assert run([*arguments, "--url", url, "--token-file", str(token_file)]) == 0
    assert [path for path, _, _ in Sidecar.asked] == ["/v1/reset"]
    assert Sidecar.asked[0][2] == {
        "scope": "account",
        "reason": "x",
        "generation": 0,
        "force": True,
        "preview": True,
        "rebase": True,
    }


@pytest.mark.parametrize("action", ["freeze", "unfreeze", "trip", "reset", "disable", "enable"])
def test_a_change_needs_a_reason(action: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a reason nothing is sent; the exit code is that of bad usage."""
    assert run([action, "--url", url]) == 2
    assert Sidecar.asked == []
    assert "--reason" in capsys.readouterr().err


def test_a_refusal_is_printed_and_exits_1(
    url: str, token_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sidecar's detail is printed, and the limits that would trip again."""
    would_trip = [{"limit": "loss", "scope": "account", "value": 9, "bound": 5}]
    Sidecar.answers["/v1/reset"] = (409, {"detail": "it would trip", "would_trip": would_trip})
    arguments = ["reset", "--reason", "x", "--url", url, "--token-file", str(token_file)]
    assert run(arguments) == 1
    told = capsys.readouterr().err
    assert "riskmon: refused (409): it would trip" in told
    assert "loss account: value 9, bound 5" in told
    assert run([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["would_trip"] == would_trip


def test_an_unreachable_sidecar_exits_3(
    closed_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the URL that does not answer."""
    assert run(["status", "--url", closed_url]) == 3
    told = capsys.readouterr().err
    assert told.startswith(f"riskmon: no sidecar answers at {closed_url}: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize("answer", [b"<html>", ["unforeseen"], {"breakers": 1}])
def test_another_server_is_no_sidecar(
    answer: object, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An answer that is not a sidecar's exits with 3."""
    Sidecar.answers["/v1/state"] = (200, answer)
    assert run(["status", "--url", url]) == 3
    assert "no riskmon sidecar" in capsys.readouterr().err


def test_url_and_token_come_from_the_configuration(url: str, tmp_path: Path) -> None:
    """The URL and the token come from the listener and the state directory of the configuration."""
    private(tmp_path / "operator.token", "from-state")
    listen = url.removeprefix("http://")
    Path("my.toml").write_text(f'state_dir = "{tmp_path}"\n[http]\nunix = ""\nlisten = "{listen}"')
    assert run(["freeze", "--reason", "x", "--config", "my.toml"]) == 0
    assert Sidecar.asked[0][1] == "signed by from-state"


def test_an_invalid_configuration_does_not_prevent_a_freeze(url: str, token_file: Path) -> None:
    """With --url and --token-file the configuration is not read."""
    Path("riskmon.toml").write_text("not toml")
    assert run(["freeze", "--reason", "x", "--url", url]) == 2
    arguments = ["freeze", "--reason", "x", "--url", url, "--token-file", str(token_file)]
    assert run(arguments) == 0


def test_reading_without_a_token(url: str) -> None:
    """Without a token file, the state is read without a token."""
    assert run(["status", "--url", url]) == 0
    assert Sidecar.asked[0][1] is None


@pytest.mark.parametrize("given", ["ftp://x", "127.0.0.1:9788", "http://", "unix://", "http://h:x"])
def test_a_bad_url_is_bad_usage(given: str, token_file: Path) -> None:
    """An invalid URL is refused before a request."""
    assert run(["status", "--url", given, "--token-file", str(token_file)]) == 2


def test_a_given_token_file_must_exist(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing --token-file is bad usage, not a call without a token."""
    assert run(["status", "--url", url, "--token-file", "nowhere"]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err


def test_status_and_incidents_for_people(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables contain every breaker; brackets in a reason are not markup."""
    assert run(["status", "--url", url]) == 0
    shown = capsys.readouterr().out
    assert "account main: halt, generation 7" in shown
    assert "P99 0.243 s over 0.2 s [1000 samples]" in shown
    assert run(["incidents", "--url", url]) == 0
    assert "inc_1" in capsys.readouterr().out


def test_status_shows_the_portfolio(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All figures of the portfolio that are there; what is left out with its quantity."""
    portfolio = {
        "reference": "USDT",
        "equity": 1_210_000.000000001,
        "exposure": 5_000.0,
        "exposure_worst": 7_000.0,
        "leverage": 0.7,
        "strategies": [{"strategy": "mm1", "pnl": -12.5}],
        "venues": [{"venue": "kraken", "equity": 9_000.0, "pnl": 3.5, "leverage": 0.75}],
        "assets": [
            {"asset": "BTC", "quantity": -0.19999999999999996, "notional": -11_999.999999999998}
        ],
        "left_out": [{"asset": "XYZ", "quantity": 250.0}],
        "flows": [{"id": "d1", "venue": "kraken", "asset": "USDT", "amount": 1_234_567.891}],
        "transfers": [
            {"id": "t1", "asset": "BTC", "amount": 0.2, "source": "kraken", "destination": "mexc"}
        ],
        "differences": [{"venue": "kraken", "kind": "position", "count": 2}],
    }
    notices = [{"at": "2026-01-02T03:04:05Z", "text": "USDC is not at its peg of 1"}]
    state = {**STATE, "portfolio": portfolio, "notices": notices}
    Sidecar.answers["/v1/state"] = (200, state)
    assert run(["status", "--url", url]) == 0
    shown = capsys.readouterr().out
    assert "equity 1,210,000 USDT" in shown
    assert "exposure 5,000 USDT, with resting orders 7,000, leverage 0.7" in shown
    assert "left out 250 XYZ: no price" in shown
    assert re.search(r"mm1 +-12.5", shown)
    assert re.search(r"kraken +9,000 +3.5 +0.75", shown)
    assert re.search(r"BTC +-0.2 +-12,000", shown)
    assert "flow 1,234,567.89 USDT at kraken (d1): in no balance yet" in shown
    assert "transfer 0.2 BTC from kraken to mexc (t1): under way" in shown
    assert "differences kraken position: 2" in shown
    assert "notice 2026-01-02T03:04:05Z USDC is not at its peg of 1" in shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (99.999999, "100"),
        (0.1 + 0.2, "0.3"),
        (65_432.1, "65,432.10"),
        (-1e15, "-1,000,000,000,000,000"),
        (1e-8, "1e-08"),
    ],
)
def test_figures_for_people(value: float, text: str) -> None:
    """No digits that only rounding made, and no exponent for large amounts."""
    assert figure(value) == text


def test_status_says_that_equity_is_unknown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An account whose equity is unknown has no figure of it, and no 0."""
    portfolio = {"reference": "USDT", "equity": None}
    Sidecar.answers["/v1/state"] = (200, {**STATE, "portfolio": portfolio})
    assert run(["status", "--url", url]) == 0
    assert "equity unknown USDT" in capsys.readouterr().out


def test_status_and_incidents_for_programs(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints the sidecar's answer."""
    assert run(["status", "--url", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == STATE
    assert run(["incidents", "--url", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["incidents"][0]["id"] == "inc_1"


def test_a_reason_cannot_write_to_the_terminal(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control characters in a reason are not printed."""
    breaker = {**BREAKERS[0], "reason": "\x1b[2Jgone"}
    Sidecar.answers["/v1/state"] = (200, {**STATE, "breakers": [breaker]})
    assert run(["status", "--url", url]) == 0
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown
    assert "gone" in shown


# -- configuration --------------------------------------------------------------------------------


def test_check_config_names_every_fault(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All five faults are listed with their key paths; the exit code is 2."""
    monkeypatch.chdir(ROOT / "tests" / "settings" / "config")
    assert run(["check-config", "--config", "five_faults.toml"]) == 2
    expected = Path("five_faults.txt").read_text()
    assert capsys.readouterr().err == f"riskmon: {expected}"
    keys = ("lease", "http.listen", "portfolio.timezone", "limits.latency_p99.max", "cancel[0].url")
    assert all(f"  {key}: " in expected for key in keys)


def test_check_config_of_a_valid_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """It lists the enabled limits and warns of a missing cancel target."""
    Path("riskmon.toml").write_text("[limits.latency_p99]\nmax = 0.3")
    assert run(["check-config"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("riskmon.toml: no fault\n  latency_p99\n  error_streak (default)\n")
    assert "warning: no [[cancel]] target" in told.err


def test_run_refuses_a_faulty_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid configuration ends `run` with 2."""
    Path("riskmon.toml").write_text("lease = 0")
    assert run(["run"]) == 2
    assert "lease: must be at least 0.05" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["frezee"], ["status", "--nonsense"], ["token", "x"]])
def test_bad_usage_exits_2(arguments: list[str]) -> None:
    """An unknown command or option, or a missing option, exits with 2."""
    assert run(arguments) == 2


def test_a_token_and_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The line contains the token's hash, not the token, and is a valid configuration."""
    assert run(["token", 'bot "1"', "--role", "ingest", "--expires", "2027-01-01"]) == 0
    secret, line = capsys.readouterr().out.splitlines()
    assert secret not in line
    entry = tomllib.loads(line)["tokens"][0]
    assert entry["hash"] == f"sha256:{sha256(secret.encode()).hexdigest()}"
    Path("riskmon.toml").write_text(f"[http]\n{line}")
    assert run(["check-config"]) == 0


def test_a_locale_without_a_character(tmp_path: Path) -> None:
    """Where the encoding of the terminal lacks a character of a name, it is escaped."""
    arguments = ("token", "币安", "--role", "ingest")
    shown = program(*arguments, cwd=tmp_path, env={"PYTHONIOENCODING": "iso8859-9"})
    assert shown.returncode == 0, shown.stderr
    assert 'name = "\\u5e01\\u5b89"' in shown.stdout  # in TOML, the same name


def test_a_drill_without_targets_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """A drill without a cancel target is bad usage."""
    assert run(["drill"]) == 2
    assert "[[cancel]]" in capsys.readouterr().err


def test_a_drill_without_an_acknowledgement_exits_1(
    closed_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A target that does not acknowledge is listed as failed."""
    target = f'[[cancel]]\nname = "oms"\nurl = "{closed_url}/c"\nsecret = "{SECRET}"'
    Path("riskmon.toml").write_text(target)
    assert run(["drill", "--json"]) == 1
    assert [(d["target"], d["ok"]) for d in json.loads(capsys.readouterr().out)] == [("oms", False)]


def test_a_drill_prints_the_time_of_each_target(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The target receives a drill, not a cancel; its time is printed."""
    Sidecar.answers["/c"] = (200, {"status": "done", "canceled": 0, "open_orders": 0})
    target = f'[[cancel]]\nname = "oms"\nurl = "{url}/c"\nsecret = "{SECRET}"'
    Path("riskmon.toml").write_text(target)
    assert run(["drill", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["seconds"] > 0
    assert Sidecar.asked[0][2]["type"] == "drill"


# -- state ----------------------------------------------------------------------------------------


def test_backup_and_restore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A backup works while the journal is in use; a restore only when it is not."""
    Path("riskmon.toml").write_text(f'state_dir = "{tmp_path / "s"}"')
    journal = Journal.open(tmp_path / "s")
    try:
        journal.submit(Commit(), lambda _: None)
        assert run(["backup", "copy.db"]) == 0
        assert run(["backup", "copy.db"]) == 2
        assert "copy.db exists" in capsys.readouterr().err
        assert run(["backup", "copy.db", "--overwrite"]) == 0
        assert run(["restore", "copy.db"]) == 2
        assert "in use by another riskmon" in capsys.readouterr().err
    finally:
        journal.close(clean=True)
    assert run(["restore", "copy.db"]) == 0
    assert "is kept as" in capsys.readouterr().out


# -- export ---------------------------------------------------------------------------------------


def test_export_writes_rules_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """The files are copied unchanged; existing ones are replaced only with --force."""
    assert run(["export", "out"]) == 0
    told = capsys.readouterr().out.split()
    rules = Path("out/alerts/rules/riskmon.yml")
    assert {str(rules), "out/alerts/alertmanager.yml"} <= set(told)
    assert rules.read_bytes() == (ROOT / "alerts" / "rules" / "riskmon.yml").read_bytes()
    rules.write_text("changed")
    Path("out/alerts/runbook.md").unlink()
    assert run(["export", "out"]) == 2
    assert str(rules) in capsys.readouterr().err
    assert not Path("out/alerts/runbook.md").exists()
    assert run(["export", "out", "--force"]) == 0
    assert rules.read_text() != "changed"


def test_export_of_an_installed_package(tmp_path: Path) -> None:
    """In an installed package, its share/ is the source."""
    site = tmp_path / "site"
    shutil.copytree(ROOT / "riskmon", site / "riskmon")
    shutil.copytree(ROOT / "alerts", site / "riskmon" / "share" / "alerts")
    process = program("export", "out", env={"PYTHONPATH": str(site)}, cwd=tmp_path)
    assert process.returncode == 0
    assert (tmp_path / "out" / "alerts" / "rules" / "riskmon.yml").exists()


def test_export_to_an_unwritable_place(capsys: pytest.CaptureFixture[str]) -> None:
    """One line names the file that cannot be written."""
    Path("out").write_text("")
    assert run(["export", "out/deeper"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("Error: cannot write out/deeper/")
    assert told.count("\n") == 1


# -- the program ----------------------------------------------------------------------------------


def test_an_internal_failure_is_one_line(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception exits with 4; the traceback is printed with --debug only."""

    def fail(*_: object) -> None:
        raise AttributeError("unexpected")

    monkeypatch.setattr("riskmon.cli.tables.show_state", fail)
    assert run(["status", "--url", url]) == 4
    told = capsys.readouterr().err
    assert told.startswith("riskmon: internal failure: AttributeError: ")
    assert told.count("\n") == 1
    assert run(["--debug", "status", "--url", url]) == 4
    assert "Traceback" in capsys.readouterr().err


def test_a_permit_sends_what_it_is_for(url: str, token_file: Path) -> None:
    """The order that a permit is for: its symbol, and what else is given."""
    arguments = ["permit", "venue:kraken", "--symbol", "BTC/USDT", "--reason", "close"]
    connection = ["--url", url, "--token-file", str(token_file)]
    assert run([*arguments, *connection]) == 0
    more = ["--side", "sell", "--quantity", "0.5", "--leg", "long", "--for", "30"]
    assert run([*arguments, *more, *connection]) == 0
    body = {"scope": "venue:kraken", "symbol": "BTC/USDT", "reason": "close"}
    assert [asked[2] for asked in Sidecar.asked] == [
        body,
        {**body, "side": "sell", "quantity": "0.5", "leg": "long", "for": 30},
    ]


def test_the_program_exits_with_the_code(tmp_path: Path) -> None:
    """`python -m riskmon` exits with the command's code and without a traceback."""
    (tmp_path / "riskmon.toml").write_text("lease = 0")
    process = program("check-config", cwd=tmp_path)
    assert process.returncode == 2
    assert process.stderr.startswith("riskmon: 1 fault in riskmon.toml\n")
    assert "Traceback" not in process.stderr


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """--help lists every command."""
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    names = "run check-config status freeze unfreeze trip reset disable enable incidents drill "
    names += "permit token backup restore export demo oms"
    assert [name for name in names.split() if f"\n  {name} " not in shown] == []
