"""`scripts/bench hops`: differences are of the same text, and every hop of the real service answers."""

from __future__ import annotations

import pytest

from benchmarks.hops import Hop, main, table


def test_a_hop_is_what_it_adds_to_each_text() -> None:
    # By text 1, 1 and 1 ms more, whatever the other texts take.
    lines = table([Hop("graph", [0.001, 0.002, 0.009]), Hop("bert", [0.002, 0.003, 0.010])]).splitlines()
    assert lines[2:] == ["| graph | 2.00 | 4.00 | | |", "| bert | 3.00 | 5.00 | 1.00 | 1.00 |"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_hop_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--texts", "8", "--rounds", "1"])
    printed = capsys.readouterr()
    assert code == 0, printed
    rows = [line.split(" | ") for line in printed.out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| graph", "| graph, after a pause", "| bert", "| ensemble", "| REST"]
    assert all(float(row[1]) > 0 for row in rows)
