"""Pooling inside the graph gives what pooling outside it gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from export import cases, pooled, runtimes, verify
from export.errors import GraphNotWritten, NamesDiffer, ValuesDiffer
from tests.export.conftest import Exported


@pytest.fixture
def bare(padded_graph: Path, tmp_path: Path) -> Path:
    """A graph without its second output."""
    return Path(shutil.copy(padded_graph, tmp_path / "model.onnx"))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("oldest", [False, True], ids=["newest", runtimes.OLDEST])
def test_modes(tiny: Exported, bare: Path, pooling: str, oldest: bool) -> None:
    pooled.append(bare, pooling)
    runtime = runtimes.oldest(runtimes.oldest_folder()) if oldest else runtimes.newest()
    results = runtimes.run(runtime, bare, cases.feeds(tiny.expected.cases))
    for case in tiny.expected.cases:
        wanted = verify.pooled(tiny.expected.states[case.name], case.attention_mask, pooling)
        np.testing.assert_allclose(results.pooled[case.name], wanted, rtol=0, atol=1e-5)


def test_another_mode_is_refused(tiny: Exported, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    shutil.copy(tiny.path, path)
    with pytest.raises(GraphNotWritten, match="wanted one of mean, cls, max, got 'last'"):
        pooled.append(path, "last")


def test_a_graph_without_it_fails_the_ladder(tiny: Exported, bare: Path) -> None:
    with pytest.raises(NamesDiffer, match="wanted last_hidden_state, sentence_embedding; got last_hidden_state"):
        verify.graph(tiny.encoder.facts, bare, tiny.expected, [runtimes.newest()], lambda _: None)


def test_the_wrong_mode_fails_the_ladder(tiny: Exported, bare: Path) -> None:
    pooled.append(bare, "max")
    assert tiny.encoder.facts.pooling == "mean"
    with pytest.raises(ValuesDiffer) as caught:
        verify.graph(tiny.encoder.facts, bare, tiny.expected, [runtimes.newest()], lambda _: None)
    assert all("sentence_embedding: pooled differ" in finding for finding in caught.value.findings)


def test_weights_beside_the_graph_stay_beside_it(
    tiny: Exported, padded_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from export import onnx_file

    path = tmp_path / "model.onnx"
    onnx_file.save(onnx.load(padded_graph), path, single_file_bytes=1000)
    monkeypatch.setattr(onnx_file.save, "__defaults__", (1000,))
    pooled.append(path, "mean")
    assert [file.name for file in onnx_file.files(path)] == ["model.onnx", "model.onnx.data"]
    verify.graph(tiny.encoder.facts, path, tiny.expected, [runtimes.newest()], lambda _: None)


def test_no_tokens_are_zero_whatever_the_memory_held(tiny: Exported, packed_graph: Path, tmp_path: Path) -> None:
    """ONNX Runtime 1.19 leaves the product over no tokens unwritten: after other runs it holds their numbers.

    The packed graph only: the padded one answers an error.
    """
    graph = Path(shutil.copy(packed_graph, tmp_path / "model.onnx"))
    pooled.append(graph, "mean")
    feeds = cases.feeds(cases.hostile(tiny.encoder.facts)) | cases.feeds(tiny.expected.cases)
    names = next(iter(feeds.values()))
    nothing = {
        f"nothing {rows}": {name: np.zeros((rows, 0), np.int64) for name in names} for rows in (1, 2, 3, 5, 9, 17)
    }
    results = runtimes.run(runtimes.oldest(runtimes.oldest_folder()), graph, feeds | nothing)
    for case in nothing:
        assert case in results.pooled, results.outputs[case]
        np.testing.assert_array_equal(results.pooled[case], 0)
