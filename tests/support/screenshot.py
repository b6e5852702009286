"""`scripts/screenshot`: docs/page.png, the README's picture of the page, of a service of its own."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect

from tests.support.browser import chromium
from tests.support.service import ROOT, exported_repository, serving

_FILE = ROOT / "docs" / "page.png"
_MORE_TEXTS = ("A kitten is resting in the garden", "Somebody plays a song on the guitar")


def take(file: Path) -> None:
    """Start the service, compare five texts, and write the picture."""
    repository = exported_repository("sentence-transformers/all-MiniLM-L6-v2", "default")
    with serving(repository) as service, chromium() as browser:
        page = browser.new_page(viewport={"width": 1120, "height": 600}, color_scheme="light", device_scale_factor=1.5)
        page.goto(service.rest_url)
        expect(page.locator("#result")).to_be_visible()
        for text in _MORE_TEXTS:
            page.get_by_role("button", name="Add a text").click()
            page.keyboard.type(text)
        page.get_by_role("button", name="Compare").click()
        expect(page.locator("#matrix tr")).to_have_count(5)
        # As it looks with the usual port.
        for name in ("curl", "python"):
            page.locator(f"#{name}").evaluate(
                f"(shown) => {{ shown.textContent = shown.textContent.replaceAll('{service.rest_port}', '8080') }}"
            )
        page.locator("h1").click()
        picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
        # 256 colours are enough, and less than half the size.
        picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(file, optimize=True)
    sys.stdout.write(f"{file}: {file.stat().st_size / 1000:.0f} KB\n")


if __name__ == "__main__":
    take(_FILE)
