"""Curriculum adversarial training (Cai et al., 2018): PGD whose number of steps grows."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from robustjax import losses
from robustjax.arguments import require_choice, require_whole
from robustjax.attacks.engine.keys import fold_in_each
from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import Scalar, checked_scalar
from robustjax.methods.method import Inner, Method, Perturbation
from robustjax.methods.standard import adversarial_outer

SUMMARY = "CAT (Cai et al., 2018): CE on a batch that mixes PGD of 0 to k steps, k growing to K"

CITATION = """\
@inproceedings{cai2018curriculum,
  title     = {Curriculum Adversarial Training},
  author    = {Cai, Qi-Zhi and Liu, Chang and Song, Dawn},
  booktitle = {International Joint Conference on Artificial Intelligence},
  year      = {2018},
}"""

# Folded into an example's key for its step size.
_STEP_SIZE = 1


def create(
    *,
    strength: Scalar | None = None,
    patience: int = 10,
    start: str = "uniform",
    random_step: bool = False,
    attack_batch_norm: str = "eval",
) -> Method:
    """CAT: min over θ of E[CE(z(x̂), y)], x̂ by PGD of i steps for the i-th of k + 1 batch parts.

    The strength k begins at 0 (natural training) and grows to K. Each batch is split into
    k + 1 equal parts, of which part i is attacked with i steps, so that earlier strengths are not
    forgotten (batch mixing); what does not divide goes to the last part. Part 0 stays clean.

    Args:
      strength: k as a number or a schedule, as "0,1@10,2@20"; None: k grows by one when the robust
        accuracy of the hold-out (of training examples, with holdout=0) has not risen for
        `patience` epochs.
      patience: see `strength`.
      start: PGD's start: "uniform" (the authors' code), "gaussian", "sign" or "clean".
      random_step: True draws the step size of part i from (2ε / i) · U(1, 10 / i), as the authors'
        code, for each example where the code draws for each part; False is `step_size` throughout.
      attack_batch_norm: "eval", or "train" as in the authors' code.

    The authors' code measures the accuracy under PGD of the current strength where here it is that
    of `measure_attack`, waits besides for 90 % on the attacked training images, goes back to
    the best weights of a strength before the next, and quantises the validation images; none of
    these is offered.

    Returns:
      The method; `strength` is a scalar of its steps, by the schedule or by the log.

    Raises:
      ValueError: a strength or a patience that is no count, or another choice than those above.

    Example:
      >>> from robustjax import methods
      >>> method = methods.create("cat", patience=2)
      >>> row = {"holdout_robust_accuracy": 0.3}
      >>> method.scalars_at(0.0, []), method.scalars_at(3.0, [row] * 3)  # it stood still twice
      ({'strength': 0.0}, {'strength': 1.0})

    Source: Cai et al. (2018), the curriculum and its batch mixing.
    """
    require_choice("start", start, STARTS)
    require_whole("patience", patience, 1)
    require_choice("random_step", random_step, (True, False))

    def perturb(inner: Inner) -> Perturbation:
        largest = jnp.minimum(inner.scalars["strength"].astype(jnp.int32), inner.steps)
        part = jnp.maximum(inner.batch_size // (largest + 1), 1)
        steps = jnp.minimum(inner.positions // part, largest)
        options: dict[str, Any] = (
            {"step_size": _drawn_step_size(inner, steps)} if random_step else {}
        )
        result = inner.pgd(loss=losses.cross_entropy, start=start, budget=steps, **options)
        attacked = (steps > 0)[:, None, None, None]
        images = jnp.where(attacked, result.images, inner.batch.images)
        return inner.found(result)._replace(images=images)

    def curriculum(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        return {"strength": strength_after(rows, patience)}

    scheduled = (
        {}
        if strength is None
        else {"strength": checked_scalar("strength", strength, 0, whole=True)}
    )
    return Method(
        name="cat",
        perturb=perturb,
        outer=adversarial_outer(),
        scalars=scheduled,
        curriculum=curriculum if strength is None else None,
        attack_batch_norm=attack_batch_norm,
    )


def _drawn_step_size(inner: Inner, steps: jax.Array) -> jax.Array:
    """(2ε / i) · U(1, 10 / i) [B] for examples of i steps [B]; of no use where i is 0."""
    steps = jnp.maximum(steps, 1).astype(jnp.float32)
    share = jax.vmap(jax.random.uniform)(fold_in_each(inner.keys, _STEP_SIZE))
    return 2 * inner.threat.epsilon / steps * (1 + share * (10 / steps - 1))


def strength_after(rows: Sequence[Mapping[str, Any]], patience: int) -> int:
    """How often the robust accuracy has stood still for `patience` epochs.

    Args:
      rows: the log, one row an epoch.
      patience: epochs without a new best before the strength grows and the best is forgotten.
    """
    strength, best, since = 0, -1.0, 0
    for row in rows:
        accuracy = row["holdout_robust_accuracy"]
        accuracy = row["train_robust_accuracy"] if accuracy is None else accuracy
        since = 0 if accuracy > best else since + 1
        best = max(best, accuracy)
        if since >= patience:
            strength, best, since = strength + 1, -1.0, 0
    return strength
