"""Gradient accumulation: the step of the whole batch, up to rounding; what is refused; resuming."""

import dataclasses
import io

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import data, methods, parallel
from robustjax.config import TrainConfig
from robustjax.models.dropout import ExampleDropout, Places
from robustjax.training import (
    RawBatch,
    StepSettings,
    check_experiment,
    create_optimizer,
    create_state,
    make_train_step,
    train,
)
from robustjax.training.step import microbatch as parts_of_a_batch
from robustjax.training.step.microbatch import map_parts, require_divisor

BATCH, SHAPE, CLASSES = 8, (3, 3, 1), 3


class Dropped(nn.Module):
    """Two layers, perhaps with dropout in between: its masks must not depend on the parts."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None, places=None):
        x = nn.tanh(nn.Dense(8)(images.reshape(len(images), -1)))
        x = ExampleDropout(self.dropout, parallel.AXIS)(x, train=train, places=places)
        return nn.Dense(CLASSES)(x)


class Normalised(nn.Module):
    """One batch norm over all devices, to watch its statistics."""

    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None):
        axis_name = None if self.is_initializing() else parallel.AXIS
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name=axis_name)(images)
        return nn.Dense(CLASSES)(x.reshape(len(x), -1))


def raw_batch():
    rng = np.random.default_rng(0)
    return RawBatch(
        images=rng.integers(60, 190, (BATCH, *SHAPE), dtype=np.uint8),
        labels=rng.integers(0, CLASSES, BATCH, dtype=np.int32),
        index=np.arange(BATCH, dtype=np.int32)[::-1].copy(),
        weight=rng.uniform(0.5, 2, BATCH).astype(np.float32),
    )


def state_after(method, microbatch, num_devices=1, model=None, scalars=None, **options):
    """The state after one step of gradient descent, and its loss."""
    model, devices = model or Dropped(), parallel.local_devices(num_devices)
    optimizer = create_optimizer("sgd", lambda step: 0.5)
    settings = StepSettings(
        "linf", 2, data.Augmentation(), num_classes=CLASSES, microbatch=microbatch, **options
    )
    step = parallel.map_over_devices(
        make_train_step(model, method, optimizer, settings), devices, in_axes=(0, 0, None, None)
    )
    variables = model.init(jax.random.key(1), jnp.zeros((1, *SHAPE)))
    state = create_state(variables, optimizer, method.init(BATCH, SHAPE), False)
    # The memory of every example is another one.
    memory = jax.tree.map(
        lambda leaf: leaf + 0.01 * jnp.arange(BATCH).reshape(-1, *(1,) * (leaf.ndim - 1)),
        state.memory,
    )
    state = parallel.replicate(state.replace(memory=memory), devices)
    values = {"epsilon": 0.1, "step_size": 0.05, **method.scalars_at(0.0), **(scalars or {})}
    values = {name: np.float32(value) for name, value in values.items()}
    batch = parallel.split_over_devices(raw_batch(), num_devices)
    state, loss = step(state, batch, values, jax.random.key(3))
    return parallel.unreplicate(state), float(parallel.unreplicate(loss))


def assert_equal_up_to_rounding(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), one, other)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("standard", "clean"),
        ("trades", "gaussian"),
        ("mart", "clean"),
        ("fat", "clean"),
        ("sense", "clean"),
    ],
)
def test_parts_on_two_devices_make_the_step_of_the_whole_batch(name, start):
    method, model = methods.create(name, start=start), Dropped(0.25 if name == "trades" else 0.0)
    parts = state_after(method, 2, num_devices=2, model=model)
    assert_equal_up_to_rounding(parts, state_after(method, 0, model=model))


@pytest.mark.parametrize(
    ("name", "hyperparameters", "options"),
    [
        ("free", {}, {"weight_perturbation": True}),
        ("iaat", {"start": "clean", "fixed_epsilon_epochs": 0.0}, {"label_smoothing": 0.1}),
        pytest.param(
            "alp",
            {"concatenate": True},
            {"mixing": data.Mixing("mixup")},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_memory_mixing_and_awp_do_not_depend_on_the_parts(
    name, hyperparameters, options, monkeypatch
):
    if name == "iaat":
        # As on an accelerator, where the parts are the turns of a loop.
        monkeypatch.setattr(
            parts_of_a_batch.platforms, "for_platform", lambda *args, other, **forms: other(*args)
        )
    method, scalars = methods.create(name, **hyperparameters), {"awp_gamma": 0.1}
    options = {"model": Dropped(0.25 if name == "alp" else 0.0), "scalars": scalars, **options}
    whole = state_after(method, 0, **options)
    assert_equal_up_to_rounding(state_after(method, 4, **options), whole)
    if whole[0].memory:
        (rows,) = jax.tree.leaves(whole[0].memory)
        assert len({row.tobytes() for row in rows}) == BATCH


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.names())
def test_every_method_is_separable_or_refused(name):
    has_choice = "attack_batch_norm" in methods.hyperparameters(name)
    method = methods.create(name, **({"attack_batch_norm": "eval"} if has_choice else {}))
    if method.couples_rows:
        with pytest.raises(ValueError, match="microbatch=2"):
            state_after(method, 2)
    else:
        assert_equal_up_to_rounding(state_after(method, 2), state_after(method, 0))


def test_parts_move_the_running_statistics_in_turn():
    state, _ = state_after(methods.create("natural"), 2, num_devices=2, model=Normalised())
    # Axes: device, part, and what is averaged.
    images = (raw_batch().images / 255.0).reshape(2, 2, 2, *SHAPE)
    first, second = images.mean((0, 2, 3, 4))
    expected = 0.9 * (0.1 * first) + 0.1 * second
    np.testing.assert_allclose(state.statistics["BatchNorm_0"]["mean"], expected, rtol=1e-5)


def test_the_masks_of_dropout_follow_the_places_of_the_rows():
    layer, key, ones = ExampleDropout(0.5), {"dropout": jax.random.key(0)}, jnp.ones((6, 20))
    whole = layer.apply({}, ones, train=True, rngs=key)
    part = layer.apply({}, ones[:2], train=True, rngs=key, places=Places(jnp.array([4, 1]), 6))
    np.testing.assert_array_equal(part, whole[jnp.array([4, 1])])


@pytest.mark.parametrize("size", [0, 1, 2, 6])
def test_the_rows_come_back_in_their_order(size):
    doubled = map_parts(lambda rows: {"twice": 2 * rows["x"]}, {"x": jnp.arange(6)}, size)
    np.testing.assert_array_equal(doubled["twice"], 2 * np.arange(6))


@pytest.mark.parametrize("name", ["lrm", "clp"])
def test_a_loss_that_couples_the_examples_is_refused(name):
    config = TrainConfig(method=name, microbatch=32)
    with pytest.raises(ValueError, match=f"microbatch=32: the loss of method={name}.*couples"):
        check_experiment(config)
    check_experiment(dataclasses.replace(config, microbatch=0))
    with pytest.raises(ValueError, match="microbatch=2"):
        state_after(methods.create(name), 2)


def test_lrm_without_pairing_couples_nothing():
    check_experiment(TrainConfig(method="lrm", microbatch=32, set=("pairing_ratio=None",)))


@pytest.mark.parametrize("size", [3, 5, 12])
def test_parts_that_do_not_fill_the_batch_are_refused(size):
    accepted = f"microbatch={size}: accepted are 0 .* 8 examples .* each device has, 1, 2, 4, 8$"
    with pytest.raises(ValueError, match=accepted):
        require_divisor(size, 8)


def test_a_negative_size_is_refused():
    with pytest.raises(ValueError, match="microbatch=-1: accepted are whole numbers, 0 to"):
        TrainConfig(microbatch=-1)


def test_other_parts_make_another_run():
    assert TrainConfig(microbatch=16).differences(TrainConfig(microbatch=8)) == [
        "microbatch=16 (was 8)"
    ]


@pytest.mark.slow
def test_a_run_in_parts_resumes_bit_for_bit_and_only_with_its_parts(tmp_path):
    config = TrainConfig(
        method="standard", model="digits_cnn", epsilon=0.1, steps=1, step_size=0.1, epochs=2,
        measure_steps=1, measure_examples=32, holdout=0, train_examples=64, batch_size=32,
        schedule="constant", learning_rate=0.05, devices=1, microbatch=8,
        workdir=str(tmp_path / "unbroken"),
    )  # fmt: skip
    unbroken = train(config, stream=None)
    config = dataclasses.replace(config, workdir=str(tmp_path / "broken"))
    train(dataclasses.replace(config, epochs=1), stream=None)
    stream = io.StringIO()
    resumed = train(config, stream)
    assert "resuming" in stream.getvalue()
    jax.tree.map(np.testing.assert_array_equal, resumed.state, unbroken.state)
    with pytest.raises(ValueError, match=r"microbatch=16 \(was 8\)"):
        train(dataclasses.replace(config, microbatch=16), stream=None)
    with pytest.raises(ValueError, match="microbatch=5: accepted are .* 32 examples"):
        train(dataclasses.replace(config, microbatch=5, workdir=str(tmp_path / "new")))
    assert not (tmp_path / "new").exists()
