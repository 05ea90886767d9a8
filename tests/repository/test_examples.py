"""The examples of README and docs/ are run."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec.structs import fields

import riskmon
from riskmon.client.reports import Reports
from riskmon.core.decisions import Sweep
from riskmon.core.parsing import parse_json
from riskmon.gate import Gate, Level
from riskmon.gate_writer import GateWriter
from riskmon.outbox.webhook import payload
from riskmon.port import Accepted
from riskmon.settings import load
from tests.support import gate_in_c
from tests.support.documents import DOCS, README, ROOT, all_blocks, blocks, read
from tests.support.files import private
from tests.support.sidecar import Sidecar
from tests.support.waiting import eventually

SECRET = "whsec_" + "A" * 32
TUTORIAL = DOCS / "tutorial.md"
BOT = DOCS / "howto" / "bot.md"


def environment(**more: str) -> dict[str, str]:
    """Return an environment with this checkout and none of the user's settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RISKMON_")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def riskmon_command(*words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run one of riskmon's commands."""
    command = [sys.executable, "-m", "riskmon", *words]
    return subprocess.run(
        command, cwd=cwd, env=environment(**more), capture_output=True, text=True, check=False
    )


# -- blocks that are read by a program ------------------------------------------------------------


@pytest.mark.parametrize(("page", "block"), all_blocks("toml"))
def test_configurations_load(page: str, block: str, tmp_path: Path) -> None:
    """Every configuration that is shown has no fault, and check-config says so."""
    secret, file = tmp_path / "oms.secret", tmp_path / "riskmon.toml"
    private(secret, SECRET)
    file.write_text(block.replace("/etc/riskmon/oms.secret", str(secret)), encoding="utf-8")
    assert load(file, {"HOME": str(tmp_path)}).limits, page
    run = riskmon_command("check-config", "--config", str(file), cwd=tmp_path)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(("page", "block"), all_blocks("python"))
def test_python_blocks_use_what_exists(page: str, block: str) -> None:
    """Every Python block compiles, and imports from riskmon only what it offers."""
    tree = ast.parse(block)
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "riskmon"
        for alias in node.names
    ]
    assert names, page
    assert set(names) <= set(riskmon.__all__)
    compile(tree, page, "exec")


@pytest.mark.parametrize(("page", "block"), all_blocks("json"))
def test_json_blocks_are_what_is_sent(page: str, block: str) -> None:
    """An event is accepted, an answer has the answer's keys, a webhook is the payload."""
    shown = json.loads(block)
    if shown.get("type") == "cancel_orders":
        assert json.loads(payload(sweep_of(shown), "main", "all")) == shown, page
    elif "type" in shown:
        assert parse_json(block.encode(), 0), page
    else:
        msgspec.convert(shown, Accepted)
        assert set(shown) == {one.name for one in fields(Accepted) if one.required}, page


def sweep_of(shown: dict[str, Any]) -> Sweep:
    """Return the decision that leads to a webhook."""
    return Sweep(
        **{field: shown[field] for field in ("incident", "sweep", "generation", "scope")},
        **{field: shown[field] for field in ("limit", "reason", "cancels", "flatten", "recovers")},
        at_ns=1_767_323_045_678_000_000,
        targets=("oms",),
    )


def test_the_events_that_are_sent_with_curl_are_accepted() -> None:
    """What stands behind `-d` is an event."""
    text = read(BOT)
    sent = re.findall(r"-d '(\{.*?\})'", text)
    assert sent
    assert all(parse_json(event.encode(), 0) for event in sent)


def test_prometheus_accepts_the_scrape_configuration(
    tool: Callable[[str], Path], tmp_path: Path
) -> None:
    """promtool finds no fault in the scrape configuration, with the rules from `riskmon export`."""
    (block,) = blocks("yaml", DOCS / "howto" / "prometheus.md")
    assert riskmon_command("export", str(tmp_path / "riskmon"), cwd=tmp_path).returncode == 0
    config = yaml.safe_load(block)
    config["rule_files"] = [
        file.replace("/etc/prometheus", str(tmp_path)) for file in config["rule_files"]
    ]
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    command = [str(tool("promtool")), "check", "config", str(file)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert config["scrape_configs"][0]["job_name"] == "riskmon"


# -- blocks that are run --------------------------------------------------------------------------


def test_the_gate_can_be_read_in_c(tmp_path: Path) -> None:
    """The C function agrees with `Gate`: open, other levels, unknown, lapsed and missing."""
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


class Exchange:
    """Takes orders and counts them."""

    def __init__(self) -> None:
        self.orders = 0

    async def create_order(self, *order: Any) -> None:
        """One more."""
        del order
        self.orders += 1


@pytest.mark.slow
async def test_the_guards_guard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each `trade` sends and reports an order; once the venue is frozen it sends none."""
    with Sidecar(tmp_path).start() as sidecar:
        url, gate = f"unix://{tmp_path}/sock", sidecar.gate_path
        await asyncio.to_thread(eventually, lambda: sidecar.level() == Level.ALLOW, "the gate")
        exchange = Exchange()
        trades = [names_of(block)["trade"] for page in (README, BOT) for block in trading(page)]
        async with riskmon.Client(url, gate=gate) as risk:
            for trade in trades:
                await trade(exchange, risk)
            assert exchange.orders == len(trades) == 2
            assert await risk.flush()
            assert (await asyncio.to_thread(sidecar.operate, "freeze", "venue:kraken"))[0] == 200
            for trade in trades:
                await trade(exchange, risk)
        assert exchange.orders == len(trades)
        assert capsys.readouterr().out.count("no order sent: venue:kraken is at halt") == 2
        state = await asyncio.to_thread(sidecar.state)
        assert [(one["venue"], one["count"]) for one in state["latency"]] == [("kraken", 2)]


def trading(page: Path) -> list[str]:
    """Return the blocks of a page that define `trade`."""
    return [block for block in blocks("python", page) if "async def trade(" in block]


def names_of(block: str) -> dict[str, Any]:
    """Run a block and return the names that it defines."""
    names: dict[str, Any] = {}
    exec(block, names)
    return names


@pytest.mark.slow
async def test_the_facts_are_reported(tmp_path: Path) -> None:
    """What the how-to reports is accepted and counts; the hot loop's gate then opens."""
    (report,) = (block for block in blocks("python", BOT) if "async def report(" in block)
    (loop,) = (block for block in blocks("python", BOT) if "def on_book_update(" in block)
    with Sidecar(tmp_path).start() as sidecar:
        await asyncio.to_thread(eventually, lambda: sidecar.level() == Level.ALLOW, "the gate")
        names = names_of(loop.replace('Gate.open("main")', f'Gate.open("{sidecar.gate_path}")'))
        sent: list[int] = []
        names["on_book_update"](lambda: sent.append(1))
        assert sent == []  # no event named the scopes yet
        async with riskmon.Client(f"unix://{tmp_path}/sock", gate=sidecar.gate_path) as risk:
            await names_of(report)["report"](risk)
            assert risk.rejected == ()
        state = await asyncio.to_thread(sidecar.state)
        assert {one["asset"] for one in state["portfolio"]["balances"]} == {"BTC", "USDT"}
        await asyncio.to_thread(eventually, names["may_quote"], "the scopes")
        names["on_book_update"](lambda: sent.append(2))
        assert sent == [2]


@pytest.mark.slow
async def test_the_whole_account_is_reported(tmp_path: Path) -> None:
    """All that the how-to reports is accepted and counts; the exit of what is held passes."""
    (reconcile,) = (block for block in blocks("python", BOT) if "def reconcile(" in block)
    (leave,) = (block for block in blocks("python", BOT) if "def exit_at_market(" in block)
    with Sidecar(tmp_path).start() as sidecar:
        await asyncio.to_thread(eventually, lambda: sidecar.level() == Level.ALLOW, "the gate")
        async with riskmon.Client(f"unix://{tmp_path}/sock", gate=sidecar.gate_path) as risk:
            await names_of(reconcile)["reconcile"](risk)
            assert (risk.rejected, risk.dropped) == ((), 0)
            risk.balances(venue="kraken", assets={"BTC": {"free": 0.5}})
            risk.price(symbol="BTC/USDT", price=65_000)
            assert await risk.flush()
            exchange = Exchange()
            await names_of(leave)["exit_at_market"](exchange, risk)
            assert exchange.orders == 1
        state = await asyncio.to_thread(sidecar.state)
        assert [one["symbol"] for one in state["portfolio"]["positions"]][:1] == ["BTC/USDT:USDT"]


def test_the_how_to_names_every_method_of_the_client() -> None:
    """Each kind of event that a client reports is in the how-to."""
    methods = {name for name, one in vars(Reports).items() if callable(one) and name[0] != "_"}
    named = set(re.findall(r"`(\w+)", read(BOT)))
    assert methods - named == set()


@pytest.mark.slow
def test_the_tutorial(tmp_path: Path) -> None:
    """Followed step by step, the tutorial shows what it says: the trip, the halt, the reset."""
    (config,), (bot,) = blocks("toml", TUTORIAL), blocks("python", TUTORIAL)
    checked, sent = blocks("text", TUTORIAL)
    (tmp_path / "riskmon.toml").write_text(config)
    own = {"HOME": str(tmp_path), "XDG_STATE_HOME": "", "RISKMON_GATE": f"{tmp_path}/t.gate"}
    run = riskmon_command("check-config", cwd=tmp_path, **own)
    assert sorted((run.stdout + run.stderr).splitlines()) == sorted(checked.splitlines())
    sidecar = Sidecar(tmp_path)
    sidecar.config.write_text(config)  # the tutorial's, from the working directory
    own["RISKMON_HTTP__LISTEN"] = "127.0.0.1:0"
    with sidecar.start(config=False, variables=own):
        url = f"http://127.0.0.1:{sidecar.port}"
        changed = bot.replace("http://127.0.0.1:9788", url).replace(
            'gate="tutorial"', f'gate="{tmp_path}/t.gate"'
        )
        assert changed.count(str(tmp_path)) == 1
        (tmp_path / "bot.py").write_text(changed)
        number = int(sent.split()[1])
        first = run_bot(tmp_path)
        assert first in {sent, sent.replace(str(number), str(number + 1))}
        again = run_bot(tmp_path)
        assert again == sent.replace(str(number), "0")
        reach = [
            "--url",
            url,
            "--token-file",
            f"{tmp_path}/.local/state/riskmon/tutorial/operator.token",
        ]
        status = riskmon_command("status", *reach, cwd=tmp_path, **own)
        assert re.search(r"latency_p99\s.*simex.*open", status.stdout), status.stdout
        (reset,) = (block for block in blocks("sh", TUTORIAL) if "riskmon reset" in block)
        words = re.findall(r'"[^"]*"|\S+', reset)
        done = riskmon_command(*(w.strip('"') for w in words[1:]), *reach, cwd=tmp_path, **own)
        assert done.returncode == 0, done.stderr
        trail = riskmon_command("incidents", "--json", *reach, cwd=tmp_path, **own)
        records = json.loads(trail.stdout)["incidents"]
        assert [r["kind"] for r in records if r["scope"] == "venue:simex"] == ["operation", "trip"]


def run_bot(directory: Path) -> str:
    """Run the tutorial's bot and return what it prints."""
    return subprocess.run(
        [sys.executable, "bot.py"],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
