"""schemathesis: what our own OpenAPI document promises and what it rules out, against the running shim.

Some good and some bad requests for each operation, the same ones every time. EMBEDDING_TESTS_EXAMPLES=1000 asks for so
many of each, other ones each time.
"""

from __future__ import annotations

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from client.rest import Settings, create_app
from tests.support.service import Service

pytestmark = pytest.mark.triton

_ASKED = os.environ.get("EMBEDDING_TESTS_EXAMPLES")
_EXAMPLES = settings(
    max_examples=int(_ASKED or 15),
    derandomize=_ASKED is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
DOCUMENT = schemathesis.openapi.from_dict(create_app(Settings()).openapi())
OPERATIONS = {operation.ok().label: operation.ok() for operation in DOCUMENT.get_all_operations()}
WITH_BODY = [label for label, operation in OPERATIONS.items() if len(operation.body)]


def test_every_route_is_there() -> None:
    assert {"POST /embedding", "POST /v1/embeddings", "POST /embed", "POST /", "POST /tokenize"} == set(WITH_BODY)
    assert {"GET /info", "GET /v1/models", "GET /health/ready", "GET /metrics"} < set(OPERATIONS)


@pytest.mark.parametrize("label", OPERATIONS)
def test_what_is_promised(service: Service, label: str) -> None:
    _ask(service, OPERATIONS[label], GenerationMode.POSITIVE)


@pytest.mark.parametrize("label", WITH_BODY)
def test_what_is_ruled_out(service: Service, label: str) -> None:
    _ask(service, OPERATIONS[label], GenerationMode.NEGATIVE)


def _ask(service: Service, operation: APIOperation, mode: GenerationMode) -> None:
    """No 500; each status, header and body is as documented; what is ruled out is refused."""

    @_EXAMPLES
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        # What the document cannot say: the served model bounds some numbers, and has the prompts that it has.
        unsaid = [positive_data_acceptance]
        case.call_and_validate(base_url=service.rest_url, timeout=60, excluded_checks=unsaid)

    ask()
