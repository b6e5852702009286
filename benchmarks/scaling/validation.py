"""The model against what was measured: the benchmark's closed loops, and open loops of their own."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.scaling.inputs import Inputs
from benchmarks.scaling.measure import OPEN_LOOPS, REQUESTS, SECONDS
from benchmarks.scaling.pod import Pod, closed_loop
from benchmarks.scaling.service import points
from benchmarks.scaling.traffic import Mix, consecutive, draw, pool

__all__ = ["closed_loops", "open_loops", "speed"]


def closed_loops(given: Inputs) -> list[dict[str, Any]]:
    """Each cell of the benchmark: measured, simulated."""
    rows = []
    for cell in given.results["cells"]:
        measured = cell["measured"].get("REST")
        if measured is None:
            continue
        # More than a piece goes as several requests of a piece, by one client more for each.
        texts, clients = cell["texts"], cell["concurrency"]
        requests = pool(Mix({cell["workload"]: 1.0}, {texts: 1.0}), given.measured["token_counts"], 2048)
        pod = Pod(given.service.of_batch, given.limits)
        latencies, seconds = closed_loop(pod, requests, clients, max(500, 20 * clients))
        rows.append(
            {
                "cell": f"{cell['workload']}, {texts} × {clients}",
                "texts_per_s": [measured["texts_per_s"], len(latencies) * texts / seconds],
                "p50_ms": [measured["p50_ms"], 1000 * float(np.median(latencies))],
                "p95_ms": [measured["p95_ms"], 1000 * float(np.percentile(latencies, 95))],
            }
        )
    return rows


def speed(given: Inputs) -> float:
    """How fast the machine was on the day of the open loops, by loops of 1 and 16 clients; 1: as in results.json."""
    cells = {point.name: point for point in points(given.results)}
    then = given.measured["closed_texts_per_s"]
    ratios = [
        then[clients] * cells[name].seconds / cells[name].texts
        for clients, name in (("1", "mixed, 1 × 1"), ("16", "mixed, 1 × 16"))
    ]
    return math.sqrt(ratios[0] * ratios[1])


def open_loops(given: Inputs) -> dict[str, Any]:
    """Each open loop: measured, simulated, and simulated for a machine as fast as it was on that day."""
    if not given.measured["open_loops"]:
        return {"rows": []}
    of_the_day = speed(given)
    rows = []
    for loop in given.measured["open_loops"]:
        requests = consecutive(given.measured["token_counts"]["mixed"], OPEN_LOOPS[loop["name"]], REQUESTS)
        arrivals = draw(requests, loop["texts_per_s"], 0.0, SECONDS, np.random.default_rng(0))
        row = {**loop}
        for name, factor in (("simulated", 1.0), ("simulated at that speed", of_the_day)):
            service = given.service
            same = replace(service, batch_s=service.batch_s / factor, token_s=service.token_s / factor)
            pod = Pod(same.of_batch, given.limits)
            done = pod.advance(arrivals, math.inf)
            row[name] = [1000 * float(each) for each in np.percentile(done.latencies_s, (50, 95, 99))]
        rows.append(row)
    return {"speed": of_the_day, "rows": rows}
