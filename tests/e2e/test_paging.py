"""A trip becomes a page, and its end the end of the page: through the real programs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ROOT
from tests.support.ports import free_port
from tests.support.programs import answers, ask, running
from tests.support.sidecar import Sidecar
from tests.support.waiting import eventually
from tests.support.webhooks import Webhooks

ALERTMANAGER = ROOT / "alerts" / "alertmanager.yml"
RULES = ROOT / "alerts" / "rules" / "riskmon.yml"
LIMITS = """\
[limits.latency_p99]
max = 0.2
min_samples = 5
recover = "operator"
"""
SLOW = {"type": "latency", "venue": "kraken", "operation": "add_order", "seconds": 0.4}

Tool = Callable[[str], Path]
Json = dict[str, Any]


def quick(route: Json) -> Json:
    """Return a route and its children with waits of one second."""
    waits = {"group_wait": "1s", "group_interval": "1s"}
    return {**route, **waits, "routes": [quick(below) for below in route.get("routes", [])]}


def alertmanager_config(receiver: Webhooks) -> Json:
    """Return the example's configuration with short waits and the test's receiver."""
    config: Json = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))
    for one in config["receivers"]:
        for webhook in one["webhook_configs"]:
            webhook["url"] = webhook["url"].replace("http://127.0.0.1:9790", receiver.origin)
            assert webhook["url"].startswith(receiver.origin)
    return {**config, "route": quick(config["route"])}


def prometheus_config(sidecar_url: str, alertmanager_port: int) -> Json:
    """Return the configuration of a Prometheus that scrapes and evaluates every second."""
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}]
        },
        "scrape_configs": [
            {
                "job_name": "riskmon",
                "static_configs": [{"targets": [sidecar_url.removeprefix("http://")]}],
            }
        ],
    }


@contextmanager
def watching(tool: Tool, folder: Path, sidecar_url: str, receiver: Webhooks) -> Iterator[None]:
    """Run Prometheus and Alertmanager; begin when the sidecar has been scraped."""
    pager_port, port = free_port(), free_port()
    pager_yml, prometheus_yml = folder / "alertmanager.yml", folder / "prometheus.yml"
    pager_yml.write_text(yaml.safe_dump(alertmanager_config(receiver)), encoding="utf-8")
    prometheus_yml.write_text(
        yaml.safe_dump(prometheus_config(sidecar_url, pager_port)), encoding="utf-8"
    )
    pager = [
        str(tool("alertmanager")),
        f"--config.file={pager_yml}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{pager_port}",
        "--cluster.listen-address=",
    ]
    prometheus = [
        str(tool("prometheus")),
        f"--config.file={prometheus_yml}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--rules.alert.resend-delay=1s",
    ]
    url = f"http://127.0.0.1:{port}"
    with (
        running(pager, folder, f"http://127.0.0.1:{pager_port}/-/ready"),
        running(prometheus, folder, f"{url}/-/ready"),
    ):
        scraped = f"{url}/api/v1/query?query=riskmon_gate_level"
        eventually(
            lambda: answers(scraped) and ask(scraped)["data"]["result"],
            "the first scrape",
            pause_seconds=0.1,
        )
        yield


def pages(receiver: Webhooks, status: str, path: str = "/page") -> list[Json]:
    """Return the received alerts of the trip with this status."""
    return [
        alert
        for at, message in receiver.pages
        if at == path
        for alert in message["alerts"]
        if alert["status"] == status and alert["labels"]["alertname"] == "RiskmonBreakerOpen"
    ]


def reset(sidecar: Sidecar) -> None:
    """Close the venue's breaker as an operator does, once its cancel is confirmed."""
    eventually(
        lambda: all(cancel["confirmed"] for cancel in sidecar.state()["cancel"]),
        "the cancel's confirmation",
        pause_seconds=0.1,
    )
    generation = sidecar.state()["generation"]
    assert sidecar.operate("reset", "venue:kraken", generation=generation)[0] == 200


@pytest.mark.slow
def test_a_trip_pages_and_its_reset_resolves(tool: Tool, tmp_path: Path, oms: Webhooks) -> None:
    """Slow samples send a page with limit, scope and runbook; the reset resolves it."""
    with (
        Sidecar(tmp_path, LIMITS + oms.target(), account="main") as sidecar,
        watching(tool, tmp_path, sidecar.start_ready().url, oms),
    ):
        sidecar.events(*[{**SLOW, "seconds": 0.02}] * 20)
        assert pages(oms, "firing") == []

        sidecar.events(*[SLOW] * 20)
        eventually(lambda: pages(oms, "firing"), "a page")
        page = pages(oms, "firing")[0]
        assert page["labels"]["severity"] == "critical"
        assert page["labels"]["account"] == "main"
        assert page["labels"]["limit"] == "latency_p99"
        assert page["labels"]["scope"] == "venue:kraken"
        assert page["annotations"]["summary"] == "latency_p99 has tripped on venue:kraken (main)"
        assert page["annotations"]["runbook_url"].endswith("#riskmonbreakeropen")
        assert pages(oms, "resolved") == []

        reset(sidecar)
        eventually(lambda: pages(oms, "resolved"), "the page's end")
        assert pages(oms, "resolved")[0]["labels"] == page["labels"]
        assert pages(oms, "firing", path="/notice") == []


def test_a_page_sent_to_the_wrong_receiver_is_caught(tool: Tool, tmp_path: Path) -> None:
    """Pages that would end among the notices fail the check of the routes."""
    text = ALERTMANAGER.read_text(encoding="utf-8")
    assert "- receiver: pages" in text
    bad = tmp_path / "alertmanager.yml"
    bad.write_text(text.replace("- receiver: pages", "- receiver: notices"), encoding="utf-8")
    outcomes = []
    for path in (ALERTMANAGER, bad):
        command = [tool("amtool"), "config", "routes", "test", f"--config.file={path}"]
        command += ["--verify.receivers=pages", "alertname=RiskmonDown", "severity=critical"]
        done = subprocess.run(list(map(str, command)), check=False, capture_output=True)
        outcomes.append(done.returncode)
    assert outcomes == [0, 1]
