"""One meaning of "wrong": what counts as the prediction where logits are NaN or infinite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, data, evaluation
from robustjax.attacks import ThreatModel
from robustjax.attacks.engine.rows import classified_as, misclassified, predicted

NAN, INF = np.nan, np.inf
ROWS = np.array(
    [
        [1, 2, 3],
        [1, 1, 0],  # the first of equal ones
        [NAN, 1, 2],
        [0, NAN, 2],
        [1, INF, 2],
        [-INF, 1, 0],  # a class that is ruled out does no harm
        [-INF, -INF, -INF],
        [INF, -INF, NAN],
    ],
    np.float32,
)
PREDICTED = [2, 0, -1, -1, -1, 1, -1, -1]


@pytest.mark.parametrize("compute", [predicted, jax.jit(predicted)])
def test_nan_and_infinity_predict_nothing_and_minus_infinity_rules_out_a_class(compute):
    np.testing.assert_array_equal(compute(jnp.asarray(ROWS)), PREDICTED)


def test_numpy_stays_numpy():
    found = predicted(ROWS)
    assert isinstance(found, np.ndarray) and found.dtype == np.int32
    np.testing.assert_array_equal(found, PREDICTED)


def test_what_predicts_nothing_is_wrong_whatever_the_label():
    for label in range(3):
        wrong = misclassified(jnp.asarray(ROWS), jnp.full(len(ROWS), label))
        np.testing.assert_array_equal(wrong, np.array(PREDICTED) != label)
        soft = jax.nn.one_hot(jnp.full(len(ROWS), label), 3)
        np.testing.assert_array_equal(misclassified(jnp.asarray(ROWS), soft), wrong)


def nan_where_attacked(label):
    """Right about clean images; NaN, or with class 3 at +inf, as soon as a pixel is brighter."""

    def network(images):
        flat = images.reshape(len(images), -1)
        logits = 3 * jax.nn.one_hot(jnp.full(len(images), label), 5) + flat.mean(1, keepdims=True)
        return jnp.where(flat.max(1, keepdims=True) > 0.51, jnp.nan, logits)

    return network


@pytest.mark.parametrize("label", [0, 1, 4])
def test_robustness_does_not_depend_on_the_number_of_the_label(label):
    images = jnp.full((4, 6, 6, 1), 128 / 255)
    labels, threat, key = jnp.full(4, label), ThreatModel("linf", 0.1), jax.random.key(3)
    network = nan_where_attacked(label)
    assert attacks.pgd(key, network, images, labels, threat, steps=3).success.all()
    assert attacks.square(key, network, images, labels, threat, queries=20).success.all()
    assert attacks.random_noise(key, network, images, labels, threat).success.all()
    dataset = data.Dataset(
        "grey", np.full((4, 6, 6, 1), 128, np.uint8), np.full(4, label, np.int32), 5
    )
    scores = evaluation.evaluate(["pgd-3"], key, network, dataset, threat, batch_size=4)
    assert scores["clean"].correct.all() and not scores["pgd-3"].correct.any()


def test_a_class_that_is_ruled_out_leaves_the_rest_as_it_is():
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(12, 4)), jnp.float32)
    images = jnp.asarray(np.random.default_rng(1).uniform(size=(16, 2, 2, 3)), jnp.float32)

    def whole(x):
        return (x.reshape(len(x), 12) - 0.5) @ weights

    def masked(x):
        return jnp.concatenate([whole(x), jnp.full((len(x), 2), -jnp.inf)], axis=1)

    labels, threat, key = jnp.argmax(whole(images), 1), ThreatModel("linf", 0.1), jax.random.key(0)
    for attack in (attacks.fgsm, attacks.pgd, attacks.cw_linf, attacks.apgd):
        with_mask = attack(key, masked, images, labels, threat)
        np.testing.assert_array_equal(
            with_mask.success, attack(key, whole, images, labels, threat).success
        )
    report = attacks.autoattack(key, masked, images, labels, threat)
    assert report.robust_accuracy["clean"] == 1
    exact = attacks.autoattack(key, whole, images, labels, threat)
    np.testing.assert_array_equal(report.robust, exact.robust)


def test_no_prediction_is_no_class_not_even_a_label_below_0():
    logits = jnp.array([[np.nan, 1.0], [2.0, 1.0]])
    classes = jnp.array([-1, 0])
    assert classified_as(logits, classes).tolist() == [False, True]
    assert misclassified(logits, classes).tolist() == [True, False]
