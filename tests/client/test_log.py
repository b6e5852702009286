"""The shim's log, as the program writes it: a line per request in the Elastic Common Schema, and never a text."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from client.rest.log import _LINES, logging_to
from tests.support.recorder import recording
from tests.support.service import ROOT, free_ports, without_settings
from tests.support.shim import program, wait_until_live

JSON = {"Content-Type": "application/json"}


def test_a_line_per_request_with_the_fields_of_the_schema(tmp_path: Path) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    with recording() as recorder, program(tmp_path, "--triton-url", recorder.url) as shim:
        headers = {"X-Request-ID": "mine", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        began = time.time_ns()
        httpx.post(f"{shim.url}/embedding", json={"texts": ["one", "two"]}, headers=headers)
        took = time.time_ns() - began
        httpx.post(f"{shim.url}/embedding", json={"texts": []})
        httpx.get(f"{shim.url}/nowhere?x=1")
        (good,) = shim.wait_for_lines(1, http__request__id="mine", message="POST /embedding 200")
        (bad,) = shim.wait_for_lines(1, message="POST /embedding 422")
        (lost,) = shim.wait_for_lines(1, message="GET unknown 404")
        others = [line for line in shim.lines() if line["log"]["logger"] != "embedding.request"]
    assert 0 < good["event"].pop("duration") < took
    assert 0 < good["embedding"].pop("triton_ms") * 1e6 < took
    assert good.pop("@timestamp").endswith("Z")
    assert good == {
        "message": "POST /embedding 200",
        "ecs.version": good["ecs.version"],
        "log.level": "info",
        "log": {"logger": "embedding.request"},
        "service": {"name": "embedding-rest", "version": "0.1.0"},
        "http": {"request": {"id": "mine", "method": "POST"}, "response": {"status_code": 200}},
        "url": {"path": "/embedding"},
        "event": {"outcome": "success"},
        "client": {"ip": "127.0.0.1"},
        "trace": {"id": trace},
        "embedding": {"texts": 2, "tokens": 6, "cache_hits": 0},
    }
    assert (bad["event"]["outcome"], bad["error"]) == ("failure", {"type": "invalid_input"})
    assert (lost["url"], lost["error"]["type"]) == ({"path": "unknown"}, "not_found")
    assert {line["log"]["logger"] for line in others} >= {"uvicorn.error", "client.rest.app"}


def test_probes_are_for_debug_only(tmp_path: Path) -> None:
    for level, expected in (("info", set()), ("debug", {"/health/live", "/health/ready", "/metrics"})):
        folder = tmp_path / level
        folder.mkdir()
        with recording() as recorder, program(folder, "--triton-url", recorder.url, "--log-level", level) as shim:
            for path in ("/health/live", "/health/ready", "/metrics", "/docs"):
                assert httpx.get(shim.url + path).status_code == 200
            shim.wait_for_lines(1, url__path="/docs")
            found = {line["url"]["path"] for line in shim.lines() if "url" in line}
        assert found == {"/docs", *expected}


def test_the_level_error_leaves_requests_out(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    with program(tmp_path, "--triton-url", f"grpc://127.0.0.1:{port}", EMBEDDING_REST_LOG_LEVEL="error") as shim:
        assert httpx.post(f"{shim.url}/embedding", json={"texts": []}).status_code == 422
        assert httpx.post(f"{shim.url}/embedding", json={"texts": ["a"]}).status_code == 503
        (line,) = shim.wait_for_lines(1)
    assert line["log.level"] == "error"
    assert line["error"]["type"] == "unavailable"
    # For operators in full, who must find it; the caller was told less.
    assert line["error"]["message"].startswith(f"Unavailable: cannot reach grpc://127.0.0.1:{port}")


BROKEN = """
import sys, uvicorn
from fastapi.responses import StreamingResponse
from client.rest import Settings, create_app
from client.rest.log import logging_to
async def broken(): raise KeyError("the secret text")
async def half(): yield b"the first half"; await broken()
async def breaks(): return StreamingResponse(half())
app = create_app(Settings(triton_url="grpc://127.0.0.1:1"))
app.add_api_route("/broken", broken)
app.add_api_route("/breaks", breaks)
with logging_to(2, "info", sys.argv[2]):
    uvicorn.run(app, port=int(sys.argv[1]), log_config=None, access_log=False)
"""


@contextlib.contextmanager
def broken(folder: Path, form: str) -> Iterator[tuple[str, Path]]:
    """A shim with two routes that have bugs, and its log, which is complete after the block."""
    (port,) = free_ports(1)
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, "-c", BROKEN, str(port), form], cwd=ROOT, stderr=stream)
    try:
        wait_until_live(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}", log
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_bug_is_logged_with_its_frames_and_without_its_words(tmp_path: Path, form: str) -> None:
    """The words of an exception may quote what was sent."""
    with broken(tmp_path, form) as (url, log):
        answer = httpx.get(f"{url}/broken", headers={"X-Request-ID": "the-id"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
    assert "broken" not in answer.text
    text = log.read_text()
    assert "the secret text" not in text
    if form == "json":
        (line,) = [line for line in map(json.loads, text.splitlines()) if line["log.level"] == "error"]
        assert line["message"] == "GET /broken 500"
        assert line["http"]["request"]["id"] == "the-id"
        assert (line["error"]["type"], line["error"]["message"]) == ("server_error", "KeyError")
        assert "in broken\n" in line["error"]["stack_trace"]
    else:
        assert "ERROR embedding.request: GET /broken 500  ms=" in text
        assert "error=server_error because=KeyError id=the-id\n" in text
        assert "in broken\n" in text


def test_an_answer_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    with broken(tmp_path, "json") as (url, log):
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{url}/breaks", headers={"X-Request-ID": "the-id"})
        metrics = httpx.get(f"{url}/metrics").text
    assert 'embedding_upstream_errors_total{type="server_error"} 1.0' in metrics
    text = log.read_text()
    assert "the secret text" not in text
    (line,) = [line for line in map(json.loads, text.splitlines()) if line["message"] == "GET /breaks 200"]
    assert (line["log.level"], line["event"]["outcome"], line["error"]["type"]) == ("error", "failure", "server_error")
    assert "in broken\n" in line["error"]["stack_trace"]


def test_no_text_and_no_key_in_any_line(tmp_path: Path) -> None:
    """Whatever is sent, and at the most talkative level."""
    secret = "zebra-secret"
    bodies = [
        json.dumps({"texts": [secret]}),
        json.dumps({"texts": [secret], "max_length": 1}),
        json.dumps({"texts": [{secret: secret}]}),
        json.dumps({"texts": [1], secret: 1}),
        json.dumps({"texts": secret}),
        json.dumps(secret),
        f'{{"texts": ["{secret}',
        f'{{"texts": ["{secret}\\ud800"]}}',
    ]
    with (
        recording() as recorder,
        program(
            tmp_path,
            "--triton-url",
            recorder.url,
            EMBEDDING_REST_API_KEYS="zebra-key",
            EMBEDDING_REST_LOG_LEVEL="debug",
        ) as shim,
    ):
        for key in ("zebra-key", "zebra-wrong", ""):
            for body in bodies:
                headers = {**JSON, **({"Authorization": f"Bearer {key}"} if key else {})}
                httpx.post(f"{shim.url}/embedding", content=body, headers=headers)
        httpx.get(f"{shim.url}/{secret}?{secret}", headers={"X-Request-ID": "zebra secret", "User-Agent": secret})
        recorder.answers.clear()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{shim.url}/embedding",
                json={"texts": [secret] * 100},
                headers={"Authorization": "Bearer zebra-key"},
                timeout=0.5,
            )
        recorder.answers.set()
        shim.wait_for_lines(1, message="POST /embedding 499")
        shim.wait_for_lines(1, message="GET unknown 404")
    assert "zebra" not in shim.log.read_text()
    assert len([line for line in shim.lines() if line["message"].startswith("POST /embedding ")]) == 25


def test_the_start_tells_who_is_let_in(tmp_path: Path) -> None:
    for variables, level, message in (
        ({}, "warning", "API keys: none configured, so whoever reaches 127.0.0.1:"),
        ({"EMBEDDING_REST_API_KEYS": "a,b"}, "info", "API keys: 2; requests without one of them are refused"),
    ):
        with program(tmp_path, **variables) as shim:
            pass
        (line,) = [line for line in shim.lines() if line["message"].startswith("API keys")]
        assert line["log.level"] == level
        assert line["message"].startswith(message)


def test_a_bad_file_of_keys_ends_the_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "client.rest", "--api-keys-file", str(tmp_path / "none")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=without_settings(os.environ),
        check=False,
    )
    assert done.returncode == 2
    assert "--api-keys-file (or EMBEDDING_REST_API_KEYS_FILE): " in done.stderr
    assert "No such file" in done.stderr


def test_requests_are_answered_while_nobody_reads_the_log(tmp_path: Path) -> None:
    """A pipe holds 64 KiB, some hundred lines; then whoever writes to it waits."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "client.rest", "--port", str(port)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        env=without_settings(os.environ),
    )
    assert process.stderr is not None
    try:
        wait_until_live(url, process)
        with httpx.Client(base_url=url, timeout=10) as http:
            for _ in range(1000):
                assert http.get("/nowhere").status_code == 404
        process.terminate()
        lines: list[bytes] = []
        reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()))
        reader.start()
        assert process.wait(20) == 0
        reader.join()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert sum(b'"GET unknown 404"' in line for line in lines) == 1000


def test_an_end_without_a_reader_does_not_hang(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", "client.rest", "--port", str(port)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        env=without_settings(os.environ),
    )
    assert process.stderr is not None
    try:
        wait_until_live(f"http://127.0.0.1:{port}", process)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
            for _ in range(500):
                http.get("/nowhere")
        process.terminate()
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    logger = logging.getLogger("tests.log")
    count = 3 * _LINES  # a third is with the thread already, another one in the queue
    received = bytearray()
    read_end, write_end = os.pipe()

    def read() -> None:
        while block := os.read(read_end, 1 << 16):
            received.extend(block)

    reader = threading.Thread(target=read, daemon=True)
    try:
        with logging_to(write_end, "info", "json"):
            began = time.monotonic()
            for number in range(count):
                logger.info("line %d", number)
            assert time.monotonic() - began < 10
            reader.start()
            deadline = time.monotonic() + 20
            while received.count(b"\n") < _LINES:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            logger.info("the next")
    finally:
        os.close(write_end)
    reader.join(20)
    os.close(read_end)
    messages = [json.loads(line)["message"] for line in received.decode().splitlines()]
    assert messages[-1] == "the next"
    told = [re.fullmatch(r"(\d+) log lines were dropped: whoever reads them is too slow", line) for line in messages]
    written = [int(line.removeprefix("line ")) for line in messages if line.startswith("line ")]
    assert sum(int(match[1]) for match in told if match) == count - len(written)
    assert written == sorted(written)
    assert written[:_LINES] == list(range(_LINES))
    assert len(written) < count


def test_a_line_that_cannot_be_written_loses_no_other() -> None:
    read_end, write_end = os.pipe()
    with logging_to(write_end, "info", "json"):
        logging.getLogger("tests.log").info("wanted a number: %d", "zebra")
        logging.getLogger("tests.log").info("the next")
    os.close(write_end)
    with os.fdopen(read_end) as stream:
        lost, after = (json.loads(line) for line in stream)
    assert lost["message"] == "a log line could not be formatted: TypeError"
    assert after["message"] == "the next"


def test_no_reader_at_all_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with logging_to(write_end, "info", "text"):
        logging.getLogger("tests.log").info("nobody hears this")
    os.close(write_end)
