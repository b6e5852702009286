"""The faults themselves: each is done to a running service, and undone where it does not heal by itself.

Made to be used by tests and by anything else that wants to hurt a service: `with FAULTS["kill bert"](pid): …`.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final

import psutil

from tests.faults.service import STEPS, processes

__all__ = ["FAULTS", "Fault"]

# Given the process id of the supervisor; what is to be undone is undone at the end of the block.
Fault = Callable[[int], AbstractContextManager[None]]


def _signalled(victim: str, number: signal.Signals) -> Fault:
    @contextlib.contextmanager
    def fault(supervisor: int) -> Iterator[None]:
        process = processes(supervisor)[victim]
        process.send_signal(number)
        try:
            yield
        finally:
            # Nobody stays stopped, were it that the service did not heal.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    return fault


_VICTIMS = (*STEPS, "triton", "rest")
FAULTS: Final[dict[str, Fault]] = {
    **{f"kill {victim}": _signalled(victim, signal.SIGKILL) for victim in _VICTIMS},
    **{f"stop {victim}": _signalled(victim, signal.SIGSTOP) for victim in _VICTIMS},
}
