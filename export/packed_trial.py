"""Finds out by trying, in torch, whether an encoder can be packed and how it numbers its positions.

A small batch goes through the encoder twice: padded, as usual, and packed, with attention between tokens of the same
row only. If both agree, packing loses nothing. Whatever else an encoder may do across tokens (convolutions, relative
positions, local windows, a mask of its own) either shows as a difference or reaches attention as an argument.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from export.encoder import HiddenStates, max_positions
from export.packed_trace import Attention, PackedStates, attention_replaced, scale

__all__ = ["Calls", "NotPackable", "Plan", "Positions", "plan"]

# Arguments of the attention interface that do not change what attention computes.
HARMLESS = frozenset({"dropout", "position_ids", "deterministic", "use_cache", "output_attentions", "is_causal"})

LENGTHS = (96, 17, 5, 1)  # rows of the trial batch, cut to what the encoder can take
TOLERANCE = 1e-4  # packed against padded differ by 1e-6; a wrong position by 1e-2


class NotPackable(Exception):
    """The encoder does something that would be lost on packed tokens. Says what."""


@dataclass(frozen=True)
class Positions:
    """How an encoder numbers its positions.

    padding_id None: by column. Otherwise RoBERTa's rule: counts ids other than padding_id, from padding_id + 1 on.
    """

    padding_id: int | None

    def of(self, input_ids: torch.Tensor) -> torch.Tensor:
        """input_ids: (batch, sequence) int64 -> position_ids, likewise."""
        if self.padding_id is None:
            return torch.arange(input_ids.shape[1]).expand_as(input_ids)
        real = (input_ids != self.padding_id).long()
        return real.cumsum(dim=1) * real + self.padding_id


@dataclass
class Calls:
    """What one run of the encoder consists of: packed_fused.py expects as much of the graph."""

    attentions: int = 0
    direct: int = 0  # attentions whose query, key and value come straight from a linear layer each
    linears: int = 0  # with bias
    layer_norms: int = 0
    gelus: int = 0  # the exact form, with erf


@dataclass(frozen=True)
class Plan:
    """How to pack an encoder."""

    positions: Positions
    calls: Calls


def plan(model: transformers.PreTrainedModel) -> Plan:
    """Tries both rules of numbering positions. Raises NotPackable if neither gives the encoder's own vectors."""
    name = type(model).__name__
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise NotPackable(f"{name} takes no position_ids")
    try:
        ids, mask, types = _trial_batch(model)
        with torch.inference_mode():
            expected = HiddenStates(model)(ids, mask, types)[mask != 0]  # (tokens, hidden)
            for positions in (Positions(None), Positions(_padding_id(model))):
                states, calls = _run_packed(model, positions, ids, mask, types)
                if not calls.attentions:
                    raise NotPackable(f"{name} does not use transformers' attention interface")
                error = float((states - expected).abs().max())
                if error <= TOLERANCE * max(1.0, float(expected.abs().max())):
                    return Plan(positions, calls)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, RuntimeError) as failure:
        raise NotPackable(f"{name} does not run on packed tokens: {failure}") from failure
    raise NotPackable(f"{name} computes other vectors on packed tokens (off by {error:.1e})")


def _run_packed(
    model: transformers.PreTrainedModel,
    positions: Positions,
    ids: torch.Tensor,
    mask: torch.Tensor,
    types: torch.Tensor,
) -> tuple[torch.Tensor, Calls]:
    """(batch, sequence) int64, three times -> (tokens, hidden)."""
    real = mask != 0
    calls = Calls()
    linear_outputs: list[int] = []  # addresses
    attention = _attention(real.nonzero()[:, 0], calls, linear_outputs)
    hooks = [module.register_forward_hook(_counter(calls, linear_outputs)) for module in _counted(model)]
    try:
        with attention_replaced(model, attention):
            states = PackedStates(model)(ids[real][None], positions.of(ids)[real][None], types[real][None])
    finally:
        for hook in hooks:
            hook.remove()
    return states[0], calls


def _attention(rows: torch.Tensor, calls: Calls, linear_outputs: Sequence[int]) -> Attention:
    """Attention in which tokens of one row see each other only. rows: (tokens,) int64, the row of each token."""
    apart = rows[:, None] != rows[None, :]  # (tokens, tokens)

    def attend(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        strange = sorted(name for name, given in kwargs.items() if name not in HARMLESS and given is not None)
        if attention_mask is not None:
            strange.append("a mask of its own")
        if key.shape != query.shape:
            strange.append("fewer keys than queries")
        if strange:
            raise NotPackable(f"{type(module).__name__} attends with {', '.join(strange)}")
        calls.attentions += 1
        calls.direct += len({query.data_ptr(), key.data_ptr(), value.data_ptr()} & set(linear_outputs[-3:])) == 3
        scores = query @ key.transpose(2, 3) * scale(query, scaling)  # (1, heads, tokens, tokens)
        attended = scores.masked_fill(apart, -torch.inf).softmax(dim=-1) @ value  # (1, heads, tokens, size)
        return attended.transpose(1, 2), None

    return attend


def _counted(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Modules that the hidden states pass: the pooler is not exported."""
    kinds = (torch.nn.Linear, torch.nn.LayerNorm, torch.nn.GELU, transformers.activations.GELUActivation)
    return [module for name, module in model.named_modules() if isinstance(module, kinds) and "pooler" not in name]


def _counter(calls: Calls, linear_outputs: list[int]) -> Callable[..., None]:
    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, torch.nn.LayerNorm):
            calls.layer_norms += 1
        elif not isinstance(module, torch.nn.Linear):
            calls.gelus += 1
        elif module.bias is not None:
            calls.linears += 1
            linear_outputs.append(output.data_ptr())

    return count


def _padding_id(model: transformers.PreTrainedModel) -> int:
    """What RoBERTa's rule would count from: the padding row of the position table, else the configured id."""
    for name, module in model.named_modules():
        is_table = name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding)
        if is_table and module.padding_idx is not None:
            return int(module.padding_idx)
    return int(getattr(model.config, "pad_token_id", None) or 0)


def _trial_batch(model: transformers.PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of very different lengths, a hole in a mask, the padding id inside a text, all token types."""
    lengths = [min(length, max_positions(model)) for length in LENGTHS]
    words: Any = model.get_input_embeddings().num_embeddings
    tables = [module for name, module in model.named_modules() if name.endswith("token_type_embeddings")]
    types = min((table.num_embeddings for table in tables if isinstance(table, torch.nn.Embedding)), default=1)
    generator = torch.Generator().manual_seed(0)
    shape = (len(lengths), max(lengths))
    mask = (torch.arange(shape[1]) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(words, shape, generator=generator)
    ids[0, 4 % lengths[0]] = _padding_id(model)
    mask[1, 3 % lengths[1]] = 0
    return ids, mask, torch.randint(types, shape, generator=generator)
