"""What the attacks of the standard ensemble must spend on an example that withstands them all.

The unit is one forward pass; a gradient with respect to the images costs one more, so that a point
that is looked at with its gradient is 2.
"""

import dataclasses

ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much the attacks may do; AutoAttack's own is the default.

    Attributes:
      steps: of every gradient attack, for each target.
      queries: of Square.
      targets: of the targeted attacks, at most one fewer than there are classes.
    """

    steps: int = 100
    queries: int = 5000
    targets: int = 9

    def units(self, attack: str) -> int:
        """Forward passes' worth of work on one example that withstands the attack.

        * APGD looks with gradients at the start and at all points but the last, where a forward
          pass is enough: 2K + 1. (The authors' code takes a gradient there too.)
        * APGD-T does so for each target.
        * FAB-T takes, in each step towards each target, a gradient where it is and looks, by a
          forward pass, whether the point it goes to is misclassified: 3K. As it looks for the
          boundary from both sides, the next gradient is elsewhere, also on a robust example.
        * Square is one forward pass a query, and one at its start.

        The one look at the clean image, which serves all of them, is left out.
        """
        return {
            "apgd-ce": 2 * self.steps + 1,
            "apgd-t": self.targets * (2 * self.steps + 1),
            "fab-t": self.targets * 3 * self.steps,
            "square": self.queries + 1,
        }[attack]
