"""RST: TRADES with the adversarial images first, examples without a label, and the settings."""

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


def test_the_images_climb_the_divergence_from_a_gaussian_start(partly_labelled, problem, formulas):
    method = methods.create("rst")
    start = partly_labelled.start(method)
    assert 0 < np.abs(start - problem.clean).max() < 0.005
    clean_logits = problem.logits(problem.clean, "eval")

    def objective(images):
        return formulas.divergence(clean_logits, problem.logits(images, "eval")).sum()

    expected = problem.ascended(start, objective)
    np.testing.assert_allclose(partly_labelled.perturb(method).images, expected, atol=2e-6)


def test_the_loss_is_that_of_trades_without_the_labels_that_are_absent(
    partly_labelled, problem, formulas
):
    method = methods.create("rst", beta=4.0)
    perturbation = partly_labelled.perturb(method)
    clean = problem.logits(problem.clean, "train")
    adversarial = problem.logits(perturbation.images, "train")
    expected = np.where(ABSENT, 0, formulas.cross_entropy(clean, problem.labels))
    expected += 4.0 * formulas.divergence(clean, adversarial)
    loss = partly_labelled.outer(method, perturbation).loss
    np.testing.assert_allclose(loss, expected, rtol=2e-5)


def test_the_adversarial_images_go_first_unlike_trades(problem):
    images = problem.clean + 0.3
    perturbation = methods.Perturbation(images, np.zeros(6, int))
    passes = {"rst": (images, problem.clean), "trades": (problem.clean, images)}
    for name, order in passes.items():
        found = problem.outer(methods.create(name), perturbation).statistics
        expected = problem.statistics_after(*order)
        np.testing.assert_allclose(found["BatchNorm_0"]["mean"], expected, rtol=1e-5, err_msg=name)


def test_nothing_of_an_absent_label_reaches_the_images_the_loss_or_the_gradient(problem):
    method = methods.create("rst")
    # As a label each of these makes the cross-entropy NaN; as the mark of an absent one, none may.
    marks = -1, -2, -100, np.iinfo(np.int32).min
    first, *others = (
        problem.with_labels(np.where(ABSENT, mark, problem.labels)).loss_and_gradient(method)
        for mark in marks
    )
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(first))
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, first, other)


def test_its_flag_file_is_the_papers_setting():
    config = read_flags(LAUNCH / "rst.flags")
    assert (config.method, config.beta, config.set) == ("rst", 6, ())
    assert (config.model, config.dataset) == ("wide_resnet_28_10", "cifar10")
    assert (config.epsilon, config.steps, config.step_size) == (0.031, 10, 0.007)
    assert (config.learning_rate, config.schedule, config.nesterov) == (0.1, "cosine", True)
    assert (config.momentum, config.weight_decay) == (0.9, 5e-4)
    assert (config.extra_fraction, config.extra_weight) == (0.5, 1.0)
    # 200 epochs of 196 batches, each with 128 of the 50,000 labelled images.
    labelled = config.batch_size * (1 - config.extra_fraction)
    assert config.epochs * 50_000 / labelled == pytest.approx(200 * 196, rel=0.01)
