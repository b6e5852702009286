"""The simulated cluster: what must hold whatever the figures are, and what the repository ships."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.errors import BenchmarkError
from benchmarks.scaling.cluster import Environment, Outcome, simulate
from benchmarks.scaling.hpa import DEFAULT_DOWN, DEFAULT_UP, Autoscaler, Metric, Policy, Rules
from benchmarks.scaling.inputs import parse_autoscaler, read_inputs
from benchmarks.scaling.pod import ADMISSION
from benchmarks.scaling.service import ServiceTime, ShimCost, busy_share, fit, fit_shim, points
from benchmarks.scaling.traffic import Day, Mix, Pool, Spike, pool
from tests.support.service import ROOT

SERVICE = ServiceTime(batch_s=0.01, token_s=0.0002, processors=4)
REQUESTS = pool(Mix({"mixed": 1.0}, {4: 1.0}), {"mixed": [50]})
ENVIRONMENT = Environment(
    service=SERVICE,
    shim=ShimCost(0.001, 0.0),
    busy_share=1.0,
    limits=ADMISSION,
    triton_processors=4,
    rest_processors=1,
    pending_s=5,
    start_s=10,
    connection_life_s=0,
)
SCALER = Autoscaler(2, 10, (Metric("triton", 0.7),))


def run(
    per_s: float = 60.0,
    seconds: float = 300.0,
    scaler: Autoscaler | None = SCALER,
    environment: Environment = ENVIRONMENT,
    replicas: int = 2,
    spike: Spike | None = None,
    requests: Pool = REQUESTS,
) -> Outcome:
    day = Day(per_s, per_s, spike or Spike(math.inf, 0, 1))
    return simulate(environment, scaler, requests, day.per_s, (0.0, seconds), replicas)


def test_the_same_seed_gives_the_same_course() -> None:
    first, second = run(), run()
    assert first.latencies_s.tolist() == second.latencies_s.tolist()
    assert first.replicas.tolist() == second.replicas.tolist()


def test_every_request_is_answered_or_refused() -> None:
    """Pods come and go meanwhile, and none of them takes requests along."""
    outcome = run(
        per_s=150,
        seconds=1500,
        spike=Spike(300, 120, 5.0),
        scaler=replace(SCALER, down=Rules(0, (Policy("Percent", 100, 15),))),
    )
    asked = len(outcome.latencies_s) + int(outcome.refused.sum())
    assert outcome.refused.sum() > 0
    assert np.diff(outcome.replicas).min() < 0
    # The curve's sum, within what a Poisson process varies by.
    expected = outcome.texts_per_s.sum() / REQUESTS.mean_texts
    assert asked == pytest.approx(expected, abs=4 * math.sqrt(expected))


def test_replicas_settle_where_processors_are_as_busy_as_wanted() -> None:
    outcome = run(per_s=400, seconds=1500)
    late = outcome.at_s > 600
    # Within the tolerance, and by a whole number of pods.
    assert 0.5 < outcome.busy[late].mean() < 0.7 * 1.1
    assert outcome.refused[late].sum() == 0
    assert len(set(outcome.replicas[late].tolist())) <= 2


def test_a_pod_gets_requests_when_it_is_ready() -> None:
    outcome = run(per_s=100, spike=Spike(100, 1000, 6.0))
    created = int(outcome.at_s[np.argmax(outcome.replicas > 2)])
    ready = int(outcome.at_s[np.argmax(outcome.ready > 2)])
    assert ready - created in (15, 16)  # to the step


def test_a_metric_is_old_when_it_arrives() -> None:
    """Five seconds until metrics-server, a window of 15 s: a spike is seen in part at the soonest."""
    outcome = run(per_s=100, spike=Spike(100, 1000, 6.0))
    created = outcome.at_s[np.argmax(outcome.replicas > 2)]
    assert 100 + 5 < created <= 100 + 5 + 15 + 15 + 15


def test_a_saturated_metric_bounds_each_step() -> None:
    """Processors are never more than all busy: at 70 % wanted, 4 pods become at most ceil(4 ÷ 0.7) = 6."""
    outcome = run(per_s=200, replicas=4, spike=Spike(100, 1000, 20.0), scaler=replace(SCALER, max_replicas=50))
    steps = [int(each) for each in outcome.replicas[np.append(True, np.diff(outcome.replicas) != 0)]]
    assert steps[:2] == [4, 6]


def test_a_target_above_what_processors_can_show_never_scales_up() -> None:
    environment = replace(ENVIRONMENT, busy_share=0.96)
    scaler = replace(SCALER, metrics=(Metric("triton", 0.9),))
    outcome = run(per_s=100, seconds=600, spike=Spike(100, 1000, 20.0), scaler=scaler, environment=environment)
    # 96 % ÷ 90 % is within the tolerance.
    assert outcome.replicas.max() == 2


def test_the_whole_pod_s_processors_hide_a_saturated_container() -> None:
    """Triton's 4 of 5 processors: at most 80 % and a little of the shim's."""
    scaler = replace(SCALER, metrics=(Metric("", 0.8),))
    outcome = run(per_s=100, seconds=600, spike=Spike(100, 1000, 6.0), scaler=scaler)
    assert outcome.replicas.max() == 2
    assert run(per_s=100, seconds=600, spike=Spike(100, 1000, 6.0)).replicas.max() > 4


def test_connections_that_never_end_leave_new_pods_idle() -> None:
    spike = Spike(100, 10_000, 6.0)
    balanced = run(per_s=100, seconds=600, spike=spike)
    pinned = run(per_s=100, seconds=600, spike=spike, environment=replace(ENVIRONMENT, connection_life_s=math.inf))
    late = balanced.at_s > 300
    assert balanced.refused[late].sum() == 0
    assert pinned.refused[late].sum() > 0.3 * pinned.requests[late].sum()
    assert pinned.busy[late].mean() < 0.9


def test_pod_hours() -> None:
    assert run(scaler=None, seconds=360, replicas=5).pod_hours == pytest.approx(0.5)


# What is read.


def benchmark(batch_s: float, token_s: float, shim_s: float) -> dict[str, Any]:
    """Results as of a service that is exactly as the model says."""
    cells = []
    for texts, tokens in ((1, 10), (8, 40), (32, 120)):
        seconds = batch_s + texts * tokens * token_s
        measured = {
            "texts_per_s": texts / seconds,
            "batch": {"bert": float(texts)},
            "cpu_ms_per_text": {
                "load generator": 99.0,
                "REST shim": 1000 * shim_s / texts,
                "bert": 1800 * seconds / texts,
            },
        }
        cells.append(
            {
                "workload": "mixed",
                "texts": texts,
                "concurrency": 1,
                "mean_tokens": tokens,
                "measured": {"REST": measured},
            }
        )
    cells.append({"workload": "mixed", "texts": 1, "concurrency": 9, "mean_tokens": 1, "measured": {"reference": {}}})
    return {"about": {"processors": 2}, "cells": cells}


def test_the_fit_finds_what_was_put_in() -> None:
    measured = points(benchmark(0.008, 0.0003, 0.002))
    service = fit(measured, 2)
    assert [service.batch_s, service.token_s] == pytest.approx([0.008, 0.0003])
    assert service.on(4).seconds(100) == pytest.approx(0.008 + 100 * 0.0003 / 2)
    assert busy_share(measured) == pytest.approx(0.9)  # 1.8 of 2 processors
    assert fit_shim(measured).request_s == pytest.approx(0.002)


def test_the_benchmark_s_own_results_fit_within_a_fifth() -> None:
    """Every cell of docs/benchmarks/results.json; or the two figures do not describe the service any more."""
    results = json.loads((ROOT / "docs" / "benchmarks" / "results.json").read_text())
    service = fit(points(results), results["about"]["processors"])
    errors = {point.name: service.seconds(point.tokens) / point.seconds - 1 for point in points(results)}
    assert len(errors) >= 10
    assert all(abs(error) < 1 / 5 for error in errors.values()), errors


def test_what_is_shipped_is_read() -> None:
    given = read_inputs()
    assert (given.autoscaler.min_replicas, given.autoscaler.max_replicas) == (3, 20)
    assert {metric.container: metric.target for metric in given.autoscaler.metrics} == {"triton": 0.7, "rest": 0.7}
    assert given.autoscaler.up == Rules(0, (Policy("Percent", 100, 30), Policy("Pods", 4, 30)))
    assert given.autoscaler.down == Rules(300, (Policy("Percent", 10, 60), Policy("Pods", 1, 60)))
    assert given.requested == {"triton": 4, "rest": 1, "memory_gib": 3}
    assert given.limits.max_batch == 64


def test_defaults_of_a_bare_manifest() -> None:
    manifest = yaml.safe_load(
        "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, spec: {maxReplicas: 5, metrics: [{type: Resource, "
        "resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]}}"
    )
    assert parse_autoscaler(manifest) == Autoscaler(1, 5, (Metric("", 0.8),), DEFAULT_UP, DEFAULT_DOWN)


def test_a_metric_that_is_not_simulated_is_refused() -> None:
    manifest = yaml.safe_load((ROOT / "k8s" / "base" / "hpa.yaml").read_text())
    manifest["spec"]["metrics"].append({"type": "Pods", "pods": {"metric": {"name": "queue"}}})
    with pytest.raises(BenchmarkError, match="wanted a metric that is the use of processors"):
        parse_autoscaler(manifest)
