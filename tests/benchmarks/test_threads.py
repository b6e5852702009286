"""`scripts/bench threads`, short, against the real service."""

from __future__ import annotations

import pytest

from benchmarks.threads import main


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_number_of_threads_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--threads", "1", "4", "--rounds", "1", "--seconds", "0.2", "--texts", "16"])
    printed = capsys.readouterr()
    assert code == 0, printed
    rows = [line.split(" | ") for line in printed.out.splitlines() if line.startswith("| mixed")]
    assert [(row[0], row[1]) for row in rows] == [
        (f"| mixed, {cell}", threads) for cell in ("1 × 1", "1 × 16", "32 × 4") for threads in ("1", "4")
    ]
    assert all(float(row[2]) > 0 for row in rows)
