"""What can go wrong in a benchmark.

BenchmarkError     no figure can be had; the message says why
├── WrongAnswer    a server answered, but not with the vectors that were asked for
└── WindowTooShort perf_analyzer saw no request begin and end within a window
"""

from __future__ import annotations

__all__ = ["BenchmarkError", "WindowTooShort", "WrongAnswer"]


class BenchmarkError(Exception):
    """No figure can be had."""


class WrongAnswer(BenchmarkError):
    """A server answered something else than the vectors asked for."""


class WindowTooShort(BenchmarkError):
    """perf_analyzer saw no request begin and end within a window."""
