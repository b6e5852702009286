"""What a million texts cost, and how many replicas a load needs.

    cost of a million texts  =  10^6 × price of the machine an hour ÷ (3600 × pods on the machine × texts/s of a pod)

Prices are an input, with their date and source: machines.toml, or a file of your own in its form.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from benchmarks.errors import BenchmarkError

__all__ = ["MACHINES", "Machine", "cost_per_million", "pods_on", "read_machines", "replicas"]

MACHINES = Path(__file__).parent / "machines.toml"
# What the kubelet, the container runtime and the pods that run on each node take.
RESERVED_PROCESSORS = 0.5
RESERVED_GIB = 1.5


@dataclass(frozen=True)
class Machine:
    """A machine by the hour. With a GPU (`gpu` is its name) what a pod does on it must be measured first."""

    name: str
    processors: int
    memory_gib: float
    usd_per_hour: float
    gpu: str
    as_of: str
    source: str


def read_machines(path: Path = MACHINES) -> list[Machine]:
    """The table of machines.

    Raises:
        BenchmarkError: a machine lacks something, or has something unknown.
    """
    try:
        tables = tomllib.loads(path.read_text())["machine"]
        return [Machine(**{"gpu": "", **table}) for table in tables]
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        names = ", ".join(field.name for field in fields(Machine))
        raise BenchmarkError(f"{path}: wanted [[machine]] tables of {names}, got {error}") from error


def pods_on(machine: Machine, processors: float, memory_gib: float) -> int:
    """How many pods of that size fit."""
    return max(
        0,
        min(
            math.floor((machine.processors - RESERVED_PROCESSORS) / processors),
            math.floor((machine.memory_gib - RESERVED_GIB) / memory_gib),
        ),
    )


def cost_per_million(usd_per_hour: float, texts_per_s: float) -> float:
    """US dollars for a million texts, on a machine that embeds so many a second."""
    return usd_per_hour / 3600 / texts_per_s * 1e6


def replicas(texts_per_s: float, pod_texts_per_s: float, least: int = 1) -> int:
    """Pods for that load, each of which may have so much of it."""
    return max(least, math.ceil(texts_per_s / pod_texts_per_s))
