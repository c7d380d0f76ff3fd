"""The early-stopping benchmark: its budgets, and attacks on both sides that stop where they say."""

from functools import partial

import jax
import numpy as np
import pytest

from benchmarks import early_stopping, early_stopping_cases, workload
from benchmarks.early_stopping_attack import Found, LibraryAttack
from benchmarks.early_stopping_cases import SPREADS, Case
from benchmarks.workload import Setting

SETTING = Setting("standard", "cifar_resnet_8", batch_size=6, steps=2, image_size=8)
BUDGETS = Case("budgets", budget=np.array([0, 1, 2, 2, 1, 0], np.int32))


@pytest.fixture(scope="module")
def small():
    return workload.create(SETTING)


@pytest.fixture(scope="module")
def library(small):
    return LibraryAttack(small)


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("mean", [0, 2, 5, 8, 10])
def test_budgets_have_the_mean_asked_for(spread, mean):
    budgets = early_stopping_cases.drawn(spread, mean, 10, 128)
    assert budgets.dtype == np.int32
    assert budgets.min() >= 0 and budgets.max() <= 10
    assert budgets.mean() == pytest.approx(mean, abs=0.02)
    assert (mean in (0, 10)) == (len(set(budgets.tolist())) == 1)


def test_uniform_budgets_are_spread_evenly_as_far_as_they_reach():
    for mean, values in ((2, range(5)), (8, range(6, 11))):
        budgets = early_stopping_cases.drawn("uniform", mean, 10, 100)
        assert np.bincount(budgets).tolist() == [0] * values[0] + [20] * 5


def test_geometric_budgets_end_with_one_probability_after_every_step():
    budgets = early_stopping_cases.drawn("geometric", 3, 10, 100_000)
    going_on = np.array([np.mean(budgets >= count) for count in range(11)])
    rates = going_on[1:] / going_on[:-1]
    np.testing.assert_allclose(rates, rates[0], rtol=0.005)


def test_cases_are_the_means_then_the_taus_in_an_order_of_the_seed():
    options = {"steps": 10, "batch_size": 64}
    first, second, rule = early_stopping_cases.create([2, 6], "uniform", [1], seed=0, **options)
    assert (first.budget.mean(), second.budget.mean()) == (2, 6)
    assert rule.budget is None and rule.tau == 1 and first.tau is None
    other, *_ = early_stopping_cases.create([2], "uniform", [], seed=1, **options)
    assert sorted(other.budget) == sorted(first.budget) and list(other.budget) != list(first.budget)


def test_the_bound_is_that_of_one_evaluation_more_than_steps():
    assert early_stopping_cases.bound(2, 10) == pytest.approx(0.4)
    assert early_stopping_cases.bound(10, 10) == pytest.approx(1.2)


@pytest.mark.parametrize("form", ["masked", "compacted"])
def test_examples_take_the_steps_of_their_budgets(library, form):
    whole, found = library.run("whole", BUDGETS), library.run(form, BUDGETS)
    assert (whole.steps_taken == 2).all()
    np.testing.assert_array_equal(found.steps_taken, BUDGETS.budget)
    # They are other programs, which may round otherwise.
    same = np.mean(np.abs(found.images - whole.images) < 1e-6, axis=(1, 2, 3)) > 0.95
    np.testing.assert_array_equal(same, BUDGETS.budget == 2)
    np.testing.assert_allclose(found.images[[0, 5]], library.starts()[[0, 5]], atol=1e-6)


@pytest.mark.parametrize("form", ["masked", "compacted"])
def test_the_rule_stops_what_is_misclassified(small, library, form):
    found = library.run(form, Case("rule", tau=0))
    model = small.experiment.model
    logits = jax.jit(model.apply)(small.state.variables(), found.images)
    stopped = found.steps_taken < 2
    assert stopped.any()
    assert (np.argmax(logits, axis=1) != small.labels)[stopped].all()


def test_only_the_compacted_form_loops_over_what_is_left(library):
    for form in (False, True):
        name = "compacted" if form else "masked"
        attack = partial(library._attack, steps=2, form=name)
        traced = jax.make_jaxpr(attack)(*library._batch, BUDGETS.budget, None)
        assert ("while[" in str(traced)) == form


def test_a_chunk_is_the_part_of_the_batch_that_is_asked_for(library):
    def rows_together(form):
        attack = partial(library._attack, steps=2, form=form)
        traced = str(jax.make_jaxpr(attack)(*library._batch, BUDGETS.budget, None))
        return {size for size in (2, 3, 6) if f"f32[{size},8,8,16]" in traced}

    assert rows_together("compacted 1/2") == {3}
    assert rows_together("compacted 1/3") == {2}
    assert rows_together("masked") == {6}


def test_chunks_find_what_the_masked_form_finds(library):
    masked, found = (library.run(form, BUDGETS) for form in ("masked", "compacted 1/2"))
    np.testing.assert_array_equal(found.steps_taken, masked.steps_taken)
    np.testing.assert_allclose(found.images, masked.images, atol=1e-6)


def test_agreement_is_counted_pixel_by_pixel():
    images, steps = np.zeros((2, 2, 2, 3), np.float32), np.array([1, 2])
    moved = images.copy()
    moved[0, 0, 0, :] = 1e-7
    agreed = early_stopping._agreement(Found(images, steps), Found(moved, np.array([1, 3])))
    assert agreed == {"mean_steps": 2, "equal_steps": 0.5, "equal_pixels": 21 / 24}


def test_ratios_are_named_after_their_sides():
    seconds = {"whole": [2.0, 4], "masked": [2.0, 4], "compacted": [1.0, 2]}
    ratios = early_stopping._ratios(seconds)
    assert set(ratios) == {"compacted_over_whole", "masked_over_whole"}
    assert ratios["compacted_over_whole"]["median"] == 0.5
    ratios = early_stopping._ratios(seconds | {"compacted 1/4": [1.0, 1.0]})
    medians = {part: value["median"] for part, value in early_stopping.chunk_ratios(ratios).items()}
    assert medians == {"1/4": 0.375}
    ratios = early_stopping._ratios(seconds | {"torch whole": [8, 8], "torch shrinking": [4, 4]})
    assert ratios["torch_shrinking_over_torch_whole"]["median"] == 0.5
    assert ratios["compacted_over_torch_shrinking"]["lower_quartile"] == 0.3125


CASES = [BUDGETS, Case("rule", tau=0), Case("rule", tau=1)]


@pytest.mark.parametrize("case", CASES, ids=["budgets", "tau 0", "tau 1"])
def test_pytorch_s_shrinking_batch_finds_what_the_library_finds(small, library, case):
    pytest.importorskip("torch")
    from benchmarks import early_stopping_peer

    peer = early_stopping_peer.create(small, threads=1)
    start = library.starts()
    images, taken = peer.shrinking(case.budget, case.tau, start=start)
    found = library.run("masked", case)
    np.testing.assert_array_equal(taken, found.steps_taken)
    # Rounding may turn the sign of a gradient that is nearly zero.
    assert np.mean(np.abs(images - found.images) < 1e-6) > 0.99
    images, _ = peer.whole(start)
    assert np.mean(np.abs(images - library.run("whole", case).images) < 1e-6) > 0.99
