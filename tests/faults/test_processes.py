"""A process of the service dies, or hangs, under load: it heals, and no vector is ever wrong."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Hurt, loaded, told, wait_until_calm
from tests.faults.faults import FAULTS
from tests.faults.load import Known, Load
from tests.faults.record import Figures
from tests.faults.service import processes
from tests.support.service import Service, serving

pytestmark = pytest.mark.triton

slow = pytest.mark.slow
# A hang is a hang after so long (--hang-timeout-s), and is seen a little later.
HANG_S = 5.0 + 2.0
# EMBEDDING_REST_PATIENCE_S counts from the failure of a request, at most this long after the fault.
_PATIENCE_S = 15.0


@pytest.mark.parametrize(
    "victim",
    [
        "bert",
        "rest",
        pytest.param("triton", marks=slow),
        pytest.param("tokenizer", marks=slow),
        pytest.param("pooling", marks=slow),
    ],
)
def test_kill(hurt: Hurt, service: Service, load: Load, victim: str, limit_s: float) -> None:
    restarts = service.log.read_text().count("starting it anew")
    found = hurt(f"kill {victim}")
    assert max(each.back_s for each in found.values()) < limit_s
    assert service.log.read_text().count("starting it anew") == restarts + 1
    check_rest(load, found, victim)


@slow
@pytest.mark.parametrize("victim", ["bert", "tokenizer", "pooling", "triton", "rest"])
def test_hang(hurt: Hurt, service: Service, load: Load, victim: str, limit_s: float) -> None:
    found = hurt(f"stop {victim}")
    assert max(each.back_s for each in found.values()) < HANG_S + limit_s
    name = {"triton": "Triton", "rest": "the REST shim"}.get(victim, victim)
    assert f"serve: {name} hangs: starting it anew" in service.log.read_text()
    check_rest(load, found, victim)


def check_rest(load: Load, found: dict[str, Figures], victim: str) -> None:
    """The shim asks a new Triton again, so that no request fails; but for its own death, and where that takes long."""
    if victim == "rest":
        return
    assert set(found["rest"].failed) <= {"503"}
    assert all(each.retry_after for each in load.answers if each.outcome == "503")
    if found["rest"].back_s < _PATIENCE_S:
        assert found["rest"].failed == {}


@slow
def test_an_impatient_shim_refuses_until_triton_is_back(
    model_repository: Path, known: Known, capsys: pytest.CaptureFixture[str]
) -> None:
    """What ADR 8 compares with."""
    variables = {"EMBEDDING_REST_PATIENCE_S": "0"}
    with serving(model_repository, variables=variables) as service, loaded(service, known) as load:
        for fault in ("kill bert", "kill triton"):
            began = time.monotonic()
            with FAULTS[fault](service.pid):
                wait_until_calm(load, began, 60)
            found = told(capsys, f"{fault}, with an impatient shim", load, began)
            assert found["rest"].failed
    failed = [answer for answer in load.answers if answer.way == "rest" and answer.outcome != "ok"]
    assert {answer.outcome for answer in failed} <= {"503", "500"}
    assert all(answer.retry_after for answer in failed if answer.outcome == "503")


@slow
def test_a_dead_server_s_port_cannot_be_taken(service: Service, load: Load) -> None:
    began = time.monotonic()
    processes(service.pid)["triton"].kill()
    for port in (service.grpc_port, service.http_port, service.rest_port):
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="Address already in use"):
                thief.bind(("127.0.0.1", port))
    wait_until_calm(load, began, 60)
