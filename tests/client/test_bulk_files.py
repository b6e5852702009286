"""Files in and out, without a service: readers, writers and the part that survives its writer's end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client import InvalidInput, Manifest
from client.bulk import readers
from client.bulk.part import Part
from client.bulk.readers import Row, Source, from_texts, open_source
from client.bulk.writers import Block, writer_for

MANIFEST = Manifest("sha256:x", "m", None, None, "BertModel", "fp32", "packed", "mean", True, 2, 512, 256)
RUN = {"digest": "sha256:x", "max_length": 16}


def read(path: Path, kind: str, field: str = "text") -> list[Row]:
    with open_source(str(path), kind, field) as source:
        rows = list(source.rows)
        assert source.share() in {1.0, None}
        return rows


def problems(rows: list[Row]) -> list[str]:
    return [f"{row.place}: {row.problem}" for row in rows if row.text is None]


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
def test_text_lines(content: bytes, lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_bytes(content)
    assert [row.text for row in read(path, "text")] == lines


def test_a_line_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "texts"
    path.write_bytes(b"a\nb\xff\nc\n")
    assert problems(read(path, "text")) == ["line 2: wanted UTF-8, got the byte 0xff"]


def test_a_line_without_end_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_MAX_TEXT_BYTES", 100)
    path = tmp_path / "texts"
    path.write_bytes(b"a\n" + b"b" * 1000)
    with pytest.raises(InvalidInput, match="line 2: wanted at most 100 bytes, got more"):
        read(path, "text")


def test_json_lines_with_a_field(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [
        '{"body": "a", "id": 1}',
        "",
        '{"body": null}',
        '{"id": 2}',
        "[]",
        "{",
        '{"body": "\\ud800"}',
        '{"body":""}',
    ]
    path.write_text("\n".join(lines))
    rows = read(path, "jsonl", "body")
    assert [row.text for row in rows] == ["a", None, None, None, None, None, ""]
    assert problems(rows) == [
        "line 3: wanted a string in 'body', got null",
        "line 4: wanted the field 'body', got none",
        "line 5: wanted a JSON object, got a list",
        "line 6: wanted a JSON object in UTF-8, got something else",
        "line 7: wanted a JSON object in UTF-8, got something else",
    ]


@pytest.mark.parametrize(("kind", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_csv_with_a_column(tmp_path: Path, kind: str, delimiter: str) -> None:
    path = tmp_path / "rows"
    lines = [b"\xef\xbb\xbfid,body", b'1,"two\nlines, ""quoted"""', b"2,", b"3", b"4,\xff", b"", b"5,last"]
    path.write_bytes(b"\r\n".join(lines).replace(b",", delimiter.encode()))
    rows = read(path, kind, "body")
    assert [row.text for row in rows] == [f'two\nlines{delimiter} "quoted"', "", None, None, "last"]
    assert [row.place for row in rows] == ["line 2", "line 4", "line 5", "line 6", "line 8"]
    assert problems(rows) == [
        "line 5: wanted 2 fields as in the header, got 1",
        "line 6: wanted UTF-8 in 'body', got something else",
    ]


def test_csv_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('id,text\n1,"never closed\n')
    with pytest.raises(InvalidInput, match="line 2: wanted CSV"):
        read(path, "csv")
    path.write_text("id,body\n1,a\n")
    with pytest.raises(InvalidInput, match="wanted a column 'text', got id, body; see --field"):
        read(path, "csv")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_with_a_column(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "rows.parquet"
    texts = [f"text {number}" for number in range(3000)]
    column = pa.array([*texts, None], pa.string()).cast(kind)
    pq.write_table(pa.table({"id": list(range(3001)), "body": column}), path, row_group_size=1100)
    rows = read(path, "parquet", "body")
    assert [row.text for row in rows] == [*texts, None]
    assert problems(rows) == ["row 3001: wanted a string in 'body', got null"]


def test_parquet_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [1, 2]}), path)
    with pytest.raises(InvalidInput, match="wanted strings in the column 'text', got int64"):
        read(path, "parquet")
    with pytest.raises(InvalidInput, match="wanted a column 'body', got text; see --field"):
        read(path, "parquet", "body")
    path.write_text("text")
    with pytest.raises(InvalidInput, match="wanted a Parquet file"):
        read(path, "parquet")


def block(first: int, count: int, *missing: int) -> tuple[list[Row], Block]:
    """Rows whose vectors spell their numbers."""
    numbers = np.arange(first, first + count)
    texts = [None if number in missing else f"text {number}" for number in numbers]
    vectors = (numbers[:, None] * np.array([[1.0, 0.1]])).astype(np.float32)
    tokens = numbers.astype(np.int32)
    for number in missing:
        vectors[number - first], tokens[number - first] = np.nan, -1
    return [Row(f"row {number}", text) for number, text in zip(numbers, texts, strict=True)], Block(
        texts, vectors, tokens
    )


def read_back(path: Path) -> list[tuple[str | None, int | None, list[float] | None]]:
    match path.suffix:
        case ".npy":
            return [("", 0, vector.tolist()) for vector in np.load(path)]
        case ".jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
        case _:
            rows = pq.read_table(path).to_pylist()
    return [(row["text"], row["tokens"], row["embedding"]) for row in rows]


SUFFIXES = ["npy", "jsonl", "parquet"]


def opened(path: Path, restart: bool = False, **run: object) -> Part:
    return Part(path, writer_for(path, MANIFEST), {**RUN, **run}, restart)


def source(count: int, *missing: int) -> Source:
    rows, _ = block(0, count, *missing)
    return Source("f", iter(rows), lambda: None)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("rows", [0, 1, 20_000])
def test_a_file_in_blocks(tmp_path: Path, suffix: str, rows: int) -> None:
    path = tmp_path / f"vectors.{suffix}"
    with opened(path) as part:
        for first in range(0, rows, 500):
            part.append(*block(first, min(500, rows - first)))
        part.finish()
    found = read_back(path)
    assert len(found) == rows
    for number in (0, rows - 1) if rows else ():
        text, tokens, vector = found[number]
        assert (text, tokens) in {(f"text {number}", number), ("", 0)}
        np.testing.assert_array_equal(np.array(vector, np.float32), np.array([number, number * 0.1], np.float32))
    if suffix == "npy":
        assert np.load(path).shape == (rows, 2)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_without_a_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"vectors.{suffix}"
    with opened(path) as part:
        part.append(*block(0, 3, 1))
        part.finish()
    found = read_back(path)
    text, tokens, vector = found[1]
    if suffix == "jsonl":
        assert vector is None
    else:
        assert np.isnan(np.array(vector, np.float32)).all()
    if suffix != "npy":
        assert (text, tokens) == (None, None)
    assert found[2][2] == pytest.approx([2.0, 0.2])


def test_json_numbers_are_exactly_the_vectors() -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    lines = writer_for(Path("x.jsonl"), MANIFEST).rows(Block(list("abcde"), vectors, np.zeros(5, np.int32)))
    found = np.array([json.loads(line)["embedding"] for line in lines.splitlines()], np.float32)
    np.testing.assert_array_equal(found, vectors)
    assert max(len(str(number)) for line in lines.splitlines() for number in json.loads(line)["embedding"]) < 16


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("torn", [0, 1, 13, 5000])
def test_a_killed_run_goes_on(tmp_path: Path, suffix: str, torn: int) -> None:
    whole, path = tmp_path / f"whole.{suffix}", tmp_path / f"vectors.{suffix}"
    with opened(whole) as part:
        for first in range(0, 1000, 100):
            part.append(*block(first, 100))
        part.finish()
    with opened(path) as part:
        part.append(*block(0, 100))
        part.append(*block(100, 100))
    # What was being written when it was killed.
    with path.with_name(path.name + ".part").open("ab") as file:
        file.write(b"\0" * torn)
    assert not path.exists()
    with opened(path) as part:
        assert (part.progress.read, part.progress.written) == (200, 200)
        rows = source(1000)
        part.skip_seen(rows)
        assert next(rows.rows).text == "text 200"
        for first in range(200, 1000, 100):
            part.append(*block(first, 100))
        part.finish()
    assert read_back(path) == read_back(whole)
    if suffix != "parquet":
        assert path.read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([path, whole])


def unfinished(tmp_path: Path) -> Path:
    path = tmp_path / "vectors.npy"
    with opened(path) as part:
        part.append(*block(0, 10, 3))
    return path


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"digest": "sha256:y"}, "run with digest 'sha256:x', now it is 'sha256:y'"),
        ({"max_length": 8}, "run with max_length 16, now it is 8"),
    ],
)
def test_another_run_is_refused(tmp_path: Path, run: dict[str, object], message: str) -> None:
    path = unfinished(tmp_path)
    for _ in range(2):  # and the refusal changes nothing
        with pytest.raises(InvalidInput, match=message):
            opened(path, **run)
    with opened(path) as part:
        assert part.progress.read == 10


@pytest.mark.parametrize("rows", [source(9, 3), source(20), source(20, 3, 4), from_texts(["text 0", "another"] * 9)])
def test_other_rows_are_refused(tmp_path: Path, rows: Source) -> None:
    path = unfinished(tmp_path)
    with (
        opened(path) as part,
        pytest.raises(InvalidInput, match="with other rows: its first 10 are not"),
    ):
        part.skip_seen(rows)
    with opened(path) as part:
        part.skip_seen(source(10, 3))


def test_restart_begins_anew(tmp_path: Path) -> None:
    path = unfinished(tmp_path)
    with opened(path, restart=True, max_length=8) as part:
        assert part.progress.read == 0
        part.append(*block(0, 2))
        part.finish()
    assert np.load(path).shape == (2, 2)


def test_killed_between_the_end_and_tidying_up(tmp_path: Path) -> None:
    path = unfinished(tmp_path)
    path.with_name("vectors.npy.part").rename(path)
    with opened(path, max_length=8) as part:
        assert part.progress.read == 0


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    with opened(path) as part:
        with pytest.raises(InvalidInput, match="another run is writing it"):
            opened(path)
        part.append(*block(0, 2))
        part.finish()


def failing(path: Path) -> None:
    with opened(path):
        raise RuntimeError


def test_a_failure_before_the_first_row_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        failing(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_suffix_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"wanted a name ending in .jsonl, .npy or .parquet, got x.csv"):
        writer_for(Path("x.csv"), MANIFEST)
