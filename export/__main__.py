"""`python -m export --model NAME|FOLDER`: writes model.onnx, tokenizer.json and manifest.json, verified.

Exit codes: 0 exported; 1 a check failed or something is missing, and the repository is as it was; 2 a wrong option.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from export.errors import ExportError, VerificationFailed
from export.sources import DEFAULT_MODEL

ENVIRONMENT = {
    # Their progress bars and remarks would cut our lines.
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    # Waiting threads sleep. Spinning, on two cores with other work, the answers of transformers take 10 to 20 s
    # instead of 1.4 s.
    "OMP_WAIT_POLICY": "PASSIVE",
}
REPOSITORY = Path(__file__).resolve().parents[1] / "model_repository"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = _options(arguments)
    started = time.monotonic()

    def progress(step: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - started:6.1f} s] {step}\n")
        sys.stdout.flush()

    progress("importing torch and transformers")
    for variable, value in ENVIRONMENT.items():  # read when torch and transformers are imported
        os.environ.setdefault(variable, value)
    from export import graph_race, job, runtimes
    from export.verify import Check

    checks: list[Check] = []
    try:
        result = job.run(
            job.Job(
                model=options.model,
                repository=options.out,
                revision=options.revision,
                precision=options.precision,
                graph=options.graph,
                # int8 is for CPUs.
                race_on=() if options.precision == "int8" else graph_race.gpu_providers(),
                oldest_runtime=None if options.no_verify_oldest else runtimes.oldest_folder(options.oldest_runtime),
            ),
            progress,
            checks.append,
        )
    except ExportError as error:
        _table(checks)
        kind = "verification failed" if isinstance(error, VerificationFailed) else "not exported"
        sys.stderr.write(f"{kind}: {error}\n{options.out} is as it was.\n")
        return 1
    progress("done")
    _table(checks)
    sys.stdout.write(f"{result.model} is in {options.out}, {result.digest}\n")
    return 0


def _table(checks: Sequence[object]) -> None:
    from export.verify import Check

    rows = [check for check in checks if isinstance(check, Check)]
    if not rows:
        return
    width = max(len(check.rung) for check in rows)
    lines = [f"  {'ok  ' if check.passed else 'FAIL'}  {check.rung:<{width}}  {check.detail}" for check in rows]
    sys.stdout.write("\n".join(["", *lines, "", ""]))
    sys.stdout.flush()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Writes an encoder into the model repository, verified against transformers.",
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="hub name or local folder (default: %(default)s)")
    parser.add_argument("--revision", help="branch, tag or commit of a hub model (default: its main branch)")
    parser.add_argument("--out", type=Path, default=REPOSITORY, help="model repository (default: %(default)s)")
    parser.add_argument(
        "--precision", default="fp32", help="fp32 (default), fp16 for GPUs, int8 for CPUs: see docs/precision.md"
    )
    parser.add_argument(
        "--graph",
        choices=("auto", "packed", "padded"),
        default="auto",
        help="auto (default): packed if the encoder allows it; with a GPU whichever is faster there, measured",
    )
    parser.add_argument("--oldest-runtime", type=Path, help="folder that holds ONNX Runtime 1.19.2")
    parser.add_argument(
        "--no-verify-oldest", action="store_true", help="skip ONNX Runtime 1.19.2; the manifest records that"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
