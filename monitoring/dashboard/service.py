"""Rows about the service as its users meet it: up, latency, load, cache, errors."""

from __future__ import annotations

from monitoring.dashboard.panels import (
    EMBEDS,
    ENSEMBLES,
    NAMESPACE,
    RATE,
    STEPS,
    Panel,
    graph,
    names,
    number,
    quantile,
    rate,
)

__all__ = ["cache", "errors", "fast", "loaded", "up"]


def up() -> list[Panel]:
    """Is it up?"""
    return [
        number(
            "Answering",
            "percentunit",
            "Share of the service's processes (REST shim, Triton) whose metrics Prometheus can read.",
            (f'avg(up{{job=~"embedding-rest|embedding-triton",{NAMESPACE}}})', "answering"),
            good=1,
        ),
        number(
            "Alerts firing",
            "none",
            "See docs/runbook.md for each of them.",
            ('count(ALERTS{alertstate="firing",alertname=~"Embedding.*"}) or vector(0)', "firing"),
            bad=1,
        ),
        number(
            "Our errors, last hour",
            "percentunit",
            "Requests answered with 5xx. A refusal (429) or a bad request (4xx) is none.",
            (f"max(namespace:embedding_errors:ratio_rate1h{{{NAMESPACE}}}) or vector(0)", "errors"),
            bad=0.001,
        ),
        number(
            "99 % answered within",
            "s",
            "99th percentile of the last five minutes, over all routes that embed.",
            (f"max(namespace:embedding_request_duration_seconds:p99_5m{{{NAMESPACE}}})", "p99"),
            bad=1,
        ),
        number(
            "Texts per second",
            "short",
            "Texts that were asked for through the REST shim.",
            (f"sum({rate('embedding_texts_total', NAMESPACE)})", "texts"),
        ),
        number(
            "Replicas of Triton",
            "none",
            "Those that Prometheus can read.",
            (f'count(up{{job="embedding-triton",{NAMESPACE}}} == 1)', "Triton"),
            good=1,
        ),
        names(
            "Model",
            "What is served. More than one line: a rollout, or replicas that differ.",
            (
                f"count by (model, precision, graph, digest) (embedding_model_info{{{NAMESPACE}}})",
                "{{model}}   {{precision}}   {{graph}}   {{digest}}",
            ),
        ),
    ]


def fast() -> list[Panel]:
    """How fast?"""
    duration, triton = "embedding_request_duration_seconds", "embedding_triton_duration_seconds"
    return [
        graph(
            "Time to answer",
            "s",
            "Of the routes that embed, refusals included, from the head of the request to the end of the answer.",
            (quantile(0.5, duration, EMBEDS), "50 %"),
            (quantile(0.95, duration, EMBEDS), "95 %"),
            (quantile(0.99, duration, EMBEDS), "99 %"),
            ("max(embedding:latency_target:seconds)", "target for 99 %"),
        ),
        graph(
            "Time to answer, 95 % by route",
            "s",
            "OpenAI's and TEI's routes beside /embedding.",
            (quantile(0.95, duration, EMBEDS, "le, route"), "{{route}}"),
        ),
        graph(
            "Time at Triton",
            "s",
            "The part of the time in which at least one piece of the request was at Triton.",
            (quantile(0.5, triton, NAMESPACE), "50 %"),
            (quantile(0.95, triton, NAMESPACE), "95 %"),
            (quantile(0.99, triton, NAMESPACE), "99 %"),
        ),
    ]


def loaded() -> list[Panel]:
    """How loaded?"""
    return [
        graph(
            "Requests",
            "reqps",
            "Answers of the routes that embed, by status: 429 is a refusal because of load.",
            (f"sum by (status) ({rate('embedding_requests_total', EMBEDS)})", "{{status}}"),
            stacked=True,
        ),
        graph(
            "Texts and tokens",
            "short",
            "A second; tokens are what the model saw, special tokens included.",
            (f"sum({rate('embedding_texts_total', NAMESPACE)})", "texts"),
            (f"sum({rate('embedding_tokens_total', NAMESPACE)})", "tokens"),
        ),
        graph(
            "Texts per request",
            "short",
            "Large ones are cut into pieces, and take turns with small ones.",
            (quantile(0.5, "embedding_texts_per_request", NAMESPACE), "50 %"),
            (quantile(0.99, "embedding_texts_per_request", NAMESPACE), "99 %"),
        ),
        graph(
            "In the shim",
            "short",
            "What is on its way, and what waits for room at Triton.",
            (f"sum(embedding_requests_in_flight{{{NAMESPACE}}})", "requests in flight"),
            (f"sum(embedding_texts_in_flight{{{NAMESPACE}}})", "texts at Triton"),
            (f"sum(embedding_texts_waiting{{{NAMESPACE}}})", "texts that wait"),
        ),
        graph(
            "Waiting in Triton",
            "short",
            "Requests in each step's queue, whoever sent them; Triton's queues have no bound of their own.",
            (f"sum by (model) (nv_inference_pending_request_count{{{STEPS}}})", "{{model}}"),
            stacked=True,
        ),
        graph(
            "Queue to compute",
            "none",
            "Seconds of waiting for each second of computing in Triton; what the autoscaler of GPU pods follows.",
            (f"triton:queue_compute:ratio{{{NAMESPACE}}}", "{{instance}}"),
        ),
    ]


def cache() -> list[Panel]:
    """Does the cache help?"""
    hits, misses = rate("embedding_cache_hits_total", NAMESPACE), rate("embedding_cache_misses_total", NAMESPACE)
    return [
        graph(
            "Found in the cache",
            "percentunit",
            "Texts answered without Triton.",
            (f"sum({hits}) / (sum({hits}) + sum({misses}) > 0)", "of all texts"),
        ),
        graph(
            "Size of the cache",
            "bytes",
            "It is bounded in bytes.",
            (f"embedding_cache_bytes{{{NAMESPACE}}}", "{{instance}}"),
        ),
        graph(
            "Texts in the cache", "short", "Of each shim.", (f"embedding_cache_entries{{{NAMESPACE}}}", "{{instance}}")
        ),
    ]


def errors() -> list[Panel]:
    """What goes wrong?"""
    return [
        graph(
            "Errors by route",
            "reqps",
            "4xx is the caller's (429: too much at once), 5xx is ours.",
            (
                f'sum by (route, status) (rate(embedding_requests_total{{{EMBEDS},status=~"[45].."}}{RATE}))',
                "{{route}} {{status}}",
            ),
            width=6,
        ),
        graph(
            "Refused, by reason",
            "reqps",
            "The type of the error in the answer's body.",
            (f"sum by (reason) ({rate('embedding_rejected_total', NAMESPACE)})", "{{reason}}"),
            width=6,
        ),
        graph(
            "Triton failed the shim",
            "reqps",
            "unavailable: it is gone or refuses; deadline_exceeded: too slow; server_error: it failed.",
            (f"sum by (type) ({rate('embedding_upstream_errors_total', NAMESPACE)})", "{{type}}"),
            width=6,
        ),
        graph(
            "Failures in Triton",
            "reqps",
            "Whoever asked. Triton counts a failure twice, at the ensemble, and not at the step that failed.",
            (f"sum by (model, reason) ({rate('nv_inference_request_failure', ENSEMBLES)}) / 2", "{{model}} {{reason}}"),
            width=6,
        ),
    ]
