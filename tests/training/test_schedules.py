"""Learning rates against the schedules written out by hand."""

import math

import numpy as np
import pytest

from robustjax.training.schedules import depends_on_length, learning_rate_schedule, warmed_up


def rates(kind, epochs=10, steps_per_epoch=4, **options):
    schedule = learning_rate_schedule(
        kind, peak=0.1, epochs=epochs, steps_per_epoch=steps_per_epoch, **options
    )
    return np.array([float(schedule(step)) for step in range(epochs * steps_per_epoch)])


def test_constant():
    np.testing.assert_allclose(rates("constant"), 0.1)


def test_piecewise_falls_after_the_named_epochs():
    found = rates("piecewise", decay_epochs=(3, 7), decay_factors=(0.1, 0.5))
    np.testing.assert_allclose(found[:12], 0.1, rtol=1e-6)
    np.testing.assert_allclose(found[12:28], 0.01, rtol=1e-6)
    np.testing.assert_allclose(found[28:], 0.005, rtol=1e-6)


def test_one_factor_serves_every_decay():
    found = rates("piecewise", decay_epochs=(3, 7), decay_factors=(0.1,))
    np.testing.assert_allclose(found[[0, 12, 28]], [0.1, 0.01, 0.001], rtol=1e-6)


def test_decays_that_fall_on_one_step_both_count():
    found = rates("piecewise", decay_epochs=(1, 1.01), decay_factors=(0.1, 0.5))
    np.testing.assert_allclose(found[4:], 0.005, rtol=1e-6)


def test_warm_up_rises_linearly_and_does_not_move_the_decays():
    found = rates("piecewise", decay_epochs=(3,), decay_factors=(0.1,), warmup_epochs=2)
    np.testing.assert_allclose(found[:8], 0.1 * np.arange(1, 9) / 8, rtol=1e-5)
    np.testing.assert_allclose(found[8:12], 0.1, rtol=1e-6)
    np.testing.assert_allclose(found[12:], 0.01, rtol=1e-6)


def test_cosine_is_half_a_cosine():
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(40) / 40))
    np.testing.assert_allclose(rates("cosine"), expected, rtol=1e-5, atol=1e-8)


def test_cyclic_peaks_at_two_fifths():
    found = rates("cyclic")
    expected = np.interp(np.arange(1, 41), [0, 16, 40], [0, 0.1, 0])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("linear", {}, "schedule='linear'"),
        ("piecewise", {"decay_epochs": (7, 3)}, "decay_epochs=7,3"),
        ("piecewise", {"decay_epochs": (3, 7), "decay_factors": (1, 1, 1)}, "has 3 values"),
        ("cosine", {"warmup_epochs": 10}, "warmup_epochs=10"),
        ("cyclic", {"warmup_epochs": 1}, "leave out warmup_epochs"),
        (
            "piecewise",
            {"decay_epochs": (2,), "decay_factors": (0.1,), "warmup_epochs": 2},
            "the first, 2, must lie after the warmup_epochs=2",
        ),
    ],
)
def test_wrong_options_are_named(kind, options, message):
    with pytest.raises(ValueError, match=message):
        rates(kind, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "cosin"}, "schedule='cosin': accepted are .*; did you mean 'cosine'"),
        ({"peak": math.nan}, "learning_rate=nan: accepted are finite numbers"),
        ({"peak": -0.1}, "learning_rate=-0.1: accepted are finite numbers"),
        ({"peak": "0.1"}, "learning_rate=0.1: accepted are finite numbers"),
        ({"epochs": math.nan}, "epochs=nan: accepted are finite numbers"),
        ({"epochs": 1e300}, r"epochs=1e\+300: accepted are finite numbers"),
        ({"steps_per_epoch": 2.5}, "steps_per_epoch=2.5: accepted are whole numbers"),
        ({"warmup_epochs": math.inf}, "warmup_epochs=inf: accepted are finite numbers"),
        ({"decay_epochs": 2}, "decay_epochs=2: accepted is a sequence of numbers"),
        ({"decay_epochs": "75,90"}, "decay_epochs=75,90: accepted is a sequence of numbers"),
        ({"decay_epochs": (math.nan,)}, "decay_epochs=nan: accepted are finite numbers"),
        ({"decay_factors": (math.inf,)}, "decay_factors=inf: accepted are finite numbers"),
    ],
)
def test_numbers_that_are_none_are_named(options, message):
    given = {"kind": "piecewise", "peak": 0.1, "epochs": 10, "steps_per_epoch": 4}
    with pytest.raises(ValueError, match=message):
        learning_rate_schedule(
            **{**given, "decay_epochs": (3,), "decay_factors": (0.1,), **options}
        )


def test_which_schedules_can_be_made_longer():
    drops = {"decay_epochs": (3,), "decay_factors": (0.1,)}
    shorter, longer = rates("piecewise", **drops), rates("piecewise", 20, **drops)
    np.testing.assert_array_equal(shorter, longer[:40])
    assert not depends_on_length("piecewise") and not depends_on_length("constant")
    assert depends_on_length("cosine") and depends_on_length("cyclic")


def test_warmed_up_value():
    assert [warmed_up(0.3, epoch, 2.0) for epoch in (0.0, 1.0, 2.0, 5.0)] == [0.0, 0.15, 0.3, 0.3]
    assert warmed_up(0.3, 0.0, 0.0) == 0.3
