"""What can go wrong in an export, as one tree.

ExportError
 ├─ ModelNotFound          no such folder, package or hub model, or the hub cannot be reached
 ├─ Unsupported            the model or the option is understood, and not offered
 │   ├─ UnsupportedArchitecture
 │   ├─ UnsupportedPooling
 │   ├─ UnsupportedPrecision
 │   └─ UnsupportedGraph
 ├─ GraphNotWritten        the ONNX exporter failed
 ├─ RuntimeMissing         an ONNX Runtime to verify with is not installed
 ├─ RuntimeCrashed         an ONNX Runtime died or hung while it ran the graph
 ├─ VerificationFailed     a rung of the ladder in verify.py; `findings` holds one line per finding
 │   ├─ TokensDiffer
 │   ├─ GraphUnreadable
 │   ├─ NamesDiffer
 │   ├─ AxesFrozen
 │   ├─ DtypesDiffer
 │   ├─ ShapesDiffer
 │   ├─ ValuesDiffer
 │   └─ HostileInput
 └─ ManifestInvalid        manifest.json is missing, unreadable, or does not fit the files beside it
     └─ ManifestOutdated   it was written by an earlier version of this exporter, whose graphs lack something
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "AxesFrozen",
    "DtypesDiffer",
    "ExportError",
    "GraphNotWritten",
    "GraphUnreadable",
    "HostileInput",
    "ManifestInvalid",
    "ManifestOutdated",
    "ModelNotFound",
    "NamesDiffer",
    "RuntimeCrashed",
    "RuntimeMissing",
    "ShapesDiffer",
    "TokensDiffer",
    "Unsupported",
    "UnsupportedArchitecture",
    "UnsupportedGraph",
    "UnsupportedPooling",
    "UnsupportedPrecision",
    "ValuesDiffer",
    "VerificationFailed",
]


class ExportError(Exception):
    """Base of everything this package raises on purpose."""


class ModelNotFound(ExportError):
    """No such folder, package or hub model, or the hub cannot be reached."""


class Unsupported(ExportError):
    """Understood, and not offered."""


class UnsupportedArchitecture(Unsupported):
    """Not a bidirectional text encoder with a tokenizer that `tokenizers` can run."""


class UnsupportedPooling(Unsupported):
    """The model's sentence-transformers pipeline does more than mean, cls or max pooling and normalisation."""


class UnsupportedPrecision(Unsupported):
    """A precision that is not offered."""


class UnsupportedGraph(Unsupported):
    """A kind of graph that this model, or this version, does not offer."""


class GraphNotWritten(ExportError):
    """The ONNX exporter failed."""


class RuntimeMissing(ExportError):
    """An ONNX Runtime that the graph must be verified with is not installed."""


class RuntimeCrashed(ExportError):
    """An ONNX Runtime died, or did not come back, while it ran the graph."""


class VerificationFailed(ExportError):
    """A rung of the ladder failed. All findings of that rung are reported together."""

    rung = "verification"

    def __init__(self, findings: Sequence[str]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join([f"{self.rung}: {len(self.findings)} finding(s)", *self.findings]))


class TokensDiffer(VerificationFailed):
    """The written tokenizer.json does not tokenize as transformers does."""

    rung = "tokens"


class GraphUnreadable(VerificationFailed):
    """Not an ONNX file, or one that the oldest ONNX Runtime cannot read."""

    rung = "readable"


class NamesDiffer(VerificationFailed):
    """An input or output is missing, unexpected, or has another name."""

    rung = "names"


class AxesFrozen(VerificationFailed):
    """The batch or the sequence axis has a fixed size."""

    rung = "dynamic axes"


class DtypesDiffer(VerificationFailed):
    """An input or output has another element type."""

    rung = "dtypes"


class ShapesDiffer(VerificationFailed):
    """A run failed, or gave another shape than (batch, sequence, hidden)."""

    rung = "shapes"


class ValuesDiffer(VerificationFailed):
    """The numbers differ from transformers, or a row depends on its neighbours."""

    rung = "values"


class HostileInput(VerificationFailed):
    """An input without a right answer gave NaN or infinity instead of finite numbers or an error."""

    rung = "hostile input"


class ManifestInvalid(ExportError):
    """manifest.json is missing, unreadable, or does not fit the files beside it."""


class ManifestOutdated(ManifestInvalid):
    """The export is of an earlier version; `model` is what it is of."""

    def __init__(self, message: str, model: str) -> None:
        super().__init__(message)
        self.model = model
