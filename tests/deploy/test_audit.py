"""The audit finds what the database knows, and is not silent where it cannot ask."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy import audit
from tests.support.service import free_ports

pytestmark = pytest.mark.slow


class _Database(BaseHTTPRequestHandler):
    """OSV's query, version 1: knows of one vulnerability, in orjson."""

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known: dict[str, Any] = {}
        if query["package"]["name"] == "orjson":
            ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}]
            affected = [{"package": {"name": "orjson", "ecosystem": "PyPI"}, "ranges": ranges}]
            known = {"vulns": [{"id": "PYSEC-2026-1", "summary": "s", "details": "d", "affected": affected}]}
        body = json.dumps(known).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def database() -> Iterator[str]:
    """The address of a database on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Database) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()
        thread.join()


def test_a_known_vulnerability_is_a_finding(project: Path, database: str) -> None:
    findings = audit.check(project, database)
    assert len(findings) == 2, findings  # the shim's lock and the bulk job's
    for finding in findings:
        assert "orjson" in finding
        assert "PYSEC-2026-1, fixed in 99.0" in finding


def test_a_database_that_is_away_is_told_and_is_no_finding(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (port,) = free_ports(1)
    assert audit.check(project, f"http://127.0.0.1:{port}/v1/query") == []
    assert "NOT DONE" in capsys.readouterr().err


def test_what_cannot_be_audited_is_a_finding(project: Path, database: str) -> None:
    (project / "docker" / "requirements" / "rest.txt").write_text("orjson\n")
    assert any("rest.txt: wanted an audit" in finding for finding in audit.check(project, database))
