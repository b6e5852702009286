"""The PrometheusRule of the cluster, made from the rule files that Compose's Prometheus reads.

kustomize can carry files into ConfigMaps, but not into another object's fields; so the object is written by
`scripts/check-deploy --write` and held to the files by the check.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

__all__ = ["OBJECT", "RULES", "check", "prometheus_rule", "write"]

RULES = Path("monitoring/prometheus/rules")
OBJECT = Path("k8s/components/monitoring/prometheusrule.yaml")
_HEAD = "# Written from monitoring/prometheus/rules by `scripts/check-deploy --write`; change them there.\n"


def prometheus_rule(root: Path) -> dict[str, Any]:
    """The object: all groups of all rule files, in the files' order."""
    files = sorted((root / RULES).glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "embedding", "labels": {"release": "kube-prometheus-stack"}},
        "spec": {"groups": groups},
    }


def check(root: Path) -> list[str]:
    """A finding if the object is not what the files make."""
    wanted = prometheus_rule(root)
    if not wanted["spec"]["groups"]:
        return [f"{RULES}: wanted groups of rules, got none"]
    path = root / OBJECT
    if not path.is_file() or yaml.safe_load(path.read_text()) != wanted:
        return [f"{OBJECT}: wanted what {RULES} makes, got something else; run scripts/check-deploy --write"]
    return []


def write(root: Path) -> None:
    """Write the object."""
    (root / OBJECT).write_text(_HEAD + yaml.safe_dump(prometheus_rule(root), sort_keys=False, width=120))
