"""The default step crosses the ball whatever the unit; steps that do not are said."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, losses
from robustjax.attacks import ThreatModel
from robustjax.attacks.spsa import default_scales
from robustjax.step_size import default_step_size, reach_complaint

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(12, 2))
UNIT = RANDOM.uniform(0.3, 0.7, size=(64, 2, 2, 3))


@pytest.mark.parametrize(
    ("steps", "share"), [(1, 2), (2, 1), (5, 0.4), (10, 0.2), (20, 0.1), (40, 0.1), (1000, 0.1)]
)
def test_the_rule_is_the_larger_of_a_tenth_and_two_radii_over_the_steps(steps, share):
    assert default_step_size(0.3, steps) == pytest.approx(share * 0.3, rel=1e-15)
    assert default_step_size(8 / 255, 20) == 8 / 255 / 10  # the papers', to the bit
    radii = jnp.array([0.0, 0.1, 2.0])
    np.testing.assert_allclose(default_step_size(radii, steps), share * radii, rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 255.0])
@pytest.mark.parametrize(
    ("norm", "steps"),
    # Under l2 a few steps end beside the farthest point, for they begin beside the centre.
    [("linf", 1), ("linf", 2), ("linf", 3), ("linf", 10), ("linf", 40), ("l2", 20), ("l2", 40)],
)
def test_the_default_finds_what_a_linear_model_allows(norm, unit, steps):
    # Without a box an example of two classes breaks exactly if its margin is below epsilon times
    # the dual norm of the difference of the weights: the closed form, in float64.
    difference = WEIGHTS[:, 0] - WEIGHTS[:, 1]
    margins = np.abs((UNIT.reshape(64, 12) - 0.5) @ difference)
    dual = np.abs(difference).sum() if norm == "linf" else np.linalg.norm(difference)
    epsilon = np.median(margins) / dual * 1.001
    breaks = margins < epsilon * dual
    assert 20 < breaks.sum() < 45
    labels = np.argmax((UNIT.reshape(64, 12) - 0.5) @ WEIGHTS, 1)

    def network(x):
        return (x.reshape(len(x), 12) / unit - 0.5) @ jnp.asarray(WEIGHTS, jnp.float32)

    images = jnp.asarray(unit * UNIT, jnp.float32)
    threat = ThreatModel(norm, unit * epsilon, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = attacks.pgd(KEY, network, images, labels, threat, steps=steps)
    near = np.abs(margins - epsilon * dual) < 0.02 * epsilon * dual
    np.testing.assert_array_equal(np.asarray(result.success)[~near], breaks[~near])


def test_each_example_has_the_step_of_its_own_radius():
    epsilon = jnp.array([0.0, 0.1, 0.2])
    images, columns = jnp.full((3, 4), 0.5), jnp.eye(4, 2)
    result = attacks.pgd(
        KEY,
        lambda x: x @ columns,
        images,
        jnp.zeros(3, int),
        ThreatModel("linf", epsilon),
        steps=2,
        start="clean",
        stop=attacks.stopping.fosc(1e9),  # one step
    )
    np.testing.assert_allclose(jnp.abs(result.images - images).max(1), epsilon, atol=1e-7)


@pytest.mark.parametrize("attack", [attacks.pgd, attacks.cw_linf, attacks.spsa])
def test_steps_that_end_inside_of_the_ball_are_said_with_both_numbers(attack):
    images = jnp.full((2, 2, 2, 3), 0.5)
    size = "learning_rate" if attack is attacks.spsa else "step_size"
    options = {"samples": 4} if attack is attacks.spsa else {}
    columns = jnp.asarray(WEIGHTS, jnp.float32)

    def run(step):
        labels, threat = jnp.zeros(2, int), ThreatModel("linf", 0.3)
        attack(
            KEY, lambda x: x.reshape(len(x), 12) @ columns, images, labels, threat,
            steps=4, **{size: step}, **options,
        )  # fmt: skip

    with pytest.warns(UserWarning, match=r"4 steps of step_size 0\.05 reach 0\.2.*epsilon, 0\.3"):
        run(0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(0.075)


def test_nothing_is_said_where_nothing_is_known_or_there_is_no_ball():
    assert reach_complaint(np.inf, 3, 0.1) == ""
    assert reach_complaint(0.3, 0, 0.1) == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.jit(
            lambda epsilon: attacks.pgd(
                KEY, lambda x: x, jnp.zeros((2, 3)), jnp.zeros(2, int),
                ThreatModel("linf", epsilon), steps=2, step_size=0.01,
            )
        )(0.3)  # fmt: skip


def test_no_step_follows_from_an_infinite_radius():
    with pytest.raises(ValueError, match="threat.epsilon=inf: no step follows"):
        attacks.pgd(
            KEY, lambda x: x, jnp.zeros((2, 3)), jnp.zeros(2, int),
            ThreatModel("linf", np.inf), start="clean",
        )  # fmt: skip


def test_spsa_follows_the_box_and_the_radius():
    unit, byte = (
        default_scales(ThreatModel("linf", high * 8 / 255, (0.0, high)), 100)
        for high in (1.0, 255.0)
    )
    assert unit == pytest.approx((0.01, 0.01)) and byte == pytest.approx((2.55, 2.55))
    assert default_scales(ThreatModel("linf", 0.3), 2) == pytest.approx((0.01, 0.3))
    assert default_scales(ThreatModel("linf", 8 / 255, None), 100) == pytest.approx((0.01, 0.01))


def test_a_ball_that_holds_the_box_is_said():
    images, columns = jnp.full((2, 12), 0.5), jnp.asarray(WEIGHTS, jnp.float32)
    with pytest.warns(UserWarning, match=r"epsilon is 8 in a box of width 1.*Is it 8/255\?"):
        attacks.fgsm(KEY, lambda x: x @ columns, images, jnp.zeros(2, int), ThreatModel("linf", 8))


def test_fgsm_is_not_stronger_than_pgd_by_name():
    # One step of epsilon against seven of the default: on a curved network the seven do no worse.
    weights = [jnp.asarray(RANDOM.normal(size=shape), jnp.float32) for shape in ((12, 16), (16, 4))]

    def network(x):
        return jnp.tanh((x.reshape(len(x), 12) - 0.5) @ weights[0]) @ weights[1]

    images = jnp.asarray(UNIT, jnp.float32)
    labels, threat = jnp.argmax(network(images), 1), ThreatModel("linf", 0.2)
    reached = [
        losses.cross_entropy(network(result.images), labels).mean()
        for result in (
            attacks.fgsm(KEY, network, images, labels, threat),
            attacks.pgd(KEY, network, images, labels, threat, steps=7),
        )
    ]
    assert reached[1] >= reached[0]
