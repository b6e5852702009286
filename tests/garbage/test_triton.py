"""Bad requests to Triton's own HTTP and gRPC ports: each has its own status, and Triton goes on.

See tests/e2e/test_bad_input_triton.py for what they do to requests beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import grpc
import httpx
import pytest
from google.protobuf import json_format
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.garbage.bodies import MARKER
from tests.garbage.tensors import BINARY_TENSORS, JSON_TENSORS, MESSAGES, NO_MESSAGES, PATHS
from tests.support.service import Service

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("_triton_still_serves")]

INFER = "/v2/models/embedding/infer"


@pytest.fixture(scope="module")
def triton_http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.http_url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def channel(service: Service) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{service.grpc_port}") as made:
        yield made


def assert_refused(answer: httpx.Response, status: int, message: str) -> None:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert_says(answer.json()["error"], message)


def assert_says(found: str, message: str) -> None:
    assert message in found
    assert found
    assert MARKER not in found
    assert "Traceback" not in found
    assert ".py" not in found


@pytest.mark.parametrize("name", JSON_TENSORS)
def test_json(triton_http: httpx.Client, name: str) -> None:
    body, status, message = JSON_TENSORS[name]
    content = body if isinstance(body, str) else json.dumps(body)
    assert_refused(triton_http.post(INFER, content=content), status, message)


@pytest.mark.parametrize("name", BINARY_TENSORS)
def test_binary(triton_http: httpx.Client, name: str) -> None:
    content, headers, status, message = BINARY_TENSORS[name]
    assert_refused(triton_http.post(INFER, content=content, headers=headers), status, message)


@pytest.mark.parametrize("name", PATHS)
def test_paths(triton_http: httpx.Client, name: str) -> None:
    method, path, status, message = PATHS[name]
    assert_refused(triton_http.request(method, path), status, message)


@pytest.mark.parametrize("name", MESSAGES)
def test_grpc(channel: grpc.Channel, name: str) -> None:
    fields, status, message = MESSAGES[name]
    request = json_format.ParseDict(fields, service_pb2.ModelInferRequest())
    with pytest.raises(grpc.RpcError) as caught:
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)
    assert caught.value.code().name == status, caught.value.details()
    assert_says(caught.value.details(), message)


@pytest.mark.parametrize("name", NO_MESSAGES)
def test_no_message(channel: grpc.Channel, name: str) -> None:
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.RpcError) as caught:
        call(NO_MESSAGES[name], timeout=30)
    assert caught.value.code().name == "INTERNAL", caught.value.details()


def test_no_such_method(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/inference.GRPCInferenceService/Nope")(b"", timeout=30)
    assert caught.value.code().name == "UNIMPLEMENTED"
