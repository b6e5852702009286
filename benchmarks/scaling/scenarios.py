"""What is simulated: a day with a spike, the shipped autoscaler and naive ones, and what else can be in the way."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from benchmarks.scaling.hpa import DEFAULT_DOWN, DEFAULT_UP, Autoscaler, Metric, Policy, Rules
from benchmarks.scaling.traffic import Day, Mix, Spike

__all__ = [
    "DAY",
    "DAY_S",
    "IMAGE_GB",
    "LIVES_S",
    "LOADS_PER_S",
    "MIX",
    "MIXES",
    "NODE_S",
    "PENDING_S",
    "SMALL_S",
    "SPIKES",
    "SPIKE_S",
    "STARTS_S",
    "WINDOW_S",
    "Variant",
    "improved",
    "variants",
]

# Search beside the indexing of small lists. The load is chosen so that the shipped 3 to 20 pods are right for it.
MIX = Mix(lengths={"mixed": 1.0}, sizes={1: 0.6, 8: 0.3, 16: 0.1})
# For the table of what a pod takes.
MIXES = {
    "short, single": Mix({"short": 1.0}, {1: 1.0}),
    "mixed, single": Mix({"mixed": 1.0}, {1: 1.0}),
    "mixed, lists": MIX,
    "half short, half mixed, lists": Mix({"short": 0.5, "mixed": 0.5}, MIX.sizes),
    "full, lists": Mix({"full": 1.0}, MIX.sizes),
}
SPIKE = Spike(at_s=10.5 * 3600, seconds=15 * 60, factor=3.0)
DAY = Day(least_per_s=120, most_per_s=600, spike=SPIKE)
DAY_S = (0.0, 86_400.0)
# Around the spike, for what is compared many times.
WINDOW_S = (10.25 * 3600, 11.0 * 3600)
SPIKE_S = (SPIKE.at_s, SPIKE.at_s + SPIKE.seconds)
# For the table of replicas.
LOADS_PER_S = (100, 1_000, 10_000, 100_000)
# For the test that runs a part again.
SMALL_S = (SPIKE.at_s - 60, SPIKE.at_s + 180)

# Assumptions, none of which can be measured without a cluster: seconds until a new pod's containers are started. A node
# that has the image: scheduled, volumes, two containers created. The others are sums of the parts on the page.
PENDING_S = 4.0
# What a cloud needs to bring a node, and NVIDIA's image, compressed: 24.06-py3 is reported with 15.5 GB unpacked.
NODE_S = 90.0
IMAGE_GB = 7.0
STARTS_S = (15.0, 30.0, 60.0, 120.0, 240.0)  # until a new pod is ready
LIVES_S = (0.0, 60.0, 300.0, 1800.0, math.inf)  # of a connection
SPIKES = (1.5, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class Variant:
    """An autoscaler to compare."""

    name: str
    autoscaler: Autoscaler
    replicas: int  # at midnight
    note: str


def variants(shipped: Autoscaler) -> list[Variant]:
    """The shipped autoscaler, and naive ones."""
    triton, whole = Metric("triton", 0.9), Metric("", 0.7)
    hasty = Rules(0.0, (Policy("Percent", 100, 15),))
    timid = Rules(120.0, (Policy("Pods", 1, 60),))
    return [
        Variant("shipped", shipped, shipped.min_replicas, "k8s/base/hpa.yaml"),
        Variant(
            "kubectl autoscale",
            Autoscaler(1, shipped.max_replicas, (Metric("", 0.8),), DEFAULT_UP, DEFAULT_DOWN),
            1,
            "`--cpu-percent=80 --min=1 --max=20`, all else Kubernetes' defaults: the whole pod's processors",
        ),
        Variant(
            "whole pod", replace(shipped, metrics=(whole,)), shipped.min_replicas, "70 % of the whole pod's processors"
        ),
        Variant("target 90 %", replace(shipped, metrics=(triton,)), shipped.min_replicas, "to save pods"),
        Variant(
            "no stabilization",
            replace(shipped, down=hasty),
            shipped.min_replicas,
            "down at once, by any number",
        ),
        Variant(
            "cautious",
            replace(shipped, up=timid),
            shipped.min_replicas,
            "up by one pod a minute, after two minutes",
        ),
    ]


def improved(shipped: Autoscaler) -> list[Variant]:
    """What could be changed about the shipped one."""
    lower = tuple(replace(metric, target=0.5) for metric in shipped.metrics)
    eager = replace(shipped.up, policies=(Policy("Percent", 300, 15), Policy("Pods", 8, 15)))
    return [
        Variant("shipped", shipped, shipped.min_replicas, ""),
        Variant("target 50 %", replace(shipped, metrics=lower), shipped.min_replicas, ""),
        Variant("up four times as fast", replace(shipped, up=eager), shipped.min_replicas, ""),
        Variant("at least 6 pods", replace(shipped, min_replicas=6), 6, ""),
        Variant("at least 10 pods", replace(shipped, min_replicas=10), 10, ""),
    ]
