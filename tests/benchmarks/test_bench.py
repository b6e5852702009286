"""The whole benchmark, short, against the real service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_quick_run_writes_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--quick", "--seconds", "0.2", "--texts", "16", "--out", str(tmp_path)])
    assert code == 0, capsys.readouterr()
    content = json.loads((tmp_path / "results.json").read_text())
    assert [(cell["workload"], cell["texts"], cell["concurrency"]) for cell in content["cells"]] == [
        *(("mixed", 1, 1), ("mixed", 1, 16), ("mixed", 32, 4))
    ]
    for cell in content["cells"]:
        assert {"reference", "REST", "gRPC", "bare ONNX Runtime"} <= set(cell["measured"])
        for side in cell["measured"].values():
            assert side["texts_per_s"] > 0
            assert 0 < side["p50_ms"] <= side["p95_ms"] <= side["p99_ms"]
        rest = cell["measured"]["REST"]
        assert rest["batch"]["bert"] >= 1
        assert {"tritonserver", "tokenizer", "bert", "pooling", "REST shim"} <= set(rest["cpu_ms_per_text"])
        assert rest["share_of_limit"] > 0
    assert {goal["figure"]: goal["measured"] for goal in content["goals"]}[
        "REST p50 ÷ reference p50, 1 text, concurrency 1"
    ]
    assert "To reach" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "throughput.png").is_file()


def test_a_wrong_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--other", "nothing"])
    assert end.value.code == 2
    assert "wanted NAME=URL:SHAPE" in capsys.readouterr().err
