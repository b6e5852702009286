"""The processor budget, on cgroup files as the kernel writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from server.processors import available_processors

AFFINITY = len(os.sched_getaffinity(0))


def cgroup(tmp_path: Path, own: str, files: dict[str, str]) -> int:
    root = tmp_path / "cgroup"
    for name, content in {"": None, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(exist_ok=True) if content is None else path.write_text(content)
    (tmp_path / "own").write_text(own)
    return available_processors(root, tmp_path / "own")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", AFFINITY), ("50000 100000", 1), ("100000 100000", 1), ("150000 100000", min(2, AFFINITY))],
)
def test_v2(tmp_path: Path, limit: str, expected: int) -> None:
    assert cgroup(tmp_path, "0::/\n", {"cpu.max": limit}) == expected


def test_v2_limit_of_a_parent(tmp_path: Path) -> None:
    files = {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}
    assert cgroup(tmp_path, "0::/a/b\n", files) == 1


def test_v1(tmp_path: Path) -> None:
    files = {"cpu/box/cpu.cfs_quota_us": "100000", "cpu/box/cpu.cfs_period_us": "100000"}
    assert cgroup(tmp_path, "4:cpu,cpuacct:/box\n2:memory:/box\n", files) == 1


def test_v1_path_of_the_host_is_not_there_in_the_container(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}
    assert cgroup(tmp_path, "4:cpu:/docker/0123\n", files) == 1


def test_no_cgroups(tmp_path: Path) -> None:
    assert available_processors(tmp_path, tmp_path / "missing") == AFFINITY
