"""Which graph is written, and how files are laid out."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from export import graphs, onnx_file, runtimes, verify
from export.encoder import Encoder
from export.errors import UnsupportedGraph, UnsupportedPrecision
from tests.export.conftest import Exported


class Packed:
    """Another way of exporting, which cannot do anything."""

    def __init__(self, reason: str | None) -> None:
        self.reason = reason

    def unsupported_reason(self, model: object) -> str | None:
        return self.reason

    def to_onnx(self, encoder: Encoder, path: Path) -> None:
        raise NotImplementedError


def test_padded_is_always_possible(tiny: Exported) -> None:
    choice = graphs.choose(tiny.encoder, "padded")
    assert (choice.graph, choice.reason) == ("padded", "asked for")


def test_auto_takes_packed_where_it_can(tiny: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "PACKED", Packed(None))
    assert graphs.choose(tiny.encoder, "auto").graph == "packed"
    assert graphs.choose(tiny.encoder, "packed").graph == "packed"


def test_auto_falls_back_and_says_why(tiny: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "PACKED", Packed("no attention interface"))
    choice = graphs.choose(tiny.encoder, "auto")
    assert (choice.graph, choice.reason) == ("padded", "no attention interface")
    with pytest.raises(UnsupportedGraph, match="no attention interface"):
        graphs.choose(tiny.encoder, "packed")


def test_unknown_graphs_and_precisions_are_refused(tiny: Exported) -> None:
    with pytest.raises(UnsupportedGraph, match="got 'triangular'"):
        graphs.choose(tiny.encoder, "triangular")
    for precision in graphs.PRECISIONS:
        graphs.require_precision(precision)
    with pytest.raises(UnsupportedPrecision, match="wanted a precision out of fp32, fp16, int8, got 'fp4'"):
        graphs.require_precision("fp4")


def test_one_file_if_it_fits(tiny: Exported) -> None:
    assert onnx_file.files(tiny.path) == [tiny.path]


def test_weights_beside_the_graph_if_it_does_not(tiny: Exported, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx_file.save(onnx.load(tiny.path), path, single_file_bytes=1000)
    assert [file.name for file in onnx_file.files(path)] == ["model.onnx", "model.onnx.data"]
    assert path.stat().st_size < 500_000
    verify.graph(tiny.encoder.facts, path, tiny.expected, [runtimes.newest()], lambda check: None)
