"""The optimisers of the papers' official codes, as Optax chains."""

import optax

from robustjax.errors import UserError

NAMES = ("sgd", "adam")


def create_optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """The optimiser, with weight decay coupled to the gradient.

    Weight decay is added to the gradient of every parameter, batch norm's and biases included,
    before the momentum: v ← μ·v + (g + λ·w), w ← w − lr·v (Nesterov: w ← w − lr·(g + λ·w + μ·v)),
    which is what the official code of the five papers computes (that of Madry et al. and of Dynamic
    spares biases and batch norm). The learning rate multiplies the
    buffer from outside, so a drop takes effect at once.

    Args:
      name: "sgd" or "adam" (β₁ 0.9, β₂ 0.999, ε 1e-8; no decay unless asked for).
      schedule: the learning rate as a function of the step.
      momentum: μ, for "sgd"; 0 keeps no buffer.
      nesterov: whether "sgd" looks ahead.
      weight_decay: λ.

    Raises:
      ValueError: an unknown name.
    """
    if name not in NAMES:
        raise UserError(f"optimizer={name!r}: accepted are {', '.join(NAMES)}")
    steps = []
    if weight_decay:
        steps.append(optax.add_decayed_weights(weight_decay))
    if name == "adam":
        steps.append(optax.scale_by_adam())
    elif momentum:
        steps.append(optax.trace(momentum, nesterov=nesterov))
    steps.append(optax.scale_by_learning_rate(schedule))
    return optax.chain(*steps)
