"""The closed forms: Che's approximation against a cache that is simulated, balance and costs by hand."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.scaling.costs import Machine, cost_per_million, pods_on, read_machines, replicas
from benchmarks.scaling.limits_of_design import (
    busiest_share,
    hit_ratio,
    requests_until,
    resolve_s,
    warm_hit_ratio,
    zipf,
)


def test_che_against_a_real_cache() -> None:
    """An LRU cache of 200 of 5000 texts, fed with a Zipf law."""
    shares = zipf(5000, 0.9)
    cache: OrderedDict[int, None] = OrderedDict()
    asked = np.random.default_rng(0).choice(5000, size=120_000, p=shares).tolist()
    hits = 0
    for number, text in enumerate(asked):
        found = text in cache
        hits += found and number >= 20_000
        cache[text] = None
        cache.move_to_end(text)
        if len(cache) > 200:
            cache.popitem(last=False)
    assert hit_ratio(shares, 200) == pytest.approx(hits / 100_000, abs=0.01)


def test_a_cache_for_everything_hits_always() -> None:
    assert hit_ratio(zipf(100, 1.0), 100) == 1.0


def test_warming_up() -> None:
    shares = zipf(1000, 0.9)
    # The second request hits if it is the same text as the first.
    assert warm_hit_ratio(shares, 100, 1) == pytest.approx(float((shares**2).sum()), rel=0.1)
    needed = requests_until(shares, 100, 0.9)
    assert warm_hit_ratio(shares, 100, needed) == pytest.approx(0.9 * hit_ratio(shares, 100))


def test_busiest_pod() -> None:
    assert busiest_share(1, 5) == 1
    # Two connections to two pods: half of the time both on one, which is then twice its share.
    assert busiest_share(2, 2) == pytest.approx(1.5, abs=0.05)
    assert busiest_share(10, 10_000) < 1.1


def test_first_of_several_connections_to_be_too_old() -> None:
    ages = np.random.default_rng(0).uniform(0, 300, size=(20_000, 4))
    assert resolve_s(4, 300) == pytest.approx((300 - ages).min(axis=1).mean(), rel=0.02)


def test_costs_by_hand() -> None:
    # A dollar an hour at 100 texts/s: 360,000 texts.
    assert cost_per_million(1.0, 100.0) == pytest.approx(1 / 0.36)
    assert (replicas(1000, 300), replicas(900, 300), replicas(1, 300, least=3)) == (4, 3, 3)


@pytest.mark.parametrize(("processors", "memory_gib", "pods"), [(16, 64, 3), (16, 8, 2), (5, 64, 0), (6, 64, 1)])
def test_pods_that_fit(processors: int, memory_gib: float, pods: int) -> None:
    machine = Machine("x", processors, memory_gib, 1.0, "", "2026", "here")
    assert pods_on(machine, 5, 3) == pods


def test_a_price_without_a_source_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "machines.toml"
    path.write_text('[[machine]]\nname = "x"\nprocessors = 4\nmemory_gib = 8\nusd_per_hour = 1.0\nas_of = "2026"\n')
    with pytest.raises(BenchmarkError, match="source"):
        read_machines(path)


def test_shipped_prices_have_dates_and_sources() -> None:
    machines = read_machines()
    assert len(machines) > 5
    assert all(machine.as_of and machine.source and machine.usd_per_hour > 0 for machine in machines)
