"""How many processors this process may really use: the one source of every thread count.

Thread pools that follow the host's processor count instead are several times slower in a container whose CPU limit
is lower, as the kernel throttles them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["available_processors"]

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def available_processors(cgroup_root: Path = _CGROUP_ROOT, own_cgroups: Path = _OWN_CGROUPS) -> int:
    """The lesser of the CPU affinity and the cgroup's quota, rounded up, at least 1."""
    affinity = len(os.sched_getaffinity(0))
    quota = _cgroup_quota(cgroup_root, own_cgroups)
    return max(1, min(affinity, math.ceil(quota))) if quota is not None else affinity


def _cgroup_quota(root: Path, own_cgroups: Path) -> float | None:
    """Processors' worth of time per period: the tightest limit of this cgroup and those above; None for no limit."""
    try:
        lines = own_cgroups.read_text().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # cgroup v2: one hierarchy
            quotas += _walk(root, path, _quota_v2)
        elif "cpu" in controllers.split(","):
            quotas += _walk(root / "cpu", path, _quota_v1)
    return min(quotas, default=None)


def _walk(root: Path, path: str, read: Callable[[Path], float | None]) -> list[float]:
    # In a container the path of the host may not exist below the mounted root: then the root is the container's own.
    directory = root / path.lstrip("/")
    quotas = []
    while True:
        quota = read(directory)
        if quota is not None:
            quotas.append(quota)
        if directory == root:
            return quotas
        directory = directory.parent


def _quota_v2(directory: Path) -> float | None:
    """cpu.max holds "<quota or max> <period>" in microseconds (kernel: admin-guide/cgroup-v2)."""
    try:
        quota, period = (directory / "cpu.max").read_text().split()
    except OSError:
        return None
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(directory: Path) -> float | None:
    try:
        quota = int((directory / "cpu.cfs_quota_us").read_text())
        period = int((directory / "cpu.cfs_period_us").read_text())
    except OSError:
        return None
    return None if quota <= 0 else quota / period
