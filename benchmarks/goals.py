"""What we want to reach, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.figures import Cell, Figures, ratio
from benchmarks.runner import BARE, Results
from benchmarks.sides import REFERENCE, REST

__all__ = ["PACKED", "PADDED", "Goal", "goals"]

PADDED, PACKED = "bare padded graph", "bare packed graph"
SINGLE, CROWD, LISTS = Cell("mixed", 1, 1), Cell("mixed", 1, 16), Cell("mixed", 32, 4)
# Time per token over the number of texts per request: only this service.
SIZES = tuple(Cell("mixed", texts, 1, sides=(REST,)) for texts in (8, 16, 32, 64))
BERT_BASE_MEMORY = Cell("full", 16, 1)


@dataclass(frozen=True)
class Goal:
    """A figure with its bars. `must` and `aim` are least values, or largest ones where `less` is better."""

    figure: str
    must: float | None
    aim: float | None
    measured: float | None  # None: not measured
    unit: str = ""
    less: bool = False
    remark: str = ""

    @property
    def reached(self) -> str:
        """ "aim", "must", "missed", or "" where nothing was measured or there is no bar."""
        if self.measured is None or self.must is None or self.aim is None:
            return ""
        for name, bar in (("aim", self.aim), ("must", self.must)):
            if self.measured <= bar if self.less else self.measured >= bar:
                return name
        return "missed"


def goals(results: Results, bert_base: Results | None) -> list[Goal]:
    """The table "to reach", with everything that was measured."""
    single, crowd, lists = (results.figures.get(cell, {}) for cell in (SINGLE, CROWD, LISTS))
    memory = _bert_memory(bert_base)
    return [
        Goal("REST texts/s ÷ reference, 32 texts per request, concurrency 4", 3.8, 5, _rate(lists, REST, REFERENCE)),
        Goal("REST texts/s ÷ reference, 1 text, concurrency 16", 2.5, 3.5, _rate(crowd, REST, REFERENCE)),
        Goal(
            "REST p50 ÷ reference p50, 1 text, concurrency 1",
            0.6,
            0.5,
            ratio(single[REST].rounds_p50_ms, single[REFERENCE].rounds_p50_ms)
            if _has(single, REST, REFERENCE)
            else None,
            less=True,
        ),
        Goal(
            "REST texts/s ÷ bare ONNX Runtime, 32 texts per request, concurrency 4",
            0.90,
            0.95,
            _rate(lists, REST, BARE),
        ),
        Goal(
            "REST texts/s ÷ bare ONNX Runtime (batches of 16), 1 text, concurrency 16",
            0.80,
            0.90,
            _rate(crowd, REST, BARE),
        ),
        Goal(
            "time added to bare ONNX Runtime, 1 text, concurrency 1 (p50)",
            4,
            2,
            _added(single),
            " ms",
            less=True,
        ),
        Goal("bare packed graph ÷ bare ordinary graph, batches of 32", 2.8, 3.5, _rate(lists, PACKED, PADDED)),
        Goal(
            "resident memory of the process `bert`, BERT-base, 16 × 128 tokens",
            1.1,
            0.8,
            memory,
            " GB",
            less=True,
            remark="" if memory else "scripts/bench --bert-base",
        ),
        Goal(
            "time per real token, 64 texts per request ÷ 8 (REST, concurrency 1)",
            1.10,
            1.0,
            _growth(results),
            less=True,
        ),
    ]


def _has(figures: dict[str, Figures], *names: str) -> bool:
    return all(name in figures for name in names)


def _rate(figures: dict[str, Figures], ours: str, theirs: str) -> float | None:
    if not _has(figures, ours, theirs):
        return None
    return ratio(figures[ours].rounds_texts_per_s, figures[theirs].rounds_texts_per_s)


def _added(figures: dict[str, Figures]) -> float | None:
    if not _has(figures, REST, BARE):
        return None
    rounds = zip(figures[REST].rounds_p50_ms, figures[BARE].rounds_p50_ms, strict=True)
    return median(rest - bare for rest, bare in rounds)


def _growth(results: Results) -> float | None:
    """The worst time per token of any size, against that of 8 texts per request."""
    rates: Sequence[float] = [results.figures[cell][REST].tokens_per_s for cell in SIZES if cell in results.figures]
    return rates[0] / min(rates[1:]) if len(rates) == len(SIZES) else None


def _bert_memory(bert_base: Results | None) -> float | None:
    if bert_base is None or BERT_BASE_MEMORY not in bert_base.figures:
        return None
    return bert_base.figures[BERT_BASE_MEMORY][REST].rss["bert"] / 1e9
