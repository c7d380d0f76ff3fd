"""MMA training (Ding et al., 2020): cross-entropy at the decision boundary, found by bisection."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from robustjax import losses
from robustjax.arguments import require_choice, require_finite
from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import Scalar, checked_scalar
from robustjax.methods.method import Inner, Method, Objective, Outer, Perturbation

SUMMARY = "MMA (Ding et al., 2020): CE at each example's own margin, up to d_max; clean CE if wrong"

CITATION = """\
@inproceedings{ding2020mma,
  title     = {{MMA} Training: Direct Input Space Margin Maximization through Adversarial Training},
  author    = {Ding, Gavin Weiguang and Sharma, Yash and Lui, Kry Yik Chau and Huang, Ruitong},
  booktitle = {International Conference on Learning Representations},
  year      = {2020},
}"""

BISECTIONS = 10


def create(
    *,
    d_max: Scalar = 12 / 255,
    min_epsilon: float = 0.005,
    clean_weight: float = 1 / 3,
    start: str = "uniform",
    attack_batch_norm: str = "eval",
) -> Method:
    """MMA: maximises the margin of what is classified correctly, up to d_max.

    min over θ of (1 − λ) E[1{right, margin < d_max} CE(z(x̂), y) + 1{wrong} CE(z(x), y)] +
    λ E[CE(z(x), y)], x̂ being the nearest point of the decision boundary that the search finds: PGD
    on the soft logit margin in a ball of the radius remembered from the last time gives a
    direction, and 10 bisections the place on it where the soft logit margin changes its sign:
    between the image and where the attack ended if it succeeded, else from there to 1.05 d_max.
    That distance is remembered (0 if the example is wrong). An example is right where its soft
    logit margin is negative. epsilon plays no part, and neither does step_size: a step is
    2.5 / K of the radius.

    Args:
      d_max: beyond this margin an example takes no part, in units of the images; a number or a
        schedule. 12, 20 and 32 of 255 on CIFAR-10, 0.45 on MNIST.
      min_epsilon: the least radius of the search; 0.005 on CIFAR-10, 0.1 on MNIST.
      clean_weight: λ; 1/3 in the paper, 0 in its variant OMMA.
      start: PGD's start: "uniform" (the authors' code), "gaussian", "sign" or "clean".
      attack_batch_norm: "eval", or "train". The authors' code has "eval" in PGD and "train" in the
        bisection.

    In the authors' code the clean training-mode pass says who is right, the distance is the middle
    of the last interval (here its far end, where the example is wrong), and x̂ may leave the box.

    Returns:
      The method; `d_max` is a scalar of its steps, its memory the margin of each training example,
      float32, and labels must be hard.

    Raises:
      ValueError: a d_max below 0, a least radius of 0, a weight outside [0, 1], or another start.

    Example:
      >>> from robustjax import methods
      >>> method = methods.create("mma", d_max=0.45, min_epsilon=0.1)
      >>> method.goes_by
      ('steps',)
      >>> print(method.init(2, (28, 28, 1))["margin"])
      [0. 0.]

    Source: Ding et al. (2020) and the authors' code.
    """
    require_choice("start", start, STARTS)
    require_finite("min_epsilon", min_epsilon, 1e-9)
    require_finite("clean_weight", clean_weight, 0, 1)

    def perturb(inner: Inner) -> Perturbation:
        images, labels = inner.batch.images, inner.batch.labels
        is_right = losses.soft_logit_margin(inner.logits_fn(images), labels) < 0
        radius = jnp.maximum(inner.memory["margin"], min_epsilon)
        result = inner.pgd(
            loss=losses.soft_logit_margin,
            start=start,
            threat=dataclasses.replace(inner.threat, epsilon=radius),
            step_size=2.5 * radius / inner.steps_now,
        )
        direction = (result.images - images) / radius[:, None, None, None]

        def point(distance: jax.Array) -> jax.Array:
            moved = images + distance[:, None, None, None] * direction
            return inner.threat.clip(moved)

        def is_wrong_at(distance: jax.Array) -> jax.Array:
            return losses.soft_logit_margin(inner.logits_fn(point(distance)), labels) >= 0

        furthest = jnp.full(radius.shape, 1.05) * inner.scalars["d_max"]
        margin = jnp.where(is_right, boundary(is_wrong_at, furthest, radius), 0.0)
        takes_part = ~is_right | (margin < inner.scalars["d_max"])
        return Perturbation(
            point(margin), result.backward_passes, {"margin": margin}, notes=takes_part
        )

    def outer(outer: Outer) -> Objective:
        clean_key, margin_key = jax.random.split(outer.key)
        labels = outer.batch.labels
        clean_logits, network = outer.network.train(outer.batch.images, clean_key)
        logits, network = network.train(outer.perturbation.images, margin_key)
        at_margin = outer.perturbation.notes * losses.cross_entropy(logits, labels)
        clean = losses.cross_entropy(clean_logits, labels)
        loss = (1 - clean_weight) * at_margin + clean_weight * clean
        return Objective(loss, network.statistics)

    return Method(
        name="mma",
        perturb=perturb,
        outer=outer,
        init=lambda rows, image_shape: {"margin": jnp.zeros(rows)},
        scalars={"d_max": checked_scalar("d_max", d_max, 0)},
        attack_batch_norm=attack_batch_norm,
        soft_labels=False,
        goes_by=("steps",),
    )


def boundary(
    is_wrong_at: Callable[[jax.Array], jax.Array],
    furthest: jax.Array,
    first: jax.Array | None = None,
) -> jax.Array:
    """Where an example becomes wrong on its way, by bisection.

    Args:
      is_wrong_at: distances [B] -> bool [B]; not wrong at 0.
      furthest: [B], the largest distance; the result is this where no point looked at is wrong.
      first: [B], the distance to look at before the halvings; they then go on below it where the
        example is wrong there, else above. None: they begin with the whole way.

    Returns:
      [B], the upper end of the last interval: the example is wrong there, unless it is `furthest`.
    """

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        wrong = is_wrong_at(middle)
        return jnp.where(wrong, low, middle), jnp.where(wrong, middle, high)

    ends = (jnp.zeros_like(furthest), furthest)
    if first is not None:
        first = jnp.minimum(first, furthest)
        wrong = is_wrong_at(first)
        ends = (jnp.where(wrong, 0, first), jnp.where(wrong, first, furthest))
    return jax.lax.fori_loop(0, BISECTIONS, halve, ends)[1]
