"""Which Triton this machine has, and the command line and environment that run it on our model repository.

In NVIDIA's image that is /opt/tritonserver with its own C++ backends. Elsewhere it is the server that the PyPI package
nvidia-pytriton ships, with the stand-in for the missing ONNX Runtime backend from backends/onnxruntime.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import secrets
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from server.errors import PlatformError
from server.settings import ROOT, Settings

__all__ = ["Installation", "command", "environment", "find", "has_gpu"]

_IMAGE = Path("/opt/tritonserver")
_OLDEST_GLIBC = (2, 35)
# What a client of embeddings never needs. Shared memory would let whoever reaches the port map the server's own
# regions; the others change the server for everybody. Statistics and model configs stay: perf_analyzer asks for them.
_CLOSED_APIS = "model-repository,shared-memory,trace,logging"
# Beyond its age a gRPC connection may finish what is in flight, as long as a client waits for one answer at most.
_GRPC_AGE_GRACE_S = 60


@dataclass(frozen=True)
class Installation:
    """A Triton server on this machine.

    `library_directories` must be on LD_LIBRARY_PATH. `stand_in` tells whether backends/onnxruntime takes the place of
    the C++ backend.
    """

    binary: Path
    backend_directory: Path
    library_directories: tuple[Path, ...]
    stand_in: bool


def find() -> Installation:
    """Find Triton; lay out the backends of the pip one.

    Raises:
        PlatformError: there is none that runs here; says what is missing and what to do.
    """
    if (binary := _IMAGE / "bin" / "tritonserver").is_file():
        return Installation(binary, _IMAGE / "backends", (), stand_in=False)
    _check_platform()
    package = _site_package("pytriton") / "tritonserver"
    backends = _lay_out_backends(package)
    libraries = (package.parent.parent / "nvidia_pytriton.libs", _shared_libpython().parent)
    return Installation(package / "bin" / "tritonserver", backends, libraries, stand_in=True)


def command(
    settings: Settings,
    installation: Installation,
    threads: int,
    repository: Path,
    name: str,
    metrics_port: int,
) -> list[str]:
    """Triton's command line.

    Args:
        repository: to serve; not always that of the settings.
        name: by which it can be told from another one on the same ports; and how its regions in /dev/shm begin.
        metrics_port: the only port that two of them cannot share.
    """
    # Without a GPU these only bring warnings.
    no_gpu = [] if has_gpu() else ["--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"]
    return [
        str(installation.binary),
        *no_gpu,
        *_closed_apis(),
        *_grpc_age(settings.grpc_max_connection_age_s),
        f"--id={name}",
        f"--model-repository={repository}",
        f"--backend-directory={installation.backend_directory}",
        # Loading a model over the network is running code sent over the network.
        "--model-control-mode=none",
        "--exit-on-error=true",
        f"--http-address={settings.host}",
        f"--http-port={settings.http_port}",
        f"--grpc-address={settings.host}",
        f"--grpc-port={settings.grpc_port}",
        f"--metrics-address={settings.host}",
        f"--metrics-port={metrics_port}",
        # Beside the sockets that hold these ports (see server.ports), and beside another Triton during an update.
        "--reuse-http-port=true",
        "--reuse-grpc-port=true",
        f"--exit-timeout-secs={int(settings.stop_timeout_s)}",
        "--log-format=ISO8601",
        # One thread pool for all sessions, of the size that we may really use. The C++ backend reads it here; the
        # stand-in, which Triton does not hand it to, from the environment.
        "--backend-config=onnxruntime,enable-global-threadpool=1",
        f"--backend-config=onnxruntime,intra_op_thread_count={threads}",
        # So that what a killed Triton leaves in /dev/shm can be removed.
        f"--backend-config=python,shm-region-prefix-name={name}-",
    ]


def _closed_apis() -> list[str]:
    """Restrict them to those who send a header that nobody knows: Triton has no other way to turn them off."""
    header = f"{_CLOSED_APIS}:closed={secrets.token_hex(16)}"
    return [f"--http-restricted-api={header}", f"--grpc-restricted-protocol={header}"]


def _grpc_age(age_s: float) -> list[str]:
    if age_s == 0:
        return []
    return [
        f"--grpc-max-connection-age={round(age_s * 1000)}",
        f"--grpc-max-connection-age-grace={_GRPC_AGE_GRACE_S * 1000}",
    ]


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA driver loaded."""
    return Path("/dev/nvidiactl").exists()


def environment(base: Mapping[str, str], installation: Installation, threads: int, logs_calls: bool) -> dict[str, str]:
    """Triton's environment: thread counts, where its Python steps find their packages, and whether they log calls."""
    # The shim's settings are not for Triton, whose steps are programs of others: API keys are among them.
    result = {name: value for name, value in base.items() if not name.startswith("EMBEDDING_REST_")}
    result["EMBEDDING_LOG_CALLS"] = str(int(logs_calls))
    libraries = [str(path) for path in installation.library_directories]
    result["LD_LIBRARY_PATH"] = os.pathsep.join([*libraries, *filter(None, [base.get("LD_LIBRARY_PATH")])])
    if installation.stand_in:
        # The stubs ignore PYTHONPATH; they take the environment of the first python3 on PATH.
        result["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), base.get("PATH", os.defpath)])
        result["ONNXRUNTIME_INTRA_OP_THREADS"] = str(threads)
    result["TOKENIZERS_PARALLELISM"] = "true"
    result["RAYON_NUM_THREADS"] = str(threads)
    # Pooling is memory-bound and runs beside bert: threads of its own would only take bert's.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        result[variable] = "1"
    return result


def _check_platform() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise PlatformError(
            f"wanted Linux on x86-64, the only platform of Triton's pip package, got {sys.platform} on "
            f"{platform.machine()}: use NVIDIA's container image there (docker-compose.yml)"
        )
    name, version = platform.libc_ver()
    if name == "glibc" and tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_GLIBC:
        raise PlatformError(
            f"wanted glibc 2.35 or newer (Debian 12, Ubuntu 22.04), got {version}: use a newer system or "
            "NVIDIA's container image"
        )


def _site_package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise PlatformError(f"wanted the Python package {name} in this environment, found none: run scripts/serve")
    return Path(spec.origin).parent


def _shared_libpython() -> Path:
    """The shared libpython that Triton's Python steps run in."""
    library = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    directories = [
        sysconfig.get_config_var("LIBDIR"),
        f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}",
        f"{sys.base_prefix}/lib",
    ]
    for directory in directories:
        if directory and (path := Path(directory) / library).exists():
            return path
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    raise PlatformError(
        f"wanted {library}, which Triton's Python steps run in, found none: on Debian and Ubuntu run "
        f"'apt-get install libpython{version}'; a self-built Python needs --enable-shared"
    )


def _lay_out_backends(package: Path) -> Path:
    """A backend directory of copies: Triton refuses a Python-based backend behind a symbolic link.

    It is named by its content, so that servers share it, and none changes or removes what another one uses.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = package / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise PlatformError(f"wanted Triton's stub for Python {version}, nvidia-pytriton has none: use Python 3.11")
    stand_in = ROOT / "backends" / "onnxruntime"
    content = b"".join(path.read_bytes() for path in [stub, *sorted(stand_in.glob("*.py"))])
    cache = ROOT / ".cache"
    target = cache / f"backends-{hashlib.sha256(content).hexdigest()[:12]}"
    if target.is_dir():
        return target
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as staging:
        backends = Path(staging) / "backends"
        shutil.copytree(package / "backends" / "python", backends / "python")
        shutil.copy2(stub, backends / "python" / stub.name)
        shutil.copytree(stand_in, backends / "onnxruntime", ignore=shutil.ignore_patterns("__pycache__"))
        # Whoever comes second finds it done.
        with contextlib.suppress(OSError):
            backends.rename(target)
    return target
