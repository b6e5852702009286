"""Where the two run: the load generator has a processor of its own, and the service all others.

It stands for clients on other machines. On shared processors it takes from the service what it needs, and more than
that: ONNX Runtime's threads wait for each other at each operator, so whoever takes one of them holds up all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass

__all__ = ["Placement", "on", "placement"]


@dataclass(frozen=True)
class Placement:
    """Processors, by number."""

    service: frozenset[int]
    generator: frozenset[int]

    @property
    def shared(self) -> bool:
        """Whether they have any in common."""
        return bool(self.service & self.generator)


def placement(processors: Collection[int], share: bool) -> Placement:
    """The last of them for the generator; all for both if they are to share them, or if there is but one.

    A container's CPU quota below their number is not divided: both take from it. Hyper-threads are not told apart: the
    generator's processor may be half of a core whose other half is the service's.
    """
    last = frozenset([max(processors)])
    rest = frozenset(processors) - last
    return Placement(rest | last, rest | last) if share or not rest else Placement(rest, last)


@contextlib.contextmanager
def on(processors: frozenset[int]) -> Iterator[None]:
    """For the time of the block this thread runs there, and what it starts stays there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
