"""AutoAttack on networks with a derivative rule of their own, or that compute in the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks
from robustjax.attacks.engine import captured_arrays

THREAT = attacks.ThreatModel("linf", 0.05)
WEIGHTS = jnp.asarray(np.random.default_rng(0).normal(size=(36, 5)), jnp.float32)
IMAGES = jnp.asarray(np.random.default_rng(1).uniform(size=(4, 6, 6, 1)), jnp.float32)


def linear(images):
    return (images.reshape(len(images), 36) - 0.5) @ WEIGHTS


LABELS = jnp.argmax(linear(IMAGES), 1)


def rounded(images):
    """A staircase, whose own gradient is zero, and which is differentiated as the slope is."""
    return jnp.round(linear(images) * 20) / 20


by_jvp = jax.custom_jvp(rounded)
by_jvp.defjvp(lambda primals, tangents: (by_jvp(*primals), tangents[0].reshape(-1, 36) @ WEIGHTS))
by_vjp = jax.custom_vjp(rounded)
by_vjp.defvjp(
    lambda images: (by_vjp(images), images.shape),
    lambda shape, cotangent: ((cotangent @ WEIGHTS.T).reshape(shape),),
)


@pytest.mark.parametrize("network", [by_jvp, by_vjp], ids=["jvp", "vjp"])
def test_the_rule_is_followed(network):
    assert bool(attacks.fgsm(jax.random.key(0), network, IMAGES, LABELS, THREAT).success.all())
    found = attacks.autoattack(jax.random.key(0), network, IMAGES, LABELS, THREAT)
    assert found.robust_accuracy["clean"] == 1 and found.robust_accuracy["apgd-ce"] == 0


def test_rules_of_jax_itself_are_opened_up_and_others_seen():
    def layers(images):
        return jax.nn.softplus(jax.nn.relu(jax.nn.gelu(linear(images))))

    assert not captured_arrays.has_own_gradient(layers, IMAGES)
    assert captured_arrays.has_own_gradient(
        jax.jit(lambda images: layers(images) + by_vjp(images)), IMAGES
    )


def test_a_network_in_the_host_keeps_no_state(tmp_path):
    def network(images):
        shape = jax.ShapeDtypeStruct((len(images), 5), jnp.float32)
        return jax.pure_callback(lambda found: np.asarray(linear(found)), shape, images)

    guarded = jax.custom_jvp(network)
    guarded.defjvp(lambda at, move: (guarded(*at), move[0].reshape(-1, 36) @ WEIGHTS))
    with pytest.raises(ValueError, match="state_path is given, and the network calls back"):
        attacks.autoattack(
            jax.random.key(0), guarded, IMAGES, LABELS, THREAT, state_path=tmp_path / "state.npz"
        )
    assert not (tmp_path / "state.npz").exists()
