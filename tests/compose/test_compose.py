"""docker-compose.yml and Dockerfile: valid, closed to the network, and all commands start."""

from __future__ import annotations

import fnmatch
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ROOT
from tests.support.ports import free_port
from tests.support.programs import answers, ask, running
from tests.support.waiting import eventually

FILE = ROOT / "docker-compose.yml"
GRAFANA = ROOT / "compose" / "grafana"
SLOW = {"delay_seconds": 0.3}

Json = dict[str, Any]
Tool = Callable[[str], Path]


def read(path: Path) -> Json:
    """Return the content of a YAML file."""
    loaded: Json = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


SERVICES: dict[str, Json] = read(FILE)["services"]


def mounts(service: Json) -> list[tuple[str, str]]:
    """Return (source, path in the container) of each volume."""
    parts = [volume.split(":") for volume in service.get("volumes", [])]
    return [(part[0], part[1]) for part in parts]


# -- what is written ------------------------------------------------------------------------------


def exposed(services: dict[str, Json]) -> list[str]:
    """Return the ports that services publish beyond this machine."""
    return [
        f"{name} {port}"
        for name, service in services.items()
        for port in service.get("ports", [])
        if not port.startswith("127.0.0.1:")
    ]


def unpinned(services: dict[str, Json]) -> list[str]:
    """Return the images without a fixed version."""
    return [
        service["image"]
        for service in services.values()
        if "build" not in service and not re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    ]


def test_ports_are_on_loopback_and_images_at_one_version() -> None:
    """Ports are published on loopback only, and all images have a fixed version."""
    assert exposed(SERVICES) == []
    assert unpinned(SERVICES) == []


def test_an_open_port_and_a_moving_image_are_caught() -> None:
    """The check above detects a public port and an image without a version."""
    service = {"image": "prom/prometheus:latest", "ports": ["9090:9090"]}
    assert exposed({"prometheus": service}) == ["prometheus 9090:9090"]
    assert unpinned({"prometheus": service}) == ["prom/prometheus:latest"]


def test_mounts_exist() -> None:
    """All mounted files are in the repository, and all volumes are declared."""
    declared = read(FILE)["volumes"]
    for name, service in SERVICES.items():
        for source, _ in mounts(service):
            there = (ROOT / source).exists() if source.startswith(".") else source in declared
            assert there, f"{name}: {source}"


def test_bots_share_the_gate() -> None:
    """The gate is a separate tmpfs that the sidecar's user writes and bots only read."""
    options = read(FILE)["volumes"]["gate"]["driver_opts"]
    assert options["type"] == "tmpfs"
    uid = re.search(r"--uid (\d+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert uid
    assert f"uid={uid[1]}" in options["o"].split(",")
    assert f"gate:/dev/shm/riskmon-{uid[1]}" in SERVICES["riskmon"]["volumes"]
    assert f"gate:/dev/shm/riskmon-{uid[1]}:ro" in SERVICES["bot"]["volumes"]


def test_grafana_is_provisioned() -> None:
    """The data source is fixed and has the scrape interval; the dashboards are read-only."""
    (source,) = read(GRAFANA / "datasources" / "prometheus.yml")["datasources"]
    scraped = read(ROOT / "compose" / "prometheus.yml")["global"]["scrape_interval"]
    assert source["uid"] == "prometheus"
    assert source["editable"] is False
    assert source["jsonData"]["timeInterval"] == scraped
    assert source["url"] == "http://prometheus:9090"
    (provider,) = read(GRAFANA / "dashboards" / "riskmon.yml")["providers"]
    assert (provider["allowUiUpdates"], provider["disableDeletion"]) == (False, True)

    grafana = SERVICES["grafana"]
    assert ("./compose/grafana", "/etc/grafana/provisioning") in mounts(grafana)
    assert ("./dashboards", provider["options"]["path"]) in mounts(grafana)
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).parent == Path(provider["options"]["path"])
    assert (ROOT / "dashboards" / Path(home).name).exists()


def copied() -> set[str]:
    """Return the paths that the Dockerfile copies from the repository."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    words = [shlex.split(line) for line in lines if line.startswith("COPY ")]
    return {name for _, *names, _ in words for name in names if not names[0].startswith("--from")}


def test_the_files_that_the_image_needs_are_copied() -> None:
    """The files that the build needs are copied, exist, and are not excluded by .dockerignore."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    needed = {"pyproject.toml", "requirements.txt", *(name.strip("/") for name in wheel)}
    needed |= {*project["project"]["license-files"], project["project"].get("readme", "LICENSE")}
    assert needed <= copied()
    assert [name for name in copied() if not (ROOT / name).exists()] == []
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied()
    assert "*" in rules


def test_secrets_stay_out_of_the_image() -> None:
    """Secrets and configuration in .gitignore are excluded from the build too."""
    for private in (".env", "riskmon.toml", "operator.token", ".git"):
        assert not any(fnmatch.fnmatch(private, name) for name in copied())


# -- Debian's docker-compose ----------------------------------------------------------------------


def compose(*arguments: str | Path) -> tuple[int, str]:
    """Run docker-compose 1.29. Return its exit code and its output."""
    program = ROOT / ".tools" / "compose" / "bin" / "docker-compose"
    assert program.exists(), "`make test-full` fetches docker-compose"
    done = subprocess.run(
        [str(program), *map(str, arguments)], check=False, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.full
def test_docker_compose_accepts_the_file() -> None:
    """Debian's version accepts the file, and starts the demo's services only with their profile."""
    code, said = compose("--file", FILE, "config")
    assert code == 0, said
    shown = yaml.safe_load(said)["services"]
    assert set(shown) == set(SERVICES)
    demo = {name for name, service in shown.items() if service.get("profiles") == ["demo"]}
    assert demo == {"exchange", "oms", "bot"}


@pytest.mark.full
def test_a_key_that_debians_version_lacks_is_refused(tmp_path: Path) -> None:
    """A file for newer versions is refused."""
    newer = tmp_path / "docker-compose.yml"
    newer.write_text("name: riskmon\n" + FILE.read_text(encoding="utf-8"), encoding="utf-8")
    code, said = compose("--file", newer, "config")
    assert code != 0
    assert "name" in said


# -- every command, outside containers ------------------------------------------------------------


class Machine:
    """Translates the paths, names and ports of the containers to this machine."""

    def __init__(self, folder: Path, tool: Tool) -> None:
        self._tool = tool
        self._ports = {str(port): str(free_port()) for port in (9788, 9789, 9090, 9093, 9791)}
        self.paths: dict[str, Path] = {}
        files: list[tuple[Path, Path]] = []
        for source, inside in (one for service in SERVICES.values() for one in mounts(service)):
            if not source.startswith("."):
                self.paths[inside] = folder / source
                self.paths[inside].mkdir(exist_ok=True)
            elif (ROOT / source).suffix in (".yml", ".toml"):
                self.paths[inside] = folder / Path(source).name
                files.append((ROOT / source, self.paths[inside]))
            else:
                self.paths[inside] = ROOT / source
        for path, here in files:
            here.write_text(self._told(path.read_text(encoding="utf-8")), encoding="utf-8")

    def url(self, port: int) -> str:
        """Return the address of the process that has this port in its container."""
        return f"http://127.0.0.1:{self._ports[str(port)]}"

    def command(self, name: str) -> list[str]:
        """Return the command of a service, with the programs and files of this machine."""
        service = SERVICES[name]
        own = {
            "riskmon": ["python", "-m", "riskmon"],
            "prom/prometheus": ["prometheus"],
            "prom/alertmanager": ["alertmanager"],
        }
        words: list[str] = service.get("entrypoint", own[service["image"].partition(":")[0]])
        program, *arguments = words + service.get("command", [])
        found = sys.executable if program == "python" else str(self._tool(program))
        return [found, *map(self._told, arguments)]

    def _told(self, text: str) -> str:
        paths = "|".join(map(re.escape, sorted(self.paths, key=len, reverse=True)))
        text = re.sub(rf"""({paths})(?=[/\s"]|$)""", lambda at: str(self.paths[at[1]]), text)
        hosts = "|".join(map(re.escape, ["0.0.0.0", *SERVICES]))
        text = re.sub(
            rf"\b(?:{hosts}):(\d{{4}})\b", lambda at: f"127.0.0.1:{self._ports[at[1]]}", text
        )
        return {"0.0.0.0": "127.0.0.1", **self._ports}.get(text, text)


def firing(machine: Machine) -> set[str]:
    """Return the alerts of the Alertmanager."""
    return {alert["labels"]["alertname"] for alert in ask(f"{machine.url(9093)}/api/v2/alerts")}


def is_scraped(machine: Machine) -> bool:
    """Whether Prometheus can scrape the sidecar with its token."""
    found = ask(f"{machine.url(9090)}/api/v1/query?query=up%7Bjob%3D%22riskmon%22%7D")["data"]
    return [series["value"][1] for series in found["result"]] == ["1"]


def start_all(stack: ExitStack, machine: Machine, folder: Path) -> None:
    """Start the commands of all services except Grafana, in the order of their dependencies."""
    prepare = subprocess.run(machine.command("prepare"), check=False, cwd=ROOT)
    assert prepare.returncode == 0
    # The sidecar reads its file from the path at which the volume is mounted.
    config = machine.paths["/etc/riskmon"]
    ready = {
        "riskmon": f"{machine.url(9788)}/-/ready",
        "prometheus": f"{machine.url(9090)}/-/ready",
        "alertmanager": f"{machine.url(9093)}/-/ready",
        "exchange": f"{machine.url(9791)}/control",
        "oms": None,
        "bot": None,
    }
    assert {"prepare", "grafana", *ready} == set(SERVICES)
    for name, url in ready.items():
        stack.enter_context(
            running(machine.command(name), config if name == "riskmon" else folder, url)
        )


@pytest.mark.slow
def test_all_commands_start_and_connect(tool: Tool, tmp_path: Path) -> None:
    """The bot trades, Prometheus scrapes with its token; a slow exchange halts, cancels, alerts."""
    machine = Machine(tmp_path, tool)
    exchange = machine.url(9791)
    with ExitStack() as stack:
        start_all(stack, machine, tmp_path)
        assert not answers(f"{machine.url(9788)}/metrics"), "read without a token"

        def wait(condition: Callable[[], bool], what: str) -> None:
            eventually(condition, what, pause_seconds=0.1)

        wait(lambda: is_scraped(machine), "a scrape")
        wait(lambda: ask(f"{exchange}/control")["orders_placed"] > 10, "the bot's orders")

        ask(f"{exchange}/control", SLOW, method="PUT")
        wait(lambda: ask(f"{exchange}/orders")["count"] == 0, "the OMS's cancel")
        wait(lambda: "RiskmonBreakerOpen" in firing(machine), "the alert")


def test_prepare_keeps_the_secrets(tool: Tool, tmp_path: Path) -> None:
    """A second start keeps token and secret, and updates the configuration."""
    machine = Machine(tmp_path, tool)
    config = machine.paths["/etc/riskmon"]
    subprocess.run(machine.command("prepare"), check=True, cwd=ROOT)
    first = {path.name: path.read_text() for path in config.iterdir()}
    assert set(first) == {"prometheus.token", "tokens.toml", "oms.secret", "riskmon.toml"}
    token = first["prometheus.token"].strip()
    assert sha256(token.encode()).hexdigest() in first["riskmon.toml"]
    assert not any(token in text for name, text in first.items() if name != "prometheus.token")

    base = machine.paths["/compose/riskmon.toml"]
    base.write_text(base.read_text() + "# changed\n")
    subprocess.run(machine.command("prepare"), check=True, cwd=ROOT)
    second = {path.name: path.read_text() for path in config.iterdir()}
    changed = first["riskmon.toml"].replace("\n\n[[http", "\n# changed\n\n[[http")
    assert second == {**first, "riskmon.toml": changed}
