"""From the answers around a fault to its figures: when all was well again, and what failed until then."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.load import WAYS, Answer, Load

__all__ = ["RESULTS", "Figures", "figures", "is_calm", "keep"]

RESULTS = Path(__file__).resolve().parents[2] / ".cache" / "faults.json"
# Requests that began so long before a fault may be hit by it.
_BEFORE_S = 60.0
# Some clients at once get answers several times a second: no good one for so long is a standstill.
_STANDSTILL_S = 1.0


@dataclass(frozen=True)
class Figures:
    """What a fault did, on one way in.

    Attributes:
        requests: that ended between the fault and the calm after it.
        failed: how many failed, by what became of them.
        back_s: from the fault to the end of the last failure, or of the longest standstill if that is later; 0 if
            there was neither.
        slowest_s: the longest that a request which succeeded had to wait.
    """

    requests: int
    failed: Mapping[str, int]
    back_s: float
    slowest_s: float

    def __str__(self) -> str:
        failures = ", ".join(f"{count} {name}" for name, count in sorted(self.failed.items())) or "none failed"
        return f"back after {self.back_s:.1f} s, {self.requests} requests: {failures}; slowest {self.slowest_s:.1f} s"


def figures(load: Load, since_s: float) -> dict[str, Figures]:
    """The figures of each way for a fault at that moment."""
    answers = list(load.answers)
    return {way: _figures([each for each in answers if each.way == way], since_s) for way in WAYS}


def is_calm(load: Load, since_s: float, for_s: float = 3.0) -> bool:
    """Whether no request failed for so long, and every way answers: requests that began after the fault, and now."""
    now = time.monotonic()
    if now - since_s < for_s:
        return False
    recent = [answer for answer in list(load.answers) if answer.ended_s >= now - for_s]
    if any(answer.outcome != "ok" for answer in recent):
        return False
    fresh = {answer.way for answer in recent if answer.began_s >= since_s and answer.ended_s >= now - _STANDSTILL_S}
    return fresh == set(WAYS)


def keep(fault: str, found: Mapping[str, Figures]) -> None:
    """Add to the file from which the table in docs/reliability.md is written."""
    RESULTS.parent.mkdir(exist_ok=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results[fault] = {way: dataclasses.asdict(each) for way, each in found.items()}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def _figures(answers: Sequence[Answer], since_s: float) -> Figures:
    touched = [answer for answer in answers if answer.ended_s >= since_s and answer.began_s >= since_s - _BEFORE_S]
    good = [answer for answer in touched if answer.outcome == "ok"]
    failed = [answer for answer in touched if answer.outcome != "ok"]
    pauses = itertools.pairwise([since_s, *sorted(answer.ended_s for answer in good)])
    length_s, end_s = max(((end - begin, end) for begin, end in pauses), default=(0.0, since_s))
    ends = [answer.ended_s for answer in failed] + ([end_s] if length_s >= _STANDSTILL_S else [])
    return Figures(
        requests=len(touched),
        failed=dict(collections.Counter(answer.outcome for answer in failed)),
        back_s=max(ends, default=since_s) - since_s,
        slowest_s=max((answer.took_s for answer in good), default=0.0),
    )
