"""What a trained network is known by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import data, models
from robustjax.config import TrainConfig
from robustjax.evaluation.trained import TrainedNetwork
from robustjax.models import registry


def network(model, factor, weights):
    logits_fn = jax.tree_util.Partial(lambda w, x: factor * x.reshape(len(x), -1) @ w, weights)
    test_set = data.Dataset(
        "made", np.zeros((3, 2, 2, 1), np.uint8), np.arange(3, dtype=np.int32), 3
    )
    config = TrainConfig(model=model, dataset="digits")
    return TrainedNetwork(logits_fn, None, weights, test_set, config, step=1, averaged=False)


@pytest.fixture
def own():
    models.register("mine", lambda num_classes: None)
    yield "mine"
    del registry._OWN["mine"]


def test_a_network_is_known_by_its_weights_and_ones_own_also_by_its_code(own):
    weights, others = jnp.ones((4, 3)), jnp.zeros((4, 3))
    for model in ("digits_cnn", own):
        known = network(model, 1.0, weights).fingerprint
        assert network(model, 1.0, weights).fingerprint == known
        assert network(model, 1.0, others).fingerprint != known
        assert (network(model, 2.0, weights).fingerprint == known) is (model == "digits_cnn")
