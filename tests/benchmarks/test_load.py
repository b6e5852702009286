"""The load generator, against a small HTTP server that answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks import load
from benchmarks.errors import BenchmarkError, WrongAnswer
from benchmarks.http_client import Connection, post_bytes
from benchmarks.load import Question, circulate

Answer = Callable[[list[str]], tuple[int, object] | None]

TEXTS = [["a", "b"], ["c", "d"], ["e", "f"]]


class Clock:
    """Time that passes only where it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_whole_circles_are_timed_and_counted() -> None:
    clock = Clock()
    sent: list[int] = []

    async def send(place: int) -> None:
        sent.append(place)
        clock.now += 0.1 * (place + 1)  # a circle of three takes 0.6 s
        await asyncio.sleep(0)

    taken = asyncio.run(circulate([send], 3, seconds=1.0, warmup_s=0.15, clock=clock))
    # 0.6 s and 1.2 s: only after the second circle it has been a second.
    assert taken.circles == 2
    assert taken.elapsed_s == pytest.approx(1.2)
    assert len(taken.latencies_s) == 6
    assert sum(taken.latencies_s) == pytest.approx(1.2)
    assert taken.sent == len(sent)


def test_several_clients_share_the_list() -> None:
    sent: list[int] = []

    async def send(place: int) -> None:
        sent.append(place)
        await asyncio.sleep(0.001)

    taken = asyncio.run(circulate([send] * 4, 8, seconds=0.05, warmup_s=0.0))
    assert taken.circles >= 1
    assert len(taken.latencies_s) == 8 * taken.circles
    assert all(0.001 <= latency < 1 for latency in taken.latencies_s)
    # Four requests of 1 ms at a time.
    assert taken.elapsed_s >= 2 * taken.circles * 0.001
    assert sent == [number % 8 for number in range(len(sent))]


@pytest.mark.parametrize("chunked", [False, True])
def test_measures_a_server(chunked: bool) -> None:
    taken = _measure(_embeddings, chunked=chunked)
    assert taken.circles >= 1
    assert len(taken.latencies_s) == len(TEXTS) * taken.circles


def test_a_missing_vector_fails() -> None:
    def one_too_few(texts: list[str]) -> tuple[int, object]:
        return 200, {"embeddings": [[0.5, 0.25]] * (len(texts) - 1)}

    with pytest.raises(ExceptionGroup) as failure:
        _measure(one_too_few)
    assert failure.group_contains(WrongAnswer, match="wanted status 200 and 2 vectors, got status 200 and 1")


def test_an_error_status_fails() -> None:
    with pytest.raises(ExceptionGroup) as failure:
        _measure(lambda texts: (503, {"error": "busy"}))
    assert failure.group_contains(WrongAnswer, match="got status 503")


def test_a_lost_connection_fails_and_does_not_hang() -> None:
    async def send(url: str) -> None:
        connection = await Connection.open(url)
        try:
            await connection.send(post_bytes(url, b'{"texts": []}'))
        finally:
            connection.close()

    with _serving(lambda texts: None) as url, pytest.raises(BenchmarkError, match="the server closed the connection"):
        asyncio.run(send(url))


def test_the_check_gives_vectors() -> None:
    with _serving(_embeddings) as url:
        found = asyncio.run(load.vectors(Question(url, "embedding", "", TEXTS, 128)))
    assert found == [[0.5, 0.25], [0.5, 0.25]]


@pytest.mark.parametrize(
    ("shape", "answer"),
    [
        (
            "openai",
            {"object": "list", "data": [{"object": "embedding", "embedding": [0.5], "index": i} for i in (0, 1)]},
        ),
        ("tei", [[0.5], [0.25]]),
    ],
)
def test_other_shapes_are_counted(shape: str, answer: object) -> None:
    taken = _measure(lambda texts: (200, answer), shape=shape)
    assert taken.circles >= 1


def _measure(answer: Answer, *, chunked: bool = False, shape: str = "embedding") -> load.Taken:
    with _serving(answer, chunked=chunked) as url:
        question = Question(url, shape, "", TEXTS, 128, concurrency=2, seconds=0.01, warmup_s=0.0)
        return asyncio.run(load.measure(question))


def _embeddings(texts: list[str]) -> tuple[int, object]:
    return 200, {"embeddings": [[0.5, 0.25]] * len(texts)}


@contextlib.contextmanager
def _serving(answer: Answer, *, chunked: bool = False) -> Iterator[str]:
    """A server whose answers are status and content; None hangs up."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = answer(request.get("texts") or request.get("input") or request.get("inputs") or [])
            if found is None:
                self.close_connection = True
                return
            status, content = found
            body = json.dumps(content).encode()
            self.send_response(status)
            if chunked:
                self.send_header("Transfer-Encoding", "chunked")
                parts = (body[:5], body[5:])
                body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
            else:
                self.send_header("Content-Length", str(len(body)))
            with contextlib.suppress(ConnectionError):  # the generator leaves at the first wrong answer
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/embedding"
        finally:
            server.shutdown()
