"""Bulk runs against the real service: every format and way, killed, refused, cut off, and larger than they may be."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from client import EmbeddingClient
from client.rest import Settings, create_app
from tests.support.forwarder import forwarding
from tests.support.service import ROOT, Service, free_ports
from tests.support.shim import running

TEXTS = ["The cat sits outside", "A man is playing guitar", "two\nlines", "", "日本語"] * 20


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "client", "embed", *(str(argument) for argument in arguments)]


def embed(*arguments: object, given: bytes | None = None) -> subprocess.CompletedProcess[str]:
    """Run, and expect success."""
    done = subprocess.run(command(*arguments), cwd=ROOT, input=given, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return subprocess.CompletedProcess(done.args, 0, done.stdout.decode(), done.stderr.decode())


def refusal(*arguments: object) -> str:
    done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


@pytest.mark.triton
@pytest.mark.parametrize(
    ("way", "kind", "suffix"), [("grpc", "jsonl", "parquet"), ("http", "csv", "jsonl"), ("rest", "parquet", "npy")]
)
def test_every_way_and_format(service: Service, tmp_path: Path, way: str, kind: str, suffix: str) -> None:
    url = {"grpc": service.grpc_url, "http": service.http_url, "rest": f"rest+{service.rest_url}"}[way]
    given, made = tmp_path / f"texts.{kind}", tmp_path / f"vectors.{suffix}"
    rows = [{"id": number, "body": text} for number, text in enumerate(TEXTS)]
    match kind:
        case "jsonl":
            given.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "csv":
            with given.open("w", newline="") as file:
                writer = csv.DictWriter(file, ["id", "body"])
                writer.writeheader()
                writer.writerows(rows)
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), given)
    done = embed("--url", url, "--input", given, "--column", "body", "--output", made, "--max-length", 32)
    assert done.stdout.startswith(f"{made}: 100 rows, ")
    match suffix:
        case "npy":
            vectors, texts = np.load(made), TEXTS
        case "jsonl":
            found = [json.loads(line) for line in made.read_text().splitlines()]
            vectors, texts = np.array([row["embedding"] for row in found]), [row["text"] for row in found]
        case _:
            table = pq.read_table(made)
            vectors, texts = np.array(table["embedding"].to_pylist()), table["text"].to_pylist()
            assert table.schema.metadata[b"digest"].startswith(b"sha256:")
            assert table["tokens"].to_pylist()[:2] == [6, 7]
    assert texts == TEXTS
    with EmbeddingClient(service.grpc_url) as client:
        np.testing.assert_allclose(vectors, client.embed(TEXTS, max_length=32), atol=1e-5)


@pytest.mark.slow
@pytest.mark.triton
def test_a_run_that_is_killed_again_and_again(service: Service, tmp_path: Path) -> None:
    given, made, whole = tmp_path / "texts.txt", tmp_path / "vectors.jsonl", tmp_path / "whole.jsonl"
    given.write_text("".join(f"{'very ' * (number % 10)}long text {number}\n" for number in range(2000)))
    arguments = ("--url", service.grpc_url, "--input", given, "--max-length", 16)
    embed(*arguments, "--output", whole)
    # In small steps, so that no machine is through before it is killed. The last run takes larger ones.
    slow = ("--concurrency", 1, "--batch-size", 4)
    journal, kills, moments = made.with_name(made.name + ".part.json"), 0, random.Random(0)
    read = 0
    for _ in range(3):
        with subprocess.Popen(
            command(*arguments, *slow, "--output", made), cwd=ROOT, stdout=subprocess.DEVNULL
        ) as process:
            # From when it has written something more, at any moment.
            while process.poll() is None and journal_rows(journal) == read:
                time.sleep(0.01)
            time.sleep(moments.random() * 0.5)
            kills += process.poll() is None
            process.kill()
        # Nothing that stood in the journal is lost.
        assert journal_rows(journal) >= read
        read = journal_rows(journal)
    assert kills == 3
    assert not made.exists()
    assert 0 < read < 2000
    assert "unfinished run with max_length 16, now it is 8" in refusal(*arguments[:-1], 8, "--output", made)
    done = embed(*arguments, "--output", made)
    assert f"{2000 - read:,} texts in" in done.stdout
    assert f"{read:,} rows were there from an earlier run" in done.stdout
    ours, theirs = ([json.loads(line) for line in path.read_text().splitlines()] for path in (made, whole))
    assert [(row["text"], row["tokens"]) for row in ours] == [(row["text"], row["tokens"]) for row in theirs]
    np.testing.assert_allclose([row["embedding"] for row in ours], [row["embedding"] for row in theirs], atol=1e-5)
    assert sorted(tmp_path.iterdir()) == sorted([given, made, whole])


def journal_rows(path: Path) -> int:
    return int(json.loads(path.read_bytes())["progress"]["read"]) if path.exists() else 0


@pytest.mark.slow
@pytest.mark.triton
@pytest.mark.parametrize(("suffix", "rows"), [("npy", 2000), pytest.param("parquet", 4000, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_file(service: Service, tmp_path: Path, suffix: str, rows: int) -> None:
    """A large file may take only half its size more than a small one that fills all that is in flight."""
    # Not getrusage: its figure includes the process that started this one.
    code = "import sys\nfrom client.__main__ import main\ncode = main(sys.argv[1:])\n"
    code += "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0], file=sys.stderr)\nsys.exit(code)"

    def peak_mib(rows: int) -> float:
        given = tmp_path / f"{rows}.jsonl"
        with given.open("w") as file:
            for number in range(rows):
                file.write(json.dumps({"text": f"{number} " + "word " * 8000}) + "\n")
        arguments = ["--url", service.grpc_url, "--input", given, "--output", tmp_path / f"vectors.{suffix}"]
        full = [sys.executable, "-c", code, "embed", *map(str, arguments), "--max-length", "4"]
        done = subprocess.run(full, cwd=ROOT, capture_output=True, text=True, timeout=240, check=True)
        assert f"{rows:,} rows" in done.stdout
        return int(done.stderr) / 1024

    small = peak_mib(600)
    large = peak_mib(rows)
    size_mib = (tmp_path / f"{rows}.jsonl").stat().st_size / 2**20
    assert size_mib > 75
    assert large - small < size_mib / 2, f"{small:.0f} MiB for a small file, {large:.0f} MiB for {size_mib:.0f} MiB"


class Narrow:
    """The real shim behind a door that lets two requests in at a time, and answers 429 to the rest."""

    def __init__(self, service: Service) -> None:
        self._app = create_app(Settings(triton_url=service.grpc_url))
        self._inside = 0
        self.refused = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/embedding":
            if self._inside >= 2:
                self.refused += 1
                await Response("busy", 429, {"Retry-After": "0"})(scope, receive, send)
                return
            self._inside += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._inside -= 1
            return
        await self._app(scope, receive, send)


@pytest.mark.slow
@pytest.mark.triton
def test_a_server_that_takes_little_gets_little(service: Service, tmp_path: Path) -> None:
    given, made = tmp_path / "texts.txt", tmp_path / "vectors.npy"
    texts = [f"text {number}" for number in range(1500)]
    given.write_text("\n".join(texts))
    door = Narrow(service)
    with running(door) as url:
        done = embed("--url", f"rest+{url}", "--input", given, "--output", made, "--concurrency", 16, "--batch-size", 8)
    assert f"the server was full {door.refused:,} times" in done.stdout
    # 188 requests; 16 in flight all the time would be refused many times each.
    assert 0 < door.refused < 188
    with EmbeddingClient(service.grpc_url) as client:
        np.testing.assert_allclose(np.load(made), client.embed(texts), atol=1e-5)


@pytest.mark.slow
@pytest.mark.triton
def test_a_server_that_is_away_for_a_while(service: Service, tmp_path: Path) -> None:
    given, made = tmp_path / "texts.txt", tmp_path / "vectors.npy"
    given.write_text("".join(f"{'very ' * 40}long text {number}\n" for number in range(300)))
    (port,) = free_ports(1)
    # In small steps, so that no machine is through before the server goes.
    steps = ("--concurrency", 2, "--batch-size", 4)
    arguments = ("--url", f"grpc://127.0.0.1:{port}", "--input", given, "--output", made, *steps)

    journal = made.with_name(made.name + ".part.json")

    async def scenario(patience_s: float) -> tuple[int | None, str]:
        read = journal_rows(journal)
        async with forwarding(port, service.grpc_port):
            process = await asyncio.create_subprocess_exec(
                *command(*arguments, "--patience-s", patience_s),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            while journal_rows(journal) == read:
                assert process.returncode is None
                await asyncio.sleep(0.01)
        await asyncio.sleep(1.5)
        async with forwarding(port, service.grpc_port):
            _, error = await process.communicate()
            return process.returncode, error.decode()

    code, error = asyncio.run(scenario(0.5))
    assert code == 1
    assert "(Unavailable)" in error
    assert asyncio.run(scenario(60)) == (0, "")
    assert np.load(made).shape == (300, 384)


@pytest.mark.triton
def test_bad_rows(service: Service, tmp_path: Path) -> None:
    given = tmp_path / "texts.jsonl"
    given.write_text('{"text": "a"}\n{"text": null}\n{"body": "b"}\n{"text": "c"}\n')
    arguments = ("--url", service.grpc_url, "--input", given)
    done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"{given}, line 2: wanted a string in 'text', got null" in done.stderr
    named = [
        f"{given}, line 2: wanted a string in 'text', got null",
        f"{given}, line 3: wanted the field 'text', got none",
    ]
    done = embed(*arguments, "--bad-rows", "skip")
    assert done.stderr.splitlines() == named
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["a", "c"]
    made = tmp_path / "vectors.npy"
    done = embed(*arguments, "--bad-rows", "null", "--output", made)
    assert done.stderr.splitlines() == named
    assert done.stdout.endswith("; 2 bad rows\n")
    assert np.isnan(np.load(made)).any(axis=1).tolist() == [False, True, True, False]


@pytest.mark.triton
def test_a_pipe_in_the_middle(service: Service) -> None:
    given = b'{"body": "a"}\n{"body": "b"}\n'
    done = embed("--url", service.grpc_url, "--input", "-", "--input-format", "jsonl", "--field", "body", given=given)
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["a", "b"]


@pytest.mark.triton
def test_rows_come_out_before_the_input_ends(service: Service) -> None:
    pipe = subprocess.PIPE
    arguments = command("--url", service.grpc_url, "--input", "-", "--batch-size", "1")
    with subprocess.Popen(arguments, cwd=ROOT, stdin=pipe, stdout=pipe, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"one\n")
        time.sleep(2)
        process.stdin.write(b"two\n")
        assert b'"text":"one"' in process.stdout.read(1000)
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.mark.triton
def test_the_key_comes_from_the_environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    app = create_app(Settings(triton_url=service.grpc_url))

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            keys.add(dict(scope["headers"])[b"authorization"])
        await app(scope, receive, send)

    monkeypatch.setitem(os.environ, "EMBEDDING_API_KEY", "secret")
    with running(door) as url:
        embed("--url", f"rest+{url}", "a")
        embed("--url", f"rest+{url}", "--api-key", "another", "a")
    assert keys == {b"Bearer secret", b"Bearer another"}
