"""docs/scaling.md from docs/scaling/results.json: a page whose every figure is computed.

Sentences say what the figures beside them show, and claim nothing that other figures could make wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.scaling import page_cluster, page_pods
from benchmarks.scaling.page_format import reflowed
from benchmarks.scaling.pod import ADMISSION
from benchmarks.scaling.scenarios import DAY_S, IMAGE_GB, NODE_S, PENDING_S

__all__ = ["markdown"]


def markdown(results: Mapping[str, Any]) -> str:
    """The page."""
    parts = [
        "# Scaling",
        _introduction(results),
        "## A pod",
        page_pods.pod(results),
        "## How many replicas",
        page_pods.replicas(results),
        "## What a million texts cost",
        page_pods.costs(results),
        "## The autoscaler, simulated",
        page_cluster.autoscaler(results),
        "## Where it breaks first",
        page_cluster.starts(results),
        page_cluster.saturation(results),
        page_cluster.connections(results),
        page_cluster.caches(results),
        "## Ten times, and a thousand times",
        page_cluster.beyond(results),
        "## What is assumed, and what is not known",
        _unknown(results),
    ]
    return reflowed("\n\n".join(parts)) + "\n"


def _introduction(results: Mapping[str, Any]) -> str:
    about = results["about"]
    stand_in = ", with the stand-in for NVIDIA's C++ backend" if about["stand_in"] else ""
    return f"""Written by `scripts/scaling` from figures that were measured on {about["processors"]} processors
({about["processor"]}, {about["measured_on"]}, {about["model"]}{stand_in}; [benchmarks](benchmarks/results.md)), from
[measured.json](scaling/measured.json) ({about["opened_on"]}) and from `k8s/base`. **No cluster was at hand: what is told of
more than one pod is a simulation.** It runs the autoscaler's real algorithm against pods that are queues fitted to the
measured service; how well they fit is told below. The tests hold the queue to the theory of queues (M/M/1, M/D/1, Little's law) and the
autoscaler to the examples of Kubernetes' documentation. All assumptions are at the end. Another measurement, another manifest,
other prices:

```console
$ scripts/scaling
$ scripts/scaling plan --texts-per-s 500 --lengths short=0.3,mixed=0.7 --sizes 1=0.6,8=0.3,16=0.1
$ scripts/scaling --machines my-prices.toml
```"""


def _unknown(results: Mapping[str, Any]) -> str:
    service = results["service"]
    return f"""- **{service["requested"]["triton"]:g} processors were not measured**, {results["about"]["processors"]} were. If Triton's threads share the work
  worse than assumed, a pod takes less: as fast as with three quarters of its processors it takes
  {results["if_as_three"]["at_target"]:.0f} instead of {results["pods"]["mixed, lists"]["at_target"]:.0f} texts/s at the target. Measure it: `scripts/bench` on such a machine, then `scripts/scaling`.
- `bert` ran on the stand-in. What the C++ backend of NVIDIA's image saves for each batch was not measured.
- A pod refuses by a rule that is an assumption here (`ADMISSION` in `benchmarks/scaling/pod.py`): what would wait longer than {ADMISSION.max_wait_s:g} s, once more than
  {ADMISSION.burst_requests:g} requests wait, until nobody was refused for {ADMISSION.calm_after_s:g} s; at most {ADMISSION.at_server_s:g} s of work is at Triton.
  Another rule moves the limit between what waits and what is refused, not the load at which a pod is full.
- Requests of more texts than a piece, which the shim sends in turns, are left out; so are clients that come again after a 429.
  Those who do come again make a spike longer.
- The Kubernetes side: metrics-server looks each 15 s at a window of 15 s that ends 5 s before; the autoscaler looks each 15 s,
  tolerates 10 %, leaves pods out that have not been ready for a whole window. Scheduling, node and image are
  assumptions ({PENDING_S:.0f} s, {NODE_S:.0f} s, {IMAGE_GB:.0f} GB). Pods are equal, nodes are not shared with others, and nothing fails.
- Not simulated: the GPU overlay, rollouts, zones.
- The day is made up: {DAY_S[1] / 3600:.0f} hours of a cosine and a rectangular spike. Put your own into
  `benchmarks/scaling/scenarios.py`.
- It is deterministic: the same inputs give the same page, and a test runs a part again and holds the page to it."""
