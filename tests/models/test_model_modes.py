"""Training and evaluation: batch statistics, their average over devices, and dropout."""

from functools import partial

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import models
from robustjax.models.dropout import ExampleDropout
from robustjax.models.layers import Layers

IMAGES = np.random.default_rng(0).uniform(size=(4, 8, 8, 3)).astype(np.float32)


class OneNorm(nn.Module):
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, *, batch_statistics):
        layers = Layers(axis_name=self.axis_name)
        return layers.batch_norm(images, batch_statistics=batch_statistics, name="norm")


def test_running_statistics_are_nine_tenths_old_and_one_tenth_batch():
    mean, var = np.float32([0.1, 0.2, 0.3]), np.float32([0.5, 1.0, 2.0])
    variables = {
        "params": {"norm": {"scale": np.ones(3), "bias": np.zeros(3)}},
        "batch_stats": {"norm": {"mean": mean, "var": var}},
    }
    images = IMAGES.astype(np.float64)
    outputs, updates = OneNorm().apply(
        variables, IMAGES, batch_statistics=True, mutable=["batch_stats"]
    )
    batch_mean, batch_var = images.mean(axis=(0, 1, 2)), images.var(axis=(0, 1, 2))
    norm = updates["batch_stats"]["norm"]
    np.testing.assert_allclose(norm["mean"], 0.9 * mean + 0.1 * batch_mean, rtol=1e-5)
    np.testing.assert_allclose(norm["var"], 0.9 * var + 0.1 * batch_var, rtol=1e-5)
    expected = (images - batch_mean) / np.sqrt(batch_var + 1e-5)
    np.testing.assert_allclose(outputs, expected, atol=1e-4)

    outputs, updates = OneNorm().apply(
        variables, IMAGES, batch_statistics=False, mutable=["batch_stats"]
    )
    np.testing.assert_array_equal(updates["batch_stats"]["norm"]["mean"], mean)
    np.testing.assert_allclose(outputs, (images - mean) / np.sqrt(var + 1e-5), atol=1e-5)


def weights(model, images=IMAGES):
    """Draws kernels in NumPy and gives everything else its initial value, compiling nothing."""
    generator = np.random.default_rng(1)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return (scale * generator.standard_normal(leaf.shape)).astype(np.float32)
        return np.full(leaf.shape, 1.0 if name in ("scale", "var") else 0.0, np.float32)

    return jax.tree_util.tree_map_with_path(
        draw, jax.eval_shape(model.init, jax.random.key(0), images)
    )


def call(model, variables, images=IMAGES, **options):
    return model.apply(variables, images, mutable=["batch_stats"], **options)


def test_attacks_on_batch_statistics_see_what_training_sees():
    model = models.create("cifar_resnet_8")
    variables = weights(model)

    @jax.jit
    def run(variables):
        modes = ((False, None), (False, True), (True, None), (True, False))
        return [call(model, variables, train=t, batch_statistics=b)[0] for t, b in modes]

    evaluated, attacked, trained, frozen = map(np.asarray, run(variables))
    np.testing.assert_array_equal(attacked, trained)
    np.testing.assert_array_equal(frozen, evaluated)
    assert not np.allclose(attacked, evaluated, atol=1e-2)


@pytest.mark.parametrize(
    "name",
    [
        "wide_resnet_10_1",
        "resnet_8",
        "resnet_50",
        "preact_resnet_18",
        "cifar_resnet_8",
        "madry_simple_resnet",
        "fat_small_cnn",
    ],
)
@pytest.mark.parametrize(
    ("train", "batch_statistics", "moves"),
    [(False, None, False), (False, True, True), (True, None, True), (True, False, False)],
)
def test_every_batch_norm_follows_the_switches(name, train, batch_statistics, moves):
    model = models.create(name, **({"dropout": 0.5} if name.startswith("wide") else {}))
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)

    def statistics(old, variables):
        variables = {**variables, "batch_stats": old}
        rngs = {"dropout": jax.random.key(0)}
        options = {"train": train, "batch_statistics": batch_statistics}
        return call(model, variables, rngs=rngs, **options)[1]["batch_stats"]

    program = jax.make_jaxpr(statistics)(variables["batch_stats"], variables).jaxpr
    passed_on = [any(new is old for old in program.invars) for new in program.outvars]
    assert passed_on and set(passed_on) == {not moves}
    drops = "random_fold_in" in str(program) or "threefry" in str(program)
    assert drops == (train and name.startswith("wide"))


def test_evaluation_and_initialisation_need_no_rng_no_axis_and_nothing_mutable():
    model = models.create("wide_resnet_10_1", dropout=0.5, axis_name="batch")
    variables = weights(model)
    assert jax.eval_shape(model.apply, variables, IMAGES).shape == (4, 10)
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    jax.eval_shape(lambda: model.init(rngs, IMAGES, train=True))
    with pytest.raises(NameError, match="batch"):
        jax.eval_shape(lambda: model.apply(variables, IMAGES, train=True, rngs=rngs))


def test_training_with_dropout_asks_for_its_rng():
    model = models.create("wide_resnet_10_1", dropout=0.5)
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        jax.eval_shape(
            lambda: model.apply(weights(model), IMAGES, train=True, mutable=["batch_stats"])
        )


@pytest.mark.parametrize("name", ["small_cnn", "digits_cnn"])
def test_networks_without_batch_norm_have_no_statistics(name):
    model = models.create(name, dropout=0.0) if name == "small_cnn" else models.create(name)
    images = jnp.zeros((2, 16, 16, 1))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert set(variables) == {"params"}
    _, updates = jax.eval_shape(
        lambda variables: model.apply(variables, images, train=True, mutable=["batch_stats"]),
        variables,
    )
    assert not updates


def test_global_batch_norm_over_two_shards_equals_one_batch():
    alone = models.create("cifar_resnet_8")
    mapped = models.create("cifar_resnet_8", axis_name="batch")
    variables = weights(alone)

    @jax.jit
    def run(shards):
        whole = call(alone, variables, shards.reshape(IMAGES.shape), train=True)
        globally = jax.vmap(
            lambda images: call(mapped, variables, images, train=True), axis_name="batch"
        )
        locally = jax.vmap(lambda images: call(alone, variables, images, train=True)[0])
        return whole, globally(shards), locally(shards)

    whole, globally, locally = run(IMAGES.reshape(2, 2, 8, 8, 3))
    np.testing.assert_allclose(globally[0].reshape(4, 10), whole[0], atol=1e-4)
    assert not np.allclose(locally.reshape(4, 10), whole[0], atol=1e-2)
    for both, one in zip(*map(jax.tree.leaves, (globally[1], whole[1])), strict=True):
        np.testing.assert_allclose(both[0], one, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(both[0], both[1])


def drop(inputs, *, rate=0.5, axis_name=None, seed=0):
    rngs = {"dropout": jax.random.key(seed)}
    return ExampleDropout(rate, axis_name).apply({}, inputs, train=True, rngs=rngs)


def test_dropout_is_the_same_however_the_batch_is_split():
    @jax.jit
    def run(inputs):
        shards = inputs.reshape(4, 2, 15)
        globally = jax.vmap(partial(drop, axis_name="batch"), axis_name="batch")
        return drop(inputs), globally(shards).reshape(8, 15), jax.vmap(drop)(shards)

    whole, split, local = run(jnp.ones((8, 15)))
    np.testing.assert_array_equal(split, whole)
    assert len(np.unique(whole, axis=0)) == 8
    np.testing.assert_array_equal(local[0], local[1])


def test_dropout_keeps_the_mean_and_follows_the_key():
    @jax.jit
    def run(inputs):
        first, second = (drop(inputs, rate=0.2, seed=seed) for seed in (0, 1))
        return first, second, drop(inputs[:3], rate=0.2)

    dropped, other, fewer = map(np.asarray, run(jnp.ones((64, 100))))
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1.25)}
    # 6400 units: the standard error of the kept fraction is 0.005.
    assert abs((dropped > 0).mean() - 0.8) < 0.02
    assert (dropped != other).any()
    np.testing.assert_array_equal(fewer, dropped[:3])


def test_small_cnn_drops_units_only_where_it_trains():
    model = models.create("small_cnn")
    images = IMAGES[..., :1].repeat(2, axis=1).repeat(2, axis=2)
    variables = jax.tree.map(np.ones_like, weights(model, images))

    def run(seed, train):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, images, train=train, rngs=rngs)

    np.testing.assert_array_equal(run(0, False), run(1, False))
    assert not np.allclose(run(0, True), run(1, True))
