"""Model repositories that differ from a good one in a known way."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from export import manifest as manifests

__all__ = ["SHIFT", "copied", "shifted", "truncated", "unloadable"]

# What `shifted` adds to each component of each vector.
SHIFT = 0.25
_GRAPH = Path("bert/1/model.onnx")
# Of the packaged MiniLM.
_LAST_BIAS = "encoder.layer.5.output.LayerNorm.bias"


def copied(repository: Path, target: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(repository, target))


def shifted(repository: Path, target: Path) -> Path:
    """Another model, whole: a token's states, and so the mean of them, are larger by SHIFT in each component."""
    copied(repository, target)
    model = onnx.load(target / _GRAPH)
    last = next(each for each in model.graph.initializer if each.name.endswith(_LAST_BIAS))
    last.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(last) + SHIFT).astype(np.float32), last.name))
    onnx.save(model, target / _GRAPH)
    manifest = manifests.read(target / "bert" / "1" / "manifest.json")
    files = {**manifest.files, str(_GRAPH): manifests.sha256(target / _GRAPH)}
    manifests.write(manifests.with_digest(dataclasses.replace(manifest, files=files, model="shifted")), target)
    return target


def truncated(repository: Path, target: Path) -> Path:
    """A damaged one: the graph lacks its end."""
    copied(repository, target)
    graph = target / _GRAPH
    graph.write_bytes(graph.read_bytes()[:-1000])
    return target


def unloadable(repository: Path, target: Path) -> Path:
    """One whose files are whole, but Triton refuses a config."""
    copied(repository, target)
    config = target / "bert" / "config.pbtxt"
    config.write_text(config.read_text() + 'parameters { key: "execution_mode" value { string_value: "7" } }\n')
    return target
