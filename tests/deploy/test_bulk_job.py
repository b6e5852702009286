"""The bulk Job: the command of its container, as rendered, embeds a shard, and fails as the Job expects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from tests.deploy.conftest import of_kind
from tests.support.service import ROOT, Service

pytestmark = [pytest.mark.triton, pytest.mark.slow]

Rendered = dict[str, list[dict[str, Any]]]


@pytest.fixture
def job(rendered: Rendered) -> dict[str, Any]:
    return of_kind(rendered["bulk"], "Job", "embedding-bulk")


def run_shard(job: dict[str, Any], index: int, data: Path, service: Service) -> subprocess.CompletedProcess[str]:
    """As the kubelet does, with another volume and another service."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {each["name"] for each in container["env"]} == {"URL", "DATA"}
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "JOB_COMPLETION_INDEX": str(index),
        "URL": service.grpc_url,
        "DATA": str(data),
    }
    command = [*container["command"], *container["args"]]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def data(tmp_path: Path, job: dict[str, Any]) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for index in range(job["spec"]["completions"]):
        rows = [json.dumps({"text": f"text {number} of shard {index}"}) for number in range(5)]
        (tmp_path / "in" / f"part-{index:05}.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_each_index_embeds_its_shard(job: dict[str, Any], data: Path, service: Service) -> None:
    for index in (0, job["spec"]["completions"] - 1):
        done = run_shard(job, index, data, service)
        assert done.returncode == 0, done.stderr
        table = pyarrow.parquet.read_table(data / "out" / f"part-{index:05}.parquet")
        assert table["text"].to_pylist() == [f"text {number} of shard {index}" for number in range(5)]
        assert {len(vector) for vector in table["embedding"].to_pylist()} == {384}
    assert len(list((data / "out").iterdir())) == 2


def test_a_mistake_in_a_shard_has_the_exit_code_that_fails_its_index_at_once(
    job: dict[str, Any], data: Path, service: Service
) -> None:
    (data / "in" / "part-00001.jsonl").write_text('{"body": "no field text"}\n')
    _, fails = job["spec"]["podFailurePolicy"]["rules"]
    assert fails["action"] == "FailIndex"
    for index in (1, 99):  # 99: there is no such shard
        assert run_shard(job, index, data, service).returncode in fails["onExitCodes"]["values"]
