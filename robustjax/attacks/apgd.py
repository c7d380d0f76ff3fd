"""Auto-PGD: projected gradient ascent that chooses its own step size, untargeted and targeted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from robustjax import losses
from robustjax.arguments import checked_count, refusal, require_choice, shown
from robustjax.attacks import _checks as checks
from robustjax.attacks._auto_pgd import ANY_WRONG, CHOSEN, RANKED, AutoPGD, Kept
from robustjax.attacks._nearest_classes import nearest_first
from robustjax.attacks.attack import run_whole
from robustjax.attacks.engine.keys import first_key
from robustjax.attacks.engine.model import gradient_model, one_draw, sampled_gradient_model
from robustjax.attacks.engine.prepared import Prepared
from robustjax.attacks.result import AttackResult
from robustjax.attacks.targets import RankedInputs, lead_of_target, named_targets, ranked_inputs
from robustjax.attacks.threat_model import ThreatModel
from robustjax.errors import UserError
from robustjax.shapes import CleanImages, ImageClasses

LOSSES = {"ce": losses.cross_entropy, "dlr": losses.dlr}


def _targeted_dlr(logits: jax.Array, target: tuple[jax.Array, jax.Array]) -> jax.Array:
    return losses.targeted_dlr(logits, *target)


def _targeted_cross_entropy(logits: jax.Array, target: tuple[jax.Array, jax.Array]) -> jax.Array:
    return -losses.cross_entropy(logits, target[1])


TARGETED_LOSSES = {"dlr": _targeted_dlr, "margin": lead_of_target}
"""Towards each of the runners-up, where any wrong class will do in the end."""

ORDERS = ("likeliest", "nearest")
"""Of the runners-up: by their logits, or by how near they are where the network is linear."""

_CHOSEN_LOSSES = {"ce": _targeted_cross_entropy, "dlr": _targeted_dlr}
"""Towards a class that has to be reached."""


@dataclasses.dataclass(frozen=True)
class APGD:
    """`apgd` as a value; see there for the settings.

    Attributes:
      steps: number of steps of each restart, at least 1.
      loss: "ce" or "dlr".
      restarts: how often the attack is run on what has withstood it.
      targets: None, or which class each example is to reach: "next", "least" (likely) or "random".
      samples: draws of a random network that losses and gradients are means over; 0: it is none.
      multi_epsilon: under "l1", whether the first steps are taken in larger balls; None: they are.
    """

    steps: int = 100
    loss: str = "ce"
    restarts: int = 1
    targets: str | None = None
    samples: int = 0
    multi_epsilon: bool | None = None

    def completed(self, threat: ThreatModel, num_classes: int) -> APGD:
        """With what the norm decides."""
        return _with_balls(self, threat)

    def prepare(
        self,
        key: jax.Array,
        logits_fn: Callable[..., jax.Array],
        images: CleanImages,
        labels: ImageClasses,
        threat: ThreatModel,
        *,
        targets: ImageClasses | None = None,
        first_restart: jax.Array | int = 0,
    ) -> Prepared:
        """Checks the arguments, and looks at the clean images.

        Restarts are counted from `first_restart` on, a whole number or `[B]`: to run one at a time,
        restarts=1 with 0, 1, 2, ...
        """
        require_choice("loss", self.loss, tuple(LOSSES))
        restarts = checked_count("restarts", self.restarts, 1)
        samples = checked_count("samples", self.samples, 0)
        inputs = ranked_inputs(key, logits_fn, images, labels, threat, random=samples > 0)
        inputs = dataclasses.replace(inputs, first=jnp.asarray(first_restart, jnp.int32))
        steps = checked_count("steps", self.steps, 1)
        larger = _in_larger_balls(self.multi_epsilon, inputs.threat)
        if targets is None and self.targets is not None:
            network = one_draw(logits_fn, first_key(inputs.key)) if samples else logits_fn
            targets = named_targets(self.targets, inputs.key, network, inputs.images, inputs.labels)
        if targets is None:
            attack = AutoPGD(steps, samples=samples, multi_epsilon=larger)
            return _prepared(inputs, logits_fn, LOSSES[self.loss], attack, restarts)
        inputs = inputs.towards(checks.checked_targets(targets, len(inputs.images)), samples > 0)
        attack = AutoPGD(steps, samples=samples, aim=CHOSEN, multi_epsilon=larger)
        return _prepared(inputs, logits_fn, _CHOSEN_LOSSES[self.loss], attack, restarts)

    def __call__(
        self,
        key: jax.Array,
        logits_fn: Callable[..., jax.Array],
        images: CleanImages,
        labels: ImageClasses,
        threat: ThreatModel,
        *,
        targets: ImageClasses | None = None,
    ) -> AttackResult:
        """Attacks images; `targets`, which belong to the images, are as for `apgd`."""
        return run_whole(self, key, logits_fn, images, labels, threat, targets=targets)


@dataclasses.dataclass(frozen=True)
class APGDTargeted:
    """`apgd_targeted` as a value; see there for the settings.

    Attributes:
      steps: for each target.
      num_targets: how many classes are tried.
      loss: "dlr" or "margin".
      order: "likeliest" or "nearest" of them first.
      multi_epsilon: as for `APGD`.
    """

    steps: int = 100
    num_targets: int = 9
    loss: str = "dlr"
    order: str = "likeliest"
    multi_epsilon: bool | None = None

    def completed(self, threat: ThreatModel, num_classes: int) -> APGDTargeted:
        """With no more targets than there are, and a loss that is defined for so few classes."""
        return dataclasses.replace(
            _with_balls(self, threat),
            num_targets=min(self.num_targets, num_classes - 1),
            loss=self.loss if num_classes >= 4 else "margin",
        )

    def prepare(
        self,
        key: jax.Array,
        logits_fn: Callable[..., jax.Array],
        images: CleanImages,
        labels: ImageClasses,
        threat: ThreatModel,
        *,
        first_target: jax.Array | int = 0,
        ranked: jax.Array | None = None,
    ) -> Prepared:
        """Checks the arguments, and looks at the clean images.

        Of images that are prepared again and again `ranked`, int32 `[B, K - 1]`, spares finding
        out in which order the wrong classes are targets.
        """
        require_choice("loss", self.loss, tuple(TARGETED_LOSSES))
        num_targets = checked_count("num_targets", self.num_targets, 1)
        require_choice("order", self.order, ORDERS)
        inputs = ranked_inputs(key, logits_fn, images, labels, threat)
        inputs = inputs.aimed(first_target, num_targets)
        if ranked is not None:
            inputs = dataclasses.replace(inputs, ranked=ranked)
        elif self.order == "nearest":
            inputs = dataclasses.replace(inputs, ranked=nearest_first(logits_fn, inputs))
        attack = AutoPGD(
            checked_count("steps", self.steps, 1),
            aim=RANKED,
            multi_epsilon=_in_larger_balls(self.multi_epsilon, inputs.threat),
        )
        return _prepared(inputs, logits_fn, TARGETED_LOSSES[self.loss], attack, num_targets)

    def __call__(
        self,
        key: jax.Array,
        logits_fn: Callable[..., jax.Array],
        images: CleanImages,
        labels: ImageClasses,
        threat: ThreatModel,
        *,
        first_target: jax.Array | int = 0,
    ) -> AttackResult:
        """Attacks images; `first_target` is as for `apgd_targeted`."""
        return run_whole(self, key, logits_fn, images, labels, threat, first_target=first_target)


def apgd(
    key: jax.Array,
    logits_fn: Callable[[jax.Array], jax.Array],
    images: CleanImages,
    labels: ImageClasses,
    threat: ThreatModel,
    *,
    steps: int = 100,
    loss: str = "ce",
    restarts: int = 1,
    targets: ImageClasses | str | None = None,
    samples: int = 0,
    multi_epsilon: bool | None = None,
) -> AttackResult:
    r"""Auto-PGD on the cross-entropy or on the DLR loss.

    A step of size :math:`\eta`, first :math:`2 \epsilon`, with momentum, both projected:

    .. math:: z = \Pi(x_k + \eta \, d(\nabla \ell)), \quad
              x_{k+1} = \Pi(x_k + a (z - x_k) + (1 - a)(x_k - x_{k-1}))

    At checkpoints, whose distances shrink from 22 % to 6 % of the steps, an example that made too
    little progress since the last one returns to its best point and halves its step.

    Under "l1" a step, first of size :math:`\epsilon`, moves the pixels of the largest gradients
    equally far, without momentum, and :math:`\Pi` is the projection on ball and box together. At
    first it is 20 % of the pixels, and after each 4 % of the steps as many, over 1.5, as the best
    point has changed. If that has become sparser (by 5 %), the example returns to it and the step
    is :math:`\epsilon` again; otherwise the step is divided by 1.5, down to :math:`\epsilon / 10`.

    An example is left alone from its first misclassified point on. (The authors' code attacks it
    to the end and returns the last such point; whether there is one is the same.) Images that are
    misclassified before are not attacked. A call costs `steps` gradients and two forward passes per
    restart; the authors' code takes one gradient more.

    Args:
      key: one random key, or `[B]` keys; the start is drawn from it.
      logits_fn: maps images `[B, H, W, C]` to logits `[B, K]`; row i must depend on image i alone.
      images: clean images, floating, `[B, H, W, C]` (any `[B, ...]` works).
      labels: int `[B]` in [0, K).
      threat: the norm ball, of finite epsilon, and the box.
      steps: number of steps of each restart, at least 1.
      loss: "ce", the cross-entropy, or "dlr", the difference of logits ratio (3 classes or more).
      restarts: how often the attack is run on what has withstood it.
      targets: int `[B]`, classes in [0, K): makes the attack a targeted one, whose success is that
        the target is predicted. "ce" then is lowered at the target, and "dlr" is the targeted DLR
        loss (4 classes or more). Images that are predicted as the target before are not attacked.
        By name as for `pgd`.
      samples: 0 for a network without randomness. Otherwise `logits_fn` is called as
        `logits_fn(images, key)`, and losses and gradients are means over this many draws
        (expectation over transformation). One draw decides nothing then: every image is attacked
        with all steps, returned where the mean loss was highest, and judged there by a fresh draw.
      multi_epsilon: under "l1", whether 30 % of the steps are taken in the ball of 3 epsilon, 30 %
        in that of 2 epsilon, and the rest in the ball itself, each from the nearest point to the
        best of the ball before, with as many pixels as that has changed, over 1.5. None: they are.
        Refused under the other norms.

    Returns:
      An `AttackResult`. Images that withstand are returned at the highest loss that was found.

    Raises:
      ValueError: an argument has a shape, dtype or value that is not accepted; the message says
        which.

    Example:
      >>> import jax.numpy as jnp
      >>> from robustjax.attacks import ThreatModel
      >>> images, labels = jnp.full((1, 1, 2, 1), 0.55), jnp.array([0])
      >>> threat = ThreatModel("linf", epsilon=0.1)
      >>> network = lambda x: (x.reshape(len(x), -1) - 0.5) @ jnp.array([[1.0, -1.0], [0.0, 0.0]])
      >>> result = apgd(jax.random.key(0), network, images, labels, threat, steps=10)
      >>> print(result.success)
      [ True]

    Source: Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
      Parameter-free Attacks (Croce & Hein, 2020), Algorithm 1 and section 4. As in the authors'
      code, the start lies on the sphere of the norm (the paper leaves it open), and the count of
      increases up to the first checkpoint compares the first loss after the start with zero. Under
      "l1": Mind the Box: l1-APGD for Sparse Adversarial Attacks on Image Classifiers (Croce & Hein,
      2021) and the authors' code, as whose the start is normal noise that is projected. There
      larger balls are a choice that only AutoAttack makes.
    """
    by_name, classes = (targets, None) if isinstance(targets, str) else (None, targets)
    return APGD(steps, loss, restarts, by_name, samples, multi_epsilon)(
        key, logits_fn, images, labels, threat, targets=classes
    )


def apgd_targeted(
    key: jax.Array,
    logits_fn: Callable[[jax.Array], jax.Array],
    images: CleanImages,
    labels: ImageClasses,
    threat: ThreatModel,
    *,
    steps: int = 100,
    num_targets: int = 9,
    first_target: jax.Array | int = 0,
    loss: str = "dlr",
    order: str = "likeliest",
    multi_epsilon: bool | None = None,
) -> AttackResult:
    """Auto-PGD on the targeted DLR loss, towards one wrong class after the other.

    The targets are the classes of the 2nd, 3rd, ... largest clean logit, or with `order="nearest"`
    (MALT) those whose boundary would be nearest if the network were linear around the image. What
    one target has broken is left alone by those that follow.

    Args:
      key: as for `apgd`.
      logits_fn: as for `apgd`; at least 4 classes.
      images: as for `apgd`.
      labels: as for `apgd`.
      threat: as for `apgd`.
      steps: for each target.
      num_targets: how many classes are tried, at most the number of wrong ones.
      first_target: how many runners-up are passed over, or `[B]`, of each example; may be traced.
        To attack one target at a time: `num_targets=1` with 0, 1, 2, ... gives what one call with
        all of them gives.
      loss: "dlr", the targeted DLR loss, for 4 classes or more; or "margin", the difference between
        the target's logit and the label's, which needs 2 and is not the authors'.
      order: "likeliest", as in AutoAttack, or "nearest" of the 100 likeliest first, which costs a
        gradient for each of them beforehand. With as many targets as there are wrong classes it
        decides how soon an image falls, and hardly whether.
      multi_epsilon: as for `apgd`.

    Returns:
      As for `apgd`; `backward_passes` counts those of the attack alone.

    Raises:
      ValueError: there are fewer classes than the targets or the loss need, or as for `apgd`.

    Example:
      >>> import jax.numpy as jnp
      >>> from robustjax.attacks import ThreatModel
      >>> images, labels = jnp.full((1, 1, 2, 1), 0.55), jnp.array([0])
      >>> threat = ThreatModel("linf", epsilon=0.1)
      >>> network = lambda x: (x.reshape(len(x), -1) - 0.5) @ jnp.array([[1.0, -1.0], [0.0, 0.0]])
      >>> result = apgd_targeted(
      ...     jax.random.key(0), network, images, labels, threat, num_targets=1, loss="margin"
      ... )
      >>> print(result.success)
      [ True]

    Source: as for `apgd`, section 4.2 and the targeted DLR loss of the authors' code; the order
      "nearest" is that of MALT Powers Up Adversarial Attacks (Melamed et al., 2024).
    """
    return APGDTargeted(steps, num_targets, loss, order, multi_epsilon)(
        key, logits_fn, images, labels, threat, first_target=first_target
    )


def _prepared(
    inputs: RankedInputs,
    logits_fn: Callable[..., jax.Array],
    loss: Callable[[jax.Array, Any], jax.Array],
    attack: AutoPGD,
    runs: int,
) -> Prepared:
    if not checks.has_finite_epsilon(inputs.threat):
        raise refusal("threat.epsilon", shown(inputs.threat.epsilon), "finite numbers")
    examples: tuple[Any, ...]
    target = inputs.labels if attack.aim == ANY_WRONG else (inputs.labels, inputs.labels)
    if attack.samples:
        model = sampled_gradient_model(loss, logits_fn, inputs.labels, attack.samples)
        examples = (inputs.images, target, jax.random.key(0))
    else:
        model = gradient_model(loss, logits_fn, inputs.labels, inputs.chosen)
        examples = (inputs.images, target)
    turns = attack.turns(inputs.threat.norm)
    return Prepared(attack, model, examples, inputs, turns, runs, _outcome)


def _in_larger_balls(multi_epsilon: bool | None, threat: ThreatModel) -> bool:
    """Whether the first steps are taken in larger balls, which only "l1" has."""
    if threat.norm != "l1":
        if multi_epsilon:
            raise UserError(
                f"multi_epsilon=true under the norm {threat.norm}: accepted under l1 alone, where "
                "larger balls come first"
            )
        return False
    return multi_epsilon is None or bool(multi_epsilon)


def _with_balls(attack: Any, threat: ThreatModel) -> Any:
    """An attack that says whether larger balls come first, where the norm has such."""
    if threat.norm != "l1" or attack.multi_epsilon is not None:
        return attack
    return dataclasses.replace(attack, multi_epsilon=True)


def _outcome(kept: Kept) -> AttackResult:
    return AttackResult(kept.images, kept.success, kept.backward_passes)
