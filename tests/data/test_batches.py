import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustjax.data import epoch_order


@given(
    seed=st.integers(0, 2**32), epoch=st.integers(0, 500), count=st.integers(1, 200), data=st.data()
)
def test_an_epoch_visits_every_example_at_most_once(seed, epoch, count, data):
    batch_size = data.draw(st.integers(1, count))
    order = epoch_order(seed, epoch, count, batch_size)
    assert order.dtype == np.int32
    assert order.shape == (count // batch_size, batch_size)
    visited = np.sort(order.ravel())
    assert len(np.unique(visited)) == visited.size
    assert visited[0] >= 0 and visited[-1] < count
    if count % batch_size == 0:
        np.testing.assert_array_equal(visited, np.arange(count))


def test_the_order_is_a_function_of_seed_and_epoch():
    reference = epoch_order(1, 2, 1000, 64)
    np.testing.assert_array_equal(reference, epoch_order(1, 2, 1000, 64))
    assert np.any(reference != epoch_order(1, 3, 1000, 64))
    assert np.any(reference != epoch_order(2, 2, 1000, 64))
    assert np.any(reference != epoch_order(2, 1, 1000, 64))
    assert np.any(reference.ravel() != np.arange(reference.size))


def test_the_dropped_examples_change():
    dropped = [set(range(100)) - set(epoch_order(0, epoch, 100, 32).ravel()) for epoch in range(40)]
    assert all(len(examples) == 4 for examples in dropped)
    assert len({frozenset(examples) for examples in dropped}) == 40
    assert len(set.union(*dropped)) > 60


def test_every_position_is_equally_likely():
    first = [epoch_order(5, epoch, 4, 4)[0, 0] for epoch in range(2000)]
    # 500 each, standard deviation 19.
    assert np.all(np.abs(np.bincount(first, minlength=4) - 500) < 100)


@pytest.mark.parametrize("batch_size", [0, -1, 11])
def test_a_batch_that_does_not_fit_is_refused(batch_size):
    with pytest.raises(ValueError, match=f"batch_size={batch_size}: accepted are 1 to 10"):
        epoch_order(0, 0, 10, batch_size)


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="seed=-1"):
        epoch_order(-1, 0, 10, 2)
