"""A loss that a user brings as the outer problem of standard adversarial training."""

from collections.abc import Callable

import jax

from robustjax import own_code
from robustjax.arguments import refusal, shown
from robustjax.methods.method import Objective, Outer


def own_outer(name: str) -> Callable[[Outer], Objective]:
    """The outer problem that minimises a loss of the user's.

    The clean images are forwarded first, on their own, then the adversarial ones.

    Args:
      name: `package.module:loss`, called as `loss(clean_logits, adversarial_logits, labels)` with
        logits [B, K] and labels int32 [B]; gives one number per example, [B].

    Raises:
      ValueError: there is no such code; and when the step is traced, it gives something else.
    """
    loss = own_code.load("loss", name)

    def outer(outer: Outer) -> Objective:
        clean_key, adversarial_key = jax.random.split(outer.key)
        clean_logits, network = outer.network.train(outer.batch.images, clean_key)
        logits, network = network.train(outer.perturbation.images, adversarial_key)
        found = loss(clean_logits, logits, outer.batch.labels)
        if getattr(found, "shape", None) != logits.shape[:1]:
            accepted = f"one number per example, [{len(logits)}]"
            came = shown(found) if not hasattr(found, "shape") else f"an array {list(found.shape)}"
            raise refusal(f"loss={name}: what it gives", came, accepted)
        return Objective(found, network.statistics)

    return outer
