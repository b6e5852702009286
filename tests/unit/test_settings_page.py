"""docs/settings.md is as the code has it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from client.rest import Settings
from server import settings_page
from server.settings import parse, parser


def test_the_page_is_up_to_date() -> None:
    assert settings_page.PAGE.read_text() == settings_page.page(), "run scripts/settings-page"


def test_a_stale_page_is_told_and_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "settings.md"
    stale.write_text(settings_page.page().replace("`10000`", "`9999`"))
    monkeypatch.setattr(settings_page, "PAGE", stale)
    monkeypatch.setattr("sys.argv", ["settings-page", "--check"])
    assert settings_page.main() == 1
    assert "run scripts/settings-page" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["settings-page"])
    assert settings_page.main() == 0
    monkeypatch.setattr("sys.argv", ["settings-page", "--check"])
    assert settings_page.main() == 0


def test_every_setting_is_on_it_by_the_names_that_work(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = re.findall(r"^\| `--([a-z-]+)` \| (?:`([A-Z_]+)`)? ", settings_page.page(), re.MULTILINE)
    variables = {variable for _, variable in rows if variable}
    assert {f"EMBEDDING_REST_{name.upper()}" for name in Settings.model_fields} <= variables
    flags = {flag for action in parser({})._actions for flag in action.option_strings} - {"-h", "--help"}
    assert flags <= {f"--{flag}" for flag, _ in rows}
    # They are the variables that are read: a port that is none is refused by each of them.
    monkeypatch.setattr(os, "environ", {"EMBEDDING_HTTP_PORT": "70000", "EMBEDDING_REST_MAX_TEXTS": "0"})
    with pytest.raises(SystemExit):
        parse([])
    with pytest.raises(ValueError, match="max_texts"):
        Settings()


def test_no_path_of_this_machine_is_on_it() -> None:
    assert str(settings_page.ROOT) not in settings_page.page()
