"""The accuracy measured during training, on a linear model with a known worst case."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, data, parallel
from robustjax.measure import make_measure

EPSILON = 0.05


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        assert not train
        return nn.Dense(2, use_bias=False)((images - 0.5).reshape(len(images), -1))


WEIGHTS = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("num_devices", "attack"),
    [
        (1, attacks.PGD(4, EPSILON)),
        (4, attacks.PGD(4, EPSILON)),
        (4, attacks.create("fgsm")),
        (4, attacks.create("pgd-2x2", step_size=2 * EPSILON)),
        (4, attacks.create("cw-2", step_size=2 * EPSILON)),
    ],
    ids=["pgd, one device", "pgd", "fgsm", "pgd with restarts", "cw"],
)
def test_accuracies_are_those_of_the_closed_form_whatever_the_padding(num_devices, attack):
    rng = np.random.default_rng(1)
    # Away from the borders of the box; 27 is no multiple of the batch.
    images = rng.integers(60, 196, (27, 2, 2, 1), dtype=np.uint8)
    labels = rng.integers(0, 2, 27, dtype=np.int32)
    # What pads the last batch is the last example: it has to be robust to be noticed.
    images[-1] = np.where((WEIGHTS[:, 0] > WEIGHTS[:, 1]).reshape(2, 2, 1), 195, 60)
    labels[-1] = 0
    dataset = data.Dataset("made", images, labels, 2)
    devices = parallel.local_devices(num_devices)
    measure = make_measure(
        Linear(),
        devices,
        attacks.ThreatModel("linf", EPSILON),
        attack=attack,
        batch_size=8,
    )
    variables = {"params": {"Dense_0": {"kernel": jnp.asarray(WEIGHTS)}}}
    found = measure(parallel.replicate(variables, devices), dataset, jax.random.key(0))
    logits = (images / 255.0 - 0.5).reshape(27, -1) @ np.float64(WEIGHTS)
    rows = np.arange(27)
    margin = logits[rows, dataset.labels] - logits[rows, 1 - dataset.labels]
    worst = margin - EPSILON * np.abs(np.float64(WEIGHTS[:, 0] - WEIGHTS[:, 1])).sum()
    assert 0 < np.mean(worst > 0) < np.mean(margin > 0)
    np.testing.assert_allclose(found, [np.mean(margin > 0), np.mean(worst > 0)], rtol=1e-12)


def test_a_batch_that_the_devices_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="cannot be divided among 4 devices"):
        make_measure(
            Linear(),
            parallel.local_devices(4),
            attacks.ThreatModel(),
            attack=attacks.PGD(1, 0.1),
            batch_size=6,
        )
