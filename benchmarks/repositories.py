"""Model repositories and models for measuring, kept in .cache/bench: nothing here touches `model_repository`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from benchmarks.errors import BenchmarkError
from export.manifest import Manifest, read
from export.sources import DEFAULT_MODEL, find
from server.settings import ROOT

__all__ = ["CACHE", "bert_base", "exported", "with_parameters"]

CACHE = ROOT / ".cache" / "bench"
_DATA = ("model.onnx", "tokenizer.json", "manifest.json", "__pycache__", ".export-*")


def exported(model: str, graph: str, precision: str = "fp32") -> tuple[Path, Manifest]:
    """A whole model repository with `model` exported into it; kept until the exporter changes.

    Raises:
        BenchmarkError: the export failed; carries what it said.
    """
    folder = Path(model)
    sources = sorted([*(ROOT / "export").glob("*.py"), *(folder.glob("*.json") if folder.is_dir() else [])])
    content = b"".join(path.read_bytes() for path in sources) + f"{model} {graph} {precision}".encode()
    name = f"{folder.name}-{graph}-{precision}-{hashlib.sha256(content).hexdigest()[:12]}"
    repository = CACHE / name
    # The configs and steps of today, whatever the export is of.
    shutil.copytree(ROOT / "model_repository", repository, ignore=shutil.ignore_patterns(*_DATA), dirs_exist_ok=True)
    manifest = repository / "bert" / "1" / "manifest.json"
    if not manifest.is_file():
        command = [sys.executable, "-m", "export", "--model", model, "--out", str(repository)]
        command += ["--graph", graph, "--precision", precision]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchmarkError(f"{' '.join(command[1:])} failed: {_last_line(done.stderr or done.stdout)}")
    return repository, read(manifest)


def bert_base() -> Path:
    """A folder with a model of bert-base-uncased's configuration and random weights, the same everywhere.

    Speed does not depend on the weights, and so nobody needs a hub. The tokenizer is the default model's, which has
    bert-base-uncased's vocabulary.
    """
    folder = CACHE / "bert-base-random"
    if not (folder / "config.json").is_file():
        import torch
        from transformers import AutoTokenizer, BertConfig, BertModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # type: ignore[no-untyped-call]
        torch.manual_seed(0)
        AutoTokenizer.from_pretrained(find(DEFAULT_MODEL).folder).save_pretrained(folder)
        BertModel(BertConfig()).save_pretrained(folder)  # the configuration last: it marks the folder as whole
    return folder


@contextlib.contextmanager
def with_parameters(repository: Path, step: str, parameters: Mapping[str, str]) -> Iterator[Path]:
    """The same repository with other `parameters` in a step's config.pbtxt, for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="varied-", dir=CACHE) as folder:
        varied = Path(folder) / repository.name
        # Links: nothing here is written to, and a graph is large.
        shutil.copytree(repository, varied, copy_function=os.link)
        path = varied / step / "config.pbtxt"
        config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        for name, value in parameters.items():
            config.parameters[name].string_value = value
        path.unlink()  # the link, not the file
        path.write_text(text_format.MessageToString(config))
        yield varied


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("not exported", "verification failed"))]
    return (told or lines or ["it said nothing"])[-1]
