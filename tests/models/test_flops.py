"""Operations counted in jaxprs: beside published figures, and beside counts made by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from robustjax.models import flops


@pytest.mark.parametrize(
    ("model", "gflop", "without_padding"),
    [
        ("wide_resnet_34_10", 13.3, 12.1),
        ("wide_resnet_28_10", 10.5, 9.5),
        ("resnet_18", 1.11, 0.96),
    ],
)
def test_known_networks_on_32_by_32_images(model, gflop, without_padding):
    assert flops.forward(model) / 1e9 == pytest.approx(gflop, rel=0.005)
    exact = flops.forward(model, padded_taps=False)
    assert exact / 1e9 == pytest.approx(without_padding, rel=0.005)


class TwoLayers(nn.Module):
    @nn.compact
    def __call__(self, images):
        hidden = nn.Conv(5, (3, 3), strides=2, padding=1)(images)
        return nn.Dense(7)(hidden.reshape(len(images), -1))


@pytest.fixture
def two_layers():
    model, images = TwoLayers(), jnp.zeros((2, 6, 6, 3))
    variables = model.init(jax.random.key(0), images)
    return model.apply, variables, images


# The convolution has 3x3 outputs of 5 channels from 3; along an axis its outputs meet rows
# (-1, 0, 1), (1, 2, 3) and (3, 4, 5): 8 of the 9 taps lie on the image. Then 45 numbers become 7.
CONVOLUTION, EXACT, DENSE = 2 * 9 * 9 * 5 * 3, 2 * 8 * 8 * 5 * 3, 2 * 45 * 7


def test_a_small_network_by_hand(two_layers):
    assert flops.count(*two_layers) == 2 * (CONVOLUTION + DENSE)
    assert flops.count(*two_layers, padded_taps=False) == 2 * (EXACT + DENSE)


def test_each_gradient_costs_another_pass(two_layers):
    apply, *arguments = two_layers
    for by, passes in ((1, 2), ((0, 1), 3)):
        gradient = jax.grad(lambda *given: apply(*given).sum(), by)
        counted = flops.count(gradient, *arguments, padded_taps=False)
        assert counted == passes * 2 * (EXACT + DENSE)


def test_a_loop_counts_every_turn_and_a_branch_the_dearer_one():
    square = jnp.zeros((4, 4))

    def loop(x):
        return jax.lax.scan(lambda x, _: (x @ x, None), x, None, length=6)[0]

    def branch(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert flops.count(loop, square) == 6 * 2 * 4**3
    assert flops.count(jax.jit(branch), square) == 2 * 2 * 4**3


def test_a_loop_of_unknown_length_is_refused():
    def loop(x):
        return jax.lax.while_loop(lambda x: x[0, 0] < 1, lambda x: x @ x, x)

    with pytest.raises(ValueError, match="length is unknown"):
        flops.count(loop, jnp.zeros((2, 2)))
