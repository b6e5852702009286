"""What a load needs: how much a pod takes of a mix of lengths, and from that replicas and costs.

A pod's rates are found by watching one alone, for some minutes, at many loads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.scaling import costs
from benchmarks.scaling.inputs import Inputs
from benchmarks.scaling.page_format import money, number
from benchmarks.scaling.pod import Limits, Pod
from benchmarks.scaling.service import ServiceTime, busy_share, points
from benchmarks.scaling.traffic import Mix, Pool, draw, pool

__all__ = ["PodRates", "plan", "pod_rates"]

# Some five thousand requests.
_STEADY_S = 120.0
_P95_S = 0.2


@dataclass(frozen=True)
class PodRates:
    """Texts per second that a pod can have.

    Attributes:
        at_target: when its processors are as busy as the autoscaler wants them.
        at_p95: when 95 % of requests take 200 ms at most.
        most: when it is never idle.
    """

    tokens_per_text: float
    texts_per_request: float
    at_target: float
    at_p95: float
    most: float
    p95_at_target_ms: float


def _steady(service: ServiceTime, limits: Limits, requests: Pool, texts_per_s: float) -> tuple[float, float]:
    """Busy share and 95th percentile of latency, in seconds; infinite where it refuses."""
    pod = Pod(service.of_batch, limits)
    done = pod.advance(draw(requests, texts_per_s, 0.0, _STEADY_S, np.random.default_rng(0)), _STEADY_S)
    p95 = math.inf if done.refused else float(np.percentile(done.latencies_s, 95))
    return pod.busy_s(_STEADY_S) / _STEADY_S, p95


def _highest(fits: Callable[[float], bool], most: float) -> float:
    low, high = 0.0, most
    for _ in range(10):
        middle = (low + high) / 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def pod_rates(given: Inputs, mix: Mix, processors: float | None = None) -> PodRates:
    """How much of a mix a pod takes; one of so many processors instead of the shipped one."""
    requests = pool(mix, given.measured["token_counts"])
    service = given.service.on(processors) if processors else given.pod
    limits = given.limits
    most = limits.max_batch / service.seconds(limits.max_batch * requests.mean_tokens)
    target = min(metric.target for metric in given.autoscaler.metrics) / busy_share(points(given.results))
    at_target = _highest(lambda per_s: _steady(service, limits, requests, per_s)[0] <= target, most)
    return PodRates(
        tokens_per_text=requests.mean_tokens,
        texts_per_request=requests.mean_texts,
        at_target=at_target,
        at_p95=_highest(lambda per_s: _steady(service, limits, requests, per_s)[1] <= _P95_S, most),
        most=most,
        p95_at_target_ms=1000 * _steady(service, limits, requests, at_target)[1],
    )


def plan(given: Inputs, rates: PodRates, texts_per_s: float) -> str:
    """Replicas and costs as lines of text: `scripts/scaling plan`."""
    least = given.autoscaler.min_replicas
    usual = costs.replicas(texts_per_s, rates.at_target, least)
    lines = [
        f"{number(rates.tokens_per_text)} tokens per text, {number(rates.texts_per_request)} texts per request",
        f"a pod at the autoscaler's target: {number(rates.at_target)} texts/s, 95 % within "
        f"{number(rates.p95_at_target_ms)} ms; at most {number(rates.most)} texts/s",
        f"replicas: {usual}; without any reserve {costs.replicas(texts_per_s, rates.most, least)}",
    ]
    if usual > given.autoscaler.max_replicas:
        lines.append(f"more than maxReplicas: {given.autoscaler.max_replicas}")
    processors = given.requested["triton"] + given.requested["rest"]
    for machine in given.machines:
        pods = 0 if machine.gpu else costs.pods_on(machine, processors, given.requested["memory_gib"])
        if pods:
            machines = -(-usual // pods)
            hour = machines * machine.usd_per_hour
            million = costs.cost_per_million(hour, texts_per_s)
            lines.append(
                f"{machine.name}: {machines} machines, {money(hour)} an hour, {money(million)} a million texts"
            )
    return "\n".join(lines) + "\n"
