import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustjax.data import Dataset, default_holdout, first, hold_out, select
from robustjax.data.splits import stratified_positions


def numbered(labels, num_classes=10):
    """A data set whose image i holds the number i."""
    labels = np.asarray(labels, np.int32)
    images = np.arange(len(labels), dtype="<u4").view(np.uint8).reshape(-1, 2, 2, 1)
    return Dataset("toy", images, labels, num_classes)


def numbers(dataset):
    return dataset.images.reshape(-1, 4).copy().view("<u4").ravel()


@settings(max_examples=60, deadline=None)
@given(labels=st.lists(st.integers(0, 9), min_size=2, max_size=80), data=st.data())
def test_hold_out_partitions_and_balances(labels, data):
    size = data.draw(st.integers(1, len(labels) - 1))
    dataset = numbered(labels)
    train, held = hold_out(dataset, size)
    assert len(held) == size and len(train) == len(labels) - size
    assert sorted([*numbers(train), *numbers(held)]) == list(range(len(labels)))
    for part in (train, held):
        assert list(numbers(part)) == sorted(numbers(part))
        np.testing.assert_array_equal(part.labels, dataset.labels[numbers(part)])
    wanted = np.bincount(labels, minlength=10) * size / len(labels)
    assert np.all(np.abs(np.bincount(held.labels, minlength=10) - wanted) < 1)


def test_hold_out_takes_the_middle_of_equal_stretches():
    assert list(stratified_positions(np.zeros(10, int), 2)) == [2, 7]
    assert list(stratified_positions(np.zeros(9, int), 3)) == [1, 4, 7]
    assert list(stratified_positions(np.array([0, 1] * 4), 2)) == [4, 5]


def test_hold_out_is_deterministic_and_leaves_the_data_set_alone():
    dataset = numbered(np.arange(50) % 10)
    first, second = hold_out(dataset, 7), hold_out(dataset, 7)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
    first[0].images[:] = 0
    assert list(numbers(dataset)) == list(range(50))


def test_nothing_held_out():
    dataset = numbered([0, 1, 2])
    train, held = hold_out(dataset, 0)
    assert train is dataset and held is None


@pytest.mark.parametrize("size", [-1, 3, 1000])
def test_a_hold_out_that_leaves_nothing_is_refused(size):
    with pytest.raises(ValueError, match=f"holdout={size}: accepted are 0 to 2"):
        hold_out(numbered([0, 1, 2]), size)


def test_default_holdout():
    assert [default_holdout(n) for n in (50000, 10000, 9990, 1437, 5)] == [1000, 1000, 999, 143, 0]


def test_select_takes_masks_and_positions():
    dataset = numbered([3, 1, 2])
    assert list(numbers(select(dataset, np.array([2, 0])))) == [2, 0]
    assert list(select(dataset, np.array([False, True, True])).labels) == [1, 2]


def test_a_set_in_the_order_of_its_classes_is_cut_with_a_warning():
    labels = np.repeat(np.arange(4, dtype=np.int32), 5)
    ordered = Dataset("ordered", np.zeros((20, 2, 2, 1), np.uint8), labels, 4)
    with pytest.warns(UserWarning, match="first 5 of 'ordered' are of 1 of its 4 classes"):
        assert len(first(ordered, 5)) == 5
    with warnings.catch_warnings(action="error"):
        first(ordered, 10)
        first(ordered, 1)
