"""Instance adaptive adversarial training (Balaji et al., 2019): a radius for every example."""

import dataclasses

import jax
import jax.numpy as jnp

from robustjax import losses
from robustjax.arguments import require_choice, require_finite
from robustjax.attacks import AttackResult
from robustjax.attacks.engine.keys import fold_in_each
from robustjax.attacks.engine.rows import misclassified
from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import EpochSchedule, Scalar
from robustjax.methods.method import Inner, Method, Perturbation
from robustjax.methods.standard import adversarial_outer

SUMMARY = "IAAT (Balaji et al., 2019): CE on PGD-K's images, a radius per example that adapts"

CITATION = """\
@article{balaji2019instance,
  title     = {Instance Adaptive Adversarial Training: Improved Accuracy Tradeoffs in Neural Nets},
  author    = {Balaji, Yogesh and Goldstein, Tom and Hoffman, Judy},
  journal   = {arXiv:1910.08051},
  year      = {2019},
}"""


def create(
    *,
    growth: float = 1.9 / 255,
    smoothing: float = 0.1,
    fixed_epsilon_epochs: float = 10.0,
    skip_misclassified: bool = False,
    start: str = "uniform",
    attack_batch_norm: str = "eval",
) -> Method:
    """IAAT: min over θ of E[CE(z(x̂), y)], x̂ by PGD-K in a ball of radius ε_i.

    In each step an example is attacked in the balls of radius ε_i and ε_i + γ. The candidate is
    ε_i + γ if the network withstands the larger, ε_i if only the smaller, ε_i − γ if neither; 0 if
    even the clean image is misclassified. Then ε_i moves towards it: (1 − β) ε_i + β candidate, and
    a third attack in that ball finds x̂. There is no upper limit. The radii live across epochs, and
    in the checkpoints, as shares of ε, so that those of the warm-up follow an ε that rises. Until
    the warm-up is over, ε_i = ε; it should last a whole epoch or more, since the radius of an
    example not yet seen is 0. The step size is 2 ε_i / K, and at least
    step_size, as in the authors' code.

    Args:
      growth: γ, in units of the images.
      smoothing: β, in (0, 1].
      fixed_epsilon_epochs: the warm-up. Infinite, this is standard adversarial training, unless
        step_size is below 2 ε / K.
      skip_misclassified: True gives misclassified examples radius 0 in the warm-up too, as the
        authors' code.
      start: PGD's start: "uniform" (the authors' code), "gaussian", "sign" or "clean".
      attack_batch_norm: "eval", or "train" as in the authors' code, where the call that would
        switch to running statistics is commented out; there the attacks' passes also move them.

    Returns:
      The method; its memory is the radius of each training example over ε, float32.

    Raises:
      ValueError: a growth or warm-up below 0, a smoothing outside [0, 1], or another choice than
        those above.

    Example:
      >>> from robustjax import methods
      >>> method = methods.create("iaat", fixed_epsilon_epochs=5)
      >>> method.scalars_at(4.9), method.scalars_at(5.0)
      ({'fixed_epsilon': 1.0}, {'fixed_epsilon': 0.0})
      >>> print(method.init(3, (8, 8, 1))["share"])
      [0. 0. 0.]

    Source: Balaji et al. (2019) and the authors' code.
    """
    require_choice("start", start, STARTS)
    require_finite("growth", growth, 0)
    require_finite("smoothing", smoothing, 0, 1)
    if fixed_epsilon_epochs != float("inf"):
        require_finite("fixed_epsilon_epochs", fixed_epsilon_epochs, 0)
    require_choice("skip_misclassified", skip_misclassified, (True, False))

    def perturb(inner: Inner) -> Perturbation:
        labels = inner.batch.labels
        is_right = ~misclassified(inner.logits_fn(inner.batch.images), labels)

        def attack(radius: jax.Array, keys: jax.Array) -> AttackResult:
            return inner._replace(keys=keys).pgd(
                loss=losses.cross_entropy,
                start=start,
                threat=dataclasses.replace(inner.threat, epsilon=radius),
                step_size=jnp.maximum(2 * radius / inner.steps_now, inner.step_size),
            )

        epsilon = inner.threat.epsilon
        radius = inner.memory["share"] * epsilon
        small = attack(radius, fold_in_each(inner.keys, 1))
        large = attack(radius + growth, fold_in_each(inner.keys, 2))
        change = jnp.where(large.success, jnp.where(small.success, -growth, 0.0), growth)
        candidate = jnp.where(is_right, jnp.maximum(radius + change, 0), 0)
        adapted = smoothing * candidate + (1 - smoothing) * radius
        whole = jnp.where(is_right, 1.0, 0.0) if skip_misclassified else jnp.ones(radius.shape)
        fixed = whole * epsilon
        in_warmup = inner.scalars["fixed_epsilon"] > 0
        radius = jnp.where(in_warmup, fixed, adapted)
        result = attack(radius, inner.keys)
        probes = jnp.where(in_warmup, 0, small.backward_passes + large.backward_passes)
        share = jnp.where(epsilon > 0, adapted / jnp.where(epsilon > 0, epsilon, 1), whole)
        memory = {"share": jnp.where(in_warmup, whole, share)}
        return Perturbation(result.images, result.backward_passes + probes, memory)

    warmup: Scalar = 1.0 if fixed_epsilon_epochs == float("inf") else 0.0
    if 0 < fixed_epsilon_epochs < float("inf"):
        warmup = EpochSchedule((0.0, fixed_epsilon_epochs), (1.0, 0.0))
    return Method(
        name="iaat",
        perturb=perturb,
        outer=adversarial_outer(),
        init=lambda rows, image_shape: {"share": jnp.zeros(rows)},
        scalars={"fixed_epsilon": warmup},
        attack_batch_norm=attack_batch_norm,
    )
