"""The order of targets by distance (MALT): closed forms of linear networks, and what it changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks
from robustjax.attacks import ThreatModel, _nearest_classes
from robustjax.attacks._nearest_classes import boundary_distance, nearest_first
from robustjax.attacks.targets import ranked_inputs

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(3)
# Classes of very unlike lengths, so that a likely one is often far away.
WEIGHTS = (RANDOM.normal(size=(12, 6)) * [1, 8, 0.2, 3, 0.5, 1]).astype(np.float32)
IMAGES = RANDOM.uniform(size=(20, 2, 2, 3)).astype(np.float32)


def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS


LABELS = np.argmax(linear(IMAGES), axis=1)


def distances(norm):
    """Of every class from every image, float64: `[B, K]`; 0 of the label."""
    logits = IMAGES.reshape(20, 12).astype(np.float64) @ WEIGHTS
    normals = WEIGHTS.T[None].astype(np.float64) - WEIGHTS.T[LABELS][:, None]
    sizes = np.abs(normals).sum(-1) if norm == "linf" else np.linalg.norm(normals, axis=-1)
    lead = logits[np.arange(20), LABELS][:, None] - logits
    return lead / np.where(sizes > 0, sizes, 1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_classes_come_in_the_order_of_a_linear_networks_distances(norm):
    inputs = ranked_inputs(KEY, linear, IMAGES, LABELS, ThreatModel(norm, 0.1))
    found = nearest_first(linear, inputs)
    expected = np.argsort(distances(norm), axis=1)[:, 1:]
    np.testing.assert_array_equal(found, expected)
    assert (np.asarray(inputs.ranked) != expected).any(axis=1).sum() > 5


def test_the_nearest_class_alone_decides_a_linear_network():
    reach = np.sort(distances("linf"), axis=1)[:, 1]
    epsilon = float(np.median(reach))
    assert np.abs(reach - epsilon).min() == 0 or np.abs(reach - epsilon).min() > 1e-6
    threat = ThreatModel("linf", epsilon, None)
    name = "(num_targets=1,loss=margin,steps=30)"
    nearest = attacks.create(f"malt{name}")(KEY, linear, IMAGES, LABELS, threat)
    likeliest = attacks.create(f"apgd-t{name}")(KEY, linear, IMAGES, LABELS, threat)
    np.testing.assert_array_equal(nearest.success, reach < epsilon)
    assert likeliest.success.sum() < nearest.success.sum()


def test_all_classes_break_the_same_in_either_order_and_the_nearest_first_sooner():
    threat = ThreatModel("linf", 0.05)
    by_order = {
        order: attacks.apgd_targeted(
            KEY, linear, IMAGES, LABELS, threat, num_targets=5, steps=20, order=order
        )
        for order in ("likeliest", "nearest")
    }
    np.testing.assert_array_equal(by_order["nearest"].success, by_order["likeliest"].success)
    fallen = np.asarray(by_order["nearest"].success)
    assert 0 < fallen.sum() < 20
    spent = {order: found.backward_passes[fallen].sum() for order, found in by_order.items()}
    assert spent["nearest"] < spent["likeliest"]


def test_one_target_after_the_other_is_all_of_them_at_once():
    threat = ThreatModel("linf", 0.05)
    whole = attacks.apgd_targeted(
        KEY, linear, IMAGES, LABELS, threat, num_targets=3, steps=10, order="nearest"
    )
    single = [
        attacks.apgd_targeted(
            KEY, linear, IMAGES, LABELS, threat,
            num_targets=1, first_target=number, steps=10, order="nearest",
        ).success
        for number in range(3)
    ]  # fmt: skip
    np.testing.assert_array_equal(whole.success, np.any(single, axis=0))


def test_classes_without_a_gradient_come_last_and_others_than_the_candidates_stay(monkeypatch):
    def network(images):
        return linear(images) * jnp.array([1, 1, 0, 1, 0, 1])

    labels = np.argmax(network(IMAGES), axis=1)
    inputs = ranked_inputs(KEY, network, IMAGES, labels, ThreatModel("linf", 0.1))
    found = np.asarray(nearest_first(network, inputs))
    assert (np.sort(found, axis=1) == np.sort(inputs.ranked, axis=1)).all()
    monkeypatch.setattr(_nearest_classes, "CANDIDATES", 2)
    few = np.asarray(nearest_first(network, inputs))
    np.testing.assert_array_equal(few[:, 2:], inputs.ranked[:, 2:])
    flat = boundary_distance(jnp.array([-1.0]), jnp.zeros((1, 3)), ThreatModel("linf", 0.1))
    assert np.isinf(flat).all()


def test_a_hundred_classes_are_looked_at_and_one_alone_has_no_order():
    random = np.random.default_rng(0)
    lengths = random.uniform(0.1, 1, 104)
    weights = random.normal(size=(12, 104)) * lengths / 10
    weights[:, 0] = 0
    lead = np.concatenate([[0], np.linspace(3, 4, 103)])
    image = jnp.zeros((1, 2, 2, 3))

    def network(images):
        return images.reshape(len(images), 12) @ jnp.float32(weights) - jnp.float32(lead)

    threat = ThreatModel("l2", 0.1)
    inputs = ranked_inputs(KEY, network, image, np.zeros(1, np.int32), threat)
    reach = lead[1:101] / np.linalg.norm(weights[:, 1:101], axis=0)
    expected = [*(1 + np.argsort(reach)), 101, 102, 103]
    np.testing.assert_array_equal(nearest_first(network, inputs)[0], expected)

    def single(images):
        return network(images)[:, :1]

    inputs = ranked_inputs(KEY, single, image, np.zeros(1, np.int32), threat)
    assert nearest_first(single, inputs).shape == (1, 0)


def test_a_boundary_is_as_far_from_either_side():
    gradient = jnp.array([[3.0, -4.0], [3.0, -4.0]])
    for norm, size in (("linf", 7.0), ("l2", 5.0), ("l1", 4.0)):
        found = boundary_distance(jnp.array([-2.0, 2.0]), gradient, ThreatModel(norm, 0.1))
        np.testing.assert_allclose(found, 2 / size, rtol=1e-6)


def test_an_order_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="order=random: accepted are likeliest, nearest"):
        attacks.apgd_targeted(
            KEY, linear, IMAGES, LABELS, ThreatModel("linf", 0.1), num_targets=1, order="random"
        )
