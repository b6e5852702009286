"""What a service tells about its model: the manifest that the export wrote, read through Triton."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields

from client.errors import ServerError

__all__ = ["Manifest", "parse"]


@dataclass(frozen=True)
class Manifest:
    """The model behind the service.

    Attributes:
        digest: identifies all files of the model repository, `sha256:<hex>`; it changes when vectors may change.
        normalize: whether the model's own pipeline ends in L2 normalisation. Triton answers raw vectors all the same.
        max_positions: the longest text in tokens that the model can take.
        max_sequence_length: the model's own limit, used when no max_length is given.
        prompts: what the model's authors put before texts of a kind, by its name.
    """

    digest: str
    model: str
    revision: str | None
    license: str | None
    architecture: str
    precision: str
    graph: str
    pooling: str
    normalize: bool
    hidden_size: int
    max_positions: int
    max_sequence_length: int
    prompts: Mapping[str, str] = field(default_factory=dict)


def parse(text: bytes) -> Manifest:
    """Read a manifest; fields that we do not know are left aside.

    Raises:
        ServerError: not a manifest; names what is missing.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ServerError("wanted the manifest as JSON from the tokenizer step, got something else") from error
    if not isinstance(content, dict):
        raise ServerError(f"wanted the manifest as a JSON object, got {type(content).__name__}")
    names = [field.name for field in fields(Manifest)]
    needed = [field.name for field in fields(Manifest) if field.default_factory is MISSING]
    if missing := [name for name in needed if name not in content]:
        raise ServerError(f"wanted a manifest with {', '.join(needed)}, found no {', '.join(missing)}")
    return Manifest(**{name: content[name] for name in names if name in content})
