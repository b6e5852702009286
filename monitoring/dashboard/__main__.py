"""The Grafana dashboard, written by Grafana's own Foundation SDK (types for Grafana 11.6).

    python -m monitoring.dashboard           writes monitoring/grafana/dashboards/embedding.json
    python -m monitoring.dashboard --check   fails if that file is stale

Its rows are questions, most urgent first. tests/monitoring runs every query against a real Prometheus that watches the
real service.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboard import inside, service
from monitoring.dashboard.panels import SOURCE

__all__ = ["FILE", "render"]

FILE = Path(__file__).resolve().parents[1] / "grafana" / "dashboards" / "embedding.json"


def render() -> str:
    """The dashboard's JSON."""
    result = (
        dashboard.Dashboard("Embedding service")
        .uid("embedding-service")
        .description("Written by monitoring/dashboard/. What to do about an alert: docs/runbook.md.")
        .tags(["embedding-service"])
        .readonly()
        .refresh("15s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("namespace")
            .label("Namespace")
            .datasource(SOURCE)
            .query("label_values(embedding_build_info, namespace)")
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True)
            # Of an empty match too: on one host nothing has a namespace.
            .all_value(".*")
            .multi(True)
        )
    )
    identity = 0
    for title, panels in (
        ("Is it up?", service.up()),
        ("How fast?", service.fast()),
        ("How loaded?", service.loaded()),
        ("Where does the time go?", inside.time()),
        ("How full are the batches?", inside.batches()),
        ("What do the machines do?", inside.machines()),
        ("And their GPUs?", inside.gpus()),
        ("Does the cache help?", service.cache()),
        ("What goes wrong?", service.errors()),
    ):
        identity += 1
        result = result.with_row(dashboard.Row(title).id(identity))
        for panel in panels:
            identity += 1
            result = result.with_panel(panel.id(identity))
    return json.dumps(result.build(), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file, or with --check tell whether it is stale by the exit code."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.dashboard", description="Write Grafana's dashboard.")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if the file is stale")
    content = render()
    if parser.parse_args(arguments).check:
        if FILE.is_file() and FILE.read_text() == content:
            return 0
        sys.stderr.write(f"{FILE} is stale: run python -m monitoring.dashboard\n")
        return 1
    FILE.write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
