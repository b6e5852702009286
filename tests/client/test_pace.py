"""How fast a server is, from what goes and what comes; the clock is the test's."""

from __future__ import annotations

import pytest

from client._pace import Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def steady(pace: Pace, clock: Clock, per_s: float, seconds: float) -> None:
    """One text after the other."""
    for _ in range(int(per_s * seconds)):
        pace.sent(1)
        clock.now += 1 / per_s
        pace.back(1, embedded=True)


def test_nothing_is_known_before_a_text_came_back() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.sent(8)
    clock.now += 1
    assert pace.per_s is None
    pace.back(8, embedded=True)
    assert pace.per_s == 8


def test_idle_time_does_not_count() -> None:
    clock = Clock()
    pace = Pace(clock)
    steady(pace, clock, per_s=50, seconds=10)
    clock.now += 3600
    steady(pace, clock, per_s=50, seconds=1)
    assert pace.per_s == pytest.approx(50, rel=0.05)


def test_it_follows_a_server_that_changes_its_speed() -> None:
    clock = Clock()
    pace = Pace(clock)
    steady(pace, clock, per_s=100, seconds=10)
    steady(pace, clock, per_s=20, seconds=6)
    assert pace.per_s == pytest.approx(20, rel=0.3)


def test_a_server_that_hangs_gets_slow() -> None:
    clock = Clock()
    pace = Pace(clock)
    steady(pace, clock, per_s=100, seconds=10)
    pace.sent(1)
    clock.now += 10
    pace.sent(1)
    assert pace.per_s is not None
    assert pace.per_s < 1


def test_what_fails_fast_is_not_speed() -> None:
    clock = Clock()
    pace = Pace(clock)
    steady(pace, clock, per_s=100, seconds=10)
    for _ in range(1000):
        pace.sent(10)
        clock.now += 0.0001
        pace.back(10, embedded=False)
    assert pace.per_s == pytest.approx(100, rel=0.1)
