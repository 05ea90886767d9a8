"""Converts the dashboards from the YAML beside this file to the JSON that Grafana loads.

    python -m dashboards.build [FOLDER]

grafana-dashboard-builder reads the YAML and assembles its parts, but its panels are those of an
older Grafana. The three components in this module emit the current format, and the exporter
arranges the panels on Grafana's grid of 24 columns.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from grafana_dashboards.components.annotations import AnnotationsItemBase
from grafana_dashboards.components.panels import PanelsItemBase
from grafana_dashboards.components.templates import TemplatesItemBase
from grafana_dashboards.exporter import DashboardExporter, ProjectProcessor
from grafana_dashboards.parser import DefinitionParser

HERE = Path(__file__).parent
SCHEMA_VERSION = 39
COLUMNS = 24
# Abbreviations of label matchers in the queries of the YAML: riskmon_equity{@account}.
_INSTANCE = 'job=~"$job",instance=~"$instance"'
MATCHERS = {
    "@instance": _INSTANCE,
    "@account": f'{_INSTANCE},account=~"$account"',
    "@venue": f'{_INSTANCE},account=~"$account",venue=~"$venue"',
}
DATASOURCE = {"type": "prometheus", "uid": "$datasource"}
# The defaults of Grafana for a new panel of the type.
OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
    },
    "bargauge": {
        "displayMode": "lcd",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
        "valueMode": "color",
    },
    "state-timeline": {
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "mergeValues": True,
        "rowHeight": 0.85,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "table": {"cellHeight": "sm", "footer": {"show": False}, "showHeader": True},
}
# Types that show only current values, so that their queries need no range.
INSTANT = {"stat", "bargauge", "table"}


class Panel(PanelsItemBase):  # type: ignore[misc] # the base has no types
    """`panel:` with type, title, description, unit, size [columns, rows] and queries.

    `colors` are [value, colour] steps, `mappings` are names for values. `min`, `max`, `decimals`,
    `custom`, `overrides`, `options` and `transformations` are those of Grafana.
    """

    def gen_json_from_data(self, data: dict[str, Any], context: object) -> dict[str, Any]:
        """Return the panel as Grafana stores it, without its position."""
        kind = data["type"]
        panel = {
            "type": kind,
            "title": data["title"],
            "description": " ".join(data["description"].split()),
            "datasource": DATASOURCE,
            "fieldConfig": {"defaults": _defaults(data), "overrides": data.get("overrides", [])},
            "options": OPTIONS[kind] | data.get("options", {}),
            "targets": [
                _target(chr(ord("A") + at), kind, query) for at, query in enumerate(data["queries"])
            ],
            "size": data["size"],
        }
        if "transformations" in data:
            panel["transformations"] = data["transformations"]
        return panel


class Variable(TemplatesItemBase):  # type: ignore[misc] # the base has no types
    """`variable:` with name, label and query; without a query it selects the datasource."""

    def gen_json_from_data(self, data: dict[str, Any], context: object) -> dict[str, Any]:
        """Return the variable as Grafana stores it."""
        shown = {"name": data["name"], "label": data["label"], "hide": 0}
        if "query" not in data:
            return {**shown, "type": "datasource", "query": "prometheus", "refresh": 1}
        query = _promql(data["query"])
        return {
            **shown,
            "type": "query",
            "datasource": DATASOURCE,
            "definition": query,
            "query": {"query": query, "refId": data["name"]},
            "refresh": 2,  # when the time range changes, because new venues may have appeared
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        }


class Mark(AnnotationsItemBase):  # type: ignore[misc] # the base has no types
    """`mark:` with name, expr, title, text and colour; the value of the series is a time in ms."""

    def gen_json_from_data(self, data: dict[str, Any], context: object) -> dict[str, Any]:
        """Return the annotation as Grafana stores it."""
        return {
            "name": data["name"],
            "datasource": DATASOURCE,
            "enable": True,
            "iconColor": data["color"],
            "target": {"expr": _promql(data["expr"]), "refId": "Anno"},
            "titleFormat": data["title"],
            "textFormat": data["text"],
            "useValueForTime": True,
        }


class Files(DashboardExporter):  # type: ignore[misc] # the base has no types
    """An exporter that arranges the panels of each dashboard and writes it to `NAME.json`."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def process_dashboard(
        self, project_name: str, dashboard_name: str, dashboard_data: dict[str, Any]
    ) -> None:
        """Write one dashboard, without the members that the builder adds for an older Grafana."""
        dashboard = {
            "uid": dashboard_data["uid"],
            "title": dashboard_data["title"],
            "tags": dashboard_data["tags"],
            "time": dashboard_data["time"],
            "refresh": dashboard_data["refresh"],
            "timezone": "",
            "editable": False,
            "graphTooltip": 1,  # one crosshair for all panels
            "schemaVersion": SCHEMA_VERSION,
            "links": [],
            "annotations": dashboard_data["annotations"],
            "templating": {"list": dashboard_data["templating"]["list"]},
            "panels": _laid_out(dashboard_data["rows"]),
        }
        text = json.dumps(dashboard, indent=2, sort_keys=True, ensure_ascii=False)
        (self._folder / f"{dashboard_name}.json").write_text(text + "\n", encoding="utf-8")


def _promql(text: str) -> str:
    for short, matchers in MATCHERS.items():
        text = text.replace(short, matchers)
    return " ".join(text.split())


def _defaults(data: dict[str, Any]) -> dict[str, Any]:
    steps = data.get("colors", [[None, "blue"]])
    defaults: dict[str, Any] = {
        "unit": data["unit"],
        "color": {"mode": "palette-classic" if data["type"] == "timeseries" else "thresholds"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": color} for value, color in steps],
        },
        "custom": data.get("custom", {}),
    }
    if "mappings" in data:
        options = {
            str(value): {"text": text, "color": color, "index": at}
            for at, (value, (text, color)) in enumerate(data["mappings"].items())
        }
        defaults["mappings"] = [{"type": "value", "options": options}]
    return defaults | {key: data[key] for key in ("min", "max", "decimals") if key in data}


def _target(ref: str, kind: str, query: dict[str, str]) -> dict[str, Any]:
    instant = kind in INSTANT
    return {
        "refId": ref,
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": _promql(query["expr"]),
        "legendFormat": query.get("legend", "__auto"),
        "format": "table" if kind == "table" else "time_series",
        "instant": instant,
        "range": not instant,
    }


def _laid_out(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Arrange the panels of each row below its heading, from left to right, and number them."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        heading = {"type": "row", "title": row["title"], "collapsed": False, "panels": []}
        panels.append({**heading, "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}})
        y, x, height = y + 1, 0, 0
        for panel in row["panels"]:
            w, h = panel.pop("size")
            if x + w > COLUMNS:
                y, x, height = y + height, 0, 0
            panels.append({**panel, "gridPos": {"x": x, "y": y, "w": w, "h": h}})
            x, height = x + w, max(height, h)
        y += height
    return [{**panel, "id": number} for number, panel in enumerate(panels, 1)]


def build(folder: Path) -> None:
    """Write the JSON of every dashboard to the folder."""
    projects = DefinitionParser().load_projects(sorted(map(str, HERE.glob("*.yaml"))))
    ProjectProcessor([Files(folder)]).process_projects(projects)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
