"""Dynamic adversarial training (Wang et al., 2019): PGD up to a convergence that rises by epoch."""

from robustjax import attacks, losses
from robustjax.arguments import require_choice
from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import Scalar, checked_scalar
from robustjax.methods.method import Inner, Method, Perturbation
from robustjax.methods.standard import adversarial_outer

SUMMARY = "Dynamic (Wang et al., 2019): CE on images of PGD-K that stops where FOSC ≤ c_t"

CITATION = """\
@inproceedings{wang2019convergence,
  title     = {On the Convergence and Robustness of Adversarial Training},
  author    = {Wang, Yisen and Ma, Xingjun and Bailey, James and Yi, Jinfeng and Zhou, Bowen and
               Gu, Quanquan},
  booktitle = {International Conference on Machine Learning},
  year      = {2019},
}"""


def create(
    *, fosc: Scalar = "0.5..0@100", start: str = "uniform", attack_batch_norm: str = "eval"
) -> Method:
    """Dynamic: min over θ of E[CE(z(x̂), y)], x̂ by PGD until FOSC(x̂) ≤ c_t.

    FOSC(x̂) = ε ‖∇f(x̂)‖₁ − ⟨x̂ − x, ∇f(x̂)⟩ is 0 where a first-order step can gain nothing. Its bound
    c_t falls with the epoch, so training begins with weak attacks and ends with full ones. The
    first step is unconditional.

    Args:
      fosc: the bound c_t; the default is max(c_max − t · c_max / T′, 0) with c_max = 0.5 and
        T′ = 100. A negative bound is never met: that is standard adversarial training.
      start: PGD's start: "uniform" (the authors' code), "gaussian", "sign" or "clean".
      attack_batch_norm: "eval" (the authors' code attacks in inference mode) or "train".

    The authors' code measures FOSC from the random start instead of the clean image, and from the
    second epoch on weights each example by its adversarial loss; neither is in the paper, and
    neither is offered.

    Returns:
      The method; `fosc` is a scalar of its steps.

    Raises:
      ValueError: a bound that is neither a number nor a schedule, or another start.

    Example:
      >>> from robustjax import methods
      >>> method = methods.create("dynamic")
      >>> [method.scalars_at(epoch)["fosc"] for epoch in (0.0, 50.0, 100.0)]
      [0.5, 0.25, 0.0]

    Source: Wang et al. (2019), eq. 4 and Algorithm 1.
    """
    require_choice("start", start, STARTS)

    def perturb(inner: Inner) -> Perturbation:
        result = inner.pgd(
            loss=losses.cross_entropy,
            start=start,
            stop=attacks.stopping.fosc(inner.scalars["fosc"]),
        )
        return inner.found(result)

    return Method(
        name="dynamic",
        perturb=perturb,
        outer=adversarial_outer(),
        scalars={"fosc": checked_scalar("fosc", fosc)},
        attack_batch_norm=attack_batch_norm,
    )
