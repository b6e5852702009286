"""kustomize, the one that is part of kubectl: from the folders below k8s/ to what would be applied."""

from __future__ import annotations

from pathlib import Path

from deploy.tools import run

__all__ = ["RENDERED", "render"]

# What can be applied by itself.
RENDERED = ("overlays/minimal", "overlays/cpu", "overlays/gpu", "overlays/customized", "bulk", "logging")


def render(root: Path, name: str) -> str:
    """The manifests of k8s/NAME, as `kubectl apply -k` would send them.

    Raises:
        ValueError: kustomize refuses.
    """
    done = run("kubectl", ["kustomize", str(root / "k8s" / name)], root)
    if done.returncode or done.stderr:  # its warnings are of what will be refused one day
        raise ValueError(done.stderr.strip())
    return done.stdout
