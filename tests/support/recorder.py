"""Stands where Triton stands, and writes down what comes along with a call: for what a real Triton does not show."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

_MANIFEST = {
    "model": "recorder",
    "revision": None,
    "license": None,
    "architecture": "none",
    "precision": "fp32",
    "graph": "none",
    "pooling": "mean",
    "normalize": False,
    "hidden_size": 4,
    "max_positions": 512,
    "max_sequence_length": 256,
}


@dataclass
class Recorder(service_pb2_grpc.GRPCInferenceServiceServicer):
    """The ids and the metadata of all embeddings that were asked for."""

    url: str = ""
    ids: list[str] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    # Embeddings wait while it is not set.
    answers: threading.Event = field(default_factory=threading.Event)
    digest: str = "sha256:0"

    def __post_init__(self) -> None:
        self.answers.set()

    def ModelInfer(
        self, request: service_pb2.ModelInferRequest, context: grpc.ServicerContext
    ) -> service_pb2.ModelInferResponse:
        answer = service_pb2.ModelInferResponse(id=request.id)
        for output in request.outputs:
            rows = request.inputs[0].shape[0]
            match output.name:
                case "MANIFEST":
                    raw = json.dumps({**_MANIFEST, "digest": self.digest}).encode()
                    answer.raw_output_contents.append(len(raw).to_bytes(4, "little") + raw)
                case "EMBEDDING":
                    assert self.answers.wait(60)
                    answer.raw_output_contents.append(np.ones((rows, 4), "<f4").tobytes())
                    self.ids.append(request.id)
                    self.metadata.append(dict(context.invocation_metadata()))
                case "TOKENS":
                    answer.raw_output_contents.append(np.full(rows, 3, "<i4").tobytes())
            answer.outputs.add(name=output.name, shape=[rows, 4 if output.name == "EMBEDDING" else 1])
        return answer

    def ServerMetadata(
        self, request: service_pb2.ServerMetadataRequest, context: grpc.ServicerContext
    ) -> service_pb2.ServerMetadataResponse:
        return service_pb2.ServerMetadataResponse(name="recorder", version="0")


@contextlib.contextmanager
def recording(port: int = 0, digest: str = "sha256:0") -> Iterator[Recorder]:
    """Run one in the block, with a model of that digest; port 0 takes a free one."""
    with ThreadPoolExecutor(32) as threads:
        server = grpc.server(threads)
        recorder = Recorder(digest=digest)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(recorder, server)
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        recorder.url = f"grpc://127.0.0.1:{port}"
        server.start()
        try:
            yield recorder
        finally:
            server.stop(None).wait()
