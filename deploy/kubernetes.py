"""Kubernetes: kustomize renders each overlay, and the API schemas of two versions judge each object.

The schemas are strict: a field that the API does not know is a finding, as with `kubectl apply --validate=strict`. A
schema sees one object only; what must agree between them (labels, ports, names, the time that a pod has to end) are the
rules of `deploy.agreement`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from cloudcoil.models.prometheus_operator import v1 as prometheus_operator

from deploy import agreement
from deploy.kustomize import RENDERED, render

__all__ = ["VERSIONS", "check"]

# The two newest minor versions.
VERSIONS = ("1.36", "1.37")


def check(root: Path) -> list[str]:
    """Findings in all that can be applied."""
    findings = []
    for name in RENDERED:
        try:
            objects = [item for item in yaml.safe_load_all(render(root, name)) if item]
        except ValueError as error:
            findings.append(f"{name}: {error}")
            continue
        findings += [f"{name}: {finding}" for item in objects for finding in _check_object(item)]
        findings += [f"{name}: {finding}" for finding in agreement.check(objects)]
    return findings


def _check_object(item: dict[str, Any]) -> Iterator[str]:
    what = f"{item.get('kind')} {item.get('metadata', {}).get('name')}"
    if item.get("apiVersion") == "monitoring.coreos.com/v1":
        for whole in jsonschema.Draft202012Validator(_custom_schema(item["kind"])).iter_errors(item):
            error = _deepest(whole)
            yield f"{what}: {error.json_path}: {error.message[:300]}"
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{what}: Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message[:300]}"
        except kubernetes_validate.utils.SchemaNotFoundError as error:
            yield f"{what}: Kubernetes {version} has no {error.kind} of {error.api_version}"


def _deepest(error: Any) -> Any:
    """Where it is wrong, not where it may be one of several: every optional field is it or null."""
    while error.context:
        error = max(error.context, key=lambda each: len(each.absolute_path))
    return error


@functools.cache
def _custom_schema(kind: str) -> dict[str, Any]:
    """The schema of the Prometheus Operator's own definition, made strict."""
    schema: dict[str, Any] = getattr(prometheus_operator, kind).model_json_schema(by_alias=True)
    metadata = schema["$defs"].pop("ObjectMeta", None)
    _forbid_others(schema)
    if metadata is not None:
        schema["$defs"]["ObjectMeta"] = metadata  # the API's own, and checked wherever it stands
    return schema


def _forbid_others(schema: object) -> None:
    if isinstance(schema, dict):
        if schema.get("properties"):
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            _forbid_others(value)
    elif isinstance(schema, list):
        for value in schema:
            _forbid_others(value)
