"""The model's own files decide pooling, limits and prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from export import sentence_transformers_files
from export.errors import ModelNotFound, UnsupportedPooling
from export.sentence_transformers_files import Pipeline

TRANSFORMER = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
NORMALIZE = {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
DENSE = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
MEAN = {"pooling_mode_mean_tokens": True}


def folder(tmp_path: Path, **files: Any) -> Path:
    names = {
        "modules": "modules.json",
        "pooling": "1_Pooling/config.json",
        "prompts": "config_sentence_transformers.json",
    }
    for key, content in files.items():
        path = tmp_path / names.get(key, f"{key}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def test_the_packaged_model(default_model_folder: Path) -> None:
    found = sentence_transformers_files.read(default_model_folder)
    assert found == Pipeline(default_model_folder, pooling="mean", normalize=True, max_sequence_length=256)


def test_a_bare_transformers_model_is_mean_pooled(tmp_path: Path) -> None:
    assert sentence_transformers_files.read(tmp_path) == Pipeline(tmp_path, pooling="mean", normalize=False)


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        (MEAN, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode": "cls"}, "cls"),  # the newer spelling
    ],
)
def test_pooling_modes(tmp_path: Path, config: dict[str, Any], pooling: str) -> None:
    files = folder(tmp_path, modules=[TRANSFORMER, POOLING], pooling=config)
    found = sentence_transformers_files.read(files)
    assert (found.pooling, found.normalize) == (pooling, False)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"pooling_mode_weightedmean_tokens": True}, "got weightedmean"),
        ({"pooling_mode_lasttoken": True}, "got lasttoken"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "got mean_sqrt_len_tokens"),
        ({"pooling_mode_cls_token": True, **MEAN}, "got cls and mean"),
        ({"pooling_mode": "lasttoken"}, "got lasttoken"),
        ({}, "got none"),
    ],
)
def test_other_pooling_is_refused(tmp_path: Path, config: dict[str, Any], reason: str) -> None:
    files = folder(tmp_path, modules=[TRANSFORMER, POOLING], pooling=config)
    with pytest.raises(UnsupportedPooling, match=reason):
        sentence_transformers_files.read(files)


@pytest.mark.parametrize("modules", [[TRANSFORMER, POOLING, DENSE], [TRANSFORMER], [TRANSFORMER, NORMALIZE, POOLING]])
def test_other_pipelines_are_refused(tmp_path: Path, modules: list[dict[str, Any]]) -> None:
    files = folder(tmp_path, modules=modules, pooling=MEAN)
    with pytest.raises(UnsupportedPooling, match="wanted the modules Transformer, Pooling"):
        sentence_transformers_files.read(files)


def test_a_pooling_module_without_its_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedPooling, match="does not exist"):
        sentence_transformers_files.read(folder(tmp_path, modules=[TRANSFORMER, POOLING]))


def test_settings_of_old_and_prompts_of_new_models(tmp_path: Path) -> None:
    folder(tmp_path / "0_Transformer", sentence_roberta_config={"max_seq_length": 128, "do_lower_case": True})
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    moved = TRANSFORMER | {"path": "0_Transformer"}
    files = folder(tmp_path, modules=[moved, POOLING, NORMALIZE], pooling=MEAN, prompts=prompts)
    assert sentence_transformers_files.read(files) == Pipeline(
        transformer=tmp_path / "0_Transformer",
        normalize=True,
        max_sequence_length=128,
        lower_case=True,
        prompts={"query": "query: "},
        default_prompt_name="query",
    )


def test_broken_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelNotFound, match=r"modules\.json is not JSON"):
        sentence_transformers_files.read(tmp_path)
