"""Queries that repeat, and what is measured with them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from benchmarks.cache_policies import found
from benchmarks.queries import Stream, sentences, shares
from tests.support.service import ROOT


@pytest.mark.slow
def test_sentences_are_many_short_and_all_different() -> None:
    texts = sentences()
    assert len(texts) > 10_000
    assert len(set(texts)) == len(texts)
    assert all(3 <= len(text.split()) <= 12 for text in texts)


def test_the_stream_follows_zipf_s_law() -> None:
    counted = Counter(Stream([str(number) for number in range(1000)], 1.0).take(200_000))
    expected = shares(1000, 1.0) * 200_000
    assert expected[0] == pytest.approx(2 * expected[1])
    for rank in (0, 1, 9, 99):
        assert counted[str(rank)] == pytest.approx(expected[rank], rel=0.25)


def test_the_stream_goes_on_and_is_the_same_each_time() -> None:
    texts = [str(number) for number in range(100)]
    one, other = Stream(texts, 1.0), Stream(texts, 1.0)
    assert one.take(10) + one.take(10) == other.take(10) + other.take(10)
    assert one.take(20) != one.take(20)


def test_policies_find_no_more_than_the_best() -> None:
    rates = [found(policy, 1000, 1.0, 0) for policy in ("lru", "tiny_lfu")]
    assert 0.4 < rates[0] < rates[1] < np.sum(shares(100_000, 1.0)[:1000])


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_measures_shims_with_and_without_a_cache() -> None:
    command = [sys.executable, "-m", "benchmarks.cache", "--mib", "1", "--exponent", "1.5", "--clients", "2"]
    command += ["--queries", "40", "--warm-up", "300", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {
        row[0]: row[1:]
        for row in re.findall(r"^\| (none|1 MiB) \| ([\d,]+) \| ([\d.]+) ?% \| ([\d.]+) ?%", done.stdout, re.M)
    }
    # Without a cache everything is embedded; with one, not what came before.
    assert rows["none"] == ("0", "0.0", "0.0")
    assert float(rows["1 MiB"][2]) > 30
    assert "Embedded more than once" in done.stdout
