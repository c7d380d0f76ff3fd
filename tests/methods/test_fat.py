"""FAT, FAT for TRADES and FAT for MART: Algorithms 1 and 3, eqs. 9 and 11, appendix B."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, methods
from robustjax.flags import read_flags

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
FAMILY = ("fat", "fat_trades", "fat_mart")


@pytest.fixture
def mixed(problem):
    """Half of the labels are the network's own; the others are misclassified from the start."""
    labels = np.argmax(problem.logits(problem.clean, "eval"), axis=1)
    labels[::2] = (labels[::2] + 1) % 3
    return problem.with_labels(labels)


def predicted(problem, images):
    return np.argmax(problem.logits(images, "eval"), axis=1)


def friendly(problem, start, tau, objective, epsilon, steps):
    """Algorithms 1 and 3, line by line, for each example by itself; also the steps it took."""
    images, taken = [], []
    for row, (clean, label) in enumerate(zip(problem.clean, problem.labels, strict=True)):
        x, left, count = np.float64(start[row]), tau, 0
        while count < steps:
            wrong = predicted(problem, x[None])[0] != label
            if wrong and left == 0:
                break
            left -= wrong
            slope = np.zeros_like(x)
            for place in np.ndindex(x.shape):
                moved = np.stack([x, x])
                moved[0][place] += 1e-5
                moved[1][place] -= 1e-5
                high, low = objective(row, moved)
                slope[place] = high - low
            assert np.abs(slope).min() > 1e-11
            x = x + problem.step_size * np.sign(slope)
            x = np.clip(np.clip(x, clean - epsilon, clean + epsilon), 0, 1)
            count += 1
        images.append(x)
        taken.append(count)
    return np.stack(images), np.asarray(taken)


def climbed(name, problem, formulas):
    """What the attack of a method ascends: (row, images of that row) -> values."""
    clean_logits = problem.logits(problem.clean, "eval")

    def objective(row, images):
        logits = problem.logits(images, "eval")
        if name == "fat_trades":
            return formulas.divergence(clean_logits[[row, row]], logits)
        return formulas.cross_entropy(logits, problem.labels[[row, row]])

    return objective


@pytest.mark.parametrize("projection", [True, False])
@pytest.mark.parametrize("tau", [0, 1, 2])
@pytest.mark.parametrize("name", FAMILY)
def test_the_images_are_those_of_the_algorithm_step_by_step(name, tau, projection, mixed, formulas):
    # A ball of two steps, so that what leaves it and what is held back differ.
    epsilon, steps = 0.06, 7
    method = methods.create(name, tau=tau, projection=projection)
    changes = {"threat": attacks.ThreatModel("linf", epsilon), "steps": steps}
    # The budget takes no step; without the ball a start is not drawn back into it either.
    start = mixed.start(method, **changes)
    bound = epsilon if projection else np.inf
    objective = climbed(name, mixed, formulas)
    expected, taken = friendly(mixed, start, tau, objective, bound, steps)
    found = mixed.perturb(method, **changes)
    np.testing.assert_array_equal(found.backward_passes, taken)
    np.testing.assert_allclose(found.images, expected, atol=3e-6)
    np.testing.assert_array_equal(taken[::2] >= tau, True)
    assert taken[::2].min() == tau and taken.max() > tau
    distance = np.abs(found.images - mixed.clean).max()
    assert distance <= epsilon + 1e-6 if projection else distance > epsilon + 0.02


@pytest.mark.parametrize(
    ("name", "start"), [("fat", "clean"), ("fat_mart", "clean"), ("fat_trades", "gaussian")]
)
def test_the_search_begins_where_the_paper_begins(name, start, problem):
    found = problem.start(methods.create(name))
    expected = problem.start(methods.create("standard", start=start))
    np.testing.assert_array_equal(found, expected)


def test_tau_follows_its_schedule_without_another_program(problem):
    method = methods.create("fat", tau="0,1@50,2@90", attack_batch_norm="eval")
    labels = (predicted(problem, problem.clean) + 1) % 3
    inner = problem.with_labels(labels).inner(method, threat=attacks.ThreatModel("linf", 1e-4))
    traces = []

    @jax.jit
    def passes(scalars):
        traces.append(None)
        return method.perturb(inner._replace(scalars=scalars)).backward_passes

    # In so small a ball everything stays misclassified: tau steps, each.
    by_epoch = {0.0: 0, 49.9: 0, 50.0: 1, 89.9: 1, 90.0: 2, 119.9: 2}
    for epoch, steps in by_epoch.items():
        np.testing.assert_array_equal(passes(problem.scalars(method, epoch)), steps)
    assert len(traces) == 1


def test_a_label_that_is_a_distribution_stops_by_its_largest_class(mixed):
    method = methods.create("fat", tau=0)
    soft = 0.7 * np.eye(3)[mixed.labels] + 0.1
    batch = mixed.batch._replace(labels=jnp.asarray(soft, jnp.float32))
    found = mixed.perturb(method, batch=batch).backward_passes
    np.testing.assert_array_equal(np.asarray(found)[::2], 0)
    assert np.asarray(found)[1::2].min() >= 1


def test_the_noise_differs_by_example_and_step_and_ends_in_the_ball(problem):
    omega, quiet = 0.01, {"tau": 4, "start": "clean"}
    step = jnp.float32(0.0)
    middle = problem.batch._replace(images=jnp.full_like(problem.batch.images, 0.5))
    method = methods.create("fat", omega=omega, **quiet)

    def noise(budget):
        budget = jnp.int32(budget)
        return np.asarray(problem.perturb(method, batch=middle, step_size=step, budget=budget)
                          .images) - 0.5  # fmt: skip

    first, second = noise(1), noise(2) - noise(1)
    draws = np.stack([first, second]) / omega
    assert abs(draws.mean()) < 0.5 and 0.7 < draws.std() < 1.3
    assert len(np.unique(draws.round(4))) == draws.size
    small = attacks.ThreatModel("linf", omega / 4)
    held = problem.perturb(method, batch=middle, step_size=step, threat=small).images
    assert np.abs(held - 0.5).max() <= omega / 4 + 1e-7


def test_trades_takes_the_cross_entropy_of_the_natural_image(problem, formulas):
    method = methods.create("fat_trades", beta=3.0)
    perturbation = problem.perturb(method)
    clean = problem.logits(problem.clean, "train")
    adversarial = problem.logits(perturbation.images, "train")
    expected = formulas.cross_entropy(clean, problem.labels)
    expected = expected + 3.0 * formulas.divergence(clean, adversarial)
    found = problem.outer(method, perturbation)
    np.testing.assert_allclose(found.loss, expected, rtol=2e-5)
    passes = (problem.clean, perturbation.images)
    mean = found.statistics["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, problem.statistics_after(*passes), rtol=1e-5)


@pytest.mark.parametrize("adversarial_first", [False, True])
def test_mart_is_equation_11_in_either_order(adversarial_first, problem, formulas):
    method = methods.create("fat_mart", beta=4.0, adversarial_first=adversarial_first)
    images = np.clip(problem.clean + 0.2, 0, 1)
    perturbation = methods.Perturbation(jnp.float32(images), jnp.zeros(6, int))
    clean, adversarial = (problem.logits(x, "train") for x in (problem.clean, images))
    error = 1 - formulas.softmax(clean)[np.arange(6), problem.labels]
    expected = formulas.boosted_cross_entropy(adversarial, problem.labels)
    expected = expected + 4.0 * formulas.divergence(clean, adversarial) * error
    found = problem.outer(method, perturbation)
    np.testing.assert_allclose(found.loss, expected, rtol=2e-5)
    passes = (images, problem.clean) if adversarial_first else (problem.clean, images)
    mean = found.statistics["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, problem.statistics_after(*passes), rtol=1e-5)
    assert not np.isclose(problem.statistics_after(*passes[::-1]), mean[0], rtol=1e-5)


@pytest.mark.parametrize("name", FAMILY)
def test_without_a_projection_a_start_in_the_ball_makes_no_sense(name):
    for start in ("uniform", "sign"):
        with pytest.raises(ValueError, match=f"start='{start}': without a projection"):
            methods.create(name, projection=False, start=start)


@pytest.mark.parametrize(
    ("file", "epochs", "tau", "drops"),
    [
        ("fat", 120, {0: 0, 49: 0, 50: 1, 89: 1, 90: 2, 119: 2}, (59, 89, 109)),
        ("fat_trades", 85, {29: 0, 30: 1, 50: 2, 69: 2, 70: 3}, (74,)),
        ("fat_mart", 90, {19: 0, 20: 1, 40: 2, 60: 3, 80: 4}, (59, 89)),
    ],
)
def test_the_flag_files_hold_the_papers_settings(file, epochs, tau, drops):
    config = read_flags(LAUNCH / f"{file}.flags")
    assert (config.epochs, config.decay_epochs, config.steps) == (epochs, drops, 10)
    assert (config.epsilon, config.step_size, config.weight_decay) == (8 / 255, 0.007, 2e-4)
    method = methods.create(config.method, **config.hyperparameters())
    assert {epoch: method.scalars_at(epoch)["tau"] for epoch in tau} == tau
    assert file == "fat" or method.scalars_at(0)["beta"] == 6


@pytest.mark.parametrize("file", ["fat_small_cnn", "fat_resnet18", "fat_svhn"])
def test_the_flag_files_of_the_sweeps_step_a_tenth_of_epsilon(file):
    config = read_flags(LAUNCH / f"{file}.flags")
    np.testing.assert_allclose(config.step_size, config.epsilon / 10)
    assert (config.epochs, config.decay_epochs, config.learning_rate) == (80, (60,), 0.01)
    assert config.test_epsilon == (4 / 255 if file == "fat_svhn" else 8 / 255)
