"""Fast adversarial training (Wong et al., 2020): a single step from a random start."""

from robustjax import losses
from robustjax.arguments import require_choice
from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import Scalar, checked_scalar
from robustjax.methods.method import Inner, Method, Perturbation
from robustjax.methods.standard import adversarial_outer

SUMMARY = "Fast AT, FGSM-RS (Wong et al., 2020): CE on images of one step from a random start"

CITATION = """\
@inproceedings{wong2020fast,
  title     = {Fast is Better than Free: Revisiting Adversarial Training},
  author    = {Wong, Eric and Rice, Leslie and Kolter, J. Zico},
  booktitle = {International Conference on Learning Representations},
  year      = {2020},
}"""


def create(
    *, step_ratio: Scalar = 1.25, start: str = "uniform", attack_batch_norm: str = "eval"
) -> Method:
    """Fast AT: min over θ of E[CE(z(x̂), y)], x̂ = Π(x + η + α sign ∇CE), η uniform in the ball.

    One step of size α = step_ratio · ε; steps and step_size play no part.

    Args:
      step_ratio: α / ε; a number or a schedule. 1.25 in the paper; from 2 on the training may
        collapse (catastrophic overfitting).
      start: "uniform" (the paper), "gaussian", "sign", or "clean" for FGSM without a random start.
      attack_batch_norm: "eval", or "train" as in the authors' code, where the attack's pass also
        moves the running statistics.

    The paper's algorithm has no box. As in the authors' code for CIFAR-10, both the start and the
    end are clipped to it here.

    Returns:
      The method; `step_ratio` is a scalar of its steps.

    Raises:
      ValueError: a negative ratio, or another start.

    Example:
      >>> from robustjax import methods
      >>> methods.create("fast", step_ratio="1.25,1@15").scalars_at(20.0)
      {'step_ratio': 1.0}

    Source: Wong et al. (2020), Algorithm 3.
    """
    require_choice("start", start, STARTS)

    def perturb(inner: Inner) -> Perturbation:
        result = inner.pgd(
            loss=losses.cross_entropy,
            start=start,
            steps=1,
            step_size=inner.scalars["step_ratio"] * inner.threat.epsilon,
        )
        return inner.found(result)

    return Method(
        name="fast",
        perturb=perturb,
        outer=adversarial_outer(),
        scalars={"step_ratio": checked_scalar("step_ratio", step_ratio, 0)},
        attack_batch_norm=attack_batch_norm,
        goes_by=(),
    )
