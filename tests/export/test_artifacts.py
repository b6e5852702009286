"""All files move in, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from export import artifacts
from export.errors import ExportError

NAMES = [Path("bert/1/model.onnx"), Path("tokenizer/1/tokenizer.json"), Path("pooling/1/manifest.json")]


def put(folder: Path, content: str, names: list[Path] = NAMES) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_files_replace_the_old_ones_and_nothing_else(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    put(repository, "old")
    put(repository, "code", [Path("pooling/1/model.py")])
    with artifacts.staging(repository) as staged:
        put(staged, "new")
        artifacts.install(staged, repository, NAMES)
    assert contents(repository) == {**{str(name): "new" for name in NAMES}, "pooling/1/model.py": "code"}
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_a_new_repository_is_made(tmp_path: Path) -> None:
    repository = tmp_path / "a" / "b"
    with artifacts.staging(repository) as staged:
        put(staged, "new")
        artifacts.install(staged, repository, NAMES)
    assert contents(repository) == {str(name): "new" for name in NAMES}


def test_what_an_earlier_export_left_over_is_removed(tmp_path: Path) -> None:
    repository, data = tmp_path / "repository", Path("bert/1/model.onnx.data")
    put(repository, "old", [*NAMES, data])
    with artifacts.staging(repository) as staged:
        put(staged, "new")
        artifacts.install(staged, repository, NAMES, obsolete=[data])
    assert contents(repository) == {str(name): "new" for name in NAMES}


def test_a_failed_move_is_undone(tmp_path: Path) -> None:
    repository, data = tmp_path / "repository", Path("bert/1/model.onnx.data")
    put(repository, "old", [NAMES[0], data])
    (repository / NAMES[2]).mkdir(parents=True)  # a folder stands where the last file should go
    with artifacts.staging(repository) as staged:
        put(staged, "new")
        with pytest.raises(ExportError, match="is as it was"):
            artifacts.install(staged, repository, NAMES, obsolete=[data])
    assert contents(repository) == {str(NAMES[0]): "old", str(data): "old"}


def test_a_failure_leaves_no_staging_folder(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    with pytest.raises(RuntimeError), artifacts.staging(repository):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(ExportError, match="cannot write to"), artifacts.staging(tmp_path / "file" / "repository"):
        pass
