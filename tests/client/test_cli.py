"""`python -m client embed` as a user runs it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import client.__main__
import client.bulk.command
from client import EmbeddingClient
from tests.support.service import ROOT, Service, free_ports


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "client", "embed", *arguments]


def embed(*arguments: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(*arguments), cwd=ROOT, input=given, capture_output=True, timeout=120, check=False)


def mistake(done: subprocess.CompletedProcess[bytes]) -> str:
    """The only line on standard error."""
    assert done.stdout == b""
    (line,) = done.stderr.decode().splitlines()
    return line.removeprefix("python -m client: ")


@pytest.mark.triton
@pytest.mark.parametrize("transport", ["grpc", "http", "rest"])
def test_arguments_to_json_lines(service: Service, transport: str) -> None:
    url = {"grpc": service.grpc_url, "http": service.http_url, "rest": f"rest+{service.rest_url}"}[transport]
    done = embed("--url", url, "one text", "日本語", "")
    assert done.stderr == b""
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["text"], row["tokens"]) for row in rows] == [
        (text, None if transport == "rest" else tokens) for text, tokens in (("one text", 4), ("日本語", 5), ("", 2))
    ]
    with EmbeddingClient(url) as python:
        expected = python.embed(["one text", "日本語", ""])
    np.testing.assert_allclose([row["embedding"] for row in rows], expected, atol=1e-5)


@pytest.mark.triton
def test_file_to_npy(service: Service, tmp_path: Path) -> None:
    source, target = tmp_path / "texts.txt", tmp_path / "vectors.npy"
    source.write_text("".join(f"line {number}\n" for number in range(2100)))
    arguments = ("--input", str(source), "--output", str(target), "--normalize", "--max-length", "8")
    done = embed("--url", service.grpc_url, *arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    summary = (
        rf"{target}: 2,100 rows, {target.stat().st_size:,} bytes; 2,100 texts in [\d.]+ s \([\d,]+ texts/s\); 9,.*\n"
    )
    assert re.fullmatch(summary, done.stdout.decode())
    vectors = np.load(target)
    with EmbeddingClient(service.grpc_url) as python:
        expected = python.embed(["line 0", "line 1024", "line 2099"], max_length=8, normalize=True)
    assert vectors.shape == (2100, 384)
    np.testing.assert_allclose(vectors[[0, 1024, 2099]], expected, atol=1e-5)


@pytest.mark.triton
def test_standard_input(service: Service) -> None:
    done = embed("--url", service.grpc_url, "--input", "-", given=b"a\n\nb")
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["a", "", "b"]


@pytest.mark.triton
def test_nothing_to_embed(service: Service, tmp_path: Path) -> None:
    target = tmp_path / "vectors.npy"
    assert embed("--url", service.grpc_url, "--input", "-", "--output", str(target), given=b"").returncode == 0
    assert np.load(target).shape == (0, 384)


@contextlib.contextmanager
def terminal() -> Iterator[Callable[[], str]]:
    """Standard error is a terminal in the block; what it gives tells what was shown."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with open(theirs, "w", encoding="utf-8") as stderr, contextlib.redirect_stderr(stderr):

        def shown() -> str:
            stderr.flush()
            read = b""
            # What is written to one end comes out of the other a moment later.
            while select.select([ours], [], [], 0.5)[0]:
                read += os.read(ours, 100_000)
            return read.decode()

        yield shown
    os.close(ours)


@pytest.mark.triton
@pytest.mark.parametrize(("after_s", "bar"), [(0.0, True), (60.0, False)])
def test_a_progress_bar_on_a_terminal_on_long_work_only(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_s: float, bar: bool
) -> None:
    monkeypatch.setattr(client.bulk.command, "_PROGRESS_AFTER_S", after_s)
    source = tmp_path / "texts.txt"
    source.write_text("a text\n" * 30)
    arguments = ["embed", "--url", service.grpc_url, "--input", str(source), "--output", str(tmp_path / "v.npy")]
    # Not a fixture: pytest takes standard error back between a test's setup and the test.
    with terminal() as shown:
        assert client.__main__.main(arguments) == 0
        assert ("30/30" in shown()) == bar


@pytest.mark.triton
def test_a_reader_that_has_enough(service: Service) -> None:
    arguments = command("--url", service.grpc_url, "--input", "-")
    with subprocess.Popen(
        arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"a\n" * 5000)
        process.stdin.close()
        assert process.stdout.readline().startswith(b'{"text":"a"')
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == b""


@pytest.mark.triton
def test_mistakes_in_the_input(service: Service) -> None:
    done = embed("--url", service.grpc_url, "--input", "-", given=b"a\n\xff\n")
    assert done.returncode == 2
    assert mistake(done) == "standard input, line 2: wanted UTF-8, got the byte 0xff"
    done = embed("--url", service.grpc_url, "--max-length", "1", "a")
    assert done.returncode == 2
    assert mistake(done).startswith("max_length: wanted an integer from 2 to 512")


@pytest.mark.triton
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "texts: wanted arguments or --input, got none"),
        (("a", "--input", "-"), "texts: wanted arguments or --input, got both"),
        (("--input", "/no/such/file"), "/no/such/file: No such file or directory"),
        (("a", "--output", "x.csv"), "--output: wanted a name ending in .jsonl, .npy or .parquet, got x.csv"),
    ],
)
def test_mistakes_in_the_call(service: Service, arguments: tuple[str, ...], message: str) -> None:
    done = embed("--url", service.grpc_url, *arguments)
    assert done.returncode == 2
    assert mistake(done).startswith(message)


@pytest.mark.parametrize("scheme", ["grpc", "http", "rest+http"])
def test_nobody_there(scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{free_ports(1)[0]}"
    done = embed("--url", url, "a")
    assert done.returncode == 1
    assert mistake(done).startswith(f"cannot reach {url.removeprefix('rest+')}")


def test_a_url_that_is_none() -> None:
    done = embed("--url", "localhost", "a")
    assert done.returncode == 2
    assert mistake(done).startswith("wanted a URL like grpc://127.0.0.1:8001")
