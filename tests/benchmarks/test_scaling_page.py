"""docs/scaling.md is what its inputs give: its figures, its inputs and a part of its simulation, run again."""

from __future__ import annotations

import copy
import json
import re
import shlex
from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.scaling import plots
from benchmarks.scaling.__main__ import DOCS, PAGE, main
from benchmarks.scaling.cluster import simulate
from benchmarks.scaling.inputs import Inputs, read_inputs
from benchmarks.scaling.page import markdown
from benchmarks.scaling.scenarios import DAY, MIX, SMALL_S
from benchmarks.scaling.study import small
from benchmarks.scaling.traffic import pool

AGAIN = "docs/scaling.md is stale: run scripts/scaling"


@pytest.fixture(scope="module")
def given() -> Inputs:
    return read_inputs()


@pytest.fixture(scope="module")
def results() -> dict[str, object]:
    found: dict[str, object] = json.loads((DOCS / "results.json").read_text())
    return found


def test_the_page_is_what_its_results_give(results: dict[str, object]) -> None:
    assert PAGE.read_text() == markdown(results), AGAIN


def test_the_results_are_of_today_s_inputs(results: dict[str, object], given: Inputs) -> None:
    assert results["inputs"] == given.digest, AGAIN


def test_a_part_of_the_simulation_run_again(results: dict[str, object], given: Inputs) -> None:
    # Equal but for the last digits, in which numpy may differ between machines.
    assert small(given) == pytest.approx(results["small"], rel=1e-9), AGAIN


def test_another_input_is_noticed(given: Inputs) -> None:
    """Each of them: a measurement, a manifest, a price."""
    measured = {**given.measured, "starts_s": [1.0]}
    results = copy.deepcopy(dict(given.results))
    results["cells"][0]["measured"]["REST"]["texts_per_s"] *= 1.01
    others = [
        Inputs(results, given.measured, given.autoscaler, given.requested, given.limits, given.machines),
        Inputs(given.results, measured, given.autoscaler, given.requested, given.limits, given.machines),
        Inputs(given.results, given.measured, given.autoscaler, {**given.requested, "triton": 2}, given.limits, []),
        Inputs(given.results, given.measured, given.autoscaler, given.requested, given.limits, given.machines[1:]),
    ]
    assert len({given.digest, *(each.digest for each in others)}) == 5


def test_a_slower_service_gives_other_figures(results: dict[str, object], given: Inputs) -> None:
    """The part that is run again depends on what was measured."""
    slower = copy.deepcopy(dict(given.results))
    for cell in slower["cells"]:
        for side in cell["measured"].values():
            side["texts_per_s"] /= 1.05
    other = Inputs(slower, given.measured, given.autoscaler, given.requested, given.limits, given.machines)
    assert small(other) != pytest.approx(results["small"], rel=1e-3)


def test_pictures_and_links_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE.read_text())
    assert {"scaling/day.png", "scaling/spike.png"} <= set(links)
    assert [link for link in links if not (PAGE.parent / link).is_file()] == []


def test_pictures_can_be_drawn(given: Inputs, tmp_path: Path) -> None:
    requests = pool(MIX, given.measured["token_counts"])
    outcome = simulate(given.environment(), given.autoscaler, requests, DAY.per_s, (SMALL_S[0], SMALL_S[0] + 120), 4)
    assert plots.draw({"shipped": outcome, "other": outcome}, tmp_path) == ["day.png", "spike.png"]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("day.png", "spike.png"))


def test_the_page_s_plan(capsys: pytest.CaptureFixture[str]) -> None:
    [arguments] = re.findall(r"^\$ scripts/scaling (plan .*)$", PAGE.read_text(), re.MULTILINE)
    assert main(shlex.split(arguments)) == 0
    told = capsys.readouterr().out
    assert re.search(r"^replicas: \d+; without any reserve \d+$", told, re.MULTILINE)
    assert "a million texts" in told


def test_a_plan_beyond_the_autoscaler_s_most_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--texts-per-s", "50000"]) == 0
    assert "more than maxReplicas: 20" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--lengths", "mixed=0.5"], "wanted shares that sum to 1"),
        (["--lengths", "poems=1"], "got the workload 'poems'"),
    ],
)
def test_a_wrong_mix_is_named(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--texts-per-s", "1", *arguments]) == 1
    assert reason in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="nowhere"):
        read_inputs(measured=tmp_path / "nowhere.json")
