"""Two sets of images under one numbering."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustjax.data.joined import JoinedRows


@given(st.integers(0, 5), st.integers(0, 5), st.data())
def test_rows_are_those_of_the_arrays_one_after_the_other(first, second, data):
    random = np.random.default_rng(first)
    parts = [random.integers(0, 256, (n, 2, 3, 1), np.uint8) for n in (first, second)]
    whole, joined = np.concatenate(parts), JoinedRows(*parts)
    assert joined.shape == whole.shape and len(joined) == len(whole)
    np.testing.assert_array_equal(joined, whole)
    if len(whole):
        rows = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=9)), np.int32)
        found = joined[rows]
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, whole[rows])


def test_rows_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"uint8\[2, 2, 1\] .* uint8\[2, 2, 3\]"):
        JoinedRows(np.zeros((1, 2, 2, 1), np.uint8), np.zeros((1, 2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        JoinedRows(np.zeros((1, 2), np.uint8), np.zeros((1, 2), np.float32))
