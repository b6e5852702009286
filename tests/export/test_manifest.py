"""The manifest proves that the files of a repository belong together."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from export import manifest
from export.errors import ManifestInvalid, ManifestOutdated
from export.manifest import Manifest

FILES = {"tokenizer/1/tokenizer.json": b"{}", "bert/1/model.onnx": b"graph"}


def example(repository: Path) -> Manifest:
    return manifest.with_digest(
        Manifest(
            model="org/name",
            revision=None,
            license=None,
            architecture="BertModel",
            precision="fp32",
            graph="padded",
            graph_reason="asked for",
            pooling="mean",
            normalize=False,
            hidden_size=32,
            max_positions=40,
            max_sequence_length=40,
            vocab_size=30522,
            pad_token_id=0,
            prompts={"query": "Frage: "},
            default_prompt_name=None,
            opset=18,
            ir_version=10,
            files={name: manifest.sha256(repository / name) for name in FILES},
        )
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(content)
    manifest.write(example(tmp_path), tmp_path)
    return tmp_path


def test_what_was_written_is_read_and_fits(repository: Path) -> None:
    assert manifest.check(repository) == example(repository)
    assert example(repository).digest.startswith("sha256:")


def test_the_digest_names_the_vectors_not_the_machine(repository: Path) -> None:
    first = example(repository)
    measured = dataclasses.replace(
        first, parity={"1.19.2": 1e-6}, graph_texts_per_s={"packed": 1.5}, versions={"torch": "2"}, digest=""
    )
    assert manifest.with_digest(measured).digest == first.digest
    changes: tuple[dict[str, Any], ...] = ({"pooling": "cls"}, {"files": {}}, {"revision": "abc"}, {"prompts": {}})
    for change in changes:
        changed = dataclasses.replace(first, digest="", **change)
        assert manifest.with_digest(changed).digest != first.digest, change


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_found(repository: Path, name: str) -> None:
    (repository / name).write_bytes(b"something else")
    with pytest.raises(ManifestInvalid, match=f"{name} has sha256"):
        manifest.check(repository)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(repository: Path, name: str) -> None:
    (repository / name).unlink()
    with pytest.raises(ManifestInvalid, match=f"{name} is missing"):
        manifest.check(repository)


@pytest.mark.parametrize("step", manifest.STEPS)
def test_a_copy_of_another_export_is_found(repository: Path, step: str) -> None:
    other = manifest.with_digest(dataclasses.replace(example(repository), pooling="cls", digest=""))
    (repository / step / "1" / "manifest.json").write_text(other.to_json(), encoding="utf-8")
    with pytest.raises(ManifestInvalid, match="not one export"):
        manifest.check(repository)


@pytest.mark.parametrize("step", manifest.STEPS)
def test_a_missing_copy_is_found(repository: Path, step: str) -> None:
    (repository / step / "1" / "manifest.json").unlink()
    with pytest.raises(ManifestInvalid, match="does not exist"):
        manifest.check(repository)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pooling": "cls"}, "was changed"),
        ({"format": 3}, "wanted format 2, got 3"),
        ({"colour": "red"}, "unknown"),
    ],
)
def test_an_edited_manifest_is_found(repository: Path, change: dict[str, object], reason: str) -> None:
    path = repository / "tokenizer/1/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")
    with pytest.raises(ManifestInvalid, match=reason):
        manifest.read(path)


def test_an_export_of_an_earlier_version_says_how_to_renew_it(repository: Path) -> None:
    path = repository / "tokenizer/1/manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"format": 1}), encoding="utf-8")
    with pytest.raises(ManifestOutdated, match=f"python -m export --model {content['model']}") as caught:
        manifest.read(path)
    assert caught.value.model == content["model"]


def test_an_export_from_before_graphs_were_timed_is_read(repository: Path) -> None:
    path = repository / "tokenizer/1/manifest.json"
    content = json.loads(path.read_text())
    assert content.pop("graph_texts_per_s") == {}
    path.write_text(json.dumps(content), encoding="utf-8")
    assert manifest.read(path) == example(repository)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 2}'])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ManifestInvalid, match="is not a manifest"):
        manifest.read(path)


def test_reading_manifests_needs_the_standard_library_only() -> None:
    code = (
        "import sys; before = set(sys.modules); import export.manifest; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - set(sys.stdlib_module_names) - {'export'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
