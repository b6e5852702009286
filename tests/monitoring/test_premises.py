"""What the rules believe of Triton's counters, asked of a real one."""

from __future__ import annotations

import os
import re
from pathlib import Path

import httpx
import psutil
import pytest

from server.settings import parse
from server.triton import command, environment, find
from tests.support.prometheus import process, wait_for
from tests.support.service import Service, free_ports
from tests.support.triton import infer

pytestmark = pytest.mark.triton


def counted(metrics_url: str, metric: str, **labels: str) -> float:
    """The sum of a metric's values with these labels."""
    text = httpx.get(f"{metrics_url}/metrics", trust_env=False).text
    total = 0.0
    for found in re.finditer(rf"^{metric}{{(.*)}} (\S+)$", text, re.MULTILINE):
        if all(f'{name}="{value}"' in found[1] for name, value in labels.items()):
            total += float(found[2])
    return total


def test_a_failure_is_counted_twice_at_the_ensemble_and_not_at_its_step(service: Service) -> None:
    before = counted(service.metrics_url, "nv_inference_request_failure", model="embedding")
    of_step = counted(service.metrics_url, "nv_inference_request_failure", model="tokenizer")
    for _ in range(3):
        answer = httpx.post(f"{service.http_url}/v2/models/embedding/infer", json=infer("a", 100_000), trust_env=False)
        assert answer.status_code == 400
    assert counted(service.metrics_url, "nv_inference_request_failure", model="embedding") == before + 6
    assert counted(service.metrics_url, "nv_inference_request_failure", model="tokenizer") == of_step


@pytest.mark.slow
def test_a_dead_step_leaves_triton_ready_and_every_request_failed(model_repository: Path, tmp_path: Path) -> None:
    http, grpc, metrics = free_ports(3)
    arguments = ["--model-repository", str(model_repository), "--stop-timeout-s", "1"]
    arguments += ["--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics)]
    settings = parse(arguments)
    installation = find()
    url, metrics_url = f"http://127.0.0.1:{http}", f"http://127.0.0.1:{metrics}"
    with process(
        command(settings, installation, 2, model_repository, f"premise-{os.getpid()}", metrics),
        tmp_path / "triton.log",
        f"{url}/v2/health/ready",
        environment(os.environ, installation, 2, logs_calls=False),
    ) as triton:
        (bert,) = [
            child for child in psutil.Process(triton).children(recursive=True) if "/bert/" in str(child.cmdline())
        ]
        assert httpx.post(f"{url}/v2/models/embedding/infer", json=infer("a"), trust_env=False).status_code == 200
        bert.kill()
        wait_for(lambda: not bert.is_running() or bert.status() == psutil.STATUS_ZOMBIE, 10)
        succeeded = counted(metrics_url, "nv_inference_request_success", model="embedding")
        failed = counted(metrics_url, "nv_inference_request_failure", model="embedding")
        for _ in range(3):
            answer = httpx.post(f"{url}/v2/models/embedding/infer", json=infer("a"), timeout=30.0, trust_env=False)
            assert answer.status_code == 500
        assert httpx.get(f"{url}/v2/health/ready", trust_env=False).status_code == 200
        assert counted(metrics_url, "nv_inference_request_success", model="embedding") == succeeded
        assert counted(metrics_url, "nv_inference_request_failure", model="embedding") >= failed + 3
    for region in Path("/dev/shm").glob(f"premise-{os.getpid()}-*"):
        region.unlink()
