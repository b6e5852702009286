"""`python -m tests.faults.page`: the table in docs/reliability.md, from the figures that the suite kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.faults.record import RESULTS
from tests.support.service import ROOT

PAGE = ROOT / "docs" / "reliability.md"
_BEGIN, _END = "<!-- figures -->\n", "<!-- /figures -->\n"
_HEAD = (
    "| fault | REST: back after | failed | slowest success | Triton's gRPC: back after | failed |\n"
    "|---|---|---|---|---|---|\n"
)


def main(results: Path = RESULTS, page: Path = PAGE) -> None:
    """Write the table."""
    before, rest = page.read_text().split(_BEGIN)
    _, after = rest.split(_END)
    page.write_text(f"{before}{_BEGIN}{table(json.loads(results.read_text()))}{_END}{after}")


def table(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """A row for each fault."""
    return _HEAD + "".join(f"| {fault} | {_row(ways['rest'], ways['grpc'])} |\n" for fault, ways in results.items())


def _row(rest: Mapping[str, Any], grpc: Mapping[str, Any]) -> str:
    cells = [_time(rest["back_s"]), _failed(rest), f"{rest['slowest_s']:.1f} s", _time(grpc["back_s"]), _failed(grpc)]
    return " | ".join(cells)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds else "at once"


def _failed(way: Mapping[str, Any]) -> str:
    total = sum(way["failed"].values())
    kinds = ", ".join(sorted(way["failed"]))
    return f"{total} of {way['requests']} ({kinds})" if total else f"0 of {way['requests']}"


if __name__ == "__main__":
    main()
