"""The comparison of an answer's forms runs against the service, and does not count what failed."""

from __future__ import annotations

import pytest

from benchmarks import answers
from benchmarks.errors import BenchmarkError
from tests.support.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.triton]


def test_a_row_for_each_form(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert answers.main(["--url", service.rest_url, "--rounds", "3"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == [
        "application/json",
        "application/octet-stream",
        "application/x-npy",
    ]
    assert rows[1].split("|")[2].strip() == f"{32 * 384 * 4:,}"


def test_another_server_is_none(service: Service) -> None:
    with pytest.raises(BenchmarkError, match="wanted status 200, got 404"):
        answers.main(["--url", service.http_url, "--rounds", "3"])
