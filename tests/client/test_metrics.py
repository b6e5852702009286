"""The shim's metrics: that they count what happened, and that no caller can make their number grow."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from client import __version__
from client.rest import Settings, create_app
from client.rest.connection import connection_class
from tests.support.recorder import Recorder, recording
from tests.support.service import Service, free_ports
from tests.support.shim import running

# The contract with monitoring/: the name, its kind and its labels.
CONTRACT = {
    "embedding_requests": ("counter", {"route", "method", "status"}),
    "embedding_request_duration_seconds": ("histogram", {"route"}),
    "embedding_triton_duration_seconds": ("histogram", set()),
    "embedding_texts": ("counter", {"route"}),
    "embedding_tokens": ("counter", {"route"}),
    "embedding_texts_per_request": ("histogram", set()),
    "embedding_requests_in_flight": ("gauge", set()),
    "embedding_texts_in_flight": ("gauge", set()),
    "embedding_texts_waiting": ("gauge", set()),
    "embedding_rejected": ("counter", {"reason"}),
    "embedding_upstream_errors": ("counter", {"type"}),
    "embedding_cache_hits": ("counter", set()),
    "embedding_cache_misses": ("counter", set()),
    "embedding_cache_bytes": ("gauge", set()),
    "embedding_cache_entries": ("gauge", set()),
    "embedding_build_info": ("gauge", {"version"}),
    "embedding_model_info": ("gauge", {"model", "digest", "precision", "graph"}),
}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Shim:
    """A shim of its own, so that nobody else counts in it."""

    def __init__(self, http: httpx.Client, recorder: Recorder) -> None:
        self.http = http
        self.recorder = recorder

    def value(self, name: str, **labels: str) -> float:
        """0 for one that is not there, as Prometheus sees it."""
        return self.samples().get((name, tuple(sorted(labels.items()))), 0.0)

    def samples(self) -> Samples:
        return read(self.http.get("/metrics"))


def read(answer: httpx.Response) -> Samples:
    assert answer.status_code == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.fixture
def shim() -> Iterator[Shim]:
    with recording() as recorder:
        settings = Settings(
            triton_url=recorder.url,
            max_texts=100,
            max_text_characters=50,
            most_texts_in_flight=16,
            burst_requests=2,
            max_wait_s=0.001,
        )
        app = create_app(settings)
        with (
            running(app, http=connection_class(app.state.watch)) as url,
            httpx.Client(base_url=url, timeout=60) as http,
        ):
            yield Shim(http, recorder)


def test_the_contract_of_names(shim: Shim) -> None:
    shim.http.post("/embedding", json={"texts": ["a"]})
    families = {each.name: each for each in text_string_to_metric_families(shim.http.get("/metrics").text)}
    for name, (kind, labels) in CONTRACT.items():
        assert families[name].type == kind, name
        found = {label for sample in families[name].samples for label in sample.labels} - {"le"}
        assert found == labels, name
    ours = {name for name in families if not name.startswith("process_")}
    assert ours == set(CONTRACT)
    assert "process_resident_memory_bytes" in families
    assert all(each.documentation for each in families.values())


def test_requests_texts_and_tokens(shim: Shim) -> None:
    for count in (1, 2, 40):
        assert shim.http.post("/embedding", json={"texts": ["text"] * count}).status_code == 200
    assert shim.value("embedding_requests_total", route="/embedding", method="POST", status="200") == 3
    assert shim.value("embedding_texts_total", route="/embedding") == 43
    assert shim.value("embedding_tokens_total", route="/embedding") == 3 * 43
    assert shim.value("embedding_texts_per_request_count") == 3
    assert shim.value("embedding_texts_per_request_bucket", le="2.0") == 2
    assert shim.value("embedding_triton_duration_seconds_count") == 3
    assert shim.value("embedding_request_duration_seconds_count", route="/embedding") == 3
    total = shim.value("embedding_request_duration_seconds_sum", route="/embedding")
    assert 0 < shim.value("embedding_triton_duration_seconds_sum") < total


def test_what_is_turned_away_by_reason(shim: Shim) -> None:
    json = {"Content-Type": "application/json"}
    shim.http.post("/embedding", content=b"{", headers=json)
    shim.http.post("/embedding", content=b"{}", headers=json)
    shim.http.post("/embedding", content=b"a=b")
    shim.http.post("/embedding", json={"texts": ["a"] * 101})
    shim.http.post("/embedding", json={"texts": ["a" * 51]})
    shim.http.post("/embedding", content=b"a" * 40_000_000, headers=json)
    wanted = {"not_json": 1, "invalid_input": 3, "wrong_content_type": 1, "body_too_large": 1}
    for reason, count in wanted.items():
        assert shim.value("embedding_rejected_total", reason=reason) == count
    assert shim.value("embedding_texts_total", route="/embedding") == 0
    assert shim.value("embedding_texts_per_request_count") == 0


def test_a_lost_triton_is_an_upstream_error(shim: Shim) -> None:
    app = create_app(Settings(triton_url=f"grpc://127.0.0.1:{free_ports(1)[0]}", patience_s=0))
    with running(app) as url, httpx.Client(base_url=url) as http:
        assert http.post("/embedding", json={"texts": ["a"]}).status_code == 503
        began = time.monotonic()
        samples = read(http.get("/metrics"))
        assert time.monotonic() - began < 3, "a scrape waits for a lost Triton"
    assert samples["embedding_upstream_errors_total", (("type", "unavailable"),)] == 1
    assert not [name for name, _ in samples if name == "embedding_model_info"]


def test_what_is_in_flight_and_what_waits(shim: Shim) -> None:
    shim.http.post("/embedding", json={"texts": ["a"]})  # connected
    shim.recorder.answers.clear()
    bodies = [["text"] * 100, ["text"] * 5]
    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(shim.http.post, "/embedding", json={"texts": texts}) for texts in bodies]
        deadline = time.monotonic() + 20
        # 16 may be at Triton at a time: two pieces of 8 of the one, or the other and one or two of its pieces.
        while shim.value("embedding_texts_in_flight") < 13:
            assert time.monotonic() < deadline, shim.samples()
            time.sleep(0.02)
        assert shim.value("embedding_texts_in_flight") + shim.value("embedding_texts_waiting") == 105
        assert shim.value("embedding_requests_in_flight") == 2
        shim.recorder.answers.set()
        assert [answer.result().status_code for answer in answers] == [200, 200]
    wait_for_nothing(shim)


def test_what_is_refused_before_its_body_is_read_counts_too(shim: Shim) -> None:
    shim.http.post("/embedding", json={"texts": ["a"]})
    shim.recorder.answers.clear()
    with ThreadPoolExecutor(4) as threads:
        # Two go to Triton, and two wait.
        answers = [threads.submit(shim.http.post, "/embedding", json={"texts": ["a"] * 8}) for _ in range(4)]
        deadline = time.monotonic() + 20
        while shim.value("embedding_texts_in_flight") + shim.value("embedding_texts_waiting") < 32:
            assert time.monotonic() < deadline, shim.samples()
            time.sleep(0.02)
        for path in ("/embedding", "/v1/embeddings"):
            answer = shim.http.post(path, json={})  # wrong, but nobody reads it
            assert answer.status_code == 429
            assert "server-timing" not in answer.headers
            assert shim.value("embedding_requests_total", route=path, method="POST", status="429") == 1
        assert shim.value("embedding_rejected_total", reason="overloaded") == 2
        shim.recorder.answers.set()
        assert [answer.result().status_code for answer in answers] == [200] * 4


def test_who_hangs_up_leaves_nothing_behind(shim: Shim) -> None:
    shim.http.post("/embedding", json={"texts": ["a"]})
    shim.recorder.answers.clear()
    with pytest.raises(httpx.ReadTimeout):
        shim.http.post("/embedding", json={"texts": ["text"] * 100}, timeout=0.5)
    wait_for_nothing(shim)
    shim.recorder.answers.set()
    assert shim.value("embedding_requests_total", route="/embedding", method="POST", status="499") == 1
    assert not [
        labels for name, labels in shim.samples() if name == "embedding_rejected_total" and "disc" in str(labels)
    ]


def wait_for_nothing(shim: Shim) -> None:
    names = ("embedding_texts_in_flight", "embedding_texts_waiting", "embedding_requests_in_flight")
    deadline = time.monotonic() + 20
    while any(shim.value(name) for name in names):
        assert time.monotonic() < deadline, shim.samples()
        time.sleep(0.02)


def test_no_caller_can_make_series(shim: Shim) -> None:
    shim.http.get("/nowhere")
    shim.http.request("MKCOL", "/embedding")
    before = set(shim.samples())
    for number in range(50):
        shim.http.get(f"/nowhere/{number}?x={number}")
        shim.http.request(("PROPFIND", "LOCK", "REPORT")[number % 3], "/embedding")
        shim.http.post("/embedding", json={"texts": [f"text {number}"] * 0, f"field{number}": number})
    new = set(shim.samples()) - before
    assert {name for name, _ in new} <= {
        "embedding_requests_total",
        "embedding_rejected_total",
        "embedding_request_duration_seconds_bucket",
        "embedding_request_duration_seconds_count",
        "embedding_request_duration_seconds_sum",
    }
    # What is new is of the one route that was not asked before, and of the scrape itself.
    assert {dict(labels).get("route") for _, labels in new} <= {"/embedding", "/metrics", None}
    assert len(new) < 60
    assert shim.value("embedding_requests_total", route="unknown", method="GET", status="404") == 51
    assert shim.value("embedding_requests_total", route="/embedding", method="other", status="405") == 51


def test_the_model_that_is_served_now() -> None:
    (port,) = free_ports(1)

    def digests(url: str) -> set[str]:
        samples = read(httpx.get(f"{url}/metrics"))
        return {dict(labels)["digest"] for name, labels in samples if name == "embedding_model_info"}

    with running(create_app(Settings(triton_url=f"grpc://127.0.0.1:{port}"))) as url:
        for digest in ("sha256:1", "sha256:2"):
            with recording(port, digest):
                deadline = time.monotonic() + 20
                # Nobody asks for an embedding.
                while digests(url) != {digest}:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)


def test_two_applications_count_apart() -> None:
    with recording() as recorder:
        first, second = (create_app(Settings(triton_url=recorder.url)) for _ in range(2))
        with running(first) as one, running(second) as two:
            httpx.post(f"{one}/embedding", json={"texts": ["a"]})
            key = ("embedding_texts_total", (("route", "/embedding"),))
            assert read(httpx.get(f"{one}/metrics"))[key] == 1
            assert key not in read(httpx.get(f"{two}/metrics"))


def test_the_version(shim: Shim) -> None:
    assert shim.value("embedding_build_info", version=__version__) == 1


def test_scrapes_while_it_works(shim: Shim) -> None:
    """Counters never go back, and no scrape fails."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            shim.http.post("/embedding", json={"texts": ["a", "b"]})

    worker = threading.Thread(target=work)
    worker.start()
    try:
        counts = [shim.value("embedding_texts_total", route="/embedding") for _ in range(30)]
    finally:
        stop.set()
        worker.join()
    assert counts == sorted(counts)
    assert counts[-1] > 0


@pytest.mark.triton
def test_the_running_service_has_them(service: Service) -> None:
    body = {"texts": ["The cat sits outside", "A man"], "max_length": 128}
    before = read(httpx.get(f"{service.rest_url}/metrics"))
    httpx.post(f"{service.rest_url}/embedding", json=body)
    after = read(httpx.get(f"{service.rest_url}/metrics"))
    key = ("embedding_tokens_total", (("route", "/embedding"),))
    assert after[key] - before.get(key, 0) == 6 + 4
    info = httpx.get(f"{service.rest_url}/info").json()
    labels = tuple(sorted({name: info[name] for name in ("model", "digest", "precision", "graph")}.items()))
    assert after["embedding_model_info", labels] == 1
