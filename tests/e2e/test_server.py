"""The server program: its start, its refusals, and its end. What it heals is in tests/faults."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.faults.service import processes
from tests.support.service import ROOT, Service, copy_static_files, free_ports, serving, stop, wait_for_line

pytestmark = pytest.mark.triton


def run_server(*arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the server where it must refuse to start."""
    ports = [str(port) for port in free_ports(4)]
    flags = ("--rest-port", "--http-port", "--grpc-port", "--metrics-port")
    given = [item for pair in zip(flags, ports, strict=True) for item in pair]
    command = [sys.executable, "-m", "server", *given, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)


def embeds(service: Service) -> bool:
    try:
        answer = httpx.post(f"{service.rest_url}/embedding", json={"texts": ["hello"]}, timeout=5)
    except httpx.TransportError:
        return False
    return answer.status_code == 200


def test_listens_on_loopback_only(service: Service) -> None:
    listening = {
        connection.laddr
        for process in [psutil.Process(service.pid), *psutil.Process(service.pid).children(recursive=True)]
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {address.port for address in listening} == {
        service.rest_port,
        service.http_port,
        service.grpc_port,
        service.metrics_port,
    }
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_models_cannot_be_loaded_over_the_network(service: Service) -> None:
    for action in ("load", "unload"):
        answer = httpx.post(f"{service.http_url}/v2/repository/models/bert/{action}", timeout=10)
        assert answer.status_code >= 400
        assert embeds(service)


def test_serving_loads_neither_torch_nor_transformers(service: Service) -> None:
    for process in [psutil.Process(service.pid), *processes(service.pid).values()]:
        mapped = {Path(region.path).name for region in process.memory_maps()}
        assert not {name for name in mapped if name.startswith("libtorch")}, process


@pytest.mark.parametrize("module", ["server.__main__", "client.rest.app", "tokenization", "pool", "session"])
def test_no_module_of_serving_imports_torch_or_transformers(module: str) -> None:
    paths = [ROOT, *(ROOT / "model_repository").glob("*/1"), ROOT / "backends" / "onnxruntime"]
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


@pytest.mark.slow
def test_triton_killed_while_the_shim_starts_anew_and_then_ctrl_c(model_repository: Path) -> None:
    """It heals, stops with exit code 0, and leaves no shared memory behind, of which a killed Triton frees none."""
    with serving(model_repository, stopped_by=signal.SIGINT) as running:
        prefix = f"embedding-{running.pid}-"
        assert list(Path("/dev/shm").glob(f"{prefix}*"))
        found = processes(running.pid)
        found["rest"].kill()
        while "the REST shim ended" not in running.log.read_text():
            time.sleep(0.02)
        found["bert"].kill()
        began = time.monotonic()
        while not embeds(running):
            assert time.monotonic() - began < 20, running.log.read_text()
            time.sleep(0.1)
        assert running.log.read_text().count("starting it anew") == 2
    assert not list(Path("/dev/shm").glob(f"{prefix}*"))


def test_killed_supervisor_takes_its_children_along(model_repository: Path) -> None:
    with serving(model_repository, killed=True) as running:
        children = psutil.Process(running.pid).children(recursive=True)
        os.kill(running.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=25)
        assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]


def test_port_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run_server("--http-port", port)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert "--http-port" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rest-port", "99999"], "wanted a port from 1 to 65535, got 99999"),
        (["--threads", "-1"], "wanted 0 or more, got -1"),
        (["--rest-port", "8000", "--http-port", "8000"], "wanted different ports"),
        (["--unknown"], "unrecognized arguments: --unknown"),
        (["--host", "::1"], "--host: wanted an IPv4 address"),
        (["--host", "no.such.host.invalid"], "--host: wanted an IPv4 address"),
    ],
)
def test_bad_flags(arguments: list[str], message: str) -> None:
    done = run_server(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def exported_copy(target: Path, model_repository: Path) -> Path:
    """A model repository that a test may damage."""
    return Path(shutil.copytree(model_repository, target / "repository"))


def test_damaged_model_file(tmp_path: Path, model_repository: Path) -> None:
    repository = exported_copy(tmp_path, model_repository)
    graph = repository / "bert" / "1" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1000])
    done = run_server("--model-repository", str(repository))
    assert done.returncode == 1
    assert "bert/1/model.onnx" in done.stderr


def outdated_copy(tmp_path: Path, model_repository: Path, **changes: object) -> Path:
    repository = exported_copy(tmp_path, model_repository)
    for path in repository.glob("*/1/manifest.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1, **changes}))
    return repository


def test_an_earlier_version_s_export_of_another_model(tmp_path: Path, model_repository: Path) -> None:
    done = run_server("--model-repository", str(outdated_copy(tmp_path, model_repository, model="acme/encoder")))
    assert done.returncode == 1
    assert "export acme/encoder again: python -m export --model acme/encoder" in done.stderr


@pytest.mark.slow
def test_unknown_model_is_a_clear_failure(tmp_path: Path) -> None:
    copy_static_files(tmp_path)
    done = run_server("--model-repository", str(tmp_path), "--model", "/nonexistent/folder")
    assert done.returncode == 1
    assert "the export of /nonexistent/folder failed" in done.stderr


def test_address_of_another_machine() -> None:
    done = run_server("--host", "192.0.2.1")
    assert done.returncode == 1
    assert "--host wants an address of this machine" in done.stderr


@pytest.mark.slow
def test_model_that_triton_cannot_load(tmp_path: Path, model_repository: Path) -> None:
    repository = exported_copy(tmp_path, model_repository)
    config = repository / "bert" / "config.pbtxt"
    config.write_text(config.read_text() + 'parameters { key: "execution_mode" value { string_value: "7" } }\n')
    done = run_server("--model-repository", str(repository))
    assert done.returncode == 1
    assert "Triton ended while it started" in done.stderr
    assert "parameter execution_mode: wanted 0 (sequential) or 1 (parallel), got 7" in done.stderr


@pytest.mark.slow
def test_gives_up_after_several_restarts(model_repository: Path) -> None:
    # What is killed while it starts is tried again, as long as a start may take.
    with serving(model_repository, "--no-rest", "--start-timeout-s", "40", killed=True) as running:
        supervisor = psutil.Process(running.pid)
        deadline = time.monotonic() + 100
        while supervisor.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, running.log.read_text()
            if victim := processes(running.pid).get("triton"):
                victim.kill()
            time.sleep(0.2)
        assert "giving up" in running.log.read_text() or "ended while it started" in running.log.read_text()


@pytest.mark.parametrize(
    ("found", "line"),
    [("nothing", "[ "), ("an earlier version's export", "[ "), ("an export", "serve: starting Triton")],
)
def test_signal_during_the_start(tmp_path: Path, model_repository: Path, found: str, line: str) -> None:
    """During the export, and during Triton's start: it all ends, with exit code 0."""
    repository = model_repository
    if found == "nothing":
        copy_static_files(repository := tmp_path)
    elif found != "an export":
        repository = outdated_copy(tmp_path, model_repository)
    ports = [str(port) for port in free_ports(3)]
    command = [sys.executable, "-m", "server", "--no-rest", "--model-repository", str(repository)]
    command += ["--http-port", ports[0], "--grpc-port", ports[1], "--metrics-port", ports[2]]
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)
    wait_for_line(process, log, line)
    stop(process, log)


@pytest.mark.slow
def test_goes_on_when_nobody_reads_its_output(model_repository: Path) -> None:
    ports = [str(port) for port in free_ports(3)]
    command = [sys.executable, "-m", "server", "--no-rest", "--model-repository", str(model_repository)]
    command += ["--http-port", ports[0], "--grpc-port", ports[1], "--metrics-port", ports[2]]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        url = f"http://127.0.0.1:{ports[0]}/v2/health/ready"
        deadline = time.monotonic() + 60
        while not is_ok(url):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.terminate()
        assert process.wait(30) == 0


def is_ok(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
