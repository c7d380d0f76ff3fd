"""Targeted attacks: closed forms on linear models, the rule of success, restarts and "any"."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, losses
from robustjax.attacks import ThreatModel
from robustjax.attacks.engine.rows import predicted

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(12, 3))
IMAGES = RANDOM.uniform(0.3, 0.7, size=(48, 2, 2, 3))
LABELS = np.argmax((IMAGES.reshape(48, 12) - 0.5) @ WEIGHTS, 1)
TARGETS = (LABELS + 1) % 3


def linear(images):
    return (images.reshape(len(images), 12) - 0.5) @ jnp.asarray(WEIGHTS, jnp.float32)


ATTACKS = {
    "pgd": lambda **options: attacks.pgd(steps=40, **options),
    "pgd on the margin": lambda **options: attacks.pgd(steps=40, loss=losses.cw_margin, **options),
    "cw": lambda **options: attacks.cw_linf(steps=40, **options),
    "apgd-ce": lambda **options: attacks.apgd(**options),
}


def run(attack, threat, images=IMAGES, labels=LABELS, targets=TARGETS, network=linear, **options):
    return ATTACKS[attack](
        key=KEY,
        logits_fn=network,
        images=jnp.asarray(images, jnp.float32),
        labels=jnp.asarray(labels),
        threat=threat,
        targets=jnp.asarray(targets),
        **options,
    )


def two_classes(images):
    return linear(images)[:, :2]


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_reaches_exactly_the_targets_that_a_linear_model_allows(attack):
    # With two classes, the target is reached exactly if epsilon times the 1-norm of the difference
    # of the weights exceeds the margin (no box), in float64.
    difference = WEIGHTS[:, 1] - WEIGHTS[:, 0]
    lead = (IMAGES.reshape(48, 12) - 0.5) @ difference
    labels = (lead > 0).astype(int)
    epsilon = np.median(np.abs(lead)) / np.abs(difference).sum()
    reachable = np.abs(lead) < epsilon * np.abs(difference).sum()
    threat = ThreatModel("linf", epsilon * 1.0001, None)
    result = run(attack, threat, labels=labels, targets=1 - labels, network=two_classes)
    assert 15 < reachable.sum() < 33
    near = np.abs(np.abs(lead) - epsilon * np.abs(difference).sum()) < 1e-4
    np.testing.assert_array_equal(np.asarray(result.success)[~near], reachable[~near])


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_success_is_the_target_and_no_other_class(attack, norm):
    if attack == "cw" and norm == "l2":
        pytest.skip("cw_linf is for linf")
    threat = ThreatModel(norm, 0.1 if norm == "linf" else 0.2)
    result = run(attack, threat)
    reached = np.asarray(predicted(linear(result.images)))
    np.testing.assert_array_equal(result.success, reached == TARGETS)
    other = (reached != TARGETS) & (reached != LABELS)
    assert result.success.any() and not result.success.all()
    assert other.any() or not np.asarray(result.success)[other].any()
    moved = np.abs(np.asarray(result.images) - IMAGES).reshape(48, 12)
    length = moved.max(1) if norm == "linf" else np.linalg.norm(moved, axis=1)
    assert np.all(length <= threat.epsilon * (1 + 1e-5) + 1e-6)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_epsilon_of_zero_changes_nothing(attack):
    result = run(attack, ThreatModel("linf", 0.0))
    np.testing.assert_array_equal(result.images, jnp.asarray(IMAGES, jnp.float32))
    assert not result.success.any()


def test_a_target_that_is_predicted_already_has_been_reached():
    for attack in ATTACKS:
        assert run(attack, ThreatModel("linf", 0.0), targets=LABELS).success.all()


def test_any_stops_at_the_first_iterate_that_reaches_the_target():
    threat = ThreatModel("linf", 0.2)
    last = run("pgd", threat, start="clean", step_size=0.01)
    first = run("pgd", threat, start="clean", step_size=0.01, success="any")
    reached = np.asarray(last.success)
    assert np.asarray(first.success)[reached].all()
    assert np.all(np.asarray(first.backward_passes)[reached] < 40)
    np.testing.assert_array_equal(np.asarray(first.backward_passes)[~first.success], 40)
    # One step less, and the target was not reached.
    for row in np.flatnonzero(reached)[:3]:
        steps = int(first.backward_passes[row])
        before = attacks.pgd(
            KEY, linear, jnp.asarray(IMAGES[row : row + 1], jnp.float32), LABELS[row : row + 1],
            threat, steps=steps - 1, step_size=0.01, start="clean", targets=TARGETS[row : row + 1],
        )  # fmt: skip
        assert not before.success.any()


def test_restarts_keep_the_first_that_reaches_the_target():
    # Lower losses at the start are no success: only a start near the target's corner leads there.
    def valley(images):
        flat = images.reshape(len(images), -1)
        towards = jnp.where(flat[:, :1] > 0.55, 4.0, -1.0) * jnp.ones((1, 1))
        return jnp.concatenate([jnp.zeros_like(towards), towards, -5 + flat[:, 1:2]], axis=1)

    images = jnp.full((32, 1, 1, 2), 0.5)
    threat, labels, targets = ThreatModel("linf", 0.1), jnp.zeros(32, int), jnp.ones(32, int)
    once = attacks.pgd(KEY, valley, images, labels, threat, targets=targets)
    often = attacks.pgd(KEY, valley, images, labels, threat, targets=targets, restarts=12)
    assert 2 < once.success.sum() < 16 and often.success.sum() > 24
    assert np.all(np.asarray(often.success) >= np.asarray(once.success))
    np.testing.assert_array_equal(predicted(valley(often.images)) == 1, often.success)


def test_a_stop_rule_sees_the_target_reached():
    rule = attacks.stopping.misclassified(0)
    result = run("pgd", ThreatModel("linf", 0.2), start="clean", step_size=0.01, stop=rule)
    any_ = run("pgd", ThreatModel("linf", 0.2), start="clean", step_size=0.01, success="any")
    np.testing.assert_array_equal(result.backward_passes, any_.backward_passes)
    np.testing.assert_array_equal(result.images, any_.images)


def test_the_targeted_dlr_loss_is_ascended_with_four_classes():
    weights = jnp.asarray(RANDOM.normal(size=(12, 5)), jnp.float32)

    def network(x):
        return (x.reshape(len(x), 12) - 0.5) @ weights

    images = jnp.asarray(IMAGES, jnp.float32)
    labels = jnp.argmax(network(images), 1)
    targets, threat = (labels + 2) % 5, ThreatModel("linf", 0.1)
    result = attacks.apgd(KEY, network, images, labels, threat, loss="dlr", targets=targets)
    np.testing.assert_array_equal(predicted(network(result.images)) == targets, result.success)
    assert result.success.any()
    by_ce = attacks.apgd(KEY, network, images, labels, threat, targets=targets)
    assert np.mean(np.asarray(by_ce.success) == np.asarray(result.success)) > 0.9


def test_inside_jit_and_on_active_rows_alone_it_is_the_same():
    images, labels = jnp.asarray(IMAGES, jnp.float32), jnp.asarray(LABELS)
    threat, targets = ThreatModel("linf", 0.1), jnp.asarray(TARGETS)

    def attack(images, targets, **options):
        return attacks.pgd(
            KEY, linear, images, labels, threat, success="any", targets=targets, **options
        )

    plain = attack(images, targets)
    for other in (jax.jit(attack)(images, targets), attack(images, targets, independent_rows=True)):
        np.testing.assert_array_equal(other.success, plain.success)
        np.testing.assert_allclose(other.images, plain.images, atol=1e-6)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.full(48, 3), "targets holds 3, and logits_fn gives 3 classes"),
        (np.full(48, -1), "targets holds -1: accepted are classes, counted from 0"),
        (np.zeros(5, int), r"targets=int32\[5\]: accepted are integers \[48\]"),
        (np.zeros((48, 3), np.float32), "targets=float32.*: accepted are integers"),
    ],
)
@pytest.mark.parametrize("attack", ATTACKS)
def test_mistakes_are_named(attack, targets, message):
    with pytest.raises(ValueError, match=message):
        run(attack, ThreatModel(), targets=targets)


def test_target_and_targets_do_not_go_together():
    with pytest.raises(ValueError, match="target and targets are both given"):
        run("pgd", ThreatModel(), target=jnp.zeros((48, 3)))
