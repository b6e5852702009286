"""A headless Chromium: the system's, installed by the project's own set-up where there is none."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

from tests.support.service import ROOT

_NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
_INSTALL = 'source scripts/_setup.sh && need_package chromium "Chromium is missing, with which the page is tested"'


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run it in the block. It finds no machine but this one, as in a place without a network."""
    if _installed() is None:
        done = subprocess.run(["bash", "-c", _INSTALL], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=_installed(), args=["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        )
        yield browser
        browser.close()


def _installed() -> str | None:
    return next(filter(None, map(shutil.which, _NAMES)), None)
