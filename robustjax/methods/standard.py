"""Standard adversarial training (Madry et al., 2018): cross-entropy on PGD's images."""

from robustjax import losses
from robustjax.methods.method import (
    Inner,
    Method,
    Objective,
    Outer,
    Perturbation,
    require_start,
)

SUMMARY = "standard adversarial training (Madry et al., 2018): cross-entropy on PGD-K's images"

CITATION = """\
@inproceedings{madry2018towards,
  title     = {Towards Deep Learning Models Resistant to Adversarial Attacks},
  author    = {Madry, Aleksander and Makelov, Aleksandar and Schmidt, Ludwig and
               Tsipras, Dimitris and Vladu, Adrian},
  booktitle = {International Conference on Learning Representations},
  year      = {2018},
}"""


def create(*, start: str = "uniform", attack_batch_norm: str = "eval") -> Method:
    """Standard adversarial training: min over θ of E[max over x̂ of CE(z(x̂), y)].

    The inner maximum is approached by PGD-K on the cross-entropy from a random start in the ball.

    Args:
      start: PGD's start: "uniform" (the paper), "gaussian", "sign" or "clean".
      attack_batch_norm: "eval", or "train" as in the authors' code, whose attack runs on the
        training-mode graph. The paper does not say.

    Source: Madry et al. (2018), eq. 2.1 and section 2.1 (PGD).
    """
    require_start(start)

    def perturb(inner: Inner) -> Perturbation:
        logits_fn = inner.network.logits_fn(attack_batch_norm)
        return inner.found(inner.pgd(logits_fn, loss=losses.cross_entropy, start=start))

    return Method(
        name="standard", perturb=perturb, outer=_outer, attack_batch_norm=attack_batch_norm
    )


def _outer(outer: Outer) -> Objective:
    logits, network = outer.network.train(outer.perturbation.images, outer.key)
    return Objective(losses.cross_entropy(logits, outer.batch.labels), network.statistics)
