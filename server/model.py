"""Makes sure that the model repository holds a whole export, of the wanted model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from export.errors import ManifestInvalid
from export.manifest import Manifest, check
from server.errors import ModelError
from server.settings import ROOT, Settings

__all__ = ["ensure_exported"]


def ensure_exported(settings: Settings) -> Manifest:
    """Export unless the repository already holds the wanted model, whole.

    Without `settings.model` whatever is there is served; an empty repository gets the default model.

    Raises:
        ModelError: the export failed, or what is there is damaged.
    """
    manifest_path = settings.model_repository / "bert" / "1" / "manifest.json"
    if manifest_path.is_file():
        manifest = _check(settings.model_repository)
        if settings.model is None or _is_export_of(manifest, manifest_path, settings.model, settings.revision):
            return manifest
    _export(settings)
    return _check(settings.model_repository)


def _check(model_repository: Path) -> Manifest:
    try:
        return check(model_repository)
    except ManifestInvalid as error:
        raise ModelError(str(error)) from error


def _is_export_of(manifest: Manifest, manifest_path: Path, model: str, revision: str | None) -> bool:
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return manifest.model == model and revision in (None, manifest.revision)
    # A folder has no revision: what was changed after the export is exported anew.
    changed = max(path.stat().st_mtime for path in [folder, *folder.rglob("*")])
    return manifest.model == folder.resolve().name and changed <= manifest_path.stat().st_mtime


def _export(settings: Settings) -> None:
    # A process of its own: torch and transformers stay out of the server's memory.
    command = [sys.executable, "-m", "export", "--out", str(settings.model_repository)]
    if settings.model:
        command += ["--model", settings.model]
    if settings.revision:
        command += ["--revision", settings.revision]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code != 0:
        raise ModelError(
            f"the export of {settings.model or 'the default model'} failed with exit code {code}, see above"
        )
