"""What set-up and start refuse on a machine that lacks something: which thing, and what to do about it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from server import triton
from server.errors import PlatformError
from tests.support.service import ROOT


def run_setup(call: str, tmp_path: Path, **commands: str) -> subprocess.CompletedProcess[str]:
    """Call a function of scripts/_setup.sh, with some commands of the machine replaced by others."""
    for name, body in commands.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    script = f"source {ROOT}/scripts/_setup.sh; {call}"
    return subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)


def test_this_machine_is_fine(tmp_path: Path) -> None:
    done = run_setup(f"check_platform && check_shared_libpython {sys.executable} && echo fine", tmp_path)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


@pytest.mark.parametrize(
    ("command", "body", "message"),
    [
        ("uname", "echo Linux aarch64", "wanted Linux on x86-64"),
        ("uname", "echo Darwin arm64", "got Darwin arm64"),
        ("getconf", "echo glibc 2.34", "wanted glibc 2.35 or newer (Debian 12, Ubuntu 22.04), got 2.34"),
        ("getconf", "exit 1", "got none"),
    ],
)
def test_other_platforms(tmp_path: Path, command: str, body: str, message: str) -> None:
    done = run_setup("check_platform", tmp_path, **{command: body})
    assert done.returncode == 1
    assert message in done.stderr


def test_no_python_311(tmp_path: Path) -> None:
    others = dict.fromkeys(("python3.11", "python3", "python"), "echo 3.12")
    done = run_setup("find_python", tmp_path, **others)
    assert done.returncode == 1
    assert "wanted Python 3.11, found none" in done.stderr


def test_named_python_of_another_version(tmp_path: Path) -> None:
    done = run_setup(f"PYTHON={tmp_path}/other find_python", tmp_path, other="echo 3.12")
    assert done.returncode == 1
    assert f"PYTHON={tmp_path}/other: wanted an interpreter of Python 3.11" in done.stderr


def test_no_shared_libpython_and_not_root(tmp_path: Path) -> None:
    done = run_setup(
        "check_shared_libpython python-static", tmp_path, **{"python-static": "echo False", "id": "echo 1000"}
    )
    assert done.returncode == 1
    assert "libpython3.11.so.1.0 is missing" in done.stderr
    assert "apt-get install libpython3.11" in done.stderr


def test_a_program_of_the_machine_is_taken(tmp_path: Path) -> None:
    done = run_setup("need_program promtool-x prometheus", tmp_path, **{"promtool-x": "true", "apt-get": "exit 1"})
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_missing_program_is_unpacked_and_not_installed(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    done = run_setup(
        f"ROOT={tmp_path}; need_program promtool-x prometheus",
        tmp_path,
        **{
            "apt-get": f"echo apt-get $* >>{calls}; touch prometheus_1_amd64.deb",
            "dpkg-deb": f"echo dpkg-deb $* >>{calls}",
        },
    )
    assert done.returncode == 0, done.stderr
    assert calls.read_text().splitlines() == ["apt-get download -qq prometheus", "dpkg-deb -x prometheus_1_amd64.deb ."]
    assert list((tmp_path / ".cache" / "debian").iterdir()) == []


def test_a_program_that_cannot_be_had(tmp_path: Path) -> None:
    done = run_setup(f"ROOT={tmp_path}; need_program promtool-x prometheus", tmp_path, **{"apt-get": "exit 1"})
    assert done.returncode == 1
    assert "wanted promtool-x, and could not unpack Debian's package prometheus" in done.stderr


def test_the_server_checks_its_platform_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(PlatformError, match=r"wanted Linux on x86-64, .* got linux on aarch64"):
        triton.find()


def test_the_server_checks_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.31"))
    with pytest.raises(PlatformError, match=r"wanted glibc 2\.35 or newer .* got 2\.31"):
        triton.find()


def test_the_server_wants_a_shared_libpython(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: "/nowhere")
    monkeypatch.setattr(sys, "base_prefix", "/nowhere")
    with pytest.raises(PlatformError, match="apt-get install libpython3"):
        triton.find()
