"""What a client notices of its server's health by the way."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from client._pulse import Pulse
from client.errors import DeadlineExceeded, EmbeddingError, InvalidInput, Overloaded, ServerError, Unavailable


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def request(pulse: Pulse, clock: Clock, seconds: float, error: BaseException | None = None) -> None:
    with contextlib.suppress(EmbeddingError, asyncio.CancelledError), pulse.request():
        clock.now += seconds
        if error is not None:
            raise error


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pulse(clock: Clock) -> Pulse:
    return Pulse(clock)


def test_a_new_one_knows_nothing(pulse: Pulse) -> None:
    assert (pulse.answered, pulse.away_s, pulse.silent_s) == (False, 0.0, 0.0)
    assert not pulse.answered_within(1e9)


@pytest.mark.parametrize("error", [None, InvalidInput("a"), Overloaded("b"), ServerError("c")])
def test_any_answer_is_a_sign_of_life(pulse: Pulse, clock: Clock, error: EmbeddingError | None) -> None:
    request(pulse, clock, 30, DeadlineExceeded(""))
    request(pulse, clock, 1, Unavailable("gone"))
    request(pulse, clock, 1, error)
    assert (pulse.away_s, pulse.silent_s, pulse.answered_within(0)) == (0.0, 0.0, True)
    clock.now += 5
    assert (pulse.silent_s, pulse.answered_within(4), pulse.answered_within(5)) == (0.0, False, True)


def test_away_counts_from_the_first_failure(pulse: Pulse, clock: Clock) -> None:
    request(pulse, clock, 1, Unavailable("first"))
    request(pulse, clock, 10, Unavailable("second"))
    assert (pulse.away_s, pulse.words) == (10.0, "second")


def test_silence_counts_only_while_something_waits(pulse: Pulse, clock: Clock) -> None:
    request(pulse, clock, 5, DeadlineExceeded(""))
    clock.now += 3600
    assert pulse.silent_s == 5
    request(pulse, clock, 0.1, asyncio.CancelledError())
    assert pulse.silent_s == pytest.approx(5.1)
    with pulse.request():
        clock.now += 2
        with pulse.request():  # in parallel: the time is one
            clock.now += 3
            assert pulse.silent_s == pytest.approx(10.1)
    assert pulse.silent_s == 0.0
