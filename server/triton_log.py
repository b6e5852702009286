"""Which lines of Triton's log are passed on.

A line is `2026-01-31T12:00:00Z W 4711 file.cc:12] "words"`, its second field the level, or no log line at all, such as
the traceback of a step that ended.
"""

from __future__ import annotations

from collections.abc import Callable

from server.triton import has_gpu

__all__ = ["line_filter"]

# What Triton's build with CUDA says on every machine without a GPU, where nothing is wrong.
_NO_GPU_NOISE = ("CudaDriverHelper", "pinned_memory_manager", "unable to create stream")
# How the tokenizer begins its line for each request (model_repository/tokenizer/1/model.py).
_CALL = '] "call: '


def line_filter(passed_on: str) -> Callable[[str], bool]:
    """The filter for `warnings`, `calls` or `all`."""
    noise = () if has_gpu() else _NO_GPU_NOISE
    if passed_on == "all":
        return lambda line: bool(line.strip())
    if passed_on == "calls":
        return lambda line: _CALL in line or _is_warning(line, noise)
    return lambda line: _is_warning(line, noise)


def _is_warning(line: str, noise: tuple[str, ...]) -> bool:
    """Whether a line is a warning or worse, or no log line at all."""
    if any(each in line for each in noise):
        return False
    fields = line.split(" ", 2)
    return not (len(fields) > 1 and fields[1] in {"I", "V"}) and not line.startswith(("+", "|")) and bool(line.strip())
