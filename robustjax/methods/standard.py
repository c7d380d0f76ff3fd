"""Standard adversarial training (Madry et al., 2018): cross-entropy on PGD's images.

Also BCE-AT, the same with NAP's and MART's boosted cross-entropy in the outer problem, and the
mixture with the clean loss.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from robustjax import losses, own_code
from robustjax.arguments import require_choice
from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import Scalar, checked_scalar
from robustjax.errors import UserError
from robustjax.methods.method import Inner, Method, Objective, Outer, Perturbation
from robustjax.methods.own_loss import own_outer

SUMMARY = "standard adversarial training (Madry et al., 2018): cross-entropy on PGD-K's images"

CITATION = """\
@inproceedings{madry2018towards,
  title     = {Towards Deep Learning Models Resistant to Adversarial Attacks},
  author    = {Madry, Aleksander and Makelov, Aleksandar and Schmidt, Ludwig and
               Tsipras, Dimitris and Vladu, Adrian},
  booktitle = {International Conference on Learning Representations},
  year      = {2018},
}"""


_LOSSES = {"ce": losses.cross_entropy, "bce": losses.boosted_cross_entropy}


def create(
    *,
    loss: str = "ce",
    alpha: Scalar = 0.0,
    start: str = "uniform",
    attack_labels: str = "soft",
    attack_batch_norm: str = "eval",
) -> Method:
    """Standard adversarial training: min over θ of E[max over x̂ of CE(z(x̂), y)].

    The inner maximum is approached by PGD-K on the cross-entropy from a random start in the ball.

    Args:
      loss: of the outer problem: "ce", or "bce" for BCE-AT (NAP, section 4.4), which attacks the
        cross-entropy and minimises the boosted cross-entropy; or "package.module:loss", a loss of
        one's own, called as `loss(clean_logits, adversarial_logits, labels)`, [B].
      alpha: share of the clean loss in the outer problem, α L(x) + (1 − α) L(x̂) (LRM, eq. 1); a
        number or a schedule. Above 0 the clean images are forwarded first, on their own.
      start: PGD's start: "uniform" (the paper), "gaussian", "sign" or "clean".
      attack_labels: where labels are smoothed or mixed, what the attack ascends the cross-entropy
        of: "soft", the very distribution, or "hard", its largest class.
      attack_batch_norm: "eval", or "train" as in the authors' code, whose attack runs on the
        training-mode graph. The paper does not say.

    Returns:
      The method; with a share of clean loss, `alpha` is a scalar of its steps.

    Raises:
      ValueError: an alpha outside [0, 1], or another loss, start or kind of labels.

    Example:
      >>> from robustjax import methods
      >>> methods.create("standard", alpha="0.5..0@10").scalars_at(5.0)  # half way down
      {'alpha': 0.25}

    Source: Madry et al. (2018), eq. 2.1 and section 2.1 (PGD).
    """
    require_attack(start, attack_labels)

    def perturb(inner: Inner) -> Perturbation:
        return ascend_cross_entropy(inner, start, attack_labels)

    alpha = checked_scalar("alpha", alpha, 0, 1)
    if own_code.is_own(loss):
        if alpha:
            raise UserError(f"alpha={alpha}: loss={loss} is given the clean logits; accepted is 0")
        outer = own_outer(loss)
    else:
        kind = checked_loss(loss)
        outer = mixed_outer(kind) if alpha else adversarial_outer(kind)
    return Method(
        name="standard",
        perturb=perturb,
        outer=outer,
        scalars={"alpha": alpha} if alpha else {},
        attack_batch_norm=attack_batch_norm,
        soft_labels=loss == "ce",
    )


def require_attack(start: str, attack_labels: str) -> None:
    """Refuses what `ascend_cross_entropy` does not know.

    Raises:
      ValueError: names the hyper-parameter, the value and the choices.
    """
    require_choice("start", start, STARTS)
    require_choice("attack_labels", attack_labels, ("soft", "hard"))


def ascend_cross_entropy(inner: Inner, start: str, attack_labels: str) -> Perturbation:
    """PGD-K on the cross-entropy of the labels, or of their largest class ("hard")."""
    labels = inner.batch.labels
    if attack_labels == "hard" and labels.ndim == 2:
        labels = jnp.argmax(labels, -1)
    return inner.found(inner.pgd(labels=labels, loss=losses.cross_entropy, start=start))


def checked_loss(name: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The outer loss by its name, "ce" or "bce"."""
    require_choice("loss", name, tuple(_LOSSES))
    return _LOSSES[name]


def adversarial_outer(
    loss: Callable[[jax.Array, jax.Array], jax.Array] = losses.cross_entropy,
) -> Callable[[Outer], Objective]:
    """The outer problem of every method that minimises a loss of x̂ alone: one forward pass."""

    def outer(outer: Outer) -> Objective:
        logits, network = outer.network.train(outer.perturbation.images, outer.key)
        return Objective(loss(logits, outer.batch.labels), network.statistics)

    return outer


def mixed_outer(
    loss: Callable[[jax.Array, jax.Array], jax.Array] = losses.cross_entropy,
) -> Callable[[Outer], Objective]:
    """α L(x) + (1 − α) L(x̂), α being the scalar "alpha": the clean pass, then the adversarial."""

    def outer(outer: Outer) -> Objective:
        clean_key, adversarial_key = jax.random.split(outer.key)
        labels, alpha = outer.batch.labels, outer.scalars["alpha"]
        clean_logits, network = outer.network.train(outer.batch.images, clean_key)
        logits, network = network.train(outer.perturbation.images, adversarial_key)
        mixed = alpha * loss(clean_logits, labels) + (1 - alpha) * loss(logits, labels)
        return Objective(mixed, network.statistics)

    return outer
