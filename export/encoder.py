"""Loads an encoder: its torch module, its tokenizer, and the facts that the manifest records.

Every graph has the same three inputs, `input_ids`, `attention_mask`, `token_type_ids`: (batch, sequence) int64, and one
output, `last_hidden_state`: (batch, sequence, hidden) float32. `HiddenStates` is that function in torch: what an
exporter traces and what the verification compares with.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import tokenizers
import torch
import transformers
from tokenizers.normalizers import Lowercase, Sequence

from export import sentence_transformers_files, sources
from export.errors import ModelNotFound, UnsupportedArchitecture
from export.sources import Source

__all__ = ["INPUT_NAMES", "OUTPUT_NAME", "POOLED_NAME", "Encoder", "Facts", "HiddenStates", "from_source", "load"]

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT_NAME = "last_hidden_state"
POOLED_NAME = "sentence_embedding"  # see pooled.py


@dataclass(frozen=True)
class Facts:
    """What is recorded of a model; the fields are explained in manifest.py."""

    model: str
    revision: str | None
    license: str | None
    architecture: str
    pooling: str
    normalize: bool
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    hidden_size: int
    max_positions: int
    max_sequence_length: int
    vocab_size: int
    token_types: int  # how many different token_type_ids the model tells apart; 1 if it ignores them
    pad_token_id: int


@dataclass(frozen=True)
class Encoder:
    """A loaded model, ready to be exported."""

    model: transformers.PreTrainedModel  # in eval mode, float32
    tokenizer: tokenizers.Tokenizer  # neither truncates nor pads: that is the serving step's decision
    reference_tokenizer: transformers.PreTrainedTokenizerBase
    lower_case: bool  # sentence-transformers lower-cases before it tokenizes; `tokenizer` does so itself
    facts: Facts


class HiddenStates(torch.nn.Module):
    """The three inputs of every graph to its one output, whatever the encoder's own signature is."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self.takes_token_types = "token_type_ids" in inspect.signature(model.forward).parameters

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """(batch, sequence) int64, three times -> (batch, sequence, hidden) float32."""
        extra = {"token_type_ids": token_type_ids} if self.takes_token_types else {}
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, **extra)
        return cast(torch.Tensor, output.last_hidden_state)


def load(model: str, revision: str | None = None) -> Encoder:
    """From a folder, the packaged default, or the hub. Raises ModelNotFound or Unsupported."""
    return from_source(sources.find(model, revision))


def from_source(source: Source) -> Encoder:
    """From a folder whose origin is known. Raises ModelNotFound or Unsupported."""
    pipeline = sentence_transformers_files.read(source.folder)
    folder = str(pipeline.transformer)
    if not (pipeline.transformer / "config.json").is_file():
        raise ModelNotFound(f"{folder} is not a model: it has no config.json")
    try:
        # trust_remote_code is named to be refused: left out, transformers asks on the terminal.
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if config.is_encoder_decoder or getattr(config, "is_decoder", False):
            raise UnsupportedArchitecture(f"{source.model}: wanted an encoder, got {config.model_type}, which decodes")
        # Eager attention: plain matrix products and a softmax, which ONNX Runtime knows best, and which stays finite
        # where scaled_dot_product_attention gives NaN, on a row without any token.
        model, info = transformers.AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
            trust_remote_code=False,
        )
        reference = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise UnsupportedArchitecture(f"transformers cannot load {source.model}: {error}") from error
    model.eval()
    # transformers fills what the files lack with random numbers. The pooler is not part of any embedding.
    lacking = sorted(name for name in info["missing_keys"] if not name.startswith("pooler"))
    if lacking:
        raise UnsupportedArchitecture(f"{source.model}: {len(lacking)} weights are missing: {', '.join(lacking[:3])} …")
    tokenizer = _tokenizer(source.model, reference, pipeline.lower_case)
    words = model.get_input_embeddings().num_embeddings
    if tokenizer.get_vocab_size() > words:
        raise UnsupportedArchitecture(
            f"{source.model}: the tokenizer has {tokenizer.get_vocab_size()} tokens, the model only {words}"
        )
    _require_bidirectional(source.model, model)
    positions = max_positions(model)
    limits = (positions, pipeline.max_sequence_length, getattr(reference, "model_max_length", None))
    facts = Facts(
        model=source.model,
        revision=source.revision,
        license=source.license,
        architecture=type(model).__name__,
        pooling=pipeline.pooling,
        normalize=pipeline.normalize,
        prompts=dict(pipeline.prompts),
        default_prompt_name=pipeline.default_prompt_name,
        hidden_size=config.hidden_size,
        max_positions=positions,
        # sentence-transformers' own limit wins over the tokenizer's; the positions bound both.
        max_sequence_length=min(positions, limits[1] or limits[2] or positions),
        vocab_size=words,
        token_types=_token_types(model),
        pad_token_id=_pad_token_id(config, reference),
    )
    return Encoder(
        model=model,
        tokenizer=tokenizer,
        reference_tokenizer=reference,
        lower_case=pipeline.lower_case,
        facts=facts,
    )


def max_positions(model: transformers.PreTrainedModel) -> int:
    """The longest sequence the model can take.

    RoBERTa and its family count positions from padding_idx + 1, so they have fewer than the table has rows.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            unusable = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - unusable
    return int(model.config.max_position_embeddings)


def _token_types(model: transformers.PreTrainedModel) -> int:
    if not HiddenStates(model).takes_token_types:
        return 1
    for name, module in model.named_modules():
        if name.endswith("token_type_embeddings") and isinstance(module, torch.nn.Embedding):
            return module.num_embeddings
    return 1


def _pad_token_id(config: Any, reference: transformers.PreTrainedTokenizerBase) -> int:
    # The model's first: RoBERTa recognises padding by this id when it counts positions.
    for value in (getattr(config, "pad_token_id", None), reference.pad_token_id):
        if isinstance(value, int) and value >= 0:
            return value
    return 0


def _tokenizer(name: str, reference: transformers.PreTrainedTokenizerBase, lower_case: bool) -> tokenizers.Tokenizer:
    backend = getattr(reference, "backend_tokenizer", None)
    if not isinstance(backend, tokenizers.Tokenizer):
        raise UnsupportedArchitecture(
            f"{name}: {type(reference).__name__} has no equal in the tokenizers library, so it cannot be served"
        )
    tokenizer = tokenizers.Tokenizer.from_str(backend.to_str())
    # The packaged default comes with truncation at 128 and padding to 128.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if lower_case:  # sentence-transformers does this before it tokenizes
        own = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
        tokenizer.normalizer = Sequence([Lowercase(), *own])
    return tokenizer


def _require_bidirectional(name: str, model: transformers.PreTrainedModel) -> None:
    """Refuses models whose first token does not see the last one, by trying."""
    function = HiddenStates(model)
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9]])
    try:
        with torch.inference_mode():
            states = function(ids, torch.ones_like(ids), torch.zeros_like(ids))
    except (TypeError, AttributeError, ValueError) as error:
        raise UnsupportedArchitecture(
            f"{name}: {type(model).__name__} does not map input_ids and attention_mask to last_hidden_state: {error}"
        ) from error
    if torch.equal(states[0, 0], states[1, 0]):
        raise UnsupportedArchitecture(
            f"{name}: {type(model).__name__} looks at earlier tokens only; wanted a bidirectional encoder"
        )
