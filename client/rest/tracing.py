"""A span per request, where the standard OTEL_ variables ask for it, and one trace through to Triton.

traceparent of the caller  ->  FastAPI's span  ->  Account.call.trace_context  ->  Triton's own spans

FastAPI makes and exports the spans; here they get what it does not know. Without OTEL_EXPORTER_OTLP_ENDPOINT or
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT nothing is imported and no span is made; the caller's context, if it is sampled, is
passed on even then.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from client import __version__
from client.rest.account import Account, Keeper, is_probe

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["SERVICE_NAME", "Tracing", "telemetry"]

# What the service is called in traces and logs. OTEL_SERVICE_NAME changes it in traces.
SERVICE_NAME = "embedding-rest"

# The only form that Triton reads, whatever OTEL_PROPAGATORS says of the caller's.
_W3C = TraceContextTextMapPropagator()


def telemetry(environment: Mapping[str, str] = os.environ) -> TelemetryConfig:
    """FastAPI's settings: spans of requests and nothing else, no metrics, no logs, none of health checks."""
    wanted = _wanted(environment)
    return TelemetryConfig(
        tracing=wanted,
        tracer_provider=_provider() if wanted else None,
        auto_configure=wanted,
        metrics=False,
        logs=False,
        operation_spans=False,
        exclude=lambda scope: is_probe(scope["path"]),
    )


class Tracing(Keeper):
    """Joins spans and accounts. Costs next to nothing where there is no span."""

    def opened(self, account: Account) -> None:
        """See Keeper."""
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return
        account.trace_id, account.span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        carrier: dict[str, str] = {}
        if context.trace_flags.sampled:  # Triton does not look at this flag
            _W3C.inject(carrier)
        account.call.trace_context = carrier

    def answering(self, account: Account) -> None:
        """See Keeper. The span ends with the last byte, before `closed`."""
        span = trace.get_current_span()
        if not span.is_recording():
            return
        span.set_attributes(
            {
                "client.address": account.client,
                "embedding.request_id": account.call.request_id,
                "embedding.texts": account.texts,
                "embedding.tokens": account.tokens,
                "embedding.cache_hits": account.cache_hits,
                "embedding.triton_ms": round(1000 * account.call.server_s, 3),
            }
        )
        if account.error:
            span.set_attribute("error.type", account.error)


def _wanted(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "none":
        return False
    return any(environment.get(name) for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"))


def _provider() -> TracerProvider:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    # Reads OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": SERVICE_NAME}))
    return TracerProvider(resource=resource)
