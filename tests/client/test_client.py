"""The Python API against the real service, over both transports."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from client import AsyncEmbeddingClient, DeadlineExceeded, EmbeddingClient, InvalidInput, Retries, Unavailable
from tests.support.service import ROOT, Service, free_ports

TEXTS = ["The cat sits outside", "A man is playing guitar", "", "日本語", "word " * 300]


@pytest.fixture(params=["grpc", "http", "rest"])
def url(request: pytest.FixtureRequest, service: Service) -> str:
    return {"grpc": service.grpc_url, "http": service.http_url, "rest": f"rest+{service.rest_url}"}[request.param]


@pytest.fixture
def client(url: str) -> Iterator[EmbeddingClient]:
    with EmbeddingClient(url) as opened:
        yield opened


@pytest.mark.triton
class TestService:
    def test_embed(self, client: EmbeddingClient) -> None:
        vectors = client.embed(TEXTS)
        assert vectors.shape == (5, 384)
        assert vectors.dtype == np.float32
        vectors += 1  # writable

    def test_tokens(self, client: EmbeddingClient, url: str) -> None:
        if url.startswith("rest+"):  # the answer does not tell
            assert client.embed_with_tokens(TEXTS).tokens.tolist() == [-1] * len(TEXTS)
            return
        assert client.embed_with_tokens(TEXTS).tokens.tolist() == [6, 7, 2, 5, 256]
        assert client.embed_with_tokens(TEXTS, max_length=16).tokens.tolist() == [6, 7, 2, 5, 16]

    def test_normalize(self, client: EmbeddingClient) -> None:
        raw, unit = client.embed(TEXTS), client.embed(TEXTS, normalize=True)
        np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(unit, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)

    def test_no_texts(self, client: EmbeddingClient) -> None:
        assert client.embed([]).shape == (0, 384)

    def test_info_is_the_manifest(self, client: EmbeddingClient, service: Service) -> None:
        written = json.loads((service.model_repository / "bert/1/manifest.json").read_text())
        info = dataclasses.asdict(client.info())
        assert info == {name: written[name] for name in info}
        assert client.server_version().startswith("2.")

    def test_order_over_many_pieces(self, client: EmbeddingClient) -> None:
        texts = [f"{'very ' * (number % 7)}short text {number}" for number in range(300)]
        together = client.embed(texts)
        for index in (0, 63, 64, 65, 128, 299):
            np.testing.assert_allclose(together[index], client.embed([texts[index]])[0], atol=1e-5)

    def test_sixteen_threads(self, client: EmbeddingClient) -> None:
        texts = [f"text of thread and turn {number}" for number in range(160)]
        expected = client.embed(texts)
        with ThreadPoolExecutor(16) as threads:
            vectors = list(threads.map(lambda text: client.embed([text])[0], texts))
        np.testing.assert_allclose(vectors, expected, atol=1e-5)

    def test_asynchronous(self, url: str) -> None:
        async def scenario() -> list[np.ndarray]:
            async with AsyncEmbeddingClient(url) as client:
                return await asyncio.gather(*(client.embed([text] * 3) for text in TEXTS))

        with EmbeddingClient(url) as client:
            for vectors, expected in zip(asyncio.run(scenario()), client.embed(TEXTS), strict=True):
                np.testing.assert_allclose(vectors, [expected] * 3, atol=1e-5)

    @pytest.mark.parametrize("max_length", [0, 1, -1, 513, 10**12, 10**30, 1.5, "16", True])
    def test_bad_max_length(self, client: EmbeddingClient, max_length: int) -> None:
        with pytest.raises(InvalidInput, match="max_length: wanted an integer from 2 to 512"):
            client.embed(["a"], max_length=max_length)

    def test_one_bad_text_among_many(self, client: EmbeddingClient) -> None:
        with pytest.raises(InvalidInput, match=r"texts\[200\]: wanted a string, got int"):
            client.embed(["a"] * 200 + [7])  # type: ignore[list-item]

    def test_deadline(self, url: str) -> None:
        with EmbeddingClient(url) as slow, EmbeddingClient(url, timeout_s=0.001) as client:
            client._portal.call(client._client._connected).manifest = slow.info()
            with pytest.raises(DeadlineExceeded, match=r"no answer from .* in time"):
                client.embed(["word " * 500])

    def test_check(self, client: EmbeddingClient) -> None:
        client.check(timeout_s=10)

    def test_a_client_that_nobody_closes_lets_python_end(self, url: str) -> None:
        code = f"from client import EmbeddingClient; print(EmbeddingClient({url!r}).embed(['a']).shape)"
        command = [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "(1, 384)\n", "")

    def test_many_clients_beside_an_own_loop_are_quiet(
        self, service: Service, capfd: pytest.CaptureFixture[str]
    ) -> None:
        async def scenario() -> None:
            async with AsyncEmbeddingClient(service.grpc_url) as asynchronous:
                with EmbeddingClient(service.grpc_url) as one, EmbeddingClient(service.grpc_url) as two:
                    calls = [asyncio.to_thread(each.embed, ["a"]) for each in (one, two) * 20]
                    await asyncio.gather(*calls, *(asynchronous.embed(["a"]) for _ in range(40)))

        asyncio.run(scenario())
        assert capfd.readouterr().err == ""


def refused(scheme: str) -> str:
    return f"{scheme}://127.0.0.1:{free_ports(1)[0]}"


@pytest.mark.parametrize("scheme", ["grpc", "http", "rest+http"])
def test_nobody_there(scheme: str) -> None:
    url = refused(scheme)
    shown = url.removeprefix("rest+")
    once = Retries(attempts=1)
    with EmbeddingClient(url, retries=once) as client, pytest.raises(Unavailable, match=rf"cannot reach {shown}"):
        client.embed(["a"])


@pytest.mark.parametrize("scheme", ["grpc", "http", "rest+http"])
def test_somebody_who_never_answers(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with EmbeddingClient(url, timeout_s=0.3) as client, pytest.raises((DeadlineExceeded, Unavailable)):
            client.embed(["a"])
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8001",
        "grpc://",
        "grpc://x",
        "ftp://x:1",
        "grpc://x:99999",
        "http://x:1/v2",
        "http://u@x:1",
        "rest+ftp://x",
        "rest+http://",
        "rest+http://x?a=b",
        "",
    ],
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"wanted a URL like grpc://127.0.0.1:8001"):
        EmbeddingClient(url)


def test_a_closed_client_says_so() -> None:
    client = EmbeddingClient(refused("grpc"))
    client.close()
    client.close()
    with pytest.raises(RuntimeError):
        client.embed(["a"])
