"""The processes of a running service, by what they do. Only its own: other services on the machine are left alone."""

from __future__ import annotations

from pathlib import Path

import psutil

__all__ = ["STEPS", "processes"]

STEPS = ("tokenizer", "bert", "pooling")


def processes(supervisor: int) -> dict[str, psutil.Process]:
    """The live ones: triton, rest, and each step by its model's name."""
    found = {}
    for process in psutil.Process(supervisor).children(recursive=True):
        try:
            command = process.cmdline()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if not command:
            continue
        if command[0].endswith("tritonserver"):
            found["triton"] = process
        elif "client.rest" in command:
            found["rest"] = process
        elif command[0].endswith("triton_python_backend_stub"):
            # Its first argument is the model's file: …/bert/1/model.onnx. A moment after its birth it has none yet.
            parts = Path(command[1]).parts if len(command) > 1 else ()
            if len(parts) >= 3:
                found[parts[-3]] = process
    return found
