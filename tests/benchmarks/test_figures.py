"""From measurements to the tables, on made-up measurements."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import plots, report
from benchmarks.arithmetic import Encoder, flops
from benchmarks.errors import BenchmarkError
from benchmarks.figures import Figures, Measurement, ratio, summarize
from benchmarks.goals import BERT_BASE_MEMORY, CROWD, LISTS, PACKED, PADDED, SINGLE, SIZES, Goal, goals
from benchmarks.runner import BARE, Results
from benchmarks.sides import GRPC, REFERENCE, REST, parse_other
from benchmarks.triton_statistics import Step, difference

STEP = Step(10, 40, 5, 100.0, 20.0, 5.0, 70.0, 5.0)
ENCODER = Encoder(6, 384, 1536)


def measurement(texts_per_s: float, latency_ms: float = 10.0, steps: bool = False) -> Measurement:
    return Measurement(
        texts_per_s=texts_per_s,
        tokens_per_s=40 * texts_per_s,
        latencies_ms=[latency_ms] * 9 + [10 * latency_ms],
        cpu_ms_per_text={"bert": 5.0},
        rss={"bert": 900_000_000, "reference": 1_000_000_000},
        peak_rss={"bert": 950_000_000},
        steps=dict.fromkeys(("tokenizer", "bert", "pooling", "embedding"), STEP) if steps else {},
    )


def figures(*texts_per_s: float, latency_ms: float = 10.0, steps: bool = False) -> Figures:
    return summarize([measurement(each, latency_ms, steps) for each in texts_per_s])


def results() -> Results:
    by_cell = {
        cell: {
            REFERENCE: figures(100, 90, latency_ms=20.0),
            REST: figures(400, 450, latency_ms=8.0, steps=True),
            GRPC: figures(410, 460, steps=True),
            BARE: figures(500, 500, latency_ms=5.0),
        }
        for cell in (SINGLE, CROWD, LISTS)
    }
    by_cell[LISTS] |= {PACKED: figures(300, 330), PADDED: figures(100, 100)}
    by_cell |= {cell: {REST: figures(400, 400)} for cell in SIZES}
    return Results(
        figures=by_cell,
        tokens={cell: [30, 50] for cell in by_cell},
        digests=dict.fromkeys(by_cell, "0123"),
        gflops={"a library 1×2×3": 500.0},
    )


def test_medians_and_percentiles() -> None:
    found = summarize([measurement(100), measurement(300), measurement(110)])
    assert found.texts_per_s == 110
    assert found.p50_ms == 10.0
    assert found.p99_ms == 100.0
    assert found.requests == 30


def test_a_ratio_is_taken_within_each_round() -> None:
    # The machine was twice as slow in the second round; the ratio does not care.
    assert ratio([400, 200, 400], [100, 50, 100]) == 4.0


def test_batches_and_shares_of_steps() -> None:
    assert STEP.batch == 8.0
    assert STEP.per_request()["queue"] == 2.0
    assert difference({"bert": STEP}, {"bert": STEP})["bert"].batch == 0.0


def test_goals_are_computed_from_the_rounds() -> None:
    bert = Results(figures={BERT_BASE_MEMORY: {REST: figures(10)}}, tokens={}, digests={})
    measured = [goal.measured for goal in goals(results(), bert)]
    assert measured == pytest.approx([4.5, 4.5, 0.4, 0.85, 0.85, 3.0, 3.15, 0.9, 1.0])
    assert [goal.reached for goal in goals(results(), bert)] == [
        *("must", "aim", "aim", "missed", "must", "must", "must", "must", "aim")
    ]


def test_what_was_not_measured_is_not_reached() -> None:
    assert all(goal.measured is None and not goal.reached for goal in goals(Results(), None))


@pytest.mark.parametrize(("value", "less", "reached"), [(5, False, "aim"), (4, False, "must"), (3, False, "missed")])
def test_bars(value: float, less: bool, reached: str) -> None:
    assert Goal("", 3.8, 5, value, less=less).reached == reached


@pytest.mark.parametrize(("value", "reached"), [(0.5, "aim"), (0.6, "must"), (0.7, "missed")])
def test_bars_where_less_is_better(value: float, reached: str) -> None:
    assert Goal("", 0.6, 0.5, value, less=True).reached == reached


def test_a_slow_middle_size_shows() -> None:
    measured = results()
    measured.figures[SIZES[1]] = {REST: figures(200, 200)}
    assert goals(measured, None)[-1].reached == "missed"


def test_the_page_and_the_json_tell_all(tmp_path: Path) -> None:
    measured = results()
    about = report.About(
        *("2026-01-31", "a processor", 2, True, "3.11", {"torch": "2"}, "a model", "packed", "", "sha256:0"),
        *(3, 2.0, 256, ["a remark"]),
    )
    found = goals(measured, None)
    page = report.markdown(about, measured, None, found, ENCODER, plots.draw(measured, tmp_path))
    assert "stand-in" in page
    assert "- a remark" in page
    assert "| mixed, 32 × 4 | 40 | 95.0 | 425 | 435 | 500 |" in page
    assert "not measured (`scripts/bench --bert-base`)" in page
    assert (tmp_path / "throughput.png").stat().st_size > 1000
    content = json.loads(json.dumps(report.as_json(about, measured, None, found, ENCODER)))
    assert content["cells"][0]["measured"]["REST"]["rounds_texts_per_s"] == [400, 450]
    assert 0 < content["cells"][0]["measured"]["REST"]["share_of_limit"] < 1


def test_disturbance_is_told() -> None:
    measured = results()
    measured.figures[SINGLE][REST] = replace(measured.figures[SINGLE][REST], disturbed=0.7)
    about = report.About("", "", 2, False, "", {}, "", "", "", "", 1, 1.0, 1, [])
    assert "other programs used up to 0.7 processors" in report.markdown(about, measured, None, [], ENCODER, [])


def test_arithmetic_of_a_small_encoder() -> None:
    # One layer, hidden 2, intermediate 3: per token 2·(4·4 + 2·6) = 56, per pair of tokens 4·2 = 8.
    assert flops(Encoder(1, 2, 3), [1]) == 56 + 8
    assert flops(Encoder(1, 2, 3), [3, 1]) == 4 * 56 + 8 * (9 + 1)


def test_an_encoder_without_sizes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"dim": 8}')
    with pytest.raises(BenchmarkError, match="wanted one of num_hidden_layers, n_layers, got dim"):
        Encoder.read(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("text", "url", "model"),
    [
        ("TEI=http://127.0.0.1:3000:tei", "http://127.0.0.1:3000/embed", "default"),
        ("a b=http://host:1/v1/embeddings:openai,model=x/y:z", "http://host:1/v1/embeddings", "x/y:z"),
    ],
)
def test_other_servers(text: str, url: str, model: str) -> None:
    side = parse_other(text)
    assert (side.url, side.model) == (url, model)
    assert not side.takes_max_length


@pytest.mark.parametrize("text", ["http://h:1:tei", "a=http://h:1", "a=http://h:1:none", "REST=http://h:1:tei"])
def test_bad_other_servers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"wanted|taken"):
        parse_other(text)
