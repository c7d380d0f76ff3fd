"""Attacks in the modes of JAX that people switch on: the same results in each."""

import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from robustjax import attacks
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
    "vmap": lambda function, arguments: first_of(jax.vmap(function)(*arguments)),
    "scan": scanned,
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
    check_same(found, expected, rounding=0 if mode in SAME_PROGRAM else 2e-6)


def check_same(found, expected, rounding=2e-6):
    chex.assert_trees_all_equal_dtypes(found, expected)
    chex.assert_trees_all_equal(
        (found.success, found.backward_passes), (expected.success, expected.backward_passes)
    )
    chex.assert_trees_all_close(found.images, expected.images, atol=rounding, rtol=0)


class Variants(chex.TestCase):
    """The same result with images put on a device or not, compiled, and mapped over devices."""

    @chex.variants(without_jit=True, with_device=True, without_device=True)
    @parameterized.named_parameters((name, name) for name in ATTACKS)
    def test_an_attack_as_it_is(self, name):
        check_same(self.variant(attacked(name))(IMAGES[0], LABELS[0]), plain(name))

    @chex.variants(with_jit=True, with_pmap=True)
    def test_pgd_compiled(self):
        check_same(compiled(self, "pgd"), plain("pgd"))

    @chex.variants(with_jit=True, with_pmap=True)
    @parameterized.named_parameters((name, name) for name in ATTACKS if name != "pgd")
    @pytest.mark.slow
    def test_an_attack_compiled(self, name):
        check_same(compiled(self, name), plain(name))

    @chex.variants(with_jit=True, with_pmap=True)
    def test_autoattack_says_that_it_chooses_survivors_in_plain_python(self):
        def attack(images, labels):
            return attacks.autoattack(KEY, linear, images, labels, THREAT).images

        with pytest.raises(ValueError, match="autoattack was called inside jit or another transf"):
            self.variant(attack, n_devices=1)(IMAGES[0], LABELS[0])


def compiled(case, name):
    return case.variant(attacked(name), n_devices=1)(IMAGES[0], LABELS[0])


def test_the_attacks_do_something_that_could_differ():
    moved = {name: np.abs(plain(name).images - IMAGES[0]).max() for name in ATTACKS}
    assert min(moved.values()) > 0.01
    succeeded = np.concatenate([plain(name).success for name in ATTACKS])
    assert 0.2 < succeeded.mean() < 0.8


def test_every_public_attack_is_among_these():
    public = {name for name in attacks.__all__ if inspect.isfunction(getattr(attacks, name))}
    by_name = {"create", "names", "register"}
    assert public - by_name == {name.split()[0] for name in ATTACKS} | {"autoattack"}


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


@pytest.mark.parametrize("mode", ["vmap", "scan"])
def test_autoattack_says_that_it_chooses_survivors_in_plain_python(mode):
    def attack(images, labels):
        return attacks.autoattack(KEY, linear, images, labels, THREAT).images

    with pytest.raises(ValueError, match="autoattack was called inside jit or another transform"):
        MODES[mode](attack, (IMAGES, LABELS))
