"""What brings logs to Elasticsearch and Kibana: the set-up script, Kibana's objects, Filebeat's file; as far as can be
seen without them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

from tests.support.ingest import TEMPLATE, field_types
from tests.support.service import ROOT

MONITORING = ROOT / "monitoring"
OBJECTS: list[dict[str, Any]] = [
    json.loads(line) for line in (MONITORING / "kibana" / "embedding.ndjson").read_text().splitlines()
]
FIELDS = {name for name, _ in field_types(TEMPLATE["template"]["mappings"]["properties"])}


@dataclass
class Recorded:
    """A server that writes down what it is sent, and answers as it is told: first `absent` times with 503."""

    url: str = ""
    absent: int = 0
    answer: tuple[int, str] = (200, '{"success":true}')
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    state = Recorded()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, text = (503, "{}") if state.absent else (200, "{}") if self.command == "GET" else state.answer
            state.absent = max(0, state.absent - 1)
            if status != 503:
                state.requests.append((self.command, self.path, dict(self.headers), body))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_PUT = do_POST = handle_any

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        yield state
        server.shutdown()
        thread.join()


def set_up(url: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ELASTICSEARCH_URL": url, "KIBANA_URL": url, "WAIT_S": "10", **variables}
    script = MONITORING / "elasticsearch" / "setup.sh"
    return subprocess.run(["sh", script], env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_set_up_sends_the_three_files_where_they_belong(recorded: Recorded) -> None:
    recorded.absent = 2  # Elasticsearch is not there yet
    done = set_up(recorded.url, ELASTICSEARCH_USERNAME="elastic", ELASTICSEARCH_PASSWORD='pass"word')
    assert done.returncode == 0, done.stderr
    sent = {path: (method, headers, body) for method, path, headers, body in recorded.requests if method != "GET"}
    assert list(sent) == [
        "/_ingest/pipeline/embedding-logs",
        "/_index_template/embedding-logs",
        "/api/saved_objects/_import?overwrite=true",
    ]
    for path, name in list(zip(sent, ("ingest-pipeline", "index-template"), strict=False)):
        assert sent[path][0] == "PUT"
        assert sent[path][2] == (MONITORING / "elasticsearch" / f"{name}.json").read_bytes()
    method, headers, body = sent["/api/saved_objects/_import?overwrite=true"]
    assert method == "POST"
    assert headers["kbn-xsrf"]
    assert (MONITORING / "kibana" / "embedding.ndjson").read_bytes() in body
    assert all(headers["Authorization"] == "Basic ZWxhc3RpYzpwYXNzIndvcmQ=" for _, headers, _ in sent.values())
    assert "pass" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "answer",
    [(400, '{"error": "no such processor"}'), (200, '{"success":false}')],
    ids=["Elasticsearch refuses", "Kibana refuses an object"],
)
def test_set_up_fails_when_something_is_refused(recorded: Recorded, answer: tuple[int, str]) -> None:
    recorded.answer = answer
    done = set_up(recorded.url)
    assert done.returncode != 0
    assert answer[1] in done.stdout + done.stderr


def test_set_up_says_who_did_not_answer() -> None:
    done = set_up("http://127.0.0.1:9", WAIT_S="1")
    assert done.returncode == 1
    assert "wanted an answer of http://127.0.0.1:9/_cluster/health within 1 s, got none" in done.stderr


def test_kibana_is_optional(recorded: Recorded) -> None:
    assert set_up(recorded.url, KIBANA_URL="").returncode == 0
    assert not [path for _, path, _, _ in recorded.requests if path.startswith("/api/")]


def test_every_reference_of_kibanas_objects_is_there() -> None:
    there = {(each["type"], each["id"]) for each in OBJECTS}
    assert len(there) == len(OBJECTS)
    for each in OBJECTS:
        for reference in each["references"]:
            assert (reference["type"], reference["id"]) in there, f"{each['id']}: {reference}"


def test_every_panel_of_the_dashboard_shows_something() -> None:
    (dashboard,) = [each for each in OBJECTS if each["type"] == "dashboard"]
    panels = json.loads(dashboard["attributes"]["panelsJSON"])
    named = {reference["name"] for reference in dashboard["references"]}
    assert {f"{panel['panelIndex']}:{panel['panelRefName']}" for panel in panels} == named
    shown = {reference["id"] for reference in dashboard["references"]}
    assert shown == {each["id"] for each in OBJECTS if each["type"] in {"visualization", "search"}}


@pytest.mark.parametrize("saved", OBJECTS, ids=lambda saved: saved["id"])
def test_kibanas_objects_use_only_fields_of_the_index(saved: dict[str, Any]) -> None:
    used = fields_used(saved)
    assert used <= FIELDS, used - FIELDS


def test_a_field_that_the_index_lacks_is_noticed() -> None:
    search = {"type": "search", "attributes": {"columns": ["http.status"], "kibanaSavedObjectMeta": META}}
    assert fields_used(search) - FIELDS == {"http.status", "error.kind"}


META = {"searchSourceJSON": json.dumps({"query": {"query": 'error.kind: "x"', "language": "kuery"}})}


def fields_used(saved: dict[str, Any]) -> set[str]:
    """The fields that a saved object asks for: its columns, its aggregations, its query."""
    attributes = saved["attributes"]
    used = set(attributes.get("columns", []))
    used |= {attributes["timeFieldName"]} if "timeFieldName" in attributes else set()
    used |= set(json.loads(attributes.get("fieldFormatMap", "{}")))
    for aggregation in json.loads(attributes.get("visState", '{"aggs": []}'))["aggs"]:
        used |= {aggregation["params"]["field"]} if "field" in aggregation["params"] else set()
    source = json.loads(attributes.get("kibanaSavedObjectMeta", {}).get("searchSourceJSON", "{}"))
    used |= set(re.findall(r"([\w.@]+):", source.get("query", {}).get("query", "")))
    return used


def test_filebeat_ships_lines_as_they_are_through_the_pipeline_that_set_up_brings() -> None:
    config = yaml.safe_load((MONITORING / "filebeat" / "filebeat.yml").read_text())
    (source,) = config["filebeat.inputs"]
    assert source["type"] == "filestream"
    assert source["id"]  # without one Filebeat reads files twice
    assert [list(parser) for parser in source["parsers"]] == [["container"]]
    output = config["output.elasticsearch"]
    script = (MONITORING / "elasticsearch" / "setup.sh").read_text()
    assert f"put _ingest/pipeline/{output['pipeline']} " in script
    assert config["setup.template.enabled"] is False
    # Without these two Filebeat takes a stream of its own name.
    assert config["setup.ilm.enabled"] is False
    assert output["index"].startswith("logs-embedding-")
