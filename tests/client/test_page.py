"""The page at /, as headless Chromium shows it, against the real service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pydantic import SecretStr

from client import EmbeddingClient
from client.rest import Settings, create_app
from tests.support.browser import chromium
from tests.support.service import Service, free_ports
from tests.support.shim import running

# Installing Chromium, where there is none, takes a minute.
pytestmark = [pytest.mark.slow, pytest.mark.triton, pytest.mark.timeout(600)]

EXAMPLE = ["The cat sits outside", "A man is playing guitar", "The new movie is awesome"]
NASTY = [
    '<img src=x onerror="document.title=`harmed`"><script>document.title="harmed"</script>',
    'it\'s "quoted" \\ and $HOME `id` %s {0} \\u0041 </script>',
    "two\nlines\tand 日本語 🙂",
]
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running_browser:
        yield running_browser


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    """A shim with a cache before the running service's Triton."""
    with running(create_app(Settings(triton_url=service.grpc_url, cache_bytes=16 * 1024 * 1024))) as address:
        yield address


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """open_page(url, **options of the context) -> the page; it must ask for nothing elsewhere and break no rule."""
    contexts: list[BrowserContext] = []
    asked: list[str] = []
    complaints: list[str] = []

    def open_(url: str, **options: object) -> Page:
        context = browser.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert {address.split("/")[2] for address in asked if not address.startswith("data:")} == {
        address.split("/")[2] for address in asked[:1]
    }
    # The browser's own line for an answer that is an error.
    assert [line for line in complaints if not line.startswith("Failed to load resource")] == []


def compare(page: Page) -> None:
    page.get_by_role("button", name="Compare").click()
    wait_for_result(page)


def wait_for_result(page: Page) -> None:
    expect(page.locator("#result")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("#result")).not_to_have_class(re.compile("old"), timeout=PATIENCE_MS)


def fill(page: Page, texts: list[str]) -> None:
    areas = page.get_by_role("textbox", name=re.compile(r"^Text \d+$"))
    while areas.count() < len(texts):
        page.get_by_role("button", name="Add a text").click()
    for number, text in enumerate(texts):
        areas.nth(number).fill(text)


def matrix(page: Page) -> list[list[float]]:
    rows = page.locator("#matrix tr")
    return [
        [float(cell.replace("−", "-")) for cell in rows.nth(number).locator("td").all_inner_texts()]
        for number in range(rows.count())
    ]


def cosines(service: Service, texts: list[str]) -> np.ndarray:
    with EmbeddingClient(service.grpc_url) as client:
        vectors = client.embed(texts, 128, normalize=True)
    return vectors @ vectors.T


def test_shows_how_alike_the_example_s_texts_are(open_page: Open, url: str, service: Service) -> None:
    page = open_page(url)
    wait_for_result(page)
    np.testing.assert_allclose(matrix(page), cosines(service, EXAMPLE), atol=0.006)
    assert page.locator("#tokens").inner_text() == str(6 + 7 + 7)
    assert page.locator("#dimensions").inner_text() == "384"
    assert re.fullmatch(r"\d+ ms\s+\d+ ms in Triton", page.locator("#time").inner_text())
    expect(page.locator("#model")).to_contain_text("384 dimensions, up to 512 tokens")
    assert page.locator("#closest").inner_text().startswith("Closest: texts ")


def test_tells_what_came_from_the_cache(open_page: Open, url: str) -> None:
    page = open_page(url)
    wait_for_result(page)
    compare(page)
    expect(page.locator("#hits")).to_have_text("3 of 3")
    fill(page, ["a text that nobody has asked for yet"])
    compare(page)
    expect(page.locator("#hits")).to_have_text("2 of 3")


def test_texts_are_added_and_removed_by_keyboard(open_page: Open, url: str, service: Service) -> None:
    page = open_page(url)
    wait_for_result(page)
    page.get_by_role("button", name="Add a text").press("Enter")
    page.keyboard.type("A cat rests in the garden")
    # What is shown is of the texts before, and looks like it.
    expect(page.locator("#result")).to_have_class(re.compile("old"))
    page.keyboard.press("Control+Enter")
    wait_for_result(page)
    texts = [*EXAMPLE, "A cat rests in the garden"]
    np.testing.assert_allclose(matrix(page), cosines(service, texts), atol=0.006)
    assert page.locator("#closest").inner_text().startswith("Closest: texts 1 and 4, ")
    page.get_by_role("button", name="Remove text 2").press("Enter")
    assert page.evaluate("document.activeElement.value") == EXAMPLE[2]
    page.get_by_role("button", name="Remove text 3").press("Enter")
    compare(page)
    np.testing.assert_allclose(matrix(page), cosines(service, [texts[0], texts[2]]), atol=0.006)
    assert page.get_by_role("button", name="Remove text 1").is_disabled()


def test_texts_are_never_markup(open_page: Open, url: str) -> None:
    page = open_page(url)
    wait_for_result(page)
    fill(page, NASTY)
    compare(page)
    assert page.title() == "Embedding service"
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    heads = page.locator("#matrix th").all_text_contents()
    assert heads == [f"{number}{text}" for number, text in enumerate(NASTY, 1)]


def test_the_policy_holds(browser: Browser, url: str) -> None:
    """What the page's script does not do by itself, nobody could make it do either."""
    harm = """async (other) => {
        const attempts = {
            handler: () => {
                const image = document.createElement("img");
                document.body.append(image);
                image.setAttribute("onerror", "document.title = 'harmed'");
                image.setAttribute("src", "x");
            },
            script: () => {
                const script = document.createElement("script");
                script.textContent = "document.title = 'harmed'";
                document.body.append(script);
            },
            markup: () => { document.body.innerHTML = "<img src=x onerror='document.title = `harmed`'>"; },
            elsewhere: () => fetch(other),
            nothing: () => {},
        };
        const allowed = [];
        for (const [name, attempt] of Object.entries(attempts)) {
            try {
                await attempt();
                allowed.push(name);
            } catch { }
        }
        await new Promise((done) => setTimeout(done, 300));
        return [document.title, allowed];
    }"""
    page = browser.new_page()
    page.goto(url)
    with running(create_app(Settings(triton_url="grpc://127.0.0.1:1"))) as other:
        assert page.evaluate(harm, f"{other}/health/live") == ["Embedding service", ["nothing"]]
    page.context.close()


@pytest.mark.parametrize("texts", [EXAMPLE, NASTY], ids=["example", "nasty"])
def test_the_shown_requests_run(open_page: Open, url: str, service: Service, texts: list[str]) -> None:
    page = open_page(url)
    fill(page, texts)
    expected = cosines(service, texts)
    curl = page.locator("#curl").text_content()
    python = page.locator("#python").text_content()
    assert curl
    assert python
    done = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=120, check=True)
    vectors = np.array(json.loads(done.stdout)["embeddings"])
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-4)
    done = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, timeout=120, check=True)
    rows = [[float(word) for word in line.split()] for line in done.stdout.splitlines()]
    np.testing.assert_allclose(rows, expected, atol=6e-4)


def test_copies_the_request(open_page: Open, url: str) -> None:
    page = open_page(url, permissions=["clipboard-read", "clipboard-write"])
    page.locator("[data-copies=python]").click()
    expect(page.locator("[data-copies=python]")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#python").text_content()


def test_says_what_was_wrong(open_page: Open, url: str) -> None:
    page = open_page(url)
    wait_for_result(page)
    expect(page.locator("#max-length")).to_have_attribute("max", "512")
    page.locator("#max-length").fill("513")
    page.get_by_role("button", name="Compare").click()
    # The browser says it itself. Were it not to, the service would.
    assert page.locator("#max-length:invalid").count() == 1
    page.evaluate("document.getElementById('max-length').removeAttribute('max')")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("alert")).to_contain_text(
        "wanted an integer from 2 to 512 (the model's positions), got 513"
    )
    expect(page.get_by_role("alert")).to_contain_text("422 invalid_input")
    page.locator("#max-length").fill("16")
    compare(page)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_says_that_the_model_is_away_and_when_to_come_back(open_page: Open) -> None:
    with running(create_app(Settings(triton_url=f"grpc://127.0.0.1:{free_ports(1)[0]}", patience_s=0))) as url:
        page = open_page(url)
        expect(page.get_by_role("alert")).to_contain_text("Try again in 3 s. 503 unavailable")
        expect(page.locator("#result")).to_be_hidden()


def test_asks_for_a_key_where_one_is_wanted(open_page: Open, service: Service) -> None:
    settings = Settings(triton_url=service.grpc_url, api_keys=SecretStr("not-a-guess,tell-nobody"))
    with running(create_app(settings)) as url:
        page = open_page(url)
        expect(page.get_by_role("alert")).to_contain_text("401 unauthorized")
        expect(page.get_by_label("API key")).to_be_focused()
        page.keyboard.type("tell-nobody")
        page.keyboard.press("Enter")
        wait_for_result(page)
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(page.locator("#model")).to_contain_text("384 dimensions")
        # The shown requests take it from the environment, and work.
        curl, python = page.locator("#curl").text_content(), page.locator("#python").text_content()
        assert curl
        assert python
        assert "tell-nobody" not in page.locator("body").text_content() + curl + python
        environment = {**os.environ, "EMBEDDING_API_KEY": "tell-nobody"}
        for command in (["bash", "-c", curl], [sys.executable, "-c", python]):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
            assert "error" not in done.stdout


def test_wants_no_key_where_none_is_wanted(open_page: Open, url: str) -> None:
    page = open_page(url)
    wait_for_result(page)
    expect(page.get_by_label("API key")).to_be_hidden()


def test_says_that_the_service_is_gone(open_page: Open, service: Service) -> None:
    with running(create_app(Settings(triton_url=service.grpc_url))) as url:
        page = open_page(url)
        wait_for_result(page)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_is_for_everybody(open_page: Open, url: str, scheme: str, width: int) -> None:
    page = open_page(url, color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce")
    wait_for_result(page)
    fill(page, [*EXAMPLE, "A cat rests in the garden", "No price was paid for this"])
    compare(page)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", ground))) < 64) == (scheme == "dark")
