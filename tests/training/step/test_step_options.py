"""What the train step does beyond gradient descent: mixing, AWP, memory by position, K by epoch."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import data, methods, parallel
from robustjax.attacks.threat_model import SPARSITY
from robustjax.config import TrainConfig
from robustjax.methods import Method, Objective, Perturbation
from robustjax.training import (
    RawBatch,
    StepSettings,
    create_experiment,
    create_optimizer,
    create_state,
    make_train_step,
)

BATCH, SHAPE, CLASSES, RATE, DECAY = 8, (4, 4, 1), 3, 0.5, 0.01


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None):
        return nn.Dense(CLASSES)(images.reshape(len(images), -1))


def raw_batch(seed=0):
    rng = np.random.default_rng(seed)
    return RawBatch(
        images=rng.integers(0, 256, (BATCH, *SHAPE), dtype=np.uint8),
        labels=rng.integers(0, CLASSES, BATCH, dtype=np.int32),
        index=np.arange(BATCH, dtype=np.int32)[::-1].copy(),
        weight=rng.uniform(0.5, 2, BATCH).astype(np.float32),
    )


def run(method, settings, scalars=None, *, num_devices=1, steps=1, decay=0.0, seeds=None):
    """The state after some steps of plain gradient descent, the last loss, the first weights.

    A step for each of the seeds of the batches, by default 0 to `steps` - 1.
    """
    devices = parallel.local_devices(num_devices)
    optimizer = create_optimizer("sgd", lambda step: RATE, momentum=0, weight_decay=decay)
    step = parallel.map_over_devices(
        make_train_step(Linear(), method, optimizer, settings), devices, in_axes=(0, 0, None, None)
    )
    variables = Linear().init(jax.random.key(1), jnp.zeros((1, *SHAPE)))
    state = create_state(variables, optimizer, method.init(BATCH, SHAPE), False)
    state = parallel.replicate(state, devices)
    values = {"epsilon": 0.1, "step_size": 0.05, **method.scalars_at(0.0), **(scalars or {})}
    values = {name: np.float32(value) for name, value in values.items()}
    for seed in range(steps) if seeds is None else seeds:
        batch = parallel.split_over_devices(raw_batch(seed), num_devices)
        state, loss = step(state, batch, values, jax.random.key(3))
    dense = variables["params"]["Dense_0"]
    weights = np.float64(dense["kernel"]), np.float64(dense["bias"])
    return parallel.unreplicate(state), float(parallel.unreplicate(loss)), weights


def settings(**changes):
    return dataclasses.replace(
        StepSettings("linf", 2, data.Augmentation(), num_classes=CLASSES), **changes
    )


def softmax(logits):
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)


def gradient(weights, bias, x, targets, share):
    error = share[:, None] * (softmax(x @ weights + bias) - targets)
    return x.T @ error, error.sum(axis=0)


@pytest.mark.parametrize(("decay", "num_devices"), [(0.0, 1), (DECAY, 1), (DECAY, 4)])
def test_awp_takes_the_gradient_at_the_worst_weights_of_relative_size_gamma(decay, num_devices):
    gamma, batch = 0.3, raw_batch()
    state, _, (weights, bias) = run(
        methods.create("natural"),
        settings(weight_perturbation=True),
        {"awp_gamma": gamma},
        num_devices=num_devices,
        decay=decay,
    )
    x, targets = batch.images.reshape(BATCH, -1) / 255.0, np.eye(CLASSES)[batch.labels]
    share = np.float64(batch.weight) / np.float64(batch.weight).sum()
    ascent, _ = gradient(weights, bias, x, targets, share)
    worst = weights + gamma * np.linalg.norm(weights) / np.linalg.norm(ascent) * ascent
    slope, bias_slope = gradient(worst, bias, x, targets, share)
    found = state.params["Dense_0"]
    np.testing.assert_allclose(
        found["kernel"], weights - RATE * (slope + decay * worst), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        found["bias"], bias - RATE * (bias_slope + decay * bias), rtol=1e-5, atol=1e-6
    )


def test_awp_of_size_zero_changes_no_bit():
    plain, *_ = run(methods.create("trades"), settings(), decay=DECAY)
    perturbed, *_ = run(
        methods.create("trades"),
        settings(weight_perturbation=True),
        {"awp_gamma": 0.0},
        decay=DECAY,
    )
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(perturbed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_smoothed_labels_reach_the_loss():
    batch, strength = raw_batch(), 0.3
    _, loss, (weights, bias) = run(methods.create("natural"), settings(label_smoothing=strength))
    x = batch.images.reshape(BATCH, -1) / 255.0
    targets = np.where(np.eye(CLASSES)[batch.labels] == 1, 1 - strength, strength / (CLASSES - 1))
    share = np.float64(batch.weight) / np.float64(batch.weight).sum()
    expected = -(share[:, None] * targets * np.log(softmax(x @ weights + bias))).sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def watching_method(watch):
    """Remembers, by position, whatever `watch` sees of the inner problem."""

    def perturb(inner):
        no_passes = jnp.zeros(inner.batch.index.shape, jnp.int32)
        return Perturbation(inner.batch.images, no_passes, watch(inner))

    def outer(outer):
        logits, network = outer.network.train(outer.batch.images, outer.key)
        return Objective(jnp.sum(logits**2, -1), network.statistics)

    return Method(
        name="watching",
        perturb=perturb,
        outer=outer,
        init=lambda rows, shape: {
            "images": jnp.zeros((rows, *shape)),
            "labels": jnp.zeros((rows, CLASSES)),
            "positions": jnp.full(rows, -1),
        },
        memory_of="position",
    )


@pytest.mark.parametrize("kind", ["mixup", "vh_mixup", "cutmix"])
@pytest.mark.parametrize("num_devices", [1, 4])
def test_images_and_labels_are_mixed_alike_and_whatever_the_number_of_devices(kind, num_devices):
    method = watching_method(
        lambda inner: {
            "images": inner.batch.images,
            "labels": inner.batch.labels,
            "positions": inner.positions,
        }
    )
    state, *_ = run(method, settings(mixing=data.Mixing(kind)), num_devices=num_devices)
    single, *_ = run(method, settings(mixing=data.Mixing(kind)))
    np.testing.assert_allclose(state.memory["images"], single.memory["images"], atol=1e-6)
    np.testing.assert_array_equal(state.memory["positions"], np.arange(BATCH))
    labels = np.asarray(state.memory["labels"])
    np.testing.assert_allclose(labels, single.memory["labels"], atol=1e-6)
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)
    own = np.take_along_axis(labels, raw_batch().labels[:, None], axis=1)[:, 0]
    assert np.any(own < 0.99)


def test_image_and_label_are_mixed_with_those_of_the_same_partner():
    method = watching_method(
        lambda inner: {
            "images": inner.batch.images,
            "labels": inner.batch.labels,
            "positions": inner.positions,
        }
    )
    state, *_ = run(method, settings(mixing=data.Mixing("mixup"), label_smoothing=0.2))
    clean, smoothed = raw_batch().images / 255.0, 0.1 + 0.7 * np.eye(CLASSES)[raw_batch().labels]
    partners = []
    for place in range(BATCH):
        # The one partner, and the share, that the pixels are explained by.
        away = clean - clean[place]
        moved = state.memory["images"][place] - clean[place]
        lengths = np.maximum((away**2).sum(axis=(1, 2, 3)), 1e-9)
        shares = (away * moved).sum(axis=(1, 2, 3)) / lengths
        errors = np.abs(shares[:, None, None, None] * away - moved).max(axis=(1, 2, 3))
        partner = place if np.abs(moved).max() < 1e-6 else np.argmin(errors)
        assert errors[partner] < 1e-5 and -1e-6 <= shares[partner] <= 1
        expected = smoothed[place] + shares[partner] * (smoothed[partner] - smoothed[place])
        np.testing.assert_allclose(state.memory["labels"][place], expected, atol=1e-5)
        partners.append(partner)
    np.testing.assert_array_equal(np.sort(partners), np.arange(BATCH))
    assert np.any(raw_batch().labels[partners] != raw_batch().labels)


@pytest.mark.parametrize("num_devices", [1, 4])
def test_memory_by_position_stays_at_its_place_in_the_batch(num_devices):
    method = watching_method(
        lambda inner: {**inner.memory, "positions": inner.memory["positions"] + inner.positions}
    )
    state, *_ = run(method, settings(), num_devices=num_devices, steps=3)
    np.testing.assert_array_equal(state.memory["positions"], -1 + 3 * np.arange(BATCH))


@pytest.mark.parametrize("num_devices", [1, 4])
def test_a_method_may_learn_from_the_gradient_of_the_outer_loss_by_the_images(num_devices):
    def remember(inner, perturbation, image_gradient):
        return {**inner.memory, "images": image_gradient}

    def outer(outer):
        logits, network = outer.network.train(outer.perturbation.images, outer.key)
        return Objective(logits[:, 0], network.statistics)

    method = dataclasses.replace(
        watching_method(lambda inner: inner.memory), outer=outer, remember=remember
    )
    state, _, (weights, _) = run(method, settings(), num_devices=num_devices)
    share = raw_batch().weight / raw_batch().weight.sum()
    expected = share[:, None] * weights[:, 0]
    np.testing.assert_allclose(
        np.asarray(state.memory["images"]).reshape(BATCH, -1), expected, rtol=1e-5
    )


@pytest.mark.parametrize("num_devices", [1, 4])
def test_all_replays_of_a_batch_see_it_augmented_and_mixed_alike(num_devices):
    method = dataclasses.replace(
        watching_method(
            lambda inner: {
                "seen": jnp.roll(inner.memory["seen"], -1, 1).at[:, -1].set(inner.batch.images)
            }
        ),
        init=lambda rows, shape: {"seen": jnp.zeros((rows, 4, *shape))},
        replays=2,
    )
    options = settings(
        augmentation=data.Augmentation(crop_padding=2, flip=True), mixing=data.Mixing("mixup")
    )
    # The very same raw batch at every step: what differs was drawn.
    state, *_ = run(method, options, num_devices=num_devices, seeds=[0] * 4)
    seen = np.asarray(state.memory["seen"])
    np.testing.assert_array_equal(seen[:, 0], seen[:, 1])
    np.testing.assert_array_equal(seen[:, 2], seen[:, 3])
    assert np.all(np.abs(seen[:, 1] - seen[:, 2]).reshape(BATCH, -1).max(axis=1) > 0)


def test_k_follows_a_schedule_without_recompiling():
    method = methods.create("standard", start="clean")
    for steps in (0, 1, 2):
        state, *_ = run(method, settings(), {"steps": float(steps)})
        assert float(state.totals.backward_passes) == steps * BATCH


@pytest.mark.parametrize(("sparsity", "moved"), [(None, 1), (0.25, 4), (0.5, 8)])
def test_a_step_under_l1_moves_the_share_that_is_asked_for(sparsity, moved):
    def watch(inner):
        found = inner.pgd(loss="cross_entropy", steps=1, start="clean")
        return {**inner.memory, "images": found.images - inner.batch.images}

    state, *_ = run(watching_method(watch), settings(norm="l1", sparsity=sparsity))
    counts = np.count_nonzero(state.memory["images"], axis=(1, 2, 3))
    np.testing.assert_array_equal(counts, moved)  # None is 2 %, of 16 numbers less than one.


def test_the_option_sparsity_reaches_the_step():
    config = TrainConfig(method="standard", model="digits_cnn", norm="l1", sparsity=0.1)
    assert create_experiment(config).settings.sparsity == 0.1
    option = next(field for field in dataclasses.fields(config) if field.name == "sparsity")
    assert f"{SPARSITY} if not given" in option.metadata["help"]


def test_what_becomes_of_rows_that_have_stopped_may_change_at_a_resume():
    config = TrainConfig(method="fat", model="digits_cnn", early_stop="compact", batch_size=100)
    assert config.differences(TrainConfig(method="fat", model="digits_cnn", batch_size=100)) == []
    assert "--early_stop=compact" in config.to_flags().splitlines()
    assert create_experiment(config).settings.early_stop == "compact"
