"""README.md says all that there is, and nothing that there is not."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
import pytest
import yaml

import riskmon
from riskmon.cli import commands
from riskmon.core.decisions import Sweep
from riskmon.core.events import Reported, parse_json
from riskmon.core.limits import LIMITS
from riskmon.core.limits.policy import Ceiling
from riskmon.core.view import View
from riskmon.gate import Gate, Level
from riskmon.gate_writer import GateWriter
from riskmon.metrics.table import TABLE
from riskmon.outbox.target import CancelTarget
from riskmon.outbox.webhook import payload
from riskmon.settings import load
from riskmon.settings.model import FileSettings
from riskmon.settings.schema import keys_of, paths
from riskmon.web import Change
from riskmon.web.access import INGEST, NONE, OPERATE, READ
from riskmon.web.app import PATHS
from riskmon.web.stream import ChangeKind
from tests.support import gate_in_c
from tests.support.files import private

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "alerts" / "runbook.md").read_text(encoding="utf-8")
SECRET = "whsec_" + "A" * 32
START_MAX_SECONDS = 20.0


def section(heading: str) -> str:
    """Give what stands between a heading and the next of its rank or above."""
    rank = heading.index(" ")
    found = re.search(
        rf"^{re.escape(heading)}\n(.*?)(?=^#{{2,{rank}}} |\Z)", README, re.DOTALL | re.MULTILINE
    )
    assert found, f"README.md has no {heading!r}"
    return found[1]


def table(heading: str, first: str) -> list[list[str]]:
    """Give the rows of the table under a heading whose first column is headed `first`."""
    rows: list[list[str]] = []
    inside = False
    for line in section(heading).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first:
            inside = True
        elif inside and not set(cells[0]) <= {"-", " "}:
            rows.append(cells)
    assert rows, f"no table of {first} under {heading!r}"
    return rows


def ticked(cell: str) -> list[str]:
    """Give what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def blocks(language: str, text: str = README) -> list[str]:
    """Give the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def typed(text: str) -> list[list[str]]:
    """Give the words of every command line: in backticks, and in blocks for a shell."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [*ticked(prose), *"\n".join(blocks("sh", text)).splitlines()]
    # Without comments, and without what is quoted: that is for another program.
    found = [re.sub("'[^']*'", "", line).partition("#")[0].split() for line in lines]
    return [words for words in found if len(words) > 1]


def subcommands() -> set[str]:
    """Give the names of all commands."""
    return set(commands.list_commands(click.Context(commands)))


# -- tables -----------------------------------------------------------------------------------


def test_every_command_is_documented() -> None:
    """The table of commands has each one once, and no other."""
    named = [ticked(row[0])[0].split()[1] for row in table("## Commands", "command")]
    assert sorted(named) == sorted(subcommands())


def test_every_exit_code_is_documented() -> None:
    """The codes that the commands end with are those of the table."""
    from riskmon.cli import BAD_USAGE, DONE, INTERNAL, REFUSED, UNREACHABLE

    named = [int(row[0]) for row in table("## Commands", "exit code")]
    assert named == [DONE, REFUSED, BAD_USAGE, UNREACHABLE, INTERNAL]


def test_every_metric_is_documented() -> None:
    """The table of metrics is that of the code: names, types and labels, in its order."""
    named = [
        (ticked(name)[0], kind, () if labels == "–" else tuple(labels.split(", ")))
        for name, kind, labels, _ in table("## Metrics", "metric")
    ]
    assert named == [(row.name, row.type, row.labels) for row in TABLE]


def test_every_limit_kind_is_documented() -> None:
    """The table of kinds has each one once, and no other."""
    named = [kind for row in table("### Limit kinds", "kind") for kind in ticked(row[0])]
    assert sorted(named) == sorted(LIMITS)


def test_the_keys_that_every_limit_takes_exist() -> None:
    """A key in the table of common keys is one."""
    named = [key for row in table("### Limit kinds", "key") for key in ticked(row[0])]
    assert set(named) - {"max"} <= set(keys_of(Ceiling))


def test_every_event_and_field_is_documented() -> None:
    """The table of events has each type with all its fields, the optional ones in brackets."""
    documented = {}
    for name, text in table("## Events", "type"):
        # Behind the fields, a colon, a bracket or a semicolon begins what they mean.
        fields = re.split(r"[:;(`]", re.sub(r"\(\w+(, \w+)*\)", "", text))[0]
        optional = re.search(r"\[(.*?)\]", fields)
        needed = re.sub(r"\[.*?\]", "", fields)
        documented[ticked(name)[0]] = (
            set(filter(None, map(str.strip, needed.split(",")))),
            set(map(str.strip, optional[1].split(","))) if optional else set(),
        )
    known = {}
    for kind in get_args(Reported):
        fields_of = msgspec.structs.fields(kind)
        known[str(kind.__struct_config__.tag)] = (
            {field.name for field in fields_of if field.required},
            {field.name for field in fields_of if not field.required and field.name != "at"},
        )
    assert documented == known


def test_every_event_of_the_stream_is_documented() -> None:
    """The table of the stream has each event with all its fields, and no other."""
    documented = {
        ticked(name)[0]: set(fields.split(", "))
        for name, _, fields in table("## The stream", "event")
    }
    known = {"state": {"as there"}}
    for kind in set(get_args(Change)) - {View}:
        names = (field.name for field in msgspec.structs.fields(kind))
        known[str(kind.__struct_config__.tag)] = {name.removesuffix("_ns") for name in names}
    known["transition"].add("change")
    assert documented == known


def test_every_change_of_a_transition_is_documented() -> None:
    """The words for what a transition is are those of the table."""
    named = [ticked(row[0])[0] for row in table("## The stream", "change")]
    assert sorted(named) == sorted(get_args(ChangeKind))


def test_every_endpoint_is_documented() -> None:
    """The table of endpoints has each call with the role that it takes, and no other."""
    roles = {NONE: "none", READ: "read", INGEST: "ingest", OPERATE: "operator"}
    known = {
        (f"{method} {path}", roles[route.right])
        for path, methods in PATHS.items()
        for method, route in methods.items()
    }
    named = [(ticked(call)[0], role) for call, role, _ in table("## Endpoints", "call")]
    assert sorted(named) == sorted(known)


# -- blocks that are read by a program ------------------------------------------------------------


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """Give the README's riskmon.toml as a file whose secret exists."""
    (text,) = blocks("toml")
    secret = tmp_path / "oms.secret"
    private(secret, SECRET)
    assert text.count("/etc/riskmon/oms.secret") == 1
    file = tmp_path / "riskmon.toml"
    file.write_text(text.replace("/etc/riskmon/oms.secret", str(secret)), encoding="utf-8")
    return file


def test_the_configuration_loads(configuration: Path, tmp_path: Path) -> None:
    """What README shows as riskmon.toml has no fault, and check-config says so."""
    settings = load(configuration, {"HOME": str(tmp_path)})
    assert settings.limits
    assert settings.cancel
    command = [sys.executable, "-m", "riskmon", "check-config", "--config", str(configuration)]
    run = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_the_configuration_names_every_key(configuration: Path) -> None:
    """The block shows every key that there is outside of the limits, commented out or not."""
    text = configuration.read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", re.sub(r"#(?! \w+ =).*", "", text)))
    ours = {path[-1] for path in paths(FileSettings)} | {*keys_of(CancelTarget)} - {"secret"}
    assert ours - words == set()


@pytest.mark.parametrize("block", blocks("python"))
def test_python_blocks_use_what_exists(block: str) -> None:
    """Every Python block compiles, and imports from riskmon only what it offers."""
    tree = ast.parse(block)
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "riskmon"
        for alias in node.names
    ]
    assert names
    assert set(names) <= set(riskmon.__all__)
    compile(tree, "README.md", "exec")


def test_named_methods_exist() -> None:
    """`risk.x` and `Gate.x` in the text are methods of the client and the gate."""
    from riskmon import Client

    assert set(re.findall(r"\brisk\.(\w+)\(", README)) <= set(dir(Client))
    assert set(re.findall(r"\bGate\.(\w+)\(", README)) <= set(dir(Gate))


@pytest.mark.parametrize("text", [README, RUNBOOK], ids=["README", "runbook"])
def test_named_commands_exist(text: str) -> None:
    """`riskmon x --option` in README and runbook is a command that takes the option."""
    lines = [words for words in typed(text) if words[0] == "riskmon"]
    assert lines
    for words in lines:
        command = commands.get_command(click.Context(commands), words[1])
        assert command is not None, words
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words[2:] if word.startswith("--")} <= options, words


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_named_targets_exist(name: str) -> None:
    """`make x` in README and CONTRIBUTING is a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    words = [line for line in typed((ROOT / name).read_text("utf-8")) if line[0] == "make"]
    named = {word for line in words for word in line[1:] if re.fullmatch("[a-z-]+", word)}
    assert named
    assert named - targets == set()


def test_named_metrics_exist() -> None:
    """A metric that the runbook or README names is exported."""
    known = {row.name for row in TABLE}
    said = set(re.findall(r"`(riskmon_[a-z_]+)", README + RUNBOOK))
    assert said - known == set()


def test_the_json_blocks_are_what_is_sent() -> None:
    """The webhook's keys are the payload's, and the events in the curl example are taken."""
    shown = [json.loads(block) for block in blocks("json")]
    (webhook,) = [one for one in shown if one.get("type") == "cancel_orders"]
    sweep = Sweep(
        **{field: webhook[field] for field in ("incident", "sweep", "generation", "scope")},
        **{field: webhook[field] for field in ("limit", "reason", "cancels", "flatten")},
        at_ns=1_767_323_045_678_000_000,
        targets=("oms",),
    )
    assert json.loads(payload(sweep, "main", "all")) == webhook
    sent = re.findall(r"-d '(\{.*?\})'", README)
    assert sent
    assert all(parse_json(event.encode(), 0) for event in sent)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_to_files(link: str) -> None:
    """What README links to in the repository is there."""
    assert (ROOT / link).exists()


def test_links_lead_to_headings() -> None:
    """What README links to in itself is there."""
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


def test_prometheus_takes_the_scrape_configuration(
    tool: Callable[[str], Path], tmp_path: Path
) -> None:
    """promtool finds no fault in the scrape configuration, with the rules from `riskmon export`."""
    (block,) = blocks("yaml", section("## Prometheus, Alertmanager, Grafana"))
    export = [sys.executable, "-m", "riskmon", "export", str(tmp_path / "riskmon")]
    subprocess.run(export, env=environment(), cwd=tmp_path, check=True, capture_output=True)
    config = yaml.safe_load(block)
    config["rule_files"] = [
        file.replace("/etc/prometheus", str(tmp_path)) for file in config["rule_files"]
    ]
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    run = subprocess.run(
        [tool("promtool"), "check", "config", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert config["scrape_configs"][0]["job_name"] == "riskmon"


# -- blocks that are run --------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """Give an environment with this checkout and none of the user's settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RISKMON_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def test_the_gate_can_be_read_in_c(tmp_path: Path) -> None:
    """README's C function agrees with `Gate`: open, other levels, unknown, lapsed and missing."""
    asker, path = gate_in_c.build(tmp_path), tmp_path / "c.gate"
    scopes = {f"venue:{level.name.lower()}": level for level in Level}
    longest_ns = 60_000_000_000

    def asked(scope: str, file: Path = path) -> bool:
        return gate_in_c.asked(asker, file, os.geteuid(), scope)

    file = GateWriter.create(path, max_scopes=10, longest_lease_ns=longest_ns, epoch=1)
    try:
        for scope in scopes:
            file.add(scope)
        assert {asked(scope) for scope in scopes} == {False}
        levels = {"account": 3} | {scope: int(level) for scope, level in scopes.items()}
        file.renew(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + longest_ns, levels, 1)
        with Gate.open(path) as gate:
            for scope in scopes:
                allows = gate.allows(venue=scope.removeprefix("venue:"))
                assert asked(scope) is allows, scope
        assert asked("venue:allow")
        assert asked("account")
        assert not asked("venue:allo")
        assert not asked("venue:nobody")
        file.renew(time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 1, levels, 1)
        assert not asked("venue:allow")
    finally:
        file.close()
    assert not asked("account", tmp_path / "none.gate")
    (tmp_path / "short.gate").write_bytes(b"RISKMON\x01" + bytes(64))
    assert not asked("account", tmp_path / "short.gate")


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Path]:
    """Run a sidecar; its gate is `main.gate` and its socket `sock` in the directory given."""
    config = tmp_path / "riskmon.toml"
    config.write_text(
        f'state_dir = "{tmp_path}/state"\ngate = "{tmp_path}/main.gate"\n'
        f'[http]\nlisten = "127.0.0.1:0"\nunix = "{tmp_path}/sock"\n'
        f'unix_roles = {{ "{os.getuid()}" = "operator" }}\n'
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "riskmon", "run", "--config", str(config)],
            cwd=tmp_path,
            env=environment(),
            stderr=log,
        )
    try:
        deadline = time.monotonic() + START_MAX_SECONDS
        while not Gate.open(tmp_path / "main.gate").allows():
            said = (tmp_path / "log").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)
        yield tmp_path
    finally:
        process.terminate()
        process.wait(10)


class Exchange:
    """Takes orders and counts them."""

    def __init__(self) -> None:
        self.orders = 0

    async def create_order(self, *order: Any) -> None:
        """One more."""
        del order
        self.orders += 1


async def test_the_guard_guards(sidecar: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """README's `trade` sends and reports an order; once the venue is frozen it sends none."""
    names: dict[str, Any] = {}
    exec(blocks("python")[0], names)
    exchange = Exchange()
    url = f"unix://{sidecar}/sock"
    async with riskmon.Client(url, gate=sidecar / "main.gate") as risk:
        await names["trade"](exchange, risk)
        assert exchange.orders == 1
        assert await risk.flush()
        command = ["freeze", "venue:kraken", "--reason", "README", "--url", url]
        token = ["--token-file", str(sidecar / "state" / "operator.token")]
        freeze = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "riskmon", *command, *token),
            env=environment(),
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert await freeze.wait() == 0
        await names["trade"](exchange, risk)
    assert exchange.orders == 1
    assert "no order sent: venue:kraken is at halt" in capsys.readouterr().out
    state = await asyncio.to_thread(status, url, sidecar)
    assert [(one["venue"], one["count"]) for one in state["latency"]] == [("kraken", 1)]


def status(url: str, sidecar: Path) -> Any:
    """Give what `riskmon status --json` says."""
    token = str(sidecar / "state" / "operator.token")
    ask = ["riskmon", "status", "--json", "--url", url, "--token-file", token]
    run = subprocess.run(
        [sys.executable, "-m", *ask], env=environment(), capture_output=True, check=True
    )
    return json.loads(run.stdout)
