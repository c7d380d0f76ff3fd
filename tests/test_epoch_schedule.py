"""Numbers that follow the epoch: what a text means, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustjax.epoch_schedule import EpochSchedule, known_values, parse_schedule


@pytest.mark.parametrize(
    ("text", "epochs", "values"),
    [
        ("3", [0, 7.5], [3, 3]),
        ("0,1@50,2@90", [0, 49.99, 50, 89.9, 90, 1000], [0, 0, 1, 1, 2, 2]),
        ("8/255,16/255@2", [1.5, 2], [8 / 255, 16 / 255]),
        ("0.5..0@100", [0, 25, 50, 100, 200], [0.5, 0.375, 0.25, 0, 0]),
        ("1..3@4", [1], [1.5]),
    ],
)
def test_a_text_means_what_it_says(text, epochs, values):
    schedule = parse_schedule(text)
    np.testing.assert_allclose([schedule(epoch) for epoch in epochs], values)


@pytest.mark.parametrize(
    "text", [None, 5, "", "a", "1,2", "1@5", "0,1@2,3@2", "0,1@0", "1..2", "1..2@0"]
)
def test_what_is_no_schedule_is_refused(text):
    with pytest.raises(ValueError, match="accepted are a number; steps"):
        parse_schedule(text)


@pytest.mark.parametrize(
    ("epochs", "values", "message"),
    [
        ((5.0,), (1.0,), r"epochs=\(5.0,\): accepted are increasing ones from 0 on"),
        ((), (), r"epochs=\(\): accepted are"),
        ((0.0, 2.0, 2.0), (1.0, 2.0, 3.0), "epochs=.*: accepted are increasing"),
        ((0.0, 2.0), (1.0,), r"values=\(1.0,\): accepted is one for each of the epochs"),
    ],
)
def test_points_that_make_no_schedule_are_refused(epochs, values, message):
    with pytest.raises(ValueError, match=message):
        EpochSchedule(epochs, values)


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=5),
    st.lists(st.integers(1, 50), min_size=5, max_size=5),
    st.floats(0, 300),
)
def test_the_text_of_a_schedule_gives_it_back(values, gaps, epoch):
    starts = np.cumsum(gaps)
    later = zip(values[1:], starts, strict=False)
    text = ",".join([repr(values[0]), *(f"{value!r}@{start}" for value, start in later)])
    schedule = parse_schedule(text)
    assert parse_schedule(str(schedule)) == schedule
    reached = [value for value, start in zip(values[1:], starts, strict=False) if start <= epoch]
    assert schedule(epoch) == [values[0], *reached][-1]


def test_the_known_values_are_those_it_runs_through():
    assert known_values(parse_schedule("0,1@5")) == (0, 1)
    assert known_values(2.5) == (2.5,)
    assert known_values(lambda epoch: epoch) == ()
