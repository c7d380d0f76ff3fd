"""SENSE-AT (Kim and Wang): PGD that takes back the step by which an example loses confidence c."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from robustjax import losses
from robustjax.arguments import require_choice, require_finite
from robustjax.attacks.pgd import STARTS
from robustjax.attacks.stopping import Decision, Point
from robustjax.epoch_schedule import EpochSchedule, Scalar, checked_scalar
from robustjax.methods.method import Inner, Method, Objective, Outer, Perturbation

SUMMARY = "SENSE-AT (Kim and Wang): CE on images of PGD-K that keeps p_y(x̃) above c"

CITATION = """\
@misc{kim2022robust,
  title     = {Robust Sensible Adversarial Learning of Deep Neural Networks for Image
               Classification},
  author    = {Kim, Jungeum and Wang, Xiao},
  note      = {Purdue University},
  year      = {2022},
}"""


def create(
    *,
    c: Scalar = 0.5,
    full_attack_epochs: float = 0.0,
    start: str = "clean",
    natural_weight: float = 0.0,
    attack_batch_norm: str = "eval",
) -> Method:
    """SENSE-AT: min over θ of E[CE(z(x̃), y)], x̃ by PGD-K with sensible reversion.

    An example that is misclassified at the start is not attacked. The others take steps on the
    cross-entropy until it exceeds −log c, and then return to the point before that step. Under
    norm=linf this is the paper's Algorithm 1, under l2 its Algorithm 2; under l1, where that one
    would step along the gradient, it takes the sparse steps of `attacks.pgd`. An example whose
    loss is −log c or more at the start stays there: by Definition 3 the paper's algorithms, which
    try one step and take it back, mean the same. c = 1 is natural training; c = 0 is standard
    adversarial training of what is classified correctly.

    Args:
      c: the least confidence that x̃ keeps, in [0, 1]; a number or a schedule. The paper recommends
        0.5 to 1.
      full_attack_epochs: warm-up (section 5.3): for so many epochs the examples that are not
        ignored at the start take all K steps. 10 for WRN-34-10, 5 for small networks.
      start: PGD's start: "clean" (Algorithm 1), or "uniform" (the authors' code, which decides at
        that point which examples are ignored, and leaves them their noise), "gaussian", "sign".
      natural_weight: of CE(z(x), y), added to the loss; in the authors' code, 0 there as here.
      attack_batch_norm: "eval" (the authors' code; the paper does not say) or "train".

    The authors' code has step 1.5/255 where the paper has 2/255. Its variant on the KL
    ("SENSE-TRADE"), which the paper does not have, is not offered.

    Returns:
      The method; `c`, and whether the warm-up lasts, are scalars of its steps.

    Raises:
      ValueError: a c outside [0, 1], a negative weight or warm-up, or another start.

    Example:
      >>> from robustjax import methods
      >>> method = methods.create("sense", c=0.7, full_attack_epochs=10)
      >>> method.scalars_at(9.0), method.scalars_at(10.0)
      ({'c': 0.7, 'full_attack': 1.0}, {'c': 0.7, 'full_attack': 0.0})

    Source: Kim and Wang, Definition 3 and Algorithms 1 and 2. The first line of the paper's
      Algorithm 1 calls the clean images X_adv^(0), which are the points that PGD starts from.
    """
    require_choice("start", start, STARTS)
    require_finite("full_attack_epochs", full_attack_epochs, 0)
    require_finite("natural_weight", natural_weight, 0)

    def perturb(inner: Inner) -> Perturbation:
        threshold = -jnp.log(inner.scalars["c"])
        in_warmup = inner.scalars["full_attack"] > 0
        rule = Sensible(threshold, jnp.where(in_warmup, jnp.inf, threshold))
        return inner.found(inner.pgd(loss=losses.cross_entropy, start=start, stop=rule))

    def outer(outer: Outer) -> Objective:
        adversarial_key, natural_key = jax.random.split(outer.key)
        labels = outer.batch.labels
        logits, network = outer.network.train(outer.perturbation.images, adversarial_key)
        loss = losses.cross_entropy(logits, labels)
        if natural_weight:
            natural_logits, network = network.train(outer.batch.images, natural_key)
            loss += natural_weight * losses.cross_entropy(natural_logits, labels)
        return Objective(loss, network.statistics)

    warmup = EpochSchedule((0.0, full_attack_epochs), (1.0, 0.0)) if full_attack_epochs else 0.0
    return Method(
        name="sense",
        perturb=perturb,
        outer=outer,
        scalars={"c": checked_scalar("c", c, 0, 1), "full_attack": warmup},
        attack_batch_norm=attack_batch_norm,
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sensible:
    """The stop rule: sensible reversion, and no attack on what is ignored at the start.

    Attributes:
      start_threshold: an example is ignored if its loss at the start is this or more, or if it is
        misclassified there. Equality matters: at c = 1 the loss of a confident example rounds to
        the threshold, 0.
      threshold: a step that makes the loss exceed this is taken back.
    """

    start_threshold: Any
    threshold: Any
    after_last_step: ClassVar[bool] = True

    def start(self, batch_size: int) -> "Sensible":
        """See `attacks.stopping.StopRule.start`."""
        spread = (jnp.broadcast_to(value, (batch_size,)) for value in dataclasses.astuple(self))
        return Sensible(*spread)

    def check(self, point: Point) -> Decision:
        """See `attacks.stopping.StopRule.check`."""
        ignored = point.misclassified | (point.loss >= self.start_threshold)
        stop = jnp.where(point.taken == 0, ignored, point.loss > self.threshold)
        return Decision(self, stop, revert=stop)
