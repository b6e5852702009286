"""Encoders of BERT's family, tiny and random, climb the whole ladder under both runtimes; two that must not, do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from export import job, runtimes
from export.errors import ValuesDiffer
from export.verify import Check
from tests.export.conftest import MakeFolder

DISTILBERT = {
    "vocab_size": 30522,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": 40,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "XLMRobertaConfig": {},
    "CamembertConfig": {},
    "MPNetConfig": {},
    "DistilBertConfig": {"sizes": DISTILBERT},
    "ElectraConfig": {"embedding_size": 16},
    "AlbertConfig": {"embedding_size": 16},
    "ErnieConfig": {},
    "Data2VecTextConfig": {},
    "MegatronBertConfig": {},
    "RoFormerConfig": {"embedding_size": 32},
    "ModernBertConfig": {"pad_token_id": 0, "cls_token_id": 101, "sep_token_id": 102},
    "DebertaV2Config": {
        "relative_attention": True,
        "position_buckets": 16,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
}


def export(folder: Path, repository: Path) -> list[Check]:
    checks: list[Check] = []
    oldest = runtimes.oldest_folder()
    job.run(job.Job(str(folder), repository, graph="padded", oldest_runtime=oldest), lambda step: None, checks.append)
    return checks


@pytest.mark.slow
def test_roberta(make_folder: MakeFolder, tmp_path: Path) -> None:
    assert all(check.passed for check in export(make_folder("RobertaConfig"), tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("config", FAMILIES)
def test_family(make_folder: MakeFolder, tmp_path: Path, config: str) -> None:
    assert all(check.passed for check in export(make_folder(config, **FAMILIES[config]), tmp_path))


@pytest.mark.slow
def test_fnet_mixes_padding_into_the_text(make_folder: MakeFolder, tmp_path: Path) -> None:
    with pytest.raises(ValuesDiffer, match="neighbours"):
        export(make_folder("FNetConfig"), tmp_path)
