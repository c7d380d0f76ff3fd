"""The train step against NumPy, and its independence of the number of devices."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import data, methods, parallel
from robustjax.methods import Method, Objective, Perturbation
from robustjax.models.dropout import ExampleDropout
from robustjax.training import (
    RawBatch,
    StepSettings,
    create_optimizer,
    create_state,
    make_train_step,
)

BATCH, SHAPE, CLASSES = 8, (3, 3, 1), 3
RATE, MOMENTUM, DECAY, EPSILON = 0.5, 0.9, 0.01, 0.02


class Linear(nn.Module):
    """z = W x + b: the worst perturbation of a two-class loss is known in closed form."""

    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None):
        return nn.Dense(CLASSES)(images.reshape(len(images), -1))


class Normalised(nn.Module):
    """One batch norm, to watch its statistics."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None):
        batch_statistics = train if batch_statistics is None else batch_statistics
        axis_name = None if self.is_initializing() else self.axis_name
        x = nn.BatchNorm(
            use_running_average=not batch_statistics, momentum=0.9, axis_name=axis_name
        )(images)
        return nn.Dense(CLASSES)(x.reshape(len(x), -1))


def raw_batch(batch=BATCH, seed=0):
    rng = np.random.default_rng(seed)
    return RawBatch(
        images=rng.integers(60, 190, (batch, *SHAPE), dtype=np.uint8),
        labels=rng.integers(0, CLASSES, batch, dtype=np.int32),
        index=np.arange(batch, dtype=np.int32),
        weight=rng.uniform(0.5, 2, batch).astype(np.float32),
    )


def run_steps(
    model, method, num_devices=1, steps=1, augmentation=None, ema_decay=0.0, batch_norm="global"
):
    devices = parallel.local_devices(num_devices)
    optimizer = create_optimizer("sgd", lambda step: RATE, momentum=MOMENTUM, weight_decay=DECAY)
    settings = StepSettings("linf", 2, augmentation or data.Augmentation(), batch_norm, ema_decay)
    step = parallel.map_over_devices(
        make_train_step(model, method, optimizer, settings), devices, in_axes=(0, 0, None, None)
    )
    variables = model.init(jax.random.key(1), jnp.zeros((1, *SHAPE)))
    state = create_state(variables, optimizer, method.init(BATCH, SHAPE), ema_decay > 0)
    state = parallel.replicate(state, devices)
    scalars = {"epsilon": EPSILON, "step_size": 2 * EPSILON, **method.scalars_at(0.0)}
    scalars = {name: np.float32(value) for name, value in scalars.items()}
    losses = []
    for number in range(steps):
        batch = parallel.split_over_devices(raw_batch(seed=number), num_devices)
        state, loss = step(state, batch, scalars, jax.random.key(3))
        losses.append(float(parallel.unreplicate(loss)))
    return parallel.unreplicate(state), losses, variables


def softmax(logits):
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)


def reference_sgd_on(images_of, variables, steps):
    """Weighted mean cross-entropy of a linear model, its gradient and SGD, in float64."""
    dense = variables["params"]["Dense_0"]
    weights, bias = np.float64(dense["kernel"]), np.float64(dense["bias"])
    weights_buffer, bias_buffer, losses = 0.0, 0.0, []
    for number in range(steps):
        batch = raw_batch(seed=number)
        x = images_of(batch, weights, bias).reshape(BATCH, -1)
        share = np.float64(batch.weight) / np.float64(batch.weight).sum()
        p = softmax(x @ weights + bias)
        losses.append(-(share * np.log(p[np.arange(BATCH), batch.labels])).sum())
        error = share[:, None] * (p - np.eye(CLASSES)[batch.labels])
        weights_buffer = MOMENTUM * weights_buffer + x.T @ error + DECAY * weights
        bias_buffer = MOMENTUM * bias_buffer + error.sum(axis=0) + DECAY * bias
        weights, bias = weights - RATE * weights_buffer, bias - RATE * bias_buffer
    return weights, bias, losses


def clean_images(batch, weights, bias):
    return batch.images / 255.0


def one_sign_step(batch, weights, bias):
    """FGSM of size ε: a step of 2ε projected onto the ball; a second one finds the same sign."""
    x = batch.images.reshape(BATCH, -1) / 255.0
    for _ in range(2):
        error = softmax(x @ weights + bias) - np.eye(CLASSES)[batch.labels]
        clean = batch.images.reshape(BATCH, -1) / 255.0
        x = np.clip(x + 2 * EPSILON * np.sign(error @ weights.T), clean - EPSILON, clean + EPSILON)
    return x


@pytest.mark.parametrize(
    ("method", "images_of"),
    [
        (methods.create("natural"), clean_images),
        (methods.create("standard", start="clean"), one_sign_step),
    ],
    ids=["natural", "standard"],
)
def test_three_steps_are_those_of_numpy(method, images_of):
    state, losses, variables = run_steps(Linear(), method, steps=3)
    weights, bias, expected = reference_sgd_on(images_of, variables, 3)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(state.params["Dense_0"]["kernel"], weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.params["Dense_0"]["bias"], bias, rtol=1e-4, atol=1e-6)
    assert state.step == 3
    assert state.totals.examples == 3 * BATCH
    weight = sum(raw_batch(seed=number).weight.sum() for number in range(3))
    np.testing.assert_allclose(state.totals.weight, weight, rtol=1e-6)
    passes = 0 if method.name == "natural" else 2
    assert state.totals.backward_passes == 3 * BATCH * passes


@pytest.mark.parametrize("name", ["natural", "standard", "trades", "clp"])
def test_four_devices_do_what_one_does(name):
    method = methods.create(name)
    augmentation = data.Augmentation(crop_padding=1, flip=True)
    model = Normalised(parallel.AXIS)
    one, one_losses, _ = run_steps(model, method, 1, 2, augmentation)
    four, four_losses, _ = run_steps(model, method, 4, 2, augmentation)
    np.testing.assert_allclose(one_losses, four_losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, four)


class Dropped(nn.Module):
    """Half of the pixels dropped, then a linear layer."""

    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None):
        x = images.reshape(len(images), -1)
        x = ExampleDropout(0.5, axis_name=parallel.AXIS)(x, train=train)
        return nn.Dense(CLASSES)(x)


def test_dropout_does_not_depend_on_the_number_of_devices():
    natural = methods.create("natural")
    _, one, _ = run_steps(Dropped(), natural, 1)
    _, four, _ = run_steps(Dropped(), natural, 4)
    np.testing.assert_allclose(one, four, rtol=1e-5)
    _, without, _ = run_steps(Linear(), natural, 1)
    assert abs(without[0] - one[0]) > 1e-4


def test_global_batch_norm_sees_the_whole_batch():
    state, _, _ = run_steps(Normalised(parallel.AXIS), methods.create("natural"), 4)
    images = raw_batch().images / 255.0
    running = state.statistics["BatchNorm_0"]
    np.testing.assert_allclose(running["mean"], 0.1 * images.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(running["var"], 0.9 + 0.1 * images.var((0, 1, 2)), rtol=1e-5)


def test_per_device_batch_norm_averages_the_running_statistics_of_each_share():
    state, _, _ = run_steps(Normalised(), methods.create("natural"), 4, batch_norm="per_device")
    shares = (raw_batch().images / 255.0).reshape(4, BATCH // 4, *SHAPE)
    expected = 0.9 + 0.1 * np.mean([share.var((0, 1, 2)) for share in shares], axis=0)
    whole = 0.9 + 0.1 * shares.reshape(BATCH, *SHAPE).var((0, 1, 2))
    found = state.statistics["BatchNorm_0"]["var"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.allclose(found, whole, rtol=1e-5)


def test_the_attack_leaves_the_running_statistics_alone():
    for mode in ("eval", "train"):
        method = methods.create("standard", attack_batch_norm=mode)
        state, _, _ = run_steps(Normalised(parallel.AXIS), method)
        # One outer pass: whatever the attack saw, the mean moved once, by a tenth.
        mean = state.statistics["BatchNorm_0"]["mean"]
        images = raw_batch().images.mean() / 255.0
        assert abs(mean[0] - 0.1 * images) <= 0.1 * EPSILON + 1e-6


def test_the_moving_average_follows_the_weights_and_the_statistics():
    decay, model = 0.75, Normalised(parallel.AXIS)
    state, _, variables = run_steps(model, methods.create("natural"), steps=2, ema_decay=decay)
    after_one, _, _ = run_steps(model, methods.create("natural"), steps=1)

    def expected(start, first, second):
        average = decay * np.float64(start) + (1 - decay) * first
        return decay * average + (1 - decay) * second

    jax.tree.map(
        lambda average, *weights: np.testing.assert_allclose(
            average, expected(*weights), rtol=1e-5, atol=1e-7
        ),
        state.average,
        {"params": variables["params"], "statistics": variables["batch_stats"]},
        {"params": after_one.params, "statistics": after_one.statistics},
        {"params": state.params, "statistics": state.statistics},
    )
    averaged = state.variables(averaged=True)
    assert averaged["params"] is state.average["params"]
    assert averaged["batch_stats"] is state.average["statistics"]
    assert state.variables()["params"] is state.params


def remembering_method():
    """Counts how often each example was seen, and its last label, in per-example memory."""

    def perturb(inner):
        labels = inner.batch.labels
        memory = {"seen": inner.memory["seen"] + 1, "label": labels}
        return Perturbation(inner.batch.images, jnp.zeros(len(labels), jnp.int32), memory)

    def outer(outer):
        logits, network = outer.network.train(outer.batch.images, outer.key)
        return Objective(jnp.sum(logits, axis=-1), network.statistics)

    def init(num_examples, image_shape):
        return {
            "seen": jnp.zeros(num_examples, jnp.int32),
            "label": jnp.full(num_examples, -1, jnp.int32),
        }

    return Method(name="remembering", perturb=perturb, outer=outer, init=init)


@pytest.mark.parametrize("num_devices", [1, 4])
def test_what_a_method_remembers_of_an_example_comes_back_to_it(num_devices):
    state, _, _ = run_steps(Linear(), remembering_method(), num_devices, steps=2)
    np.testing.assert_array_equal(state.memory["seen"], np.full(BATCH, 2))
    np.testing.assert_array_equal(state.memory["label"], raw_batch(seed=1).labels)


def test_scheduled_scalars_do_not_recompile():
    method = methods.create("trades", beta=lambda epoch: 1.0 + epoch)
    assert method.scalars_at(0.5) == {"beta": 1.5}
    optimizer = create_optimizer("sgd", lambda step: RATE)
    settings = StepSettings("linf", 1, data.Augmentation())
    traces = []
    step = make_train_step(Linear(), method, optimizer, settings)

    def counted(*arguments):
        traces.append(1)
        return step(*arguments)

    devices = parallel.local_devices(1)
    mapped = parallel.map_over_devices(counted, devices, in_axes=(0, 0, None, None))
    variables = Linear().init(jax.random.key(1), jnp.zeros((1, *SHAPE)))
    state = parallel.replicate(create_state(variables, optimizer, (), False), devices)
    found = []
    for epoch in (0.0, 4.0):
        scalars = {"epsilon": EPSILON, "step_size": EPSILON, **method.scalars_at(epoch)}
        scalars = {name: np.float32(value) for name, value in scalars.items()}
        batch = parallel.split_over_devices(raw_batch(), 1)
        _, loss = mapped(state, batch, scalars, jax.random.key(3))
        found.append(float(parallel.unreplicate(loss)))
    assert len(traces) == 1
    assert found[1] > found[0]


def test_settings_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        StepSettings("linf", 1, data.Augmentation()).norm = "l2"
