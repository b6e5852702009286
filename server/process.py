"""One supervised child process: in a session of its own, its log kept and passed on, never left behind."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

import psutil

from server.errors import ProcessError

__all__ = ["TRITON_STACK_BYTES", "Process", "adopt_orphans", "ended"]

_KEPT_LINES = 50
# Triton 2.51 parses JSON recursively: a body nested 150,000 deep kills it with the usual 8 MiB stack, and survives
# 4,000,000 with this. Threads reserve it, but only what is used becomes memory.
TRITON_STACK_BYTES = 1 << 30
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_REAP_S = 1.0
# Where memory runs out the kernel kills what we can start anew, and not us. Anybody may raise the score of their own.
_OOM_SCORE = b"500"
# Looked up here and not in the child: between fork and exec only the simplest things are safe.
_prctl = ctypes.CDLL(None, use_errno=True).prctl


class Process:
    """A running child. `name` is how messages call it; `shows` tells which of its log lines are passed on."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, shows: Callable[[str], bool]) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self._shows = shows
        self._log = asyncio.create_task(self._read_log())

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        shows: Callable[[str], bool] = lambda line: True,
        stack_bytes: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Process:
        """Start a command.

        A session of its own keeps the terminal's Ctrl-C away from it: the supervisor alone decides the order of ending.
        `pass_fds` it inherits, by the same numbers.

        Raises:
            ProcessError: the system refuses: out of memory, processes or file descriptors, or no such program.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=dict(environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: _prepare_child(stack_bytes),
                pass_fds=pass_fds,
                limit=1 << 20,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ProcessError(f"cannot start {name}: {error}") from error
        return cls(name, process, shows)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait until it ends by itself."""
        return await self._process.wait()

    def children(self) -> list[psutil.Process]:
        """Its descendants."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, wait, then SIGKILL for it and everything that it started."""
        try:
            if self.exit_code is None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.terminate()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self.wait(), timeout_s)
        finally:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL for it and everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self.wait()
        await _reap_group(self.pid)
        await asyncio.wait({self._log}, timeout=1.0)

    def failure(self, what: str) -> ProcessError:
        """An error that carries the end of the log."""
        code = "" if self.exit_code is None else f" (exit code {self.exit_code})"
        log = "".join(f"\n  {line}" for line in self._lines)
        return ProcessError(f"{self.name} {what}{code}; the end of its log:{log}")

    async def _read_log(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        while raw := await _read_line(stream):
            line = raw.decode(errors="replace").rstrip()
            self._lines.append(line)
            if self._shows(line):
                # Nobody may read our own output any more; the child's must be read on, or it would block.
                with contextlib.suppress(OSError):
                    sys.stderr.write(f"{line}\n")
                    sys.stderr.flush()


async def ended(pid: int) -> None:
    """Wait until a process has ended, be it a child of ours or not, collected or not."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def adopt_orphans() -> None:
    """Make this process the parent of what its children leave behind, so that it can collect the dead.

    Without it that is up to process 1, which in many containers collects nobody. See prctl(2), PR_SET_CHILD_SUBREAPER.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


async def _reap_group(group: int) -> None:
    """Collect the dead of a process group whose leader has ended, as far as they are ours."""
    for _ in range(int(_REAP_S / 0.01)):
        try:
            pid, _ = os.waitpid(-group, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:  # killed, but not gone yet
            await asyncio.sleep(0.01)


async def _read_line(stream: asyncio.StreamReader) -> bytes:
    """A line; an overlong one in parts, so that no log line can stop the reader."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as end:
        return end.partial
    except asyncio.LimitOverrunError as overlong:
        return await stream.readexactly(overlong.consumed)


def _prepare_child(stack_bytes: int | None) -> None:
    """Between fork and exec: an end together with the supervisor, however that one dies, the first to go where memory
    runs out, and maybe a deeper stack."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    with contextlib.suppress(OSError):
        descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(descriptor, _OOM_SCORE)
        os.close(descriptor)
    if stack_bytes is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_STACK)
        stack = stack_bytes if hard == resource.RLIM_INFINITY else min(hard, stack_bytes)
        resource.setrlimit(resource.RLIMIT_STACK, (stack, hard))
