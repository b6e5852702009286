"""The configs as protobuf, without a server: they parse, and the steps fit together."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from tests.support.service import ROOT

REPOSITORY = ROOT / "model_repository"
STEPS = ("tokenizer", "bert", "pooling")
ENSEMBLES = ("embedding", "embedding_fused")
MODELS = (*STEPS, *ENSEMBLES)
# What the graph brings, as bert/config.pbtxt leaves it to auto-completion.
GRAPH_INPUTS = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (pb.TYPE_INT64, 1))
GRAPH_OUTPUTS = {"last_hidden_state": (pb.TYPE_FP32, 2), "sentence_embedding": (pb.TYPE_FP32, 1)}


def config(model: str) -> pb.ModelConfig:
    return text_format.Parse((REPOSITORY / model / "config.pbtxt").read_text(), pb.ModelConfig())


def tensors(model: str, kind: str) -> dict[str, tuple[int, int]]:
    """Name -> (type, rank without the batch axis)."""
    if model == "bert":
        return GRAPH_INPUTS if kind == "input" else GRAPH_OUTPUTS
    return {tensor.name: (tensor.data_type, len(tensor.dims)) for tensor in getattr(config(model), kind)}


def test_every_folder_is_a_known_model() -> None:
    assert sorted(path.parent.name for path in REPOSITORY.glob("*/config.pbtxt")) == sorted(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_name_and_comment(model: str) -> None:
    text = (REPOSITORY / model / "config.pbtxt").read_text()
    assert text.startswith("# "), "the first line says what the model does and who calls it"
    assert config(model).name == model


@pytest.mark.parametrize("model", MODELS)
def test_each_tensor_says_what_it_is(model: str) -> None:
    lines = (REPOSITORY / model / "config.pbtxt").read_text().split("model_warmup")[0].splitlines()
    for number, line in enumerate(lines):
        if line.startswith("    name: "):
            assert "#" in line or lines[number - 1].strip().startswith("#"), f"{model}: {line.strip()}"


@pytest.mark.parametrize("step", STEPS)
def test_steps_batch_dynamically(step: str) -> None:
    parsed = config(step)
    assert parsed.HasField("dynamic_batching")
    # Any policy makes requests wait for half a second (docs/adr/0003-unbounded-queues.md).
    assert parsed.dynamic_batching.default_queue_policy == pb.ModelQueuePolicy()
    assert not parsed.dynamic_batching.priority_levels
    assert parsed.max_batch_size >= config("embedding").max_batch_size
    assert [group.count for group in parsed.instance_group] == [1]
    assert parsed.model_warmup, "the first request must not be the slow one"


def test_no_thread_counts() -> None:
    # They come from the server's command line, which knows the container's CPU limit.
    for step in STEPS:
        assert not {"intra_op_thread_count", "inter_op_thread_count"} & set(config(step).parameters)


def test_bert_fits_every_model() -> None:
    assert not config("bert").input
    assert not config("bert").output


@pytest.mark.parametrize("model", MODELS)
def test_no_hidden_size(model: str) -> None:
    for tensor in [*config(model).input, *config(model).output]:
        assert set(tensor.dims) <= {-1, 1}, f"{model}: {tensor.name} {list(tensor.dims)}"


def test_warm_up_files_exist_and_have_the_right_size() -> None:
    for step in STEPS:
        for warm_up in config(step).model_warmup:
            for tensor in warm_up.inputs.values():
                if tensor.HasField("input_data_file"):
                    path = REPOSITORY / step / "warmup" / tensor.input_data_file
                    assert path.stat().st_size == warm_up.batch_size * tensor.dims[0] * 8


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_ensemble_wires_every_tensor_to_the_same_name(ensemble: str) -> None:
    known = dict(tensors(ensemble, "input"))
    for step in config(ensemble).ensemble_scheduling.step:
        inputs, outputs = tensors(step.model_name, "input"), tensors(step.model_name, "output")
        assert set(step.input_map) == set(inputs)
        assert set(step.output_map) <= set(outputs)
        for key, value in [*step.input_map.items(), *step.output_map.items()]:
            # The one that is renamed: the ensembles' public name of the vector.
            assert key == value or (key, value) == ("sentence_embedding", "EMBEDDING")
        for name in step.input_map:
            assert known[name] == inputs[name], name
        known |= {value: outputs[key] for key, value in step.output_map.items()}
    for name, kind in tensors(ensemble, "output").items():
        # The pooled vector's rank is one less than the states'.
        assert known[name] == kind


def test_both_ensembles_have_the_same_tensors_and_limit() -> None:
    one, other = (config(ensemble) for ensemble in ENSEMBLES)
    assert (one.input, one.output, one.max_batch_size) == (other.input, other.output, other.max_batch_size)


def test_optional_input_is_optional_in_step_and_ensemble() -> None:
    for model in (*ENSEMBLES, "tokenizer"):
        optional = {tensor.name: tensor.optional for tensor in config(model).input}
        assert optional == {"TEXT": False, "MAX_LENGTH": True, "TRUNCATE_LEFT": True}


def test_steps_are_self_contained() -> None:
    # A repository in object storage is fetched model by model.
    for source in Path(REPOSITORY).glob("*/1/*.py"):
        assert "model_repository" not in source.read_text()
