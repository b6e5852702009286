"""`--graph auto` where graphs are timed. On a GPU they run on CUDA; here the same code is told to use the CPU."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from export import graph_race, graphs, job, manifest, pooled
from export.graphs import Exporter
from tests.export.conftest import Exported

CPU = ("CPUExecutionProvider",)


@pytest.fixture(scope="module")
def pooled_graph(tiny: Exported, packed_graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("race") / "model.onnx"
    shutil.copy(packed_graph, path)
    pooled.append(path, tiny.encoder.facts.pooling)
    return path


@pytest.mark.parametrize(
    ("texts_per_s", "wanted"),
    [({"packed": 2.0, "padded": 1.0}, "packed"), ({"packed": 1.0, "padded": 2.0}, "padded")],
)
def test_the_faster_one_is_taken(tiny: Exported, texts_per_s: dict[str, float], wanted: str) -> None:
    raced: list[str] = []

    def race(exporters: Mapping[str, Exporter]) -> Mapping[str, float]:
        raced.extend(exporters)
        return texts_per_s

    choice = graphs.choose(tiny.encoder, "auto", race)
    assert (choice.graph, choice.texts_per_s) == (wanted, texts_per_s)
    assert choice.exporter is {"packed": graphs.PACKED, "padded": graphs.PADDED}[wanted]
    assert sorted(raced) == ["packed", "padded"]


@pytest.mark.parametrize("texts_per_s", [{}, {"packed": 0.0, "padded": 0.0}])
def test_without_figures_it_is_packed(tiny: Exported, texts_per_s: dict[str, float]) -> None:
    choice = graphs.choose(tiny.encoder, "auto", lambda exporters: texts_per_s)
    assert (choice.graph, choice.reason, choice.texts_per_s) == ("packed", "supported by this encoder", {})


@pytest.mark.parametrize("graph", ["packed", "padded"])
def test_who_asks_for_a_graph_gets_it_without_a_race(tiny: Exported, graph: str) -> None:
    def race(exporters: Mapping[str, Exporter]) -> Mapping[str, float]:
        raise AssertionError("nobody wanted to know")

    assert graphs.choose(tiny.encoder, graph, race).graph == graph


def test_both_are_timed(tiny: Exported, pooled_graph: Path) -> None:
    figures = graph_race.texts_per_s({"packed": pooled_graph, "padded": tiny.path}, tiny.encoder, CPU)
    assert all(figure > 0 for figure in figures.values())
    assert list(figures) == ["packed", "padded"]


def test_more_work_is_fewer_texts_per_second(
    tiny: Exported, pooled_graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same graph, on texts of up to 40 tokens, and on the first two tokens of each."""
    whole = graph_race.texts_per_s({"it": pooled_graph}, tiny.encoder, CPU)["it"]
    rows = [row[:2] for row in graph_race.real_texts.token_ids(tiny.encoder)]
    monkeypatch.setattr(graph_race.real_texts, "token_ids", lambda encoder: rows)
    assert graph_race.texts_per_s({"it": pooled_graph}, tiny.encoder, CPU)["it"] > whole


def test_a_graph_that_fails_has_lost(tiny: Exported, pooled_graph: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(pooled_graph.read_bytes()[:1000])
    figures = graph_race.texts_per_s({"packed": broken, "padded": tiny.path}, tiny.encoder, CPU)
    assert figures["packed"] == 0
    assert graphs.choose(tiny.encoder, "auto", lambda exporters: figures).graph == "padded"


def test_no_figures_where_the_provider_is_not_really_there(tiny: Exported, pooled_graph: Path) -> None:
    # Without a GPU, or without its libraries, ONNX Runtime takes the CPU and says nothing.
    missing = ("OpenVINOExecutionProvider", *CPU)
    with pytest.warns(UserWarning, match="OpenVINOExecutionProvider"):
        assert graph_race.texts_per_s({"packed": pooled_graph, "padded": tiny.path}, tiny.encoder, missing) == {}


@pytest.mark.slow
def test_an_export_writes_the_winner_and_records_both(tiny_folder: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    written = job.run(job.Job(str(tiny_folder), tmp_path, race_on=CPU), steps.append, lambda check: None)
    assert "timing the packed and the padded graph on CPUExecutionProvider" in steps
    assert set(written.graph_texts_per_s) == {"packed", "padded"}
    assert written.graph == max(written.graph_texts_per_s, key=lambda name: written.graph_texts_per_s[name])
    assert written.graph_reason == "the faster one where it was exported"
    assert manifest.check(tmp_path) == written
