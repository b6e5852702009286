"""The reference service's shape: bert-base-uncased's configuration, 12 layers and 768 dimensions, from a fixed seed."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from tests.support.reference import Reference
from tests.support.service import ROOT, exported_repository, serving
from tests.support.triton import Triton

pytestmark = [pytest.mark.triton, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(default_model_folder: Path) -> Path:
    """The model's folder: random weights, a real tokenizer, no sentence-transformers files."""
    result = ROOT / ".cache" / "tests" / "bert-base-seed-0"
    if not (result / "model.safetensors").is_file():
        torch.manual_seed(0)
        BertModel(BertConfig()).save_pretrained(result)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
            shutil.copy(default_model_folder / name, result / name)
    return result


def test_vectors(folder: Path, real_texts: list[str]) -> None:
    texts = [*random.Random(3).sample(real_texts, 20), "", "many words " * 400]
    expected = Reference(folder).embed(texts, 128)
    with serving(exported_repository(folder, "bert-base")) as running:
        answer = httpx.post(f"{running.rest_url}/embedding", json={"texts": texts, "max_length": 128}, timeout=120)
        rest = np.array(answer.json()["embeddings"], dtype=np.float32)
        triton = Triton(running.grpc_port)
        alone = np.concatenate([triton.embed([text], 128) for text in texts])
    assert rest.shape == (len(texts), 768)
    np.testing.assert_allclose(rest, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-5)
