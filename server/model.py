"""Makes sure that the model repository holds a whole export, of the wanted model."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from export.errors import ManifestInvalid, ManifestOutdated
from export.manifest import Manifest, check
from export.sources import DEFAULT_MODEL, folder_digest
from server.errors import ModelError
from server.process import Process
from server.settings import ROOT, Settings

__all__ = ["ensure_exported"]


async def ensure_exported(settings: Settings) -> Manifest:
    """Export unless the repository already holds the wanted model, whole.

    Without `settings.model` whatever is there is served; an empty repository gets the default model.

    Raises:
        ModelError: the export failed, or what is there is damaged.
    """
    repository = settings.model_repository
    if (repository / "bert" / "1" / "manifest.json").is_file():
        try:
            manifest = check(repository)
        except ManifestInvalid as error:
            # A named model replaces what is there, damaged or not; the default one is made anew where it is outdated.
            outdated_default = isinstance(error, ManifestOutdated) and error.model == DEFAULT_MODEL
            if settings.model is None and not outdated_default:
                raise ModelError(str(error)) from error
        else:
            if settings.model is None or _is_export_of(manifest, settings.model, settings.revision):
                return manifest
    await _export(settings)
    return check(repository)


def _is_export_of(manifest: Manifest, model: str, revision: str | None) -> bool:
    if (folder := Path(model)).is_dir():
        # A folder has neither a name of its own nor a revision: its content tells.
        return manifest.revision == folder_digest(folder)
    return manifest.model == model and revision in (None, manifest.revision)


async def _export(settings: Settings) -> None:
    # A process of its own: torch and transformers stay out of the server's memory.
    command = [sys.executable, "-m", "export", "--out", str(settings.model_repository)]
    if settings.model:
        command += ["--model", settings.model]
    if settings.revision:
        command += ["--revision", settings.revision]
    process = await Process.start("the export", command, {**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        code = await process.wait()
    finally:
        await process.kill()  # it is still there when we are asked to stop
    if code != 0:
        raise ModelError(
            f"the export of {settings.model or 'the default model'} failed with exit code {code}, see above"
        )
