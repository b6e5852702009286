"""The dashboard: its file is what its code writes, Grafana's own types know every field, and it is fit to read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.dashboard.__main__ import FILE, main, render
from tests.support.service import ROOT

GRAFANA = ROOT / "monitoring" / "grafana"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# Colours and layouts aside: those of our kinds of panels.
UNITS = {"bytes", "celsius", "none", "ops", "percentunit", "reqps", "s", "short", "watt"}


def test_the_file_is_what_the_code_writes() -> None:
    assert FILE.read_text() == render()


def test_a_stale_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = tmp_path / "embedding.json"
    stale.write_text(render().replace("How fast?", "How slow?"))
    monkeypatch.setattr("monitoring.dashboard.__main__.FILE", stale)
    assert main(["--check"]) == 1
    assert main([]) == 0
    assert main(["--check"]) == 0


def test_grafana_knows_every_field() -> None:
    assert unknown_fields(DASHBOARD) == []


def test_an_unknown_field_is_noticed() -> None:
    broken = json.loads(FILE.read_text())
    broken["panels"][1]["fieldConfig"]["defaults"]["unti"] = "s"
    broken["panels"][1]["targets"][0]["legend"] = "words"
    assert unknown_fields(broken) == ["panels.1.fieldConfig.defaults.unti", "panels.1.targets.0.legend"]


def test_ids_are_unique_and_panels_do_not_overlap() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    cells = [cell for panel in DASHBOARD["panels"] for cell in cells_of(panel["gridPos"])]
    assert len(cells) == len(set(cells))
    assert all(x < 24 for x, _ in cells)


def test_rows_are_the_questions_in_order() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows[:5] == [
        "Is it up?",
        "How fast?",
        "How loaded?",
        "Where does the time go?",
        "How full are the batches?",
    ]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_is_fit_to_read(panel: dict[str, Any]) -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}
    assert panel["title"]
    assert panel["description"]
    assert panel["datasource"] == source
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == source
        assert target["legendFormat"]
        assert "$namespace" in target["expr"] or "{" not in target["expr"] or target["expr"].startswith(UNBOUND)
    if panel["type"] == "timeseries":
        assert panel["options"]["legend"]["showLegend"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


# What knows no namespace: the exporter of a machine, and what Prometheus says of its own alerts.
UNBOUND = ("count(ALERTS", "1 - avg by (instance) (rate(node_cpu")


def test_provisioning_agrees_with_the_dashboard_and_with_prometheus() -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    scraping = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text())["global"]
    (variable,) = [each for each in DASHBOARD["templating"]["list"] if each["type"] == "datasource"]
    assert [source["type"] for source in sources if source["isDefault"]] == [variable["query"]]
    assert sources[0]["jsonData"]["timeInterval"] == scraping["scrape_interval"]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/embedding.yml").read_text())["providers"]
    assert provider["type"] == "file"


def unknown_fields(document: dict[str, Any]) -> list[str]:
    """Where a dashboard has something that Grafana's types lose or change on the way in and out."""
    register_default_plugins()
    known = json.loads(json.dumps(Dashboard.from_json(document), cls=JSONEncoder))
    return sorted(differences(document, known))


def differences(wanted: Any, got: Any, at: str = "") -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key, value in wanted.items():
            yield from differences(value, got.get(key), f"{at}.{key}".lstrip("."))
    elif isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        for number, (one, other) in enumerate(zip(wanted, got, strict=True)):
            yield from differences(one, other, f"{at}.{number}")
    elif wanted != got:
        yield at


def cells_of(position: dict[str, int]) -> list[tuple[int, int]]:
    xs = range(position["x"], position["x"] + position["w"])
    return [(x, y) for x in xs for y in range(position["y"], position["y"] + position["h"])]
