"""SENSE-AT: Definition 3 and Algorithms 1 and 2, the warm-up, and what the authors' code adds."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, methods
from robustjax.flags import read_flags

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


@pytest.fixture
def own(problem):
    """The labels are the network's own, but for the first two, which it gets wrong."""
    labels = np.argmax(problem.logits(problem.clean, "eval"), axis=1)
    labels[:2] = (labels[:2] + 1) % 3
    return problem.with_labels(labels)


def confidence(problem, formulas, images):
    p = formulas.softmax(problem.logits(images, "eval"))
    return p[np.arange(len(p)), problem.labels]


def sensible(problem, formulas, start, c, attack, norm, steps):
    """Algorithms 1 and 2 for each example by itself; which were attacked, reverted, how often.

    Args:
      attack: whether the confidence is held above c (False: the warm-up).
    """
    images, events = [], []
    kernel = np.float64(problem.network.params["Dense_0"]["kernel"])
    deviation = np.sqrt(float(problem.network.statistics["BatchNorm_0"]["var"][0]) + 1e-5)
    for row, (clean, label) in enumerate(zip(problem.clean, problem.labels, strict=True)):
        x = np.float64(start[row])
        p = formulas.softmax(problem.logits(x[None], "eval"))[0]
        if np.argmax(p) != label or p[label] <= c:
            images.append(x)
            events.append(("ignored", 0))
            continue
        event = ("whole", steps)
        for k in range(steps):
            slope = (kernel @ (p - np.eye(3)[label])).reshape(x.shape) / deviation
            before = x
            if norm == "linf":
                x = x + problem.step_size * np.sign(slope)
                x = np.clip(x, clean - problem.epsilon, clean + problem.epsilon)
            else:
                x = x + problem.step_size * slope / np.linalg.norm(slope)
                x = clean + (x - clean) * min(1, problem.epsilon / np.linalg.norm(x - clean))
            x = np.clip(x, 0, 1)
            p = formulas.softmax(problem.logits(x[None], "eval"))[0]
            if attack and p[label] < c:
                x, event = before, ("reverted", k + 1)
                break
        images.append(x)
        events.append(event)
    return np.stack(images), events


@pytest.mark.parametrize(
    ("norm", "start", "epoch"),
    [
        ("linf", "clean", 3.0),
        ("l2", "clean", 3.0),
        ("linf", "uniform", 3.0),
        ("linf", "clean", 2.9),
        ("linf", "uniform", 0.0),
    ],
)
def test_the_images_are_those_of_the_algorithm_step_by_step(norm, start, epoch, own, formulas):
    c = 0.8
    method = methods.create("sense", c=c, start=start, full_attack_epochs=3.0)
    changes = {"threat": attacks.ThreatModel(norm, own.epsilon), "steps": 6, "epoch": epoch}
    begin = own.start(method, **changes)
    expected, events = sensible(own, formulas, begin, c, epoch >= 3.0, norm, steps=6)
    found = own.perturb(method, **changes)
    np.testing.assert_allclose(found.images, expected, atol=3e-6)
    np.testing.assert_array_equal(found.backward_passes, [taken for _, taken in events])
    kinds = {kind for kind, _ in events}
    assert kinds >= ({"ignored", "reverted"} if epoch >= 3.0 else {"ignored", "whole"})
    moved = np.abs(found.images - own.clean).max(axis=(1, 2, 3))
    ignored = np.asarray([kind == "ignored" for kind, _ in events])
    # The paper leaves what is ignored as it is; the code leaves it the noise of its start.
    assert np.all(moved[ignored] == 0) if start == "clean" else np.all(moved[ignored] > 0)


@pytest.mark.parametrize("c", [0.5, 0.6, 0.9])
def test_no_image_loses_the_confidence_that_it_had(c, own, formulas):
    before = confidence(own, formulas, own.clean)
    found = own.perturb(methods.create("sense", c=c), steps=10)
    after = confidence(own, formulas, np.float64(found.images))
    held = np.asarray(found.backward_passes) > 0
    np.testing.assert_array_equal(held, (before > c) & (np.arange(6) > 1))
    assert np.all(after[held] >= c - 1e-6) and np.all(after[held] < before[held] + 1e-6)
    full = own.perturb(methods.create("sense", c=0.0), steps=10)
    assert np.any(confidence(own, formulas, np.float64(full.images))[held] < c)


def test_c_1_is_no_attack_even_where_the_loss_rounds_to_nothing(own):
    """Logits a thousand apart: the cross-entropy is 0 in float32, which is not above −log 1."""
    dense = {name: 1000.0 * leaf for name, leaf in own.network.params["Dense_0"].items()}
    params = {**own.network.params, "Dense_0": dense}
    certain = own.network.__class__(own.network.model, params, own.network.statistics)
    losses = -jax.nn.log_softmax(certain.logits_fn()(own.batch.images))
    assert np.sum(losses[jnp.arange(6), own.batch.labels] == 0) >= 3
    for epochs in (0.0, 5.0):
        method = methods.create("sense", c=1.0, full_attack_epochs=epochs)
        found = own.perturb(method, logits_fn=certain.logits_fn())
        np.testing.assert_array_equal(found.images, own.batch.images)
        np.testing.assert_array_equal(found.backward_passes, 0)


def test_the_warm_up_and_c_follow_the_epoch_in_one_program(own):
    method = methods.create("sense", c="0.9,0.5@4", full_attack_epochs=2.0)
    inner, traces = own.inner(method, steps=6), []

    @jax.jit
    def passes(scalars):
        traces.append(None)
        return method.perturb(inner._replace(scalars=scalars)).backward_passes

    by_epoch = [passes(own.scalars(method, epoch)) for epoch in (0.0, 1.9, 2.0, 3.9, 4.0)]
    assert len(traces) == 1
    early, last, first, kept, weak = map(np.asarray, by_epoch)
    np.testing.assert_array_equal(early, last)
    np.testing.assert_array_equal(first, kept)
    assert set(early) == {0, 6} and first.sum() < early.sum()
    # A smaller c ignores fewer and lets the others go further.
    assert np.all(weak >= first) and weak.sum() > first.sum()


@pytest.mark.parametrize("natural_weight", [0.0, 0.5])
def test_the_outer_loss_may_have_the_natural_one_besides(natural_weight, own, formulas):
    method = methods.create("sense", natural_weight=natural_weight)
    images = np.clip(own.clean + 0.2, 0, 1)
    perturbation = methods.Perturbation(jnp.float32(images), jnp.zeros(6, int))
    found = own.outer(method, perturbation)
    expected = formulas.cross_entropy(own.logits(images, "train"), own.labels)
    passes = [images]
    if natural_weight:
        natural = formulas.cross_entropy(own.logits(own.clean, "train"), own.labels)
        expected, passes = expected + 0.5 * natural, [images, own.clean]
    np.testing.assert_allclose(found.loss, expected, rtol=2e-5)
    mean = found.statistics["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, own.statistics_after(*passes), rtol=1e-5)


def test_the_flag_files_hold_table_1_and_the_mnist_experiment():
    wide, small = (read_flags(LAUNCH / f"{name}.flags") for name in ("sense", "sense_small"))
    assert (wide.epochs, wide.decay_epochs, wide.decay_factors) == (300, (70, 90, 100), (0.2,))
    assert (small.epochs, small.decay_epochs, small.decay_factors) == (200, (80, 140, 170), (0.1,))
    for config, c, warmup in ((wide, 0.5, 10), (small, 0.7, 5)):
        assert config.hyperparameters() == {"c": c, "full_attack_epochs": warmup}
        assert (config.epsilon, config.step_size, config.steps) == (8 / 255, 2 / 255, 10)
    mnist, natural = (
        read_flags(LAUNCH / f"{name}.flags") for name in ("sense_mnist", "sense_mnist_natural")
    )
    assert natural.method == "natural" and natural.model == mnist.model
    assert mnist.init_from and mnist.hyperparameters() == {"c": 0.7}
    assert (mnist.epsilon, mnist.step_size, mnist.steps, mnist.epochs) == (0.3, 0.05, 10, 500)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c": -0.1}, "c=-0.1: accepted are finite numbers, at least 0 and at most 1"),
        ({"full_attack_epochs": -1}, "full_attack_epochs=-1: accepted are finite numbers, at lea"),
        ({"natural_weight": -1}, "natural_weight=-1: accepted are finite numbers, at least 0"),
        ({"start": "near"}, "start=near: accepted are"),
    ],
)
def test_what_it_does_not_accept_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        methods.create("sense", **options)
