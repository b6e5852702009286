"""`python -m server.settings_page`: writes docs/settings.md from the code, where each setting is declared once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from client.rest.settings import Settings as RestSettings
from server.settings import ROOT, parser

__all__ = ["PAGE", "main", "page"]

PAGE = ROOT / "docs" / "settings.md"

_INTRODUCTION = """\
# Settings

<!-- Written by scripts/settings-page from server/settings.py and client/rest/settings.py: change them there. -->

A flag goes before its environment variable, and that before the default. Durations, sizes and counts have their unit in
the name.

## scripts/serve

Triton and the shim together; `python -m server` takes the same.

"""
_REST = """
## The REST shim

`python -m client.rest` takes the flags. `scripts/serve` starts it with `--host`, `--port`, `--listen-fd`,
`--control-fd`, `--triton-url` and `--stop-timeout-s` of its own; all other variables reach it as they are.

"""
_OTHERS = """
## Other variables

| variable | read by | meaning |
|---|---|---|
| `OTEL_EXPORTER_OTLP_ENDPOINT` and the other `OTEL_…` | the shim, Triton | traces: [watching](watching.md#traces) |
| `FORWARDED_ALLOW_IPS` | the shim | proxies whose `X-Forwarded-For` is believed, by default those of this machine |
| `PYTHON`, `TORCH_INDEX_URL` | the scripts' set-up | which interpreter, and where a CPU build of torch is looked for |
"""

Row = tuple[str, str, str, str]


def page() -> str:
    """The whole page."""
    return _INTRODUCTION + _table(_server_rows()) + _REST + _table(_rest_rows()) + _OTHERS


def main() -> int:
    """Write the page, or tell whether it is as the code has it."""
    command_line = argparse.ArgumentParser(prog="scripts/settings-page", description="Write docs/settings.md.")
    command_line.add_argument("--check", action="store_true", help="write nothing; exit with 1 if it is out of date")
    if not command_line.parse_args().check:
        PAGE.write_text(page())
        return 0
    if PAGE.read_text() == page():
        return 0
    sys.stderr.write(f"{PAGE}: not as the code has it; run scripts/settings-page\n")
    return 1


def _server_rows() -> Iterable[Row]:
    for action in parser({})._actions:
        if not isinstance(action, argparse._HelpAction):
            (flag,) = action.option_strings
            variable = "" if action.nargs == 0 else f"EMBEDDING_{flag[2:].upper().replace('-', '_')}"
            yield flag, variable, _shown(action.default) if variable else "", action.help or ""


def _rest_rows() -> Iterable[Row]:
    for name, field in RestSettings.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        yield flag, f"EMBEDDING_REST_{name.upper()}", _shown(field.default), _explained(field)


def _explained(field: FieldInfo) -> str:
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    named = " | ".join(f"`{choice}`" for choice in choices)
    return f"{field.description} ({named})" if named else str(field.description)


def _shown(value: Any) -> str:
    match value:
        case None:
            return ""
        case Path() if value.is_relative_to(ROOT):
            return f"`{value.relative_to(ROOT)}`"
        case Enum():
            return f"`{value.value}`"
        case _:
            return f"`{value}`"


def _table(rows: Iterable[Row]) -> str:
    head = ("| flag | variable | default | meaning |", "|---|---|---|---|")
    lines = [
        f"| `{flag}` | {f'`{variable}`' if variable else ''} | {default} | {meaning.replace('|', chr(92) + '|')} |"
        for flag, variable, default, meaning in rows
    ]
    return "\n".join([*head, *lines]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
