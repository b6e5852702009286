"""Lines in, rows out."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from client import Embeddings, InvalidInput
from client._files import JsonLines, count_lines, open_sink, read_lines


def rows(count: int, first: int = 0) -> tuple[list[str], Embeddings]:
    numbers = np.arange(first, first + count)
    vectors = (numbers[:, None] * np.array([[1.0, 0.1]])).astype(np.float32)
    return [f"text {number}" for number in numbers], Embeddings(vectors, numbers.astype(np.int32))


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\r\nb\n", ["a", "b"]),
        (b"a\n\nb", ["a", "", "b"]),
        ("é\u2028x\n".encode(), ["é\u2028x"]),
    ],
)
def test_lines(content: bytes, lines: list[str], tmp_path: Path) -> None:
    assert list(read_lines(io.BytesIO(content), "f")) == lines
    path = tmp_path / "texts"
    path.write_bytes(content)
    assert count_lines(path) == len(lines)


def test_a_line_that_is_not_utf8_is_named() -> None:
    with pytest.raises(InvalidInput, match="f, line 2: wanted UTF-8, got the byte 0xff"):
        list(read_lines(io.BytesIO(b"a\nb\xff\n"), "f"))


def test_npy_in_windows(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    with open_sink(path) as sink:
        for first in range(0, 1000, 250):
            sink.write(*rows(250, first))
    array = np.load(path)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, rows(1000)[1].vectors)


def test_npy_without_rows_knows_its_width(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    with open_sink(path) as sink:
        sink.write([], Embeddings(np.empty((0, 384), np.float32), np.empty(0, np.int32)))
    assert np.load(path).shape == (0, 384)


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "vectors.jsonl"
    with open_sink(path) as sink:
        sink.write(*rows(2))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"text": "text 0", "tokens": 0, "embedding": [0.0, 0.0]},
        {"text": "text 1", "tokens": 1, "embedding": [1.0, 0.1]},
    ]


def test_json_numbers_are_exactly_the_vectors() -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    file = io.BytesIO()
    JsonLines(file).write(list("abcde"), Embeddings(vectors, np.zeros(5, np.int32)))
    read = np.array([json.loads(line)["embedding"] for line in file.getvalue().splitlines()], np.float32)
    np.testing.assert_array_equal(read, vectors)


def interrupted(path: Path) -> None:
    with open_sink(path) as sink:
        sink.write(*rows(2))
        raise RuntimeError


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.jsonl"])
def test_a_failure_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        interrupted(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidInput, match=r"wanted a name ending in .jsonl or .npy, got x.csv"),
        open_sink(tmp_path / "x.csv"),
    ):
        pass
