"""The page's part on one pod, and what follows by arithmetic: replicas and costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.scaling.page_format import money, number, percent, table
from benchmarks.scaling.scenarios import LOADS_PER_S, MIX

__all__ = ["costs", "pod", "replicas"]

# Of what a pod takes at most: below that it holds its 200 ms only by having next to nothing to do.
_LEAST_SHARE = 0.05


def pod(results: Mapping[str, Any]) -> str:
    """How long a pod computes, and how well that fits what was measured."""
    service = results["service"]
    closed = [
        [
            row["cell"],
            *(f"{number(row[key][0])} → {number(row[key][1])}" for key in ("texts_per_s", "p50_ms", "p95_ms")),
        ]
        for row in results["closed_loops"]
    ]
    errors = {
        key: [abs(row[key][1] / row[key][0] - 1) for row in results["closed_loops"]]
        for key in ("texts_per_s", "p50_ms", "p95_ms")
    }
    apart = {key: percent(sum(each) / len(each)) for key, each in errors.items()}
    return f"""A batch takes **{1000 * service["batch_s"]:.1f} ms and {1000 * service["token_s"]:.3f} ms for each token** on
{results["about"]["processors"]} processors: two figures, fitted to the throughput of all cells of the benchmark. The packed graph does
not compute padding, so nothing else about lengths matters. Requests that come while a batch is computed are the next batch,
64 texts at most. Measured → simulated, closed loops (texts per request × clients). The throughputs are
{apart["texts_per_s"]} apart on average, {percent(max(errors["texts_per_s"]))} at most. Latencies, which the fit has not seen, are
{apart["p50_ms"]} (p50) and {apart["p95_ms"]} (p95) apart on average: what a shared machine adds to the slowest twentieth is not
in the model.

{table(["cell", "texts/s", "p50 ms", "p95 ms"], closed)}

{_open_loops(results["open_loops"])}

A pod of the Deployment has {service["requested"]["triton"]:g} processors for Triton. The time per token is taken to be
shared by them, the {1000 * service["batch_s"]:.1f} ms not. While it computes, Triton takes {percent(service["busy_share"])} of its
processors, because ONNX Runtime's threads spin: so **the use of processors is the share of time in which a batch is
computed, not the share of what the pod could do**. Batches grow with the load, so a pod that is always busy takes on much
more before it has to refuse."""


def _open_loops(opened: Mapping[str, Any]) -> str:
    if not opened["rows"]:
        return """**Not held against an open loop.** Requests that come whether earlier ones are answered or not are what a
pod sees in the simulation, and `scripts/scaling measure` sends the very same ones to the real service, at half and at 0.8 of
what it does at most. That wants a machine that does nothing else for two minutes, which there was not. After such a
measurement this page shows it, with its error; until then latencies beside those of the table above are the model's word."""
    rows = [
        [
            f"{row['name']}, {row['load']:g} of the most ({number(row['texts_per_s'])} texts/s)",
            " / ".join(number(row[key]) for key in ("p50_ms", "p95_ms", "p99_ms")),
            " / ".join(number(each) for each in row["simulated"]),
            " / ".join(number(each) for each in row["simulated at that speed"]),
            f"{100 * (row['simulated at that speed'][1] / row['p95_ms'] - 1):+.0f} %",
            percent(row["others"]),
        ]
        for row in opened["rows"]
    ]
    head = ["load", "measured", "simulated", "at that day's speed", "p95", "others took"]
    return f"""Against requests that come whether earlier ones are answered or not, the same ones at the same moments, once on
the real service (`scripts/scaling measure`), p50 / p95 / p99 in ms. The machine was {opened["speed"]:.2f} times as fast as on the
day of the benchmark (it is shared), so the third column is for that speed, and *p95* is its error. *Others took* is the share
of the processors that did something else meanwhile:

{table(head, rows)}

**Do not trust the model's latencies of single texts** where processors are few: each costs the shim and Triton some 3 ms beside
the model (in lists of 32 a tenth of that), on the same processors here, and the queue does not know it. A pod has a processor
for the shim, so it should do better than measured here and worse than simulated; lists fit."""


def replicas(results: Mapping[str, Any]) -> str:
    """Pods for a load, by lengths."""
    pods, least = results["pods"], results["autoscaler"]["min"]
    target = percent(results["autoscaler"]["target"])
    rows = [
        [
            name,
            number(each["tokens_per_text"]),
            number(each["texts_per_request"]),
            f"**{number(each['at_target'])}**",
            number(each["p95_at_target_ms"]),
            number(each["at_p95"]) if each["at_p95"] > _LEAST_SHARE * each["most"] else "never",
            number(each["most"]),
            *(f"{max(least, math.ceil(load / each['at_target'])):,}" for load in LOADS_PER_S),
        ]
        for name, each in pods.items()
    ]
    head = [
        "lengths, sizes", "tokens per text", "texts per request", f"texts/s at {target}", "p95 there, ms",
        "texts/s with p95 ≤ 200 ms", "texts/s at most", *(f"pods for {load:,}/s" for load in LOADS_PER_S),
    ]  # fmt: skip
    sizes = ", ".join(f"{100 * share:.0f} % of {size}" for size, share in MIX.sizes.items())
    return f"""    replicas  =  texts/s ÷ texts/s of a pod at the autoscaler's target, rounded up, {least} at least

{table(head, rows)}

*Lists* are requests of several texts: {sizes}. *At {target}* is where the autoscaler holds a pod, *at most* is where it refuses; *never*: a single batch takes longer.
Short, mixed and full texts are [the benchmark's](benchmarks.md); `scripts/scaling plan` does the same for a mix of them."""


def costs(results: Mapping[str, Any]) -> str:
    """Prices of machines turned into prices of texts."""
    rows = []
    costs = [row["usd_per_million"] for row in results["machines"] if row["pods"]]
    least = min(costs)
    for row in results["machines"]:
        name = f"{row['name']}{', ' + row['gpu'] if row['gpu'] else ''}"
        start = [name, money(row["usd_per_hour"]), f"{row['as_of']}"]
        if row["pods"]:
            paid = [money(row["usd_per_million"]), money(row["usd_per_million_full"])]
            rows.append([*start, f"{row['pods']}", number(row["texts_per_s"]), *paid])
        else:
            needed = row["usd_per_hour"] / 3600 / least * 1e6
            rows.append([*start, "1, not measured", f"needs {number(needed)}", f"to reach {money(least)}", ""])
    target = percent(results["autoscaler"]["target"])
    head = ["machine", "an hour", "price of", "pods", f"texts/s at {target}", "a million texts", "when never idle"]
    sources = "\n".join(f"- {row['name']}: {row['source']}" for row in results["machines"])
    return f"""    cost of a million texts  =  10⁶ × price of an hour ÷ (3600 × pods on the machine × texts/s of a pod)

For mixed texts in lists. The prices are list prices, on demand, with their dates; they are an input
(`benchmarks/scaling/machines.toml`, or `--machines FILE`):

{table(head, rows)}

A processor of these machines is taken to be as fast as one of those measured. No GPU was measured: the rows with one say what
a GPU must do **at the load at which you hold it** to cost no more than the cheapest machine without. To the price come
load balancers and traffic: a vector of 384 floats is 1.5 kB in binary and some 8 kB as JSON.

{sources}"""
