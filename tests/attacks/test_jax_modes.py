"""Attacks and losses in the modes of JAX that people switch on: the same results in each."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, losses
from robustjax.attacks import ThreatModel

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(4, 3)).astype(np.float32)
# Two batches of three, for what maps over batches; the result of the first is looked at.
IMAGES = RANDOM.uniform(0.2, 0.8, size=(2, 3, 2, 2, 1)).astype(np.float32)
LABELS = np.argmax(IMAGES.reshape(2, 3, 4) @ WEIGHTS, -1).astype(np.int32)
TARGETS = (LABELS + 1) % 3
THREAT = ThreatModel("linf", 0.1)


def linear(images):
    return images.reshape(len(images), 4) @ jnp.asarray(WEIGHTS)


def other(images):
    return linear(images) + images.reshape(len(images), 4)[:, :1]


ATTACKS = {
    "fgsm": attacks.fgsm,
    "pgd": functools.partial(attacks.pgd, steps=2),
    "pgd from signs": functools.partial(attacks.pgd, steps=2, start="sign"),
    "pgd with restarts": functools.partial(attacks.pgd, steps=2, restarts=2, success="any"),
    "pgd with a rule": functools.partial(
        attacks.pgd, steps=3, stop=attacks.stopping.misclassified(1), independent_rows=True
    ),
    "cw_linf": functools.partial(attacks.cw_linf, steps=2),
    "apgd": functools.partial(attacks.apgd, steps=3),
    "apgd on dlr": functools.partial(attacks.apgd, steps=3, loss="dlr"),
    "apgd_targeted": functools.partial(
        attacks.apgd_targeted, steps=3, num_targets=2, loss="margin"
    ),
    "fab_targeted": functools.partial(attacks.fab_targeted, steps=2, num_targets=2),
    "square": functools.partial(attacks.square, queries=3),
    "spsa": functools.partial(attacks.spsa, steps=2, samples=4),
    "deepfool": functools.partial(attacks.deepfool, steps=2),
    "random_noise": functools.partial(attacks.random_noise, draws=2),
    "transfer": lambda key, logits_fn, *rest: attacks.transfer(
        key, other, logits_fn, *rest, steps=2
    ),
}


def attacked(name):
    """A function of images and labels that attacks them."""
    return lambda images, labels: ATTACKS[name](KEY, linear, images, labels, THREAT)


def within(mode):
    """Calls a function as it is while a mode is on."""

    def call(function, arguments):
        with mode():
            return function(*first_of(arguments))

    return call


def first_of(batches):
    return jax.tree.map(lambda batch: batch[0], batches)


def scanned(function, arguments):
    _, found = jax.lax.scan(lambda carry, batch: (carry, function(*batch)), None, arguments)
    return first_of(found)


MODES = {
    "jit": lambda function, arguments: jax.jit(function)(*first_of(arguments)),
    "vmap": lambda function, arguments: first_of(jax.vmap(function)(*arguments)),
    "scan": scanned,
    "pmap": lambda function, arguments: first_of(
        jax.device_get(jax.pmap(function, devices=jax.devices()[:2])(*arguments))
    ),
    "disable_jit": within(jax.disable_jit),
    "enable_x64": within(lambda: jax.enable_x64(True)),
    "debug_nans": within(lambda: jax.debug_nans(True)),
    "checking_leaks": within(jax.checking_leaks),
    "strict promotion": within(lambda: jax.numpy_dtype_promotion("strict")),
}
SAME_PROGRAM = ("debug_nans", "checking_leaks", "strict promotion")
"""In these the very same is computed; elsewhere XLA may round otherwise."""


@functools.cache
def plain(name):
    return attacked(name)(IMAGES[0], LABELS[0])


def attacks_in_modes():
    """Every attack in every mode; a compilation takes a second, most of them are slow tests."""
    for name in ATTACKS:
        for mode in MODES:
            is_quick = mode in SAME_PROGRAM or name == "pgd"
            marks = () if is_quick else pytest.mark.slow
            yield pytest.param(name, mode, marks=marks, id=f"{name}-{mode}")


@pytest.mark.parametrize(("name", "mode"), attacks_in_modes())
def test_an_attack_finds_the_same_in_every_mode(name, mode):
    expected = plain(name)
    found = MODES[mode](attacked(name), (IMAGES, LABELS))
    assert found.images.dtype == jnp.float32
    for part in ("success", "backward_passes"):
        assert getattr(found, part).dtype == getattr(expected, part).dtype
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
    rounding = 0 if mode in SAME_PROGRAM else 2e-6
    np.testing.assert_allclose(found.images, expected.images, atol=rounding, rtol=0)


def test_the_attacks_do_something_that_could_differ():
    moved = {name: np.abs(plain(name).images - IMAGES[0]).max() for name in ATTACKS}
    assert min(moved.values()) > 0.01
    succeeded = np.concatenate([plain(name).success for name in ATTACKS])
    assert 0.2 < succeeded.mean() < 0.8


def test_every_public_attack_and_loss_is_among_these():
    public = {name for name in attacks.__all__ if inspect.isfunction(getattr(attacks, name))}
    by_name = {"create", "names", "register"}
    assert public - by_name == {name.split()[0] for name in ATTACKS} | {"autoattack"}
    assert set(losses.__all__) == set(LOSSES)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["enable_x64", "debug_nans", "checking_leaks", "strict promotion"])
def test_autoattack_finds_the_same_in_every_mode(mode):
    def attack(images, labels):
        return attacks.autoattack(KEY, linear, images, labels, THREAT)

    expected = attack(IMAGES[0], LABELS[0])
    found = MODES[mode](attack, (IMAGES, LABELS))
    np.testing.assert_array_equal(found.robust, expected.robust)
    assert found.robust_accuracy == expected.robust_accuracy
    np.testing.assert_allclose(found.images, expected.images, atol=2e-6, rtol=0)


@pytest.mark.parametrize("mode", ["jit", "vmap", "scan"])
def test_autoattack_says_that_it_chooses_survivors_in_plain_python(mode):
    def attack(images, labels):
        return attacks.autoattack(KEY, linear, images, labels, THREAT).images

    with pytest.raises(ValueError, match="autoattack was called inside jit or another transform"):
        MODES[mode](attack, (IMAGES, LABELS))


# Losses.

LOGITS, OTHER = RANDOM.normal(size=(2, 2, 3, 4)).astype(np.float32)
CLASSES = np.array([[0, 3, 1], [2, 2, 0]], np.int32)
SOFT = RANDOM.dirichlet(np.ones(4), (2, 3)).astype(np.float32)

LOSSES = {
    "cross_entropy": lambda z, other, labels: losses.cross_entropy(z, labels),
    "boosted_cross_entropy": lambda z, other, labels: losses.boosted_cross_entropy(z, labels),
    "kl_divergence": lambda z, other, labels: losses.kl_divergence(z, other),
    "smooth_labels": lambda z, other, labels: losses.cross_entropy(
        z, losses.smooth_labels(labels, 4, 0.2)
    ),
    "cw_margin": lambda z, other, labels: losses.cw_margin(z, labels),
    "dlr": lambda z, other, labels: losses.dlr(z, labels),
    "targeted_dlr": lambda z, other, labels: losses.targeted_dlr(z, labels, (labels + 1) % 4),
    "trades": losses.trades,
    "mart": losses.mart,
    "nap": losses.nap,
    "adversarial_logit_pairing": losses.adversarial_logit_pairing,
    "logit_pairing": lambda z, other, labels: losses.logit_pairing(z, other),
    "logit_squeezing": lambda z, other, labels: losses.logit_squeezing(z),
    "lrm": losses.lrm,
    "soft_logit_margin": lambda z, other, labels: losses.soft_logit_margin(z, labels),
}


def all_losses(logits, other, labels, soft):
    """Every loss and the gradient of its sum: one program for all."""

    def of(loss, labels):
        value, gradient = jax.value_and_grad(lambda z: loss(z, other, labels).sum())(logits)
        return loss(logits, other, labels), value, gradient

    found = {name: of(loss, labels) for name, loss in LOSSES.items()}
    takes_soft = ("cross_entropy", "trades")
    return found, {name: of(LOSSES[name], soft) for name in takes_soft}


BATCHES = (LOGITS, OTHER, CLASSES, SOFT)


@functools.cache
def plain_losses():
    return all_losses(*first_of(BATCHES))


@pytest.mark.parametrize("mode", MODES)
def test_a_loss_and_its_gradient_are_the_same_in_every_mode(mode):
    found = MODES[mode](all_losses, BATCHES)
    for one, expected in zip(
        jax.tree.leaves(found), jax.tree.leaves(plain_losses()), strict=True
    ):  # fmt: skip
        assert one.dtype == expected.dtype == jnp.float32
        rounding = 0 if mode in SAME_PROGRAM else 1e-5
        np.testing.assert_allclose(one, expected, rtol=rounding, atol=rounding)
