"""Another ONNX Runtime runs apart, and its death is an answer."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from export import cases, runtimes
from export.errors import GraphUnreadable, RuntimeCrashed, RuntimeMissing
from export.runtimes import Runtime
from tests.export.conftest import Exported

FEEDS = {"a case": {"input_ids": np.zeros((1, 2), dtype=np.int64)}}


def fake(folder: Path, code: str) -> Runtime:
    """A folder whose onnxruntime does what `code` says when it is imported."""
    (folder / "onnxruntime").mkdir()
    (folder / "onnxruntime" / "__init__.py").write_text(code, encoding="utf-8")
    return runtimes.oldest(folder)


def test_both_runtimes_are_what_they_are_called(tiny: Exported) -> None:
    feeds = cases.feeds(tiny.expected.cases[:2])
    oldest = runtimes.run(runtimes.oldest(runtimes.oldest_folder()), tiny.path, feeds)
    newest = runtimes.run(runtimes.newest(), tiny.path, feeds)
    assert oldest.version == "1.19.2" != newest.version
    assert set(oldest.outputs) == set(newest.outputs) == set(feeds)


def test_an_error_of_one_case_does_not_hide_the_others(tiny: Exported) -> None:
    feeds = cases.feeds([tiny.expected.cases[0]])
    wrong = {"wrong": {"input_ids": np.full((1, 3), 10**6)}, **feeds}
    outputs = runtimes.run(runtimes.newest(), tiny.path, wrong).outputs
    assert isinstance(outputs["wrong"], str)
    assert isinstance(outputs[tiny.expected.cases[0].name], np.ndarray)


def test_a_missing_runtime_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeMissing) as caught:
        runtimes.oldest(tmp_path / "none")
    command = f"{sys.executable} -m pip install --target {tmp_path / 'none'} --no-deps onnxruntime==1.19.2"
    assert command in str(caught.value)
    assert "--no-verify-oldest" in str(caught.value)


def test_flag_then_environment_then_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EXPORT_OLDEST_RUNTIME", raising=False)
    assert runtimes.oldest_folder() == Path(sys.prefix) / "onnxruntime-1.19.2"
    monkeypatch.setenv("EXPORT_OLDEST_RUNTIME", str(tmp_path / "named"))
    assert runtimes.oldest_folder() == tmp_path / "named"
    assert runtimes.oldest_folder(tmp_path / "flag") == tmp_path / "flag"


def test_a_crash_is_an_error_that_names_the_signal_and_the_place(tmp_path: Path) -> None:
    code = "import os, signal; print('a case', flush=True); os.kill(os.getpid(), signal.SIGSEGV)"
    with pytest.raises(RuntimeCrashed, match="died with signal 11 at: a case"):
        runtimes.run(fake(tmp_path, code), Path("model.onnx"), FEEDS)


def test_a_failed_start_shows_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(RuntimeCrashed, match=r"exit code 1(.|\n)*no such library"):
        runtimes.run(fake(tmp_path, "raise ImportError('no such library')"), Path("model.onnx"), FEEDS)


def test_a_run_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(RuntimeCrashed, match="did not finish within 1 s"):
        runtimes.run(fake(tmp_path, "import time; time.sleep(60)"), Path("model.onnx"), FEEDS, timeout_s=1)


def test_another_version_in_the_folder_is_found(tmp_path: Path, tiny: Exported) -> None:
    code = """
__version__ = "1.20.0"
class SessionOptions:
    def add_session_config_entry(self, key, value): pass
def InferenceSession(*arguments, **options): raise RuntimeError("never mind")
"""
    with pytest.raises(RuntimeMissing, match=r"should hold ONNX Runtime 1\.19\.2, it holds 1\.20\.0"):
        runtimes.run(fake(tmp_path, code), tiny.path, FEEDS)


def test_a_graph_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(GraphUnreadable, match=r"cannot load model\.onnx"):
        runtimes.run(runtimes.newest(), tmp_path / "model.onnx", FEEDS)
