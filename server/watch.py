"""Asks Triton or the shim whether it still works, and tells when it certainly does not.

all the time:   an embedding through the ensemble, or a ping                -> answered: all is well
if that waits:  each part by itself, and looks at its processes (see hang)  -> the part that hangs

An answer is a sign of life, whatever it says; but it may tell of a death.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil

from server.hang import HangLimits, Look, Patience

__all__ = ["Part", "certain_death", "first_of"]

Result = TypeVar("Result")

# Between an answer and the next question.
_PAUSE_S = 1.0
# An answer that takes longer is worth a closer look.
_PROMPT_S = 1.0

# Threads in these states run or want to (proc(5)): running or runnable, and waiting for a disk.
_AT_WORK = {"R", "D"}


async def _uncounted() -> int:
    return 0


@dataclass(frozen=True)
class Part:
    """Something that can hang.

    Attributes:
        name: as messages call it.
        ask: a question that it answers at once if it is idle; raises nothing.
        processes: that it runs in.
        finished: how many requests it has answered well, where it counts them.
    """

    name: str
    ask: Callable[[], Awaitable[object]]
    processes: Sequence[psutil.Process]
    finished: Callable[[], Awaitable[int]] = _uncounted


async def certain_death(whole: Callable[[], Awaitable[str | None]], parts: Sequence[Part], limits: HangLimits) -> str:
    """Watch until it is certainly dead; says why.

    Args:
        whole: a question that goes through all parts, asked again and again; gives a death that the answer tells of.
            Raises nothing.
        parts: asked only if that has no prompt answer.
        limits: see there.
    """
    while True:
        question = asyncio.ensure_future(whole())
        try:
            await asyncio.wait({question}, timeout=_PROMPT_S)
            if not question.done() and (name := await _hanging(question, parts, limits)) is not None:
                return f"{name} hangs"
            if (death := await question) is not None:
                return death
        finally:
            question.cancel()
        await asyncio.sleep(_PAUSE_S)


async def first_of(work: Sequence[Coroutine[Any, Any, Result]]) -> Result:
    """What the first to end gives or raises; of several the first in order. The others are cancelled."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task.done()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _hanging(question: asyncio.Future[str | None], parts: Sequence[Part], limits: HangLimits) -> str | None:
    """Look at each part until the question is answered (None) or a part hangs (its name)."""
    async with contextlib.AsyncExitStack() as stack:
        followed = [(part, await stack.enter_async_context(_Asked(part)), Patience(limits)) for part in parts]
        while True:
            # Side by side: a Triton that hangs keeps the looks at its steps waiting, too.
            looking = asyncio.gather(*(_look(part) for part, _, _ in followed))
            looks, _ = await asyncio.gather(looking, asyncio.sleep(limits.look_s))
            if question.done():
                return None
            for place, ((part, asked, patience), look) in enumerate(zip(followed, looks, strict=True)):
                if asked.answered():
                    followed[place] = (part, asked, Patience(limits))
                elif patience.hangs(look):
                    return part.name


class _Asked:
    """A question to a part, asked again when it was answered; taken back in the end."""

    def __init__(self, part: Part) -> None:
        self._part = part

    async def __aenter__(self) -> _Asked:
        self._question = asyncio.ensure_future(self._part.ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._question.cancel()

    def answered(self) -> bool:
        """Whether it was answered since the last time; then the next is on its way."""
        if not self._question.done():
            return False
        self._question = asyncio.ensure_future(self._part.ask())
        return True


async def _look(part: Part) -> Look:
    cpu_s, runnable = 0.0, False
    for process in part.processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            cpu_s += times.user + times.system
            runnable = runnable or bool(_AT_WORK & set(_thread_states(process.pid)))
    return Look(time.monotonic(), await part.finished(), cpu_s, runnable)


def _thread_states(pid: int) -> list[str]:
    """The state of each thread, as a letter of proc(5)."""
    states = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/stat", "rb") as file:
                # "pid (name) state …"; the name may hold anything.
                states.append(file.read().rpartition(b") ")[2][:1].decode())
    return states
