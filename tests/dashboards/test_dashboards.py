"""The dashboards: built from their YAML, complete, consistent with the metrics, never empty."""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from riskmon.metrics.table import TABLE
from tests.alerts.test_alerts import exported
from tests.support import ROOT
from tests.support.ports import free_port
from tests.support.programs import ask, running
from tests.support.sidecar import Sidecar
from tests.support.waiting import eventually
from tests.support.webhooks import SECRET, Webhooks

Json = dict[str, Any]
Tool = Callable[[str], Path]

FOLDER = ROOT / "dashboards"
DASHBOARDS = sorted(FOLDER.glob("*.json"))
TYPES = {"row", "timeseries", "stat", "gauge", "bargauge", "state-timeline", "table"}
VARIABLES = ["datasource", "job", "instance", "account", "venue"]
DATASOURCE = {"type": "prometheus", "uid": "$datasource"}
NOT_OURS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}


def read(path: Path) -> Json:
    """Return a dashboard."""
    dashboard: Json = json.loads(path.read_text(encoding="utf-8"))
    return dashboard


OVERVIEW = read(FOLDER / "overview.json")


def panels(dashboard: Json) -> list[Json]:
    """Return all panels that show data."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: Json) -> Iterator[tuple[str, str]]:
    """Return (panel, PromQL) of all queries, including those of annotations."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for mark in dashboard["annotations"]["list"]:
        yield mark["name"], mark["target"]["expr"]


def variables(dashboard: Json) -> dict[str, tuple[str, str]]:
    """Return (series, label) from which each variable takes its values."""
    found = {}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert asked, variable["name"]
            found[variable["name"]] = (asked[1], asked[2])
    return found


def metrics(expr: str) -> set[str]:
    """Return the metrics in an expression."""
    return set(re.findall(r"\b[a-z_]+(?=\{)|\briskmon_\w+", expr))


def selectors(expr: str) -> list[str]:
    """Return the label matchers of each metric."""
    return re.findall(r"\{(.*?)\}", expr)


def faults_of(panel: Json) -> Iterator[str]:
    """Return the missing parts of one panel."""
    if panel["type"] not in TYPES:
        yield f"type {panel['type']}"
    if not panel.get("description"):
        yield "description"
    if not panel["fieldConfig"]["defaults"].get("unit"):
        yield "unit"
    if not panel.get("targets"):
        yield "no query"
    if any(of.get("datasource") != DATASOURCE for of in (panel, *panel["targets"])):
        yield "datasource"


def is_apart(one: Json, other: Json) -> bool:
    """Whether two rectangles of the grid do not overlap."""
    return bool(
        one["x"] + one["w"] <= other["x"]
        or other["x"] + other["w"] <= one["x"]
        or one["y"] + one["h"] <= other["y"]
        or other["y"] + other["h"] <= one["y"]
    )


def layout_faults(dashboard: Json) -> Iterator[str]:
    """Return the faults in the positions and numbers of the panels."""
    places = [(panel["title"], panel["gridPos"]) for panel in dashboard["panels"]]
    yield from (f"{title}: off the grid" for title, at in places if at["x"] + at["w"] > 24)
    for (title, at), (other, there) in combinations(places, 2):
        if not is_apart(at, there):
            yield f"{title}: overlaps {other}"
    if len({panel["id"] for panel in dashboard["panels"]}) != len(places):
        yield "ids are not unique"


def query_faults(dashboard: Json) -> Iterator[str]:
    """Return unknown metrics, and queries without the variables' matchers."""
    known = exported() | NOT_OURS
    for where, expr in expressions(dashboard):
        yield from (f"{where}: {name} is no metric" for name in metrics(expr) - known)
        for inside in selectors(expr):
            if not inside.startswith('job=~"$job",instance=~"$instance"'):
                yield f"{where}: {{{inside}}} is not of the chosen job and instance"
    for name, (series, _) in variables(dashboard).items():
        yield from (f"${name}: {one} is no metric" for one in metrics(series) - known)


def faults(dashboard: Json) -> list[str]:
    """Return all faults of a dashboard, as `panel: fault`."""
    fixed = {"editable": False, "schemaVersion": 39}
    found = [key for key, value in fixed.items() if dashboard.get(key) != value]
    if not re.fullmatch(r"riskmon-[a-z]+", dashboard.get("uid") or ""):
        found.append("uid")
    if "id" in dashboard:
        found.append("id: Grafana gives it")
    if [variable["name"] for variable in dashboard["templating"]["list"]] != VARIABLES:
        found.append("variables")
    if not any("last_trip" in mark["target"]["expr"] for mark in dashboard["annotations"]["list"]):
        found.append("no annotations of trips")
    for panel in panels(dashboard):
        found += [f"{panel['title']}: {fault}" for fault in faults_of(panel)]
    return [*found, *layout_faults(dashboard), *query_faults(dashboard)]


def stale(folder: Path, built: Path) -> list[str]:
    """Build from the YAML in a folder. Return the files that differ from the result."""
    built.mkdir()
    command = [sys.executable, "-m", "dashboards.build", str(built)]
    subprocess.run(command, check=True, cwd=folder.parent)
    names = {path.name for at in (folder, built) for path in at.glob("*.json")}
    return sorted(
        name
        for name in names
        if not (folder / name).exists()
        or not (built / name).exists()
        or (folder / name).read_bytes() != (built / name).read_bytes()
    )


def test_the_json_is_built_from_the_yaml(tmp_path: Path) -> None:
    """The JSON is exactly the result of `make dashboards`."""
    assert DASHBOARDS
    assert stale(FOLDER, tmp_path / "built") == []


def test_a_dashboard_edited_by_hand_is_caught(tmp_path: Path) -> None:
    """A changed byte in the JSON, and a file without YAML, are detected."""
    folder = tmp_path / "dashboards"
    shutil.copytree(FOLDER, folder)
    (folder / "mine.json").write_text("{}\n")
    text = (folder / "overview.json").read_text(encoding="utf-8")
    assert '"refresh": "10s"' in text
    (folder / "overview.json").write_text(
        text.replace('"refresh": "10s"', '"refresh": "5s"'), encoding="utf-8"
    )
    assert stale(folder, tmp_path / "built") == ["mine.json", "overview.json"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_are_complete(path: Path) -> None:
    """All panels have description, unit, source and position, all queries existing metrics."""
    assert faults(read(path)) == []


def test_every_metric_is_shown() -> None:
    """All metrics of the table are shown."""
    shown = {
        name for path in DASHBOARDS for _, expr in expressions(read(path)) for name in metrics(expr)
    }
    parts = re.compile("_(bucket|count|sum)$")
    assert {row.name for row in TABLE} - {parts.sub("", name) for name in shown} == set()


def _lose_unit(dashboard: Json) -> None:
    panels(dashboard)[0]["fieldConfig"]["defaults"]["unit"] = ""


def _lose_description(dashboard: Json) -> None:
    del panels(dashboard)[0]["description"]


def _other_datasource(dashboard: Json) -> None:
    panels(dashboard)[0]["targets"][0]["datasource"] = {"type": "prometheus", "uid": "mine"}


def _old_type(dashboard: Json) -> None:
    panels(dashboard)[0]["type"] = "graph"


def _unknown_metric(dashboard: Json) -> None:
    target = panels(dashboard)[0]["targets"][0]
    target["expr"] = target["expr"].replace("riskmon_gate_level", "riskmon_gate_state")


def _any_job(dashboard: Json) -> None:
    panels(dashboard)[0]["targets"][0]["expr"] = 'riskmon_gate_level{scope="account"}'


def _overlap(dashboard: Json) -> None:
    panels(dashboard)[1]["gridPos"]["x"] -= 1


def _editable(dashboard: Json) -> None:
    dashboard["editable"] = True


def _random_uid(dashboard: Json) -> None:
    dashboard["uid"] = None


def _no_venue(dashboard: Json) -> None:
    dashboard["templating"]["list"].pop()


def _no_trips(dashboard: Json) -> None:
    dashboard["annotations"]["list"] = []


@pytest.mark.parametrize(
    ("tamper", "fault"),
    [
        (_lose_unit, "Gate: unit"),
        (_lose_description, "Gate: description"),
        (_other_datasource, "Gate: datasource"),
        (_old_type, "Gate: type graph"),
        (_unknown_metric, "Gate A: riskmon_gate_state is no metric"),
        (_any_job, 'Gate A: {scope="account"} is not of the chosen job and instance'),
        (_overlap, "Gate: overlaps Sidecar"),
        (_editable, "editable"),
        (_random_uid, "uid"),
        (_no_venue, "variables"),
        (_no_trips, "no annotations of trips"),
    ],
)
def test_faulty_dashboards_are_caught(tamper: Callable[[Json], None], fault: str) -> None:
    """Each of these faults alone is detected and named."""
    tampered = copy.deepcopy(OVERVIEW)
    tamper(tampered)
    assert faults(tampered) == [fault]


# -- on a live Prometheus -------------------------------------------------------------------------

CONFIG = """\
[portfolio]
reference = "USDT"
initial_capital = 10000
venues = ["kraken"]

[limits.latency_p99]
max = 0.2
min_samples = 5
recover = "operator"

[limits.portfolio_loss]
max = 0.5

# One target that answers, and one on which nothing listens.
[[cancel]]
name = "oms"
url = "{oms}"
secret = "{secret}"

[[cancel]]
name = "gone"
url = "http://127.0.0.1:{unused}/cancel"
secret = "{secret}"
"""
SCRAPE = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
scrape_configs:
  - job_name: riskmon
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Prometheus:
    """A running Prometheus with the queries of Grafana."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.since = time.time()

    def values(self, expr: str) -> list[float]:
        """Return all numbers of a query since the start, without NaN."""
        found = self._get(
            "query_range", query=filled(expr), start=self.since, end=time.time(), step=1
        )
        numbers = [float(value) for series in found["result"] for _, value in series["values"]]
        return [number for number in numbers if math.isfinite(number)]

    def labels(self, series: str, label: str) -> set[str]:
        """Return the result of `label_values`."""
        parameters = {"match[]": filled(series), "start": self.since}
        return {one[label] for one in self._get("series", **parameters) if label in one}

    def _get(self, path: str, **parameters: object) -> Any:
        return ask(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")["data"]


def filled(expr: str) -> str:
    """Replace Grafana's variables."""
    expr = expr.replace("$__rate_interval", "4s").replace("$__range", "60s")
    expr = expr.replace('"$job"', '"riskmon"')
    return re.sub(r'"\$(instance|account|venue)"', '".*"', expr)


@contextmanager
def watched(tool: Tool, folder: Path, oms: Webhooks) -> Iterator[tuple[Sidecar, Prometheus]]:
    """Run a sidecar and a Prometheus that scrapes it every second."""
    config = CONFIG.format(oms=oms.url, secret=SECRET, unused=free_port())
    with Sidecar(folder, config, account="main") as sidecar:
        sidecar.start_ready()
        scrape = folder / "prometheus.yml"
        scrape.write_text(SCRAPE.format(port=sidecar.port), encoding="utf-8")
        url = f"http://127.0.0.1:{free_port()}"
        command = [
            str(tool("prometheus")),
            f"--config.file={scrape}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={url.removeprefix('http://')}",
        ]
        with running(command, folder, f"{url}/-/ready"):
            yield sidecar, Prometheus(url)


def a_moment(number: int) -> list[dict[str, object]]:
    """Return one of each event whose order does not matter."""
    return [
        {"type": "latency", "venue": "kraken", "operation": "add_order", "seconds": 0.02},
        {"type": "error", "venue": "kraken", "operation": "cancel_order", "message": "busy"},
        {"type": "price", "venue": "kraken", "symbol": "BTC/USDT", "price": 60_000 + number},
        {"type": "price", "venue": "kraken", "symbol": "ETH/USDT:USDT", "price": 3_000},
        {
            "type": "fill",
            "id": f"T{number}",
            "venue": "kraken",
            "symbol": "BTC/USDT",
            "side": "buy",
            "quantity": 0.01,
            "price": 60_000,
            "strategy": "mm1",
        },
        {"type": "pnl", "id": f"P{number}", "amount": 1.5, "strategy": "mm1"},
        {"type": "cash_flow", "id": f"C{number}", "venue": "kraken", "asset": "USDT", "amount": 1},
        {"type": "edge", "bps": 12.5, "strategy": "mm1"},
        {"type": "order", "id": "O1", "venue": "kraken", "symbol": "BTC/USDT", "status": "closed"},
        {"type": "open_orders", "venue": "kraken", "count": 3},
        {"type": "heartbeat", "venue": "kraken", "symbol": "BTC/USDT", "strategy": "mm1"},
        {"type": "balance", "venue": "kraken", "asset": "USDT", "free": 9_000},
        {
            "type": "balances",
            "venue": "kraken",
            # The asset without a price comes later: until then the equity is known.
            "assets": {
                "BTC": {"free": 0.01},
                "USDT": {"free": 9_400},
                **({"XYZ": {"free": 1}} if number else {}),
            },
        },
        {
            "type": "position",
            "venue": "kraken",
            "symbol": "ETH/USDT:USDT",
            "quantity": -0.5,
            "entry_price": 3_010,
        },
    ]


def play(sidecar: Sidecar) -> None:
    """Touch every metric: trade, be refused, breach, trip, freeze."""
    order = {"venue": "kraken", "symbol": "BTC/USDT", "side": "buy", "quantity": 0.01}
    for number in range(3):
        sidecar.events(*a_moment(number))
        sidecar.check(**order, price=60_000)
        bad = {"type": "latency", "venue": "no spaces", "seconds": 1}
        assert sidecar.request("POST", "/v1/events", bad)[0] == 400
        time.sleep(1)
    slow = {"type": "latency", "venue": "kraken", "operation": "add_order", "seconds": 0.4}
    sidecar.events(*[slow] * 30)
    sidecar.check(**order, price=60_000)
    assert sidecar.operate("disable", "venue:kraken", limit="error_rate")[0] == 200
    assert sidecar.operate("freeze", "strategy:mm1")[0] == 200


def empty(dashboard: Json, prometheus: Prometheus) -> list[str]:
    """Return the queries and variables without a result."""
    found = [where for where, expr in expressions(dashboard) if not prometheus.values(expr)]
    asked = variables(dashboard).items()
    return found + [f"${name}" for name, of in asked if not prometheus.labels(*of)]


@pytest.mark.slow
def test_no_query_is_empty(tool: Tool, tmp_path: Path, oms: Webhooks) -> None:
    """Every query of every panel shows something of a sidecar that met everything once."""
    with watched(tool, tmp_path, oms) as (sidecar, prometheus):
        eventually(
            lambda: prometheus.values("riskmon_build_info"), "the first scrape", pause_seconds=0.1
        )
        play(sidecar)
        seen = 'changes(riskmon_freeze_triggered_total{reason="manual"}[10s]) > 0'
        eventually(
            lambda: len(prometheus.values(seen)) > 2, "scrapes of the last event", pause_seconds=0.1
        )
        assert {path.stem: empty(read(path), prometheus) for path in DASHBOARDS} == {
            path.stem: [] for path in DASHBOARDS
        }

        # A query of a metric that does not exist is detected.
        blind = copy.deepcopy(OVERVIEW)
        blind["annotations"]["list"] = []
        panels(blind)[0]["targets"][0]["expr"] = 'riskmon_gate_level{scope="nobody"}'
        assert empty(blind, prometheus) == ["Gate A"]
