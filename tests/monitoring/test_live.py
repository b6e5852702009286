"""A real Prometheus watches the real service under load and through the death of a step: every query has data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.dashboard.__main__ import FILE
from tests.support.watched import RESTARTS, Watched, watch

pytestmark = [pytest.mark.triton, pytest.mark.slow, pytest.mark.timeout(600)]

QUERIES = [
    (panel["title"], target["expr"])
    for panel in json.loads(FILE.read_text())["panels"]
    for target in panel.get("targets", [])
]
# What a machine without GPU and containers lacks: Triton's and DCGM's figures of GPUs, cAdvisor's of containers.
NOT_HERE = re.compile(r"nv_gpu_|gpu:|DCGM_|container_")


@pytest.fixture(scope="module")
def watched(
    model_repository: Path, real_texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    with watch(model_repository, real_texts, tmp_path_factory.mktemp("prometheus")) as seen:
        yield seen


def test_all_jobs_that_can_run_here_are_scraped(watched: Watched) -> None:
    assert set(watched.prometheus.up()) == {"embedding-rest", "embedding-triton", "node", "prometheus"}


@pytest.mark.parametrize(("panel", "expression"), QUERIES, ids=[f"{panel}-{n}" for n, (panel, _) in enumerate(QUERIES)])
def test_every_query_returns_data(watched: Watched, panel: str, expression: str) -> None:
    assert bool(watched.series(expression)) != bool(NOT_HERE.search(expression)), expression


def test_a_query_of_what_nobody_counts_is_noticed(watched: Watched) -> None:
    assert watched.series('sum(rate(embedding_request_total{namespace=~"$namespace"}[$__rate_interval]))') == []


def test_every_rule_was_evaluated_without_an_error(watched: Watched) -> None:
    rules = [rule for group in watched.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}, [rule for rule in rules if rule["health"] != "ok"]


def test_no_metric_of_a_rule_is_misspelt(watched: Watched) -> None:
    known = set(watched.prometheus.get("label/__name__/values"))
    rules = [rule for group in watched.prometheus.get("rules")["groups"] for rule in group["rules"]]
    queries = " ".join(rule["query"] for rule in rules)
    used = set(re.findall(r"\b(?:embedding|gpu|instance|namespace|nv|process|triton)[_:][a-z0-9_:]+", queries))
    assert {name for name in used - known if not NOT_HERE.search(name)} == set()


def test_the_figures_are_those_of_what_was_done(watched: Watched) -> None:
    assert max(map(max, watched.series("sum(rate(embedding_texts_total[15s]))"))) > 1
    # A text has some tokens, and an answer takes a part of a millisecond at least.
    tokens = watched.series("sum(increase(embedding_tokens_total[60s])) / sum(increase(embedding_texts_total[60s]))")
    assert 3 < tokens[0][-1] < 500
    buckets = 'rate(embedding_request_duration_seconds_bucket{route="/embedding"}[60s])'
    # Known texts come from the cache.
    assert 0.0001 < watched.series(f"histogram_quantile(0.5, sum by (le) ({buckets}))")[0][-1] < 30


def test_the_dead_step_is_seen(watched: Watched) -> None:
    """From the outside: failed requests, and counters that begin anew."""
    assert max(map(max, watched.series("sum(increase(embedding_upstream_errors_total[60s]))"))) > 0
    assert max(map(max, watched.series(RESTARTS))) == 1
