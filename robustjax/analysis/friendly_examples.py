"""Friendly adversarial examples: those of PGD that stops once it has crossed the boundary."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import attacks, data
from robustjax.analysis.model_statistics import LogitsFn, Progress, checked_subject, of_rows
from robustjax.attacks import stopping
from robustjax.attacks.engine.keys import per_example_keys
from robustjax.batching import batches_of_one_shape


def friendly_images(
    key: jax.Array,
    logits_fn: LogitsFn,
    dataset: data.Dataset,
    threat: attacks.ThreatModel,
    *,
    tau: int,
    steps: int,
    step_size: float,
    batch_size: int = 128,
    report: Progress | None = None,
) -> np.ndarray:
    """Attacks a data set by PGD-K-τ, with the starts of `evaluation.run_attack`'s PGD.

    Args:
      key: as for `evaluation.run_attack`.
      logits_fn: maps images [B, H, W, C] to logits [B, K], row i of image i alone.
      dataset: N examples.
      threat: the norm ball and the box.
      tau: steps that an example takes once it is misclassified, 0 or more.
      steps: K.
      step_size: in units of the images.
      batch_size: examples at once; the last batch is filled up.
      report: told after every batch.

    Returns:
      float32 [N, H, W, C].

    Raises:
      ValueError: what `attacks.pgd` refuses.

    Source: FAT (Zhang et al., 2020), Algorithm 1.
    """
    _, size = checked_subject(logits_fn, dataset, threat, batch_size)
    total, found = len(dataset), []
    keys = per_example_keys(key, total)
    for batch in batches_of_one_shape(total, size):
        rows = batch.rows
        result = attacks.pgd(
            keys[rows],
            logits_fn,
            data.to_float(dataset.images[rows]),
            jnp.asarray(dataset.labels[rows]),
            of_rows(threat, rows),
            steps=steps,
            step_size=of_rows(step_size, rows),
            stop=stopping.misclassified(tau),
            independent_rows=True,
        )
        found.append(batch.without_filling(result.images))
        if report is not None:
            report("friendly PGD", batch.done, total)
    return np.concatenate(found)
