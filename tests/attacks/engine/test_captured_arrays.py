"""Models of any form are attacked with the weights they have now, and compiled once per shape.

The oracle is a NumPy PGD on a linear softmax classifier, whose gradient is written by hand.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, losses
from robustjax.attacks import ThreatModel
from robustjax.attacks.engine import captured_arrays

FEATURES, CLASSES, STEPS = 6, 3, 4
EPSILON, STEP_SIZE = 0.25, 0.1
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(size=(5, FEATURES)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1])
WEIGHTS = [RANDOM.normal(size=(FEATURES, CLASSES)).astype(np.float32) for _ in range(2)]


def numpy_pgd(weights, step_size=STEP_SIZE):
    weights, clean = weights.astype(np.float64), IMAGES.astype(np.float64)
    images = clean
    for _ in range(STEPS):
        exponentials = np.exp(images @ weights)
        probabilities = exponentials / exponentials.sum(1, keepdims=True)
        gradient = (probabilities - np.eye(CLASSES)[LABELS]) @ weights.T
        images = images + step_size * np.sign(gradient)
        images = np.clip(np.clip(images, clean - EPSILON, clean + EPSILON), 0, 1)
    return images


def attack(logits_fn, **options):
    return attacks.pgd(
        jax.random.key(0),
        logits_fn,
        IMAGES,
        LABELS,
        ThreatModel(epsilon=EPSILON),
        steps=STEPS,
        step_size=STEP_SIZE,
        start="clean",
        **options,
    )


class Network:
    def __init__(self, weights):
        self.weights = weights

    def logits(self, images):
        return images @ self.weights

    __call__ = logits


def apply(variables, images, train=False):
    assert train is False
    return images @ variables["weights"]


@jax.custom_vjp
def negated_twice(array):
    return array


negated_twice.defvjp(lambda array: (array, None), lambda _, gradient: (gradient,))


@jax.custom_jvp
def unchanged(array):
    return array


unchanged.defjvp(lambda primals, tangents: (primals[0], tangents[0]))


def scanned(weights):
    def logits(images):
        half = weights / 2
        total, _ = jax.lax.scan(
            lambda carry, _: (carry + images @ half, None),
            jnp.zeros((len(images), CLASSES)),
            None,
            length=2,
        )
        return total

    return logits


def jitted_inside_a_scan(weights):
    inner = jax.jit(lambda carry, images: carry + unchanged(images @ (weights / 2)))

    def logits(images):
        total, _ = jax.lax.scan(
            lambda carry, _: (inner(carry, images), None),
            jnp.zeros((len(images), CLASSES)),
            None,
            length=2,
        )
        return total

    return logits


def branching(weights):
    other = jax.jit(lambda images: images @ weights)
    return lambda images: jax.lax.cond(images.sum() > -1, other, lambda x: 0 * other(x), images)


FORMS = {
    "closure": lambda w: lambda x: x @ w,
    "numpy weights": lambda w: lambda x: x @ np.asarray(w),
    "jitted closure": lambda w: jax.jit(lambda x: x @ w),
    "twice jitted": lambda w: jax.jit(lambda x: jax.jit(lambda x: jax.nn.relu(x @ w + 9) - 9)(x)),
    "bound method": lambda w: Network(w).logits,
    "jitted bound method": lambda w: jax.jit(Network(w).logits),
    "callable object": Network,
    "functools.partial": lambda w: functools.partial(apply, {"weights": w}, train=False),
    "Partial": lambda w: jax.tree_util.Partial(apply, {"weights": w}),
    "Partial with an option": lambda w: jax.tree_util.Partial(apply, {"weights": w}, train=False),
    "checkpoint": lambda w: jax.checkpoint(lambda x: x @ w),
    "scan": scanned,
    "custom derivatives": lambda w: jax.jit(lambda x: unchanged(negated_twice(x) @ unchanged(w))),
    "scalar": lambda w: (lambda s: lambda x: x @ WEIGHTS[0] * s)(jnp.float32(w[0, 0])),
}
# Constants that stay inside: right results, but a compilation of its own for every model.
NESTED_FORMS = {
    "jit in a scan": jitted_inside_a_scan,
    "jit in a branch": branching,
    "jit in a checkpoint": lambda w: jax.checkpoint(
        jax.jit(lambda x: jnp.sin(x) @ (0 * w) + x @ w)
    ),
}


def weights_of(form, weights):
    return WEIGHTS[0] * weights[0, 0] if form == "scalar" else weights


@pytest.mark.parametrize("form", [*FORMS, *NESTED_FORMS])
def test_each_model_is_attacked_with_its_own_weights(form, count_compilations):
    make = (FORMS | NESTED_FORMS)[form]
    first, second = (jnp.asarray(weights) for weights in WEIGHTS)
    model = make(first)
    result = attack(model)
    np.testing.assert_allclose(result.images, numpy_pgd(weights_of(form, WEIGHTS[0])), atol=1e-6)
    other = make(second)
    with count_compilations() as compiled:
        result = attack(other)
    np.testing.assert_allclose(result.images, numpy_pgd(weights_of(form, WEIGHTS[1])), atol=1e-6)
    if form in FORMS:
        assert compiled() == 0
    result = attack(model)
    np.testing.assert_allclose(result.images, numpy_pgd(weights_of(form, WEIGHTS[0])), atol=1e-6)


@pytest.mark.parametrize("form", ["object", "method", "closure", "partial"])
def test_changed_state_is_seen(form, count_compilations):
    network = Network(jnp.asarray(WEIGHTS[0]))
    callables = {
        "object": network,
        "method": network.logits,
        "closure": lambda images: images @ network.weights,
        "partial": functools.partial(Network.logits, network),
    }
    attack(callables[form])
    network.weights = jnp.asarray(WEIGHTS[1])
    with count_compilations() as compiled:
        result = attack(callables[form])
    np.testing.assert_allclose(result.images, numpy_pgd(WEIGHTS[1]), atol=1e-6)
    assert compiled() == 0


def test_a_partial_is_not_traced_again():
    traces = []

    def logits(weights, images):
        traces.append(None)
        return images @ weights

    first, second = (jax.tree_util.Partial(logits, jnp.asarray(w)) for w in WEIGHTS)
    attack(first)
    before = len(traces)
    result = attack(second)
    np.testing.assert_allclose(result.images, numpy_pgd(WEIGHTS[1]), atol=1e-6)
    assert len(traces) == before


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: jax.tree_util.Partial(f)])
def test_what_a_loss_captured_is_seen(wrap, count_compilations):
    def make(scale):
        return lambda logits, labels: scale * losses.cross_entropy(logits, labels)

    weights = jnp.asarray(WEIGHTS[0])
    model = wrap(lambda images: images @ weights)
    up = attack(model, loss=make(jnp.float32(1)))
    with count_compilations() as compiled:
        down = attack(model, loss=make(jnp.float32(-1)))
    assert compiled() == 0
    np.testing.assert_allclose(up.images, numpy_pgd(WEIGHTS[0]), atol=1e-6)
    np.testing.assert_allclose(down.images, numpy_pgd(WEIGHTS[0], -STEP_SIZE), atol=1e-6)


def test_other_step_sizes_and_epsilons_compile_nothing(count_compilations):
    weights = jnp.asarray(WEIGHTS[0])

    def run(epsilon, step_size, steps):
        return attacks.pgd(
            jax.random.key(0),
            lambda images: images @ weights,
            IMAGES,
            LABELS,
            ThreatModel(epsilon=epsilon),
            steps=steps,
            step_size=step_size,
        )

    run(0.1, 0.01, 2)
    with count_compilations() as compiled:
        run(0.2, 0.05, 7)
    assert compiled() == 0


def test_a_callback_is_recognised_by_the_function_it_calls():
    def make(sign):
        def on_host(array):
            return np.float32(sign) * np.asarray(array)

        def logits(images):
            shape = jax.ShapeDtypeStruct(images.shape, images.dtype)
            signed = jax.pure_callback(on_host, shape, jnp.ones_like(images))
            return (images * signed) @ jnp.asarray(WEIGHTS[0])

        return logits

    for sign in (1, -1, 1):
        images = attack(make(sign)).images
        np.testing.assert_allclose(images, numpy_pgd(sign * WEIGHTS[0]), atol=1e-6)


def test_programs_are_equal_exactly_if_their_content_is():
    def structure(function):
        return jax.tree.structure(captured_arrays.lift(function, jnp.ones((2, 3))))

    a, b = jnp.ones(3), jnp.zeros(3)
    assert structure(lambda x: x * a) == structure(lambda y: y * b)
    assert structure(lambda x: x * a) != structure(lambda x: x + a)
    assert structure(lambda x: x * a) != structure(lambda x: x * jnp.ones((1, 3)))
    assert structure(lambda x: x * 2.0) != structure(lambda x: x * 3.0)
    assert structure(lambda x: x * 0.0) != structure(lambda x: x * -0.0)
    assert structure(lambda x: x.sum(0)) != structure(lambda x: x.sum(1))
    assert structure(lambda x: (x, x * 2)) != structure(lambda x: (x * 2, x))
    assert structure(lambda x: (x - a, b)) != structure(lambda x: (a - x, b))
    assert structure(lambda x: x - x * 2) != structure(lambda x: x * 2 - x)
    assert structure(lambda x: {"a": x}) != structure(lambda x: {"b": x})


def test_lifted_functions_compute_the_same():
    key = jax.random.key(4)

    def function(x, options):
        noise = jax.random.normal(key, x.shape)
        y, _ = jax.lax.scan(lambda c, w: (jnp.tanh(c @ w), None), x, jnp.stack([jnp.eye(3)] * 2))
        z = jax.jit(lambda v: jnp.where(v > 0, v, jnp.asarray(np.arange(3.0)) * v))(y + noise)
        return {"y": z * options["scale"], "none": None}, jax.nn.gelu(x)

    arguments = jnp.linspace(-1, 1, 6).reshape(2, 3), {"scale": jnp.float32(2)}
    lifted = captured_arrays.lift(function, *arguments)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(lifted))
    expected = function(*arguments)
    assert jax.tree.structure(lifted(*arguments)) == jax.tree.structure(expected)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6), lifted(*arguments), expected
    )


def test_a_bound_method_is_traced_anew():
    network = Network(jnp.ones((3, 2)))
    images = jnp.ones((1, 3))
    for weights in (network.weights, 2 * network.weights):
        network.weights = weights
        lifted = captured_arrays.lift(network.logits, images)
        np.testing.assert_array_equal(lifted(images), images @ weights)


def test_a_captured_tracer_cannot_be_lifted():
    seen = []

    def outer(weight):
        seen.append(captured_arrays.lift(lambda x: x * weight, jnp.ones(3)))
        return weight

    jax.vmap(outer)(jnp.ones(2))
    jax.grad(outer)(1.0)
    assert seen == [None, None]
