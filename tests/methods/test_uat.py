"""UAT++: its two terms and its variants, examples without a label, and the settings."""

from pathlib import Path

import jax
import numpy as np
import pytest

from robustjax import methods
from robustjax.flags import read_flags

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
ABSENT = np.array([False, True, False, True, True, False])


@pytest.fixture(scope="module")
def partly_labelled(problem):
    return problem.with_labels(np.where(ABSENT, -1, problem.labels))


def test_one_image_climbs_the_cross_entropy_of_the_label_or_of_the_prediction(
    partly_labelled, problem, formulas
):
    method = methods.create("uat")
    predicted = problem.logits(problem.clean, "eval").argmax(axis=1)
    assert np.any(predicted[ABSENT] != problem.labels[ABSENT])
    labels = np.where(ABSENT, predicted, problem.labels)

    def objective(images):
        return formulas.cross_entropy(problem.logits(images, "eval"), labels).sum()

    expected = problem.ascended(partly_labelled.start(method), objective)
    np.testing.assert_allclose(partly_labelled.perturb(method).images, expected, atol=2e-6)


@pytest.mark.parametrize("variant", ["both", "online"])
def test_each_variant_has_its_terms(variant, partly_labelled, problem, formulas):
    method = methods.create("uat", beta=3.0, variant=variant)
    assert method.unlabelled
    perturbation = partly_labelled.perturb(method)
    clean = problem.logits(problem.clean, "train")
    adversarial = problem.logits(perturbation.images, "train")
    expected = np.where(ABSENT, 0, formulas.cross_entropy(adversarial, problem.labels))
    divergence = formulas.divergence(clean, adversarial)
    expected += 3.0 * (np.where(ABSENT, divergence, 0) if variant == "online" else divergence)
    loss = partly_labelled.outer(method, perturbation).loss
    np.testing.assert_allclose(loss, expected, rtol=2e-5)


def test_with_every_label_online_targets_leave_only_the_cross_entropy(problem):
    method = methods.create("uat", variant="online")
    perturbation = problem.perturb(method)
    standard = problem.outer(methods.create("standard"), perturbation).loss
    np.testing.assert_array_equal(problem.outer(method, perturbation).loss, standard)


def test_fixed_targets_are_standard_training_on_the_pseudo_labels(problem):
    fixed, standard = methods.create("uat", variant="fixed"), methods.create("standard")
    # An example without a label would have no part in it: such data are refused before training.
    assert not fixed.unlabelled
    found, expected = problem.perturb(fixed), problem.perturb(standard)
    np.testing.assert_array_equal(found.images, expected.images)
    found, expected = problem.outer(fixed, found), problem.outer(standard, expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_clean_images_go_first(problem):
    images = problem.clean + 0.3
    perturbation = methods.Perturbation(images, np.zeros(6, int))
    found = problem.outer(methods.create("uat"), perturbation).statistics
    expected = problem.statistics_after(problem.clean, images)
    np.testing.assert_allclose(found["BatchNorm_0"]["mean"], expected, rtol=1e-5)


@pytest.mark.parametrize("variant", ["both", "online"])
def test_nothing_of_an_absent_label_reaches_the_images_the_loss_or_the_gradient(variant, problem):
    method = methods.create("uat", variant=variant)
    # As a label each of these makes the cross-entropy NaN; as the mark of an absent one, none may.
    marks = -1, -2, -100, np.iinfo(np.int32).min
    first, *others = (
        problem.with_labels(np.where(ABSENT, mark, problem.labels)).loss_and_gradient(method)
        for mark in marks
    )
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(first))
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, first, other)


def test_another_variant_is_refused():
    with pytest.raises(ValueError, match="variant=ot: accepted are both, fixed, online"):
        methods.create("uat", variant="ot")


def test_its_flag_file_trains_as_rst():
    config, rst = read_flags(LAUNCH / "uat.flags"), read_flags(LAUNCH / "rst.flags")
    assert config.method == "uat"
    assert (config.epsilon, config.steps, config.step_size) == (8 / 255, 10, 2 / 255)
    shared = (
        "model", "dataset", "epochs", "batch_size", "learning_rate", "schedule", "momentum",
        "nesterov", "weight_decay", "extra_data", "extra_fraction", "extra_weight",
    )  # fmt: skip
    assert all(getattr(config, name) == getattr(rst, name) for name in shared)
