"""What the fault tests share: texts with known vectors, a service that may be hurt, and the course of one fault."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.faults import FAULTS
from tests.faults.load import MAX_LENGTH, Known, Load
from tests.faults.record import Figures, figures, is_calm, keep
from tests.support.reference import Reference
from tests.support.service import Service, last_lines, serving

# So many texts of mixed length have known vectors.
_TEXTS = 64
# Kills must be over within this, by the project's own target.
TARGET_S = 15.0
# On a machine that is so slow, or so busy, that a start takes longer than this, in proportion.
_NORMAL_START_S = 6.0

Hurt = Callable[[str], dict[str, Figures]]


@pytest.fixture(scope="session")
def known(reference: Reference, real_texts: list[str]) -> Known:
    """Vectors by transformers, each text alone: not by the service that is tested."""
    texts = real_texts[:: len(real_texts) // _TEXTS][:_TEXTS]
    return Known(texts, [reference.embed(texts, MAX_LENGTH)])


@pytest.fixture(scope="module")
def service(model_repository: Path) -> Iterator[Service]:
    """A service of the module's own, which may be hurt as often as one likes."""
    with serving(model_repository, "--max-restarts", "1000") as running:
        yield running


@pytest.fixture(scope="module")
def load(service: Service, known: Known) -> Iterator[Load]:
    """Traffic on the service from the first to the last test of the module; no vector may have been wrong."""
    with loaded(service, known) as running:
        yield running


@pytest.fixture
def limit_s(service: Service) -> float:
    """Within what time a kill must be healed on this machine."""
    first = next(line for line in service.log.read_text().splitlines() if line.startswith("serve: Triton is ready"))
    return TARGET_S * max(1.0, float(first.split()[5]) / _NORMAL_START_S)


@pytest.fixture
def hurt(service: Service, load: Load, capsys: pytest.CaptureFixture[str]) -> Hurt:
    """Do a fault to the service under load, wait until all is well, and print, keep and give the figures."""

    def course(fault: str) -> dict[str, Figures]:
        began = time.monotonic()
        with FAULTS[fault](service.pid):
            try:
                wait_until_calm(load, began, 60)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{last_lines(service.log)}") from error
        return told(capsys, fault, load, began)

    return course


@contextlib.contextmanager
def loaded(service: Service, known: Known) -> Iterator[Load]:
    """Traffic within the block, of which no vector may be wrong."""
    with Load(service.rest_url, service.grpc_url, known) as load:
        load.settle()
        yield load
    assert [answer for answer in load.answers if answer.outcome == "wrong"] == []


def told(capsys: pytest.CaptureFixture[str], fault: str, load: Load, began_s: float) -> dict[str, Figures]:
    """Print the figures of a fault, keep them for docs/reliability.md, and give them."""
    found = figures(load, began_s)
    keep(fault, found)
    with capsys.disabled():
        for way, each in found.items():
            print(f"\n{fault}, {way}: {each}", end="")  # noqa: T201
    return found


def wait_until_calm(load: Load, since_s: float, limit_s: float) -> None:
    """Wait until all is well after a fault at that moment."""
    while not is_calm(load, since_s):
        assert time.monotonic() - since_s < limit_s, f"not well after {limit_s} s: {figures(load, since_s)}"
        time.sleep(0.1)
