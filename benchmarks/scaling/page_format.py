"""How the page writes numbers and tables."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

__all__ = ["clock", "money", "number", "percent", "reflowed", "table"]

_WIDTH = 120


def number(value: float) -> str:
    """Three digits, with a comma for thousands."""
    if math.isinf(value):
        return "∞"
    if value >= 1000:
        return f"{value:,.0f}"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f}"


def percent(share: float) -> str:
    """Two digits."""
    return "0 %" if share == 0 else f"{100 * share:.{0 if share >= 0.1 else 1 if share >= 0.01 else 2}f} %"


def clock(seconds: float) -> str:
    """A time of the day."""
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}"


def money(dollars: float) -> str:
    """US dollars."""
    return f"${dollars:,.2f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def reflowed(text: str) -> str:
    """Paragraphs with their lines filled anew, because figures are longer or shorter than their names in the source.

    Items of lists, too; headings, tables, code and pictures stay as they are.
    """
    return "\n\n".join(_reflowed(part) for part in text.split("\n\n"))


def _reflowed(part: str) -> str:
    if part.startswith(("#", "|", "    ", "`", "!")):
        return part
    items = part.split("\n- ") if part.startswith("- ") else [part]
    return "\n".join(
        textwrap.fill(
            " ".join((item if index == 0 else f"- {item}").split()),
            _WIDTH,
            subsequent_indent="  " if part.startswith("- ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for index, item in enumerate(items)
    )
