"""The rules: promtool finds them valid, each alert fires and keeps still when it should, and the tests would notice."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.prometheus import CONFIG, RULE_TESTS, RULES, promtool
from tests.support.service import ROOT

ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for path in RULES.glob("*.yml")
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
RECORDS: dict[str, dict[str, Any]] = {
    rule["record"]: rule
    for path in RULES.glob("*.yml")
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "record" in rule
}
CASES: dict[str, list[dict[str, Any]]] = defaultdict(list)
for _case in yaml.safe_load((RULE_TESTS / "alerts.yml").read_text())["tests"]:
    CASES[_case["alert_rule_test"][0]["alertname"]].append(_case)


def test_configuration_and_rules_are_valid() -> None:
    done = promtool("check", "config", CONFIG)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(RULE_TESTS.glob("*.yml")), ids=lambda path: path.stem)
def test_promtool_passes(path: Path) -> None:
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert set(CASES) == set(ALERTS)
    for name, cases in CASES.items():
        fires = [bool(test["exp_alerts"]) for case in cases for test in case["alert_rule_test"]]
        assert set(fires) == {True, False}, f"{name}: wanted a case with and one without an alert, got {fires}"


def test_every_recording_rule_has_a_test_or_is_used_by_an_alert() -> None:
    tested = (RULE_TESTS / "recording.yml").read_text() + "".join(rule["expr"] for rule in ALERTS.values())
    assert [name for name in RECORDS if name not in tested] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_that_fires_never_or_always_is_noticed(tmp_path: Path, name: str) -> None:
    assert run_cases(tmp_path, name, ALERTS[name]["expr"]) == 0
    assert run_cases(tmp_path, name, "vector(1) > 2") != 0
    assert run_cases(tmp_path, name, "vector(1)") != 0


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_every_alert_says_what_and_where_and_has_a_runbook_entry(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in [heading.lower() for heading in headings], f"{page} has no heading {name}"


def run_cases(directory: Path, name: str, expression: str) -> int:
    """promtool's exit code for the cases of one alert, with this expression in place of its own."""
    rule = {**ALERTS[name], "expr": expression}
    records = [rule for rule in RECORDS.values() if rule["record"] in ALERTS[name]["expr"]]
    (directory / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": [*records, rule]}]}))
    tests = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": CASES[name]}
    (directory / "tests.yml").write_text(yaml.safe_dump(tests))
    return promtool("test", "rules", directory / "tests.yml").returncode
