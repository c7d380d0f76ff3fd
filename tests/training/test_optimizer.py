"""The optimiser against SGD as PyTorch documents it, written out in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from robustjax.training.optimizer import create_optimizer


def reference_sgd(weights, gradients, rates, momentum, nesterov, weight_decay):
    buffer = np.zeros_like(weights)
    for gradient, rate in zip(gradients, rates, strict=True):
        decayed = gradient + weight_decay * weights
        buffer = momentum * buffer + decayed
        weights = weights - rate * (decayed + momentum * buffer if nesterov else buffer)
    return weights


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 5e-2])
def test_sgd_is_coupled_and_the_rate_is_outside_the_buffer(nesterov, momentum, weight_decay):
    if nesterov and not momentum:
        return
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=4), rng.normal(size=(6, 4))
    rates = np.where(np.arange(6) < 3, 0.1, 0.01)
    optimizer = create_optimizer(
        "sgd",
        lambda step: jnp.where(step < 3, 0.1, 0.01),
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
    )
    # A kernel, a bias and a batch-norm scale: decay hits every one of them.
    names = ("kernel", "bias", "scale")
    params = {name: jnp.asarray(start, jnp.float32) for name in names}
    state = optimizer.init(params)
    for gradient in gradients:
        every = {name: jnp.asarray(gradient, jnp.float32) for name in names}
        updates, state = optimizer.update(every, state, params)
        params = {name: params[name] + updates[name] for name in names}
    expected = reference_sgd(start, gradients, rates, momentum, nesterov, weight_decay)
    for name in names:
        np.testing.assert_allclose(params[name], expected, rtol=2e-5)


def test_an_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match="optimizer='lion': accepted are sgd, adam"):
        create_optimizer("lion", lambda step: 0.1)
