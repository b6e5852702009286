"""Everything that docs/scaling.md tells, computed: inputs -> a dictionary, kept as docs/scaling/results.json.

Scenarios are independent of each other and run on all processors. Seeds are fixed: same inputs, same figures.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.scaling import costs
from benchmarks.scaling.cluster import Environment, Outcome, simulate
from benchmarks.scaling.hpa import Autoscaler
from benchmarks.scaling.inputs import Inputs
from benchmarks.scaling.limits_of_design import busiest_share, hit_ratio, requests_until, resolve_s, zipf
from benchmarks.scaling.plan import PodRates, pod_rates
from benchmarks.scaling.scenarios import (
    DAY,
    DAY_S,
    LIVES_S,
    MIX,
    MIXES,
    SMALL_S,
    SPIKE_S,
    SPIKES,
    STARTS_S,
    WINDOW_S,
    Variant,
    improved,
    variants,
)
from benchmarks.scaling.service import busy_share, fit_shim, points
from benchmarks.scaling.traffic import Day, Pool, pool
from benchmarks.scaling.validation import closed_loops, open_loops

__all__ = ["small", "study"]


@dataclass(frozen=True)
class _Task:
    environment: Environment
    autoscaler: Autoscaler
    requests: Pool
    day: Day
    seconds: tuple[float, float]
    replicas: int


def _run(task: _Task) -> Outcome:
    return simulate(task.environment, task.autoscaler, task.requests, task.day.per_s, task.seconds, task.replicas)


def _summary(outcome: Outcome, spike_s: tuple[float, float] = SPIKE_S) -> dict[str, Any]:
    """What counts of a run."""
    refused, asked = int(outcome.refused.sum()), int(outcome.refused.sum() + len(outcome.latencies_s))
    during = (outcome.at_s >= spike_s[0]) & (outcome.at_s < spike_s[1])
    asked_during = int(outcome.refused[during].sum() + outcome.requests[during].sum())
    bad = outcome.at_s[during & (outcome.refused > 0.01 * (outcome.refused + outcome.requests))]
    late = outcome.latencies_s[(outcome.latency_at_s >= spike_s[0]) & (outcome.latency_at_s < spike_s[1])]
    wishes = np.sign(np.diff(outcome.replicas))
    wishes = wishes[wishes != 0]
    p50, p95, p99 = (1000 * float(each) for each in np.percentile(outcome.latencies_s, (50, 95, 99)))
    return {
        "requests": asked,
        "refused": refused / asked,
        "refused_in_spike": float(outcome.refused[during].sum() / asked_during),
        "bad_s": float(bad.max() - spike_s[0] + 1) if len(bad) else 0.0,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "p99_in_spike_ms": 1000 * float(np.percentile(late, 99)),
        "pod_hours": outcome.pod_hours,
        "most_pods": int(outcome.replicas.max()),
        "turns": int((np.diff(wishes) != 0).sum()),
        "busy": float(outcome.busy.mean()),
    }


def small(given: Inputs) -> dict[str, Any]:
    """A few minutes around the spike, with the shipped autoscaler: what a test can run again."""
    requests = pool(MIX, given.measured["token_counts"])
    task = _Task(given.environment(), given.autoscaler, requests, DAY, SMALL_S, 4)
    return _summary(_run(task))


def _at_target(given: Inputs, rates: PodRates) -> int:
    """Pods that the autoscaler has when the window before the spike begins."""
    return costs.replicas(DAY.per_s(WINDOW_S[0]), rates.at_target, given.autoscaler.min_replicas)


def study(given: Inputs, progress: Callable[[str], None]) -> tuple[dict[str, Any], dict[str, Outcome]]:
    """Everything, and the days' courses for the plots."""
    progress("pods in steady state")
    rates = {name: pod_rates(given, mix) for name, mix in MIXES.items()}
    main = rates["mixed, lists"]
    requests = pool(MIX, given.measured["token_counts"])
    usual = _at_target(given, main)

    def window(environment: Environment, variant: Variant | None = None, factor: float | None = None) -> _Task:
        day = DAY if factor is None else replace(DAY, spike=replace(DAY.spike, factor=factor))
        scaler = variant.autoscaler if variant else given.autoscaler
        first = max(usual, scaler.min_replicas)
        return _Task(environment, scaler, requests, day, WINDOW_S, first)

    tasks: dict[tuple[str, Any], _Task] = {}
    for variant in variants(given.autoscaler):
        tasks["day", variant.name] = _Task(
            given.environment(), variant.autoscaler, requests, DAY, DAY_S, variant.replicas
        )
    for start_s in STARTS_S:
        tasks["start", start_s] = window(given.environment(start_s))
    for life_s in LIVES_S:
        tasks["life", life_s] = window(given.environment(connection_life_s=life_s))
    for factor in SPIKES:
        tasks["factor", factor] = window(given.environment(), factor=factor)
    for variant in improved(given.autoscaler):
        first = max(usual, variant.replicas) if variant.name != "target 50 %" else math.ceil(usual * 7 / 5)
        tasks["improved", variant.name] = replace(window(given.environment(), variant), replicas=first)

    outcomes: dict[tuple[str, Any], Outcome] = {}
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        # The days first: they take longest.
        for key, outcome in zip(tasks, workers.map(_run, tasks.values()), strict=True):
            outcomes[key] = outcome
            progress(f"{key[0]}: {key[1]}")
    notes = {variant.name: variant.note for variant in variants(given.autoscaler)}

    def group(kind: str) -> list[dict[str, Any]]:
        return [
            {"name": "never" if key == math.inf else key, **_summary(outcome)}
            for (group, key), outcome in outcomes.items()
            if group == kind
        ]

    results = {
        "inputs": given.digest,
        "about": {
            "measured_on": given.results["about"]["date"],
            "opened_on": given.measured["date"],
            "processors": given.results["about"]["processors"],
            "processor": given.results["about"]["processor"],
            "model": given.results["about"]["model"],
            "stand_in": given.results["about"]["stand_in"],
        },
        "service": {
            "batch_s": given.service.batch_s,
            "token_s": given.service.token_s,
            "busy_share": busy_share(points(given.results)),
            "shim": asdict(fit_shim(points(given.results))),
            "starts_s": given.measured["starts_s"],
            "ready_s": given.environment().pending_s + given.environment().start_s,
            "requested": dict(given.requested),
        },
        "closed_loops": closed_loops(given),
        "open_loops": open_loops(given),
        "autoscaler": {
            "min": given.autoscaler.min_replicas,
            "max": given.autoscaler.max_replicas,
            "target": min(metric.target for metric in given.autoscaler.metrics),
        },
        "pods": {name: asdict(each) for name, each in rates.items()},
        "if_as_three": asdict(pod_rates(given, MIX, processors=given.requested["triton"] * 3 / 4)),
        "machines": _machine_rows(given, main),
        "usual": usual,
        "before_spike_per_s": DAY.per_s(WINDOW_S[0]),
        "notes": notes,
        "days": group("day"),
        "starts": group("start"),
        "lives": group("life"),
        "factors": group("factor"),
        "improved": group("improved"),
        "connections": _connections(),
        "caches": _caches(main, usual),
        "small": small(given),
    }
    return results, {name: outcome for (kind, name), outcome in outcomes.items() if kind == "day"}


def _machine_rows(given: Inputs, rates: PodRates) -> list[dict[str, Any]]:
    processors = given.requested["triton"] + given.requested["rest"]
    rows = []
    for machine in given.machines:
        pods = 0 if machine.gpu else costs.pods_on(machine, processors, given.requested["memory_gib"])
        per_s = pods * rates.at_target
        rows.append(
            {
                **asdict(machine),
                "pods": pods,
                "texts_per_s": per_s,
                "usd_per_million": costs.cost_per_million(machine.usd_per_hour, per_s) if pods else None,
                "usd_per_million_full": costs.cost_per_million(machine.usd_per_hour, pods * rates.most)
                if pods
                else None,
            }
        )
    return rows


def _connections() -> list[dict[str, Any]]:
    return [
        {
            "pods": pods,
            "busiest": {str(each): busiest_share(pods, each * pods) for each in (1, 4, 16, 64)},
            "resolve_s": resolve_s(pods, 300),
        }
        for pods in (3, 10, 20, 100)
    ]


def _caches(rates: PodRates, pods: int) -> dict[str, Any]:
    texts, exponent, entries = 1_000_000, 0.9, 10_000
    shares = zipf(texts, exponent)
    alone = hit_ratio(shares, entries)
    return {
        "texts": texts,
        "exponent": exponent,
        "entries": entries,
        "alone": alone,
        "by_key": {str(count): hit_ratio(shares, entries * count) for count in (3, 10, 20, 50)},
        "cold_s": requests_until(shares, entries, 0.9) / rates.at_target,
        "pods": pods,
    }
