"""What kills Triton 2.51 and cannot be refused by anything of ours: the supervisor has it back soon."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.service import serving

pytestmark = [pytest.mark.triton, pytest.mark.slow]


def test_a_shape_whose_bytes_overflow(model_repository: Path) -> None:
    """2**61 rows of 8 bytes are 0 bytes in 64 bits, and Triton's HTTP parser writes the row behind them."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    body = {"inputs": [{"name": name, "shape": [2**61, 1], "datatype": "INT64", "data": [1]} for name in names]}
    with serving(model_repository, variables={"EMBEDDING_REST_API_KEYS": "a-secret-key"}) as service:
        triton = next(each for each in psutil.Process(service.pid).children() if each.name() == "tritonserver")
        for process in [triton, *triton.children(recursive=True)]:
            assert "a-secret-key" not in process.environ().values()
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(f"{service.http_url}/v2/models/bert/infer", json=body, timeout=60)
        deadline = time.monotonic() + 60
        while httpx.get(f"{service.rest_url}/health/ready", timeout=60).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        headers = {"Authorization": "Bearer a-secret-key"}
        answer = httpx.post(f"{service.rest_url}/embedding", json={"texts": ["a"]}, headers=headers, timeout=60)
        assert answer.status_code == 200
        assert not triton.is_running() or triton.status() == psutil.STATUS_ZOMBIE
        assert "a-secret-key" not in service.log.read_text()
