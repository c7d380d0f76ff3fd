"""What a loop casts of what lies outside of it is cast once, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks
from robustjax.attacks.engine import run
from robustjax.attacks.engine.captured_arrays import equations
from robustjax.attacks.engine.casts import cast_before

SHAPE, CLASSES = (6, 4, 4, 1), 3
IMAGES = jax.random.uniform(jax.random.key(0), SHAPE)
LABELS = jnp.array([0, 1, 2, 0, 1, 2])
WEIGHTS = jax.random.normal(jax.random.key(1), (16, CLASSES))
THREAT = attacks.ThreatModel("linf", 0.1)


def logits(weights, images):
    flat = images.reshape(len(images), -1).astype(jnp.bfloat16)
    return (flat @ weights.astype(jnp.bfloat16)).astype(jnp.float32)


def casts_of_weights_in_loops(program):
    """How many equations inside of loops cast what has the shape of the weights."""
    loops = [each for each in equations(program) if each.primitive.name in ("scan", "while")]
    inside = {id(cast): cast for loop in loops for cast in equations(list(loop.params.values()))}
    return sum(
        cast.primitive.name == "convert_element_type" and cast.invars[0].aval.shape == WEIGHTS.shape
        for cast in inside.values()
    )


def attacked(weights, stop=None, independent_rows=False, restarts=1):
    return attacks.pgd(
        jax.random.key(2),
        lambda images: logits(weights, images),
        IMAGES,
        LABELS,
        THREAT,
        steps=5,
        stop=stop,
        restarts=restarts,
        independent_rows=independent_rows,
    ).images


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"restarts": 2},
        {"stop": attacks.stopping.misclassified(1), "independent_rows": True},
    ],
    ids=["scan", "restarts", "compact"],
)
def test_weights_are_cast_once_before_the_loop_of_an_attack(options):
    program = jax.make_jaxpr(lambda weights: attacked(weights, **options))(WEIGHTS)
    names = {each.primitive.name for each in equations(program)}
    assert names & {"scan", "while"}
    assert casts_of_weights_in_loops(program) == 0
    # The same as with weights that have been cast by hand; and outside of jit, where it is a
    # program of its own.
    found = jax.jit(lambda weights: attacked(weights, **options))(WEIGHTS)
    by_hand = jax.jit(lambda weights: attacked(weights, **options))(WEIGHTS.astype(jnp.bfloat16))
    np.testing.assert_array_equal(found, by_hand)
    np.testing.assert_array_equal(found, attacked(WEIGHTS, **options))


@pytest.mark.parametrize("compact", [False, True])
def test_so_they_are_where_an_attack_is_a_program_of_its_own(compact, monkeypatch):
    bodies = []

    def watched(body, state):
        found = cast_before(body, state)
        bodies.append(found is not body)
        return found

    monkeypatch.setattr(run, "cast_before", watched)
    # A size that no other test has compiled.
    rows = [jnp.concatenate([array, array[: 1 + compact]]) for array in (IMAGES, LABELS)]
    stop = attacks.stopping.misclassified(1) if compact else None
    attacks.pgd(
        jax.random.key(2), lambda images: logits(WEIGHTS, images), *rows, THREAT,
        steps=2, stop=stop, independent_rows=compact,
    )  # fmt: skip
    assert bodies == [True]


def test_without_it_the_loop_would_cast():
    def loop(weights):
        body = jax.jit(lambda x: x + logits(weights, IMAGES))
        return jax.lax.fori_loop(0, 3, lambda _, x: body(x), jnp.zeros((6, CLASSES)))

    assert casts_of_weights_in_loops(jax.make_jaxpr(loop)(WEIGHTS)) == 1


def test_the_state_keeps_its_structure_and_what_is_not_cast_stays():
    outside = jnp.arange(3.0)

    def surrounding(outside):
        @jax.jit
        def body(state):
            low = outside.astype(jnp.bfloat16)
            wide = outside.astype(jnp.complex64)
            own = state["x"].astype(jnp.bfloat16)
            return {"x": state["x"] + low * own + wide.real + outside, "same": state["same"]}

        state = {"x": jnp.ones(3), "same": jnp.int32(7)}
        program = jax.make_jaxpr(cast_before(body, state))(state)
        kinds = [
            (each.invars[0].aval.dtype.name, each.params["new_dtype"].name)
            for each in equations(program)
            if each.primitive.name == "convert_element_type"
        ]
        # Its own values, and to larger types, it casts itself.
        assert ("float32", "complex64") in kinds
        assert kinds.count(("float32", "bfloat16")) == 1
        return cast_before(body, state)(state), body(state)

    found, expected = jax.jit(surrounding)(outside)
    assert found["same"] == 7
    np.testing.assert_array_equal(found["x"], expected["x"])


def test_a_body_that_casts_nothing_from_outside_is_left_alone():
    def surrounding(weights):
        body = jax.jit(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32) + weights.sum())
        assert cast_before(body, IMAGES) is body
        same = jax.jit(lambda x: x)
        assert cast_before(same, IMAGES)(IMAGES) is not None
        return body(IMAGES)

    jax.jit(surrounding)(WEIGHTS)
    with jax.disable_jit():
        body = jax.jit(jnp.sin)
        assert cast_before(body, IMAGES) is body
