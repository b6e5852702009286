"""Prometheus, promtool and the node exporter, as scripts/_setup.sh brings them; a running Prometheus to ask."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.service import ROOT, free_ports

CONFIG = ROOT / "monitoring" / "prometheus" / "prometheus.yml"
RULES = ROOT / "monitoring" / "prometheus" / "rules"
RULE_TESTS = ROOT / "monitoring" / "prometheus" / "tests"
_START_TIMEOUT_S = 60


def program(name: str) -> str:
    """Where a program is that `need_prometheus` of scripts/_setup.sh brings."""
    found = shutil.which(name, path=os.pathsep.join([str(ROOT / ".cache/debian/usr/bin"), os.environ["PATH"]]))
    assert found, f"wanted {name}, found none: run the tests by scripts/test, which brings it"
    return found


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    return subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def get(self, path: str, **parameters: str | float) -> Any:
        """The data of an answer of its API."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30.0, trust_env=False)
        assert answer.status_code == httpx.codes.OK, f"{path} {parameters}: {answer.text}"
        return answer.json()["data"]

    def query(self, expression: str) -> list[Any]:
        """The samples that an expression has now; those without a value left out."""
        data = self.get("query", query=expression)
        samples = [{"value": data["result"]}] if data["resultType"] in {"scalar", "string"} else data["result"]
        return [sample for sample in samples if sample["value"][1] != "NaN"]

    def up(self) -> dict[str, bool]:
        """The jobs, and whether all their targets were scraped."""
        result: dict[str, bool] = {}
        for target in self.get("targets", state="active")["activeTargets"]:
            job = target["labels"]["job"]
            result[job] = result.get(job, True) and target["health"] == "up"
        return result


def local_config(targets: Mapping[str, Sequence[str]], interval: str) -> dict[str, Any]:
    """The shipped configuration, but for where its targets are, and how often they are asked."""
    config = yaml.safe_load(CONFIG.read_text())
    config["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    config["rule_files"] = [str(RULES / "*.yml")]
    for job in config["scrape_configs"]:
        kept = {key: value for key, value in job.items() if not key.endswith("_sd_configs") and key != "static_configs"}
        job.clear()
        job.update(kept, static_configs=[{"targets": list(targets.get(kept["job_name"], []))}])
    return config


@contextlib.contextmanager
def running(directory: Path, targets: Mapping[str, Sequence[str]], interval: str = "1s") -> Iterator[Prometheus]:
    """Run Prometheus with the shipped configuration and rules on local targets, until the block ends."""
    (port,) = free_ports(1)
    targets = {**targets, "prometheus": [f"127.0.0.1:{port}"]}
    config = directory / "prometheus.yml"
    config.write_text(yaml.safe_dump(local_config(targets, interval)))
    command = [program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    prometheus = Prometheus(f"http://127.0.0.1:{port}")
    with process(command, directory / "prometheus.log", f"{prometheus.url}/-/ready"):
        yield prometheus


@contextlib.contextmanager
def node_exporter(directory: Path) -> Iterator[str]:
    """Run the exporter of this machine's figures until the block ends; its address."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [program("prometheus-node-exporter"), f"--web.listen-address={address}"]
    with process(command, directory / "node-exporter.log", f"http://{address}/metrics"):
        yield address


@contextlib.contextmanager
def process(
    command: Sequence[str], log: Path, ready_url: str, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run a program until the block ends; it must answer, and end when asked. Its process number."""
    with log.open("wb") as stream:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, env=environment
        )
    try:
        wait_for(lambda: _answers(child, ready_url), _START_TIMEOUT_S, lambda: log.read_text())
        yield child.pid
        child.terminate()
        child.wait(30)
    finally:
        child.kill()
        child.wait()


def wait_for(condition: Any, timeout_s: float, told: Any = lambda: "") -> None:
    """Wait until a condition holds, and fail with what is told when it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {told()}"
        time.sleep(0.2)


def _answers(child: subprocess.Popen[bytes], url: str) -> bool:
    assert child.poll() is None, f"ended with exit code {child.poll()}: {child.args}"
    try:
        return httpx.get(url, timeout=5.0, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
