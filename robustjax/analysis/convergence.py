"""Whether PGD has converged: loss and accuracy after every step and every restart."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import attacks, data, losses
from robustjax.analysis.model_statistics import (
    LogitsFn,
    Progress,
    checked_subject,
    compute_logits,
    of_rows,
    require_finite_epsilon,
)
from robustjax.arguments import checked_count
from robustjax.arguments.arrays import checked_scale
from robustjax.attacks.engine import run as engine
from robustjax.attacks.engine.keys import fold_in_each, per_example_keys
from robustjax.attacks.engine.model import gradient_model
from robustjax.attacks.engine.rows import predicted
from robustjax.attacks.threat_model import per_example
from robustjax.batching import batches_of_one_shape
from robustjax.step_size import ReachWarning, reach_complaint


class Convergence(NamedTuple):
    """Every iterate of PGD, judged.

    Attributes:
      loss: float32 [R, K + 1, N], the cross-entropy in restart r after step k; step 0 is the random
        start.
      wrong: bool [R, K + 1, N], what is misclassified there.
      clean_wrong: bool [N], what is misclassified without an attack.
    """

    loss: np.ndarray
    wrong: np.ndarray
    clean_wrong: np.ndarray

    @property
    def robust_accuracy(self) -> np.ndarray:
        """[R, K + 1]: the accuracy under PGD of k steps and r + 1 restarts, judged as they end."""
        right = ~np.logical_or.accumulate(self.wrong, axis=0) & ~self.clean_wrong
        return right.mean(axis=2)

    @property
    def worst_loss(self) -> np.ndarray:
        """[R, K + 1]: the mean over the examples of their highest loss in r + 1 restarts.

        A loss that is NaN is left out, and is NaN only where no example has a number; such an
        example is misclassified.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
            return np.nanmean(np.fmax.accumulate(self.loss, axis=0), axis=2)


def pgd_convergence(
    key: jax.Array,
    logits_fn: LogitsFn,
    dataset: data.Dataset,
    threat: attacks.ThreatModel,
    *,
    steps: int,
    step_size: jax.Array | float,
    restarts: int = 1,
    batch_size: int = 128,
    report: Progress | None = None,
) -> Convergence:
    """Takes the steps of `attacks.pgd` with random starts, and looks at the loss after each.

    The iterates are those of `attacks.pgd(keys, ..., steps=k, restarts=r)`, whose draws for example
    i are a function of (key, i) as in `evaluation.run_attack`; but no example stops at a success.

    Args:
      key: as for `evaluation.run_attack`.
      logits_fn: maps images [B, H, W, C] to logits [B, K].
      dataset: N examples.
      threat: the norm ball, of finite epsilon, and the box.
      steps: K, 0 or more.
      step_size: in units of the images.
      restarts: R, 1 or more.
      batch_size: examples at once; the last batch is filled up.
      report: told after every step of every batch.

    Raises:
      ValueError: what `attacks.pgd` refuses.

    Warns:
      ReachWarning: the steps reach less far than epsilon.
      UserWarning: some losses are NaN.

    Source of the form: SENSE (Kim & Wang), figures 8 and 9, with steps counted from the start.
    """
    threat, size = checked_subject(logits_fn, dataset, threat, batch_size)
    total = len(dataset)
    steps = checked_count("steps", steps, 0)
    restarts = checked_count("restarts", restarts, 1)
    require_finite_epsilon(threat)
    step_size = checked_scale("step_size", step_size, total, jnp.float32)
    complaint = reach_complaint(np.asarray(threat.epsilon), steps, np.asarray(step_size))
    if complaint:
        warnings.warn(complaint, ReachWarning, stacklevel=2)
    loss = np.zeros((restarts, steps + 1, total), np.float32)
    wrong = np.zeros(loss.shape, bool)
    done, work = 0, -(-total // size) * restarts * (steps + 1)
    all_keys = per_example_keys(key, total)
    for batch in batches_of_one_shape(total, size):
        rows, kept = batch.rows, batch.kept
        clean = data.to_float(dataset.images[rows])
        labels = jnp.asarray(dataset.labels[rows])
        keys = all_keys[rows]
        model = gradient_model(losses.cross_entropy, logits_fn, labels)
        own_threat, own_size = of_rows((threat, step_size), rows)
        for restart in range(restarts):
            images = own_threat.random_start(fold_in_each(keys, restart), clean)
            for step in range(steps + 1):
                logits, values, gradient = engine.apply(model, images, labels)
                missed = predicted(np.asarray(logits)) != np.asarray(labels)
                loss[restart, step, kept] = batch.without_filling(values)
                wrong[restart, step, kept] = batch.without_filling(missed)
                images = _move(own_threat, images, clean, gradient, own_size)
                done += 1
                if report is not None:
                    report("PGD", done, work)
    without_number = int(np.isnan(loss).any(axis=(0, 1)).sum())
    if without_number:
        warnings.warn(
            f"the loss of {without_number} of {total} examples is NaN at some step: the mean of "
            "the highest losses leaves them out there, and they count as misclassified",
            stacklevel=2,
        )
    clean_logits = compute_logits(logits_fn, dataset.images, size)
    return Convergence(loss, wrong, predicted(clean_logits) != dataset.labels)


@jax.jit
def _move(
    threat: attacks.ThreatModel,
    images: jax.Array,
    clean: jax.Array,
    gradient: jax.Array,
    step_size: jax.Array,
) -> jax.Array:
    move = per_example(step_size, images) * threat.steepest(gradient, images)
    return threat.project(images + move, clean)
