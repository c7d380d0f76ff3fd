"""LRM, ALP, CLP and logit squeezing: attack, outer loss, order of passes, the papers' settings."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import methods
from robustjax.flags import read_flags
from robustjax.parallel import AXIS

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
SOFT = np.random.default_rng(3).dirichlet(np.ones(3), 6).astype(np.float32)


@pytest.fixture
def mixed(problem):
    """The problem with distributions for labels."""
    batch = problem.batch._replace(labels=jnp.asarray(SOFT))
    return dataclasses.replace(problem, batch=batch)


def outer(problem, method, perturbation):
    """The outer problem as one device of one sees it."""

    def on_device(_):
        return problem.outer(method, perturbation)

    return jax.tree.map(lambda leaf: leaf[0], jax.vmap(on_device, axis_name=AXIS)(jnp.zeros(1)))


def displaced(problem):
    """Images as if an attack had found them, far enough to tell the passes apart."""
    moved = problem.clean + np.random.default_rng(4).uniform(0, 0.4, problem.clean.shape)
    return methods.Perturbation(jnp.asarray(moved, jnp.float32), np.zeros(6, int))


@pytest.mark.parametrize("attack_labels", ["soft", "hard"])
@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_lrm_climbs_the_cross_entropy_of_mixed_labels(attack_labels, batch_norm, mixed, formulas):
    method = methods.create("lrm", attack_labels=attack_labels, attack_batch_norm=batch_norm)
    targets = SOFT if attack_labels == "soft" else np.eye(3)[SOFT.argmax(axis=1)]

    def objective(images):
        return -(targets * np.log(formulas.softmax(mixed.logits(images, batch_norm)))).sum()

    found = mixed.perturb(method)
    expected = mixed.ascended(mixed.start(method), objective)
    np.testing.assert_allclose(found.images, expected, atol=2e-6)
    np.testing.assert_array_equal(found.backward_passes, mixed.steps)


@pytest.mark.parametrize("attack_labels", ["given", "predicted"])
def test_alp_leads_away_from_the_label_or_from_its_own_prediction(attack_labels, problem, formulas):
    method = methods.create("alp", attack_labels=attack_labels)
    predicted = problem.logits(problem.clean, "eval").argmax(axis=1)
    assert np.any(predicted != problem.labels)
    labels = {"given": problem.labels, "predicted": predicted}[attack_labels]

    def objective(images):
        return formulas.cross_entropy(problem.logits(images, "eval"), labels).sum()

    expected = problem.ascended(problem.start(method), objective)
    np.testing.assert_allclose(problem.perturb(method).images, expected, atol=2e-6)


def test_both_start_uniformly_in_the_ball(problem):
    inside = (problem.clean > problem.epsilon) & (problem.clean < 1 - problem.epsilon)
    for name in ("lrm", "alp"):
        move = np.abs(problem.start(methods.create(name)) - problem.clean)[inside]
        assert 0.6 * problem.epsilon < move.max() <= problem.epsilon * (1 + 1e-6)
        assert 0.3 * problem.epsilon < move.mean() < 0.7 * problem.epsilon


@pytest.mark.parametrize("reading", ["A", "B"])
@pytest.mark.parametrize("direction", ["clean", "adversarial"])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_the_outer_loss_of_lrm_is_equation_11(reading, direction, alpha, mixed, formulas):
    method = methods.create(
        "lrm", pairing_ratio=0.4, squeezing=0.01, reading=reading, direction=direction, alpha=alpha
    )
    perturbation = displaced(mixed)
    clean = mixed.logits(mixed.clean, "train")
    adversarial = mixed.logits(perturbation.images, "train")
    p, q = formulas.softmax(clean), formulas.softmax(adversarial)
    loss = -(SOFT * (alpha * np.log(p) + (1 - alpha) * np.log(q))).sum(axis=1)
    pairing = {"clean": -(p * np.log(q)), "adversarial": -(q * np.log(p))}[direction].sum(axis=1)
    pairing *= loss.mean() / pairing.mean()
    paired = {"A": loss + pairing / 0.4, "B": 0.4 * loss + 0.6 * pairing}[reading]
    squares = (clean**2).sum(axis=1) + (adversarial**2).sum(axis=1)
    found = outer(mixed, method, perturbation).loss
    np.testing.assert_allclose(found, paired + 0.01 * squares, rtol=2e-5)


@pytest.mark.parametrize("num_devices", [1, 2])
@pytest.mark.parametrize("name", ["lrm", "clp"])
def test_what_couples_the_rows_couples_those_of_all_devices(name, num_devices, problem, formulas):
    method = methods.create(name)
    perturbation = {"lrm": displaced, "clp": lambda problem: problem.perturb(method)}[name](problem)
    shares = jax.tree.map(
        lambda leaf: leaf.reshape(num_devices, -1, *leaf.shape[1:]), (problem.batch, perturbation)
    )

    def on_device(share):
        batch, perturbation = share
        return dataclasses.replace(problem, batch=batch).outer(method, perturbation).loss

    found = jax.vmap(on_device, axis_name=AXIS)(shares).reshape(6)
    # Batch norm takes the statistics of each share here.
    clean, adversarial = (
        np.concatenate([problem.logits(share, "train") for share in np.split(images, num_devices)])
        for images in (problem.clean, np.float64(perturbation.images))
    )
    expected = formulas.cross_entropy(adversarial, problem.labels)
    if name == "clp":
        expected += 0.5 * ((clean - np.roll(clean, 3, axis=0)) ** 2).sum(axis=1)
    else:
        pairing = -(formulas.softmax(clean) * np.log(formulas.softmax(adversarial))).sum(axis=1)
        expected += expected.mean() / pairing.mean() * pairing / 0.125
        expected += 1e-3 * ((clean**2).sum(axis=1) + (adversarial**2).sum(axis=1))
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_the_reference_of_lrm_is_held_fixed_where_nothing_is_said():
    assert methods.hyperparameters("lrm")["detached_reference"] is True


@pytest.mark.parametrize("detached", [False, True])
def test_whether_the_reference_of_lrm_is_differentiated(detached, problem, formulas):
    method = methods.create("lrm", pairing_ratio=0.4, squeezing=0.0, detached_reference=detached)
    perturbation = displaced(problem)
    bias = np.float64(problem.network.params["Dense_0"]["bias"])
    logits = [
        problem.logits(images, "train") - bias for images in (problem.clean, perturbation.images)
    ]

    def loss_and_pairing(bias, reference_bias):
        p, q = formulas.softmax(logits[0] + reference_bias), formulas.softmax(logits[1] + bias)
        entropy = formulas.cross_entropy(logits[1] + bias, problem.labels)
        return entropy.mean(), -(p * np.log(q)).sum(axis=1).mean()

    loss, pairing = loss_and_pairing(bias, bias)

    def total(moved):
        parts = loss_and_pairing(moved, bias if detached else moved)
        return parts[0] + loss / pairing * parts[1] / 0.4

    def mean_loss(params):
        network = dataclasses.replace(problem.network, params=params)
        changed = dataclasses.replace(problem, network=network)
        return jnp.mean(outer(changed, method, perturbation).loss)

    found = jax.grad(mean_loss)(problem.network.params)["Dense_0"]["bias"]
    nudges = 1e-5 * np.eye(3)
    expected = [(total(bias + nudge) - total(bias - nudge)) / 2e-5 for nudge in nudges]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mean_over_classes", [False, True])
@pytest.mark.parametrize("concatenate", [False, True])
def test_the_outer_loss_of_alp_is_equation_2(mean_over_classes, concatenate, problem, formulas):
    method = methods.create(
        "alp", weight=0.7, alpha=0.3, mean_over_classes=mean_over_classes,
        concatenate=concatenate, squeezing=0.2,
    )  # fmt: skip
    perturbation = displaced(problem)
    images = problem.clean, np.float64(perturbation.images)
    if concatenate:
        clean, adversarial = np.split(problem.logits(np.concatenate(images), "train"), 2)
        passes = [np.concatenate(images)]
    else:
        clean, adversarial = (problem.logits(x, "train") for x in images)
        passes = images
    expected = 0.3 * formulas.cross_entropy(clean, problem.labels)
    expected += 0.7 * formulas.cross_entropy(adversarial, problem.labels)
    square = ((clean - adversarial) ** 2).sum(axis=1)
    expected += 0.7 * (square / 3 if mean_over_classes else square)
    expected += 0.2 * ((clean**2).sum(axis=1) + (adversarial**2).sum(axis=1))
    found = outer(problem, method, perturbation)
    np.testing.assert_allclose(found.loss, expected, rtol=2e-5)
    mean = found.statistics["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, problem.statistics_after(*passes), rtol=1e-5)


def test_alp_may_pair_probabilities(problem, formulas):
    perturbation = displaced(problem)
    clean = formulas.softmax(problem.logits(problem.clean, "train"))
    logits = problem.logits(perturbation.images, "train")
    expected = formulas.cross_entropy(logits, problem.labels)
    expected += 0.5 * ((clean - formulas.softmax(logits)) ** 2).sum(axis=1)
    found = outer(problem, methods.create("alp", pairs="probabilities"), perturbation)
    np.testing.assert_allclose(found.loss, expected, rtol=2e-5)


def test_alp_is_half_the_square_and_adversarial_images_alone_by_default(problem, formulas):
    perturbation = displaced(problem)
    clean = problem.logits(problem.clean, "train")
    adversarial = problem.logits(perturbation.images, "train")
    expected = formulas.cross_entropy(adversarial, problem.labels)
    expected += 0.5 * ((clean - adversarial) ** 2).sum(axis=1)
    found = outer(problem, methods.create("alp"), perturbation)
    np.testing.assert_allclose(found.loss, expected, rtol=2e-5)


def test_lrm_forwards_the_clean_images_first(problem):
    perturbation = displaced(problem)
    found = outer(problem, methods.create("lrm"), perturbation)
    mean = found.statistics["BatchNorm_0"]["mean"]
    expected = problem.statistics_after(problem.clean, perturbation.images)
    np.testing.assert_allclose(mean, expected, rtol=1e-5)
    other = problem.statistics_after(perturbation.images, problem.clean)
    assert abs(float(mean[0]) - other) > 1e-3


@pytest.mark.parametrize("name", ["clp", "logit_squeezing"])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_clean_pairing_and_squeezing_regularise_the_logits_of_noisy_images(
    name, noise, mixed, formulas
):
    method = methods.create(name, weight=0.3, noise=noise)
    perturbation = mixed.perturb(method)
    np.testing.assert_array_equal(perturbation.backward_passes, 0)
    logits = mixed.logits(perturbation.images, "train")
    # In CLP a row's partner is half of the batch away.
    other = {"clp": np.roll(logits, 3, axis=0), "logit_squeezing": 0}[name]
    expected = -(SOFT * np.log(formulas.softmax(logits))).sum(axis=1)
    expected += 0.3 * ((logits - other) ** 2).sum(axis=1)
    found = outer(mixed, method, perturbation)
    np.testing.assert_allclose(found.loss, expected, rtol=2e-5)
    mean = found.statistics["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, mixed.statistics_after(perturbation.images), rtol=1e-5)


@pytest.mark.parametrize("name", ["clp", "logit_squeezing"])
def test_the_noise_has_its_deviation_and_stays_in_the_box(name, problem):
    without = problem.perturb(methods.create(name)).images
    np.testing.assert_array_equal(without, problem.batch.images)
    noisy = [problem.perturb(methods.create(name, noise=0.01), seed=seed).images for seed in (1, 2)]
    inside = (problem.clean > 0.04) & (problem.clean < 0.96)
    moves = [(image - problem.clean)[inside] for image in noisy]
    assert 0.006 < np.std(moves[0]) < 0.014 and abs(np.mean(moves[0])) < 0.008
    assert np.abs(moves[0] - moves[1]).min() > 0
    rough = np.asarray(problem.perturb(methods.create(name, noise=5.0)).images)
    assert np.all((rough >= 0) & (rough <= 1)) and np.any(rough == 0) and np.any(rough == 1)


@pytest.mark.parametrize("name", ["lrm", "alp", "clp", "logit_squeezing"])
def test_labels_may_be_distributions_but_not_absent(name):
    method = methods.create(name)
    assert method.soft_labels and not method.unlabelled


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lrm", {"reading": "C"}, "reading=C: accepted are A, B"),
        ("alp", {"attack_labels": "own"}, "attack_labels=own: accepted are given, predicted"),
        ("lrm", {"direction": "both"}, "direction=both: accepted are clean, adversarial"),
        ("lrm", {"pairing_ratio": 0.0}, "pairing_ratio=0.0: accepted are finite numbers"),
        ("lrm", {"pairing_ratio": 1.5, "reading": "B"}, "pairing_ratio=1.5: accepted .* at most 1"),
        ("lrm", {"alpha": 1.5}, "alpha=1.5: accepted are finite numbers, .* at most 1"),
        ("lrm", {"squeezing": -1.0}, "squeezing=-1.0: accepted are finite numbers, at least 0"),
        ("alp", {"weight": -1.0}, "weight=-1.0: accepted are finite numbers, at least 0"),
        ("clp", {"noise": -1.0}, "noise=-1.0: accepted are finite numbers, at least 0"),
    ],
)
def test_what_is_not_accepted_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        methods.create(name, **options)


CIFAR = {
    "model": "madry_simple_resnet", "epsilon": 0.03, "learning_rate": 0.1, "momentum": 0.9,
    "weight_decay": 2e-4, "batch_size": 128, "warmup_epochs": 5, "schedule": "piecewise",
    "decay_factors": (0.1,), "augmentation": "",
}  # fmt: skip
ATTACKED = {**CIFAR, "step_size": 2 / 255, "epochs": 101, "decay_epochs": (100,)}
CLEAN = {**CIFAR, "dataset": "cifar10", "epochs": 200, "decay_epochs": (100, 150)}
PAPER = {
    "lrm": {
        **ATTACKED, "dataset": "cifar10", "method": "lrm", "label_smoothing": 0.1,
        "mixing": "vh_mixup", "hyperparameters": {"pairing_ratio": 0.125, "squeezing": 1e-3},
    },
    "lrm_cifar100": {
        **ATTACKED, "dataset": "cifar100", "method": "lrm", "label_smoothing": 0.1,
        "mixing": "vh_mixup", "hyperparameters": {"pairing_ratio": 0.95, "squeezing": 3e-5},
    },
    "lrm_svhn": {
        "dataset": "svhn", "train_split": "train+extra", "augmentation": "crop4",
        "model": "cifar_resnet_8", "epsilon": 12 / 255, "step_size": 3 / 255, "epochs": 101,
        "learning_rate": 0.001, "decay_epochs": (5, 80), "decay_factors": (10, 0.1),
        "warmup_epochs": 0, "method": "lrm", "label_smoothing": 0.2, "mixing": "mixup",
        "hyperparameters": {"pairing_ratio": 0.95, "squeezing": 1e-4},
    },
    "alp": {
        **ATTACKED, "dataset": "cifar10", "method": "alp", "label_smoothing": 0, "mixing": "none",
        "hyperparameters": {"weight": 0.5},
    },
    "clp": {**CLEAN, "method": "clp", "mixing": "none"},
    "logit_squeezing": {**CLEAN, "method": "logit_squeezing", "mixing": "none"},
    "label_smoothing": {**CLEAN, "method": "natural", "mixing": "none"},
    "mixup": {**CLEAN, "method": "natural", "mixing": "mixup", "label_smoothing": 0},
    "vh_mixup": {**CLEAN, "method": "natural", "mixing": "vh_mixup", "label_smoothing": 0},
}  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_its_flag_files_are_the_papers_settings(name):
    config = read_flags(LAUNCH / f"{name}.flags")
    found = {key: getattr(config, key) for key in PAPER[name] if key != "hyperparameters"}
    if "hyperparameters" in PAPER[name]:
        found["hyperparameters"] = config.hyperparameters()
    assert found == PAPER[name]


@pytest.mark.parametrize(
    ("name", "original", "changes"),
    [
        ("lrm", "lrm", {}),
        ("lrm_b", "lrm", {"reading": "B"}),
        ("lrm_svhn", "lrm_svhn", {}),
        ("lrm_svhn_differentiated", "lrm_svhn", {"detached_reference": False}),
        ("alp", "alp", {}),
        ("clp", "clp", {}),
        ("logit_squeezing", "logit_squeezing", {}),
    ],
)
def test_the_flag_files_for_mnist_change_what_they_say_alone(name, original, changes, monkeypatch):
    monkeypatch.chdir(LAUNCH.parent)
    found, expected = (
        read_flags(LAUNCH / folder / f"{file}.flags")
        for folder, file in (("mnist", name), ("", original))
    )
    assert found.hyperparameters() == {**expected.hyperparameters(), **changes}
    for option in ("method", "label_smoothing", "mixing", "mixing_alpha"):
        assert getattr(found, option) == getattr(expected, option)
