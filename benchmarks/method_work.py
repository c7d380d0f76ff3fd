"""The training methods that are compared, and how many passes of the network each of them needs.

The unit is one forward pass. A gradient with respect to the images costs one more (the chain of
activation gradients); a gradient with respect to the weights costs two more (that chain, and the
weights' own products). So a step of an attack is 2 units, and an outer pass is 3.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class MethodWork:
    """What one training step of a method consists of.

    Attributes:
      start: of its attack, "uniform" or "gaussian".
      attack_loss: what its attack ascends, "ce", or "kl" to the clean prediction.
      outer_passes: forward passes of the outer loss, each differentiated by the weights.
      stops: whether its attack leaves an example alone once it is misclassified (τ = 0).
    """

    start: str
    attack_loss: str
    outer_passes: int
    stops: bool = False

    @property
    def hoisted_passes(self) -> int:
        """Forward passes that are made once before the attack: the clean prediction of the KL."""
        return 1 if self.attack_loss == "kl" else 0

    def units(self, steps: int) -> float:
        """Forward passes' worth of work in a step whose attack makes all its K steps.

        2K + 3 for standard adversarial training, 2K + 7 for TRADES and FAT-TRADES, whose clean
        logits are one more pass and whose outer loss sees x and x̂, 2K + 6 for MART, which attacks
        the cross-entropy and so needs no clean logits.
        """
        return self.hoisted_passes + 2 * steps + 3 * self.outer_passes

    def needed_units(self, steps: int, steps_taken: list[int]) -> float:
        """Units that a step needs if no work is spent on examples that have stopped.

        An example that stops after t < K steps needs their 2t units, and one forward pass, which
        shows that it is misclassified.

        Args:
          steps: K.
          steps_taken: of each example.
        """
        if not self.stops:
            return self.units(steps)
        attack = sum(2 * taken + (taken < steps) for taken in steps_taken) / len(steps_taken)
        return self.hoisted_passes + attack + 3 * self.outer_passes


METHODS = {
    "standard": MethodWork("uniform", "ce", 1),
    "trades": MethodWork("gaussian", "kl", 2),
    "mart": MethodWork("uniform", "ce", 2),
    "fat_trades": MethodWork("gaussian", "kl", 2, stops=True),
}
