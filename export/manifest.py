"""manifest.json: which model this repository holds, and the proof that its files belong together.

The export writes the same file into `tokenizer/1`, `bert/1` and `pooling/1`, because each step's version directory
must be complete by itself. The server calls `check` at start, so this module needs the standard library only.

`digest` is sha256 over the canonical JSON of everything that decides what a text's vector is: all fields but
`digest` itself, `parity` and `graph_texts_per_s` (measured, so they differ between machines) and `versions` (of tools).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.errors import ManifestInvalid, ManifestOutdated

__all__ = ["FORMAT", "STEPS", "Manifest", "check", "read", "sha256", "with_digest", "write"]

# 2: the graph has sentence_embedding, too, and refuses rows without a token.
FORMAT = 2
STEPS = ("tokenizer", "bert", "pooling")
NOT_IN_DIGEST = ("digest", "graph_texts_per_s", "parity", "versions")


@dataclass(frozen=True)
class Manifest:
    """Sizes are in tokens or components; `files` maps a path in the repository to its sha256 in hex."""

    model: str  # hub name, or the name of the local folder
    revision: str | None  # hub commit, "package==version", or the digest of a local folder's files
    license: str | None
    architecture: str  # class name in transformers
    precision: str
    graph: str  # "padded" or "packed"
    graph_reason: str
    pooling: str  # "mean", "cls" or "max"
    normalize: bool  # the model's own pipeline ends in L2 normalisation
    hidden_size: int
    max_positions: int  # the longest sequence the model can take
    max_sequence_length: int  # where the model's authors truncate, at most max_positions
    vocab_size: int  # rows of the word embedding
    pad_token_id: int
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    opset: int
    ir_version: int
    files: Mapping[str, str]
    # What `--graph auto` measured on a GPU, by graph; nothing where it did not.
    graph_texts_per_s: Mapping[str, float] = field(default_factory=dict)
    # Worst difference of a vector to transformers, by version of ONNX Runtime; None where that was left out.
    parity: Mapping[str, float | None] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT
    digest: str = ""

    def to_json(self) -> str:
        """What is written: the same text for the same manifest."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def sha256(path: Path) -> str:
    """In hex, of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def with_digest(manifest: Manifest) -> Manifest:
    """The same manifest with its digest filled in."""
    return dataclasses.replace(manifest, digest=_digest(manifest))


def write(manifest: Manifest, repository: Path) -> list[Path]:
    """Writes every step's copy; returns their paths inside the repository."""
    paths = [Path(step) / "1" / "manifest.json" for step in STEPS]
    for path in paths:
        target = repository / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(manifest.to_json(), encoding="utf-8")
    return paths


def read(path: Path) -> Manifest:
    """Reads one copy and checks its own digest, not the files it names."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ManifestInvalid(f"{path} does not exist; write it with `python -m export`") from error
    try:
        content = json.loads(text)
        if isinstance(content, dict) and content.get("format") in range(1, FORMAT):
            model = str(content.get("model"))
            raise ManifestOutdated(
                f"{path} is of an earlier version of this exporter; export {model} again: "
                f"python -m export --model {model}",
                model,
            )
        manifest = _parse(content)
    except (ValueError, TypeError) as error:
        raise ManifestInvalid(f"{path} is not a manifest: {error}") from error
    expected = _digest(manifest)
    if manifest.digest != expected:
        raise ManifestInvalid(f"{path} was changed: its digest should be {expected}, it says {manifest.digest}")
    return manifest


def check(repository: Path) -> Manifest:
    """Reads the manifest of a whole repository and proves that its files are the exported ones.

    Raises ManifestInvalid with every finding: copies that differ, files that are missing or have another sha256.
    """
    copies = {step: repository / step / "1" / "manifest.json" for step in STEPS}
    manifests = {step: read(path) for step, path in copies.items()}
    manifest = manifests[STEPS[0]]
    findings = [
        f"{copies[step]} has digest {other.digest}, {copies[STEPS[0]]} has {manifest.digest}"
        for step, other in manifests.items()
        if other != manifest
    ]
    for name, expected in manifest.files.items():
        path = repository / name
        if not path.is_file():
            findings.append(f"{path} is missing")
        elif (found := sha256(path)) != expected:
            findings.append(f"{path} has sha256 {found}, the manifest says {expected}")
    if findings:
        raise ManifestInvalid("\n".join([f"{repository} is not one export; run `python -m export` again", *findings]))
    return manifest


def _digest(manifest: Manifest) -> str:
    content = {key: value for key, value in dataclasses.asdict(manifest).items() if key not in NOT_IN_DIGEST}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def _parse(content: Any) -> Manifest:
    if not isinstance(content, dict):
        raise ValueError(f"wanted a JSON object, got {type(content).__name__}")
    if content.get("format") != FORMAT:
        raise ValueError(f"wanted format {FORMAT}, got {content.get('format')!r}")
    known = {field.name for field in dataclasses.fields(Manifest)}
    missing = known - set(content) - {"graph_texts_per_s"}  # which came within format 2
    if missing or set(content) - known:
        raise ValueError(f"missing fields {sorted(missing)}, unknown {sorted(set(content) - known)}")
    return Manifest(**content)
