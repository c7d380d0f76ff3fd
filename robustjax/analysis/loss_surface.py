"""The loss around an image, in the plane of the gradient's step and a random one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import attacks, losses
from robustjax.analysis.model_statistics import (
    LogitsFn,
    Progress,
    compute_logits,
    of_rows,
    require_finite_epsilon,
)
from robustjax.arguments import checked_count, checked_function, is_number, is_whole, shown
from robustjax.attacks import _checks as checks
from robustjax.attacks.engine import run as engine
from robustjax.attacks.engine.keys import checked_key, per_example_keys
from robustjax.attacks.engine.model import gradient_model
from robustjax.attacks.engine.rows import predicted
from robustjax.errors import UserError


class LossSurface(NamedTuple):
    """The loss on a grid around each of N images.

    Attributes:
      offsets: float64 [P], along either axis, in units of epsilon, with 0 in the middle.
      loss: float32 [N, P, P]; [n, i, j] is at offsets[i] along the random direction and offsets[j]
        along the gradient's.
      wrong: bool [N, P, P], what is misclassified there.
      zero_gradient: float64 [N], share of the image's gradient that is 0 or not finite.
    """

    offsets: np.ndarray
    loss: np.ndarray
    wrong: np.ndarray
    zero_gradient: np.ndarray

    @property
    def along_gradient(self) -> np.ndarray:
        """The loss on the line of the gradient's step, [N, P]."""
        return self.loss[:, len(self.offsets) // 2, :]

    @property
    def along_random(self) -> np.ndarray:
        """The loss on the line of the random step, [N, P]."""
        return self.loss[:, :, len(self.offsets) // 2]


def loss_surface(
    key: jax.Array,
    logits_fn: LogitsFn,
    images: jax.Array | np.ndarray,
    labels: jax.Array | np.ndarray,
    threat: attacks.ThreatModel,
    *,
    extent: float = 1.0,
    points: int = 41,
    loss: Callable[[jax.Array, jax.Array], jax.Array] = losses.cross_entropy,
    batch_size: int = 128,
    report: Progress | None = None,
) -> LossSurface:
    r"""The loss around images, in the plane of the gradient's step and a random one.

    .. math:: \ell\big(\Pi(x + a \epsilon \cdot d(\nabla \ell(x)) + b \epsilon \cdot d(\xi))\big)

    for a and b on a grid, with :math:`\xi` normal noise and :math:`d` the steepest unit step of the
    threat model: under "linf" the signs of the gradient and random signs, under "l2" the two
    vectors over their length, under "l1" the signs of their largest entries, over the number of
    these. :math:`\Pi` clips to the box and to nothing else. Where a defence masks its gradients,
    the loss rises no more along the gradient than along the random direction, or has steps and
    spikes.

    Args:
      key: one key, from which each example's is derived by its position, or [N] keys.
      logits_fn: maps images [B, H, W, C] to logits [B, K].
      images: float [N, H, W, C] in [0, 1].
      labels: int [N].
      threat: its epsilon is the unit of the offsets.
      extent: how far the grid reaches in units of epsilon, above 0.
      points: along either axis; odd, 3 or more, so that the image itself is among them.
      loss: called as `loss(logits, labels)`, gives [B].
      batch_size: images at once.
      report: told after every image.

    Raises:
      ValueError: an argument is none of these.

    Source of the form: Ensemble Adversarial Training (Tramèr et al., 2018), figure 4, where the
      second direction is made orthogonal to the first; random signs nearly are.
    """
    if not is_number(extent) or not 0 < extent < float("inf"):
        raise UserError(f"extent={shown(extent)}: accepted are finite numbers above 0")
    if not is_whole(points) or points < 3 or points % 2 == 0:
        raise UserError(f"points={shown(points)}: accepted are odd numbers of 3 or more")
    checks.checked_logits_fn(logits_fn)
    checked_function("loss", loss, "losses, such as losses.cross_entropy")
    checked_count("batch_size", batch_size, 1)
    images = checks.checked_images(images)
    if not len(images):
        raise UserError("images holds no image: accepted are one or more")
    labels = checks.checked_hard_labels(labels, len(images))
    threat = checks.checked_threat(threat, len(images), images.dtype)
    checks.check_inside_box(images, threat)
    require_finite_epsilon(threat)
    key = checked_key(key, len(images))
    _, _, gradient = engine.apply(gradient_model(loss, logits_fn, labels), images, labels)
    keys = per_example_keys(key, len(images))
    noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys)
    steepest, random = threat.steepest(gradient), threat.steepest(noise)
    offsets = np.linspace(-extent, extent, points)
    offsets[points // 2] = 0.0
    along_random, along_gradient = (
        jnp.asarray(grid.ravel(), images.dtype).reshape(-1, *(1,) * (images.ndim - 1))
        for grid in np.meshgrid(offsets, offsets, indexing="ij")
    )
    found, wrong = [], []
    for row in range(len(images)):
        own = of_rows(threat, row)
        move = along_gradient * steepest[row] + along_random * random[row]
        logits = compute_logits(logits_fn, own.clip(images[row] + own.epsilon * move), batch_size)
        label = jnp.broadcast_to(labels[row], len(logits))
        found.append(np.asarray(loss(jnp.asarray(logits), label)).reshape(points, points))
        wrong.append((predicted(logits) != int(labels[row])).reshape(points, points))
        if report is not None:
            report("loss surface", row + 1, len(images))
    gradient = np.asarray(gradient).reshape(len(images), -1)
    dead = (gradient == 0) | ~np.isfinite(gradient)
    return LossSurface(offsets, np.stack(found), np.stack(wrong), dead.mean(axis=1))
