"""Rematerialisation: the same variables, logits, statistics and gradients, from less kept."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import models
from robustjax.config import TrainConfig
from robustjax.models.blocks import apply_block
from robustjax.models.dropout import ExampleDropout
from robustjax.training import BoundNetwork, create_experiment

IMAGES = np.random.default_rng(0).uniform(size=(2, 8, 8, 3)).astype(np.float32)
BLOCKS = {
    "wide_resnet_10_1": 3,
    "resnet_8": 3,
    "resnet_50": 16,
    "preact_resnet_18": 8,
    "cifar_resnet_8": 3,
    "madry_simple_resnet": 15,
}


def bound(model, variables, **options):
    return BoundNetwork(model, variables["params"], variables.get("batch_stats", {}), **options)


def recomputed(function, *arguments):
    """How many parts of a function its gradient computes again."""
    equations = jax.make_jaxpr(function)(*arguments).eqns
    return sum(
        equation.primitive.name.startswith(("remat", "checkpoint")) for equation in equations
    )


@pytest.mark.parametrize("name", BLOCKS)
def test_training_passes_recompute_every_block_and_attacks_none(name):
    images = jax.ShapeDtypeStruct(IMAGES.shape, jnp.float32)
    plain, remat = models.create(name), models.create(name, remat=True)
    variables = jax.eval_shape(plain.init, jax.random.key(0), images)
    assert jax.eval_shape(remat.init, jax.random.key(0), images) == variables

    def trained(variables, images):
        return bound(remat, variables).train(images, jax.random.key(2))[0]

    def attacked(variables, images):
        network = bound(remat, variables)
        return [network.logits_fn(batch_norm)(images) for batch_norm in ("eval", "train")]

    assert recomputed(trained, variables, images) == BLOCKS[name]
    assert recomputed(attacked, variables, images) == 0


def outcome(network, images):
    """Logits, running statistics and the gradient of one training pass."""

    def loss(params):
        model = BoundNetwork(network.model, params, network.statistics, network.remat)
        logits, after = model.train(images, jax.random.key(2))
        return jnp.sum(jnp.sin(logits)), (logits, after.statistics)

    return jax.jit(jax.grad(loss, has_aux=True))(network.params)


def assert_equal_up_to_rounding(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)


class Block(nn.Module):
    """What a residual block may hold: batch norm, whose statistics move, and dropout."""

    @nn.compact
    def __call__(self, x, *, train):
        hidden = nn.BatchNorm(use_running_average=not train, name="bn")(x)
        hidden = ExampleDropout(0.3)(nn.relu(hidden), train=train)
        return x + nn.Dense(x.shape[-1], name="fc")(hidden)


class Blocks(nn.Module):
    remat: bool = False

    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None):
        x = images
        for index in range(2):
            block = Block(name=f"block_{index}")
            x = apply_block(block, x, remat=self.remat and train, train=train)
        return x.mean((1, 2))


def wide_resnet(remat):
    return models.create("wide_resnet_10_1", dropout=0.3, remat=remat)


@pytest.mark.parametrize("create", [Blocks, pytest.param(wide_resnet, marks=pytest.mark.slow)])
def test_block_by_block_nothing_changes(create):
    plain, remat = create(remat=False), create(remat=True)
    shapes = jax.eval_shape(plain.init, jax.random.key(0), IMAGES)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: np.float32(rng.normal(0, 0.1, leaf.shape)), shapes)
    expected, found = (outcome(bound(model, variables), IMAGES) for model in (plain, remat))
    assert_equal_up_to_rounding(found, expected)


def test_a_network_without_blocks_recomputes_the_whole_pass():
    model, images = models.create("digits_cnn"), IMAGES[..., :1]
    assert not models.has_option("digits_cnn", "remat")
    variables = jax.jit(model.init)(jax.random.key(0), images)
    whole = bound(model, variables, remat=True)
    assert recomputed(lambda images: whole.train(images, jax.random.key(2))[0], images) == 1
    expected, found = outcome(bound(model, variables), images), outcome(whole, images)
    assert_equal_up_to_rounding(found, expected)


@pytest.mark.parametrize("model", ["resnet_8", "digits_cnn"])
def test_the_option_reaches_the_network_or_the_step(model):
    made = create_experiment(TrainConfig(model=model, remat=True, batch_size=100))
    assert getattr(made.model, "remat", False) == (model == "resnet_8")
    assert made.settings.remat == (model == "digits_cnn")


def test_a_run_may_be_resumed_with_it_or_without():
    assert TrainConfig(remat=True).differences(TrainConfig()) == []
    assert "--remat" in TrainConfig(remat=True).to_flags().splitlines()
