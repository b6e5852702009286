"""A cluster that scales: traffic to pods, metrics of pods to the autoscaler, and the autoscaler's wish to pods again.

    traffic, each second ──► pods that are ready ──► busy seconds ──► metrics-server, each 15 s
                                 ▲                                         │
                 start_s later   └── Deployment ◄── autoscaler, each 15 s ◄┘

Processes of simpy, each with its own period. Pods are queues that see every request (benchmarks.scaling.pod). Clients
stay with a pod as long as their connection lives (`connection_life_s`), so a new pod gets its part of the load bit by
bit; when a pod goes, its clients turn to the others.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import numpy as np
import simpy
from numpy.typing import NDArray

from benchmarks.scaling.hpa import Autoscaler, Controller, History, PodView, Sample, decide, proposed
from benchmarks.scaling.pod import NOTHING, Limits, Pod
from benchmarks.scaling.service import ServiceTime, ShimCost
from benchmarks.scaling.traffic import Pool, draw

__all__ = ["Environment", "Outcome", "simulate"]

STEP_S = 1.0


@dataclass(frozen=True)
class Environment:
    """What a cluster is made of, beside its autoscaler.

    Attributes:
        service: of a pod, on its own processors.
        busy_share: of the processors of Triton's container while it computes.
        triton_processors, rest_processors: requested by the two containers.
        pending_s: until a new pod's containers are started: scheduled, volumes, image.
        start_s: from there until it is ready.
        connection_life_s: for how long a client stays with a pod, on average; 0 balances every request.
        metrics_period_s: of metrics-server; also the window that it measures.
        metrics_delay_s: age of the kubelet's figures when metrics-server fetches them.
    """

    service: ServiceTime
    shim: ShimCost
    busy_share: float
    limits: Limits
    triton_processors: float
    rest_processors: float
    pending_s: float
    start_s: float
    connection_life_s: float
    metrics_period_s: float = 15.0
    metrics_delay_s: float = 5.0
    controller: Controller = field(default_factory=Controller)


@dataclass(frozen=True)
class Outcome:
    """What happened. One entry of each array is a second, but for `latencies_s` and `latency_at_s`: a request."""

    at_s: NDArray[np.float64]
    texts_per_s: NDArray[np.float64]  # asked for, by the curve
    requests: NDArray[np.int64]  # that were answered
    refused: NDArray[np.int64]  # requests
    ready: NDArray[np.int64]  # pods
    replicas: NDArray[np.int64]  # pods that exist
    busy: NDArray[np.float64]  # share of time that ready pods computed
    latencies_s: NDArray[np.float32]
    latency_at_s: NDArray[np.float32]  # when the answer came, to the second

    @property
    def pod_hours(self) -> float:
        """Of pods that exist, from their creation on."""
        return float(self.replicas.sum() * STEP_S / 3600)


@dataclass
class _Replica:
    """A pod's life."""

    pod: Pod
    accepted_at: float
    running: bool = False
    ready_since: float | None = None
    share: float = 0.0  # of the traffic
    sample: Sample | None = None
    # At each second: when, busy seconds, requests and texts so far. As much as metrics-server looks back.
    counters: deque[tuple[float, float, int, int]] = field(default_factory=deque)


class _Cluster:
    def __init__(
        self,
        environment: Environment,
        autoscaler: Autoscaler | None,
        requests: Pool,
        per_s: Callable[[float], float],
        first: int,
        seed: int,
    ) -> None:
        self._environment = environment
        self._autoscaler = autoscaler
        self._requests = requests
        self._per_s = per_s
        self._randomly = np.random.default_rng(seed)
        self._history = History()
        self.replicas = [self._replica(-math.inf) for _ in range(first)]
        for each in self.replicas:
            each.running, each.ready_since, each.share = True, -math.inf, 1 / first
        self.rows: list[tuple[float, float, int, int, int, int, float]] = []
        self.latencies: list[tuple[float, NDArray[np.float32]]] = []

    def _replica(self, now: float) -> _Replica:
        return _Replica(Pod(self._environment.service.of_batch, self._environment.limits), now)

    # Traffic.

    def traffic(self, env: simpy.Environment) -> Generator[simpy.Event, None, None]:
        """Each second: who gets how much, and what became of it."""
        while True:
            start, end = env.now, env.now + STEP_S
            self._rebalance()
            per_s = self._per_s(start)
            requests = refused = 0
            ready = [each for each in self.replicas if each.ready_since is not None]
            busy_s = 0.0
            for each in ready:
                before_s = each.pod.busy_s(start)
                arrivals = draw(self._requests, per_s * each.share, start, end, self._randomly)
                done = each.pod.advance(arrivals, end)
                busy_s += each.pod.busy_s(end) - before_s
                requests += len(done.latencies_s)
                refused += done.refused
                self.latencies.append((start, np.array(done.latencies_s, np.float32)))
            for each in self.replicas:
                if each.running:
                    self._count(each, end)
            busy = busy_s / len(ready) / STEP_S
            self.rows.append((start, per_s, requests, refused, len(ready), len(self.replicas), busy))
            yield env.timeout(STEP_S)

    def _count(self, replica: _Replica, now: float) -> None:
        pod, counters = replica.pod, replica.counters
        counters.append((now, pod.busy_s(now), pod.requests, pod.texts))
        if len(counters) > self._environment.metrics_period_s + self._environment.metrics_delay_s + 2:
            counters.popleft()

    def _rebalance(self) -> None:
        ready = [each for each in self.replicas if each.ready_since is not None]
        life_s = self._environment.connection_life_s
        moved = 1.0 if life_s == 0 else 1 - math.exp(-STEP_S / life_s)
        held = sum(each.share for each in ready)
        for each in ready:
            # What pods that are gone held goes to all alike.
            each.share += (1 - held) / len(ready)
            each.share += (1 / len(ready) - each.share) * moved

    # Metrics.

    def metrics_server(self, env: simpy.Environment) -> Generator[simpy.Event, None, None]:
        """Fetch every pod's use of processors, once in a period."""
        while True:
            yield env.timeout(self._environment.metrics_period_s)
            for each in self.replicas:
                each.sample = self._sample(each, env.now) or each.sample

    def _sample(self, replica: _Replica, now: float) -> Sample | None:
        environment = self._environment
        end = now - environment.metrics_delay_s
        window_s = environment.metrics_period_s
        first = next((each for each in replica.counters if each[0] >= end - window_s), None)
        last = next((each for each in reversed(replica.counters) if each[0] <= end), None)
        if first is None or last is None or first[0] > end - window_s + STEP_S or last[0] <= first[0]:
            return None  # it has not been there for a whole window
        seconds = last[0] - first[0]
        triton = (last[1] - first[1]) / seconds * environment.busy_share * environment.triton_processors
        shim = environment.shim
        rest = ((last[2] - first[2]) * shim.request_s + (last[3] - first[3]) * shim.text_s) / seconds
        usage = {
            "triton": triton / environment.triton_processors,
            "rest": rest / environment.rest_processors,
            "": (triton + rest) / (environment.triton_processors + environment.rest_processors),
        }
        return Sample(usage, end, window_s)

    # Autoscaler and Deployment.

    def autoscale(self, env: simpy.Environment) -> Generator[simpy.Event, None, None]:
        """Look at the metrics, once in a period, and create or remove pods."""
        autoscaler, controller = self._autoscaler, self._environment.controller
        # The controller and metrics-server are not in step: here it looks in the middle between two measurements.
        yield env.timeout(controller.sync_period_s / 2)
        while autoscaler is not None:
            current = len(self.replicas)
            pods = [PodView(each.accepted_at, each.running, each.ready_since, each.sample) for each in self.replicas]
            proposals = [proposed(current, pods, metric, env.now, controller) for metric in autoscaler.metrics]
            desired, self._history = decide(autoscaler, current, proposals, self._history, env.now)
            for _ in range(current, desired):
                replica = self._replica(env.now)
                self.replicas.append(replica)
                env.process(self._live(env, replica))
            if desired < current:
                self._remove(current - desired, env.now)
            yield env.timeout(controller.sync_period_s)

    def _live(self, env: simpy.Environment, replica: _Replica) -> Generator[simpy.Event, None, None]:
        yield env.timeout(self._environment.pending_s)
        replica.running = True
        yield env.timeout(self._environment.start_s)
        replica.ready_since = env.now

    def _remove(self, count: int, now: float) -> None:
        # As a ReplicaSet chooses: those that are not ready first, then the youngest.
        order = sorted(self.replicas, key=lambda each: (each.ready_since is not None, -each.accepted_at))
        for replica in order[:count]:
            self.replicas.remove(replica)
            # It finishes what it has accepted.
            left = replica.pod.advance(NOTHING, math.inf).latencies_s
            self.latencies.append((now, np.array(left, np.float32)))


def simulate(
    environment: Environment,
    autoscaler: Autoscaler | None,
    requests: Pool,
    per_s: Callable[[float], float],
    seconds: tuple[float, float],
    replicas: int,
    seed: int = 0,
) -> Outcome:
    """Run a cluster from one moment to another.

    Args:
        environment: what the cluster is made of.
        autoscaler: None keeps the replicas as they are.
        requests: what is asked.
        per_s: texts per second at each moment.
        seconds: the first and the last moment.
        replicas: ready at the first moment.
        seed: of all that is random.
    """
    start_s, end_s = seconds
    env = simpy.Environment(initial_time=start_s)
    cluster = _Cluster(environment, autoscaler, requests, per_s, replicas, seed)
    env.process(cluster.traffic(env))
    env.process(cluster.metrics_server(env))
    env.process(cluster.autoscale(env))
    env.run(until=end_s)
    return _outcome(cluster)


def _outcome(cluster: _Cluster) -> Outcome:
    at_s, texts_per_s, requests, refused, ready, replicas, busy = zip(*cluster.rows, strict=True)
    counts = [len(latencies) for _, latencies in cluster.latencies]
    return Outcome(
        at_s=np.array(at_s),
        texts_per_s=np.array(texts_per_s),
        requests=np.array(requests),
        refused=np.array(refused),
        ready=np.array(ready),
        replicas=np.array(replicas),
        busy=np.array(busy),
        latencies_s=np.concatenate([latencies for _, latencies in cluster.latencies]),
        latency_at_s=np.repeat([at for at, _ in cluster.latencies], counts).astype(np.float32),
    )
