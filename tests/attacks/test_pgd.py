"""Projected gradient ascent against closed forms on linear models, and its options."""

import warnings

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from robustjax import attacks, losses
from robustjax.attacks import ThreatModel, stopping
from robustjax.attacks.engine import run as engine
from robustjax.attacks.engine.keys import fold_in_each, per_example_keys

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
# Two classes, logits (0, w x): the loss depends on w x alone, so its worst case is known.
WEIGHTS = RANDOM.normal(size=12).astype(np.float32)
IMAGES = RANDOM.uniform(size=(4, 2, 2, 3)).astype(np.float32)
LABELS = np.array([0, 1, 0, 1])
UPHILL = np.where(LABELS == 0, 1, -1)[:, None] * WEIGHTS  # the direction in which the loss grows
BOXLESS = {norm: ThreatModel(norm, 0.25, None) for norm in ("linf", "l2")}


def linear(images):
    score = images.reshape(len(images), -1) @ WEIGHTS
    return jnp.stack([jnp.zeros_like(score), score], axis=1)


def flat(images):
    return np.asarray(images).reshape(len(images), -1)


def worst_loss(norm, epsilon=0.25):
    signed_margin = (flat(IMAGES).astype(np.float64) * UPHILL).sum(1)
    dual = np.abs(WEIGHTS).sum() if norm == "linf" else np.linalg.norm(WEIGHTS.astype(np.float64))
    return np.logaddexp(0, signed_margin + epsilon * dual)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("start", ["uniform", "gaussian", "sign", "clean", "array"])
def test_reaches_the_worst_point_of_a_linear_model(norm, start):
    if start == "array":
        start = jnp.asarray(IMAGES[::-1])
    # Under "l2" each step turns a point on the sphere towards the optimum: geometric convergence.
    result = attacks.pgd(
        KEY, linear, IMAGES, LABELS, BOXLESS[norm], steps=20, step_size=0.15, start=start
    )
    reached = losses.cross_entropy(linear(result.images), LABELS)
    np.testing.assert_allclose(reached, worst_loss(norm), rtol=1e-5)
    expected = flat(IMAGES) + 0.25 * (
        np.sign(UPHILL) if norm == "linf" else UPHILL / np.linalg.norm(WEIGHTS)
    )
    np.testing.assert_allclose(flat(result.images), expected, atol=1e-5 if norm == "linf" else 3e-3)
    np.testing.assert_array_equal(result.backward_passes, 20)
    assert result.backward_passes.dtype == jnp.int32


def test_the_box_cuts_the_worst_point_coordinate_by_coordinate():
    threat = ThreatModel("linf", 0.25, (0.0, 1.0))
    result = attacks.pgd(KEY, linear, IMAGES, LABELS, threat, steps=8, step_size=0.1)
    expected = np.clip(flat(IMAGES) + 0.25 * np.sign(UPHILL), 0, 1)
    np.testing.assert_allclose(flat(result.images), expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fgsm_reaches_it_in_one_step(norm):
    result = attacks.fgsm(KEY, linear, IMAGES, LABELS, BOXLESS[norm])
    reached = losses.cross_entropy(linear(result.images), LABELS)
    np.testing.assert_allclose(reached, worst_loss(norm), rtol=1e-5)
    np.testing.assert_array_equal(result.backward_passes, 1)


def test_fgsm_from_a_random_start_is_one_whole_step_projected():
    """At any start it ends on the side that it steps to, at full distance in half of the pixels."""
    weights = RANDOM.normal(size=3000).astype(np.float32)
    images = RANDOM.uniform(size=(2, 3000)).astype(np.float32)

    def network(images):
        score = images @ weights
        return jnp.stack([jnp.zeros_like(score), score], axis=1)

    # The same draw, before the step.
    threat, keys = ThreatModel("linf", 0.25, (0.0, 1.0)), jax.random.split(KEY, 2)
    free = ThreatModel("linf", 0.25, None)
    labels = np.array([0, 1])
    found = attacks.create("fgsm-random")(keys, network, images, labels, threat)
    begun = attacks.pgd(keys, network, images, labels, threat, steps=0).images
    direction = np.where(labels == 0, 1, -1)[:, None] * np.sign(weights)
    clean, begun = np.float64(images), np.float64(begun)
    expected = np.clip(np.clip(begun + 0.25 * direction, clean - 0.25, clean + 0.25), 0, 1)
    np.testing.assert_allclose(found.images, expected, atol=1e-6)
    np.testing.assert_array_equal(found.backward_passes, 1)
    moved = attacks.create("fgsm-random")(keys, network, images, labels, free).images - images
    moved = np.asarray(moved * direction)
    assert moved.min() > -1e-6 and abs(np.mean(moved > 0.25 - 1e-6) - 0.5) < 0.03
    assert abs(moved.mean() - 0.75 * 0.25) < 0.005  # Half of it at ε, the rest uniform below.


def test_cw_linf_follows_the_margin():
    # Where class 0 is lost by far, cross-entropy for label 2 prefers to lower class 2 alone; the
    # margin moves towards class 1, whose logit is the largest of the wrong ones.
    columns = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.0]]).T
    result = attacks.cw_linf(
        KEY, lambda x: x @ columns, jnp.array([[0.25, 0.5]]), jnp.array([2]), ThreatModel()
    )
    # Gradient of z_1 - z_2 is (-1/2, 1); with 30 steps of epsilon / 10 the corner is reached.
    np.testing.assert_allclose(result.images - np.array([[0.25, 0.5]]), [[-8 / 255, 8 / 255]], 1e-5)
    assert result.backward_passes[0] == 30
    one = attacks.cw_linf(
        KEY,
        lambda x: x @ columns,
        jnp.array([[0.25, 0.5]]),
        jnp.array([2]),
        ThreatModel(),
        steps=4,
        start="clean",
        stop=attacks.stopping.fosc(1e9),  # after the first step, which is unconditional
    )
    np.testing.assert_allclose(one.images - np.array([[0.25, 0.5]]), [[-4 / 255, 4 / 255]], 1e-4)


def test_epsilon_step_size_and_budget_per_example():
    epsilon = jnp.array([0.0, 0.1, 0.5, jnp.inf])
    result = attacks.pgd(
        KEY,
        linear,
        IMAGES,
        LABELS,
        ThreatModel("linf", epsilon, None),
        steps=4,
        step_size=jnp.array([0.1, 0.2, 0.1, 0.2]),
        start="clean",
        budget=jnp.array([4, 4, 2, 3]),
    )
    moved = np.array([0.0, 0.1, 0.2, 0.6])[:, None] * np.sign(UPHILL)
    np.testing.assert_allclose(flat(result.images) - flat(IMAGES), moved, atol=1e-6)
    np.testing.assert_array_equal(flat(result.images)[0], flat(IMAGES)[0])
    np.testing.assert_array_equal(result.backward_passes, [4, 4, 2, 3])


@pytest.mark.parametrize("start", ["uniform", "gaussian", "sign"])
def test_what_a_start_returns_is_projected(start):
    images = jnp.asarray(np.round(IMAGES))  # at the edges of the box
    threat = ThreatModel("linf", 0.2)
    result = attacks.pgd(KEY, linear, images, LABELS, threat, steps=0, start=start)
    moved = np.abs(flat(result.images) - flat(images))
    assert flat(result.images).min() == 0 and flat(result.images).max() == 1
    inward = moved[moved > 0]
    assert 0.3 < len(inward) / moved.size < 0.7
    if start == "sign":
        np.testing.assert_allclose(inward, 0.1, rtol=1e-5)
    else:
        assert inward.max() <= (0.2 + 1e-7 if start == "uniform" else 0.005)
    np.testing.assert_array_equal(result.backward_passes, 0)


def test_the_first_gradient_is_taken_at_the_unprojected_start():
    # Beyond 1 the loss falls, inside the box it grows: the first step tells where it was taken.
    def valley(images):
        return jnp.stack([jnp.zeros(len(images)), jnp.where(images < 1, images, -images)[:, 0]], 1)

    result = attacks.pgd(
        KEY,
        valley,
        jnp.array([[0.9]]),
        jnp.array([0]),
        ThreatModel(epsilon=0.4),
        steps=1,
        step_size=0.5,
        start=jnp.array([[1.25]]),
    )
    np.testing.assert_allclose(result.images, [[0.75]])


def bumpy(images):
    """Three classes with local maxima of the loss, so that starts and restarts matter."""
    score = jnp.sin(9 * images.reshape(len(images), -1)) @ jnp.asarray(WEIGHTS)
    return jnp.stack([score, -score, jnp.cos(2 * score)], axis=1)


BUMPY_IMAGES = jnp.asarray(RANDOM.uniform(size=(16, 2, 2, 3)).astype(np.float32))
BUMPY_LABELS = jnp.argmax(bumpy(BUMPY_IMAGES), axis=1)
BUMPY_THREAT = ThreatModel("linf", 0.06)


def attack_bumpy(key=KEY, images=BUMPY_IMAGES, labels=BUMPY_LABELS, **options):
    options = {"steps": 2, "step_size": 0.02} | options
    return attacks.pgd(key, bumpy, images, labels, BUMPY_THREAT, **options)


def test_restarts_keep_the_first_success_else_the_highest_loss():
    result = attack_bumpy(restarts=3)
    runs = []
    for number in range(3):
        keys = fold_in_each(per_example_keys(KEY, 16), number)
        start = BUMPY_THREAT.random_start(keys, BUMPY_IMAGES)
        runs.append(attack_bumpy(start=start))
    success = np.array([run.success for run in runs])
    loss = np.array([losses.cross_entropy(bumpy(run.images), BUMPY_LABELS) for run in runs])
    won, lost = success.any(0), ~success.any(0)
    chosen = np.where(won, success.argmax(0), loss.argmax(0))
    assert won.any() and lost.any() and len(np.unique(chosen[lost])) > 1
    assert (chosen[won] != loss.argmax(0)[won]).any() or (chosen[won] > 0).any()
    images = np.array([run.images for run in runs])[chosen, np.arange(16)]
    np.testing.assert_allclose(result.images, images, atol=1e-6)
    np.testing.assert_array_equal(result.success, won)
    np.testing.assert_array_equal(
        result.backward_passes, np.where(won, 2 * (success.argmax(0) + 1), 6)
    )


def test_success_any_returns_the_first_misclassified_iterate():
    result = attack_bumpy(steps=6, success="any")
    iterates = [np.asarray(attack_bumpy(steps=steps).images) for steps in range(7)]
    labels = np.asarray(BUMPY_LABELS)
    wrong = np.array([np.argmax(bumpy(points), 1) != labels for points in iterates])
    first = np.where(wrong.any(0), wrong.argmax(0), 6)
    assert len(np.unique(first)) > 2
    np.testing.assert_allclose(result.images, np.array(iterates)[first, np.arange(16)], atol=1e-6)
    np.testing.assert_array_equal(result.success, wrong.any(0))
    np.testing.assert_array_equal(result.backward_passes, first)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_success_any_passes_over_a_start_outside_of_ball_and_box(norm):
    # The label is 0, and class 1 begins at 1/2. Of the four starts at 3/4, that of the first is
    # outside its ball, and right when projected; that of the second is wrong there too.
    result = attacks.pgd(
        KEY,
        lambda images: jnp.concatenate([0 * images, images - 0.5], axis=1),
        jnp.array([[0.125], [0.375], [0.625], [0.375]]),
        jnp.zeros(4, int),
        ThreatModel(norm, jnp.array([0.5, 0.25, 0.25, 0.5])),
        steps=3,
        step_size=0.0625,
        start=jnp.full((4, 1), 0.75),
        success="any",
    )
    np.testing.assert_array_equal(result.success, True)
    np.testing.assert_array_equal(result.images[:, 0], [0.625, 0.625, 0.75, 0.75])
    np.testing.assert_array_equal(result.backward_passes, [1, 1, 0, 0])


def test_success_any_is_not_weaker_than_last_from_an_illegal_start():
    # Class 1 at the illegal start 5/4 and from 1/4 to 3/4, not at 1, to which it is projected.
    def ridges(images):
        wrong = (images > 1) | (jnp.abs(images - 0.5) <= 0.25)
        score = jnp.where(wrong, 1.0, -1.0) * (2 - images)
        return jnp.concatenate([0 * images, score], axis=1)

    images, labels = jnp.array([[0.75]]), jnp.array([0])
    threat = ThreatModel(epsilon=0.25)
    for success in ("last", "any"):
        result = attacks.pgd(
            KEY,
            ridges,
            images,
            labels,
            threat,
            steps=3,
            step_size=0.5,
            start=jnp.array([[1.25]]),
            success=success,
        )
        np.testing.assert_array_equal(result.success, True)
    np.testing.assert_array_equal(result.images, [[0.75]])


def test_success_is_judged_at_the_returned_image():
    result = attack_bumpy()
    wrong = np.argmax(bumpy(result.images), axis=1) != np.asarray(BUMPY_LABELS)
    np.testing.assert_array_equal(result.success, wrong)
    assert wrong.any() and not wrong.all()


def test_soft_labels_are_judged_by_their_argmax():
    hard = attack_bumpy()
    one_hot = attack_bumpy(labels=jax.nn.one_hot(BUMPY_LABELS, 3))
    np.testing.assert_allclose(one_hot.images, hard.images, atol=1e-6)
    smooth = attack_bumpy(labels=losses.smooth_labels(BUMPY_LABELS, 3, 0.1))
    wrong = np.argmax(bumpy(smooth.images), axis=1) != np.asarray(BUMPY_LABELS)
    np.testing.assert_array_equal(smooth.success, wrong)


def test_a_verdict_does_not_depend_on_the_company():
    keys = jax.random.split(jax.random.key(5), 16)
    everyone = attack_bumpy(keys, restarts=2, stop=stopping.misclassified(1))
    order = np.array([11, 3, 7, 0])
    some = attack_bumpy(
        keys[order],
        BUMPY_IMAGES[order],
        BUMPY_LABELS[order],
        restarts=2,
        stop=stopping.misclassified(1),
    )
    np.testing.assert_allclose(some.images, everyone.images[order], atol=1e-6)
    np.testing.assert_array_equal(some.success, everyone.success[order])
    np.testing.assert_array_equal(some.backward_passes, everyone.backward_passes[order])


def test_a_target_other_than_the_labels():
    clean_logits = bumpy(BUMPY_IMAGES)
    result = attack_bumpy(
        loss=lambda logits, clean: losses.kl_divergence(clean, logits),
        target=clean_logits,
        start="gaussian",
        steps=4,
    )
    reached = losses.kl_divergence(clean_logits, bumpy(result.images))
    noisy = attack_bumpy(start="gaussian", steps=0).images
    assert (reached > losses.kl_divergence(clean_logits, bumpy(noisy))).all()


def test_bfloat16_logits_and_images_give_float32_images():
    result = attacks.pgd(
        KEY,
        lambda images: linear(images.astype(jnp.bfloat16)).astype(jnp.bfloat16),
        jnp.asarray(IMAGES, jnp.bfloat16),
        LABELS,
        ThreatModel("linf", 0.25),
        steps=2,
        step_size=0.125,
        start="clean",
    )
    assert result.images.dtype == jnp.float32
    clean = np.asarray(jnp.asarray(IMAGES, jnp.bfloat16), np.float32)
    expected = np.clip(flat(clean) + 0.25 * np.sign(UPHILL), 0, 1)
    np.testing.assert_allclose(flat(result.images), expected, atol=1e-6)


def nonsense(gradients):
    def logits(images):
        score = (images * gradients).reshape(len(images), -1).sum(1)
        return jnp.stack([score, -score], axis=1)

    return logits


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("start", ["uniform", "gaussian", "sign", "array"])
@hypothesis.settings(max_examples=8)
@hypothesis.given(
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([1e-30, 1.0, 1e30, np.inf, np.nan]),
    step_size=st.sampled_from([0.0, 1e-3, 0.3, 1e4]),
)
def test_stays_inside_ball_and_box_whatever_the_model_says(norm, start, seed, scale, step_size):
    random = np.random.default_rng(seed)
    images = random.uniform(size=(4, 5)).astype(np.float32).round(random.integers(0, 3))
    epsilon = random.choice([0, 1e-3, 0.1, 2], 4).astype(np.float32)
    gradients = (
        random.normal(size=(4, 5)) * np.where(random.random((4, 5)) < 0.3, scale, 1)
    ).astype(np.float32)
    if start == "array":
        start = random.normal(size=(4, 5)).astype(np.float32)
    result = attacks.pgd(
        jax.random.key(seed),
        nonsense(jnp.asarray(gradients)),
        images,
        random.integers(0, 2, 4),
        ThreatModel(norm, epsilon),
        steps=2,
        step_size=step_size,
        start=start,
    )
    returned = np.asarray(result.images, np.float64)
    offset = np.abs(returned - images)
    distance = offset.max(1) if norm == "linf" else np.sqrt((offset**2).sum(1))
    assert (returned >= 0).all() and (returned <= 1).all()
    assert (distance <= epsilon * (1 + 1e-5) + 2e-7).all()
    np.testing.assert_array_equal(returned[epsilon == 0], images[epsilon == 0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("epsilon", [0.25, np.inf])
def test_differentiates_through_zero_gradients_and_without_a_ball(norm, epsilon):
    # The logits of the second image depend on none of its pixels.
    def total(images):
        return attacks.pgd(
            KEY,
            lambda points: linear(points * np.array([1, 0]).reshape(2, 1, 1, 1)),
            images,
            LABELS[:2],
            ThreatModel(norm, epsilon, None),
            steps=2,
            step_size=0.25,
            start="clean",
        ).images.sum()

    gradient = jax.grad(total)(jnp.asarray(IMAGES[:2]))
    assert np.isfinite(gradient).all()
    # What the steps add is constant, for the direction of a linear model's gradient is.
    np.testing.assert_allclose(gradient[1], 1)
    if epsilon == np.inf:
        np.testing.assert_allclose(gradient[0], 1, atol=1e-5)


def test_equivalent_arguments_share_one_program(monkeypatch):
    # A program is recognised by the structure, shapes and (weak or strong) dtypes of its arguments.
    seen = []

    def run(attack, model, examples, inputs, steps, restarts, *, compact):
        seen.append(jax.tree.map(jax.typeof, (examples, inputs)))
        return attack.nothing_kept(inputs)

    monkeypatch.setattr(engine, "run", run)
    for number, integer, dtype in (
        (float, int, np.float32),
        (np.float64, np.int64, np.float64),
        (jnp.float32, jnp.int32, np.float32),
        (jnp.asarray, np.uint8, np.float16),
    ):
        for stop in (stopping.loss_above(number(0.5)), stopping.misclassified(integer(2))):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                attacks.pgd(
                    KEY,
                    linear,
                    IMAGES.astype(dtype),
                    LABELS.astype(integer),
                    ThreatModel("linf", number(0.125), (number(0), number(1))),
                    steps=2,
                    step_size=number(0.0625),
                    stop=stop,
                    budget=integer(2),
                )
    assert len(seen) == 8
    assert all(programs == seen[number % 2] for number, programs in enumerate(seen))


def test_lists_are_taken_for_arrays():
    def run(make):
        threat = ThreatModel("linf", make([0.1, 0.2, 0.1, 0.0]))
        rule = stopping.misclassified(make([0, 1, 2, 0]))
        options = {"stop": rule, "budget": make([1, 2, 0, 2]), "step_size": make([0.1] * 4)}
        return attacks.pgd(KEY, linear, IMAGES, make([0, 1, 0, 1]), threat, steps=2, **options)

    for leaf, expected in zip(*(jax.tree.leaves(run(f)) for f in (list, np.array)), strict=True):
        np.testing.assert_array_equal(leaf, expected)
    result = attacks.fgsm(KEY, linear, IMAGES, LABELS, ThreatModel(epsilon=[0.0] * 4))
    np.testing.assert_array_equal(result.images, IMAGES)


def call(**changes):
    arguments = {
        "key": KEY,
        "logits_fn": linear,
        "images": IMAGES,
        "labels": LABELS,
        "threat": ThreatModel(),
    }
    return attacks.pgd(**(arguments | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((4, 2, 2, 3), np.uint8)}, "divide by 255"),
        ({"images": [[0.0]]}, "images=list"),
        ({"labels": np.zeros(3, int)}, "labels=int.*3.: accepted"),
        ({"labels": np.zeros(4)}, "integers .4., and probabilities"),
        ({"labels": np.zeros((4, 2), int)}, "labels=int.*: accepted are integers"),
        ({"target": np.zeros((3, 2))}, "target=float.*: accepted are arrays"),
        ({"threat": 0.1}, "threat=float: accepted are"),
        (
            {"threat": ThreatModel(epsilon=jnp.array([0.1, 0.2]))},
            "epsilon=float32.*: accepted",
        ),
        ({"threat": ThreatModel(epsilon=jnp.array(-0.1))}, "threat.epsilon=.*-0.1.*: accepted"),
        ({"threat": ThreatModel(epsilon=np.inf)}, "needs a finite epsilon"),
        ({"threat": ThreatModel(epsilon=np.inf), "start": "sign"}, "needs a finite epsilon"),
        ({"steps": -1}, "steps=-1: accepted are"),
        ({"steps": 2.0}, "steps=2.0: accepted are"),
        ({"step_size": np.zeros(3)}, "step_size=float.*: accepted"),
        ({"start": "random"}, "start=random: accepted are"),
        ({"start": np.zeros((4, 2), np.float32)}, "start=float.*: accepted are"),
        ({"start": np.zeros((4, 2, 2, 3), int)}, "start=int.*: accepted are floating"),
        ({"start": "clean", "restarts": 2}, "restarts=2 with"),
        ({"start": IMAGES, "restarts": 2}, "restarts=2 with"),
        ({"restarts": 0}, "restarts=0: accepted are"),
        ({"success": "first"}, "success=first: accepted are last, any"),
        ({"budget": 11}, "budget=11: accepted are .* 0 to 10, the steps"),
        ({"budget": 0.5}, "budget=0.5: accepted are"),
        ({"labels": np.array([0, 1, -1, 0])}, "labels holds -1"),
        ({"labels": np.array([0, 1, 2, 0])}, "labels holds 2, and logits_fn gives 2 classes"),
        ({"threat": ThreatModel(epsilon=[0.1, -0.1, 0.1, 0.1])}, "threat.epsilon=.*: accepted"),
        ({"step_size": -0.1}, "step_size=-0.1: accepted are"),
        ({"step_size": np.inf}, "step_size=inf: accepted are"),
        ({"step_size": [0.1, np.nan, 0.1, 0.1]}, "step_size=.0.1, nan"),
        ({"logits_fn": lambda images: (linear(images), {})}, r"logits=a tuple: .*take \[0\]"),
        ({"logits_fn": lambda images: {"logits": linear(images)}}, "logits=dict: accepted"),
        (
            {"logits_fn": lambda images: images.sum((1, 2, 3))},
            "logits=float.*: accepted",
        ),
        ({"loss": lambda logits, labels: logits.sum()}, "without reducing"),
    ],
)
def test_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        call(**changes)


def test_errors_of_the_shorthands():
    with pytest.raises(ValueError, match="steps by epsilon"):
        attacks.fgsm(KEY, linear, IMAGES, LABELS, ThreatModel(epsilon=np.inf))
    with pytest.raises(ValueError, match="accepted are linf"):
        attacks.cw_linf(KEY, linear, IMAGES, LABELS, ThreatModel("l2"))
    with pytest.raises(ValueError, match="give a step_size"):
        attacks.cw_linf(KEY, linear, IMAGES, LABELS, ThreatModel(epsilon=np.inf), start="clean")
    for attack in (attacks.fgsm, attacks.cw_linf):
        with pytest.raises(ValueError, match="threat=float: accepted are values of ThreatModel"):
            attack(KEY, linear, IMAGES, LABELS, 0.1)
