"""NAP: an attack by batch statistics, eqs. 4 and 11 to 14, and the paper's settings."""

from pathlib import Path

import numpy as np
import pytest

from robustjax import methods
from robustjax.flags import read_flags

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


@pytest.mark.parametrize("batch_norm", ["default", "eval"])
def test_the_attack_normalises_by_the_batch_unless_told_otherwise(batch_norm, problem, formulas):
    options = {} if batch_norm == "default" else {"attack_batch_norm": batch_norm}
    method = methods.create("nap", **options)
    assert method.attack_batch_norm == ("train" if batch_norm == "default" else "eval")

    def ascended(batch_norm):
        def objective(images):
            logits = problem.logits(images, batch_norm)
            return formulas.cross_entropy(logits, problem.labels).sum()

        return problem.ascended(problem.start(method), objective)

    mine, other = ("train", "eval") if batch_norm == "default" else ("eval", "train")
    found = problem.perturb(method).images
    np.testing.assert_allclose(found, ascended(mine), atol=2e-6)
    assert np.abs(found - ascended(other)).max() > problem.step_size


def test_the_start_is_uniform_or_half_of_epsilon_in_each_pixel(problem):
    inside = (problem.clean > problem.epsilon) & (problem.clean < 1 - problem.epsilon)
    uniform = problem.start(methods.create("nap")) - problem.clean
    assert np.abs(uniform).max() <= problem.epsilon * (1 + 1e-6)
    assert len(np.unique(np.abs(uniform[inside]).round(6))) == inside.sum()
    signs = problem.start(methods.create("nap", start="sign")) - problem.clean
    np.testing.assert_allclose(np.abs(signs[inside]), problem.epsilon / 2, rtol=1e-5)
    assert len(np.unique(np.sign(signs[inside]))) == 2


@pytest.mark.parametrize("boosted", [True, False])
@pytest.mark.parametrize("margin", [True, False])
def test_the_outer_loss_is_equation_4_or_one_of_11_to_13(boosted, margin, problem, formulas):
    method = methods.create("nap", beta=3.0, boosted=boosted, margin=margin)
    perturbation = problem.perturb(method)
    clean = problem.logits(problem.clean, "train")
    adversarial = problem.logits(perturbation.images, "train")
    rows = np.arange(6), problem.labels
    ahead = np.maximum(formulas.softmax(clean)[rows] - formulas.softmax(adversarial)[rows], 0)
    assert np.any(ahead > 0.01)
    first = formulas.boosted_cross_entropy if boosted else formulas.cross_entropy
    penalty = (ahead if margin else 1.0) * formulas.cross_entropy(clean, problem.labels)
    expected = first(adversarial, problem.labels) - 3.0 * penalty
    found = problem.outer(method, perturbation)
    np.testing.assert_allclose(found.loss, expected, rtol=2e-5, atol=2e-5)


def test_the_natural_images_go_first_and_the_attack_moves_no_statistics(problem):
    method = methods.create("nap")
    images = problem.clean + 0.3
    perturbation = methods.Perturbation(images, np.zeros(6, int))
    before = float(problem.network.statistics["BatchNorm_0"]["mean"][0])
    problem.perturb(method)
    assert float(problem.network.statistics["BatchNorm_0"]["mean"][0]) == before
    mean = problem.outer(method, perturbation).statistics["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, problem.statistics_after(problem.clean, images), rtol=1e-5)


def test_beta_follows_its_schedule(problem):
    method = methods.create("nap", beta="0..6@2")
    perturbation = problem.perturb(method)
    values = [problem.outer(method, perturbation, epoch=epoch).loss for epoch in (0.0, 1.0, 2.0)]
    np.testing.assert_allclose(values[1], (values[0] + values[2]) / 2, rtol=1e-5)
    full = problem.outer(methods.create("nap"), perturbation).loss
    np.testing.assert_array_equal(values[2], full)


def test_bce_at_attacks_the_cross_entropy_and_minimises_the_boosted_one(problem, formulas):
    config = read_flags(LAUNCH / "bce_at.flags")
    assert (config.method, config.set) == ("standard", ("loss=bce",))
    assert config.attack_batch_norm == "train"
    method = methods.create("standard", loss="bce", attack_batch_norm="train")

    def objective(images):
        return formulas.cross_entropy(problem.logits(images, "train"), problem.labels).sum()

    found = problem.perturb(method)
    expected = problem.ascended(problem.start(method), objective)
    np.testing.assert_allclose(found.images, expected, atol=2e-6)
    adversarial = problem.logits(found.images, "train")
    expected = formulas.boosted_cross_entropy(adversarial, problem.labels)
    np.testing.assert_allclose(problem.outer(method, found).loss, expected, rtol=2e-5)


@pytest.mark.parametrize("name", ["nap", "bce_at", "natural_ce_10k", "natural_bce_10k"])
def test_its_flag_files_are_the_papers_settings(name):
    config = read_flags(LAUNCH / f"{name}.flags")
    assert (config.learning_rate, config.momentum, config.weight_decay) == (0.1, 0.9, 5e-4)
    assert (config.epochs, config.batch_size, config.schedule) == (80, 128, "piecewise")
    assert (config.decay_epochs, config.decay_factors) == ((40, 60), (0.1,))
    if name.startswith("natural"):
        assert (config.method, config.model) == ("natural", "resnet_34")
        assert config.set == (f"loss={name.split('_')[1]}",)
        assert (config.train_examples, config.holdout) == (10_000, 0)
    else:
        assert config.model == "wide_resnet_34_4"
        assert (config.epsilon, config.steps, config.step_size) == (8 / 255, 10, 2 / 255)
    if name == "nap":
        assert (config.method, config.beta, config.set) == ("nap", 6, ())
