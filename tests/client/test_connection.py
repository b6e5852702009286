"""Connections of clients that are slow, silent, many or endless; a real server, raw sockets, and no Triton."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from client.rest.connection import Bounds, Refusal, Watch, affordable, connection_class
from tests.support.shim import running

HEAD = b"POST /embedding HTTP/1.1\r\nHost: x\r\n"
BOUNDS = Bounds(most=60, receive_s=0.6, send_s=0.6, idle_s=1.2)
TOO_SLOW = Refusal(408, b"content-type: text/plain\r\n", b"too slow")
TOO_LONG = Refusal(431, b"content-type: text/plain\r\n", b"too long")
BUSY = Refusal(429, b"retry-after: 7\r\n", b'{"error": "busy"}')


class Application:
    """Answers with the number of bytes it got, or with as many as the path says; remembers who left."""

    def __init__(self) -> None:
        self.busy = self.stopping = False
        self.asked = 0
        self.left = 0
        self.ids: list[bytes] = []

    def refuse(self, path: bytes, request_id: bytes) -> Refusal | None:
        self.ids.append(request_id)
        return BUSY if self.busy and path == b"/embedding" else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.asked += 1
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        if scope["path"].startswith("/wait"):
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left += 1
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"].startswith("/much"):
            for _ in range(int(scope["path"].removeprefix("/much/"))):
                await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
                # As our answers are made: each piece takes its time.
                await asyncio.sleep(0)
            await send({"type": "http.response.body"})
        else:
            await send({"type": "http.response.body", "body": b"%d" % size})


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def port(application: Application) -> Iterator[int]:
    watch = Watch(BOUNDS, application.refuse, TOO_SLOW, TOO_LONG)
    watch.stopping = lambda: application.stopping
    with running(application, http=connection_class(watch), lifespan="off") as url:
        yield int(url.rpartition(":")[2])


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        yield connection


def answer(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def post(port: int, body: bytes = b"abc", path: str = "/embedding") -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{port}{path}", content=body, timeout=20)


@pytest.mark.parametrize(
    "sent", [b"", b"POST /emb", HEAD, HEAD + b"Content-Length: 9\r\n\r\n", HEAD + b"X: y"], ids=repr
)
def test_who_says_nothing_more_is_cut_off(port: int, sent: bytes) -> None:
    with connected(port) as connection:
        connection.sendall(sent)
        began = time.monotonic()
        got = answer(connection)
        # The bound, and a sweep each half second.
        assert 0.5 < time.monotonic() - began < 10
    assert got == b"" if not sent else got.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert got == b"" or got.endswith(
        b"connection: close\r\ncontent-type: text/plain\r\ncontent-length: 8\r\n\r\ntoo slow"
    )


@pytest.mark.parametrize("slow", ["head", "body", "chunks"])
def test_one_byte_at_a_time_is_too_slow(port: int, slow: str) -> None:
    with connected(port) as connection:
        if slow == "body":
            connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
        if slow == "chunks":
            connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for byte in HEAD * 1000:
                connection.sendall(b"1\r\nx\r\n" if slow == "chunks" else bytes([byte]))
                sent += 1
                time.sleep(0.05)
    assert 5 < sent < 200


def test_a_slow_body_that_comes_fast_enough_is_let_in(port: int) -> None:
    """A large body may take longer than the bound."""
    with connected(port) as connection:
        connection.sendall(HEAD + b"Content-Length: 100000\r\nConnection: close\r\n\r\n")
        began = time.monotonic()
        for _ in range(20):
            connection.sendall(b"x" * 5000)
            time.sleep(0.12)
        assert time.monotonic() - began > 2
        assert answer(connection).endswith(b"100000\r\n0\r\n\r\n")


@pytest.mark.slow
def test_many_slow_clients_cost_the_others_nothing(port: int, application: Application) -> None:
    """More of them than there may be connections, and they come again."""
    stop = threading.Event()
    count = BOUNDS.most * 3 // 2

    def slow() -> None:
        while not stop.wait(0.5):
            with contextlib.suppress(OSError), connected(port) as connection:
                connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n")
                while not stop.wait(0.1):
                    connection.sendall(b"x")

    with ThreadPoolExecutor(count) as threads:
        for _ in range(count):
            threads.submit(slow)
        try:
            wait_for(lambda: application.asked >= count)
            for _ in range(20):
                assert post(port).text == "3"
                time.sleep(0.1)
        finally:
            stop.set()
    assert application.left > BOUNDS.most


def test_an_idle_connection_makes_room_and_a_working_one_stays(port: int, application: Application) -> None:
    with contextlib.ExitStack() as stack:
        working = stack.enter_context(connected(port))
        working.sendall(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        wait_for(lambda: application.asked == 1)
        idle = [stack.enter_context(connected(port)) for _ in range(BOUNDS.most - 1)]
        assert post(port).text == "3"
        # The first of them went.
        assert answer(idle[0]) == b""
        assert application.left == 0
        working.close()
        wait_for(lambda: application.left == 1)


def test_kept_alive_and_then_closed(port: int) -> None:
    with connected(port) as connection:
        for _ in range(3):
            connection.sendall(HEAD + b"Content-Length: 3\r\n\r\nabc")
            assert b"HTTP/1.1 200" in connection.recv(1000)
            time.sleep(0.2)
        began = time.monotonic()
        while connection.recv(1000):
            pass
        assert 0.5 < time.monotonic() - began < 10


def test_who_does_not_read_the_answer_is_cut_off(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(b"POST /much/2000 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        time.sleep(2.5)
        # What the kernels hold between us, some megabytes of 200.
        assert len(answer(connection)) < 50_000_000


def test_who_reads_slowly_but_steadily_gets_the_answer(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(b"POST /much/300 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        size, began = 0, time.monotonic()
        while part := connection.recv(1 << 17):
            size += len(part)
            time.sleep(0.02)
        assert size > 30_000_000
        assert time.monotonic() - began > 2 * BOUNDS.send_s


@pytest.mark.parametrize("where", ["header", "url", "trailer"])
def test_an_endless_head_is_refused(port: int, where: str) -> None:
    begin = {
        "header": HEAD + b"X: ",
        "url": b"POST /",
        "trailer": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: ",
    }[where]
    with connected(port) as connection:
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(begin)
            while sent < 50_000_000:
                connection.sendall(b"x" * 10_000)
                sent += 10_000
                time.sleep(0.001)
    assert sent < 10_000_000
    assert post(port).text == "3"


def test_no_more_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert affordable(BOUNDS) is BOUNDS
    assert affordable(dataclasses.replace(BOUNDS, most=2000)).most == 960
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert affordable(dataclasses.replace(BOUNDS, most=2000)).most == 2000


class TestRefusing:
    """At overload, before the application is asked."""

    @pytest.fixture(autouse=True)
    def busy(self, application: Application) -> None:
        application.busy = True

    def test_what_is_said(self, port: int, application: Application) -> None:
        got = post(port)
        assert (got.status_code, got.headers["retry-after"], got.json()) == (429, "7", {"error": "busy"})
        assert "date" in got.headers
        assert application.asked == 0

    def test_other_paths_are_served(self, port: int) -> None:
        assert post(port, path="/other").text == "3"
        assert httpx.get(f"http://127.0.0.1:{port}/embedding").status_code == 200

    def test_the_query_is_no_part_of_the_path(self, port: int) -> None:
        assert post(port, path="/embedding?a=b").status_code == 429

    def test_the_id_is_handed_on(self, port: int, application: Application) -> None:
        httpx.post(f"http://127.0.0.1:{port}/embedding", headers={"X-Request-ID": "a-b"})
        assert application.ids == [b"a-b"]

    def test_the_connection_goes_on(self, port: int, application: Application) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
            for size in (0, 3, 3_000_000):
                application.busy = True
                assert http.post("/embedding", content=b"x" * size).status_code == 429
                application.busy = False
                assert http.post("/embedding", content=b"x" * size).text == str(size)

    def test_the_connection_ends_with_it_when_the_server_is_about_to(self, port: int, application: Application) -> None:
        application.stopping = True
        with connected(port) as connection:
            connection.sendall(HEAD + b"Content-Length: 3\r\n\r\nabc")
            got = answer(connection)
        assert got.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nconnection: close\r\n" in got

    def test_it_is_said_before_the_body_has_come(self, port: int) -> None:
        with connected(port) as connection:
            connection.sendall(HEAD + b"Content-Length: 10\r\n\r\n12345")
            assert connection.recv(1000).startswith(b"HTTP/1.1 429 ")
            connection.sendall(b"67890" + HEAD + b"Content-Length: 3\r\n\r\nabc")
            assert connection.recv(1000).startswith(b"HTTP/1.1 429 ")

    def test_many_at_once_in_one_connection(self, port: int, application: Application) -> None:
        request = HEAD + b"Content-Length: 3\r\n\r\nabc"
        with connected(port) as connection:
            connection.sendall(request * 50 + HEAD + b"Connection: close\r\nContent-Length: 0\r\n\r\n")
            assert answer(connection).count(b"HTTP/1.1 429 ") == 51
        assert application.asked == 0

    @pytest.mark.parametrize("version", [b"1.0", b"1.1"])
    def test_who_wants_to_close_gets_the_answer_first(self, port: int, version: bytes) -> None:
        close = b"Connection: close\r\n" if version == b"1.1" else b""
        with connected(port) as connection:
            connection.sendall(
                b"POST /embedding HTTP/%b\r\nHost: x\r\n%bContent-Length: 3000000\r\n\r\n" % (version, close)
            )
            connection.sendall(b"x" * 3_000_000)
            got = answer(connection)
        assert got.startswith(b"HTTP/1.1 429 ")
        assert b"connection: close" in got

    def test_who_asks_first_whether_to_send(self, port: int) -> None:
        with connected(port) as connection:
            connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n")
            got = answer(connection)
        assert got.startswith(b"HTTP/1.1 429 ")
        assert b"connection: close" in got

    def test_a_slow_body_is_cut_off_after_the_answer(self, port: int) -> None:
        with connected(port) as connection:
            connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\nx")
            began = time.monotonic()
            got = answer(connection)
            assert time.monotonic() - began < 10
        assert got.startswith(b"HTTP/1.1 429 ")
        assert b"408" not in got


def test_an_answer_under_way_is_not_refused_in_between(port: int, application: Application) -> None:
    """A pipelined request waits for its turn, whatever it will be told."""
    with connected(port) as connection:
        connection.sendall(b"POST /much/30 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        wait_for(lambda: application.asked == 1)
        application.busy = True
        connection.sendall(HEAD + b"Content-Length: 3\r\nConnection: close\r\n\r\nabc")
        got = answer(connection)
    assert got.index(b"0\r\n\r\n") < got.rindex(b"HTTP/1.1 ")
    assert got.count(b"HTTP/1.1 ") == 2
