"""Robust self-training (Carmon et al., 2019): TRADES on labelled and pseudo-labelled images."""

from robustjax.arguments import require_choice
from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import Scalar, checked_scalar
from robustjax.methods.method import Inner, Method, Perturbation
from robustjax.methods.trades import ascend_divergence, divergence_outer

SUMMARY = "RST (Carmon et al., 2019): TRADES on labelled and pseudo-labelled images"

CITATION = """\
@inproceedings{carmon2019unlabeled,
  title     = {Unlabeled Data Improves Adversarial Robustness},
  author    = {Carmon, Yair and Raghunathan, Aditi and Schmidt, Ludwig and Duchi, John C. and
               Liang, Percy S.},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2019},
}"""


def create(
    *, beta: Scalar = 6.0, start: str = "gaussian", attack_batch_norm: str = "eval"
) -> Method:
    """RST: min over θ of E[CE(z(x), y) + β · KL(p(x) ‖ p(x̂))] over labels and pseudo-labels.

    TRADES, but for the order of the outer forward passes: the adversarial images first, then the
    clean ones, as in the authors' code, which matters to the running batch-norm statistics. The
    pseudo-labels are those of a network trained naturally on the labelled images
    (`launch/pseudo_label.py`); an example without any takes part in the KL alone.

    Args:
      beta: weight of the KL; a number or a schedule.
      start: PGD's start: "gaussian" (TRADES and the authors' code), "uniform", "sign" or "clean".
      attack_batch_norm: "eval" (the authors' code) or "train".

    Returns:
      The method; `beta` is a scalar of its steps, and examples may lack a label.

    Raises:
      ValueError: a negative beta, or another start.

    Example:
      >>> from robustjax import methods
      >>> method = methods.create("rst", beta=6)
      >>> method.scalars_at(0.0), method.unlabelled
      ({'beta': 6.0}, True)

    Source: Carmon et al. (2019) and the authors' code.
    """
    require_choice("start", start, STARTS)

    def perturb(inner: Inner) -> Perturbation:
        return inner.found(ascend_divergence(inner, start=start))

    return Method(
        name="rst",
        perturb=perturb,
        outer=divergence_outer(("adversarial", "clean")),
        scalars={"beta": checked_scalar("beta", beta, 0)},
        attack_batch_norm=attack_batch_norm,
        unlabelled=True,
    )
