"""Writes ONNX files that the oldest supported ONNX Runtime reads, and that say nothing about the machine they
were made on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

__all__ = ["DATA_SUFFIX", "MAX_IR_VERSION", "MAX_OPSET", "OPSET", "files", "save"]

# What is written: the opset torch's exporter is native in, so that no version converter is needed.
OPSET = 18
# What ONNX Runtime 1.19 (Triton 24.10) reads at most.
MAX_OPSET = 21
MAX_IR_VERSION = 10

DATA_SUFFIX = ".data"
# protobuf's limit is 2 GiB for the whole file.
SINGLE_FILE_BYTES = 2_000_000_000


def save(model: onnx.ModelProto, path: Path, single_file_bytes: int = SINGLE_FILE_BYTES) -> None:
    """One file if the weights fit in it, otherwise `path` and `path`.data.

    Drops the exporter's notes on each node: they carry stack traces with paths of this machine.
    """
    for graph in _graphs(model):
        for part in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer, [graph]):
            for entry in part:
                entry.ClearField("metadata_props")
                entry.ClearField("doc_string")
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size <= single_file_bytes:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=path.name + DATA_SUFFIX, size_threshold=1024)


def files(path: Path) -> list[Path]:
    """What belongs to the graph at `path`."""
    data = path.with_name(path.name + DATA_SUFFIX)
    return [path, data] if data.is_file() else [path]


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    waiting: list[onnx.GraphProto] = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)
