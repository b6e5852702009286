"""Facts are read from the model, and what cannot be served is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import tokenizers
import torch

from export import cases, encoder, verify
from export.errors import ModelNotFound, UnsupportedArchitecture
from tests.export.conftest import Exported, MakeFolder


def test_facts_of_the_default_model() -> None:
    facts = encoder.load("sentence-transformers/all-MiniLM-L6-v2").facts
    assert facts.architecture == "BertModel"
    assert (facts.pooling, facts.normalize) == ("mean", True)
    assert (facts.max_sequence_length, facts.max_positions) == (256, 512)
    assert (facts.hidden_size, facts.vocab_size, facts.token_types, facts.pad_token_id) == (384, 30522, 2, 0)


def test_the_module_is_ready_and_the_tokenizer_decides_nothing(tiny: Exported) -> None:
    loaded: encoder.Encoder = tiny.encoder
    assert not loaded.model.training
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    # The packaged file, which tiny models use too, truncates and pads to 128.
    assert loaded.tokenizer.truncation is None
    assert loaded.tokenizer.padding is None
    assert len(loaded.tokenizer.encode("word " * 300).ids) == 302
    assert len(loaded.tokenizer.encode("word").ids) == 3


@pytest.mark.parametrize(("setting", "limit"), [(20, 20), (None, 40), (4000, 40)])
def test_the_sequence_limit_never_exceeds_the_positions(
    make_folder: MakeFolder, setting: int | None, limit: int
) -> None:
    files = {
        "modules.json": [{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}],
        "1_Pooling/config.json": {"pooling_mode_cls_token": True},
        "sentence_bert_config.json": {"max_seq_length": setting},
    }
    facts = encoder.load(str(make_folder(files=files))).facts
    assert (facts.max_sequence_length, facts.max_positions, facts.pooling) == (limit, 40, "cls")


@pytest.mark.parametrize("config", ["RobertaConfig", "XLMRobertaConfig", "MPNetConfig"])
def test_positions_that_count_from_the_padding_id(make_folder: MakeFolder, config: str) -> None:
    loaded = encoder.load(str(make_folder(config)))
    assert loaded.facts.max_positions == 38  # 40 rows, of which 0 and 1 are never a token's
    assert loaded.facts.pad_token_id == 1
    ids = torch.full((1, 38), 7)
    function = encoder.HiddenStates(loaded.model)
    assert function(ids, torch.ones_like(ids), torch.zeros_like(ids)).shape == (1, 38, 32)
    longer = torch.full((1, 39), 7)
    with pytest.raises(IndexError):
        function(longer, torch.ones_like(longer), torch.zeros_like(longer))


def test_a_tokenizer_without_tokenizer_json_is_converted(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = shutil.copytree(make_folder(), tmp_path / "slow")
    (folder / "tokenizer.json").unlink()
    loaded = encoder.load(str(folder))
    loaded.tokenizer.save(str(tmp_path / "tokenizer.json"))
    verify.tokens(loaded, tmp_path / "tokenizer.json", lambda check: None)
    assert loaded.tokenizer.encode("Hello wörld").tokens == ["[CLS]", "hello", "world", "[SEP]"]


def test_a_byte_level_tokenizer_from_vocabulary_and_merges(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = shutil.copytree(make_folder("RobertaConfig", vocab_size=400), tmp_path / "bpe")
    for name in ("tokenizer.json", "special_tokens_map.json", "vocab.txt"):
        (folder / name).unlink()
    trained = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(cases.SENTENCES * 3, vocab_size=400, special_tokens=special, show_progress=False)
    trained.save_model(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}), encoding="utf-8")
    loaded = encoder.load(str(folder))
    loaded.tokenizer.save(str(tmp_path / "tokenizer.json"))
    verify.tokens(loaded, tmp_path / "tokenizer.json", lambda check: None)
    assert loaded.tokenizer.encode("").tokens == ["<s>", "</s>"]


def test_sentence_transformers_lower_casing_is_part_of_the_tokenizer(make_folder: MakeFolder, tmp_path: Path) -> None:
    files = {
        "modules.json": [{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}],
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": 20, "do_lower_case": True},
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "do_lower_case": False},
    }
    loaded = encoder.load(str(make_folder(files=files)))
    loaded.tokenizer.save(str(tmp_path / "tokenizer.json"))
    verify.tokens(loaded, tmp_path / "tokenizer.json", lambda check: None)
    assert loaded.tokenizer.encode("HELLO").tokens == ["[CLS]", "hello", "[SEP]"]


def test_decoders_are_refused(make_folder: MakeFolder) -> None:
    gpt2 = {"vocab_size": 30522, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
    with pytest.raises(UnsupportedArchitecture, match="looks at earlier tokens only"):
        encoder.load(str(make_folder("GPT2Config", sizes=gpt2)))
    t5 = {"vocab_size": 30522, "d_model": 32, "num_layers": 2, "num_heads": 4, "d_ff": 64, "d_kv": 8}
    with pytest.raises(UnsupportedArchitecture, match="which decodes"):
        encoder.load(str(make_folder("T5Config", sizes=t5)))


def test_a_vocabulary_beyond_the_model_is_refused(make_folder: MakeFolder) -> None:
    with pytest.raises(UnsupportedArchitecture, match="30522 tokens, the model only 1000"):
        encoder.load(str(make_folder(vocab_size=1000)))


def test_missing_weights_are_not_replaced_by_random_ones(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "incomplete")
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedArchitecture, match=r"1 weights are missing: encoder\.layer\.1"):
        encoder.load(str(folder))


def test_folders_that_are_no_models(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no config\.json"):
        encoder.load(str(tmp_path))
    folder = shutil.copytree(tiny_folder, tmp_path / "without weights")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnsupportedArchitecture, match="transformers cannot load"):
        encoder.load(str(folder))
