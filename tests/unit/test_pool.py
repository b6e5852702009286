"""Pooling on small arrays, against values that can be read by eye and against the definition."""

from __future__ import annotations

import numpy as np
import pool
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

STATES = np.array([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]]], dtype=np.float32)  # (1, 3, 2)


@pytest.mark.parametrize(
    ("mode", "mask", "expected"),
    [
        ("mean", [1, 1, 0], [2.0, 4.0]),
        ("mean", [1, 0, 0], [1.0, 2.0]),
        ("mean", [1, 0, 1], [5.0, 5.5]),
        ("mean", [7, 7, 0], [2.0, 4.0]),
        ("mean", [0, 0, 0], [0.0, 0.0]),
        ("cls", [1, 1, 0], [1.0, 2.0]),
        ("cls", [0, 0, 0], [0.0, 0.0]),
        ("max", [1, 1, 0], [3.0, 6.0]),
        ("max", [0, 0, 0], [0.0, 0.0]),
    ],
)
def test_values(mode: str, mask: list[int], expected: list[float]) -> None:
    pooled = pool.POOLS[mode](STATES, np.array([mask], dtype=np.int64))
    assert pooled.dtype == np.float32
    assert pooled.tolist() == [expected]


@pytest.mark.parametrize("mode", pool.POOLS)
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_padding_has_no_part(mode: str, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5)))
    values = st.floats(-100, 100, width=32)
    states = data.draw(st_np.arrays(np.float32, shape, elements=values))
    lengths = data.draw(st.lists(st.integers(1, shape[1]), min_size=shape[0], max_size=shape[0]))
    mask = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int64)
    pooled = pool.POOLS[mode](states, mask)
    other_padding = np.where(mask[:, :, None] == 0, np.float32(12345.0), states)
    np.testing.assert_array_equal(pool.POOLS[mode](other_padding, mask), pooled)
    alone = np.concatenate(
        [pool.POOLS[mode](states[i : i + 1, :n], mask[i : i + 1, :n]) for i, n in enumerate(lengths)]
    )
    np.testing.assert_allclose(pooled, alone, rtol=1e-5, atol=1e-4)
