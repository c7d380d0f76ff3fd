"""The three identities of SENSE's loss (eqs. 10, 11, 14), on models whose worst case is known.

NumPy in float64 gives the exact regular and sensible examples of a two-class linear model; for
three classes, Definition 3 is tried on a dense grid of the ball. PGD must come within one step.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks

EPSILON = 0.4
CONFIDENCES = (0.5, 0.7, 0.9)


class Binary:
    """A two-class linear model, points at all distances from its border, and its worst cases."""

    def __init__(self, dimensions, norm):
        generator = np.random.default_rng(dimensions)
        self.norm, self.weights, self.bias = norm, np.array([4.0, -1.5])[:dimensions], 0.3
        self.points = generator.uniform(-1.5, 1.5, (300, dimensions)).astype(np.float32)
        self.points = self.points.astype(float)
        self.signs = np.where(generator.uniform(size=300) < 0.5, 1, -1)
        if norm == "linf":
            self.dual = np.abs(self.weights).sum()
            self.direction = np.sign(self.weights)
        else:
            self.dual = np.sqrt((self.weights**2).sum())
            self.direction = self.weights / self.dual

    def loss(self, points):
        return np.log1p(np.exp(-self.signs * (points @ self.weights + self.bias)))

    def moved(self, length):
        return self.points - (self.signs * length)[:, None] * self.direction

    def regular(self):
        return self.moved(np.full(len(self.points), EPSILON))

    def sensible(self, c):
        """As far as the ball reaches, but no further than confidence c, and no way back."""
        margin = self.signs * (self.points @ self.weights + self.bias)
        return self.moved(np.clip((margin - np.log(c / (1 - c))) / self.dual, 0, EPSILON))

    def parts(self, c):
        """A_f, B_f and C_f."""
        natural, regular = np.exp(-self.loss(self.points)), np.exp(-self.loss(self.regular()))
        return natural <= c, (natural > c) & (regular <= c), regular > c

    def logits(self, points):
        odds = points @ jnp.asarray(self.weights, jnp.float32) + self.bias
        return jnp.stack([jnp.zeros_like(odds), odds], axis=-1)

    def attack(self, steps, stop):
        result = attacks.pgd(
            jax.random.key(0),
            self.logits,
            jnp.asarray(self.points, jnp.float32),
            jnp.asarray((self.signs + 1) // 2),
            attacks.ThreatModel(self.norm, EPSILON, bounds=None),
            steps=steps,
            step_size=EPSILON / steps,
            start="clean",
            stop=stop,
        )
        return np.asarray(result.images, float)


MODELS = pytest.mark.parametrize(
    "model",
    [Binary(1, "linf"), Binary(2, "linf"), Binary(2, "l2")],
    ids=["line-linf", "plane-linf", "plane-l2"],
)


def truncated_sum(natural, regular, c):
    """Eq. 10."""
    return np.maximum(0, natural - np.log(1 / c)) + np.minimum(regular, np.log(1 / c))


def by_parts(natural, regular, c):
    """Eq. 11."""
    in_a, in_c = np.exp(-natural) <= c, np.exp(-regular) > c
    return natural * in_a + np.log(1 / c) * (~in_a & ~in_c) + regular * in_c


@MODELS
@pytest.mark.parametrize("c", CONFIDENCES)
def test_three_ways_to_write_the_loss_agree_exactly(model, c):
    assert all(part.sum() >= 15 for part in model.parts(c))
    natural, regular = model.loss(model.points), model.loss(model.regular())
    at_one_point = model.loss(model.sensible(c))  # eq. 14
    np.testing.assert_allclose(at_one_point, truncated_sum(natural, regular, c), rtol=0, atol=1e-13)
    np.testing.assert_allclose(at_one_point, by_parts(natural, regular, c), rtol=0, atol=1e-13)


@MODELS
def test_natural_and_regular_loss_are_the_limits(model):
    natural, regular = model.loss(model.points), model.loss(model.regular())
    np.testing.assert_allclose(truncated_sum(natural, regular, 1.0), natural, atol=1e-13)
    np.testing.assert_allclose(model.loss(model.sensible(1e-30)), regular, atol=1e-13)
    np.testing.assert_allclose(truncated_sum(natural, regular, 1e-30), regular, atol=1e-13)


@MODELS
@pytest.mark.parametrize("c", CONFIDENCES)
@pytest.mark.parametrize("steps", [20, 160])
def test_pgd_with_sensible_reversion_comes_within_one_step(model, c, steps):
    found = model.attack(steps, attacks.stopping.loss_above(-np.log(c)))
    exact = model.sensible(c)
    order = np.inf if model.norm == "linf" else 2
    step = EPSILON / steps
    distance = np.linalg.norm(found - exact, ord=order, axis=1)
    assert distance.max() <= step * (1 + 1e-3)
    shortfall = model.loss(exact) - model.loss(found)
    assert shortfall.min() >= -1e-5
    assert shortfall.max() <= model.dual * step + 1e-5
    in_a, in_b, in_c = model.parts(c)
    assert (found[in_a] == model.points[in_a]).all()
    assert distance[in_b].max() > step / 4
    # At the border of C_f the last step may be lost to rounding.
    well_inside = in_c & (model.loss(exact) < -np.log(c) - 1e-4)
    assert well_inside.sum() >= 15 and distance[well_inside].max() <= 1e-5


@MODELS
def test_pgd_without_a_rule_finds_the_regular_example(model):
    np.testing.assert_allclose(model.attack(20, None), model.regular(), atol=1e-5)


@MODELS
def test_a_single_step_is_undone_wherever_it_goes_too_far(model):
    # Why Three Clusters cannot be trained by Algorithm 2 with K = 1, as section 5.1 says.
    found = model.attack(1, attacks.stopping.loss_above(-np.log(0.9)))
    _, in_b, in_c = model.parts(0.9)
    assert (found[in_b] == model.points[in_b]).all()
    assert (found[in_c] != model.points[in_c]).any()


WEIGHTS = np.array([[2.0, 0.5], [-1.0, 1.5], [0.3, -2.2]])


def losses_of_three_classes(points, label):
    logits = points @ WEIGHTS.T + np.array([0.1, -0.2, 0.0])
    return np.log(np.exp(logits).sum(axis=-1)) - logits[..., label]


def grid_of_ball(norm):
    """Points of the ball, and how far a point of it may be from its neighbour in that norm."""
    ticks = np.linspace(-1, 1, 241)
    if norm == "linf":
        offsets = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
        return EPSILON * offsets, EPSILON * 2 / 240
    angles, radii = np.meshgrid(2 * np.pi * np.arange(400) / 400, np.linspace(0, 1, 121))
    offsets = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=-1).reshape(-1, 2)
    return EPSILON * offsets, EPSILON * 2 * np.pi / 400


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("c", CONFIDENCES)
def test_definition_3_on_a_grid_obeys_the_identities_with_three_classes(norm, c):
    generator = np.random.default_rng(3)
    offsets, spacing = grid_of_ball(norm)
    dual = 1 if norm == "linf" else 2
    counts, had_sensible_neighbours = np.zeros(3, int), 0
    for _ in range(60):
        label = generator.integers(3)
        own = WEIGHTS[label]
        point = generator.uniform(0, 2.5) * own / 2 + generator.normal(size=2) / 3
        natural = losses_of_three_classes(point, label)
        ball = losses_of_three_classes(point + offsets, label)
        regular = ball.max()
        allowed = ball[np.exp(-ball) > c]
        by_definition = max([natural, *allowed])
        slope = max(np.linalg.norm(other - own, ord=dual) for other in WEIGHTS)
        for identity in (truncated_sum, by_parts):
            gap = identity(natural, regular, c) - by_definition
            assert -1e-12 <= gap <= slope * spacing
        in_a = np.exp(-natural) <= c
        counts += [in_a, not in_a and np.exp(-regular) <= c, np.exp(-regular) > c]
        had_sensible_neighbours += bool(in_a and len(allowed))
    assert counts.min() >= 5
    # The paper calls S empty on A_f. It is not: its points are merely no worse than x itself.
    assert had_sensible_neighbours >= 3
