"""What containers rely on in the server program: the probe, the drain before the end, closed APIs, connection age."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
from tritonclient.grpc import InferenceServerClient, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from client import EmbeddingClient
from server import drain
from tests.support.service import ROOT, Service, free_ports, serving

pytestmark = [pytest.mark.slow, pytest.mark.triton]


@pytest.fixture(scope="module")
def pod(model_repository: Path) -> Iterator[Service]:
    """A Triton to which nobody is connected: its shims are those of the tests."""
    with serving(model_repository, "--no-rest") as running:
        yield running


def run_module(name: str, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run `python -m NAME` as a container does: its settings come from the environment."""
    environment = {**os.environ, **{f"EMBEDDING_{key.upper()}": str(value) for key, value in settings.items()}}
    command = [sys.executable, "-m", name, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_probe_embeds(service: Service) -> None:
    done = run_module("server.probe", http_port=service.http_port)
    assert (done.returncode, done.stderr) == (0, "")


def test_probe_goes_through_no_proxy(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    (nobody,) = free_ports(1)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{nobody}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert run_module("server.probe", http_port=service.http_port).returncode == 0


def test_probe_fails_where_nobody_listens() -> None:
    (nobody,) = free_ports(1)
    done = run_module("server.probe", http_port=nobody)
    assert done.returncode == 1
    assert "refused" in done.stderr


def test_probe_fails_when_triton_is_ready_but_a_step_is_dead(model_repository: Path) -> None:
    with serving(model_repository, "--no-rest", killed=True) as running:
        # Without the supervisor nobody starts Triton anew, so that the state between a death and the healing lasts.
        supervisor = psutil.Process(running.pid)
        supervisor.suspend()
        children = supervisor.children(recursive=True)
        try:
            steps = [each for each in children if "triton_python_backend_stub" in " ".join(each.cmdline())]
            next(each for each in steps if "/bert/" in " ".join(each.cmdline())).kill()
            deadline = time.monotonic() + 15
            while (done := run_module("server.probe", http_port=running.http_port)).returncode == 0:
                assert time.monotonic() < deadline
            assert httpx.get(f"{running.http_url}/v2/health/ready", timeout=5).status_code == 200
            assert "not healthy" in done.stderr
        finally:
            for each in [supervisor, *children]:
                each.kill()
            psutil.wait_procs([supervisor, *children], timeout=10)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/bert/unload"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/systemsharedmemory/region/x/register"),
        ("GET", "/v2/cudasharedmemory/status"),
        ("GET", "/v2/logging"),
        ("POST", "/v2/logging"),
        ("GET", "/v2/trace/setting"),
        ("POST", "/v2/models/bert/trace/setting"),
    ],
)
def test_apis_that_change_the_server_are_closed_over_http(service: Service, method: str, path: str) -> None:
    assert httpx.request(method, f"{service.http_url}{path}", content=b"{}", timeout=10).status_code == 403


@pytest.mark.parametrize("path", ["/v2", "/v2/health/ready", "/v2/models/stats", "/v2/models/bert/config"])
def test_apis_that_only_tell_stay_open(service: Service, path: str) -> None:
    assert httpx.get(f"{service.http_url}{path}", timeout=10).status_code == 200


def test_apis_that_change_the_server_are_closed_over_grpc(service: Service) -> None:
    with InferenceServerClient(f"127.0.0.1:{service.grpc_port}") as client:
        for call in (
            client.get_model_repository_index,
            client.get_system_shared_memory_status,
            client.get_cuda_shared_memory_status,
            client.get_log_settings,
            client.get_trace_settings,
        ):
            with pytest.raises(InferenceServerException, match="restricted"):
                call()
        assert client.is_server_ready()


def connections_to(port: int) -> set[int]:
    """The local ports of this process' connections to `port`."""
    connections = psutil.Process().net_connections("tcp")
    return {each.laddr[1] for each in connections if each.raddr and each.raddr[1] == port}


@pytest.mark.slow
def test_grpc_clients_connect_anew_after_the_connection_age_without_losing_a_call(model_repository: Path) -> None:
    with serving(model_repository, "--no-rest", "--grpc-max-connection-age-s", "1") as running:
        ends = set()
        with EmbeddingClient(running.grpc_url) as client:
            deadline = time.monotonic() + 30
            while len(ends) < 3:
                assert time.monotonic() < deadline, f"one connection only: {ends}"
                assert client.embed(["hello"]).shape == (1, 384)
                ends |= connections_to(running.grpc_port)


def test_a_channel_stays_where_no_connection_age_is_set(service: Service) -> None:
    others = connections_to(service.grpc_port)
    options = [("grpc.use_local_subchannel_pool", 1)]  # else it may share the connection of another test's channel
    with grpc.insecure_channel(f"127.0.0.1:{service.grpc_port}", options) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        began, ends = time.monotonic(), set()
        while time.monotonic() - began < 3:
            stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=5)
            ends |= connections_to(service.grpc_port) - others
            time.sleep(0.05)
        assert len(ends) == 1


@pytest.mark.slow
def test_drain_waits_for_the_shim_beside_it(pod: Service, tmp_path: Path) -> None:
    """As a pod ends: the shim is told first, Triton only when drain says that the shim has finished."""
    (port,) = free_ports(1)
    assert run_module("server.drain", grpc_port=pod.grpc_port).returncode == 0, "nobody is connected"
    log = tmp_path / "shim.log"
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "client.rest", "--port", str(port), "--triton-url", pod.grpc_url]
        command += ["--stop-timeout-s", "60"]
        shim = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, shim)
        assert drain.connections(pod.grpc_port) >= 1
        impatient = run_module("server.drain", "--timeout-s", "0.5", grpc_port=pod.grpc_port)
        assert impatient.returncode == 1
        assert "waiting no longer" in impatient.stderr

        texts, answers = [f"text {number} " + "word " * 100 for number in range(128)], []
        asking = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/embedding", json={"texts": texts}, timeout=60))
        )
        before = begun(pod)
        asking.start()
        while not answers and begun(pod) == before:
            time.sleep(0.01)
        assert not answers, "the request was answered before the end began"
        shim.send_signal(signal.SIGTERM)
        assert run_module("server.drain", grpc_port=pod.grpc_port).returncode == 0
        asking.join()
        assert answers[0].status_code == 200
        assert len(answers[0].json()["embeddings"]) == len(texts)
        assert shim.wait(10) == 0
    finally:
        shim.kill()
        shim.wait()


def test_a_pod_that_ends_under_load_loses_no_request_that_it_accepted(pod: Service) -> None:
    """Connections of their own, as the load balancer makes them until it has taken the pod out."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "client.rest", "--port", str(port), "--triton-url", pod.grpc_url]
    shim = subprocess.Popen([*command, "--stop-timeout-s", "30", "--log-level", "error"], cwd=ROOT)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, shim)
        answers: list[int | str] = []

        def ask() -> None:
            while True:
                try:
                    texts = ["a text of some words " * 20] * 16
                    answers.append(httpx.post(f"{url}/embedding", json={"texts": texts}, timeout=60).status_code)
                except httpx.ConnectError:
                    return  # the pod takes nobody any more
                except httpx.TransportError as error:
                    answers.append(repr(error))

        callers = [threading.Thread(target=ask) for _ in range(8)]
        for caller in callers:
            caller.start()
        deadline = time.monotonic() + 60
        while len(answers) < 16:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        before = len(answers)
        shim.send_signal(signal.SIGTERM)
        assert run_module("server.drain", grpc_port=pod.grpc_port).returncode == 0
        for caller in callers:
            caller.join()
        assert len(answers) > before, "nothing was in flight at the end"
        assert set(answers) == {200}
    finally:
        shim.kill()
        shim.wait()


def begun(service: Service) -> int:
    """How many texts bert has had so far."""
    statistics = httpx.get(f"{service.http_url}/v2/models/bert/stats", timeout=5).json()["model_stats"][0]
    return int(statistics["inference_count"])


def wait_until_ready(url: str, shim: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert shim.poll() is None
        try:
            if httpx.get(f"{url}/health/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)
