"""What needs an NVIDIA GPU: CUDA is really used, vectors are right, batching acts.

Run by `scripts/test -m gpu`. Not run yet: no machine that this was built on had a GPU.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from export import manifest
from tests.support.reference import Reference
from tests.support.service import ROOT, Service
from tests.support.triton import Triton

pytestmark = [pytest.mark.gpu, pytest.mark.triton]

# TF32 matrix products of the newer GPUs have 10 bits of mantissa.
TOLERANCE = 5e-3


OPEN_ON_CUDA = """
import sys, pathlib, onnxruntime, session
opened = session.open_session(pathlib.Path(sys.argv[1]), onnxruntime.SessionOptions(), "GPU", 0)
assert opened.get_providers()[0] == "CUDAExecutionProvider", opened.get_providers()
"""


def test_cuda_is_really_used(model_repository: Path) -> None:
    # In a process without torch, which would have loaded CUDA's libraries already.
    graph = model_repository / "bert" / "1" / "model.onnx"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "backends" / "onnxruntime")}
    subprocess.run([sys.executable, "-c", OPEN_ON_CUDA, str(graph)], env=environment, check=True)


def test_triton_puts_bert_on_the_gpu(triton: Triton) -> None:
    groups = triton.client.get_model_config("bert").config.instance_group
    assert [group.kind for group in groups] == [groups[0].KIND_GPU]


def test_vectors(service: Service, triton: Triton, reference: Reference, real_texts: list[str]) -> None:
    texts = random.Random(1).sample(real_texts, 64)
    difference = np.abs(triton.embed(texts, 128) - reference.embed(texts, 128)).max()
    assert difference < TOLERANCE


def test_a_vector_does_not_depend_on_its_batch(triton: Triton, real_texts: list[str]) -> None:
    texts = random.Random(2).sample(real_texts, 64)
    together = triton.embed(texts, 128)
    alone = np.concatenate([triton.embed([text], 128) for text in texts])
    assert np.abs(together - alone).max() < TOLERANCE


def test_an_export_times_both_graphs(default_model_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "export", "--model", str(default_model_folder), "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    written = manifest.check(tmp_path)
    assert set(written.graph_texts_per_s) == {"packed", "padded"}
    assert all(figure > 0 for figure in written.graph_texts_per_s.values())
    assert written.graph == max(written.graph_texts_per_s, key=lambda name: written.graph_texts_per_s[name])


def test_batching_acts(triton: Triton, real_texts: list[str]) -> None:
    before = triton.statistics("bert")
    with ThreadPoolExecutor(32) as threads:
        list(threads.map(lambda text: triton.embed([text], 128), real_texts[:640]))
    assert triton.mean_batch_size("bert", before) > 1.5
