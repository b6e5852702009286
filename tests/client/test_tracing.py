"""Traces: one span per request for whoever asks by the OTEL_ variables, joined with the caller's and with Triton's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from client.rest import Settings, create_app
from tests.support.collector import Collector, collecting
from tests.support.recorder import recording
from tests.support.service import ROOT, free_ports
from tests.support.shim import program, running

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=1"}
BODY = {"texts": ["one", "two"]}
SERVER = 2


def variables(collector: Collector) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}


def test_a_span_of_the_callers_trace_goes_on_to_triton(tmp_path: Path) -> None:
    with (
        recording() as triton,
        collecting() as collector,
        program(tmp_path, "--triton-url", triton.url, **variables(collector)) as shim,
    ):
        httpx.post(f"{shim.url}/embedding", json=BODY, headers={**PARENT, "X-Request-ID": "mine", "baggage": "a=b"})
        (span,) = collector.wait_for(1, name="POST /embedding")
        (line,) = shim.wait_for_lines(1, message="POST /embedding 200")
    assert (span.service, span.kind, span.failed) == ("embedding-rest", SERVER, False)
    assert (span.trace_id, span.parent_id) == (TRACE, CALLER)
    attributes = span.attributes
    assert attributes.pop("embedding.triton_ms") > 0
    expected = {
        "http.request.method": "POST",
        "http.route": "/embedding",
        "http.response.status_code": 200,
        "url.path": "/embedding",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "embedding.request_id": "mine",
        "embedding.texts": 2,
        "embedding.tokens": 6,
        "embedding.cache_hits": 0,
    }
    assert {name: attributes[name] for name in expected} == expected
    assert (line["trace"], line["span"]) == ({"id": TRACE}, {"id": span.span_id})
    (sent,) = triton.metadata
    assert (sent["traceparent"], sent["tracestate"]) == (f"00-{TRACE}-{span.span_id}-01", "vendor=1")
    assert "baggage" not in sent
    assert triton.ids == ["mine"]


def test_a_big_request_is_one_span(tmp_path: Path) -> None:
    with (
        recording() as triton,
        collecting() as collector,
        program(tmp_path, "--triton-url", triton.url, **variables(collector)) as shim,
    ):
        httpx.post(f"{shim.url}/embedding", json={"texts": [f"text {n}" for n in range(100)]})
        (span,) = collector.wait_for(1)
    assert span.parent_id == ""
    assert len(triton.metadata) >= 4
    assert {sent["traceparent"] for sent in triton.metadata} == {
        f"00-{span.trace_id}-{span.span_id}-03"
    }  # sampled, random


def test_failures(tmp_path: Path) -> None:
    nobody = ("--triton-url", f"grpc://127.0.0.1:{free_ports(1)[0]}", "--patience-s", "0")
    with collecting() as collector, program(tmp_path, *nobody, **variables(collector)) as shim:
        httpx.post(f"{shim.url}/embedding", json={"texts": []})
        httpx.post(f"{shim.url}/embedding", json=BODY)
        mistake, lost = collector.wait_for(2)
    assert (mistake.failed, mistake.attributes["error.type"]) == (False, "invalid_input")
    assert (lost.failed, lost.attributes["http.response.status_code"]) == (True, 503)
    # The words of errors are for the log.
    assert "cannot reach" not in str(collector.spans)


def test_probes_make_no_spans(tmp_path: Path) -> None:
    with (
        recording() as triton,
        collecting() as collector,
        program(tmp_path, "--triton-url", triton.url, **variables(collector)) as shim,
    ):
        for path in ("/health/live", "/health/ready", "/metrics", "/docs"):
            httpx.get(shim.url + path)
        collector.wait_for(1)
    assert len(collector.spans) == 1


def test_the_callers_sampling_is_followed(tmp_path: Path) -> None:
    with (
        recording() as triton,
        collecting() as collector,
        program(tmp_path, "--triton-url", triton.url, **variables(collector)) as shim,
    ):
        httpx.post(f"{shim.url}/embedding", json=BODY, headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
        httpx.post(f"{shim.url}/embedding", json=BODY)
        (span,) = collector.wait_for(1)
    assert len(collector.spans) == 1
    assert span.trace_id != TRACE
    unsampled, sampled = triton.metadata
    # Triton would trace it.
    assert "traceparent" not in unsampled
    assert sampled["traceparent"].startswith(f"00-{span.trace_id}-")


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {"OTEL_SERVICE_NAME": "mine"},
        {"OTEL_RESOURCE_ATTRIBUTES": "service.name=mine"},
    ],
    ids=str,
)
def test_the_service_has_the_name_it_is_given(tmp_path: Path, more: dict[str, str]) -> None:
    with collecting() as collector, program(tmp_path, **variables(collector), **more) as shim:
        httpx.get(f"{shim.url}/docs")
        (span,) = collector.wait_for(1)
    assert span.service == "mine"


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [{"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}],
    ids=str,
)
def test_off_the_callers_context_is_passed_on_as_it_is(tmp_path: Path, more: dict[str, str]) -> None:
    with (
        recording() as triton,
        collecting() as collector,
        program(tmp_path, "--triton-url", triton.url, **{**variables(collector), **more}) as shim,
    ):
        httpx.post(f"{shim.url}/embedding", json=BODY, headers=PARENT)
        (line,) = shim.wait_for_lines(1, message="POST /embedding 200")
    assert collector.spans == []
    (sent,) = triton.metadata
    assert {name: sent[name] for name in PARENT} == PARENT
    assert line["trace"] == {"id": TRACE}
    assert "span" not in line


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": "nonsense"},
        {"traceparent": f"00-{'0' * 32}-{CALLER}-01"},
        {"traceparent": f"00-{TRACE}-{'0' * 16}-01"},
        {"traceparent": f"00-{TRACE}-{CALLER}-01-"},
        {"traceparent": f"00-{TRACE.upper()}-{CALLER}-01"},
        {"tracestate": "vendor=1"},
        {"traceparent": "ä".encode()},
    ],
    ids=str,
)
def test_a_context_that_is_none_is_left_aside(headers: dict[str, str | bytes]) -> None:
    with recording() as triton, running(create_app(Settings(triton_url=triton.url))) as url:
        assert httpx.post(f"{url}/embedding", json=BODY, headers=headers).status_code == 200
    assert not {"traceparent", "tracestate"} & set(triton.metadata[0])


def test_a_state_that_gRPC_would_refuse_is_left_aside() -> None:
    with recording() as triton, running(create_app(Settings(triton_url=triton.url))) as url:
        headers = {"traceparent": PARENT["traceparent"], "tracestate": "ä".encode()}
        assert httpx.post(f"{url}/embedding", json=BODY, headers=headers).status_code == 200
    assert triton.metadata[0]["traceparent"] == PARENT["traceparent"]
    assert "tracestate" not in triton.metadata[0]


def test_off_nothing_of_it_is_loaded() -> None:
    code = """
import sys
from client.rest import Settings, create_app
create_app(Settings())
assert "client.rest.tracing" in sys.modules
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"PATH": "/usr/bin"}, check=True)


@pytest.mark.slow
def test_an_unreachable_collector_stops_nobody(tmp_path: Path) -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_ports(1)[0]}",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with recording() as triton, program(tmp_path, "--triton-url", triton.url, **variables) as shim:
        for _ in range(50):
            assert httpx.post(f"{shim.url}/embedding", json=BODY, timeout=5).status_code == 200


def test_off_a_context_that_is_not_sampled_is_for_the_log_only(tmp_path: Path) -> None:
    with recording() as triton, program(tmp_path, "--triton-url", triton.url) as shim:
        httpx.post(f"{shim.url}/embedding", json=BODY, headers={"traceparent": f"00-{TRACE}-{CALLER}-00"})
        (line,) = shim.wait_for_lines(1, message="POST /embedding 200")
    assert line["trace"] == {"id": TRACE}
    assert "traceparent" not in triton.metadata[0]
