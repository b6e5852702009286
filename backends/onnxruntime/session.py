"""An ONNX Runtime session from the fields of config.pbtxt that NVIDIA's C++ backend honours, without Triton.

The names, the accepted values and the defaults are those of triton-inference-server/onnxruntime_backend (README and
src/onnxruntime.cc): what it would refuse is refused here with a ConfigError that names the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnxruntime as ort

# ONNX Runtime's type names -> Triton's.
TRITON_TYPES: Final = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
}
# Honoured by the C++ backend for GPUs only, and not here.
_REFUSED_PARAMETERS: Final = (
    "gpu_mem_limit",
    "arena_extend_strategy",
    "cudnn_conv_algo_search",
    "do_copy_in_default_stream",
)
_SWITCH: Final = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
_GRAPH_LEVELS: Final = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


class ConfigError(ValueError):
    """A field of config.pbtxt cannot be honoured: says which, what was wanted and what came."""


@dataclass(frozen=True)
class TensorSpec:
    """A graph's input or output. `dims` include the batch axis; -1 is a dynamic one."""

    name: str
    data_type: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """What a graph takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def model_path(config: Mapping[str, Any], version_directory: Path) -> Path:
    """The graph's file: `default_model_filename`, or model.onnx."""
    path = version_directory / (config.get("default_model_filename") or "model.onnx")
    if not path.is_file():
        raise ConfigError(f"wanted the graph in {path.name} of version {version_directory.name}, found no such file")
    return path


def signature(session: ort.InferenceSession) -> Signature:
    """Read a session's inputs and outputs."""
    return Signature(
        tuple(_spec(value) for value in session.get_inputs()),
        tuple(_spec(value) for value in session.get_outputs()),
    )


def read_signature(path: Path) -> Signature:
    """Read a graph's inputs and outputs, as cheaply as ONNX Runtime can."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return signature(ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))


def check_signature(graph: Signature, config: Mapping[str, Any]) -> None:
    """Refuse inputs and outputs of config.pbtxt that the graph does not have."""
    batching = config["max_batch_size"] > 0
    for kind, specs in (("input", graph.inputs), ("output", graph.outputs)):
        by_name = {spec.name: spec for spec in specs}
        if batching:
            for spec in specs:
                if not spec.dims or spec.dims[0] != -1:
                    raise ConfigError(
                        f"max_batch_size {config['max_batch_size']}: wanted a dynamic first axis of {kind} "
                        f"{spec.name!r}, got {list(spec.dims)}"
                    )
        configured = config.get(kind) or []
        if kind == "input" and {tensor["name"] for tensor in configured} != set(by_name):
            raise ConfigError(f"input: wanted {sorted(by_name)}, got {sorted(t['name'] for t in configured)}")
        for tensor in configured:
            _check_tensor(kind, tensor, by_name, batching)


def _check_tensor(kind: str, tensor: Mapping[str, Any], graph: Mapping[str, TensorSpec], batching: bool) -> None:
    name = tensor["name"]
    if name not in graph:
        raise ConfigError(f"{kind} {name!r}: the graph has {', '.join(graph)}")
    spec = graph[name]
    if tensor["data_type"] != spec.data_type:
        raise ConfigError(f"{kind} {name!r}: wanted {spec.data_type} as in the graph, got {tensor['data_type']}")
    wanted = spec.dims[1:] if batching else spec.dims
    got = tuple(int(dim) for dim in tensor["dims"])
    # An input may be more specific than the graph; an output must be the same, -1 included.
    fits = len(got) == len(wanted) and all(
        dim == graph_dim or (kind == "input" and graph_dim == -1) for dim, graph_dim in zip(got, wanted, strict=True)
    )
    if not fits:
        raise ConfigError(f"{kind} {name!r}: wanted dims {list(wanted)} as in the graph, got {list(got)}")


def session_options(config: Mapping[str, Any], intra_op_threads: int) -> ort.SessionOptions:
    """Options from `parameters` and `optimization.graph.level`.

    `intra_op_threads` is the server's thread count. It overrides the model's own, as the global thread pool of the
    C++ backend does; 0 leaves it to the model, and then to ONNX Runtime.
    """
    parameters = {key: value["string_value"] for key, value in (config.get("parameters") or {}).items()}
    _refuse_what_is_not_honoured(config, parameters)
    options = ort.SessionOptions()
    threads = _integer(parameters, "intra_op_thread_count", 0)
    if intra_op_threads > 0:
        options.intra_op_num_threads = intra_op_threads
    elif threads > 0:
        options.intra_op_num_threads = threads
    if (inter_op_threads := _integer(parameters, "inter_op_thread_count", 0)) > 0:
        options.inter_op_num_threads = inter_op_threads
    mode = _integer(parameters, "execution_mode", 0)
    if mode not in (0, 1):
        raise ConfigError(f"parameter execution_mode: wanted 0 (sequential) or 1 (parallel), got {mode}")
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if mode else ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = _switch(parameters, "enable_mem_arena", default=True)
    options.enable_mem_pattern = _switch(parameters, "enable_mem_pattern", default=True)
    options.graph_optimization_level = _GRAPH_LEVELS.get(
        _graph_level(config), ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    )
    return options


def run_options(config: Mapping[str, Any]) -> ort.RunOptions | None:
    """Options of each run: only `memory.enable_memory_arena_shrinkage`."""
    shrink = (config.get("parameters") or {}).get("memory.enable_memory_arena_shrinkage", {}).get("string_value")
    if not shrink:
        return None
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", shrink)
    return options


def open_session(path: Path, options: ort.SessionOptions, kind: str, device: int) -> ort.InferenceSession:
    """Load a graph for an instance of a kind ("CPU" or "GPU") on a device.

    Raises:
        ConfigError: a GPU instance whose graph would not really run on CUDA. ONNX Runtime falls back to the CPU
            without an error.
    """
    if kind != "GPU":
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # CUDA's libraries come as Python packages, where the dynamic loader does not look.
    ort.preload_dlls()
    providers: list[Any] = [("CUDAExecutionProvider", {"device_id": device}), "CPUExecutionProvider"]
    session = ort.InferenceSession(str(path), options, providers=providers)
    if "CUDAExecutionProvider" not in session.get_providers():
        raise ConfigError(
            f"instance_group kind KIND_GPU, device {device}: wanted CUDA, got {', '.join(session.get_providers())} "
            f"(ONNX Runtime {ort.__version__} found no usable CUDA here)"
        )
    return session


def _refuse_what_is_not_honoured(config: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
    """Better no start than one that silently differs from the C++ backend's."""
    for key in _REFUSED_PARAMETERS:
        if key in parameters:
            raise ConfigError(f"parameter {key}: the stand-in cannot honour it, NVIDIA's C++ backend can")
    accelerators = (config.get("optimization") or {}).get("execution_accelerators") or {}
    if any(accelerators.values()):
        raise ConfigError("optimization.execution_accelerators: the stand-in cannot honour it")
    for tensor in config.get("input") or []:
        if tensor.get("allow_ragged_batch"):
            raise ConfigError(f"input {tensor['name']!r}: the stand-in cannot honour allow_ragged_batch")


def _spec(value: Any) -> TensorSpec:
    if value.type not in TRITON_TYPES:
        raise ConfigError(f"{value.name!r}: wanted a tensor type that Triton has, got {value.type}")
    dims = tuple(dim if isinstance(dim, int) else -1 for dim in value.shape)
    return TensorSpec(value.name, TRITON_TYPES[value.type], dims)


def _integer(parameters: Mapping[str, str], key: str, default: int) -> int:
    text = parameters.get(key)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise ConfigError(f"parameter {key}: wanted an integer, got {text!r}") from error


def _switch(parameters: Mapping[str, str], key: str, *, default: bool) -> bool:
    text = parameters.get(key)
    if text is None:
        return default
    if text.lower() not in _SWITCH:
        raise ConfigError(f"parameter {key}: wanted one of {', '.join(_SWITCH)}, got {text!r}")
    return _SWITCH[text.lower()]


def _graph_level(config: Mapping[str, Any]) -> int:
    graph = (config.get("optimization") or {}).get("graph") or {}
    return int(graph.get("level") or 0)
