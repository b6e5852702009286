"""Something runs out, or a start goes wrong: the service goes on as far as it can, says why where not, and recovers."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from client import EmbeddingClient, EmbeddingError, Limits, Retries
from tests.faults.conftest import loaded, told, wait_until_calm
from tests.faults.load import MAX_LENGTH, Known
from tests.faults.repositories import copied
from tests.faults.service import processes
from tests.faults.surroundings import Cgroup, few_descriptors, filled, kept_full, small_mount
from tests.support.service import ROOT, Service, free_ports, serving

pytestmark = [pytest.mark.triton, pytest.mark.slow]

SHM = Path("/dev/shm")
MB = 1 << 20


def restarts(service: Service) -> int:
    return service.log.read_text().count("starting it anew")


def huge(service: Service) -> str:
    """The largest request that Triton takes: its batch limit, each text of the most tokens, with all their states."""
    with EmbeddingClient(
        service.grpc_url,
        ensemble="embedding",
        limits=Limits(piece=64, least_piece=64, least=64, most=64),
        retries=Retries(attempts=1),
        timeout_s=120,
    ) as client:
        try:
            client.embed(["word " * 600] * 64, max_length=512)
        except EmbeddingError as error:
            return f"{type(error).__name__}: {error}"
    return "ok"


def test_shared_memory_is_full(model_repository: Path, known: Known, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        serving(model_repository, wrapper=small_mount(SHM, 256)) as service,
        loaded(service, known) as load,
    ):
        began = time.monotonic()
        with filled(service.pid, SHM):
            failure = huge(service)
            assert failure != "ok"
            time.sleep(5)
        wait_until_calm(load, began, 90)
        told(capsys, "/dev/shm full", load, began)
        assert huge(service) == "ok"


def test_shared_memory_is_full_at_a_restart(
    model_repository: Path, known: Known, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(model_repository, wrapper=small_mount(SHM, 256)) as service, loaded(service, known) as load:
        began = time.monotonic()
        with kept_full(service.pid, SHM):
            processes(service.pid)["bert"].kill()
            wait_for(service, "trying again in 2 s")
        wait_until_calm(load, began, 90)
        told(capsys, "/dev/shm full at a restart", load, began)


def test_the_disk_is_full(
    tmp_path: Path, model_repository: Path, known: Known, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    prepare = f"cp -r {model_repository} {disk}/repository && export TMPDIR={disk}"
    with (
        serving(disk / "repository", wrapper=small_mount(disk, 300, prepare)) as service,
        loaded(service, known) as load,
        filled(service.pid, disk),
    ):
        began = time.monotonic()
        processes(service.pid)["bert"].kill()
        wait_until_calm(load, began, 90)
        told(capsys, "disk full, and bert killed", load, began)


def test_nothing_can_be_written_to_the_output(model_repository: Path, tmp_path: Path) -> None:
    ports = free_ports(4)
    flags = ("--rest-port", "--http-port", "--grpc-port", "--metrics-port")
    command = [sys.executable, "-m", "server", "--model-repository", str(model_repository)]
    command += [item for flag, port in zip(flags, ports, strict=True) for item in (flag, str(port))]
    with open("/dev/full", "wb") as full, subprocess.Popen(command, cwd=ROOT, stdout=full, stderr=full) as process:
        deadline = time.monotonic() + 120
        while not embeds(ports[0]):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.terminate()
        assert process.wait(30) == 0


def embeds(port: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        answer = httpx.post(f"http://127.0.0.1:{port}/embedding", json={"texts": ["a"]}, timeout=10)
        return answer.status_code == 200
    return False


def test_a_bulk_run_on_a_full_disk_goes_on_when_there_is_room(tmp_path: Path, service: Service, known: Known) -> None:
    texts = list(known.texts) * 40
    source = tmp_path / "texts.txt"
    source.write_text("".join(f"{text}\n" for text in texts))
    disk = tmp_path / "disk"
    disk.mkdir()
    output, saved = disk / "vectors.npy", tmp_path / "saved.npy"
    embed = f"{sys.executable} -m client embed --url {service.grpc_url} --input {source} --output {output}"
    embed += f" --max-length {MAX_LENGTH}"
    script = f"! {embed} && mount -o remount,size=100m {disk} && {embed} && cp {output} {saved}"
    command = [*small_mount(disk, 2), "bash", "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "No space left on device" in done.stderr
    vectors = np.load(saved)
    wanted = np.tile(known.models[0], (40, 1))
    np.testing.assert_allclose(vectors, wanted, atol=1e-5)


def test_file_descriptors_run_out(model_repository: Path, known: Known) -> None:
    with serving(model_repository, wrapper=few_descriptors(256)) as service:
        with httpx.Client(base_url=service.rest_url, timeout=30) as client, contextlib.ExitStack() as idle:
            right(client, known)
            for port in (service.rest_port, service.http_port, service.grpc_port):
                for _ in range(300):
                    idle.enter_context(socket.create_connection(("127.0.0.1", port)))
            time.sleep(2)
            # Who has a connection is served on.
            for _ in range(20):
                right(client, known)
        deadline = time.monotonic() + 30
        while not embeds(service.rest_port):
            assert time.monotonic() < deadline
        with EmbeddingClient(service.grpc_url) as direct:
            np.testing.assert_allclose(direct.embed(known.texts, MAX_LENGTH), known.models[0], atol=1e-5)
        assert restarts(service) == 0


def right(client: httpx.Client, known: Known) -> None:
    answer = client.post("/embedding", json={"texts": list(known.texts[:4]), "max_length": MAX_LENGTH})
    assert answer.status_code == 200
    np.testing.assert_allclose(answer.json()["embeddings"], known.models[0][:4], atol=1e-5)


def test_a_huge_request_meets_the_container_s_memory_limit(
    model_repository: Path, known: Known, capsys: pytest.CaptureFixture[str]
) -> None:
    with Cgroup() as cgroup:
        with serving(model_repository, wrapper=cgroup.wrapper) as service, loaded(service, known) as load:
            cgroup.leave(100 * MB)
            began = time.monotonic()
            failure = huge(service)
            assert failure != "ok"
            wait_until_calm(load, began, 90)
            # The kernel has killed a step, and not the supervisor.
            assert restarts(service) == 1
            told(capsys, "the container's memory limit met by a huge request", load, began)
        time.sleep(0.2)


def test_a_huge_request_meets_bert_s_own_limit(
    model_repository: Path, known: Known, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(model_repository) as service, loaded(service, known) as load:
        bert = processes(service.pid)["bert"]
        before = bert.rlimit(psutil.RLIMIT_AS)
        began = time.monotonic()
        bert.rlimit(psutil.RLIMIT_AS, (bert.memory_info().vms + 20 * MB, before[1]))
        failure = huge(service)
        assert failure.startswith("ServerError"), failure
        bert.rlimit(psutil.RLIMIT_AS, before)
        wait_until_calm(load, began, 60)
        told(capsys, "bert's own memory limit met by a huge request", load, began)
        assert [answer for answer in load.answers if answer.outcome != "ok"] == []
        assert huge(service) == "ok"


def test_a_damaged_model_does_not_come_back(tmp_path: Path, model_repository: Path, known: Known) -> None:
    """Weights with a flipped bit would load, and give wrong vectors: the restart must refuse them."""
    repository = copied(model_repository, tmp_path / "repository")
    with serving(repository, killed=True) as service:
        graph = repository / "bert" / "1" / "model.onnx"
        content = bytearray(graph.read_bytes())
        content[len(content) // 2] ^= 1
        graph.write_bytes(content)
        with httpx.Client(base_url=service.rest_url, timeout=30) as client:
            right(client, known)  # the loaded one serves
        processes(service.pid)["triton"].kill()
        supervisor = psutil.Process(service.pid)
        deadline = time.monotonic() + 30
        while supervisor.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert f"{graph} has sha256" in service.log.read_text()


def test_triton_is_slow_to_start(
    tmp_path: Path, model_repository: Path, known: Known, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slower than the shim is patient: then 503 with Retry-After, and no restart of what is only slow."""
    repository = copied(model_repository, tmp_path / "repository")
    model = repository / "tokenizer" / "1" / "model.py"
    slow_flag = tmp_path / "slow"
    model.write_text(
        model.read_text() + f"\nimport os, time\nif os.path.exists({str(slow_flag)!r}):\n    time.sleep(15)\n"
    )
    with serving(repository) as service, loaded(service, known) as load:
        slow_flag.touch()
        began = time.monotonic()
        processes(service.pid)["triton"].kill()
        time.sleep(15)
        slow_flag.unlink()
        wait_until_calm(load, began, 90)
        assert restarts(service) == 1
        refused = [each for each in load.answers if each.way == "rest" and each.outcome != "ok"]
        assert {each.outcome for each in refused} == {"503"}
        assert all(each.retry_after for each in refused)
        told(capsys, "Triton killed, and slow to start", load, began)


def wait_for(service: Service, words: str) -> None:
    deadline = time.monotonic() + 60
    while words not in service.log.read_text():
        assert time.monotonic() < deadline, service.log.read_text()
        time.sleep(0.1)
