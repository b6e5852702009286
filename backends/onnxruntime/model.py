"""The ONNX Runtime backend for a Triton that has none: a stand-in for NVIDIA's C++ backend of the same name.

Triton from PyPI ships no ONNX Runtime backend; this Python-based backend fills the gap, so that
`backend: "onnxruntime"` means the same with both. Per execute it gathers all requests, runs the graph once and splits
the outputs:

    graph inputs: (batch of each request, ...)  ->  run on (sum of batches, ...)  ->  graph outputs per request

It does nothing for speed that the C++ backend would not do. In one thing it is kinder: when a run of several requests
fails, each is run again alone, so that only the faulty one is refused; the C++ backend refuses them all.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from session import (
    ConfigError,
    check_signature,
    model_path,
    open_session,
    read_signature,
    run_options,
    session_options,
    signature,
)

# What the stand-in takes the place of `--backend-config=onnxruntime,intra_op_thread_count=N`: a Python-based backend
# does not get that option.
_THREADS_VARIABLE = "ONNXRUNTIME_INTRA_OP_THREADS"

# What ONNX Runtime raises when a run fails; none of them has a base class of its own.
_RUN_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.RuntimeException,
    ort_errors.EPFail,
    ort_errors.NotImplemented,
    RuntimeError,
    ValueError,
    MemoryError,
)


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Take inputs and outputs from the graph where config.pbtxt has none."""
        config = auto_complete_model_config.as_dict()
        if config["input"] and config["output"]:
            return auto_complete_model_config
        graph = read_signature(model_path(config, Path(pb_utils.get_model_dir())))
        first = 1 if config["max_batch_size"] > 0 else 0
        for specs, configured, add in (
            (graph.inputs, config["input"], auto_complete_model_config.add_input),
            (graph.outputs, config["output"], auto_complete_model_config.add_output),
        ):
            if not configured:
                for spec in specs:
                    add({"name": spec.name, "data_type": spec.data_type, "dims": list(spec.dims[first:])})
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        try:
            path = model_path(config, Path(pb_utils.get_model_dir()))
            options = session_options(config, int(os.environ.get(_THREADS_VARIABLE, "0")))
            self._run_options = run_options(config)
            kind = args["model_instance_kind"]
            self._session = open_session(path, options, kind, int(args["model_instance_device_id"]))
            graph = signature(self._session)
            check_signature(graph, config)
        except (ConfigError, *_RUN_ERRORS) as error:
            raise pb_utils.TritonModelException(f"model '{args['model_name']}': {error}") from error
        self._inputs = [spec.name for spec in graph.inputs]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        pb_utils.Logger.log_info(
            f"{args['model_name']}: ONNX Runtime {ort.__version__} (Python stand-in), "
            f"{self._session.get_providers()[0]}, {options.intra_op_num_threads or 'default'} intra-op threads"
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        feeds = [self._feed(request) for request in requests]
        try:
            outputs = self._run(feeds)
        except _RUN_ERRORS as error:
            if len(requests) > 1:
                return [response for request in requests for response in self.execute([request])]
            message = f"onnx runtime error: {error}"
            return [pb_utils.InferenceResponse(error=pb_utils.TritonError(message))]
        return [
            _response(request, dict(zip(self._outputs, arrays, strict=True)))
            for request, arrays in zip(requests, outputs, strict=True)
        ]

    def _feed(self, request: Any) -> list[np.ndarray]:
        """A request's inputs, in the graph's order."""
        return [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs]

    def _run(self, feeds: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
        """Run once on all requests together: outputs per request."""
        if len(feeds) == 1:
            return [self._session.run(self._outputs, dict(zip(self._inputs, feeds[0], strict=True)), self._run_options)]
        joined = [np.concatenate(arrays) for arrays in zip(*feeds, strict=True)]
        outputs = self._session.run(self._outputs, dict(zip(self._inputs, joined, strict=True)), self._run_options)
        sizes = [feed[0].shape[0] for feed in feeds]
        if any(output.shape[0] != sum(sizes) for output in outputs):
            raise ValueError(f"wanted {sum(sizes)} rows in each output, got {[output.shape for output in outputs]}")
        ends = np.cumsum(sizes)[:-1]
        return [list(arrays) for arrays in zip(*(np.split(output, ends) for output in outputs), strict=True)]


def _response(request: Any, arrays: dict[str, np.ndarray]) -> Any:
    wanted = request.requested_output_names()
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, arrays[name]) for name in arrays if name in wanted])
