"""The packed graph: right vectors whatever the mask, under both ONNX Runtimes, and the operators that make it fast."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export import cases, encoder, packed, packed_fused, packed_trial, pooled, runtimes, verify
from export.cases import Case
from export.encoder import Encoder
from export.errors import GraphNotWritten
from export.packed_layout import GROUPS
from export.runtimes import Results
from export.verify import Check, Expected
from tests.export.conftest import Exported, MakeFolder
from tests.export.test_families import DISTILBERT, FAMILIES

RUNTIMES = ("newest", "oldest")
PACKABLE: dict[str, dict[str, Any]] = {
    "RobertaConfig": {},
    "XLMRobertaConfig": {},
    "XLMRobertaXLConfig": {},
    "CamembertConfig": {},
    "DistilBertConfig": {"sizes": DISTILBERT},
    "ElectraConfig": {"embedding_size": 16},
    "AlbertConfig": {"embedding_size": 16},
    "ErnieConfig": {},
    "Data2VecTextConfig": {},
    "RobertaPreLayerNormConfig": {},
    "NomicBertConfig": {},
    "GteConfig": {},
    "EuroBertConfig": {"pad_token_id": 0, "bos_token_id": 101, "eos_token_id": 102, "mask_token_id": 103},
}
UNPACKABLE = {
    "MPNetConfig": "does not use transformers' attention interface",
    "ModernBertConfig": "sliding_window",
    "RoFormerConfig": "takes no position_ids",
    "DebertaV2Config": "does not use transformers' attention interface",
}


def climb(loaded: Encoder, path: Path) -> list[Check]:
    """Write the packed graph, and try it on the whole ladder."""
    packed.to_onnx(loaded, path)
    return ladder(loaded, verify.expect(loaded), path)


def ladder(loaded: Encoder, expected: Expected, path: Path) -> list[Check]:
    """The whole of it, under both runtimes."""
    checks: list[Check] = []
    pooled.append(path, loaded.facts.pooling)
    tried = [runtimes.newest(), runtimes.oldest(runtimes.oldest_folder())]
    verify.graph(loaded.facts, path, expected, tried, checks.append)
    return checks


def masks() -> dict[str, np.ndarray]:
    """Of a batch of 10 rows and 12 columns: more rows than groups."""
    rows, columns = GROUPS + 2, 12
    usual = (np.arange(columns) < np.arange(1, rows + 1)[:, None]).astype(np.int64)
    holes = usual.copy()
    holes[3:, 1::3] = 0
    holes[5:, 0] = 0
    return {
        "usual": usual,
        "no padding": np.ones_like(usual),
        "equal lengths": np.repeat(usual[4:5], rows, axis=0),
        "one token each": np.repeat(usual[:1], rows, axis=0),
        "shortest last": usual[::-1].copy(),
        "left padding": usual[:, ::-1].copy(),
        "holes": holes,
        "threes": usual * 3,
        "minus ones": -usual,
        "2^40": usual << 40,
    }


def odd_cases(vocabulary: int) -> list[Case]:
    random = np.random.default_rng(0)
    shape = masks()["usual"].shape
    ids, types = random.integers(1, vocabulary, shape), random.integers(0, 2, shape)
    made = [Case(name, ids, mask, types) for name, mask in masks().items()]
    made += [Case(f"{case.name}, first row", *(a[:1] for a in arrays(case))) for case in made]
    return made


def arrays(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return case.input_ids, case.attention_mask, case.token_type_ids


@pytest.fixture(scope="module", params=RUNTIMES)
def answers(request: pytest.FixtureRequest, tiny: Exported, packed_graph: Path) -> Results:
    """Everything odd, in a process of its own: a crash would raise RuntimeCrashed."""
    newest = request.param == "newest"
    runtime = runtimes.newest() if newest else runtimes.oldest(runtimes.oldest_folder())
    facts = tiny.encoder.facts
    nothing = np.zeros((0, 0), dtype=np.int64)
    tried = [
        *odd_cases(facts.vocab_size),
        *(replace(case, name=f"hostile: {case.name}") for case in cases.hostile(facts)),
        Case("hostile: no rows, no columns", nothing, nothing, nothing),
    ]
    return runtimes.run(runtime, packed_graph, cases.feeds(tried))


@pytest.fixture(scope="module")
def expected(tiny: Exported) -> Mapping[str, np.ndarray]:
    """What transformers answers, with masks of 0 and 1, and zeros where there is no token."""
    odd = odd_cases(tiny.encoder.facts.vocab_size)
    plain = [replace(case, attention_mask=(case.attention_mask != 0).astype(np.int64)) for case in odd]
    states = cases.reference(tiny.encoder, plain)
    return {case.name: states[case.name] * case.attention_mask[:, :, None].astype(np.float32) for case in plain}


@pytest.mark.parametrize("name", [case.name for case in odd_cases(2)])
def test_any_mask_gives_the_right_vectors(answers: Results, expected: Mapping[str, np.ndarray], name: str) -> None:
    np.testing.assert_allclose(answers.outputs[name], expected[name], atol=1e-5)


def test_what_cannot_be_answered_is_an_error_or_empty(answers: Results, tiny: Exported) -> None:
    hostile = {name.removeprefix("hostile: "): output for name, output in answers.outputs.items()}
    wrong = ("negative ids", "token types out of range", "longer than the positions")
    for name in (*wrong, *cases.REFUSED, "batch of 0 rows", "no rows, no columns"):
        assert "out of" in str(hostile[name]), name
    empty = hostile["sequence of length 0"]
    assert isinstance(empty, np.ndarray)
    assert empty.shape == (2, 0, tiny.encoder.facts.hidden_size)


def test_ids_of_padding_are_not_looked_at(tiny: Exported, packed_graph: Path) -> None:
    case = odd_cases(tiny.encoder.facts.vocab_size)[0]
    wild = replace(case, name="wild", input_ids=np.where(case.attention_mask != 0, case.input_ids, 10**12))
    outputs = runtimes.run(runtimes.newest(), packed_graph, cases.feeds([case, wild])).outputs
    np.testing.assert_array_equal(outputs["usual"], outputs["wild"])


def test_the_ladder(tiny: Exported, packed_graph: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(packed_graph, tmp_path / "model.onnx"))
    assert all(check.passed for check in ladder(tiny.encoder, tiny.expected, path))


def test_exporting_leaves_the_module_as_it_was(tiny: Exported, packed_graph: Path) -> None:
    assert tiny.encoder.model.config._attn_implementation == "eager"
    after = cases.reference(tiny.encoder, tiny.expected.cases[:1])
    for name, states in after.items():
        np.testing.assert_array_equal(states, tiny.expected.states[name])


@pytest.mark.slow
def test_roberta_counts_positions_by_its_padding_id(make_folder: MakeFolder, tmp_path: Path) -> None:
    loaded = encoder.load(str(make_folder("RobertaConfig")))
    assert packed_trial.plan(loaded.model).positions.padding_id == loaded.facts.pad_token_id
    assert all(check.passed for check in climb(loaded, tmp_path / "model.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize("config", [name for name in PACKABLE if name != "RobertaConfig"])
def test_family(make_folder: MakeFolder, tmp_path: Path, config: str) -> None:
    loaded = encoder.load(str(make_folder(config, **PACKABLE[config])))
    assert packed.unsupported_reason(loaded.model) is None
    assert all(check.passed for check in climb(loaded, tmp_path / "model.onnx"))


@pytest.mark.parametrize("config", UNPACKABLE)
def test_unsupported_families_say_why(make_folder: MakeFolder, tmp_path: Path, config: str) -> None:
    loaded = encoder.load(str(make_folder(config, **FAMILIES[config])))
    assert UNPACKABLE[config] in str(packed.unsupported_reason(loaded.model))
    with pytest.raises(GraphNotWritten, match=UNPACKABLE[config]):
        packed.to_onnx(loaded, tmp_path / "model.onnx")


def test_an_encoder_that_mixes_tokens_outside_attention_is_found_out(tiny_folder: Path) -> None:
    loaded = encoder.load(str(tiny_folder))
    loaded.model.embeddings.register_forward_hook(lambda module, inputs, output: output + output.roll(1, dims=1))
    assert "computes other vectors" in str(packed.unsupported_reason(loaded.model))


def test_operators_are_those_that_were_measured(tiny: Exported, packed_graph: Path) -> None:
    layers = 2
    found = packed_fused.operators(packed_graph)
    counts = {"FusedMatMul": GROUPS + 1, "MatMul": GROUPS + 1, "Softmax": GROUPS + 1, "Gemm": 4, "Gelu": 1}
    for name, per_layer in counts.items():
        assert found[name] == layers * per_layer, name
    assert found["LayerNormalization"] == 2 * layers + 1
    assert found["If"] == layers + 1
    # Standard operators only: what ONNX Runtime fuses is its own decision on each kind of device.
    assert {node.domain for node in written_nodes(packed_graph)} == {""}


def test_lost_fusions_fail_the_export(tiny: Exported) -> None:
    calls = packed_trial.plan(tiny.encoder.model).calls
    with pytest.raises(GraphNotWritten) as failure:  # the padded graph has none of it
        packed_fused.require(tiny.path, calls)
    text = str(failure.value)
    assert f"wanted {2 * (GROUPS + 1)} FusedMatMul, got 2" in text
    assert "wanted 2 Gelu or BiasGelu" in text
    assert "wanted no SkipLayerNormalization" in text


def test_a_missing_merge_fails_the_export(tiny: Exported, packed_graph: Path) -> None:
    calls = packed_trial.plan(tiny.encoder.model).calls
    packed_fused.require(packed_graph, calls)
    with pytest.raises(GraphNotWritten, match="wanted 12 Gemm, got 8"):
        packed_fused.require(packed_graph, replace(calls, direct=0))


def written_nodes(path: Path) -> list[Any]:
    return list(onnx.load(str(path)).graph.node)
