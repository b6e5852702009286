"""NVIDIA's perf_analyzer against the running service: it works, gives figures, and its failures are seen."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.perf_analyzer import inputs, sweep
from benchmarks.perf_analyzer.tool import PerfAnalyzer, install
from benchmarks.texts import workload
from tests.support.service import Service

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def tool() -> PerfAnalyzer:
    return install()


@pytest.mark.slow
def test_short_sweep(tool: PerfAnalyzer, service: Service, tmp_path: Path) -> None:
    plan = sweep.Sweep(("embedding",), batches=(1, 8), concurrencies=(2,), window_s=0.5)
    files = inputs.write(tmp_path, workload("mixed", 16), service.model_repository)
    addresses = {"http": f"127.0.0.1:{service.http_port}", "grpc": f"127.0.0.1:{service.grpc_port}"}
    rows = sweep.run(tool, plan, addresses, files, lambda line: None)
    assert [(row.protocol, row.batch) for row in rows] == [("http", 1), ("http", 8), ("grpc", 1), ("grpc", 8)]
    assert all(row.values["Inferences/Second"] > 0 < row.values["p50 latency"] for row in rows)

    sweep.write_csv(rows, tmp_path / "table.csv")
    table = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["Batch"] for row in table] == ["1", "8", "1", "8"]
    sweep.plot(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.slow
def test_short_sweep_of_each_step(tool: PerfAnalyzer, service: Service, tmp_path: Path) -> None:
    plan = sweep.Sweep(("tokenizer", "bert", "pooling"), ("grpc",), batches=(1, 8), concurrencies=(2,), window_s=0.7)
    files = inputs.write(tmp_path, workload("mixed", 16), service.model_repository)
    rows = sweep.run(tool, plan, {"grpc": f"127.0.0.1:{service.grpc_port}"}, files, lambda line: None)
    assert {row.model for row in rows} == {"tokenizer", "bert", "pooling"}


def test_a_failed_inference_is_an_error(tool: PerfAnalyzer, service: Service, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"data": [{"TEXT": ["a"], "MAX_LENGTH": [1]}]}')
    plan = sweep.Sweep(("embedding",), ("grpc",), batches=(1,), concurrencies=(1,), window_s=0.5)
    with pytest.raises(BenchmarkError, match="exit code 99"):
        sweep.run(tool, plan, {"grpc": f"127.0.0.1:{service.grpc_port}"}, {"embedding": bad}, lambda line: None)


def test_no_server_is_an_error(tool: PerfAnalyzer) -> None:
    with pytest.raises(BenchmarkError, match="exit code 99"):
        tool.run("-m", "embedding", "-i", "grpc", "-u", "127.0.0.1:1", "--concurrency-range", "1:1")
