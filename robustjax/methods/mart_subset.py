"""MART's study of misclassified examples (Wang et al., 2020): one subset is treated apart."""

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import losses
from robustjax.arguments import require_choice
from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import Scalar, checked_scalar
from robustjax.errors import UserError
from robustjax.methods.mart import CITATION
from robustjax.methods.method import Inner, Method, Objective, Outer, Perturbation, PyTree
from robustjax.npz import NpzError, NpzFile

__all__ = ["CITATION", "SUMMARY", "TREATMENTS", "create"]

SUMMARY = "standard AT that treats one subset apart (MART's figure 1): clean, FGSM, or CE + β·KL"

TREATMENTS = ("standard", "unperturbed", "fgsm", "regularised")


def create(
    *,
    subset: str | None = None,
    treatment: str = "standard",
    beta: Scalar = 6.0,
    start: str = "uniform",
    attack_batch_norm: str = "eval",
) -> Method:
    """Standard adversarial training, but for the examples of a subset.

    `launch/experiment.py --name=mart_misclassified` chooses the subsets (what a trained network
    misclassifies, and as many that it does not) and makes all runs of the figure.

    Args:
      subset: an .npz file with `chosen`, bool [N], one for each training
        example; None chooses none.
      treatment: of the subset: "unperturbed", its clean images (figure 1a); "fgsm", perturbed by
        FGSM instead of PGD (1b); "regularised", CE(x̂) + β KL(p(x) ‖ p(x̂)) instead of CE(x̂) (1c);
        "standard", as the others.
      beta: weight of the KL, for "regularised"; the paper does not give its value.
      start: PGD's start: "uniform", "gaussian", "sign" or "clean".
      attack_batch_norm: "eval" or "train".

    Returns:
      The method; its memory says of each training example whether it is chosen.

    Raises:
      ValueError: a negative beta, another treatment or start, or, where the memory is made, a file
        that does not hold `chosen` for as many examples as there are.

    Example:
      >>> from robustjax import methods
      >>> method = methods.create("mart_subset", treatment="unperturbed")
      >>> print(method.init(4, (8, 8, 1))["chosen"])  # no file: nothing is treated apart
      [0 0 0 0]

    Source: Wang et al. (2020), section 1 and figure 1.
    """
    require_choice("treatment", treatment, TREATMENTS)
    require_choice("start", start, STARTS)
    if not isinstance(subset, str | None):
        raise UserError(f"subset={subset!r}: accepted is the name of an .npz file")

    def init(rows: int, image_shape: tuple[int, ...]) -> PyTree:
        return {"chosen": jnp.asarray(_read(subset, rows), jnp.int32)}

    def perturb(inner: Inner) -> Perturbation:
        result = inner.pgd(loss=losses.cross_entropy, start=start)
        chosen = inner.memory["chosen"] > 0
        found = inner.found(result, notes=chosen)
        if treatment == "unperturbed":
            return _instead(found, chosen, inner.clean())
        if treatment == "fgsm":
            radius = inner.threat.epsilon
            weak = inner.pgd(loss=losses.cross_entropy, start="clean", steps=1, step_size=radius)
            return _instead(found, chosen, inner.found(weak))
        return found

    def outer(outer: Outer) -> Objective:
        clean_key, adversarial_key = jax.random.split(outer.key)
        labels, network = outer.batch.labels, outer.network
        if treatment == "regularised":
            clean_logits, network = network.train(outer.batch.images, clean_key)
        logits, network = network.train(outer.perturbation.images, adversarial_key)
        loss = losses.cross_entropy(logits, labels)
        if treatment == "regularised":
            weight = outer.scalars["beta"] * outer.perturbation.notes
            loss += weight * losses.kl_divergence(clean_logits, logits)
        return Objective(loss, network.statistics)

    return Method(
        name="mart_subset",
        perturb=perturb,
        outer=outer,
        init=init,
        scalars={"beta": checked_scalar("beta", beta, 0)},
        attack_batch_norm=attack_batch_norm,
    )


def _instead(found: Perturbation, chosen: jax.Array, other: Perturbation) -> Perturbation:
    """The one perturbation, and the other where chosen."""
    images = jnp.where(chosen[:, None, None, None], other.images, found.images)
    passes = jnp.where(chosen, other.backward_passes, found.backward_passes)
    return found._replace(images=images, backward_passes=passes)


def _read(path: str | None, rows: int) -> np.ndarray:
    """Which examples are chosen, bool [rows]."""
    if not path:
        return np.zeros(rows, bool)
    accepted = "accepted is an .npz file with the array 'chosen'"
    try:
        with NpzFile(path) as archive:
            chosen = archive["chosen"]
    except KeyError as error:
        raise UserError(f"subset={path} has no array 'chosen'; {accepted}") from error
    except (OSError, NpzError) as error:
        raise UserError(f"subset={path} cannot be read: {error}; {accepted}") from error
    if chosen.shape != (rows,) or chosen.dtype != bool:
        raise UserError(
            f"subset={path}: chosen is {chosen.dtype} {list(chosen.shape)}; accepted is bool "
            f"[{rows}], one for each training example"
        )
    return chosen
