"""Batches of one shape: every row once, and nothing but rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robustjax.batching import batches_of_one_shape


@given(st.integers(0, 30), st.integers(1, 12), st.integers(0, 30))
def test_every_row_is_kept_once_and_all_batches_have_one_shape(total, size, first):
    values, found = np.arange(total) ** 2, np.full(total, -1)
    done = min(first, total)
    for batch in batches_of_one_shape(total, size, first):
        assert batch.rows.shape == (size,) and batch.kept.start == done
        assert np.all((batch.rows >= 0) & (batch.rows < total))
        found[batch.kept] = batch.without_filling(values[batch.rows])
        done = batch.done
    assert done == max(total, min(first, total))
    np.testing.assert_array_equal(found[first:], values[first:])
    assert np.all(found[:first] == -1)
