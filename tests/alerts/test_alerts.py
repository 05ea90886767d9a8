"""The alerts: complete, consistent with the metrics, with firing and quiet cases."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from riskmon.metrics.table import TABLE
from tests.support import ROOT

ALERTS = ROOT / "alerts"
RULES = ALERTS / "rules" / "riskmon.yml"
CASES = sorted((ALERTS / "tests").glob("*.yml"))
RUNBOOK = ALERTS / "runbook.md"
RUNBOOK_URL = "https://github.com/riskmon/riskmon/blob/main/alerts/runbook.md"
ALERTMANAGER = ALERTS / "alertmanager.yml"

Tool = Callable[[str], Path]


def rules(path: Path = RULES) -> list[dict[str, Any]]:
    """Return all alerts of a rules file."""
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


NAMES = [rule["alert"] for rule in rules()]


def exported() -> set[str]:
    """Return the names of all series of the metrics table."""
    parts = {"histogram": ("_bucket", "_count", "_sum")}
    return {row.name + part for row in TABLE for part in parts.get(row.type, ("",))}


def unknown_metrics(path: Path) -> set[str]:
    """Return the series in the rules that no metric has."""
    asked = {name for rule in rules(path) for name in re.findall(r"\briskmon_\w+", rule["expr"])}
    return asked - exported()


def incomplete(path: Path) -> list[str]:
    """Return the missing parts of alerts, as `alert: part`."""
    headings = re.findall(r"^## (\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    found = []
    for rule in rules(path):
        name, notes = rule["alert"], rule.get("annotations", {})
        good = {
            "severity": rule.get("labels", {}).get("severity") in {"critical", "warning"},
            "summary": bool(notes.get("summary")),
            "description": bool(notes.get("description")),
            "runbook_url": notes.get("runbook_url") == f"{RUNBOOK_URL}#{name.lower()}",
            "runbook heading": name in headings,
        }
        found += [f"{name}: {part}" for part, is_good in good.items() if not is_good]
    return found


def run(*command: str | Path) -> tuple[int, str]:
    """Run a program. Return its exit code and its output."""
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_promtool_accepts_the_rules(tool: Tool) -> None:
    """All expressions and templates parse."""
    code, said = run(tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert code == 0, said


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_alerts_fire_and_stay_quiet(tool: Tool, cases: Path) -> None:
    """Each alert fires on its series, with its exact texts, and not on the quiet ones."""
    code, said = run(tool("promtool"), "test", "rules", cases)
    assert code == 0, said


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_has_a_firing_and_a_quiet_case(name: str) -> None:
    """Each alert has a firing and a quiet case, which are run against the real rules."""
    outcomes = set()
    for path in CASES:
        cases = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert cases["rule_files"] == ["../rules/riskmon.yml"], path
        for case in cases["tests"]:
            judged = [one for one in case["alert_rule_test"] if one["alertname"] == name]
            outcomes |= {bool(one.get("exp_alerts")) for one in judged}
    assert outcomes == {True, False}


def test_alert_names_are_unique() -> None:
    """Alert names are unique, so that no case tests another alert."""
    assert len(NAMES) == len(set(NAMES))


def test_every_alert_has_a_summary_and_a_runbook_heading() -> None:
    """Each alert has a severity, a summary, a description and its heading in the runbook."""
    assert incomplete(RULES) == []


def test_every_heading_has_its_four_parts() -> None:
    """Each heading has meaning, impact, diagnosis and mitigation, and belongs to an alert."""
    _, *sections = re.split(r"^## ", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(section.split("\n", 1)[0] for section in sections) == sorted(NAMES)
    for section in sections:
        parts = re.findall(r"^\*\*(\w+)\.\*\*", section, re.MULTILINE)
        assert parts == ["Meaning", "Impact", "Diagnosis", "Mitigation"], section[:40]


def test_rules_and_runbook_name_only_real_metrics() -> None:
    """Rules and runbook name only metrics that riskmon exports."""
    assert unknown_metrics(RULES) == set()
    advised = set(re.findall(r"`(riskmon_\w+)`", RUNBOOK.read_text(encoding="utf-8")))
    assert advised - {row.name for row in TABLE} == set()


def test_faulty_rules_are_caught(tmp_path: Path) -> None:
    """The checks above detect an unknown metric, a missing severity and a wrong runbook address."""
    bad = tmp_path / "bad.yml"
    text = RULES.read_text(encoding="utf-8")
    for before, after in (
        ("riskmon_cancel_unconfirmed > 0", "riskmon_cancel_open > 0"),
        ("severity: critical", "team: trading"),
        ("#riskmonfrozen", "#frozen"),
    ):
        assert before in text
        text = text.replace(before, after, 1)
    bad.write_text(text, encoding="utf-8")
    assert unknown_metrics(bad) == {"riskmon_cancel_open"}
    assert incomplete(bad) == ["RiskmonDown: severity", "RiskmonFrozen: runbook_url"]


# Each change makes one alert fire too rarely or too often.
BLUNTED = {
    "RiskmonDown": ('up{job="riskmon"} == 0', 'up{job="riskmon"} == 2'),
    "RiskmonHalted": ('{scope="account"} == 0', '{scope="account"} <= 1'),
    "RiskmonBreakerOpen": ("open|half_open", "open"),
    "RiskmonFrozen": ('{state="frozen"}', '{state=~"frozen|open"}'),
    "RiskmonCancelUnconfirmed": ("riskmon_cancel_unconfirmed > 0", "riskmon_cancel_unconfirmed"),
    "RiskmonLimitUnknown": ("for: 1m", "for: 50s"),
    "RiskmonLimitNear": ("_ratio >= riskmon_limit_warning_ratio", "_ratio > 0.5"),
    "RiskmonLatencyHigh": ("histogram_quantile(0.99", "histogram_quantile(0.01"),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_cases_detect_a_changed_expression(tool: Tool, tmp_path: Path, name: str) -> None:
    """An expression that matches too little or too much fails the cases of its alert."""
    shutil.copytree(ALERTS, tmp_path / "alerts")
    blunted = tmp_path / "alerts" / "rules" / "riskmon.yml"
    head, body = blunted.read_text(encoding="utf-8").split(f"- alert: {name}\n")
    before, after = BLUNTED[name]
    assert before in body
    body = body.replace(before, after, 1)
    blunted.write_text(f"{head}- alert: {name}\n{body}", encoding="utf-8")
    every = sorted(tmp_path.glob("alerts/tests/*.yml"))
    cases = [path for path in every if f"alertname: {name}\n" in path.read_text(encoding="utf-8")]
    code, said = run(tool("promtool"), "test", "rules", *cases)
    assert code != 0
    assert f"alertname: {name}," in said


def test_amtool_accepts_the_example(tool: Tool) -> None:
    """amtool finds no fault in the example."""
    code, said = run(tool("amtool"), "check-config", ALERTMANAGER)
    assert code == 0, said


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_routes_follow_severity(tool: Tool, rule: dict[str, Any]) -> None:
    """Severity critical is routed to pages, severity warning is not."""
    receiver = {"critical": "pages", "warning": "notices"}[rule["labels"]["severity"]]
    labels = [f"alertname={rule['alert']}", f"severity={rule['labels']['severity']}"]
    code, said = run(
        tool("amtool"),
        *("config", "routes", "test", f"--config.file={ALERTMANAGER}"),
        *(f"--verify.receivers={receiver}", "account=main", *labels),
    )
    assert code == 0, said


def test_a_wrong_receiver_is_caught(tool: Tool, tmp_path: Path) -> None:
    """A route to an undefined receiver is refused."""
    bad = tmp_path / "alertmanager.yml"
    text = ALERTMANAGER.read_text(encoding="utf-8")
    assert "receiver: pages" in text
    bad.write_text(text.replace("receiver: pages", "receiver: pager"), encoding="utf-8")
    code, said = run(tool("amtool"), "check-config", bad)
    assert code != 0
    assert "pager" in said


def test_inhibitions_name_real_alerts() -> None:
    """All alerts in the inhibitions exist."""
    named = set(re.findall(r"\bRiskmon[A-Z]\w+", ALERTMANAGER.read_text(encoding="utf-8")))
    assert named
    assert named <= set(NAMES)
