"""The tests' own check of shapes: what it refuses, what it leaves alone, and that it is at work."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError, jaxtyped

from robustjax import attacks, losses, shapes
from robustjax.attacks.result import AttackResult
from tests.judged_shapes import judged

LOGITS, LABELS = jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32)


def returning(result):
    """A loss that returns this, whatever it is shown."""

    @jaxtyped(typechecker=judged)
    def loss(logits: shapes.Logits, labels: shapes.Labels) -> shapes.PerExample:
        return result

    return loss


@pytest.mark.parametrize("wrong", [
    jnp.zeros(()), jnp.zeros(3), jnp.zeros((4, 1)), jnp.zeros(4, jnp.int32), np.zeros(4),
])  # fmt: skip
def test_a_result_of_another_shape_or_kind_is_refused(wrong):
    with pytest.raises(TypeCheckError, match="return value"):
        returning(wrong)(LOGITS, LABELS)


def test_a_result_that_fits_is_given_back():
    np.testing.assert_array_equal(returning(jnp.ones(4))(LOGITS, LABELS), jnp.ones(4))
    found = jax.jit(returning(jnp.ones(4)))(LOGITS, np.zeros((4, 3), np.float32))
    np.testing.assert_array_equal(found, jnp.ones(4))


def test_arguments_are_the_library_s_own_to_judge():
    assert returning("whatever")([[0.0]], "no labels") == "whatever"


@pytest.mark.parametrize("part", ["images", "success", "backward_passes"])
def test_the_parts_of_a_result_are_judged(part):
    images = jnp.zeros((4, 2, 2, 1))
    good = AttackResult(images, jnp.zeros(4, bool), jnp.zeros(4, jnp.int32))

    def attack(images: shapes.CleanImages) -> AttackResult:
        return dataclasses.replace(good, **{part: getattr(good, part)[:3]})

    with pytest.raises(TypeCheckError, match="return value"):
        jaxtyped(attack, typechecker=judged)(images)


@pytest.mark.parametrize("function", [
    losses.cross_entropy, losses.smooth_labels, losses.lrm, attacks.pgd, attacks.apgd,
    attacks.square, attacks.PGD.__call__,
])  # fmt: skip
def test_it_is_at_work_in_losses_and_attacks(function):
    assert function.__globals__["__name__"].startswith("jaxtyping")
