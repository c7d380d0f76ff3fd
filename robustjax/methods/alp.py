"""Logit pairing and squeezing (Kannan et al., 2018): ALP, clean logit pairing, logit squeezing."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from robustjax import losses
from robustjax.arguments import require_choice, require_finite
from robustjax.attacks.engine.keys import fold_in_each
from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import Scalar, checked_scalar
from robustjax.methods.method import Inner, Method, Objective, Outer, Perturbation
from robustjax.parallel import AXIS

SUMMARY = "ALP (Kannan et al., 2018): CE(x̂) + λ‖z(x) − z(x̂)‖², x̂ by PGD-K on CE"
SUMMARY_CLEAN = (
    "CLP (Kannan et al., 2018): CE(x) + λ‖z(x) − z(x′)‖² between clean images, no attack"
)
SUMMARY_SQUEEZING = "logit squeezing (Kannan et al., 2018): CE(x) + λ‖z(x)‖², no attack"

CITATION = """\
@article{kannan2018adversarial,
  title     = {Adversarial Logit Pairing},
  author    = {Kannan, Harini and Kurakin, Alexey and Goodfellow, Ian},
  journal   = {arXiv:1803.06373},
  year      = {2018},
}"""


def create(
    *,
    weight: Scalar = 0.5,
    alpha: Scalar = 0.0,
    pairs: str = "logits",
    start: str = "uniform",
    attack_labels: str = "given",
    mean_over_classes: bool = False,
    concatenate: bool = False,
    squeezing: Scalar = 0.0,
    attack_batch_norm: str = "eval",
) -> Method:
    """ALP: min over θ of E[α CE(z(x), y) + (1 − α) CE(z(x̂), y) + λ ‖z(x) − z(x̂)‖²].

    x̂ comes from PGD-K on the cross-entropy. The defaults are those of LRM's comparison (Summers
    and Dinneen, 2019), which trains on adversarial images alone (section 5.2) and sums over the
    classes (eq. 9; eq. 3, of its analysis, has a factor of ½).

    Args:
      weight: λ; a number or a schedule. 0.5 on CIFAR-10, 5 on CIFAR-100 in LRM.
      alpha: α, share of the clean loss; 0.5 in the authors' code, the usual value of eq. 1.
      pairs: "logits", or "probabilities", as MART (Wang et al., 2020) prints this loss in table 1,
        and with alpha 1 what it calls CLP.
      start: PGD's start: "uniform", "gaussian", "sign" or "clean".
      attack_labels: "given", or "predicted" as in the authors' code: the attack leads away from the
        network's own prediction.
      mean_over_classes: True takes the mean of the squares over the classes, as the authors' code.
        LRM's two weights then weigh each square alike: 0.5 / 10 = 5 / 100.
      concatenate: True makes one forward pass of [x; x̂], as the authors' code: both halves are
        normalised by common batch statistics.
      squeezing: β of β (‖z(x)‖² + ‖z(x̂)‖²), which LRM's figure 1 adds; a number or a schedule.
      attack_batch_norm: "eval" (the authors' code) or "train".

    Returns:
      The method; `weight`, `alpha` and `squeezing` are scalars of its steps.

    Raises:
      ValueError: a negative weight or squeezing, an alpha outside [0, 1], or a choice that is none
        of those above.

    Example:
      >>> from robustjax import methods
      >>> methods.create("alp", weight=5.0, alpha=0.5).scalars_at(0.0)
      {'weight': 5.0, 'alpha': 0.5, 'squeezing': 0.0}

    Source: Kannan et al. (2018), section 3; LRM (Summers and Dinneen, 2019), eqs. 2 and 9.
    """
    require_choice("pairs", pairs, ("logits", "probabilities"))
    require_choice("start", start, STARTS)
    require_choice("attack_labels", attack_labels, ("given", "predicted"))
    require_choice("mean_over_classes", mean_over_classes, (True, False))
    require_choice("concatenate", concatenate, (True, False))

    def perturb(inner: Inner) -> Perturbation:
        labels = inner.batch.labels
        if attack_labels == "predicted":
            labels = jnp.argmax(inner.logits_fn(inner.batch.images), -1)
        result = inner.pgd(labels=labels, loss=losses.cross_entropy, start=start)
        return inner.found(result)

    def outer(outer: Outer) -> Objective:
        images = outer.batch.images, outer.perturbation.images
        if concatenate:
            both, network = outer.network.train(jnp.concatenate(images), outer.key)
            clean_logits, logits = jnp.split(both, 2)
        else:
            clean_key, adversarial_key = jax.random.split(outer.key)
            clean_logits, network = outer.network.train(images[0], clean_key)
            logits, network = network.train(images[1], adversarial_key)
        classes = logits.shape[-1] if mean_over_classes else 1
        loss = losses.adversarial_logit_pairing(
            clean_logits,
            logits,
            outer.batch.labels,
            weight=outer.scalars["weight"] / classes,
            alpha=outer.scalars["alpha"],
            pairs=pairs,
        )
        squeezed = losses.logit_squeezing(clean_logits) + losses.logit_squeezing(logits)
        return Objective(loss + outer.scalars["squeezing"] * squeezed, network.statistics)

    return Method(
        name="alp",
        perturb=perturb,
        outer=outer,
        scalars={
            "weight": checked_scalar("weight", weight, 0),
            "alpha": checked_scalar("alpha", alpha, 0, 1),
            "squeezing": checked_scalar("squeezing", squeezing, 0),
        },
        attack_batch_norm=attack_batch_norm,
    )


def create_clean(*, weight: Scalar = 0.5, noise: float = 0.0) -> Method:
    """CLP: min over θ of E[CE(z(x), y) + λ ‖z(x) − z(x′)‖²], x′ another clean image of the batch.

    The batch, which is in random order, is paired at a distance of half its size.

    Args:
      weight: λ; a number or a schedule. LRM gives no value for it; 0.5 is that of ALP.
      noise: standard deviation of normal noise added to the images; Kannan et al. (2018) add 0.5 on
        MNIST.

    Returns:
      The method; `weight` is a scalar of its steps, and it couples the rows of a batch.

    Raises:
      ValueError: a negative weight or noise.

    Example:
      >>> from robustjax import methods
      >>> method = methods.create("clp")
      >>> method.scalars_at(0.0), method.couples_rows
      ({'weight': 0.5}, True)

    Source: Kannan et al. (2018), as described by LRM (Summers and Dinneen, 2019), section 2.
    """

    def pairing(logits: jax.Array) -> jax.Array:
        every = jax.lax.all_gather(logits, AXIS, tiled=True)
        places = jax.lax.axis_index(AXIS) * len(logits) + jnp.arange(len(logits))
        partners = every[(places + len(every) // 2) % len(every)]
        return losses.logit_pairing(logits, partners)

    return _without_attack("clp", weight, noise, pairing, couples_rows=True)


def create_squeezing(*, weight: Scalar = 0.5, noise: float = 0.0) -> Method:
    """Logit squeezing: min over θ of E[CE(z(x), y) + λ ‖z(x)‖²].

    Beside adversarial training it is `lrm` without pairing.

    Args:
      weight: λ; a number or a schedule. LRM gives no value for it; 0.5 is that of ALP.
      noise: standard deviation of normal noise added to the images; Kannan et al. (2018) add 0.5 on
        MNIST.

    Returns:
      The method; `weight` is a scalar of its steps.

    Raises:
      ValueError: a negative weight or noise.

    Example:
      >>> from robustjax import methods
      >>> methods.create("logit_squeezing", weight="0..0.5@10").scalars_at(5.0)
      {'weight': 0.25}

    Source: Kannan et al. (2018), as described by LRM (Summers and Dinneen, 2019), section 2.
    """
    return _without_attack("logit_squeezing", weight, noise, losses.logit_squeezing)


def _without_attack(
    name: str,
    weight: Scalar,
    noise: float,
    regulariser: Callable[[jax.Array], jax.Array],
    *,
    couples_rows: bool = False,
) -> Method:
    require_finite("noise", noise, 0)

    def perturb(inner: Inner) -> Perturbation:
        if not noise:
            return inner.clean()
        images = inner.batch.images
        keys = fold_in_each(inner.keys, 0)
        draws = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys)
        return inner.clean()._replace(images=inner.threat.clip(images + noise * draws))

    def outer(outer: Outer) -> Objective:
        logits, network = outer.network.train(outer.perturbation.images, outer.key)
        loss = losses.cross_entropy(logits, outer.batch.labels)
        return Objective(loss + outer.scalars["weight"] * regulariser(logits), network.statistics)

    scalars = {"weight": checked_scalar("weight", weight, 0)}
    return Method(
        name=name,
        perturb=perturb,
        outer=outer,
        scalars=scalars,
        couples_rows=couples_rows,
        goes_by=(),
    )
