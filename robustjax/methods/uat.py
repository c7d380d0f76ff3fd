"""UAT++ (Uesato et al., 2019): adversarial training with examples that have no label."""

import jax

from robustjax import losses
from robustjax.arguments import require_choice
from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import Scalar, checked_scalar
from robustjax.methods.labels import is_labelled, labelled_cross_entropy, or_predicted
from robustjax.methods.method import Inner, Method, Objective, Outer, Perturbation

SUMMARY = "UAT++ (Uesato et al., 2019): CE(x̂) + β·KL(p(x)‖p(x̂)) on labelled and extra images"

CITATION = """\
@inproceedings{uesato2019are,
  title     = {Are Labels Required for Improving Adversarial Robustness?},
  author    = {Uesato, Jonathan and Alayrac, Jean-Baptiste and Huang, Po-Sen and
               Stanforth, Robert and Fawzi, Alhussein and Kohli, Pushmeet},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2019},
}"""


def create(
    *,
    beta: Scalar = 5.0,
    variant: str = "both",
    start: str = "uniform",
    attack_batch_norm: str = "eval",
) -> Method:
    """UAT++: min over θ of E[CE(z(x̂), y) + β · KL(p(x) ‖ p(x̂))], y a label or a pseudo-label.

    The form in which MART quotes it (Wang et al., 2020, section 3.3): one x̂, found by PGD-K on the
    cross-entropy, serves both terms. An example without a label takes part in the KL alone; its x̂
    ascends the cross-entropy of the class that the network predicts. The outer problem forwards the
    clean images first.

    Args:
      beta: weight of the KL, the paper's λ; a number or a schedule.
      variant: "both" (UAT++); "fixed" (UAT-FT, fixed targets), the cross-entropy alone, for which
        every example needs a label or a pseudo-label; or "online" (UAT-OT, online targets), the
        cross-entropy of the labelled examples and the KL of those without a label (`extra_data`
        of images alone).
      start: PGD's start: "uniform", "gaussian", "sign" or "clean".
      attack_batch_norm: "eval" or "train"; the paper does not say, and its training code is not
        published.

    Returns:
      The method; `beta` is a scalar of its steps, and examples may lack a label.

    Raises:
      ValueError: a negative beta, or another variant or start.

    Example:
      >>> from robustjax import methods
      >>> [methods.create("uat", variant=v).unlabelled for v in ("both", "fixed", "online")]
      [True, False, True]

    Source: Uesato et al. (2019); MART (Wang et al., 2020), section 3.3.
    """
    require_choice("start", start, STARTS)
    require_choice("variant", variant, ("both", "fixed", "online"))

    def perturb(inner: Inner) -> Perturbation:
        labels = or_predicted(inner.batch.labels, inner.logits_fn(inner.batch.images))
        result = inner.pgd(labels=labels, loss=losses.cross_entropy, start=start)
        return inner.found(result)

    def outer(outer: Outer) -> Objective:
        clean_key, adversarial_key = jax.random.split(outer.key)
        labels, beta, network = outer.batch.labels, outer.scalars["beta"], outer.network
        if variant != "fixed":
            clean_logits, network = network.train(outer.batch.images, clean_key)
        logits, network = network.train(outer.perturbation.images, adversarial_key)
        loss = labelled_cross_entropy(logits, labels)
        if variant != "fixed":
            weight = beta * ~is_labelled(labels) if variant == "online" else beta
            loss += weight * losses.kl_divergence(clean_logits, logits)
        return Objective(loss, network.statistics)

    return Method(
        name="uat",
        perturb=perturb,
        outer=outer,
        scalars={"beta": checked_scalar("beta", beta, 0)},
        attack_batch_norm=attack_batch_norm,
        unlabelled=variant != "fixed",
    )
