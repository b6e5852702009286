"""The pod as a queue, against the theory of queues, by hand, and against what it must do at overload."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.scaling.pod import ADMISSION, NOTHING, UNBOUNDED, Limits, Pod, closed_loop
from benchmarks.scaling.traffic import Arrivals, Mix, Pool, consecutive, draw, pool

SHIPPED = replace(ADMISSION, least=32)
ONE = Pool(np.array([1]), np.array([10]))
SERVICE_S = 0.01
REQUESTS = 30_000


def poisson(per_s: float, requests: Pool = ONE, count: int = REQUESTS, seed: int = 0) -> tuple[Arrivals, float]:
    seconds = count * requests.mean_texts / per_s
    return draw(requests, per_s, 0.0, seconds, np.random.default_rng(seed)), seconds


# One server, one request at a time: M/D/1 and M/M/1.


@pytest.mark.parametrize("load", [0.3, 0.5, 0.8])
def test_m_d_1(load: float) -> None:
    arrivals, _ = poisson(load / SERVICE_S)
    done = Pod(lambda texts, tokens: SERVICE_S, UNBOUNDED).advance(arrivals, math.inf)
    # Pollaczek-Khinchine: service and ρ ÷ 2(1 − ρ) of it for waiting.
    assert np.mean(done.latencies_s) == pytest.approx(SERVICE_S * (1 + load / (2 * (1 - load))), rel=0.03)


@pytest.mark.parametrize("load", [0.3, 0.5, 0.8])
def test_m_m_1(load: float) -> None:
    randomly = np.random.default_rng(1)
    arrivals, _ = poisson(load / SERVICE_S, count=4 * REQUESTS)
    done = Pod(lambda texts, tokens: randomly.exponential(SERVICE_S), UNBOUNDED).advance(arrivals, math.inf)
    mean_s = SERVICE_S / (1 - load)
    assert np.mean(done.latencies_s) == pytest.approx(mean_s, rel=0.06)
    # The time in an M/M/1 queue is exponential itself.
    assert np.percentile(done.latencies_s, 95) == pytest.approx(mean_s * math.log(20), rel=0.06)


@pytest.mark.parametrize("limits", [UNBOUNDED, SHIPPED])
def test_little_s_law(limits: Limits) -> None:
    """Requests inside, looked at every tenth of a second, are arrivals a second × seconds inside."""
    pod = Pod(lambda texts, tokens: 0.004 + 0.006 * texts, limits)
    arrivals, seconds = poisson(80.0, count=10_000)
    looks, inside, latencies, start = np.arange(0.05, seconds, 0.1), [], [], 0
    for look in looks:
        end = int(np.searchsorted(arrivals.at, look))
        latencies += pod.advance(
            Arrivals(arrivals.at[start:end], arrivals.texts[start:end], arrivals.tokens[start:end]), look
        ).latencies_s
        inside.append(pod.inside)
        start = end
    assert np.mean(inside) == pytest.approx(len(latencies) / seconds * np.mean(latencies), rel=0.03)


def test_busy_share_is_the_load() -> None:
    arrivals, seconds = poisson(60.0)
    pod = Pod(lambda texts, tokens: SERVICE_S, UNBOUNDED)
    pod.advance(arrivals, seconds)
    assert pod.busy_s(seconds) / seconds == pytest.approx(0.6, rel=0.02)


def test_time_in_slices_is_the_same_time() -> None:
    arrivals, seconds = poisson(300.0, count=3000)
    whole = Pod(lambda texts, tokens: 0.004 + 0.006 * texts, SHIPPED)
    expected = whole.advance(arrivals, math.inf)
    sliced, latencies, refused, start = Pod(lambda texts, tokens: 0.004 + 0.006 * texts, SHIPPED), [], 0, 0
    for until in np.arange(0.7, seconds + 0.7, 0.7):
        end = int(np.searchsorted(arrivals.at, until))
        done = sliced.advance(
            Arrivals(arrivals.at[start:end], arrivals.texts[start:end], arrivals.tokens[start:end]), until
        )
        latencies += done.latencies_s
        refused += done.refused
        start = end
    latencies += sliced.advance(NOTHING, math.inf).latencies_s
    assert (latencies, refused) == (expected.latencies_s, expected.refused)


# Batches.


def test_what_comes_during_a_batch_is_the_next_batch() -> None:
    pod = Pod(lambda texts, tokens: 1.0 + tokens / 100, replace(SHIPPED, least=100))
    done = pod.advance(Arrivals([0.0, 0.5, 0.6], [1, 2, 3], [10, 20, 30]), 10.0)
    # The first alone until 1.1; then both others, 50 tokens, until 2.6.
    assert done.latencies_s == pytest.approx([1.1, 2.1, 2.0])
    assert (pod.requests, pod.texts) == (3, 6)
    assert pod.busy_s(10.0) == pytest.approx(2.6)


def test_a_batch_is_bounded_and_requests_stay_whole() -> None:
    pod = Pod(lambda texts, tokens: 1.0, replace(SHIPPED, max_batch=4, least=100))
    done = pod.advance(Arrivals([0.0, 0.1, 0.2, 0.3], [1, 3, 2, 2], [0, 0, 0, 0]), 10.0)
    assert done.latencies_s == pytest.approx([1.0, 1.9, 2.8, 2.7])


def test_at_most_it_embeds_full_batches() -> None:
    limits = replace(SHIPPED, max_wait_s=math.inf, burst_requests=math.inf, least=128)
    pod = Pod(lambda texts, tokens: 0.01 + 0.005 * texts, limits)
    arrivals, seconds = poisson(1000.0, count=30_000)
    pod.advance(arrivals, seconds)
    assert pod.texts / seconds == pytest.approx(64 / (0.01 + 0.005 * 64), rel=0.02)


def test_a_closed_loop_alternates() -> None:
    """16 clients: 8 in the batch, 8 in the queue, as measured (docs/benchmarks/results.md, Batching)."""
    pod = Pod(lambda texts, tokens: 0.01 + 0.005 * texts, SHIPPED)
    latencies, seconds = closed_loop(pod, ONE, 16, 4000)
    assert len(latencies) / seconds == pytest.approx(8 / (0.01 + 0.005 * 8), rel=0.01)
    assert np.median(latencies) == pytest.approx(2 * (0.01 + 0.005 * 8), rel=0.01)


# Admission.


def test_nobody_is_refused_who_need_not_wait() -> None:
    pod = Pod(lambda texts, tokens: 0.01 + 0.005 * texts, SHIPPED)
    arrivals, seconds = poisson(100.0)
    assert pod.advance(arrivals, seconds).refused == 0


def test_a_burst_may_wait() -> None:
    pod = Pod(lambda texts, tokens: 0.05 * texts, SHIPPED)
    pod.advance(Arrivals([0.0], [1], [0]), 1.0)
    # 32 texts at the server and 64 requests behind them; the next one would wait for all of them.
    done = pod.advance(Arrivals([1.0] * 110, [1] * 110, [0] * 110), 100.0)
    assert (len(done.latencies_s), done.refused) == (96, 14)


def test_at_overload_waits_stay_short_and_the_rest_is_refused() -> None:
    pod = Pod(lambda texts, tokens: 0.01 + 0.005 * texts, SHIPPED)
    arrivals, seconds = poisson(600.0)
    done = pod.advance(arrivals, seconds)
    most = 64 / (0.01 + 0.005 * 64)
    assert done.refused / len(arrivals.at) == pytest.approx(1 - most / 600, abs=0.02)
    # 0.4 s until the batch before is done, and its own batch.
    assert np.percentile(done.latencies_s, 95) < 0.4 + 0.33


def test_an_overload_ends_when_nobody_was_refused_for_a_while() -> None:
    pod = Pod(lambda texts, tokens: 0.05 * texts, SHIPPED)
    pod.advance(Arrivals([0.0], [1], [0]), 1.0)
    assert pod.advance(Arrivals([1.0] * 110, [1] * 110, [0] * 110), 100.0).refused == 14
    again = Arrivals([100.0] * 96, [1] * 96, [0] * 96)
    assert pod.advance(again, 200.0).refused == 0


# Traffic.


def test_a_pool_has_the_mix_s_means() -> None:
    mix = Mix({"a": 0.25, "b": 0.75}, {1: 0.5, 9: 0.5})
    requests = pool(mix, {"a": [100], "b": [20]})
    assert requests.mean_texts == pytest.approx(5, rel=0.03)
    assert requests.mean_tokens == pytest.approx(0.25 * 100 + 0.75 * 20, rel=0.03)
    assert (requests.tokens >= 20 * requests.texts).all()


def test_consecutive_requests_go_through_the_list() -> None:
    requests = consecutive([1, 2, 3], {2: 1.0}, 3)
    assert (requests.texts.tolist(), requests.tokens.tolist()) == ([2, 2, 2], [3, 4, 5])


@pytest.mark.parametrize("shares", [{}, {1: 0.5}, {1: 1.5, 2: -0.5}])
def test_shares_sum_to_one(shares: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="wanted shares that sum to 1"):
        Mix({"mixed": 1.0}, shares)


def test_an_unknown_workload_is_named() -> None:
    with pytest.raises(ValueError, match="got the workload 'poems'"):
        pool(Mix({"poems": 1.0}, {1: 1.0}), {"mixed": [1]})
