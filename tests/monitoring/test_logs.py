"""Logs: real lines of the shim, of Triton and of the supervisor, through the shipped pipeline into fields that fit."""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from estceque import validate_ingest_pipeline_processors

from tests.support.ingest import TEMPLATE, Document, compile_grok, field_types, flat, holds, run
from tests.support.prometheus import wait_for
from tests.support.service import ROOT, serving
from tests.support.triton import infer

MONITORING = ROOT / "monitoring"
PIPELINE: dict[str, Any] = json.loads((MONITORING / "elasticsearch" / "ingest-pipeline.json").read_text())
SECRET = "a text that nobody may read in a log"


def parsed(line: str) -> dict[str, Any]:
    """The fields of a line, read by Filebeat at a given time from a given place."""
    read = {
        "@timestamp": "2026-01-31T12:00:09.000Z",
        "message": line,
        "log": {"offset": 7},
        "ecs": {"version": "8.0.0"},
    }
    return dict(flat(run(PIPELINE, read)))


@pytest.fixture(scope="module")
def lines(model_repository: Path) -> Iterator[list[str]]:
    """What a real service prints from its start to its end, with good and bad requests to both of its doors."""
    with serving(model_repository, "--triton-log", "all") as service, httpx.Client(trust_env=False) as http:
        direct = f"{service.http_url}/v2/models/embedding/infer"
        http.post(
            f"{service.rest_url}/embedding",
            json={"texts": [SECRET, f"{SECRET}, too"]},
            headers={"X-Request-ID": "rest-1"},
        )
        http.post(f"{service.rest_url}/embedding", json={"texts": SECRET}, headers={"X-Request-ID": "rest-2"})
        http.post(direct, json={"id": "direct-1", **infer(SECRET)})
        http.post(direct, json={"id": 'odd "id"\n; id=2', **infer(SECRET, 100_000)})
        log = service.log
        wait_for(lambda: "odd " in log.read_text() and "rest-2" in log.read_text(), 30, log.read_text)
        yield log.read_text().splitlines()


@pytest.mark.triton
def test_every_line_of_a_real_service_is_understood(lines: list[str]) -> None:
    documents = [parsed(line) for line in lines]
    assert [document["message"] for document in documents if "tags" in document] == []
    for document in documents:
        assert document["log.level"] in {"debug", "info", "warning", "error", "critical"}
        assert document["event.kind"] == "event"
    services = {document["service.name"] for document in documents}
    assert services == {"embedding-rest", "embedding-triton", "embedding-supervisor"}


@pytest.mark.triton
def test_every_field_has_the_type_that_the_index_gives_it(lines: list[str]) -> None:
    types = dict(field_types(TEMPLATE["template"]["mappings"]["properties"]))
    filebeat = {"log.offset"}
    for line in lines:
        for name, value in parsed(line).items():
            assert name in types or name in filebeat, f"{name}={value!r} is not in the index template"
            if name in types:
                assert fits(value, types[name]), f"{name}: wanted {types[name]}, got {value!r}"


@pytest.mark.triton
def test_a_request_to_the_shim(lines: list[str]) -> None:
    answered = of_request(lines, "rest-1", "embedding-rest")
    assert answered["event.action"] == "answered"
    assert answered["event.outcome"] == "success"
    assert answered["http.request.method"] == "POST"
    assert answered["url.path"] == "/embedding"
    assert answered["http.response.status_code"] == 200
    assert answered["client.ip"] == "127.0.0.1"
    assert answered["embedding.texts"] == 2
    assert answered["event.duration"] > 1e6
    assert answered["@timestamp"] != "2026-01-31T12:00:09.000Z"
    refused = of_request(lines, "rest-2", "embedding-rest")
    assert refused["event.outcome"] == "failure"
    assert refused["http.response.status_code"] == 422
    assert refused["error.type"] == "invalid_input"


@pytest.mark.triton
def test_requests_to_triton_itself(lines: list[str]) -> None:
    called = of_request(lines, "direct-1", "embedding-triton")
    assert (called["event.action"], called["embedding.texts"]) == ("tokenized", 1)
    assert called["embedding.tokens"] > 5
    refused = of_request(lines, 'odd "id"\n; id=2', "embedding-triton")
    assert (refused["event.action"], refused["event.outcome"]) == ("refused", "failure")
    assert refused["error.message"] == "MAX_LENGTH[0]: wanted 2 to 512 tokens, got 100000"
    assert refused["log.level"] == "warning"


@pytest.mark.triton
def test_a_request_to_the_shim_is_found_in_triton_by_its_id(lines: list[str]) -> None:
    assert of_request(lines, "rest-1", "embedding-triton")["embedding.texts"] == 2


@pytest.mark.triton
def test_no_text_is_in_any_line(lines: list[str]) -> None:
    assert [line for line in lines if SECRET in line] == []


def of_request(lines: list[str], identity: str, service: str) -> dict[str, Any]:
    """The one line of a process about a request."""
    documents = [parsed(line) for line in lines]
    (found,) = [
        document
        for document in documents
        if document.get("http.request.id") == identity and document["service.name"] == service
    ]
    return found


# Lines that a healthy start does not print, as Triton 2.51 and the supervisor wrote them on some bad day.
@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (
            '2026-11-25T01:44:10Z W 4711 pinned_memory_manager.cc:170] "failed to allocate: no pool"',
            {"log.level": "warning", "message": "failed to allocate: no pool", "log.origin.file.line": 170},
        ),
        (
            r'2026-11-25T01:44:10Z E 4711 model_lifecycle.cc:642] "failed to load \'bert\': a\n\"quoted\"\ttab"',
            {"log.level": "error", "process.pid": 4711, "@timestamp": "2026-11-25T01:44:10.000Z"},
        ),
        ("2026-11-25T01:44:10Z I 4711 server.cc:604]", {"log.level": "info", "message": ""}),
        ("2026-11-25T01:44:10Z E 1 a.cc:1] not quoted", {"message": "not quoted"}),
        (
            "serve: a process of a Triton step is dead: starting it anew",
            {"log.level": "warning", "event.action": "restart", "service.name": "embedding-supervisor"},
        ),
        ("serve: Triton ended while it started (exit code 1); the end of its log:", {"log.level": "error"}),
        ("error: creating server: Internal - failed to load all models", {"tags": ["unparsed"]}),
        ("Traceback (most recent call last):", {"tags": ["unparsed"]}),
        ("2026-01-31 12:00:00,000 INFO embedding.request: POST /embedding 200  ms=3", {"tags": ["unparsed"]}),
    ],
)
def test_lines_of_bad_days(line: str, fields: dict[str, Any]) -> None:
    document = parsed(line)
    assert {name: document.get(name) for name in fields} == fields
    if "tags" in fields:
        assert document["message"] == line


def test_escapes_are_undone() -> None:
    assert parsed(r'2026-11-25T01:44:10Z E 1 a.cc:1] "one\ntwo \"three\""')["message"] == 'one\ntwo "three"'


def test_half_a_json_line_is_kept_and_marked() -> None:
    document = parsed('{"message": "cut o')
    assert document["tags"] == ["pipeline-failure"]
    assert document["message"] == '{"message": "cut o'
    assert document["error.message"].startswith("ingest pipeline: json: ")


def test_a_pipeline_that_reads_other_lines_is_noticed() -> None:
    broken = json.loads(json.dumps(PIPELINE).replace("T[0-9]{2}:[0-9]{2}", "t[0-9]{2}:[0-9]{2}"))
    line = '2026-11-25T01:44:10Z W 1 a.cc:1] "words"'
    assert "tags" not in parsed(line)
    assert run(broken, {"message": line})["tags"] == ["unparsed"]


def test_elasticsearch_knows_every_processor_and_option() -> None:
    """By the schemas of another project, estceque."""
    validate_ingest_pipeline_processors(PIPELINE["processors"])
    validate_ingest_pipeline_processors(PIPELINE["on_failure"])


@pytest.mark.parametrize(
    "processor",
    [
        {"grok": {"field": "message", "pattern": ["x"]}},
        {"json": {"field": "message", "add_to_root_conflict_strategy": "mix"}},
        {"grokk": {"field": "message", "patterns": ["x"]}},
    ],
)
def test_an_unknown_processor_or_option_is_noticed(processor: Document) -> None:
    with pytest.raises(ValueError, match="validation error"):
        validate_ingest_pipeline_processors([processor])


@pytest.mark.parametrize("processor", [{"grok": {"field": "message"}}, {"uppercase": {"field": "message"}}])
def test_a_processor_that_the_stand_in_does_not_know_is_refused(processor: Document) -> None:
    with pytest.raises((AssertionError, KeyError)):
        run({"processors": [processor], "on_failure": []}, {"message": "x"})


@pytest.mark.parametrize("condition", ["ctx.message.length() > 3", "ctx.a == 1", "ctx.a != null || true"])
def test_a_condition_that_the_stand_in_cannot_read_is_refused(condition: str) -> None:
    with pytest.raises(AssertionError, match="not one of the known forms"):
        holds(condition, {"message": "x", "a": "1"})


@pytest.mark.parametrize("pattern", ["(?i)%{A:b}", r"%{A:b}\d", "^%{A:b}", "%{A:b}$ x", "%{WORD:b}"])
def test_a_pattern_that_the_two_engines_may_read_differently_is_refused(pattern: str) -> None:
    with pytest.raises(AssertionError):
        compile_grok(pattern, {"A": ".*"})


def fits(value: Any, kind: str) -> bool:
    """Whether Elasticsearch would take the value without bending it."""
    match kind:
        case "keyword" | "match_only_text" | "wildcard":
            return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))
        case "long":
            return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        case "float":
            return isinstance(value, int | float)
        case "date":
            return bool(datetime.datetime.fromisoformat(value))
        case "ip":
            return bool(ipaddress.ip_address(value))
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("value", "kind"), [("1", "long"), (1.5, "long"), (2**63, "long"), (1, "keyword"), ("1", "float"), (True, "long")]
)
def test_a_value_that_does_not_fit_is_noticed(value: object, kind: str) -> None:
    assert not fits(value, kind)


def test_the_template_names_the_stream_that_filebeat_writes_to() -> None:
    filebeat = (MONITORING / "filebeat" / "filebeat.yml").read_text()
    (pattern,) = TEMPLATE["index_patterns"]
    found = re.search(r"^  index: (\S+)$", filebeat, re.MULTILINE)
    assert found is not None
    assert re.fullmatch(pattern.replace("*", ".+"), found[1])
    assert "data_stream" in TEMPLATE
