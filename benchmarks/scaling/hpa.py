"""The algorithm of Kubernetes' HorizontalPodAutoscaler (autoscaling/v2), as functions without a clock.

    usage of each pod ──► proposed (ratio to the target, tolerance, pods that do not count yet)     per metric
                      ──► the highest of all metrics
                      ──► stabilized (lowest wish of the window upwards, highest downwards)
                      ──► limited (policies per period, least and most replicas)

After kubernetes/kubernetes, pkg/controller/podautoscaler: replica_calculator.go and horizontal.go. Times are seconds on
any clock; a usage of 1 is all that the container (or pod) requested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Autoscaler",
    "Controller",
    "History",
    "Metric",
    "PodView",
    "Policy",
    "Rules",
    "Sample",
    "decide",
    "limited",
    "proposed",
    "stabilized",
]


@dataclass(frozen=True)
class Controller:
    """Flags of kube-controller-manager, with their defaults."""

    sync_period_s: float = 15.0
    tolerance: float = 0.1
    cpu_initialization_period_s: float = 300.0


@dataclass(frozen=True)
class Policy:
    """A change of at most so many pods, or percent of them, in a period."""

    kind: Literal["Pods", "Percent"]
    value: float
    period_s: float


@dataclass(frozen=True)
class Rules:
    """How fast, in one direction. `select` says which policy counts: that of the largest change, or of the smallest."""

    stabilization_s: float
    policies: tuple[Policy, ...]
    select: Literal["Max", "Min", "Disabled"] = "Max"


# What Kubernetes takes where the manifest says nothing.
DEFAULT_UP = Rules(0.0, (Policy("Percent", 100, 15), Policy("Pods", 4, 15)))
DEFAULT_DOWN = Rules(300.0, (Policy("Percent", 100, 15),))


@dataclass(frozen=True)
class Metric:
    """Mean use of the processors of a container of that name, or of the whole pod ("")."""

    container: str
    target: float


@dataclass(frozen=True)
class Autoscaler:
    """The manifest."""

    min_replicas: int
    max_replicas: int
    metrics: tuple[Metric, ...]
    up: Rules = DEFAULT_UP
    down: Rules = DEFAULT_DOWN


@dataclass(frozen=True)
class Sample:
    """A measured usage, of a window of time that ended at `at`."""

    usage: Mapping[str, float]  # by container; "" is the pod's
    at: float
    window_s: float


@dataclass(frozen=True)
class PodView:
    """What the controller sees of a pod that is not being deleted. None: not yet.

    `accepted_at` is when the kubelet took it, `running` whether its containers were started.
    """

    accepted_at: float | None
    running: bool
    ready_since: float | None
    sample: Sample | None


@dataclass(frozen=True)
class History:
    """Earlier wishes (before stabilization) and changes: moment and number."""

    recommendations: tuple[tuple[float, int], ...] = ()
    ups: tuple[tuple[float, int], ...] = ()
    downs: tuple[tuple[float, int], ...] = ()


def proposed(current: int, pods: Sequence[PodView], metric: Metric, now: float, controller: Controller) -> int | None:
    """How many replicas a metric asks for; None if no pod has one that counts."""
    counted: list[float] = []
    unready = missing = 0
    for pod in pods:
        if not pod.running:
            unready += 1
        elif pod.sample is None:
            missing += 1
        elif _ignored(pod, pod.sample, now, controller):
            unready += 1
        else:
            counted.append(pod.sample.usage[metric.container])
    if not counted:
        return None
    ratio = _ratio(counted, metric.target)
    up = ratio > 1.0
    if not missing and not (unready and up):
        return current if _tolerated(ratio, controller) else math.ceil(ratio * len(counted))
    # Upwards, pods that do not count yet are taken to use nothing; downwards, those without a metric to use everything.
    if up:
        counted += [0.0] * (missing + unready)
    elif ratio < 1.0:
        counted += [1.0] * missing
    guarded = _ratio(counted, metric.target)
    if _tolerated(guarded, controller) or (ratio < 1.0 < guarded) or (guarded < 1.0 < ratio):
        return current
    replicas = math.ceil(guarded * len(counted))
    if (guarded < 1.0 and replicas > current) or (guarded > 1.0 and replicas < current):
        return current
    return replicas


def _ratio(usages: Sequence[float], target: float) -> float:
    # Kubernetes computes with whole percents.
    return int(100 * sum(usages) / len(usages) + 1e-9) / round(100 * target)


def _tolerated(ratio: float, controller: Controller) -> bool:
    return 1.0 - controller.tolerance <= ratio <= 1.0 + controller.tolerance


def _ignored(pod: PodView, sample: Sample, now: float, controller: Controller) -> bool:
    if pod.accepted_at is None:
        return True
    if now < pod.accepted_at + controller.cpu_initialization_period_s:
        return pod.ready_since is None or sample.at < pod.ready_since + sample.window_s
    # A pod that has never been ready; one that is ready counts.
    return pod.ready_since is None


def stabilized(autoscaler: Autoscaler, current: int, wanted: int, history: History, now: float) -> int:
    """The wish, within the lowest of the window upwards and the highest of the window downwards."""
    up = down = wanted
    for at, recommendation in history.recommendations:
        if at > now - autoscaler.up.stabilization_s:
            up = min(up, recommendation)
        if at > now - autoscaler.down.stabilization_s:
            down = max(down, recommendation)
    return min(max(current, up), down)


def limited(autoscaler: Autoscaler, current: int, wanted: int, history: History, now: float) -> int:
    """The wish, within what policies and bounds allow."""
    if wanted > current:
        limit = max(current, _limit(autoscaler.up, current, history, now, 1))
        return min(wanted, limit, autoscaler.max_replicas)
    if wanted < current:
        limit = min(current, _limit(autoscaler.down, current, history, now, -1))
        return max(wanted, limit, autoscaler.min_replicas)
    return wanted


def _limit(rules: Rules, current: int, history: History, now: float, sign: Literal[1, -1]) -> int:
    if rules.select == "Disabled":
        return current
    limits = []
    for policy in rules.policies:
        before = current - _changes(history.ups, policy, now) + _changes(history.downs, policy, now)
        if policy.kind == "Pods":
            limits.append(before + sign * int(policy.value))
        elif sign > 0:
            limits.append(math.ceil(before * (1 + policy.value / 100)))
        else:
            limits.append(int(before * (1 - policy.value / 100)))
    return max(limits) if (sign > 0) == (rules.select == "Max") else min(limits)


def _changes(events: Sequence[tuple[float, int]], policy: Policy, now: float) -> int:
    return sum(count for at, count in events if at > now - policy.period_s)


def decide(
    autoscaler: Autoscaler, current: int, proposals: Sequence[int | None], history: History, now: float
) -> tuple[int, History]:
    """How many replicas there shall be now, and what to remember for the next time."""
    known = [proposal for proposal in proposals if proposal is not None]
    if not known:
        return current, history
    # Without some of the metrics it never scales down.
    wanted = max(known) if len(known) == len(proposals) else max(current, *known)
    desired = limited(autoscaler, current, stabilized(autoscaler, current, wanted, history, now), history, now)
    longest_s = max(
        autoscaler.up.stabilization_s,
        autoscaler.down.stabilization_s,
        *(policy.period_s for rules in (autoscaler.up, autoscaler.down) for policy in rules.policies),
    )

    def recent(events: tuple[tuple[float, int], ...]) -> tuple[tuple[float, int], ...]:
        return tuple(event for event in events if event[0] > now - longest_s)

    return desired, History(
        (*recent(history.recommendations), (now, wanted)),
        (*recent(history.ups), *([(now, desired - current)] if desired > current else [])),
        (*recent(history.downs), *([(now, current - desired)] if desired < current else [])),
    )
