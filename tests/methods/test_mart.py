"""MART: Algorithm 1's attack, eq. 11 and the ablations of figure 2, and the papers' settings."""

from pathlib import Path

import jax
import numpy as np
import pytest

from robustjax import methods
from robustjax.flags import read_flags

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


@pytest.mark.parametrize("attack_loss", ["ce", "kl"])
@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_the_images_climb_the_loss_from_a_uniform_start(attack_loss, batch_norm, problem, formulas):
    method = methods.create("mart", attack_loss=attack_loss, attack_batch_norm=batch_norm)
    clean_logits = problem.logits(problem.clean, batch_norm)

    def objective(images):
        logits = problem.logits(images, batch_norm)
        if attack_loss == "ce":
            return formulas.cross_entropy(logits, problem.labels).sum()
        return formulas.divergence(clean_logits, logits).sum()

    expected = problem.ascended(problem.start(method), objective)
    found = problem.perturb(method)
    np.testing.assert_allclose(found.images, expected, atol=2e-6)
    np.testing.assert_array_equal(found.backward_passes, problem.steps)


def test_the_start_is_the_papers_or_that_of_the_authors_code(problem):
    inside = (problem.clean > problem.epsilon) & (problem.clean < 1 - problem.epsilon)
    moves = {
        start: np.abs(problem.start(methods.create("mart", start=start)) - problem.clean)[inside]
        for start in ("uniform", "gaussian")
    }
    assert 0.6 * problem.epsilon < moves["uniform"].max() <= problem.epsilon * (1 + 1e-6)
    assert 0.3 * problem.epsilon < moves["uniform"].mean() < 0.7 * problem.epsilon
    assert 0 < moves["gaussian"].max() < 0.005
    by_default = problem.start(methods.create("mart"))
    np.testing.assert_allclose(np.abs(by_default - problem.clean)[inside], moves["uniform"])


@pytest.mark.parametrize("classifier", ["bce", "ce", "natural_bce"])
@pytest.mark.parametrize(
    ("divergence", "weighted"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_the_outer_loss_is_equation_11_or_an_ablation_of_it(
    classifier, divergence, weighted, problem, formulas
):
    method = methods.create(
        "mart", beta=4.0, classifier=classifier, divergence=divergence, weighted=weighted
    )
    perturbation = problem.perturb(method)
    clean = problem.logits(problem.clean, "train")
    adversarial = problem.logits(perturbation.images, "train")
    expected = {
        "bce": formulas.boosted_cross_entropy(adversarial, problem.labels),
        "ce": formulas.cross_entropy(adversarial, problem.labels),
        "natural_bce": formulas.boosted_cross_entropy(clean, problem.labels),
    }[classifier]
    error = 1 - formulas.softmax(clean)[np.arange(6), problem.labels]
    regulariser = {
        (True, True): formulas.divergence(clean, adversarial) * error,
        (True, False): formulas.divergence(clean, adversarial),
        (False, True): error,
        (False, False): 0.0,
    }[divergence, weighted]
    found = problem.outer(method, perturbation)
    np.testing.assert_allclose(found.loss, expected + 4.0 * regulariser, rtol=2e-5)


def test_the_clean_images_go_first(problem):
    method = methods.create("mart")
    images = problem.clean + 0.3
    perturbation = methods.Perturbation(images, np.zeros(6, int), notes=np.ones(6, bool))
    mean = problem.outer(method, perturbation).statistics["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, problem.statistics_after(problem.clean, images), rtol=1e-5)
    other = problem.statistics_after(images, problem.clean)
    assert abs(float(mean[0]) - other) > 1e-3


def test_beta_follows_its_schedule(problem):
    method = methods.create("mart", beta="0,5@2")
    perturbation = problem.perturb(method)
    bare = problem.outer(methods.create("mart", beta=0.0), perturbation).loss
    full = problem.outer(methods.create("mart", beta=5.0), perturbation).loss
    np.testing.assert_array_equal(problem.outer(method, perturbation, epoch=1.9).loss, bare)
    np.testing.assert_array_equal(problem.outer(method, perturbation, epoch=2.0).loss, full)
    assert np.all(full > bare)


def test_the_regularised_share_changes_neither_the_attack_nor_the_others_weight(problem):
    half, whole = methods.create("mart", proportion=0.5), methods.create("mart")
    found, all_of_them = problem.perturb(half), problem.perturb(whole)
    np.testing.assert_array_equal(found.images, all_of_them.images)
    chosen = np.asarray(found.notes)
    assert 0 < chosen.sum() < 6
    # What is regularised has the full weight, not twice of it, and the rest is BCE alone.
    loss, full = problem.outer(half, found).loss, problem.outer(whole, all_of_them).loss
    bare = problem.outer(methods.create("mart", beta=0.0), all_of_them).loss
    np.testing.assert_array_equal(loss, np.where(chosen, full, bare))


def test_who_is_regularised_is_drawn_anew_and_depends_on_the_examples_key_alone(problem):
    method = methods.create("mart", proportion=0.5)
    inner = problem.inner(method)
    first = np.asarray(method.perturb(inner).notes)
    other = [np.asarray(problem.perturb(method, seed=seed).notes) for seed in (2, 3, 4)]
    assert any(np.any(first != drawn) for drawn in other)
    turned = jax.tree.map(lambda leaf: leaf[::-1], (inner.keys, inner.batch))
    found = method.perturb(inner._replace(keys=turned[0], batch=turned[1])).notes
    np.testing.assert_array_equal(found, first[::-1])


def test_it_needs_one_class_for_every_example():
    method = methods.create("mart")
    assert not method.soft_labels and not method.unlabelled


SHARED = {"steps": 10, "momentum": 0.9}
CIFAR = {**SHARED, "dataset": "cifar10", "epsilon": 8 / 255, "step_size": 2 / 255}
PAPER = {
    "mart": {
        **CIFAR, "model": "resnet_18", "learning_rate": 0.01, "weight_decay": 3.5e-3,
        "decay_epochs": (75, 90), "decay_factors": (0.1,), "beta": 5,
    },
    "mart_ablation": {
        **CIFAR, "model": "resnet_18", "learning_rate": 0.1, "weight_decay": 2e-4,
        "decay_epochs": (75, 90), "beta": 6,
    },
    "mart_wrn": {
        **CIFAR, "model": "wide_resnet_34_10", "learning_rate": 0.1, "weight_decay": 2e-4,
        "decay_epochs": (75, 90), "beta": 6,
    },
    "mart_mnist": {
        **SHARED, "dataset": "mnist", "epsilon": 0.3, "step_size": 0.075, "learning_rate": 0.01,
        "decay_epochs": (20, 40), "augmentation": "none", "beta": 5,
    },
    "mart_semisupervised": {
        **CIFAR, "model": "wide_resnet_28_10", "nesterov": True, "schedule": "cosine",
        "weight_decay": 5e-4, "batch_size": 256, "beta": 6, "extra_fraction": 0.5,
        "extra_weight": 1.0,
    },
    "mart_subset": {
        **CIFAR, "model": "fat_small_cnn", "learning_rate": 0.1, "weight_decay": 2e-4,
        "set": ("treatment=standard",),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_its_flag_files_are_the_papers_settings(name):
    config = read_flags(LAUNCH / f"{name}.flags")
    found = {key: getattr(config, key) for key in PAPER[name]}
    assert found == PAPER[name]
    assert config.method == ("mart_subset" if name == "mart_subset" else "mart")
