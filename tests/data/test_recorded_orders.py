"""The orders of epochs are those that runs have been recorded with."""

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robustjax.data import epoch_order, mixed_epoch_order


def test_the_order_of_a_recorded_run_is_drawn_again():
    for order, first, digest in (
        (epoch_order(7, 3, 1000, 10), [919, 225, 21], "f176aae4cc9eb705"),
        (mixed_epoch_order(7, 3, 500, 90, 20, 0.7), [586, 109, 519], "e660d3e56981e891"),
    ):
        assert order.dtype == np.int32 and order[0, :3].tolist() == first
        content = np.ascontiguousarray(order, "<i4").tobytes()
        assert hashlib.sha256(content).hexdigest()[:16] == digest


@given(st.integers(0, 2**32), st.integers(0, 500), st.integers(1, 5000))
def test_an_epoch_is_numpys_permutation(seed, epoch, count):
    generator = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
    expected = generator.permutation(count)
    np.testing.assert_array_equal(epoch_order(seed, epoch, count, count)[0], expected)
