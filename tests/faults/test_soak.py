"""The soak, for two minutes; docs/soak.md has ten."""

from __future__ import annotations

import collections

import pytest

from tests.faults import soak


@pytest.mark.slow
@pytest.mark.triton
@pytest.mark.timeout(600)
def test_two_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    code = soak.main(["2"])
    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("outcomes", "recoveries", "after", "code"),
    [
        ({"rest ok": 9, "rest 503": 1}, [("kill bert", 4.0)], 104, 0),
        ({"rest ok": 9, "rest wrong": 1}, [], 100, 1),
        ({"rest ok": 9, "/embed wrong": 1}, [], 100, 1),
        ({"rest ok": 9}, [("kill bert", None)], 100, 1),
        ({"rest ok": 9}, [], 105, 1),
    ],
    ids=["good", "wrong vector", "wrong elsewhere", "not healed", "growth"],
)
def test_what_fails_it(
    outcomes: dict[str, int], recoveries: list[tuple[str, float | None]], after: int, code: int
) -> None:
    assert soak._report(collections.Counter(outcomes), recoveries, 100, after) == code
