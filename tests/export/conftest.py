"""Tiny encoders with random weights, and one of them exported once: 2 layers, 32 dimensions, 40 positions."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from export.__main__ import ENVIRONMENT

for _variable, _value in ENVIRONMENT.items():  # read when torch is imported, which the fixtures do
    os.environ.setdefault(_variable, _value)

SIZES: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}

MakeFolder = Callable[..., Path]


@pytest.fixture(scope="session")
def make_folder(default_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeFolder:
    """make_folder(config_class_name, files={path: json}, **config) -> folder with random weights from a fixed seed."""

    def make(config: str = "BertConfig", files: dict[str, Any] | None = None, **changes: Any) -> Path:
        import torch
        import transformers

        folder = tmp_path_factory.mktemp(config)
        torch.manual_seed(0)
        settings = changes.pop("sizes", SIZES) | changes
        auto: Any = transformers.AutoModel
        auto.from_config(getattr(transformers, config)(**settings)).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
            shutil.copy(default_model_folder / name, folder)
        for name, content in (files or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_folder(make_folder: MakeFolder) -> Path:
    return make_folder()


@dataclass(frozen=True)
class Exported:
    """An encoder with its padded graph, and what transformers answers."""

    encoder: Any
    expected: Any
    path: Path


@pytest.fixture(scope="session")
def tiny_encoder(tiny_folder: Path) -> Any:
    from export import encoder

    return encoder.load(str(tiny_folder))


@pytest.fixture(scope="session")
def tiny_expected(tiny_encoder: Any) -> Any:
    """What transformers answers, asked before an exporter has touched the module."""
    from export import verify

    return verify.expect(tiny_encoder)


@pytest.fixture(scope="session")
def padded_graph(tiny_encoder: Any, tiny_expected: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As its exporter writes it: without the vectors. Tests that change it take a copy."""
    from export import padded

    path = tmp_path_factory.mktemp("padded") / "model.onnx"
    padded.to_onnx(tiny_encoder, path)
    return path


@pytest.fixture(scope="session")
def packed_graph(tiny_encoder: Any, tiny_expected: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As its exporter writes it: without the vectors. Tests that change it take a copy."""
    from export import packed

    path = tmp_path_factory.mktemp("packed") / "model.onnx"
    packed.to_onnx(tiny_encoder, path)
    return path


@pytest.fixture(scope="session")
def tiny(
    tiny_encoder: Any, tiny_expected: Any, padded_graph: Path, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    from export import pooled

    path = tmp_path_factory.mktemp("tiny") / "model.onnx"
    shutil.copy(padded_graph, path)
    pooled.append(path, tiny_encoder.facts.pooling)
    return Exported(tiny_encoder, tiny_expected, path)
