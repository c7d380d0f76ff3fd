"""UAT++ (Uesato et al., 2019): adversarial training with examples that have no label."""

import jax

from robustjax import losses
from robustjax.epoch_schedule import Scalar
from robustjax.methods.checks import checked_scalar, require_start
from robustjax.methods.labels import labelled_cross_entropy, or_predicted
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
    *, beta: Scalar = 5.0, start: str = "uniform", attack_batch_norm: str = "eval"
) -> Method:
    """UAT++: min over θ of E[CE(z(x̂), y) + β · KL(p(x) ‖ p(x̂))], y a label or a pseudo-label.

    The form in which MART quotes it (Wang et al., 2020, table 1): one x̂, found by PGD-K on the
    cross-entropy, serves both terms. With β = 0 it is UAT-FT (fixed targets). An example without a
    label takes part in the KL alone, as in UAT-OT (online targets); its x̂ ascends the cross-entropy
    of the class that the network predicts. The outer problem forwards the clean images first.

    Args:
      beta: weight of the KL, the paper's λ; a number or a schedule.
      start: PGD's start: "uniform", "gaussian", "sign" or "clean".
      attack_batch_norm: "eval" or "train"; the paper does not say, and its training code is not
        published.

    Source: Uesato et al. (2019); MART (Wang et al., 2020), table 1.
    """
    require_start(start)

    def perturb(inner: Inner) -> Perturbation:
        logits_fn = inner.network.logits_fn(attack_batch_norm)
        labels = or_predicted(inner.batch.labels, logits_fn(inner.batch.images))
        result = inner.pgd(logits_fn, labels=labels, loss=losses.cross_entropy, start=start)
        return inner.found(result)

    def outer(outer: Outer) -> Objective:
        clean_key, adversarial_key = jax.random.split(outer.key)
        clean_logits, network = outer.network.train(outer.batch.images, clean_key)
        logits, network = network.train(outer.perturbation.images, adversarial_key)
        loss = labelled_cross_entropy(logits, outer.batch.labels)
        divergence = losses.kl_divergence(clean_logits, logits)
        return Objective(loss + outer.scalars["beta"] * divergence, network.statistics)

    return Method(
        name="uat",
        perturb=perturb,
        outer=outer,
        scalars={"beta": checked_scalar("beta", beta, 0)},
        attack_batch_norm=attack_batch_norm,
        unlabelled=True,
    )
