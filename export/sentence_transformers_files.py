"""Reads what a model's own sentence-transformers files say, without the sentence-transformers package.

modules.json                    the pipeline: Transformer, Pooling, Normalize; anything else is refused
<pooling>/config.json           pooling mode: mean, cls or max; anything else is refused
sentence_bert_config.json       maximum sequence length, lower-casing
config_sentence_transformers.json   prompts

A folder without modules.json is a bare transformers model: masked mean, no normalisation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.errors import ModelNotFound, UnsupportedPooling

__all__ = ["POOLINGS", "Pipeline", "read"]

POOLINGS = ("mean", "cls", "max")
# Flags of Pooling's config.json up to sentence-transformers 5; newer ones write one "pooling_mode".
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Pipeline:
    """What sentence-transformers does with a text."""

    transformer: Path  # folder of the weights and the tokenizer; old models keep them in 0_Transformer
    pooling: str = "mean"
    normalize: bool = False
    max_sequence_length: int | None = None
    lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None


def read(folder: Path) -> Pipeline:
    """Raises UnsupportedPooling if the pipeline does more than Pipeline can say."""
    modules = _json(folder / "modules.json")
    if modules is None:
        return Pipeline(folder)
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise UnsupportedPooling(
            f"{folder.name}: wanted the modules Transformer, Pooling and possibly Normalize, got {', '.join(kinds)}"
        )
    transformer = folder / modules[0]["path"]
    settings = _transformer_settings(transformer)
    prompts = _json(folder / "config_sentence_transformers.json") or {}
    return Pipeline(
        transformer=transformer,
        pooling=_pooling(folder / modules[1]["path"] / "config.json"),
        normalize="Normalize" in kinds,
        max_sequence_length=settings.get("max_seq_length"),
        lower_case=bool(settings.get("do_lower_case")),
        prompts=prompts.get("prompts") or {},
        default_prompt_name=prompts.get("default_prompt_name"),
    )


def _transformer_settings(folder: Path) -> dict[str, Any]:
    # sentence_bert_config.json; some models call it sentence_roberta_config.json and the like.
    for path in sorted(folder.glob("sentence_*_config.json")):
        return _json(path) or {}
    return {}


def _pooling(path: Path) -> str:
    config = _json(path)
    if config is None:
        raise UnsupportedPooling(f"modules.json names a Pooling module, and {path} does not exist")
    named = config.get("pooling_mode")
    modes = [named] if isinstance(named, str) else [mode for flag, mode in FLAGS.items() if config.get(flag)]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise UnsupportedPooling(f"{path}: wanted one of {', '.join(POOLINGS)}, got {' and '.join(modes) or 'none'}")
    return str(modes[0])


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelNotFound(f"{path} is not JSON: {error}") from error
