"""The autoscaler's algorithm against Kubernetes' own examples, and against cases computed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.scaling.hpa import (
    DEFAULT_DOWN,
    DEFAULT_UP,
    Autoscaler,
    Controller,
    History,
    Metric,
    PodView,
    Policy,
    Rules,
    Sample,
    decide,
    limited,
    proposed,
    stabilized,
)

CONTROLLER = Controller()
NOW = 10_000.0
HALF = Metric("", 0.5)


def pod(usage: float, age_s: float = 3600.0) -> PodView:
    """Ready since it was accepted."""
    return PodView(NOW - age_s, True, NOW - age_s, Sample({"": usage}, NOW - 5, 15))


PENDING = PodView(NOW - 5, False, None, None)
STARTING = PodView(NOW - 20, True, None, Sample({"": 1.0}, NOW - 5, 15))
WITHOUT_METRIC = PodView(NOW - 20, True, NOW - 3, None)


def wanted(*pods: PodView, metric: Metric = HALF) -> int | None:
    return proposed(len(pods), pods, metric, NOW, CONTROLLER)


# The documentation: twice the target doubles the pods, half of it halves them, and within a tenth nothing happens.


def test_twice_the_target_doubles() -> None:
    assert wanted(pod(1.0), pod(1.0), pod(1.0)) == 6


def test_half_the_target_halves() -> None:
    assert wanted(*[pod(0.25)] * 4) == 2


@pytest.mark.parametrize(("usage", "replicas"), [(0.45, 10), (0.55, 10), (0.56, 12), (0.44, 9)])
def test_tolerance(usage: float, replicas: int) -> None:
    # ceil(10 × 56/50) = 12, ceil(10 × 44/50) = 9; 45/50 and 55/50 are within a tenth.
    assert wanted(*[pod(usage)] * 10) == replicas


def test_percents_are_whole() -> None:
    # 0.5599 counts as 55 %: within the tolerance.
    assert wanted(*[pod(0.5599)] * 10) == 10


def test_the_mean_counts() -> None:
    # (0.9 + 0.3 + 0.9) ÷ 3 = 0.7; ceil(3 × 1.4) = 5
    assert wanted(pod(0.9), pod(0.3), pod(0.9)) == 5


def test_pods_that_are_not_ready_use_nothing_on_the_way_up() -> None:
    # Alone: 2 × 0.9 ÷ 0.5 = 3.6. With the starting and the pending one: 1.8 ÷ 4 = 45 %, which is below the target:
    # a change of direction, so nothing happens.
    assert wanted(pod(0.9), pod(0.9), STARTING, PENDING) == 4
    # (2 + 0) ÷ 3 = 66 %; ceil(3 × 66/50) = 4
    assert wanted(pod(1.0), pod(1.0), PENDING) == 4


def test_pods_that_are_not_ready_are_left_out_on_the_way_down() -> None:
    # 0.2 ÷ 0.5 × 2 ready pods = 0.8
    assert wanted(pod(0.2), pod(0.2), STARTING) == 1


def test_pods_without_a_metric_use_all_on_the_way_down_and_nothing_on_the_way_up() -> None:
    # (0.1 + 0.1 + 1) ÷ 3 = 40 %; ceil(3 × 40/50) = 3
    assert wanted(pod(0.1), pod(0.1), WITHOUT_METRIC) == 3
    # (1 + 1 + 0) ÷ 3 = 66 %; ceil(3 × 66/50) = 4
    assert wanted(pod(1.0), pod(1.0), WITHOUT_METRIC) == 4


def test_a_young_pod_counts_after_a_whole_window_in_which_it_was_ready() -> None:
    young = PodView(NOW - 60, True, NOW - 12, Sample({"": 1.0}, NOW - 5, 15))
    assert wanted(pod(1.0), pod(1.0), young) == 4  # as not ready
    later = replace(young, ready_since=NOW - 21)
    assert wanted(pod(1.0), pod(1.0), later) == 6


def test_no_pod_that_counts_gives_no_proposal() -> None:
    assert wanted(PENDING, STARTING) is None


# Policies: https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#scaling-policies

DOWN = Rules(0, (Policy("Pods", 4, 60), Policy("Percent", 10, 60)))
SCALER = Autoscaler(1, 100, (HALF,), DEFAULT_UP, DOWN)


@pytest.mark.parametrize(("current", "left"), [(80, 72), (72, 64), (40, 36), (30, 26), (10, 6)])
def test_the_documentation_s_policies_downwards(current: int, left: int) -> None:
    # 10 % of 80 is 8; of 72 it is 7.2, rounded up to 8; from 40 on four pods are more than 10 %.
    assert limited(SCALER, current, 1, History(), NOW) == left


def test_the_smaller_policy_where_the_manifest_says_so() -> None:
    scaler = replace(SCALER, down=replace(DOWN, select="Min"))
    assert limited(scaler, 80, 1, History(), NOW) == 76
    assert limited(scaler, 30, 1, History(), NOW) == 27


def test_disabled() -> None:
    scaler = replace(SCALER, up=replace(DEFAULT_UP, select="Disabled"), down=replace(DOWN, select="Disabled"))
    assert limited(scaler, 80, 1, History(), NOW) == 80
    assert limited(scaler, 80, 90, History(), NOW) == 80


def test_a_period_s_changes_count() -> None:
    # 72 now, 80 a minute ago: the policy allows 72 until that minute is over.
    history = History(downs=((NOW - 59, 8),))
    assert limited(SCALER, 72, 1, history, NOW) == 72
    assert limited(SCALER, 72, 1, history, NOW + 2) == 64


@pytest.mark.parametrize(("current", "more"), [(1, 5), (3, 7), (4, 8), (5, 10), (60, 100)])
def test_the_default_upwards(current: int, more: int) -> None:
    """Doubled, or four more, at most every 15 seconds."""
    assert limited(SCALER, current, 1000, History(), NOW) == more


def test_bounds() -> None:
    assert limited(replace(SCALER, min_replicas=3), 5, 1, History(), NOW) == 3
    assert limited(replace(SCALER, max_replicas=6), 5, 50, History(), NOW) == 6


# Stabilization.


def test_downwards_the_highest_wish_of_the_window() -> None:
    scaler = replace(SCALER, down=DEFAULT_DOWN)
    history = History(recommendations=((NOW - 301, 20), (NOW - 290, 9), (NOW - 15, 6)))
    assert stabilized(scaler, 10, 5, history, NOW) == 9
    assert stabilized(scaler, 10, 5, history, NOW + 11) == 6


def test_upwards_the_lowest_wish_of_the_window() -> None:
    scaler = replace(SCALER, up=replace(DEFAULT_UP, stabilization_s=60))
    history = History(recommendations=((NOW - 45, 12), (NOW - 30, 11), (NOW - 15, 14)))
    assert stabilized(scaler, 10, 20, history, NOW) == 11


def test_a_wish_within_both_windows_changes_nothing() -> None:
    scaler = replace(SCALER, up=replace(DEFAULT_UP, stabilization_s=60), down=DEFAULT_DOWN)
    history = History(recommendations=((NOW - 30, 8), (NOW - 15, 14)))
    assert stabilized(scaler, 10, 12, history, NOW) == 10


# All of it.


def test_the_highest_metric_decides() -> None:
    assert decide(SCALER, 4, [5, 7], History(), NOW)[0] == 7


def test_without_one_of_the_metrics_it_never_goes_down() -> None:
    assert decide(SCALER, 10, [5, None], History(), NOW)[0] == 10
    assert decide(SCALER, 10, [12, None], History(), NOW)[0] == 12
    assert decide(SCALER, 10, [None, None], History(), NOW)[0] == 10


def test_it_remembers_wishes_before_they_were_stabilized_or_limited() -> None:
    scaler = replace(SCALER, down=DEFAULT_DOWN)
    desired, history = decide(scaler, 10, [50], History(), NOW)
    assert (desired, history.recommendations, history.ups) == (20, ((NOW, 50),), ((NOW, 10),))
    # Five minutes later at the latest all of it is forgotten.
    _, later = decide(scaler, 20, [20], history, NOW + 301)
    assert later == History(((NOW + 301, 20),))
