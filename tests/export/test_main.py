"""The command, from option to files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export import manifest, runtimes
from export.__main__ import main
from tests.export.conftest import MakeFolder

CONVBERT = {"embedding_size": 32}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_an_export_and_a_failed_one_after_it(
    tiny_folder: Path, make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = tmp_path / "model_repository"
    assert main(["--model", str(tiny_folder), "--out", str(repository)]) == 0
    output = capsys.readouterr().out
    steps = ("loading", "asking transformers", "writing model.onnx", "verifying", "moving", "done")
    assert all(f"s] {step}" in output for step in steps)
    assert "ok    values" in output

    written = manifest.check(repository)
    assert sorted(snapshot(repository)) == [
        "bert/1/manifest.json",
        "bert/1/model.onnx",
        "pooling/1/manifest.json",
        "tokenizer/1/manifest.json",
        "tokenizer/1/tokenizer.json",
    ]
    assert written.model == tiny_folder.name
    assert written.architecture == "BertModel"
    assert (written.graph, written.opset, written.ir_version) == ("packed", 20, 10)
    assert set(written.parity) == {"1.19.2", written_with(written)}
    assert all(worst is not None and worst <= 1e-5 for worst in written.parity.values())
    tokenizer = json.loads((repository / "tokenizer/1/tokenizer.json").read_text(encoding="utf-8"))
    assert tokenizer["truncation"] is None
    assert tokenizer["padding"] is None

    # ConvBERT convolves over padding, so a text's vector depends on its neighbours: it must never be served.
    before = snapshot(repository)
    convbert = str(make_folder("ConvBertConfig", **CONVBERT))
    assert main(["--model", convbert, "--graph", "padded", "--out", str(repository)]) == 1
    failed = capsys.readouterr()
    assert "FAIL  values" in failed.out
    assert "neighbours differ by" in failed.err
    assert "is as it was" in failed.err
    assert snapshot(repository) == before
    assert [path.name for path in tmp_path.iterdir()] == ["model_repository"]


def written_with(written: manifest.Manifest) -> str:
    return next(version for version in written.parity if version != runtimes.OLDEST)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--precision", "fp4"], "wanted a precision out of fp32, fp16, int8, got 'fp4'"),
        (["--model", "/nothing/here"], "there is no folder /nothing/here"),
        (["--oldest-runtime", "/nothing/here"], "pip install --target /nothing/here"),
    ],
)
def test_refusals_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    assert main([*options, "--out", str(tmp_path / "repository")]) == 1
    assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_value_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--graph", "triangular"])
    assert caught.value.code == 2


@pytest.mark.slow
def test_leaving_out_the_oldest_runtime_is_recorded(tiny_folder: Path, tmp_path: Path) -> None:
    assert main(["--model", str(tiny_folder), "--out", str(tmp_path), "--no-verify-oldest"]) == 0
    assert manifest.check(tmp_path).parity["1.19.2"] is None


@pytest.mark.slow
def test_an_export_is_reproducible(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert main(["--out", str(tmp_path / name)]) == 0
    one, two = (manifest.check(tmp_path / name) for name in ("one", "two"))
    assert one.digest == two.digest
    assert max(worst for worst in one.parity.values() if worst is not None) <= 1e-5
