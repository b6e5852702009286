"""Surroundings for a service, as commands that start it in them: a small /dev/shm, a small disk, few descriptors.

What is mounted is seen by the service alone (a mount namespace), so that no other one on the machine is hurt. That
takes root, or a kernel that lets users have namespaces of their own.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

__all__ = ["Cgroup", "few_descriptors", "filled", "kept_full", "small_mount"]

_CGROUPS = Path("/sys/fs/cgroup")


def small_mount(place: Path, megabytes: int, then: str = "true") -> list[str]:
    """A wrapper for `serving`: a file system in memory of so many MB at this place; `then` is run in a shell."""
    mount = f"mount -t tmpfs -o size={megabytes}m tmpfs {place}"
    return [*_unshare(), "bash", "-c", f'{mount} && {then} && exec "$@"', "bash"]


def few_descriptors(count: int) -> list[str]:
    """A wrapper for `serving`: the limit on file descriptors of each process."""
    return ["bash", "-c", f'ulimit -n {count} && exec "$@"', "bash"]


@contextlib.contextmanager
def filled(pid: int, directory: Path) -> Iterator[None]:
    """Not a byte is left on the file system that a process sees at this place."""
    filler = Path(f"/proc/{pid}/root") / directory.relative_to("/") / "filler"
    try:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(1 << 20)):
                pass
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while file.write(bytes(512)):
                pass
        free = os.statvfs(filler.parent)
        assert free.f_bavail * free.f_bsize < 4096
        yield
    finally:
        filler.unlink(missing_ok=True)


@contextlib.contextmanager
def kept_full(pid: int, directory: Path) -> Iterator[None]:
    """The same, and what others give back is taken at once."""
    over = threading.Event()
    filler = Path(f"/proc/{pid}/root") / directory.relative_to("/") / "taker"

    def take() -> None:
        with filler.open("ab", buffering=0) as file:
            while not over.is_set():
                try:
                    file.write(bytes(4096))
                except OSError:
                    time.sleep(0.001)

    taking = threading.Thread(target=take)
    try:
        with filled(pid, directory):
            taking.start()
            yield
    finally:
        over.set()
        taking.join()
        filler.unlink(missing_ok=True)


class Cgroup:
    """A control group of its own for a service's memory, version 1 or 2; `wrapper` starts the service in it."""

    def __init__(self) -> None:
        two = (_CGROUPS / "cgroup.controllers").is_file()
        self._path = (_CGROUPS if two else _CGROUPS / "memory") / f"faults-{uuid.uuid4().hex[:8]}"
        self._limit = "memory.max" if two else "memory.limit_in_bytes"
        self._usage = "memory.current" if two else "memory.usage_in_bytes"

    def __enter__(self) -> Cgroup:
        try:
            self._path.mkdir()
            (self._path / self._limit).write_text("-1" if self._limit != "memory.max" else "max")
        except OSError as error:
            _cannot(f"a control group with a memory limit cannot be made here: {error}")
        return self

    def __exit__(self, *_: object) -> None:
        self._path.rmdir()

    @property
    def wrapper(self) -> list[str]:
        return ["bash", "-c", f'echo $$ >{self._path}/cgroup.procs && exec "$@"', "bash"]

    def leave(self, more: int) -> None:
        """Leave so many bytes beyond what is in use, page cache aside."""
        usage = int((self._path / self._usage).read_text())
        stat = dict(line.split() for line in (self._path / "memory.stat").read_text().splitlines())
        cache = int(stat.get("total_inactive_file", stat.get("inactive_file", 0))) + int(
            stat.get("total_active_file", stat.get("active_file", 0))
        )
        (self._path / self._limit).write_text(str(usage - cache + more))


def _unshare() -> Sequence[str]:
    for flags in (["-m"], ["-r", "-m"]):
        command = ["unshare", *flags]
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    _cannot("no mount namespace can be made here")
    return []


def _cannot(reason: str) -> None:
    if os.getuid() == 0:
        pytest.fail(f"{reason}, though we are root")
    pytest.skip(f"{reason}; run the tests as root")
