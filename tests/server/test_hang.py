"""When a process counts as hung: never when it is only busy, starved or slow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from server.hang import HangLimits, Look, Patience

LIMITS = HangLimits(idle_s=5.0, busy_s=60.0, look_s=0.5)


def looks(count: int, cpu_per_look: float = 0.0, runnable: float = 0.0, finishes_every: int = 0) -> Iterator[Look]:
    """Looks at a process that uses so much processor time, whose threads run in that share of looks, and so on."""
    for number in range(count):
        seen = runnable > 0 and number % round(1 / runnable) == 0
        finished = number // finishes_every if finishes_every else 0
        yield Look(0.5 * number, finished, cpu_per_look * number, seen)


def hung_after(sequence: Iterator[Look]) -> float | None:
    """The moment at which it counts as hung."""
    patience = Patience(LIMITS)
    return next((look.at_s for look in sequence if patience.hangs(look)), None)


def test_a_process_that_does_nothing_hangs() -> None:
    assert hung_after(looks(100)) == 5.0


def test_a_stopped_process_whose_timers_run_hangs_all_the_same() -> None:
    # 0.1 % of a processor, and caught at it in one look of ten.
    assert hung_after(looks(100, cpu_per_look=0.0005, runnable=0.1)) == 5.0


@pytest.mark.parametrize(
    "busy",
    [
        {"cpu_per_look": 0.5},  # a batch that takes a minute
        {"cpu_per_look": 0.03},  # nobody leaves it more than 6 % of a processor
        {"runnable": 1.0},  # nor even that: but it wants to
        {"runnable": 0.5},
        {"finishes_every": 9},  # slow, on a GPU
    ],
)
def test_a_busy_process_does_not_hang(busy: dict[str, float]) -> None:
    assert hung_after(looks(110, **busy)) is None  # type: ignore[arg-type]


def test_one_that_computes_for_ever_and_finishes_nothing_is_stuck() -> None:
    assert hung_after(looks(1000, cpu_per_look=0.5)) == 60.0


def test_one_that_hangs_after_work_gets_the_whole_time() -> None:
    patience = Patience(LIMITS)
    for look in looks(20, cpu_per_look=0.5):
        assert not patience.hangs(look)
    hung = [patience.hangs(Look(10.0 + 0.5 * number, 0, 9.5, False)) for number in range(12)]
    # The last busy look may be one of ten.
    assert hung.index(True) in {8, 9, 10}


def test_a_pause_of_whoever_looks_counts_as_one_look() -> None:
    patience = Patience(LIMITS)
    assert not patience.hangs(Look(0.0, 0, 0.0, False))
    assert not patience.hangs(Look(3600.0, 0, 0.0, False))
