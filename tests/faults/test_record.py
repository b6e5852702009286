"""The suite's own measure: what counts as back, and as calm."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.faults import page
from tests.faults.load import WAYS, Answer, Load
from tests.faults.record import Figures, figures, is_calm


def load(*answers: Answer) -> Load:
    return cast(Load, SimpleNamespace(answers=list(answers)))


def steady(way: str, begin_s: float, end_s: float) -> list[Answer]:
    return [Answer(way, begin_s + 0.2 * n, 0.1, "ok") for n in range(int((end_s - begin_s) / 0.2))]


def test_nothing_happened() -> None:
    found = figures(load(*steady("rest", 90, 110)), 100)["rest"]
    assert (found.back_s, found.failed) == (0.0, {})


def test_back_is_the_end_of_the_last_failure() -> None:
    answers = [*steady("rest", 90, 110), Answer("rest", 101, 0.5, "503"), Answer("rest", 102, 0.5, "503")]
    found = figures(load(*answers), 100)["rest"]
    assert found.back_s == pytest.approx(2.5)
    assert found.failed == {"503": 2}


def test_a_request_that_was_held_ends_the_standstill() -> None:
    answers = [*steady("rest", 90, 100), Answer("rest", 99.9, 4.1, "ok"), *steady("rest", 104, 110)]
    found = figures(load(*answers), 100)["rest"]
    assert found.back_s == pytest.approx(4.0)
    assert found.slowest_s == pytest.approx(4.1)


def test_calm() -> None:
    now = time.monotonic()
    good = [answer for way in WAYS for answer in steady(way, now - 8, now)]
    assert is_calm(load(*good), now - 5)
    assert not is_calm(load(*good), now - 1)  # too early
    assert not is_calm(load(*good, Answer("grpc", now - 2, 0.1, "Unavailable")), now - 5)
    assert not is_calm(load(*steady("rest", now - 8, now)), now - 5)  # nothing of the other
    silent = [*steady("rest", now - 8, now), *steady("grpc", now - 8, now - 2)]
    assert not is_calm(load(*silent), now - 5)


def test_the_table(tmp_path: Path) -> None:
    rest, grpc = Figures(10, {}, 3.51, 3.6), Figures(20, {"Unavailable": 2, "ServerError": 1}, 0.0, 0.1)
    results, text = tmp_path / "results.json", tmp_path / "page.md"
    results.write_text(json.dumps({"kill it": {"rest": dataclasses.asdict(rest), "grpc": dataclasses.asdict(grpc)}}))
    text.write_text("before\n<!-- figures -->\nold\n<!-- /figures -->\nafter\n")
    page.main(results, text)
    row = "| kill it | 3.5 s | 0 of 10 | 3.6 s | at once | 3 of 20 (ServerError, Unavailable) |"
    lines = text.read_text().splitlines()
    assert lines[:2] + lines[4:] == ["before", "<!-- figures -->", row, "<!-- /figures -->", "after"]
