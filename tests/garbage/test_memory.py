"""What hostile bodies cost the shim in memory: bounded while it works on them, and given back."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.recorder import recording
from tests.support.shim import Program, program

JSON = {"Content-Type": "application/json"}
MIB = 1 << 20
# The largest body is 32 MiB. Parsed, JSON is larger than it was: an empty list, two bytes and a comma, is an object of
# 72 bytes and its place in a list. 835 MiB were the most (measured).
MOST_AT_A_TIME = 32 * MIB * 32
# What is not given back to the system is used by the next body: twice as many do not hold twice as much.
MOST_KEPT = 384 * MIB


def _filled(start: str, item: str, end: str) -> bytes:
    """A body of just under 32 MiB."""
    count = (32 * MIB - 1000) // len(item.encode())
    return (start + item * count).encode().removesuffix(b",") + end.encode()


# name: (body, status)
BODIES: dict[str, tuple[Callable[[], bytes], int]] = {
    "brackets": (lambda: b"[" * (31 * MIB), 400),
    "objects": (lambda: b'{"a":' * (6 * MIB), 400),
    "a-million-small-texts": (lambda: b'{"texts": [' + b'"a",' * 10**6 + b'"a"]}', 422),
    "empty-lists": (lambda: _filled('{"texts": [', "[],", "]}"), 422),
    "empty-objects": (lambda: _filled('{"texts": [', "{},", "]}"), 422),
    "numbers": (lambda: _filled('{"texts": [', "1000,", "]}"), 422),
    "floats": (lambda: _filled('{"texts": [', "0.1,", "]}"), 422),
    "one-huge-text": (lambda: _filled('{"texts": ["', "a", '"]}'), 422),
    "one-huge-text-of-emoji": (lambda: _filled('{"texts": ["', "🤗", '"]}'), 422),
    "one-huge-text-of-escapes": (lambda: _filled('{"texts": ["', "\\ud83e\\udd17", '"]}'), 422),
    "combining-characters": (lambda: _filled('{"texts": ["a', "\u0301", '"]}'), 422),
    "many-keys": (lambda: b"{" + b",".join(b'"%d":1' % n for n in range(2 * 10**6)) + b"}", 422),
    "one-huge-key": (lambda: _filled('{"', "k", '": 1}'), 422),
    "spaces": (lambda: b" " * (31 * MIB), 400),
}


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The program, with nobody's model behind it: these bodies must not get so far."""
    folder = tmp_path_factory.mktemp("memory")
    with recording() as recorder, program(folder, "--triton-url", recorder.url) as running:
        assert httpx.post(f"{running.url}/embedding", json={"texts": ["a"]}, timeout=60).status_code == 200
        yield running


def peak(process: psutil.Process) -> int:
    """The most memory that it had since `forget_peak`, in bytes."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def forget_peak(process: psutil.Process) -> None:
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


@pytest.mark.slow
@pytest.mark.parametrize("name", BODIES)
def test_hostile_bodies(shim: Program, name: str) -> None:
    make, status = BODIES[name]
    body = make()
    process = psutil.Process(shim.process.pid)
    before = process.memory_info().rss
    forget_peak(process)
    answer = httpx.post(f"{shim.url}/embedding", content=body, headers=JSON, timeout=120)
    assert answer.status_code == status
    assert len(answer.content) < 500
    assert peak(process) - before < MOST_AT_A_TIME, f"{(peak(process) - before) / MIB:.0f} MiB"
    assert httpx.post(f"{shim.url}/embedding", json={"texts": ["a"]}, timeout=60).status_code == 200


def test_what_is_kept_does_not_grow(shim: Program) -> None:
    """After the same hostile bodies again and again the process is no larger than after the first."""
    process = psutil.Process(shim.process.pid)
    body = _filled('{"texts": [', "0.1,", "]}")
    sizes = []
    for _ in range(4):
        assert httpx.post(f"{shim.url}/embedding", content=body, headers=JSON, timeout=120).status_code == 422
        sizes.append(process.memory_info().rss)
    assert max(sizes[1:]) - sizes[0] < 32 * MIB, sizes
    assert max(sizes) < MOST_KEPT + 200 * MIB, sizes


def test_the_peak_is_seen() -> None:
    """What the other tests measure with."""
    process = psutil.Process()
    forget_peak(process)
    before = process.memory_info().rss
    with mmap.mmap(-1, 64 * MIB) as held:  # not from what Python has to spare
        held.write(b"x" * (64 * MIB))
    assert peak(process) - before > 50 * MIB
