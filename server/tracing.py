"""Triton's own spans, where the standard OTEL_ variables ask for traces; the REST shim reads the same variables.

Only requests that bring a W3C trace context along are traced (`rate=0`), and the shim passes on those only that are
sampled: so its sampler decides for both. Triton speaks OTLP over HTTP only.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["tracing_options"]


def tracing_options(environment: Mapping[str, str]) -> list[str]:
    """Triton's options for tracing; none where nobody asked for it, or for a way that Triton does not have."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    exporter = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if exporter != "otlp" or (protocol or "http/protobuf") == "grpc":
        return []
    url = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if not url and (base := environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")):
        url = f"{base.rstrip('/')}/v1/traces"
    if not url:
        return []
    return [
        "--trace-config=mode=opentelemetry",
        "--trace-config=rate=0",
        "--trace-config=level=TIMESTAMPS",
        f"--trace-config=opentelemetry,url={url}",
    ]
